"""The one way for weights to travel: check a whole Plan against both sides, then give the values
variable by variable.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, Union

import numpy as np
import numpy.typing as npt

from ..errors import TransferError
from ..spec.dtypes import numpy_dtype
from ..spec.source import Source, SourceTensor, expect
from ..spec.target import Target, TargetVariable
from ..util.mapped_memory import in_memory
from ..util.text import join_names
from ..util.values_at_offsets import Streamed
from .callback_tracing import ArraySpec
from .callbacks import apply_callbacks
from .casting import CASTABLE, Losses
from .coverage import AxisEntries, coverage
from .evaluation import Copies, Evaluation, check_castable
from .expressions import CallbackOutput, Expression, LayerCallback, Tensor, substituted, tensors_of
from .ledger import LedgerEntry, leftover_problems, make_ledger
from .lower_callbacks import lower_callbacks
from .plan import Plan
from .recipe import Assignment, Constant, expressions_of, tensors_read

Array = npt.NDArray[Any]
Strict = Union[bool, Literal["target"]]


@dataclass(frozen=True, slots=True)
class _Work:
    """One variable and the expression that gives its values."""

    variable: TargetVariable
    assignment: Assignment
    evaluation: Evaluation

    def values(self, into: Array | None = None) -> Array:
        """Return the values in the variable's own shape and dtype; see `CheckedPlan.writes`."""
        return self._computed(into).view(numpy_dtype(self.variable.dtype))

    def stored(self) -> Streamed:
        """Return the values in C order and in their bits (bfloat16 as uint16), a view on the source
        where they are only moved or widened.
        """
        expression, dtype = self.assignment.expression, self.variable.dtype
        view = self.evaluation.stored_view(expression, dtype)
        return self._computed() if view is None else view

    def copies(self, into: Array) -> Copies | None:
        """Return the copies that put the values into an array; see `Evaluation.copies`."""
        return self.evaluation.copies(self.assignment.expression, self.variable.dtype, into)

    def _computed(self, into: Array | None = None) -> Array:
        variable = self.variable
        return self.evaluation.values(self.assignment.expression, variable.dtype,
                                      variable.display_name, into=into)


@dataclass(frozen=True, slots=True)
class CheckedPlan:
    """A Plan that was checked from end to end: from here on nothing but the machine can fail.

    Attributes:
        ledger: One status for every source tensor and every target variable.
        warnings: What was rounded and what cannot be proven.
        callback_hits: Keras layers by key of additional_transfer that was called for them.
    """

    ledger: tuple[LedgerEntry, ...]
    warnings: tuple[str, ...]
    callback_hits: Mapping[str, tuple[str, ...]]
    _work: tuple[_Work, ...] = field(repr=False)
    _plan: Plan = field(repr=False)
    _check: _Check = field(repr=False)

    @property
    def depends_on_values(self) -> bool:
        """Whether other values of the same names, shapes and dtypes might not pass the checks."""
        return self._check.evaluation.reads > 0

    def for_source(self, source: Source) -> CheckedPlan:
        """Return the same for another source of the same tensors, ties included, unchecked.

        Only where `depends_on_values` is False.
        """
        check = _Check(source, self._check.target)
        check.evaluation.programs = self._check.evaluation.programs
        work = tuple([_Work(one.variable, one.assignment, check.evaluation) for one in self._work])
        return CheckedPlan(self.ledger, self.warnings, self.callback_hits, work, self._plan, check)

    def arrays(self) -> Iterator[tuple[TargetVariable, Array]]:
        """Yield each assigned variable with its values, computed only then, in the target's order.

        The arrays have the variable's shape and dtype (bfloat16 as ml_dtypes.bfloat16) and share no
        memory with the source.
        """
        for work in self._work:
            yield work.variable, work.values()

    def writes(self) -> Iterator[tuple[TargetVariable, Callable[[Array | None], Array]]]:
        """Yield each assigned variable with the function that gives its values, in the target's
        order.

        The function takes an array of the variable's shape (bfloat16 as its bits) in which the
        values are put where that can be done, or None, and returns them.
        """
        for work in self._work:
            yield work.variable, work.values

    def copies(self) -> Iterator[tuple[TargetVariable, Callable[[Array], Copies | None]]]:
        """Yield each assigned variable with the function that gives, for an array like that of
        `writes`, what is to be copied where; None where it takes more than copies.
        """
        for work in self._work:
            yield work.variable, work.copies

    def by_key(self) -> dict[str, Callable[[], Streamed]]:
        """Return for each key the function that gives its values, in C order and of any shape.

        bfloat16 comes as its bits, and what is only moved or widened as a read-only view on the
        source.
        """
        return {work.variable.key: work.stored for work in self._work}

    def lower_callbacks(self) -> tuple[Plan, tuple[str, ...]]:
        """Return the Plan with steps for callbacks that only moved values, and why others stay.

        Calls them twice more, on numbers.
        """
        check = self._check
        return lower_callbacks(self._plan, check.callback_kinds, check.evaluation,
                               lambda key: check.variables[check.key_of(key)].dtype)


