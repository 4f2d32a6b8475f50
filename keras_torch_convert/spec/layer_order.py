"""Was the order of registration lost? Files sorted by name are recognized, and their layers put in
natural order.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from itertools import groupby

from .source import SourceTensor

_DIGITS = re.compile(r"(\d+)")
# The order in which PyTorch's own layers register what they hold.
_ROLES = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")


def split_layer(name: str) -> tuple[str, str]:
    """Return layer and last part of a tensor's name, cut at "/" when there is one, else at "."."""
    layer, _, last = name.rpartition("/" if "/" in name else ".")
    return layer, last


def is_sorted(tensors: Sequence[SourceTensor]) -> bool:
    """Return whether names are sorted, in all or within each run of one dtype (safetensors)."""
    names = [tensor.name for tensor in tensors]
    if names == sorted(names):
        return True
    runs = [(dtype, [tensor.name for tensor in run])
            for dtype, run in groupby(tensors, lambda tensor: tensor.dtype)]
    return len({dtype for dtype, _ in runs}) == len(runs) and all(
        names == sorted(names) for _, names in runs)


def is_telltale(names: Sequence[str]) -> bool:
    """True when sorted names are in an order that no module registers: number 10 before 2, or bias
    before weight.

    The latter counts only when it holds for every layer that has both, and for two layers at least:
    a single layer of somebody's own may well register its bias first.
    """
    if natural_order(names, by_role=False) != sorted(names):
        return True
    positions = {name: position for position, name in enumerate(names)}
    weights = [name for name in names if split_layer(name)[1] == "weight"]
    pairs = [(positions[name], positions[bias])
             for name in weights if (bias := name.removesuffix("weight") + "bias") in positions]
    return len(pairs) > 1 and all(bias < weight for weight, bias in pairs)


def natural_order(names: Iterable[str], by_role: bool = True) -> list[str]:
    """Return names with numbers counted as numbers, the tensors of a layer together.

    Within a layer the roles that PyTorch's layers register come in that order (weight, bias,
    running_mean, ...), unless `by_role` is False.
    """
    def key(name: str) -> tuple[object, ...]:
        layer, last = split_layer(name)
        stem, role = _role(last) if by_role else (last, 0)
        return _natural(layer), _natural(stem), role, name

    return sorted(names, key=key)


def _natural(text: str) -> tuple[tuple[tuple[int, str], ...], ...]:
    """Return a key under which "b2" comes before "b10", and "a" before "a.b"."""
    separator = "/" if "/" in text else "."
    parts = text.split(separator) if text else []
    # An empty piece before a number keeps texts and numbers at the same places.
    return tuple(
        tuple(
            _number(piece) if index % 2 else (0, piece)
            for index, piece in enumerate(_DIGITS.split(part))) for part in parts)


def _number(digits: str) -> tuple[int, str]:
    # Numbers of equal length sort like texts; Python refuses to read very long ones.
    digits = digits.lstrip("0")
    return len(digits), digits


def _role(last: str) -> tuple[str, int]:
    """Return what stands before a role ("in_proj_" of "in_proj_weight"), and the role's rank."""
    for rank, role in enumerate(_ROLES):
        if last.endswith(role):
            return last.removesuffix(role), rank
    return last, len(_ROLES)
