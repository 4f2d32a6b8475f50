"""The one way for weights to travel: check a whole Plan against both sides, then give the values variable by variable."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Union

import numpy.typing as npt

from .. import _core
from ..errors import SourceError, TransferError
from ..plan import Assignment, CallbackOutput, Expression, LayerCallback, Plan, Tensor, base_of, tensors_of
from ..read.dtypes import native
from ..read.source import Source, SourceTensor
from ..read.target import Target, TargetVariable
from ..report import LedgerEntry
from ..save.values import numpy_dtype
from .casting import CASTABLE, Losses, cast, is_exact
from .combining import combined, combined_shape
from .layer import all_problems
from .ledger import leftover_problems, make_ledger
from .movement import Layout, compile_layout, move

Strict = Union[bool, Literal["target"]]


@dataclass(frozen=True, slots=True)
class _Work:
    """What is needed to compute one variable: its tensor and layout, or the finished values of a callback."""

    variable: TargetVariable
    assignment: Assignment
    layout: Layout | None = None
    tensor: SourceTensor | None = None
    finished: npt.NDArray[Any] | None = None
    parts: Mapping[str, SourceTensor] | None = None

    def values(self) -> npt.NDArray[Any]:
        """The values in the variable's own shape and type."""
        values = self.finished
        if self.parts is not None:
            parts = {
                name: cast(_read(tensor), tensor.dtype, self.variable.dtype, self.variable.label)
                for name, tensor in self.parts.items()
            }
            values = combined(self.assignment.expression, parts)
        elif values is None:
            assert self.tensor is not None
            assert self.layout is not None
            values = move(
                self.layout, cast(_read(self.tensor), self.tensor.dtype, self.variable.dtype, self.variable.label)
            )
        return values.view(numpy_dtype(self.variable.dtype))


@dataclass(frozen=True, slots=True)
class Prepared:
    """A Plan that was checked from end to end: from here on nothing but the machine can fail.

    `ledger` has one fate for every source tensor and every target variable, `warnings` what was rounded and what
    cannot be proven, `callback_hits` the Keras layers by key of additional_transfer that was called for them.
    """

    ledger: tuple[LedgerEntry, ...]
    warnings: tuple[str, ...]
    callback_hits: Mapping[str, tuple[str, ...]]
    _work: tuple[_Work, ...] = field(repr=False)

    def arrays(self) -> Iterator[tuple[TargetVariable, npt.NDArray[Any]]]:
        """Each assigned variable with its values, computed when asked for, in the target's order.

        The arrays have the variable's shape and type (bfloat16 as ml_dtypes.bfloat16) and share no memory with the source.
        """
        for work in self._work:
            yield work.variable, work.values()


def prepare(plan: Plan, source: Source, target: Target, *, strict: Strict = True) -> Prepared:
    """Check that `plan` can be applied, completely: names, shapes, types, casts; callbacks are run here, on fresh arrays.

    `strict=True` refuses tensors and variables that the Plan neither uses nor excuses, "target" variables only, False
    neither. Reads values only for callbacks and for casts that may lose something. Writes nothing.
    Raises TransferError with everything that is wrong in `.problems`; what a callback raises comes through as it is.
    """
    check = _Check(source, target.variables)
    work = check.run(plan)
    ledger = make_ledger(plan, source, target)
    check.problems += leftover_problems(ledger, target, strict)
    if check.problems:
        raise all_problems(check.problems)
    doubts = tuple(dict.fromkeys(item.assignment.doubt for item in work if item.assignment.doubt))
    return Prepared(ledger, (*check.losses.sentences(), *doubts), check.hits, work)


