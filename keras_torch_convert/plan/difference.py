"""A checkpoint against what a Plan expects: everything missing, extra, renamed, or of another shape
or dtype.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import SequenceMatcher
from fnmatch import fnmatchcase
from typing import TypeVar

from ..errors import AlignmentError
from ..spec.dtypes import INDEX_TYPES
from ..spec.source import Source
from ..spec.tensor_spec import TensorSpec
from .expressions import Tensor, substituted, tensors_of
from .recipe import AnyRecipe, Assignment, Constant, Recipe, Stored

AnyPart = TypeVar("AnyPart", Assignment, Constant)

# How similar two names must be to be taken for one that was renamed; the ratio of difflib.
_SIMILAR = 0.6
# Comparing all names with all takes too long where a whole net is renamed.
_MOST_COMPARED = 64
# How the rule begins by which `without_layers` lets variables keep their values.
LEFT_OUT = "left out"


@dataclass(frozen=True, slots=True)
class Difference:
    """How a source differs from what a Plan expects; True when anything does.

    Attributes:
        missing: Tensors that the Plan uses and the source lacks.
        extra: Tensors that the Plan does not know.
        renamed: Expected name and name in the source, of one shape and dtype, with similar names.
        shapes: Name, expected shape and shape in the source.
        dtypes: Name, expected dtype and dtype in the source.
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
        """True when every tensor that is needed is there in its shape; extra tensors and other
        dtypes are the executor's to judge.
        """
        return not (self.missing or self.renamed or self.shapes)

    def lines(self) -> Iterator[str]:
        """Yield one line for each difference."""
        yield from (f"missing: '{name}' {spec.shape} {spec.dtype}" for name, spec in self.missing)
        yield from (f"renamed: '{expected}' is probably '{found}' {spec.shape} {spec.dtype}"
                    for expected, found, spec in self.renamed)
        yield from (f"other shape: '{name}' is {found}, expected {expected}"
                    for name, expected, found in self.shapes)
        yield from (f"other type: '{name}' is {found}, expected {expected}"
                    for name, expected, found in self.dtypes)
        yield from (f"extra: '{name}' {spec.shape} {spec.dtype}" for name, spec in self.extra)

    def __str__(self) -> str:
        return "\n".join(self.lines()) or "no difference"


def difference(plan: Recipe, source: Source) -> Difference:
    """Compare names, shapes and dtypes of a source with those that the Plan was made from."""
    found = {name: tensor.spec for name, tensor in source.tensors.items()}
    expected = expected_of(plan, source)
    missing = {name: spec for name, spec in expected.items() if name not in found}
    extra = {
        name: spec
        for name, spec in found.items() if name not in expected and name not in plan.dropped
    }
    # Counters and indices are no weights, whether the Plan knew them or not.
    extra = {
        name: spec
        for name, spec in extra.items() if not _dropped_everywhere(name, plan.dropped) and (
            spec.dtype not in INDEX_TYPES or source.tensors[name].kind == "parameter")
    }
    renamed = _renamed(missing, extra)
    for old, new, _ in renamed:
        del missing[old], extra[new]
    both = [(name, spec, found[name]) for name, spec in expected.items() if name in found]
    return Difference(
        tuple(missing.items()), tuple(extra.items()), renamed,
        tuple((name, spec.shape, other.shape)
              for name, spec, other in both if spec.shape != other.shape),
        tuple((name, spec.dtype, other.dtype)
              for name, spec, other in both if spec.dtype != other.dtype))


def expected_of(plan: Recipe, source: Source) -> dict[str, TensorSpec]:
    """Return the tensors that a Plan needs."""
    expected = dict(plan.sources)
    for name in (
            name for assignment in plan.assignments for name in tensors_of(assignment.expression)):
        # A Plan made by hand may lack the specs: the name alone is expected then.
        if name not in expected:
            known = source.tensors.get(name)
            expected[name] = TensorSpec((), "unknown", name) if known is None else known.spec
    return expected


def with_names(plan: AnyRecipe, names: Mapping[str, str]) -> AnyRecipe:
    """Return the Plan for a source in which tensors have other names."""
    specs = {names.get(name, name): spec for name, spec in plan.sources.items()}
    return in_terms_of(plan, Stored({old: Tensor(new) for old, new in names.items()}, specs))


def for_files(plan: AnyRecipe) -> AnyRecipe:
    """Return the Plan for files that hold the tensors as the module's library stores them."""
    return plan if plan.stored is None else in_terms_of(plan, plan.stored)


