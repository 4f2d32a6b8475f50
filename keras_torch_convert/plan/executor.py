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
from ..spec.source import Source, SourceTensor
from ..spec.target import Target, TargetVariable
from ..util.text import join_names
from .callbacks import apply_callbacks
from .casting import CASTABLE, Losses
from .copy_program import CopyProgram
from .coverage import AxisEntries, coverage
from .evaluation import Evaluation, check_castable
from .expressions import CallbackOutput, Expression, LayerCallback, Tensor, substituted, tensors_of
from .ledger import LedgerEntry, leftover_problems, make_ledger
from .lower_callbacks import lower_callbacks
from .plan import Plan
from .recipe import Assignment, Constant

Strict = Union[bool, Literal["target"]]


@dataclass(frozen=True, slots=True)
class _Work:
    """One variable and the expression that gives its values."""

    variable: TargetVariable
    assignment: Assignment
    evaluation: Evaluation

    def values(self) -> npt.NDArray[Any]:
        """The values in the variable's own shape and type."""
        values = self.evaluation.values(self.assignment.expression, self.variable.dtype,
                                        self.variable.display_name)
        return values.view(numpy_dtype(self.variable.dtype))

    def stored(self) -> npt.NDArray[Any]:
        """The values in C order and in their bits (bfloat16 as uint16), a view on the source where
        they are only moved.
        """
        expression, dtype = self.assignment.expression, self.variable.dtype
        view = self.evaluation.stored_view(expression, dtype)
        return self.evaluation.values(expression, dtype,
                                      self.variable.display_name) if view is None else view


@dataclass(frozen=True, slots=True)
class CheckedPlan:
    """A Plan that was checked from end to end: from here on nothing but the machine can fail.

    `ledger` has one status for every source tensor and every target variable, `warnings` what was
    rounded and what cannot be proven, `callback_hits` the Keras layers by key of
    additional_transfer that was called for them.
    """

    ledger: tuple[LedgerEntry, ...]
    warnings: tuple[str, ...]
    callback_hits: Mapping[str, tuple[str, ...]]
    _work: tuple[_Work, ...] = field(repr=False)
    _plan: Plan = field(repr=False)
    _check: _Check = field(repr=False)

    @property
    def depends_on_values(self) -> bool:
        """Whether the checks had to look at values, or would come out otherwise for others of the
        same names, shapes and types.
        """
        return self._check.evaluation.reads > 0

    def for_source(self, source: Source) -> CheckedPlan:
        """The same for another source of the same tensors, ties included, without checking again;
        only where `depends_on_values` is False.
        """
        check = _Check(source, self._check.target)
        check.evaluation.programs = self._check.evaluation.programs
        work = tuple([_Work(one.variable, one.assignment, check.evaluation) for one in self._work])
        return CheckedPlan(self.ledger, self.warnings, self.callback_hits, work, self._plan, check)

    def arrays(self) -> Iterator[tuple[TargetVariable, npt.NDArray[Any]]]:
        """Each assigned variable with its values, computed when asked for, in the target's order.

        The arrays have the variable's shape and type (bfloat16 as ml_dtypes.bfloat16) and share no
        memory with the source.
        """
        for work in self._work:
            yield work.variable, work.values()

    def lower_callbacks(self) -> tuple[Plan, tuple[str, ...]]:
        """The Plan, with what its callbacks did as steps where they only moved values, and why
        others stay (recorded_plan.py).

        Calls them twice more, on numbers.
        """
        check = self._check
        dtypes = {place: variable.dtype for place, variable in check.variables.items()}
        aliases = check.target.aliases
        return lower_callbacks(self._plan, check.callback_kinds, check.evaluation,
                               lambda place: dtypes[aliases.get(place, place)])

    def by_key(self) -> dict[str, Callable[[], npt.NDArray[Any]]]:
        """For each place the function that gives its values in C order, of the variable's size but
        of any shape.

        bfloat16 comes as its bits, and what is only moved as a read-only view on the source.
        """
        return {work.variable.key: work.stored for work in self._work}


