"""Which part of a checkpoint holds the weights, and what stands before every name."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import SourceError
from ..util.text import join_names

# In order of preference. Averaged weights (EMA) are taken only when asked for, or when there are no
# others.
_WRAPPERS = ("model", "state_dict", "model_state_dict", "module", "net", "network", "weights",
             "params")
_AVERAGED = ("state_dict_ema", "model_ema")
_NO_WEIGHTS = ("optim", "sched", "scaler", "loss", "criterion")
_PREFIXES = ("module.", "_orig_mod.")
_DEEPEST = 3
_MOST_PREFIXES = 8


@dataclass(frozen=True, slots=True)
class Unwrapped:
    """The part chosen and its key ("outer/inner" when nested), all keys to choose from, notes."""

    weights: Any
    wrapper: str | None
    wrappers: tuple[str, ...]
    notes: tuple[str, ...]


def unwrap(mapping: Mapping[Any, Any], wrapper: str | None, is_weights: Callable[[Any], bool],
           where: str) -> Unwrapped:
    """Find the weights in a checkpoint.

    `is_weights` says whether a value is a module or a mapping that holds tensors itself. `wrapper`
    asks for one part by its key. SourceError when that key holds no weights, when there are no
    weights at all, or several parts and no way to tell.
    """
    known: dict[int, bool] = {}

    def is_known_weights(value: Any) -> bool:
        # The same part may stand in a file a million times.
        if id(value) not in known:
            known[id(value)] = is_weights(value)
        return known[id(value)]

    found = dict(_candidates(mapping, is_known_weights, set()))
    offered = tuple(path for path in found if not _names_no_weights(path))
    if wrapper is not None:
        if wrapper not in found:
            raise SourceError(
                f"{where}: no weights under wrapper {wrapper!r}; there are {_quoted(offered)}")
        return Unwrapped(found[wrapper], wrapper, offered, _choice_notes(wrapper, offered))
    chosen = _choose(offered, is_weights(mapping), where)
    if chosen is None:
        return Unwrapped(mapping, None, offered, _choice_notes(None, offered))
    return Unwrapped(found[chosen], chosen, offered, _choice_notes(chosen, offered))


def _candidates(mapping: Mapping[Any, Any], is_weights: Callable[[Any], bool], searched: set[int],
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


def _choose(offered: Sequence[str], flat: bool, where: str) -> str | None:
    """Return the path to take, None for the mapping itself."""
    plain = [path for path in offered if not is_averaged(path)]
    known = [path for path in plain if is_well_known(path)]
    if known:
        return min(known, key=lambda path: _WRAPPERS.index(_first_key(path)))
    if flat:
        return None
    if len(plain) > 1:
        raise SourceError(
            f"{where}: several parts hold weights: {_quoted(plain)}; choose one with wrapper=")
    if plain:
        return plain[0]
    averaged = [path for path in _AVERAGED if path in offered] or list(offered)
    if len(averaged) > 1 and averaged[0] not in _AVERAGED:
        raise SourceError(
            f"{where}: several parts hold averaged weights: {_quoted(averaged)}; choose one with "
            "wrapper=")
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
    return join_names(paths, None, quoted=True)


def _choice_notes(chosen: str | None, offered: Sequence[str]) -> tuple[str, ...]:
    if not offered:
        return ()
    others = [path for path in offered if path != chosen]
    note = f"weights taken from {'the checkpoint itself' if chosen is None else repr(chosen)}"
    if chosen is not None and is_averaged(chosen):
        note += " (moving averages)"
    return (f"{note}; also there: {_quoted(others)} (choose with wrapper=)" if others else note,)


def common_prefix(names: Sequence[str]) -> str:
    """Return "module." and "_orig_mod." as often as all names begin with them."""
    prefix = ""
    for _ in range(_MOST_PREFIXES if names else 0):
        found = next(
            (part for part in _PREFIXES if all(name.startswith(prefix + part) for name in names)),
            None)
        if found is None or any(name == prefix + found for name in names):
            break
        prefix += found
    return prefix
