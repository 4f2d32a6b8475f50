"""A Plan turned round: from what a Keras model holds to the torch tensors that give the same
function.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..errors import TransferError
from ..spec.tensor_spec import Shape, TensorSpec
from ..util.text import join_names
from .casting import is_exact
from .evaluation import shape_of
from .expressions import (Concat, Expression, Fill, Movement, Overlay, SliceScatter, Tensor,
                          may_have_gaps, needs_callback, tensors_of)
from .expressions.callback import NO_WAY_BACK
from .recipe import AnyRecipe, Assignment, Constant, Recipe


def inverted(plan: AnyRecipe) -> AnyRecipe:
    """Return the Plan for the other direction; see `Plan.invert`."""
    names = [(one.key, tensors_of(one.expression)) for one in plan.assignments]
    unknown = [key for key, _ in names if key not in plan.targets]
    unknown += [name for _, used in names for name in used if name not in plan.sources]
    if unknown:
        raise TransferError(
            "the plan does not know the shapes of "
            f"{join_names(dict.fromkeys(unknown), None, quoted=True)}, so it cannot be inverted; "
            "give it sources and targets, or make it with ktc.align(..., mapping=...)")
    inversion = _Inversion(_shapes(plan.sources), _shapes(plan.targets))
    rules: dict[str, str] = {}
    for assignment in plan.assignments:
        inversion.add(assignment.expression, Tensor(assignment.key), assignment.key)
        for name in tensors_of(assignment.expression):
            rules.setdefault(name, assignment.rule)
    for constant in plan.constants:
        shape = shape_of(constant.expression, inversion.shapes)
        inversion.add(constant.expression, Fill(constant.value, shape), constant.rule)
        for name in tensors_of(constant.expression):
            rules.setdefault(name, constant.rule)
    inversion.run()
    if inversion.problems:
        raise TransferError.of(list(dict.fromkeys(inversion.problems)))
    values = inversion.values
    assignments = tuple(
        Assignment(name, expression, f"{rules[name]}, inverted", note=_note(name, expression))
        for name in plan.sources if name in values for expression in values[name])
    return type(plan)(assignments, dict(plan.kept),
                      {name: rule for name, rule in plan.dropped.items() if name not in values},
                      tuple((keras, torch) for torch, keras in plan.pairs),
                      tuple(inversion.constants), plan.targets, plan.sources, not plan.reversed,
                      plan.layout)


def losses_of(plan: Recipe) -> tuple[str, ...]:
    """Return a sentence for each target variable whose values cannot come back bit for bit."""
    sentences = []
    for assignment in plan.assignments:
        target = plan.targets.get(assignment.key)
        why = assignment.expression.loss() or _narrowing(assignment.expression, plan.sources,
                                                         target)
        if why:
            sentences.append(f"'{target.display_name if target else assignment.key}': {why}")
    return tuple(dict.fromkeys(sentences))


def _note(name: str, expression: Expression) -> str:
    if isinstance(expression, Fill):
        return f"'{name}' has no counterpart of its own: {expression.value:g} everywhere"
    why = expression.loss()
    return f"'{name}': {why}" if why else ""


def _narrowing(expression: Expression, sources: Mapping[str, TensorSpec],
               target: TensorSpec | None) -> str:
    for name in tensors_of(expression):
        if target is not None and name in sources and not is_exact(sources[name].dtype,
                                                                   target.dtype):
            return (f"{sources[name].dtype} becomes {target.dtype}, which does not hold all of "
                    "its values")
    return ""


def _shapes(specs: Mapping[str, TensorSpec]) -> dict[str, Shape]:
    return {name: spec.shape for name, spec in specs.items()}


class _Inversion:
    """Values for expressions, from the target's variables down to the source's tensors.

    An expression gets its values from whatever is made of it: everything at once, or parts of it by
    slices. The highest expressions are finished first, so that all the parts of one are known
    before they are put together.
    """
    def __init__(self, shapes: Mapping[str, Shape], value_shapes: Mapping[str, Shape]) -> None:
        self.shapes = shapes
        self.value_shapes = value_shapes
        self.known: dict[Expression, list[Expression]] = {}
        self.values: dict[str, list[Expression]] = {}
        self.constants: list[Constant] = []
        self.problems: list[str] = []
        self.used_for: dict[Expression, str] = {}
        self.heights: dict[Expression, int] = {}
        self.waiting: dict[int, dict[Expression, None]] = {}

    def add(self, expression: Expression, value: Expression, display_name: str) -> None:
        """Note that `value` is what `expression` has to be, or a part of it when it has gaps."""
        found = self.known.setdefault(expression, [])
        if value not in found:
            found.append(value)
        self.used_for.setdefault(expression, display_name)
        self.waiting.setdefault(self._height(expression), {})[expression] = None

    def run(self) -> None:
        """Take every expression apart, down to the tensors."""
        while self.waiting:
            height = max(self.waiting)
            expression, _ = self.waiting[height].popitem()
            if not self.waiting[height]:
                del self.waiting[height]
            known = self.known.pop(expression, [])
            whole = [value for value in known if not may_have_gaps(value)]
            parts = [value for value in known if may_have_gaps(value)]
            for value in whole + self._joined(parts, isinstance(expression, Tensor)):
                try:
                    self._take_apart(expression, value)
                except ValueError as error:
                    self.problems.append(f"'{self.used_for[expression]}': {error}")

    def _joined(self, parts: Sequence[Expression], last: bool) -> list[Expression]:
        """Return the parts put together: as a concatenation when they follow each other along one
        axis, else as an overlay at the end.
        """
        scattered = [part for part in parts if isinstance(part, SliceScatter)]
        axes = {(part.axis, part.extent) for part in scattered}
        if len(scattered) == len(parts) and len(axes) == 1:
            ((axis, extent),) = axes
            at: dict[tuple[int, int], list[Expression]] = {}
            for part in scattered:
                stop = part.start + shape_of(part.operand, self.value_shapes)[axis]
                at.setdefault((part.start, stop), []).append(part.operand)
            ranges = sorted(at)
            if [start for start, _ in ranges] + [extent] == [0] + [stop for _, stop in ranges]:
                if len(ranges) == 1:
                    return at[ranges[0]]
                # Of tied parts there are several: each is in one of the results at least.
                return [
                    Concat(tuple(at[start][min(index,
                                               len(at[start]) - 1)] for start in ranges), axis)
                    for index in range(max(map(len, at.values())))
                ]
        return [Overlay(tuple(parts))] if last and parts else list(parts)

    def _take_apart(self, expression: Expression, value: Expression) -> None:
        display_name = self.used_for[expression]
        if isinstance(expression, Tensor):
            self.values.setdefault(expression.name, []).append(value)
        elif needs_callback(expression):
            raise ValueError(NO_WAY_BACK)
        elif may_have_gaps(value) and not isinstance(expression, Movement):
            raise ValueError(f"only a part of what {type(expression).__name__} gives is used, so "
                             "it cannot be inverted")
        elif isinstance(expression, Fill):
            self.constants.append(
                Constant(value, expression.value, f"'{display_name}' has no counterpart"))
        else:
            shapes = [shape_of(child, self.shapes) for child in expression.children()]
            for operand, operand_value in expression.invert(value, shapes):
                self.add(operand, operand_value, display_name)

    def _height(self, expression: Expression) -> int:
        if expression not in self.heights:
            self.heights[expression] = 1 + max(map(self._height, expression.children()), default=0)
        return self.heights[expression]
