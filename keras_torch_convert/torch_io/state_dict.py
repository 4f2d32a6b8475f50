"""State dicts, live or from a file: the weights found in them, their names, and the order they are
in.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from ..errors import SourceError, UnsafeFileError
from ..spec.layer_order import is_sorted, is_telltale, natural_order
from ..spec.source import Source, SourceTensor
from ..util.text import join_names, shorten
from .live_tensor import is_live_array, is_number, is_torch_module, live_tensor
from .pickle_values import NumpyArray, PickledTensor, Placeholder, UnreadableTensor, holds_tensors
from .pth import Checkpoint, check_is_mapping, whole_object_error
from .wrappers import Unwrapped, common_prefix, is_well_known, unwrap

_MOST_NAMES = 8
_LONGEST_NAME = 60


def read_state_dict(mapping: Mapping[Any, Any], wrapper: str | None = None) -> Source:
    """A live mapping of names to tensors, possibly wrapped. A module under a wrapper is read as a
    module.
    """
    found = unwrap(mapping, wrapper, _is_live_weights, "state dict")
    if is_torch_module(found.weights):
        # module.py builds on this file.
        from .module import read_module

        source = read_module(found.weights)
        return replace(source, wrapper=found.wrapper, wrappers=found.wrappers,
                       notes=(*found.notes, *source.notes))
    tensors, others = [], []
    for name, value in found.weights.items():
        check_name(name, "state dict")
        tensor = live_tensor(name, value, "state dict")
        if tensor is None:
            others.append(name)
        else:
            tensors.append(tensor)
    # Numbers alone may be weights, but beside other things they are an epoch or a learning rate.
    if not tensors or (others and not _is_live_weights(found.weights)):
        raise SourceError(f"state dict: no tensors in it ({_describe_content(mapping)})")
    return named_source(tensors, origin="state dict", others=others, unwrapped=found)


def read_checkpoint(checkpoint: Checkpoint, wrapper: str | None = None) -> Source:
    """The weights of a PyTorch file. SourceError or UnsafeFileError when a weight cannot be rebuilt
    without foreign code.
    """
    path = checkpoint.file.path
    mapping = check_is_mapping(checkpoint)
    if wrapper is not None and _is_whole_object(mapping.get(wrapper)):
        raise whole_object_error(path, mapping[wrapper])
    found = unwrap(mapping, wrapper, _is_stored_weights, str(path))
    if wrapper is None and not is_well_known(found.wrapper):
        _check_no_whole_module(mapping, _is_stored_weights(found.weights), str(path))
    tensors, others = [], []
    for key, value in found.weights.items():
        name = _text(key)
        check_name(name, str(path))
        tensor = _stored_tensor(name, value, checkpoint)
        if tensor is None:
            others.append(name)
        else:
            tensors.append(tensor)
    if not _is_stored_weights(found.weights):
        raise SourceError(f"{path}: no tensors in it ({_describe_content(mapping)})")
    source = named_source(tensors, origin=str(path), others=others, unwrapped=found)
    return replace(source, path=path, placeholders=checkpoint.foreign)


def named_source(tensors: Sequence[SourceTensor], *, origin: str, others: Sequence[str] = (),
                 unwrapped: Unwrapped | None = None, registered: bool = False,
                 sorted_format: bool = False, module: Any = None) -> Source:
    """A Source of these tensors: the common prefix cut off, layers put in natural order when theirs
    was lost.

    `registered` says that the order is a module's own, `sorted_format` that the format sorts by
    name; with neither the names themselves must tell. `others` are the names of what is no tensor,
    for a note.
    """
    prefix = common_prefix([tensor.name for tensor in tensors])
    if prefix:
        tensors = [replace(tensor, name=tensor.name[len(prefix):]) for tensor in tensors]
    named = {tensor.name: tensor for tensor in tensors}
    if len(named) != len(tensors):
        raise SourceError(f"{origin}: {len(tensors) - len(named)} names are there twice")
    notes = list(unwrapped.notes) if unwrapped else []
    if prefix:
        notes.append(f"prefix {prefix!r} cut from all names")
    if others:
        notes.append(f"{len(others)} entries are no tensors and were left out: {_shown(others)}")
    names = list(named)
    lost = not registered and is_sorted(tensors) and len(names) > 1 and (sorted_format
                                                                         or is_telltale(names))
    if lost:
        named = {name: named[name] for name in natural_order(names)}
        notes.append(
            "names are sorted, so the order of the layers was lost; layers are in natural order "
            "of their names")
    return Source(named, origin, order="sorted by name" if lost else "registered",
                  wrapper=unwrapped.wrapper if unwrapped else None,
                  wrappers=unwrapped.wrappers if unwrapped else (), prefix=prefix, module=module,
                  notes=tuple(notes))


def check_name(name: Any, where: str) -> None:
    """SourceError unless the name of a tensor is a non-empty text."""
    if not isinstance(name, str) or not name:
        shown = name if isinstance(name, (str, int, float, tuple)) else type(name).__name__
        raise SourceError(
            f"{where}: expected names as keys, got {str(shown)[:60]!r}; pass the state dict itself")


def _is_live_weights(value: Any) -> bool:
    return is_torch_module(value) or (isinstance(value, Mapping)
                                      and any(is_live_array(item) for item in value.values()))


def _is_stored_weights(value: Any) -> bool:
    return isinstance(value, dict) and any(
        isinstance(item, (PickledTensor,
                          UnreadableTensor)) or (isinstance(item, NumpyArray) and not item.scalar)
        for item in value.values())


def _stored_tensor(name: str, value: Any, checkpoint: Checkpoint) -> SourceTensor | None:
    """One tensor of a file, None when the value is none. UnsafeFileError when only foreign code
    could rebuild it.
    """
    if isinstance(value, PickledTensor):
        return checkpoint.stored(value).source_tensor(name)
    where = f"{checkpoint.file.path}: tensor {name!r}"
    if isinstance(value, NumpyArray):
        return live_tensor(name, value.array(where), str(checkpoint.file.path))
    if isinstance(value, UnreadableTensor):
        raise SourceError(f"{where} {value.reason}")
    if isinstance(value, Placeholder) and (value.called or holds_tensors(value)):
        raise UnsafeFileError(
            f"{where} is built by {value.name}, which is not among the names that rebuild "
            "tensors: refused, and nothing was "
            "run; load the file with PyTorch where that code is installed, and save the plain "
            "state_dict()")
    return live_tensor(name, value, str(checkpoint.file.path)) if is_number(value) else None


def _is_whole_object(value: Any) -> bool:
    return isinstance(value, Placeholder) and not value.called and holds_tensors(value)


def _check_no_whole_module(mapping: Mapping[Any, Any], other_weights: bool, where: str) -> None:
    """SourceError when a pickled module stands where the weights should: the only thing there, or
    under a known wrapper.
    """
    for key, value in mapping.items():
        if (not other_weights or is_well_known(key)) and _is_whole_object(value):
            raise whole_object_error(where, value)


def _text(key: Any) -> Any:
    """A name that Python 2 wrote with letters beyond ASCII comes as bytes."""
    return key.decode("utf-8", "replace") if isinstance(key, bytes) else key


def _describe_content(mapping: Mapping[Any, Any]) -> str:
    return _shown(mapping) if mapping else "it is empty"


def _shown(names: Iterable[Any]) -> str:
    return join_names((shorten(str(name), _LONGEST_NAME) for name in names), _MOST_NAMES)
