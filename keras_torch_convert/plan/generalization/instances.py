"""The assignments of Plans, each as an instance of a pattern."""

from __future__ import annotations

from dataclasses import dataclass

from ...errors import PlanError
from ...spec.tensor_spec import Shape
from ..evaluation import shape_of
from ..expressions import Concat, Expression, Tensor, needs_callback
from ..recipe import Assignment, Recipe
from .index_maps import Numbers
from .names import Name, split_numbers
from .sizes import Repeated, leaves, simplified, sizes_of, without_sizes


@dataclass(frozen=True, slots=True)
class Instance:
    """One assignment of a Plan."""

    plan: int
    target: Name
    shape: Shape
    assignment: Assignment
    expression: Expression
    pattern: Expression
    # For each leaf of the pattern the first tensor, and all of them where it is repeated.
    tensors: tuple[tuple[str, ...], ...]
    names: tuple[Name, ...]


@dataclass(slots=True)
class Member:
    """One Plan with its names read."""

    number: int
    plan: Recipe
    targets: dict[str, Name]
    shapes: dict[str, Shape]
    # Tensors by form and numbers.
    forms: dict[str, dict[Numbers, str]]

    def instances(self) -> list[Instance]:
        """Return an instance for each variable. Raises PlanError for one with a callback."""
        found: dict[str, Instance] = {}
        for assignment in self.plan.assignments:
            if assignment.key in found:
                # A second layer that shares the variable takes the same values.
                continue
            where = f"'{self.plan.targets[assignment.key].display_name}'"
            if needs_callback(assignment.expression):
                raise PlanError(f"{where} needs a user's callback, which has no pattern: align "
                                "without additional_transfer, or say it with steps of a Plan")
            found[assignment.key] = self._instance(assignment)
        return list(found.values())

    def _instance(self, assignment: Assignment) -> Instance:
        expression = simplified(assignment.expression, lambda one: shape_of(one, self.shapes))
        folded = fold(expression)
        tensors: list[tuple[str, ...]] = []
        _collect(expression, folded, tensors)
        names = tuple(split_numbers(group[0]) for group in tensors)
        return Instance(self.number, self.targets[assignment.key],
                        self.plan.targets[assignment.key].shape, assignment, expression,
                        without_sizes(_as_pattern(folded)), tuple(tensors), names)


def _as_pattern(expression: Expression) -> Expression:
    if isinstance(expression, Tensor):
        return Tensor(split_numbers(expression.name).form)
    return expression.with_children(_as_pattern)


def _collect(whole: Expression, folded: Expression, found: list[tuple[str, ...]]) -> None:
    """Put the tensors of each leaf of the folded expression into `found`."""
    if isinstance(folded, Tensor):
        assert isinstance(whole, Tensor)
        found.append((whole.name,))
    elif isinstance(folded, Concat) and isinstance(folded.operands[0], Repeated):
        groups: list[list[tuple[str, ...]]] = []
        for operand in whole.children():
            groups.append([])
            _collect(operand, fold(operand), groups[-1])
        found += [tuple(name for one in leaf for name in one) for leaf in zip(*groups, strict=True)]
    else:
        for child, inside in zip(whole.children(), folded.children(), strict=True):
            _collect(child, inside, found)


def fold(expression: Expression) -> Expression:
    """Return the expression with operands that differ in one number alone as one that is repeated.
    """
    made = expression.with_children(fold)
    if not isinstance(made, Concat) or len(made.operands) < 2:
        return made
    operands = made.operands
    patterns = {without_sizes(_as_pattern(one)) for one in operands}
    if len(patterns) > 1 or len({tuple(sizes_of(one)) for one in operands}) > 1:
        return made
    names = [[split_numbers(leaf.name).numbers for leaf in leaves(one)] for one in operands]
    differing = {
        hole for leaf in zip(*names, strict=True)
        for hole in range(len(leaf[0])) if len({numbers[hole] for numbers in leaf}) > 1
    }
    if len(differing) != 1:
        return made
    (hole,) = differing
    if any([numbers[hole] - leaf[0][hole] for numbers in leaf] != list(range(len(leaf)))
           for leaf in zip(*names, strict=True)):
        return made
    return Concat((Repeated(operands[0], hole),), made.axis)
