"""State dicts, live or from a file: the weights that are found in them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ..errors import SourceError, UnsafeFileError
from ..spec.source import Source, SourceTensor
from .live_tensor import is_live_array, is_number, is_torch_module, live_tensor, live_tensors
from .module import read_module
from .named_source import check_name, listed_names, named_source
from .pickle_values import NumpyArray, PickledTensor, Placeholder, UnreadableTensor
from .pth import Checkpoint, check_is_mapping, whole_object_error
from .wrappers import Unwrapped, choice_note, is_well_known, unwrap


def read_state_dict(mapping: Mapping[Any, Any], wrapper: str | None = None) -> Source:
    """Read a live mapping of names to tensors, possibly wrapped. A module in it is read as one."""
    found = unwrap(mapping, wrapper, _count_live, "state dict")
    if is_torch_module(found.weights):
        source = read_module(found.weights)
        return replace(source, wrapper=found.wrapper, wrappers=tuple(found.wrappers),
                       notes=(choice_note(found.wrapper, found.wrappers), *source.notes))
    tensors, others = live_tensors(found.weights, "state dict")
    # Numbers alone may be weights, but beside other things they are an epoch or a learning rate.
    if not tensors or (others and not _count_live(found.weights)):
        raise _no_tensors("state dict", mapping)
    return named_source(tensors, origin="state dict", others=others, unwrapped=found)


def read_checkpoint(checkpoint: Checkpoint, wrapper: str | None = None) -> Source:
    """Read the weights of a PyTorch file. Errors as in `stored_tensors`."""
    tensors, others, found = stored_tensors(checkpoint, wrapper)
    path = checkpoint.file.path
    source = named_source(tensors, origin=str(path), others=others, unwrapped=found,
                          folder=path.parent)
    return replace(source, placeholders=checkpoint.foreign)


def stored_tensors(checkpoint: Checkpoint,
                   wrapper: str | None) -> tuple[list[SourceTensor], list[str], Unwrapped]:
    """Return the tensors of a PyTorch file under their full names, the names of what stands beside
    them, and where they were found.

    Raises SourceError, or UnsafeFileError when a weight cannot be rebuilt without foreign code.
    """
    path = checkpoint.file.path
    mapping = check_is_mapping(checkpoint)
    if wrapper is not None and _is_whole_object(mapping.get(wrapper), checkpoint):
        raise whole_object_error(path, mapping[wrapper])
    found = unwrap(mapping, wrapper, _count_stored, str(path))
    if wrapper is None and not is_well_known(found.wrapper):
        _check_no_whole_module(mapping, _count_stored(found.weights) > 0, checkpoint)
    tensors, others = [], []
    for key, value in found.weights.items():
        # A name that Python 2 wrote with letters beyond ASCII comes as bytes.
        name = key.decode("utf-8", "replace") if isinstance(key, bytes) else key
        check_name(name, str(path))
        tensor = _stored_tensor(name, value, checkpoint)
        if tensor is None:
            others.append(name)
        else:
            tensors.append(tensor)
    if not _count_stored(found.weights):
        raise _no_tensors(str(path), mapping)
    return tensors, others, found


def _no_tensors(where: str, mapping: Mapping[Any, Any]) -> SourceError:
    names = [key if isinstance(key, str) else type(key).__name__ for key in mapping]
    held = f"only {listed_names(names)}" if names else "it is empty"
    return SourceError(f"{where} holds no tensors ({held}): give what model.state_dict() returned, "
                       "or the file that it was saved to")


def _count_live(value: Any) -> int:
    if is_torch_module(value):
        return len(value.state_dict())
    return sum(map(is_live_array, value.values())) if isinstance(value, Mapping) else 0


def _count_stored(value: Any) -> int:
    return sum(map(_is_stored_tensor, value.values())) if isinstance(value, dict) else 0


def _is_stored_tensor(value: Any) -> bool:
    is_array = isinstance(value, NumpyArray) and not value.scalar
    return is_array or isinstance(value, (PickledTensor, UnreadableTensor))


def _stored_tensor(name: str, value: Any, checkpoint: Checkpoint) -> SourceTensor | None:
    """Return one tensor of a file, None when the value is none.

    Raises UnsafeFileError when only foreign code could rebuild it.
    """
    if isinstance(value, PickledTensor):
        return checkpoint.stored(value).source_tensor(name)
    where = f"{checkpoint.file.path}: tensor {name!r}"
    if isinstance(value, NumpyArray):
        return live_tensor(name, value.array(where), str(checkpoint.file.path))
    if isinstance(value, UnreadableTensor):
        raise SourceError(f"{where} {value.reason}")
    if isinstance(value, Placeholder) and (value.called or checkpoint.holds_tensors(value)):
        raise UnsafeFileError(
            f"{where} is built by {value.name}, which is not among the names that rebuild "
            "tensors: refused, and nothing was run; load the file with PyTorch where that code is "
            "installed, and save the plain state_dict()")
    return live_tensor(name, value, str(checkpoint.file.path)) if is_number(value) else None


def _is_whole_object(value: Any, checkpoint: Checkpoint) -> bool:
    return (isinstance(value, Placeholder) and not value.called and checkpoint.holds_tensors(value))


def _check_no_whole_module(mapping: Mapping[Any, Any], other_weights: bool,
                           checkpoint: Checkpoint) -> None:
    """Raise SourceError when a pickled module stands where the weights should.

    That is when it is the only thing there, or stands under a known wrapper.
    """
    for key, value in mapping.items():
        if (not other_weights or is_well_known(key)) and _is_whole_object(value, checkpoint):
            raise whole_object_error(checkpoint.file.path, value)