def check_plan(plan: Plan, source: Source, target: Target, *, strict: Strict = True) -> CheckedPlan:
    """Check that a Plan can be applied, completely: names, shapes, dtypes, casts, callbacks.

    Reads values only for callbacks, computations, constants, casts that may lose something, and to
    compare what would go to one variable. Writes nothing.

    Args:
        plan: The Plan.
        source: Where values come from.
        target: Where they are to go.
        strict: True refuses tensors and variables that the Plan neither uses nor excuses, "target"
            variables only, False neither.

    Returns:
        The Plan with everything that is needed to apply it.

    Raises:
        TransferError: Something is wrong; `.problems` has everything.
        ValueError: `strict` is none of the three.
    """
    if not isinstance(strict, bool) and strict != "target":
        raise ValueError(f'strict must be True, False or "target", got {strict!r}')
    check = _Check(source, target)
    work = check.run(plan)
    ledger = make_ledger(plan, source, target)
    if any(entry.status == "left over" for entry in ledger):
        ledger = make_ledger(plan, source, target, check.equal_by_value(plan, ledger))
    check.problems += leftover_problems(ledger, target, strict)
    if strict is True and not check.problems:
        check.problems += check.unused_parts(plan)
    if check.problems:
        raise TransferError.of(check.problems)
    doubts = tuple(dict.fromkeys(one.assignment.doubt for one in work if one.assignment.doubt))
    return CheckedPlan(ledger, (*check.losses.sentences(), *doubts), check.hits, work, plan, check)


