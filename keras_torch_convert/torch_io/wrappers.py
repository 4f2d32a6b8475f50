"""Wrappers around weights: keys of a checkpoint, parts of names, and module objects.

Names lose what only wrappers add, in front and in the middle, by `plain_names`: the one function
that files, state dicts and Plans share. A live module is another matter, since its names must stay
those by which it finds its tensors: `inner_module` gives the module inside of DataParallel,
torch.compile and the like, and whoever takes a module object (`read_module` does) reads, runs and
traces that one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..errors import SourceError
from ..util.text import MOST_LINES, join_names, plural

# In order of preference. Averaged weights (EMA) are taken only when asked for, or when there are no
# others.
_WRAPPERS = ("model", "state_dict", "model_state_dict", "module", "net", "network", "weights",
             "params")
_AVERAGED = ("state_dict_ema", "model_ema")
_NO_WEIGHTS = ("optim", "sched", "scaler", "loss", "criterion")
_DEEPEST = 3
# Parts of names that only wrappers leave: torch.compile, FSDP, activation checkpoints, Fabric,
# Opacus.
_WRAPPER_PARTS = frozenset(("_orig_mod", "_fsdp_wrapped_module", "_fpw_module",
                            "_checkpoint_wrapped_module", "_forward_module", "_module"))
# DataParallel's; other modules may have a child of this name.
_PARALLEL = "module"
_PARALLEL_CLASSES = ("DataParallel", "DistributedDataParallel", "AveragedModel", "ModelEma",
                     "ModelEmaV2", "ModelEmaV3", "FullyShardedDataParallel", "DeepSpeedEngine")


@dataclass(frozen=True, slots=True)
class Unwrapped:
    """The part of a checkpoint that holds the weights.

    `wrapper` is its key ("outer/inner" when nested), `wrappers` has the number of tensors of all
    parts to choose from. `network` asks for one of several networks inside of it, by the beginning
    of its names. `of_lightning` says that PyTorch Lightning wrote the file.
    """

    weights: Any
    wrapper: str | None = None
    wrappers: Mapping[str, int] = field(default_factory=dict)
    network: str | None = None
    of_lightning: bool = False


def unwrap(mapping: Mapping[Any, Any], wrapper: str | None, tensors_in: Callable[[Any], int],
           where: str) -> Unwrapped:
    """Find the weights in a checkpoint.

    `tensors_in` counts the tensors that a module or a mapping holds itself. `wrapper` asks for one
    part by its key, or for a network in it by the beginning of its names. SourceError when there
    are several parts and no way to tell.
    """
    known: dict[int, int] = {}

    def count(value: Any) -> int:
        # The same part may stand in a file a million times.
        if id(value) not in known:
            known[id(value)] = tensors_in(value)
        return known[id(value)]

    found = dict(_candidates(mapping, count, set()))
    offered = {path: count(part) for path, part in found.items() if not _names_no_weights(path)}
    of_lightning = "pytorch-lightning_version" in mapping
    if wrapper in found:
        return Unwrapped(found[wrapper], wrapper, offered, None, of_lightning)
    if wrapper is None:
        chosen = _choose(offered, count(mapping) > 0, where)
        return Unwrapped(mapping if chosen is None else found[chosen], chosen, offered, None,
                         of_lightning)
    outer, _, network = wrapper.rpartition("/")
    parts: list[tuple[str | None, Any]] = [(None, mapping), *found.items()]
    if outer:
        parts = [(outer, found.get(outer))]
    for separator in (".", "_"):
        for path, part in parts:
            if isinstance(part, Mapping) and has_network(part, network, separator):
                return Unwrapped(part, path, offered, network, of_lightning)
    raise no_weights(where, wrapper, offered)


def has_network(names: Iterable[Any], network: str, separator: str = ".") -> bool:
    """Return whether some of the names begin with that of a network."""
    begin = f"{network.rstrip('.')}{separator}"
    return bool(network) and any(isinstance(name, str) and name.startswith(begin) for name in names)


def no_weights(where: str, wrapper: str, offered: Mapping[str, int]) -> SourceError:
    """Return the error for a part of a checkpoint that is not there."""
    there = (f"there are {_quoted(list(offered))}{counted(offered)}"
             if offered else "this source has no wrappers, leave wrapper out")
    return SourceError(f"{where}: no weights under wrapper {wrapper!r}; {there}")


def _candidates(mapping: Mapping[Any, Any], is_weights: Callable[[Any], int], searched: set[int],
                depth: int = 1) -> Iterator[tuple[str, Any]]:
    """Yield every part that holds weights with its path; each mapping is searched once."""
    searched.add(id(mapping))
    for key, value in mapping.items():
        if not isinstance(key, str):
            continue
        if is_weights(value):
            yield key, value
        elif not isinstance(value, Mapping) or id(value) in searched:
            continue
        elif depth < _DEEPEST and not _names_no_weights(key):
            for path, inner in _candidates(value, is_weights, searched, depth + 1):
                yield f"{key}/{path}", inner


def _choose(offered: Mapping[str, int], flat: bool, where: str) -> str | None:
    """Return the path to take, None for the mapping itself."""
    plain = [path for path in offered if not is_averaged(path)]
    known = [path for path in plain if is_well_known(path)]
    if known:
        return min(known, key=lambda path: _WRAPPERS.index(_first_key(path)))
    if flat:
        return None
    if len(plain) > 1:
        raise several(where, "parts hold weights", plain, offered)
    if plain:
        return plain[0]
    averaged = [path for path in _AVERAGED if path in offered] or list(offered)
    if len(averaged) > 1 and averaged[0] not in _AVERAGED:
        raise several(where, "parts hold averaged weights", averaged, offered)
    return averaged[0] if averaged else None


def is_averaged(path: str) -> bool:
    """Return whether a wrapper's name says that it holds moving averages (EMA) of the weights."""
    return any(
        word == "ema" for word in path.lower().replace("/", "_").replace(".", "_").split("_"))