def in_terms_of(plan: AnyRecipe, stored: Stored) -> AnyRecipe:
    """Return the Plan for a source that has its tensors only as expressions over others."""
    tensors = stored.expressions

    def changed(one: AnyPart) -> AnyPart:
        return replace(one, expression=substituted(one.expression, tensors))

    assignments = tuple(
        replace(changed(one), constants=tuple(map(changed, one.constants)))
        for one in plan.assignments)
    constants = tuple(map(changed, plan.constants))
    used = {name for one in assignments for name in tensors_of(one.expression)}
    used |= {name for one in constants for name in tensors_of(one.expression)}
    dropped = {
        new: rule for name, rule in plan.dropped.items()
        for new in tensors_of(tensors.get(name, Tensor(name))) if new not in used
    }
    return replace(
        plan, assignments=assignments, constants=constants, dropped=dropped, stored=None, sources={
            name: spec for name, spec in {**plan.sources, **stored.sources}.items() if name in used
        })


def without_layers(plan: AnyRecipe, layers: Sequence[str]) -> AnyRecipe:
    """Return the Plan without some layers; see `Plan.without`."""
    left_out: dict[str, str] = {}
    for pattern in layers:
        keys = [key for key, spec in plan.targets.items() if _hits(pattern, spec.display_name)]
        if not keys:
            raise AlignmentError(
                f"'{pattern}' is no layer of the plan's target: give a layer as the report names "
                f"it, such as {_examples(plan)}")
        left_out.update((key, f"{LEFT_OUT} by name: '{pattern}'") for key in keys)
    remaining = tuple(one for one in plan.assignments if one.key not in left_out)
    used = {name for one in remaining for name in tensors_of(one.expression)}
    dropped = {
        name: left_out[one.key] for one in plan.assignments if one.key in left_out
        for name in tensors_of(one.expression) if name not in used
    }
    gone = _layers_of(plan, left_out) - _layers_of(plan, [one.key for one in remaining])
    pairs = tuple(pair for pair in plan.pairs if pair[not plan.reversed] not in gone)
    return replace(
        plan, assignments=remaining, pairs=pairs, dropped={**plan.dropped, **dropped},
        kept={**plan.kept, **left_out},
        sources={name: spec for name, spec in plan.sources.items() if name not in dropped},
        constants=tuple(
            one for one in plan.constants if not set(tensors_of(one.expression)) & set(dropped)))


def _layers_of(plan: Recipe, keys: Iterable[str]) -> set[str]:
    """Return the names of the layers that variables are in, and of those around them."""
    paths = (plan.targets[key].display_name.split("/") for key in keys if key in plan.targets)
    return {"/".join(path[:end]) for path in paths for end in range(1, len(path) + 1)}


def _dropped_everywhere(name: str, dropped: Mapping[str, str]) -> bool:
    """Return whether the Plan drops the last part of a name wherever it occurs, such as BatchNorm's
    counters.
    """
    last = name.rpartition(".")[2]
    return any(
        other.rpartition(".")[2] == last and rule.startswith("skip_weights")
        for other, rule in dropped.items())


def _renamed(missing: Mapping[str, TensorSpec],
             extra: Mapping[str, TensorSpec]) -> tuple[tuple[str, str, TensorSpec], ...]:
    """Return missing and extra tensors of one shape, dtype and last part whose names are most
    similar, the most similar first.
    """
    by_spec: dict[tuple[tuple[int, ...], str, str], list[str]] = {}
    for name, spec in extra.items():
        by_spec.setdefault((spec.shape, spec.dtype, name.rpartition(".")[2]), []).append(name)
    near = sorted((-ratio, old, new) for old, spec in missing.items()
                  for new in by_spec.get((spec.shape, spec.dtype,
                                          old.rpartition(".")[2]), ())[:_MOST_COMPARED]
                  if (ratio := _similarity(old, new)) >= _SIMILAR)
    taken: set[str] = set()
    pairs: dict[str, str] = {}
    for _, old, new in near:
        if old not in pairs and new not in taken:
            pairs[old] = new
            taken.add(new)
    return tuple((old, pairs[old], missing[old]) for old in missing if old in pairs)


def _similarity(first: str, second: str) -> float:
    if first.endswith(f".{second}") or second.endswith(f".{first}"):
        return 1.0
    return SequenceMatcher(None, first, second, autojunk=False).ratio()


def _hits(pattern: str, display_name: str) -> bool:
    """Return whether a pattern names a variable or a layer around it."""
    parts = display_name.split("/")
    return any(fnmatchcase("/".join(parts[:end]), pattern) for end in range(1, len(parts) + 1))


def _examples(plan: Recipe) -> str:
    layers = dict.fromkeys(spec.display_name.rpartition("/")[0] for spec in plan.targets.values())
    return ", ".join(
        f"'{layer}'" for layer in list(layers)[-3:]) or "none, the plan knows no targets"
