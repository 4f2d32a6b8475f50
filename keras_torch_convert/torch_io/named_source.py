"""Tensors under their names as a Source: the common prefix cut off, the order of layers found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from ..errors import SourceError
from ..spec.layer_order import is_sorted, is_telltale, natural_order
from ..spec.source import Source, SourceTensor
from ..util.text import join_names, plural, shorten
from .foreign import foreign_tensors
from .mapped_file import FilePath
from .networks import choose_network, is_bookkeeping
from .pickle_values import short
from .quantized import decoded
from .wrappers import Unwrapped, choice_note, plain_names

_NAME_WIDTH = 60


def named_source(tensors: Sequence[SourceTensor], *, origin: str, others: Sequence[str] = (),
                 unwrapped: Unwrapped | None = None, sorted_format: bool = False,
                 folder: FilePath | None = None) -> Source:
    """Make a Source of a file or a state dict, with layers in natural order when theirs was lost.

    Args:
        tensors: The tensors in the order in which they were found.
        origin: Where they come from, for messages.
        others: Names of what was found beside them and is no tensor, for a note.
        unwrapped: How they were found in a checkpoint.
        sorted_format: The format sorts by name. Without it the names themselves must tell.
        folder: Where a file lies, whose config.json says how weights are quantized.
    """
    _by_name(tensors, origin)
    tensors, decoded_notes = decoded(tensors, origin, folder)
    if fault := foreign_tensors(tensors):
        raise SourceError(f"{origin} {fault}")
    found = unwrapped or Unwrapped(tensors)
    chosen = choose_network(tensors, found.network, origin, found.wrappers)
    wrappers = {
        path: count
        for path, count in found.wrappers.items() if not chosen.offered or path != found.wrapper
    }
    wrappers |= {_inside(found.wrapper, name): count for name, count in chosen.offered.items()}
    wrapper = found.wrapper
    if chosen.network is not None:
        wrapper = _inside(wrapper, chosen.network)
    notes = [choice_note(wrapper, wrappers)] if wrappers else []
    tensors, prefix, cut_notes = _cut(chosen.tensors, "model" if found.of_lightning else "")
    notes += [*cut_notes, *decoded_notes]
    by_name = _by_name(tensors, origin)
    if others:
        notes.append(others_note(others))
    names = list(by_name)
    lost = is_sorted(tensors) and len(names) > 1 and (sorted_format or is_telltale(names))
    if lost:
        by_name = {name: by_name[name] for name in natural_order(names)}
        notes.append("names are sorted, so the order of the layers was lost; layers are in natural "
                     "order of their names")
    return Source(by_name, origin, order="sorted by name" if lost else "registered",
                  wrapper=wrapper, wrappers=tuple(wrappers), prefix=prefix, notes=tuple(notes))


def _by_name(tensors: Sequence[SourceTensor], origin: str) -> dict[str, SourceTensor]:
    for tensor in tensors:
        _check_is_text(tensor.name, origin)
    named = {tensor.name: tensor for tensor in tensors}
    if len(named) != len(tensors):
        raise SourceError(f"{origin}: {plural(len(tensors) - len(named), 'name')} occur twice")
    return named


def _inside(wrapper: str | None, network: str) -> str:
    return network if wrapper is None else f"{wrapper}/{network}"


def _cut(tensors: Sequence[SourceTensor], front: str) -> tuple[list[SourceTensor], str, list[str]]:
    """Return the tensors without what wrappers add to their names, what was cut in front, and
    notes. Numbers of the training beside names that begin with a wrapper are left out.
    """
    weights = [tensor for tensor in tensors if "." in tensor.name or not is_bookkeeping(tensor)]
    prefix, names = plain_names([tensor.name for tensor in weights], front=front)
    if not prefix:
        weights = list(tensors)
        prefix, names = plain_names([tensor.name for tensor in weights], front=front)
    notes = []
    if prefix:
        notes.append(f"prefix {prefix!r} removed from all names")
    elif names != [tensor.name for tensor in weights]:
        notes.append("what only wrappers add was removed from names, such as "
                     "'_orig_mod' and 'module'")
    kept = {tensor.name for tensor in weights}
    if left := [tensor.name for tensor in tensors if tensor.name not in kept]:
        notes.append(f"numbers of the training were left out: {listed_names(left)}")
    return [
        tensor if tensor.name == name else replace(tensor, name=name)
        for tensor, name in zip(weights, names, strict=True)
    ], prefix, notes


def check_name(name: Any, where: str) -> None:
    """Raise SourceError unless the name of a tensor is a non-empty text."""
    if not isinstance(name, str) or not name:
        raise SourceError(
            f"{where}: expected names as keys, got {short(name)}; pass the state dict "
            "itself")


def _check_is_text(name: str, where: str) -> None:
    # Pickles and JSON can hold halves of surrogate pairs, which no file and no terminal takes.
    try:
        name.encode("utf-8")
    except UnicodeEncodeError as error:
        raise SourceError(f"{where}: the name {short(name)} is not valid Unicode") from error


def listed_names(names: Sequence[Any]) -> str:
    """Return some of the names in a line, each cut to a width that fits."""
    return join_names([shorten(str(name), _NAME_WIDTH) for name in names], 8)


def others_note(names: Sequence[Any]) -> str:
    """Return the note about entries beside the tensors."""
    found = plural(len(names), "entry is no tensor and was left out",
                   "entries are no tensors and were left out")
    return f"{found}: {listed_names(names)}"