def check_plan(plan: Plan, source: Source, target: Target, *, strict: Strict = True) -> CheckedPlan:
    """Check that `plan` can be applied, completely: names, shapes, types, casts; callbacks are run
    here, on fresh arrays.

    `strict=True` refuses tensors and variables that the Plan neither uses nor excuses, "target"
    variables only, False neither. Reads values only for callbacks, computations, constants, casts
    that may lose something, and to compare what would go to one place. Writes nothing. Raises
    TransferError with everything that is wrong in `.problems`, and ValueError for another `strict`;
    what a callback raises comes through as it is.
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
    doubts = tuple(dict.fromkeys(item.assignment.doubt for item in work if item.assignment.doubt))
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
        self.callback_kinds: dict[LayerCallback, list[tuple[tuple[int, ...], np.dtype[Any]]]] = {}
        self.evaluation = Evaluation(source)

    @cached_property
    def first_tensor(self) -> dict[str, Tensor]:
        """For each name of a tied tensor the one that stands for all."""
        return {name: Tensor(group[0]) for group in self.source.tied for name in group}

    def run(self, plan: Plan) -> tuple[_Work, ...]:
        """All that can be computed, in the target's order."""
        named = [
            name for expression in (*(assignment.expression for assignment in plan.assignments),
                                    *(constant.expression for constant in plan.constants))
            for name in tensors_of(expression)
        ]
        # What is dropped may be missing: nothing of it is wanted. Another file of the same
        # architecture lacks counters, for one.
        for name in dict.fromkeys(named):
            if name not in self.source:
                self.problems.append(
                    f"the plan names a tensor '{name}' that {self.source.origin} does not have")
        for place in plan.kept:
            if self.target.aliases.get(place, place) not in self.variables:
                self.problems.append(
                    f"the plan keeps a variable '{place}' that {self.target.in_words} does not have"
                )
        for constant in plan.constants:
            self._constant(constant)
        work = self._once(plan)
        order = {place: index for index, place in enumerate(self.variables)}
        return tuple(sorted(work, key=lambda item: order[item.variable.key]))

    def _once(self, plan: Plan) -> list[_Work]:
        """The work of each place once; a second assignment must give the same values."""
        found: dict[str, _Work | None] = {}
        for assignment in plan.assignments:
            place = self.target.aliases.get(assignment.key, assignment.key)
            variable = self.variables.get(place)
            if variable is None:
                self.problems.append(
                    f"the plan sets a variable '{assignment.key}' that {self.target.in_words} "
                    "does not have")
            elif place in plan.kept:
                self.problems.append(f"the plan both sets and keeps '{variable.display_name}'")
            elif place not in found:
                found[place] = self._work(variable, assignment)
            else:
                self._compare(found[place], variable, assignment)
        return [item for item in found.values() if item is not None]

    def _compare(self, first: _Work | None, variable: TargetVariable,
                 assignment: Assignment) -> None:
        """Note a problem unless the assignment gives the values that the first one gives, tied or
        equal by value.
        """
        if first is None:
            return
        one, other = (substituted(each.expression, self.first_tensor)
                      for each in (first.assignment, assignment))
        if one == other:
            return
        second = self._work(variable, assignment)
        if second is None:
            return
        if not _equal_bits(first.values(), second.values()):
            self.problems.append(
                f"'{variable.display_name}' would be set twice, from "
                f"{_sources_text(first.assignment)} and from {_sources_text(assignment)}, whose "
                "values differ; "
                "layers that share a variable take it from one tensor: align only one of them")

    def _work(self, variable: TargetVariable, assignment: Assignment) -> _Work | None:
        """The work for one variable, None when there is a problem with it (noted) or with its
        callback (noted there).
        """
        expression = assignment.expression
        if not self._available(expression):
            return None
        try:
            shape = self.evaluation.shape(expression)
            if shape != variable.shape:
                raise ValueError(
                    f"the variable has shape {variable.shape}, the values would have {shape}")
            self.evaluation.check_types(expression, variable.dtype)
            if not self.evaluation.is_exact(expression, variable.dtype):
                self.evaluation.values(expression, variable.dtype, variable.display_name,
                                       self.losses)
        except ValueError as error:
            self.problems.append(
                f"'{variable.display_name}' from {_sources_text(assignment)}: {error}")
            return None
        return _Work(variable, assignment, self.evaluation)

    def _available(self, expression: Expression) -> bool:
        """True when all tensors are there and all callbacks gave what they should; runs the
        callbacks.
        """
        if isinstance(expression, Tensor):
            return expression.name in self.source
        if isinstance(expression, CallbackOutput):
            results = self._results(expression.callback)
            return results is not None and expression.index < len(results)
        # A list, so that every callback is run and every problem found.
        return all([self._available(operand) for operand in expression.children()])  # noqa: C419

    def equal_by_value(self, plan: Plan, ledger: tuple[LedgerEntry, ...]) -> dict[str, str]:
        """For tensors that are left over: the used tensor of the very same values, such as an
        untied copy of an embedding.

        Vectors are not looked at, and neither is what has one value only: they are equal by chance
        too often.
        """
        used = {
            name for assignment in plan.assignments for name in tensors_of(assignment.expression)
        }
        candidates = [tensor for tensor in self.source.tensors.values() if tensor.name in used]
        found: dict[str, str] = {}
        for entry in ledger:
            tensor = self.source.tensors.get(entry.name)
            if entry.status != "left over" or tensor is None or len(tensor.shape) < 2:
                continue
            like = [
                one for one in candidates if (one.shape, one.dtype) == (tensor.shape, tensor.dtype)
            ]
            values = self.evaluation.read(tensor) if like else None
            if values is None or not values.size or (values == values.flat[0]).all():
                continue
            twin = next(
                (one.name for one in like if _equal_bits(self.evaluation.read(one), values)), None)
            if twin is not None:
                found[tensor.name] = twin
        return found

    def unused_parts(self, plan: Plan) -> list[str]:
        """A problem for each tensor of which only a part is used."""
        problems = []
        for name, regions in self._taken(plan).items():
            tensor = self.source[name]
            missing = tensor.size - coverage(tensor.shape, regions).covered
            if missing and name not in plan.dropped:
                problems.append(
                    f"{missing} of {tensor.size} values of '{tensor.display_name or name}' "
                    f"{tensor.shape} are left over: give all of its parts a place, "
                    "or let all leftovers be with strict=False")
        return problems

    def _taken(self, plan: Plan) -> dict[str, list[tuple[AxisEntries, ...]]]:
        """For each tensor of which some expression takes a slice: the regions that are used, or
        that are checked to be a constant.
        """
        layouts: list[CopyProgram] = []
        pending = [assignment.expression for assignment in plan.assignments]
        pending += [constant.expression for constant in plan.constants]
        while pending:
            layouts.append(self.evaluation.program(pending.pop()))
            pending += [operand for base in layouts[-1].bases for operand in base.children()]
        uses = [(self.first_tensor.get(base.name, base).name, region) for layout in layouts
                for region in layout.regions
                if isinstance(base := layout.bases[region.base], Tensor)]
        taken: dict[str, list[tuple[AxisEntries, ...]]] = {
            name: [] for name, region in uses if region.size < self.source[name].size
        }
        for name, region in uses:
            if name in taken:
                taken[name].append(region.base_entries())
        return taken

    def _constant(self, constant: Constant) -> None:
        if not self._available(constant.expression):
            return
        names = ", ".join(f"'{name}'" for name in tensors_of(constant.expression))
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

    def _results(self, callback: LayerCallback) -> list[npt.NDArray[Any]] | None:
        """What the user's calls on one layer returned, run once; None when they could not be run or
        returned the wrong number.
        """
        results = self.evaluation.results
        if callback not in results:
            results[callback] = self._called(callback)
        return results[callback]

    def _called(self, callback: LayerCallback) -> list[npt.NDArray[Any]] | None:
        operands = []
        for operand in callback.operands:
            name = tensors_of(operand)[0]
            try:
                if name not in self.source:
                    return None
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
        if len(results) != callback.count:
            keys = ", ".join(call.key for call in callback.calls)
            self.problems.append(
                f"layer '{callback.layer}' has {callback.count} variables, its callbacks "
                f"({keys}) returned {len(results)} arrays "
                f"of shapes {[array.shape for array in results]}; return one for each, in the "
                "order of get_weights")
            return None
        return results

    def _operand(self, expression: Expression, tensor: SourceTensor) -> npt.NDArray[Any]:
        """A fresh array for a callback: float32 as torch values are given to it, or the own type of
        a NumPy array.
        """
        wanted = tensor.dtype if tensor.from_array and _numpy_has(tensor.dtype) else "float32"
        check_castable(tensor.dtype, wanted)
        return self.evaluation.values(expression, wanted, tensor.name, self.losses)


def _equal_bits(first: npt.NDArray[Any], second: npt.NDArray[Any]) -> bool:
    return first.tobytes() == second.tobytes()


def _sources_text(assignment: Assignment) -> str:
    return join_names(tensors_of(assignment.expression), None, quoted=True, empty="nothing")


def _numpy_has(dtype: str) -> bool:
    return dtype in CASTABLE and dtype != "bfloat16"