class _Check:
    """The checks of one Plan, and the problems that they found."""
    def __init__(self, source: Source, target: Target) -> None:
        self.source = source
        self.target = target
        self.variables = target.variables
        self.problems: list[str] = []
        self.losses = Losses()
        self.hits: dict[str, tuple[str, ...]] = {}
        self.callback_kinds: dict[LayerCallback, list[ArraySpec]] = {}
        self.evaluation = Evaluation(source)

    @cached_property
    def first_tensor(self) -> dict[str, Tensor]:
        """For each name of a tied tensor the one that stands for all."""
        return {name: Tensor(group[0]) for group in self.source.tied for name in group}

    def key_of(self, key: str) -> str:
        """Return the key that counts for a variable, which may be tied to another one."""
        return self.target.aliases.get(key, key)

    def run(self, plan: Plan) -> tuple[_Work, ...]:
        """Return all that can be computed, in the target's order."""
        # What is dropped may be missing: nothing of it is wanted. Another file of the same
        # architecture lacks counters, for one.
        named = tensors_read(plan)
        self.problems += [
            f"the plan names a tensor '{name}' that {self.source.origin} does not have"
            for name in named if name not in self.source
        ]
        expect(self.source, named)
        self.problems += [
            f"the plan keeps a variable '{key}' that {self.target.description} does not have"
            for key in plan.kept if self.key_of(key) not in self.variables
        ]
        for constant in plan.constants:
            self._constant(constant)
        found: dict[str, _Work | None] = {}
        for assignment in plan.assignments:
            self._assign(assignment, plan, found)
        return tuple(work for key in self.variables if (work := found.get(key)) is not None)

    def _assign(self, assignment: Assignment, plan: Plan, found: dict[str, _Work | None]) -> None:
        """Note the work for a variable; a second assignment must give the same values."""
        key = self.key_of(assignment.key)
        variable = self.variables.get(key)
        if variable is None:
            self.problems.append(
                f"the plan sets a variable '{assignment.key}' that {self.target.description} does "
                "not have")
        elif key in plan.kept:
            self.problems.append(f"the plan both sets and keeps '{variable.display_name}'")
        elif key not in found:
            found[key] = self._work(variable, assignment)
        elif (first := found[key]) is not None and not self._agree(first, assignment):
            self.problems.append(
                f"'{variable.display_name}' would be set twice, from "
                f"{_sources_text(first.assignment)} and from {_sources_text(assignment)}, whose "
                "values differ; layers that share a variable take it from one tensor: align only "
                "one of them")

    def _agree(self, first: _Work, assignment: Assignment) -> bool:
        """Return whether both assignments give the same values, tied or equal by value."""
        one, other = (substituted(each.expression, self.first_tensor)
                      for each in (first.assignment, assignment))
        if one == other:
            return True
        second = self._work(first.variable, assignment)
        return second is None or _equal_bits(first.values(), second.values())

    def _work(self, variable: TargetVariable, assignment: Assignment) -> _Work | None:
        """Return the work for one variable, None when there is a problem, which is noted."""
        expression = assignment.expression
        if not self._available(expression):
            return None
        try:
            shape = self.evaluation.shape(expression)
            if shape != variable.shape:
                raise ValueError(
                    f"the variable has shape {variable.shape}, the values would have {shape}")
            self.evaluation.check_dtypes(expression, variable.dtype)
            if not self.evaluation.is_exact(expression, variable.dtype):
                self.evaluation.values(expression, variable.dtype, variable.display_name,
                                       self.losses)
        except ValueError as error:
            self.problems.append(
                f"'{variable.display_name}' from {_sources_text(assignment)}: {error}")
            return None
        return _Work(variable, assignment, self.evaluation)

    def _available(self, expression: Expression) -> bool:
        """Return whether all tensors are there and all callbacks gave what they should; runs the
        callbacks.
        """
        if isinstance(expression, Tensor):
            return expression.name in self.source
        if isinstance(expression, CallbackOutput):
            results = self.evaluation.results
            if expression.callback not in results:
                results[expression.callback] = self._called(expression.callback)
            found = results[expression.callback]
            return found is not None and expression.index < len(found)
        # A list, so that every callback is run and every problem found.
        return all([self._available(operand) for operand in expression.children()])  # noqa: C419

    def equal_by_value(self, plan: Plan, ledger: tuple[LedgerEntry, ...]) -> dict[str, str]:
        """Return for tensors that are left over the used tensor of the very same values, such as an
        untied copy of an embedding.

        Vectors are not looked at, and neither is what has one value only: they are equal by chance
        too often.
        """
        used = dict.fromkeys(name for one in plan.assignments
                             for name in tensors_of(one.expression) if name in self.source)
        found: dict[str, str] = {}
        for entry in ledger:
            tensor = self.source.tensors.get(entry.name)
            if entry.status != "left over" or tensor is None or len(tensor.shape) < 2:
                continue
            alike = [
                one for name in used
                if ((one := self.source[name]).shape, one.dtype) == (tensor.shape, tensor.dtype)
            ]
            values = in_memory(self.evaluation.read(tensor)) if alike and tensor.size else None
            if values is None or (values == values.flat[0]).all():
                continue
            for one in alike:
                if _equal_bits(in_memory(self.evaluation.read(one)), values):
                    found[tensor.name] = one.name
                    break
        return found

    def unused_parts(self, plan: Plan) -> list[str]:
        """Return a problem for each tensor that is used only in part, and the rest of which is not
        checked to be a constant.
        """
        taken: dict[str, list[tuple[AxisEntries, ...]]] = {}
        partly: dict[str, None] = {}
        for own_name, region in self.evaluation.regions_read(expressions_of(plan)):
            name = self.first_tensor.get(own_name, Tensor(own_name)).name
            taken.setdefault(name, []).append(region.base_entries())
            if region.size < self.source[name].size:
                partly[name] = None
        problems = []
        for tensor in map(self.source.__getitem__, partly):
            missing = tensor.size - coverage(tensor.shape, taken[tensor.name]).covered
            if missing and tensor.name not in plan.dropped:
                problems.append(
                    f"{missing} of {tensor.size} values of '{tensor.display_name or tensor.name}' "
                    f"{tensor.shape} are left over, {self._takers(plan, tensor.name)}: give all of "
                    "its parts a place, build both models with the same sizes, or let all "
                    "leftovers be with strict=False")
        return problems

    def _takers(self, plan: Plan, name: str) -> str:
        """Return which variables take parts of a tensor, with their shapes."""
        found = (self.variables.get(self.key_of(one.key))
                 for one in plan.assignments if name in tensors_of(one.expression))
        return join_names([f"'{one.display_name}' {one.shape}" for one in found if one],
                          3) + " has the others"

    def _constant(self, constant: Constant) -> None:
        if not self._available(constant.expression):
            return
        names = join_names(tensors_of(constant.expression), None, quoted=True)
        try:
            values = self.evaluation.values(constant.expression, "float64", names)
        except ValueError as error:
            self.problems.append(f"{names}: {error}")
            return
        others = int(np.count_nonzero(values != constant.value))
        if others:
            self.problems.append(
                f"{constant.rule}: {names} may be left out only when every value is "
                f"{constant.value:g}, {others} of {values.size} are not")

    def _called(self, callback: LayerCallback) -> list[Array] | None:
        """Return what the user's calls on one layer give; None when they cannot be run or give the
        wrong number of arrays, which is noted.
        """
        operands = []
        for operand in callback.operands:
            name = tensors_of(operand)[0]
            if name not in self.source:
                return None
            try:
                operands.append(self._operand(operand, self.source[name]))
            except ValueError as error:
                self.problems.append(
                    f"'{name}' for the callbacks of layer '{callback.layer}': {error}")
                return None
        self.callback_kinds[callback] = [(operand.shape, operand.dtype) for operand in operands]
        calls = [(call.key, call.function) for call in callback.calls]
        try:
            results = apply_callbacks(callback.layer, operands, calls)
        except TransferError as error:
            self.problems.append(str(error))
            return None
        for call in callback.calls:
            self.hits[call.key] = (*self.hits.get(call.key, ()), callback.layer)
        if len(results) == callback.count:
            return results
        keys = ", ".join(call.key for call in callback.calls)
        self.problems.append(
            f"layer '{callback.layer}' has {callback.count} variables, its callbacks ({keys}) "
            f"returned {len(results)} arrays of shapes {[array.shape for array in results]}; "
            "return one for each, in the order of get_weights")
        return None

    def _operand(self, expression: Expression, tensor: SourceTensor) -> Array:
        """Return a fresh array for a callback: float32 as torch values are given to it, or the own
        dtype of a NumPy array.
        """
        numpy_has = tensor.dtype in CASTABLE and tensor.dtype != "bfloat16"
        wanted = tensor.dtype if tensor.from_array and numpy_has else "float32"
        check_castable(tensor.dtype, wanted)
        return self.evaluation.values(expression, wanted, tensor.name, self.losses)


def _equal_bits(first: Array, second: Array) -> bool:
    return first.tobytes() == second.tobytes()


def _sources_text(assignment: Assignment) -> str:
    return join_names(tensors_of(assignment.expression), None, quoted=True, empty="nothing")
