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


@dataclass(frozen=True, slots=True)
class Unwrapped:
    """The part chosen, the key it was under ("outer/inner" when nested), all keys to choose from,
    and notes on the choice.
    """

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
    found = dict(_candidates(mapping, is_weights))
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


def _candidates(mapping: Mapping[Any, Any], is_weights: Callable[[Any], bool],
                depth: int = 1) -> Iterator[tuple[str, Any]]:
    """Every part that holds weights, with its path; well-known wrappers are searched for wrappers
    inside them.
    """
    for key, value in mapping.items():
        if not isinstance(key, str):
            continue
        if is_weights(value):
            yield key, value
        elif isinstance(value, Mapping) and depth < _DEEPEST and not _names_no_weights(key):
            for path, inner in _candidates(value, is_weights, depth + 1):
                yield f"{key}/{path}", inner


def _choose(offered: Sequence[str], flat: bool, where: str) -> str | None:
    """The path to take, None for the mapping itself."""
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
    """True when a wrapper's name says that it holds moving averages (EMA) of the weights."""
    return any(
        word == "ema" for word in path.lower().replace("/", "_").replace(".", "_").split("_"))


def is_well_known(path: Any) -> bool:
    """True for a wrapper, or one inside it, whose name alone says that it holds the weights of the
    model.
    """
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
    """What to cut from every name: "module." and "_orig_mod.", as often as all names begin with
    them.
    """
    prefix = ""
    while names:
        found = next(
            (part for part in _PREFIXES if all(name.startswith(prefix + part) for name in names)),
            None)
        if found is None or any(name == prefix + found for name in names):
            break
        prefix += found
    return prefix
