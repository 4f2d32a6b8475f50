"""Several networks in one list of names: copies of the same layers, told apart by their beginnings.

Known forms: ema-pytorch ("online_model." beside "ema_model."), latent diffusion models (the names
of the averages have lost their dots), mmcv (dots became "_"), and teachers beside students.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from ..spec.layer_groups import last_part
from ..spec.source import SourceTensor
from .wrappers import has_network, no_weights, several

# The name of a tensor in the file, and its name in the network.
Network = Mapping[str, str]

_AVERAGED = re.compile(r"(?:^|_)(?:ema|averaged|swa|shadow)(?:_|$)", re.IGNORECASE)
# Copies between which only the user's purpose decides.
_PEERS = (("student", "teacher"), ("online", "target"), ("base_encoder", "momentum_encoder"),
          ("encoder_q", "encoder_k"))
# Numbers that training leaves beside weights.
_BOOKKEEPING = frozenset(
    ("step", "steps", "global_step", "iteration", "iterations", "epoch", "initted", "n_averaged",
     "num_updates", "n_updates", "decay", "ema_decay"))
# How names are written in the copy: as they are, as latent diffusion models do, and as mmcv does.
_SPELLINGS: tuple[Callable[[str], str], ...] = (str, lambda name: name.replace(".", ""),
                                                lambda name: name.replace(".", "_"))
_UNDOTTED = "ema_"
# An average of one layer is part of its network; a copy has at least this part of the tensors.
_LEAST_PART = 0.25


@dataclass(frozen=True, slots=True)
class Chosen:
    """The tensors of one network under their own names; which one it is, None for all there are;
    and how many tensors each has that can be chosen.
    """

    tensors: Sequence[SourceTensor]
    network: str | None
    offered: Mapping[str, int]


def choose_network(tensors: Sequence[SourceTensor], wanted: str | None, where: str,
                   parts: Mapping[str, int]) -> Chosen:
    """Take one network where there are several.

    By default that is the one which is no average of another.

    Args:
        tensors: All tensors of a file or a state dict.
        wanted: The network to take, by the beginning of its names.
        where: Where they come from, for messages.
        parts: Other parts of the checkpoint, for messages.

    Raises:
        SourceError: `wanted` is not there, or there is no telling which one is meant.
    """
    by_name = {tensor.name: tensor for tensor in tensors}
    networks = _networks(by_name)
    offered = {name: len(own) for name, own in networks.items() if name}
    if wanted is not None and wanted not in offered:
        if not has_network(by_name, wanted):
            raise no_weights(where, wanted, {**parts, **offered})
        start = len(wanted.rstrip(".")) + 1
        own = [
            replace(tensor, name=name[start:])
            for name, tensor in by_name.items() if name.startswith(f"{wanted.rstrip('.')}.")
        ]
        return Chosen(choose_network(own, None, where, {}).tensors, wanted, offered)
    if not networks:
        return Chosen(tensors, None, {})
    peers = [name for name in networks if not _AVERAGED.search(name.rpartition(".")[2])]
    if wanted is None and len(peers) > 1:
        raise several(where, "networks of the same layers", peers, offered)
    chosen = next(iter(peers), next(iter(networks))) if wanted is None else wanted
    return Chosen([replace(by_name[name], name=own) for name, own in networks[chosen].items()],
                  chosen or None, offered)


def is_bookkeeping(tensor: SourceTensor) -> bool:
    """Return whether a tensor is a number that training leaves beside weights."""
    return (tensor.size == 1 and len(tensor.shape) < 2 and tensor.kind != "parameter"
            and last_part(tensor.name) in _BOOKKEEPING)


def _networks(tensors: Mapping[str, SourceTensor]) -> dict[str, Network]:
    """Return the networks by the beginning of their names; {} where all tensors may be one."""
    plain: dict[str, SourceTensor] = {}
    copies: dict[str, dict[str, str]] = {}
    for name, tensor in tensors.items():
        copy = _copy_of(name)
        if is_bookkeeping(tensor):
            continue
        if copy:
            copies.setdefault(copy[0], {})[name] = copy[1]
        else:
            plain[name] = tensor
    if not plain and len(copies) == 1:
        return dict(copies)
    networks: dict[str, Network] = {}
    bases: set[str] = set()
    for beginning, rests in copies.items():
        shapes = {rest: tensors[name].shape for name, rest in rests.items()}
        found = _base(shapes, plain) if len(rests) >= _LEAST_PART * len(plain) else None
        if found is None:
            plain.update((name, tensors[name]) for name in rests)
        else:
            bases.add(found[0])
            networks[beginning] = {name: found[1][rest] for name, rest in rests.items()}
    if networks:
        base = bases.pop() if len(bases) == 1 and has_network(plain, min(bases)) else ""
        if not all(name.startswith(f"{base}.") for name in plain):
            base = ""
        own = {name: name[len(base) + 1:] if base else name for name in plain}
        return {base: own, **networks}
    return _peers(plain)


def _copy_of(name: str) -> tuple[str, str] | None:
    """Split the name of an average: the beginning that says so, and the rest."""
    parts = name.split(".")
    for index in reversed(range(len(parts) - 1)):
        if _AVERAGED.search(parts[index]):
            return ".".join(parts[:index + 1]), ".".join(parts[index + 1:])
    undotted = len(parts) == 1 and name.startswith(_UNDOTTED)
    return (_UNDOTTED[:-1], name[len(_UNDOTTED):]) if undotted else None


def _base(shapes: Mapping[str, tuple[int, ...]],
          plain: Mapping[str, SourceTensor]) -> tuple[str, dict[str, str]] | None:
    """Return what all tensors of a copy are copies of: the beginning of its names, and by the name
    in the copy the rest of the plain one. None when some have no counterpart of their shape.
    """
    longest = max(shapes, key=len)
    for spelled in _SPELLINGS:
        bases = dict.fromkeys(
            begin for name in plain for begin, rest in _cuts(name) if spelled(rest) == longest)
        for base in bases:
            start = len(base) + 1 if base else 0
            own = {
                spelled(name[start:]): name[start:]
                for name in plain if name.startswith(f"{base}." if base else "")
            }
            if all(name in own and plain[f"{base}.{own[name]}".lstrip(".")].shape == shape
                   for name, shape in shapes.items()):
                return base, {name: own[name] for name in shapes}
    return None


def _cuts(name: str) -> Iterator[tuple[str, str]]:
    parts = name.split(".")
    return ((".".join(parts[:index]), ".".join(parts[index:])) for index in range(len(parts)))


def _peers(plain: Mapping[str, SourceTensor]) -> dict[str, Network]:
    """Return two networks of the same layers whose names say that one follows the other."""
    by_begin: dict[str, dict[str, str]] = {}
    depth = _common_depth(list(plain))
    for name in plain:
        parts = name.split(".")
        if len(parts) > depth + 1:
            by_begin.setdefault(".".join(parts[:depth + 1]), {})[name] = ".".join(parts[depth + 1:])
    for first, second in _PEERS:
        for begin, own in by_begin.items():
            head, dot, last = begin.rpartition(".")
            other = by_begin.get(f"{head}{dot}{last.replace(first, second)}", own)
            shapes = {rest: plain[name].shape for name, rest in own.items()}
            alike = sum(shapes.get(rest) == plain[name].shape for name, rest in other.items())
            if other is not own and 2 * alike > min(len(own), len(other)):
                return {begin: own, f"{head}{dot}{last.replace(first, second)}": other}
    return {}


def _common_depth(names: Sequence[str]) -> int:
    """Return how many parts all names begin with in common, the last parts apart."""
    first, last = min(names, default="").split("."), max(names, default="").split(".")
    depth = 0
    while depth < min(len(first), len(last)) - 1 and first[depth] == last[depth]:
        depth += 1
    return depth
