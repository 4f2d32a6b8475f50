"""A Plan turned round: from what a Keras model holds to the torch tensors that give the same
function.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..errors import TransferError
from ..spec.tensor_spec import Shape, TensorSpec
from .casting import is_exact
from .evaluation import shape_by_kinds
from .expressions import (Add, CallbackOutput, Concat, Expression, Fill, Multiply, Norm, Overlay,
                          Permute, Resampled, Reshape, Scale, SingularVector, Slice, SliceScatter,
                          SpectralNormWeight, StdDev, Tensor, Unrepeated, Unstandardized,
                          WeightNorm, WeightStandardization, operands_of, tensors_of)
from .recipe import AnyRecipe, Assignment, Constant, Recipe


def inverted(plan: AnyRecipe) -> AnyRecipe:
    """The Plan for the other direction; see `Plan.invert`."""
    unknown = [
        f"'{name}'" for assignment in plan.assignments
        for name, kinds in ((assignment.key, plan.targets),
                            *((name, plan.sources) for name in tensors_of(assignment.expression)))
        if name not in kinds
    ]
    if unknown:
        raise TransferError(
            f"the plan does not know the shapes of {', '.join(dict.fromkeys(unknown))}, so it "
            "cannot be inverted; give it sources and "
            "targets, or make it with ktc.align(..., mapping=...)")
    inversion = _Inversion(_shapes(plan.sources), _shapes(plan.targets))
    rules: dict[str, str] = {}
    for assignment in plan.assignments:
        inversion.add(assignment.expression, Tensor(assignment.key), assignment.key)
        for name in tensors_of(assignment.expression):
            rules.setdefault(name, assignment.rule)
    for constant in plan.constants:
        shape = shape_by_kinds(constant.expression, inversion.shapes)
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
    """One sentence for each target variable whose values cannot be carried back bit for bit."""
    sentences = []
    for assignment in plan.assignments:
        target = plan.targets.get(assignment.key)
        label = target.display_name if target else assignment.key
        why = _loss(assignment.expression) or _narrowing(assignment.expression, plan.sources,
                                                         target)
        if why:
            sentences.append(f"'{label}': {why}")
    return tuple(dict.fromkeys(sentences))


def _note(name: str, expression: Expression) -> str:
    if isinstance(expression, Fill):
        return f"'{name}' has no counterpart of its own: {expression.value:g} everywhere"
    why = _loss(expression)
    return f"'{name}': {why}" if why else ""


def _loss(expression: Expression) -> str:  # # one branch for each kind of node
    """Why values cannot be had back from what the expression gives, "" when they can."""
    match expression:
        case Add():
            return ("biases were added: the sum alone is kept, and back it is the first of them, "
                    "the others are zeros")
        case WeightNorm():
            return ("weight norm: the effective weight alone is kept, and back it is the "
                    "direction with its own norm as magnitude")
        case SpectralNormWeight():
            return ("spectral norm: the effective weight alone is kept, and back it has singular "
                    "vectors of its own, right until it is trained on")
        case Resampled():
            return "the table was resized: the one before cannot be had back"
        case WeightStandardization() | Multiply() if _standardized(expression) is not None:
            return ("weight standardization: the standardized weight alone is kept, and back it "
                    "is the weight, its deviation the gain")
        case Norm() | SingularVector() | Scale() | Unstandardized() | StdDev():
            return f"{_WORDS[type(expression)]}, rounded"
        case Unrepeated():
            return _loss(expression.operand)
        case CallbackOutput():
            return "a user's callback cannot be inverted"
        case Tensor() | Fill():
            return ""
        case Multiply() if (repeated := _repeated(expression)) is not None:
            return _loss(repeated)
        case Permute() | Reshape() | Slice() | Concat() | SliceScatter() | Overlay():
            return next((why for operand in operands_of(expression) if (why := _loss(operand))), "")
        case _:
            return "a computed weight: only its value is kept"


def _repeated(expression: Multiply) -> Expression | None:
    """The operand that is only repeated, by multiplying it with ones; None when something is
    computed.
    """
    others = [
        operand
        for operand in expression.operands if not (isinstance(operand, Fill) and operand.value == 1)
    ]
    return others[0] if len(others) == 1 else None


def _standardized(expression: Expression) -> tuple[WeightStandardization, Scale | None] | None:
    """A standardized weight and its scaled gain (None without one), when that is what the
    expression is.
    """
    match expression:
        case WeightStandardization():
            return expression, None
        case Multiply(operands=(WeightStandardization() as weight,
                                Scale() as gain)) if gain.factor != 0:
            return weight, gain
        case _:
            return None


_WORDS: Mapping[type, str] = {
    Norm: "the norm", SingularVector: "a singular vector", Scale: "values times a number",
    Unstandardized: "a weight to be standardized", StdDev: "the deviation"
}


def _narrowing(expression: Expression, sources: Mapping[str, TensorSpec],
               target: TensorSpec | None) -> str:
    for name in tensors_of(expression):
        if target is not None and name in sources and not is_exact(sources[name].dtype,
                                                                   target.dtype):
            return (f"{sources[name].dtype} becomes {target.dtype}, which does not hold all of "
                    "its values")
    return ""


def _shapes(kinds: Mapping[str, TensorSpec]) -> dict[str, Shape]:
    return {name: kind.shape for name, kind in kinds.items()}


_Partial = tuple[Expression, bool]


class _Inversion:
    """Values for expressions, from the target's variables down to the source's tensors.

    An expression gets its values from whatever is made of it: everything at once, or parts of it by
    slices. The highest expressions are finished first, so that all the parts of one are known
    before they are put together.
    """
    def __init__(self, shapes: Mapping[str, Shape], value_shapes: Mapping[str, Shape]) -> None:
        self.shapes = shapes
        self.value_shapes = value_shapes
        self.whole: dict[Expression, list[Expression]] = {}
        self.parts: dict[Expression, list[Expression]] = {}
        self.values: dict[str, list[Expression]] = {}
        self.constants: list[Constant] = []
        self.problems: list[str] = []
        self.used_for: dict[Expression, str] = {}
        self.heights: dict[Expression, int] = {}
        self.waiting: dict[int, dict[Expression, None]] = {}

    def add(self, expression: Expression, value: Expression, label: str, *,
            partly: bool = False) -> None:
        """Note that `value` is what `expression` has to be, or the part of it that the value has
        entries for.
        """
        found = (self.parts if partly else self.whole).setdefault(expression, [])
        if value not in found:
            found.append(value)
        self.used_for.setdefault(expression, label)
        self.waiting.setdefault(self._height(expression), {})[expression] = None

    def run(self) -> None:
        """Take every expression apart, down to the tensors."""
        while self.waiting:
            height = max(self.waiting)
            expression, _ = self.waiting[height].popitem()
            if not self.waiting[height]:
                del self.waiting[height]
            label = self.used_for[expression]
            parts = self.parts.pop(expression, [])
            alternatives = [(value, False) for value in self.whole.pop(expression, [])]
            alternatives += self._joined(parts, isinstance(expression, Tensor))
            for value, partly in alternatives:
                try:
                    self._take_apart(expression, value, label, partly)
                except ValueError as error:
                    self.problems.append(f"'{label}': {error}")

    def _joined(self, parts: Sequence[Expression], last: bool) -> list[_Partial]:
        """The parts put together: as a concatenation when they follow each other along one axis,
        else as a merge at the end.
        """
        if not parts:
            return []
        at: dict[tuple[int, int], list[Expression]] = {}
        placed = [part for part in parts if isinstance(part, SliceScatter)]
        axes = {(part.axis, part.extent) for part in placed}
        if len(placed) == len(parts) and len(axes) == 1:
            ((axis, extent),) = axes
            for part in placed:
                stop = part.start + shape_by_kinds(part.operand, self.value_shapes)[axis]
                at.setdefault((part.start, stop), []).append(part.operand)
            ranges = sorted(at)
            ends = [0, *(stop for _, stop in ranges)]
            if all(start == end
                   for (start,
                        _), end in zip(ranges, ends[:-1], strict=True)) and ends[-1] == extent:
                count = max(len(values) for values in at.values())
                return [
                    (Concat(tuple(at[place][min(index,
                                                len(at[place]) - 1)]
                                  for place in ranges), axis), False) if len(ranges) > 1 else
                    (at[ranges[0]][index], False) for index in range(count)
                ]
        if last:
            return [(Overlay(tuple(parts)), False)]
        return [(part, True) for part in parts]

    def _take_apart(self, expression: Expression, value: Expression, label: str,
                    partly: bool) -> None:  # # one branch for each kind of node
        def add(operand: Expression, operand_value: Expression, part: bool = partly) -> None:
            self.add(operand, operand_value, label, partly=part)

        match expression:
            case Tensor():
                self.values.setdefault(expression.name, []).append(value)
            case Permute():
                perm = expression.perm
                add(expression.operand,
                    Permute(value, tuple(perm.index(axis) for axis in range(len(perm)))))
            case Reshape():
                add(expression.operand, Reshape(value, self._shape(expression.operand)))
            case Slice():
                extent = self._shape(expression.operand)[expression.axis]
                if (expression.start, expression.stop) == (0, extent):
                    add(expression.operand, value)
                else:
                    add(expression.operand,
                        SliceScatter(value, expression.axis, expression.start, extent), True)
            case Concat():
                start = 0
                for operand in expression.operands:
                    stop = start + self._shape(operand)[expression.axis]
                    add(operand, Slice(value, expression.axis, start, stop))
                    start = stop
            case SliceScatter():
                stop = expression.start + self._shape(expression.operand)[expression.axis]
                add(expression.operand, Slice(value, expression.axis, expression.start, stop))
            case _ if partly:
                raise ValueError(
                    f"only a part of what {type(expression).__name__} gives is used, so it "
                    "cannot be inverted")
            case Fill():
                self.constants.append(
                    Constant(value, expression.value, f"'{label}' has no counterpart"))
            case Add():
                add(expression.operands[0], value)
                for operand in expression.operands[1:]:
                    add(operand, Fill(0.0, self._shape(operand)))
            case Scale() if expression.factor != 0:
                add(expression.operand, Scale(value, 1 / expression.factor))
            case WeightNorm():
                add(expression.direction, value)
                norm = Norm(value, expression.axis)
                add(expression.magnitude, Reshape(norm, self._shape(expression.magnitude)))
            case SpectralNormWeight():
                add(expression.weight, value)
                add(expression.left, SingularVector(value, "left", expression.axis))
                add(expression.right, SingularVector(value, "right", expression.axis))
            case Multiply() if (repeated := _repeated(expression)) is not None:
                add(repeated, Unrepeated(value, self._shape(repeated)))
            case WeightStandardization() | Multiply() if (standardized :=
                                                          _standardized(expression)) is not None:
                weight, gain = standardized
                add(weight.weight,
                    Unstandardized(value, weight.axis, weight.epsilon, gain is not None))
                if gain is not None:
                    deviation = StdDev(value, weight.axis, weight.epsilon)
                    add(gain.operand,
                        Reshape(Scale(deviation, 1 / gain.factor), self._shape(gain.operand)))
            case Resampled():
                raise ValueError(
                    f"the table was resized from {expression.grid} to {expression.new_grid} "
                    "positions, which cannot be undone; "
                    "build the Keras model for the picture size of the torch model, or let the "
                    "table keep its values")
            case CallbackOutput():
                raise ValueError(
                    "a user's callback cannot be inverted; use the rules of the layers, or say "
                    "it with steps of a Plan")
            case _:
                raise ValueError(f"{type(expression).__name__} cannot be inverted")

    def _shape(self, expression: Expression) -> Shape:
        return shape_by_kinds(expression, self.shapes)

    def _height(self, expression: Expression) -> int:
        if expression not in self.heights:
            self.heights[expression] = 1 + max(
                (self._height(operand) for operand in operands_of(expression)), default=0)
        return self.heights[expression]