def is_well_known(path: Any) -> bool:
    """Return whether the name of a wrapper alone says that it holds the model's weights."""
    return isinstance(path, str) and _first_key(path) in _WRAPPERS


def _first_key(path: str) -> str:
    return path.split("/", 1)[0]


def _names_no_weights(path: str) -> bool:
    return any(word in path.lower() for word in _NO_WEIGHTS)


def _quoted(paths: Sequence[str]) -> str:
    return join_names(paths, MOST_LINES, quoted=True)


def several(where: str, what: str, names: Sequence[str], counts: Mapping[str, int]) -> SourceError:
    """Return the error for weights between which only the caller can choose."""
    return SourceError(f"{where}: several {what}: {_quoted(names)}; choose one with wrapper="
                       f"{counted({name: counts[name] for name in names})}")


def counted(offered: Mapping[str, int]) -> str:
    """Return how many tensors each part has, in parentheses."""
    sizes = join_names((f"{name}: {plural(count, 'tensor')}" for name, count in offered.items()))
    return f" ({sizes})"


def choice_note(chosen: str | None, offered: Mapping[str, int]) -> str:
    """Say which part was taken and what else is there, "" where there was no choice."""
    if not offered:
        return ""
    others = {path: count for path, count in offered.items() if path != chosen}
    note = f"weights taken from {'the checkpoint itself' if chosen is None else repr(chosen)}"
    if chosen is not None and is_averaged(chosen):
        note += " (moving averages)"
    return (f"{note}; also there: {_quoted(list(others))} (choose with wrapper=){counted(others)}"
            if others else note)


def plain_names(names: Sequence[str], *, front: str = "") -> tuple[str, list[str]]:
    """Cut from names what only wrappers add, in front and in the middle.

    "module" goes where nothing stands beside it. Names that would not stay distinct stay whole.

    Args:
        names: The names.
        front: One more part to cut if all names begin with it, such as Lightning's "model".

    Returns:
        What was cut in front of all names ("module."), and the names in their order.
    """
    split = [name.split(".") for name in names]
    if not any(_PARALLEL in parts or front in parts or not _WRAPPER_PARTS.isdisjoint(parts)
               for parts in split):
        return "", list(names)
    # A tree of the names by numbers of its nodes: with whole beginnings as keys a name of thousands
    # of parts would take the square of its length.
    children: dict[tuple[int, str], int] = {}
    counts = [0]
    kept = []
    inner = [
        [part for part in parts[:-1] if part not in _WRAPPER_PARTS] + parts[-1:] for parts in split
    ]
    for parts in inner:
        node = 0
        for part in parts:
            if (node, part) not in children:
                children[node, part] = len(counts)
                counts[node] += 1
                counts.append(0)
            node = children[node, part]
    for parts in inner:
        node, short = 0, []
        for part in parts[:-1]:
            if part != _PARALLEL or counts[node] > 1:
                short.append(part)
            node = children[node, part]
        kept.append(short + parts[-1:])
    if front and all(len(parts) > 1 and parts[0] == front for parts in kept):
        kept = [parts[1:] for parts in kept]
    plain = [".".join(parts) for parts in kept]
    if len(set(plain)) != len(set(names)):
        return "", list(names)
    fronts = {name.removesuffix(short) for name, short in zip(names, plain, strict=True)}
    return fronts.pop() if len(fronts) == 1 else "", plain


def inner_module(module: Any) -> tuple[str, Any]:
    """Look through wrappers that change nothing about what a module computes.

    Args:
        module: A torch module, perhaps one of DataParallel, DistributedDataParallel, AveragedModel,
            FullyShardedDataParallel, or what torch.compile gives.

    Returns:
        The prefix that the wrappers put before the names ("" for none), and the module inside.
    """
    prefix = ""
    while True:
        children = dict(module.named_children())
        name = next(iter(children), "")
        if len(children) != 1 or next(module.parameters(recurse=False), None) is not None or not (
                name in _WRAPPER_PARTS or
            (name == _PARALLEL and type(module).__name__ in _PARALLEL_CLASSES)):
            return prefix, module
        prefix, module = f"{prefix}{name}.", children[name]