class _Check:
    """The checks of one Plan, and the problems that they found."""

    def __init__(self, source: Source, variables: Mapping[str, TargetVariable]) -> None:
        self.source = source
        self.variables = variables
        self.problems: list[str] = []
        self.losses = Losses()
        self.hits: dict[str, tuple[str, ...]] = {}
        self.first_name = {name: group[0] for group in source.tied for name in group}
        self.results: dict[LayerCallback, list[npt.NDArray[Any]] | None] = {}

    def run(self, plan: Plan) -> tuple[_Work, ...]:
        """All that can be computed, in the target's order."""
        for name in (
            *plan.dropped,
            *(name for assignment in plan.assignments for name in tensors_of(assignment.expression)),
        ):
            if name not in self.source:
                self.problems.append(f"the plan names a tensor '{name}' that {self.source.origin} does not have")
        for place in plan.kept:
            if place not in self.variables:
                self.problems.append(f"the plan keeps a variable '{place}' that the Keras model does not have")
        work = [item for assignment in self._once(plan) if (item := self._work(assignment)) is not None]
        order = {place: index for index, place in enumerate(self.variables)}
        return tuple(sorted(work, key=lambda item: order[item.variable.place]))

    def _once(self, plan: Plan) -> list[Assignment]:
        """The assignments with each place once; a second one must give the same values."""
        found: dict[str, Assignment] = {}
        for assignment in plan.assignments:
            variable = self.variables.get(assignment.place)
            if variable is None:
                self.problems.append(
                    f"the plan sets a variable '{assignment.place}' that the Keras model does not have"
                )
            elif assignment.place in plan.kept:
                self.problems.append(f"the plan both sets and keeps '{variable.label}'")
            elif assignment.place not in found:
                found[assignment.place] = assignment
            elif self._untied(found[assignment.place].expression) != self._untied(assignment.expression):
                self.problems.append(
                    f"'{variable.label}' would be set twice, from {_listed(found[assignment.place])} and from {_listed(assignment)}; "
                    "layers that share a variable take it from one tensor: align only one of them"
                )
        return list(found.values())

    def _untied(self, expression: Expression) -> tuple[object, ...]:
        """What an expression computes, equal for tied tensors."""
        base = base_of(expression)
        if not isinstance(base, Tensor) or base.name not in self.source:
            return (expression,)
        try:
            return self.first_name.get(base.name, base.name), compile_layout(expression, self.source[base.name].shape)
        except ValueError:
            return (expression,)

    def _work(self, assignment: Assignment) -> _Work | None:
        """The work for one variable, None when there is a problem with it (noted) or with its callback (noted there)."""
        variable = self.variables[assignment.place]
        base = base_of(assignment.expression)
        where = f"'{variable.label}' from {_listed(assignment)}"
        if isinstance(base, Tensor):
            tensor = self.source.tensors.get(base.name)
            base_shape, base_type = (tensor.shape, tensor.dtype) if tensor else ((), "")
            if tensor is None:
                return None
            array = None
        elif not isinstance(base, CallbackOutput):
            return self._combination(variable, assignment, where)
        else:
            tensor = None
            results = self._results(base.callback)
            if results is None or base.index >= len(results):
                return None
            array = results[base.index]
            base_shape, base_type = array.shape, array.dtype.name
        try:
            layout = compile_layout(assignment.expression, base_shape)
            if layout.shape != variable.shape:
                raise ValueError(f"the variable has shape {variable.shape}, the values would have {layout.shape}")
            _check_types(base_type, variable.dtype)
            if array is not None:
                moved = array if base is assignment.expression else move(layout, array)
                finished = cast(moved, base_type, variable.dtype, variable.label, self.losses)
                return _Work(variable, assignment, finished=finished)
            assert tensor is not None
            if not is_exact(tensor.dtype, variable.dtype):
                cast(_read(tensor), tensor.dtype, variable.dtype, variable.label, self.losses)
        except ValueError as error:
            self.problems.append(f"{where}: {error}")
            return None
        return _Work(variable, assignment, layout, tensor)

    def _combination(self, variable: TargetVariable, assignment: Assignment, where: str) -> _Work | None:
        """The work for a variable that is made of slices, joined tensors or sums; None when there is a problem with it (noted)."""
        names = tensors_of(assignment.expression)
        if any(name not in self.source for name in names):
            return None
        parts = {name: self.source[name] for name in names}
        try:
            shape = combined_shape(assignment.expression, {name: tensor.shape for name, tensor in parts.items()})
            if shape != variable.shape:
                raise ValueError(f"the variable has shape {variable.shape}, the values would have {shape}")
            for tensor in parts.values():
                _check_types(tensor.dtype, variable.dtype)
                if not is_exact(tensor.dtype, variable.dtype):
                    cast(_read(tensor), tensor.dtype, variable.dtype, variable.label, self.losses)
        except ValueError as error:
            self.problems.append(f"{where}: {error}")
            return None
        return _Work(variable, assignment, parts=parts)

    def _results(self, callback: LayerCallback) -> list[npt.NDArray[Any]] | None:
        """What the user's calls on one layer returned, run once; None when they could not be run or returned the wrong number."""
        if callback not in self.results:
            self.results[callback] = self._called(callback)
        return self.results[callback]

    def _called(self, callback: LayerCallback) -> list[npt.NDArray[Any]] | None:
        operands = []
        for operand in callback.operands:
            name = tensors_of(operand)[0]
            try:
                if name not in self.source:
                    return None
                operands.append(self._operand(operand, self.source[name]))
            except ValueError as error:
                self.problems.append(f"'{name}' for the callbacks of layer '{callback.layer}': {error}")
                return None
        calls = [(call.key, call.function) for call in callback.calls]
        try:
            results = _core.apply_callbacks(callback.layer, operands, calls)
        except TransferError as error:
            self.problems.append(str(error))
            return None
        for call in callback.calls:
            self.hits[call.key] = (*self.hits.get(call.key, ()), callback.layer)
        if len(results) != callback.count:
            keys = ", ".join(call.key for call in callback.calls)
            self.problems.append(
                f"layer '{callback.layer}' has {callback.count} variables, its callbacks ({keys}) returned {len(results)} arrays "
                f"of shapes {[array.shape for array in results]}; return one for each, in the order of get_weights"
            )
            return None
        return results

    def _operand(self, expression: Expression, tensor: SourceTensor) -> npt.NDArray[Any]:
        """A fresh array for a callback: float32 as torch values are given to it, or the own type of a NumPy array."""
        wanted = tensor.dtype if tensor.from_array and _numpy_has(tensor.dtype) else "float32"
        _check_types(tensor.dtype, wanted)
        layout = compile_layout(expression, tensor.shape)
        return move(layout, cast(_read(tensor), tensor.dtype, wanted, tensor.name, self.losses))


def _read(tensor: SourceTensor) -> npt.NDArray[Any]:
    values = native(tensor.read())
    if values.shape != tensor.shape:
        raise SourceError(
            f"tensor '{tensor.name}' was announced with shape {tensor.shape} and read with {values.shape}"
        )
    return values


def _listed(assignment: Assignment) -> str:
    return ", ".join(f"'{name}'" for name in tensors_of(assignment.expression)) or "nothing"


def _check_types(source_type: str, target_type: str) -> None:
    if not {source_type, target_type} <= CASTABLE:
        raise ValueError(f"{source_type} values cannot become {target_type}")


def _numpy_has(dtype: str) -> bool:
    return dtype in CASTABLE and dtype != "bfloat16"
