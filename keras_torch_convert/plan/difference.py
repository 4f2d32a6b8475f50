"""A checkpoint against what a Plan expects: everything missing, extra, renamed, or of another shape
or type.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import SequenceMatcher
from fnmatch import fnmatchcase

from ..errors import AlignmentError
from ..spec.dtypes import INDEX_TYPES
from ..spec.source import Source
from ..spec.tensor_spec import TensorSpec
from .expressions import tensors_of
from .recipe import AnyRecipe, Recipe

# How alike two names must be to be taken for one that was renamed; the ratio of difflib.
_ALIKE = 0.6
# Comparing all names with all takes too long where a whole net is renamed.
_MOST_COMPARED = 64
# How the rule begins by which `without_layers` lets variables keep their values.
LEFT_OUT = "left out by name"


@dataclass(frozen=True, slots=True)
class Difference:
    """What a source has otherwise than a Plan expects it.

    `missing` are tensors that the Plan uses and the source lacks, `extra` those that the Plan does
    not know, `renamed` pairs (expected name, name in the source) of one shape and type with names
    alike, `shapes` and `dtypes` (name, expected, found). True when anything differs; `fits` tells
    whether the Plan can be applied all the same: extra tensors and other types are the executor's
    to judge.
    """

    missing: tuple[tuple[str, TensorSpec], ...] = ()
    extra: tuple[tuple[str, TensorSpec], ...] = ()
    renamed: tuple[tuple[str, str, TensorSpec], ...] = ()
    shapes: tuple[tuple[str, tuple[int, ...], tuple[int, ...]], ...] = ()
    dtypes: tuple[tuple[str, str, str], ...] = ()

    def __bool__(self) -> bool:
        return any((self.missing, self.extra, self.renamed, self.shapes, self.dtypes))

    @property
    def fits(self) -> bool:
        """True when every tensor that is needed is there in its shape."""
        return not (self.missing or self.renamed or self.shapes)

    def lines(self) -> Iterator[str]:
        """One line for each difference."""
        yield from (f"missing: '{name}' {kind.shape} {kind.dtype}" for name, kind in self.missing)
        yield from (f"renamed: '{expected}' is probably '{found}' {kind.shape} {kind.dtype}"
                    for expected, found, kind in self.renamed)
        yield from (f"other shape: '{name}' is {found}, expected {expected}"
                    for name, expected, found in self.shapes)
        yield from (f"other type: '{name}' is {found}, expected {expected}"
                    for name, expected, found in self.dtypes)
        yield from (f"extra: '{name}' {kind.shape} {kind.dtype}" for name, kind in self.extra)

    def __str__(self) -> str:
        return "\n".join(self.lines()) or "no difference"


def difference(plan: Recipe, source: Source) -> Difference:
    """Compare names, shapes and types of a source with those that the Plan was made from. Reads no
    values.
    """
    found = {name: tensor.as_kind() for name, tensor in source.tensors.items()}
    expected = dict(plan.sources)
    for name in (
            name for assignment in plan.assignments for name in tensors_of(assignment.expression)):
        # A Plan made by hand may lack the kinds: the name alone is expected then.
        expected.setdefault(name, found.get(name, TensorSpec((), "unknown", name)))
    missing = {name: kind for name, kind in expected.items() if name not in found}
    extra = {
        name: kind
        for name, kind in found.items() if name not in expected and name not in plan.dropped
    }
    # Counters and indices are no weights, whether the Plan knew them or not.
    extra = {
        name: kind for name, kind in extra.items() if not _dropped_alike(name, plan.dropped) and (
            kind.dtype not in INDEX_TYPES or source.tensors[name].kind == "parameter")
    }
    renamed = _renamed(missing, extra)
    for old, new, _ in renamed:
        del missing[old], extra[new]
    both = [(name, kind, found[name]) for name, kind in expected.items() if name in found]
    return Difference(
        tuple(missing.items()), tuple(extra.items()), renamed,
        tuple((name, kind.shape, other.shape)
              for name, kind, other in both if kind.shape != other.shape),
        tuple((name, kind.dtype, other.dtype)
              for name, kind, other in both if kind.dtype != other.dtype))


def without_layers(plan: AnyRecipe, layers: Sequence[str]) -> AnyRecipe:
    """The Plan without some target layers, a head of another class count for one: they keep their
    values, which the report tells.

    `layers` are labels of target layers or of their variables ("predictions", "predictions/kernel";
    "*" stands for any text). Tensors that only they used are dropped by the same rule. Raises
    AlignmentError for a pattern that hits nothing.
    """
    hit: dict[str, str] = {}
    for pattern in layers:
        places = [
            place for place, kind in plan.targets.items() if _hits(pattern, kind.display_name)
        ]
        if not places:
            raise AlignmentError(
                f"'{pattern}' is no layer of the plan's target: give a layer as the report names "
                f"it, such as {_examples(plan)}")
        hit.update((place, f"{LEFT_OUT}: '{pattern}'") for place in places)
    left = tuple(one for one in plan.assignments if one.key not in hit)
    used = {name for one in left for name in tensors_of(one.expression)}
    dropped = {
        name: hit[one.key] for one in plan.assignments if one.key in hit
        for name in tensors_of(one.expression) if name not in used
    }
    return replace(
        plan, assignments=left, dropped={**plan.dropped, **dropped}, kept={**plan.kept, **hit},
        sources={name: kind for name, kind in plan.sources.items() if name not in dropped},
        constants=tuple(
            one for one in plan.constants if not set(tensors_of(one.expression)) & set(dropped)))


def _dropped_alike(name: str, dropped: Mapping[str, str]) -> bool:
    """A name whose last part the Plan drops wherever it occurs, such as BatchNorm's counters."""
    last = name.rpartition(".")[2]
    return any(
        other.rpartition(".")[2] == last and rule.startswith("skip_weights")
        for other, rule in dropped.items())


def _renamed(missing: Mapping[str, TensorSpec],
             extra: Mapping[str, TensorSpec]) -> tuple[tuple[str, str, TensorSpec], ...]:
    """Missing and extra tensors of one shape, type and last part whose names are nearest to each
    other, the nearest first.
    """
    by_kind: dict[tuple[tuple[int, ...], str, str], list[str]] = {}
    for name, kind in extra.items():
        by_kind.setdefault((kind.shape, kind.dtype, name.rpartition(".")[2]), []).append(name)
    near = sorted((-ratio, old, new) for old, kind in missing.items()
                  for new in by_kind.get((kind.shape, kind.dtype,
                                          old.rpartition(".")[2]), ())[:_MOST_COMPARED]
                  if (ratio := _likeness(old, new)) >= _ALIKE)
    taken: set[str] = set()
    pairs: dict[str, str] = {}
    for _, old, new in near:
        if old not in pairs and new not in taken:
            pairs[old] = new
            taken.add(new)
    return tuple((old, pairs[old], missing[old]) for old in missing if old in pairs)


def _likeness(first: str, second: str) -> float:
    if first.endswith(f".{second}") or second.endswith(f".{first}"):
        return 1.0
    return SequenceMatcher(None, first, second, autojunk=False).ratio()


def _hits(pattern: str, label: str) -> bool:
    """A pattern hits a variable by its label or by that of a layer around it."""
    parts = label.split("/")
    return any(fnmatchcase("/".join(parts[:end]), pattern) for end in range(1, len(parts) + 1))


def _examples(plan: Recipe) -> str:
    labels = dict.fromkeys(kind.display_name.rpartition("/")[0] for kind in plan.targets.values())
    return ", ".join(
        f"'{label}'" for label in list(labels)[-3:]) or "none, the plan knows no targets"
