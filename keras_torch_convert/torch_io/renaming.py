"""Names of a source become those that a Plan expects, or a module that is to be filled."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from ..errors import SourceError
from ..plan.difference import expected_of, for_files, with_names
from ..plan.recipe import AnyRecipe
from ..spec.dtypes import INDEX_TYPES
from ..spec.layer_order import split_layer
from ..spec.source import Source
from ..util.text import did_you_mean, join_names
from .wrappers import plain_names

Shape = tuple[int, ...]
# Beginning in the source to beginning that is expected; "" is before the first part.
Rename = Mapping[str, str]

# One that explains fewer layers is taken only where every tensor of both sides has its partner.
_LEAST_LAYERS = 2


@dataclass(frozen=True, slots=True)
class _Renaming:
    """What was found out about names: the rules that hold, whether they leave some open, and by
    expected beginning those of the source that fit equally well.
    """

    rules: Rename
    open: bool
    alternatives: Mapping[str, list[str]]


def renamed(source: Source, rename: Rename) -> Source:
    """Return the source with beginnings of names exchanged, as the caller says.

    Args:
        source: The source.
        rename: Old beginning to new one, of whole parts: {"backbone": ""} cuts "backbone.", {"":
            "model"} puts "model." in front of all names that no other rule hits.

    Raises:
        SourceError: A rule hits no name, or two names become one.
    """
    if source.module is not None:
        raise SourceError(f"{source.origin}: rename is for state dicts and files; a module keeps "
                          "its names")
    rules = {old.rstrip("."): new.rstrip(".") for old, new in rename.items()}
    for old in rules:
        if not any(_begins(name, old) for name in source):
            known = dict.fromkeys(begin for name in source for begin in _beginnings(name))
            raise SourceError(f"{source.origin}: rename: no name begins with {old!r}"
                              f"{did_you_mean(old, known)}")
    names = {name: _exchanged(name, rules) for name in source}
    if len(set(names.values())) < len(names):
        counts = defaultdict(list)
        for name, new in names.items():
            counts[new].append(name)
        twice = next(group for group in counts.values() if len(group) > 1)
        raise SourceError(f"{source.origin}: rename: {join_names(twice, quoted=True)} would all be "
                          f"called '{names[twice[0]]}'")
    return _with_names(source, names, f"names changed as asked for: {_describe(rules)}")


def fitted(source: Source, wanted: Mapping[str, Shape], others: Iterable[str] = ()) -> Source:
    """Return the source with the names that are expected, where only wrappers or beginnings differ.

    That is done when every expected tensor is found in its shape and no other way is as good; else
    the source is returned as it is.

    Args:
        source: The source.
        wanted: The names that must be there, with their shapes.
        others: Names that may be there.

    Raises:
        SourceError: Several networks in the source have the names and shapes.
    """
    if wanted.keys() <= source.keys():
        return source
    full = [*wanted, *others]
    own = dict(zip(plain_names(full)[1], full, strict=True))
    shapes = {name: wanted[full] for name, full in own.items() if full in wanted}
    found = _renaming(source, shapes)
    if found.alternatives.keys() == {""}:
        olds = found.alternatives[""]
        raise SourceError(f"{source.origin}: several networks have the expected names, under "
                          f"{join_names(olds, quoted=True)}; choose one with wrapper=, or with "
                          f"rename={{{olds[0]!r}: ''}}")
    names = {name: name if name in own else _exchanged(name, found.rules) for name in source}
    if (found.open or len(set(names.values())) < len(names)
            or not _is_convincing(found.rules, source, names, shapes)):
        return source
    note = f"names fit with {_describe(found.rules)}" if found.rules else ""
    return _with_names(source, {name: own.get(new, new) for name, new in names.items()}, note)


def fit_to_plan(plan: AnyRecipe, source: Source) -> tuple[AnyRecipe, Source]:
    """Bring the names of a Plan and of a source together where only wrappers or beginnings differ,
    or the source is a file that holds the tensors as the module's library stores them.

    A file gets the names of the Plan. A module keeps its own, by which it finds its tensors: the
    Plan gets those. Raises SourceError as `fitted` does.
    """
    for one in (plan,) if plan.stored is None else (plan, for_files(plan)):
        wanted = {name: spec.shape for name, spec in expected_of(one, source).items()}
        found = fitted(source, wanted, one.dropped)
        if wanted.keys() <= found.keys():
            if source.module is None or found is source:
                return one, found
            return with_names(one, dict(zip(found, source, strict=True))), source
    return plan, source


def offered(source: Source, wanted: Mapping[str, Shape]) -> str:
    """Return what to try where expected names are missing, "" where nothing is seen."""
    if wanted.keys() <= source.keys():
        return ""
    found = _renaming(source, wanted)
    written = ", ".join(f"{old!r}: {new!r}" for old, new in found.rules.items())
    lines = [f"names seem to begin otherwise: if so, say rename={{{written}}}"] * bool(written)
    lines += [
        f"{new!r} may be {join_names(olds, quoted=True, separator=' or ')} there: say which "
        f"with rename={{old: {new!r}}}" for new, olds in found.alternatives.items()
    ]
    return "; ".join(lines)


def _renaming(source: Source, wanted: Mapping[str, Shape]) -> _Renaming:
    """Find the beginnings that differ, those first that explain most."""
    missing = [name for name in wanted if name not in source]
    free = {name: source[name].shape for name in source if name not in wanted}
    rules: dict[str, str] = {}
    alternatives: dict[str, list[str]] = {}
    while missing:
        best = _best(missing, free, wanted)
        if best is None:
            break
        new, olds = best
        if len(olds) > 1:
            alternatives[new] = olds
        else:
            rules[olds[0]] = new
            for name in missing:
                free.pop(_moved(name, new, olds[0]) if _begins(name, new) else "", None)
        missing = [name for name in missing if not _begins(name, new)]
    return _Renaming(rules, bool(missing or alternatives), alternatives)


def _best(missing: Sequence[str], free: Mapping[str, Shape],
          wanted: Mapping[str, Shape]) -> tuple[str, list[str]] | None:
    """Return the expected beginning under which most names are missing, and all of them are found
    under other beginnings, with these.
    """
    by_kind: dict[tuple[str, Shape], list[str]] = defaultdict(list)
    for name, shape in free.items():
        by_kind[split_layer(name)[1], shape].append(name)
    below: dict[str, list[str]] = defaultdict(list)
    for name in missing:
        for new in _beginnings(name):
            below[new].append(name)
    for new in sorted(below, key=lambda new: (-len(below[new]), len(new))):
        first = below[new][0]
        rest = first[len(new) + 1:] if new else first
        olds = [
            name[:-len(rest) - 1] for name in by_kind[split_layer(first)[1], wanted[first]]
            if name == rest or name.endswith(f".{rest}")
        ]
        olds = [
            old for old in olds if all(
                free.get(_moved(one, new, old)) == wanted[one] for one in below[new])
        ]
        if olds:
            return new, olds
    return None


def _is_convincing(rules: Rename, source: Source, names: Mapping[str, str],
                   wanted: Mapping[str, Shape]) -> bool:
    """Return whether rules explain whole networks, or leave nothing without a partner."""
    weights = {new for name, new in names.items() if source[name].dtype not in INDEX_TYPES}
    layers: dict[str | None, set[str]] = {old: set() for old in rules}
    for name, new in names.items():
        if new != name and new in wanted:
            layers[_rule_for(name, rules)].add(split_layer(new)[0])
    return weights <= wanted.keys() or all(len(found) >= _LEAST_LAYERS for found in layers.values())


def _beginnings(name: str) -> Iterator[str]:
    """Yield "" and every path above a tensor."""
    yield ""
    parts = name.split(".")
    for length in range(1, len(parts)):
        yield ".".join(parts[:length])


def _begins(name: str, path: str) -> bool:
    return not path or name.startswith(f"{path}.") or name == path


def _moved(name: str, old: str, new: str) -> str:
    rest = name[len(old) + 1:] if old else name
    return f"{new}.{rest}" if new and rest else new or rest


def _exchanged(name: str, rules: Rename) -> str:
    old = _rule_for(name, rules)
    return name if old is None else _moved(name, old, rules[old])


def _rule_for(name: str, rules: Rename) -> str | None:
    """Return the longest beginning that hits a name."""
    return max((old for old in rules if _begins(name, old)), key=len, default=None)


def _describe(rules: Rename) -> str:
    return join_names(f"'{old}.' removed" if not new else
                      f"'{new}.' put in front" if not old else f"'{old}.' as '{new}.'"
                      for old, new in rules.items())


def _with_names(source: Source, names: Mapping[str, str], note: str) -> Source:
    tensors = {new: replace(source[name], name=new) for name, new in names.items()}
    return replace(source, tensors=tensors, notes=(*source.notes, *filter(None, (note,))))
