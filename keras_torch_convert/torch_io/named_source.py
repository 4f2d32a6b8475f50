"""Tensors under their names as a Source: the common prefix cut off, the order of layers found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from ..errors import SourceError
from ..spec.layer_order import is_sorted, is_telltale, natural_order
from ..spec.source import Source, SourceTensor
from ..util.text import join_names, plural, shorten
from .pickle_values import short
from .wrappers import Unwrapped, common_prefix

_NAME_WIDTH = 60


def named_source(tensors: Sequence[SourceTensor], *, origin: str, others: Sequence[str] = (),
                 unwrapped: Unwrapped | None = None, registered: bool = False,
                 sorted_format: bool = False, module: Any = None) -> Source:
    """Make a Source, with layers put in natural order when theirs was lost.

    Args:
        tensors: The tensors in the order in which they were found.
        origin: Where they come from, for messages.
        others: Names of what was found beside them and is no tensor, for a note.
        unwrapped: How they were found in a checkpoint.
        registered: The order is that of a module's own state dict.
        sorted_format: The format sorts by name. Without both the names themselves must tell.
        module: The live module that they belong to.
    """
    for tensor in tensors:
        _check_is_text(tensor.name, origin)
    prefix = common_prefix([tensor.name for tensor in tensors])
    if prefix:
        tensors = [replace(tensor, name=tensor.name[len(prefix):]) for tensor in tensors]
    named = {tensor.name: tensor for tensor in tensors}
    if len(named) != len(tensors):
        raise SourceError(f"{origin}: {plural(len(tensors) - len(named), 'name')} occur twice")
    notes = list(unwrapped.notes) if unwrapped else []
    if prefix:
        notes.append(f"prefix {prefix!r} removed from all names")
    if others:
        notes.append(f"{len(others)} entries are no tensors and were left out: "
                     f"{listed_names(others)}")
    names = list(named)
    lost = not registered and is_sorted(tensors) and len(names) > 1 and (sorted_format
                                                                         or is_telltale(names))
    if lost:
        named = {name: named[name] for name in natural_order(names)}
        notes.append("names are sorted, so the order of the layers was lost; layers are in natural "
                     "order of their names")
    return Source(named, origin, order="sorted by name" if lost else "registered",
                  wrapper=unwrapped.wrapper if unwrapped else None,
                  wrappers=unwrapped.wrappers if unwrapped else (), prefix=prefix, module=module,
                  notes=tuple(notes))


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
