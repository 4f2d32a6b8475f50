"""What the torch trace says, arranged for look-up, and the values that expressions over its weights
have.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from functools import partial
from itertools import islice
from typing import Any

import numpy as np
import numpy.typing as npt

from ...plan.callbacks import apply_callbacks
from ...plan.evaluation import Evaluation
from ...plan.expressions import CallbackOutput, Expression, tensors_of
from ...running.fingerprint import FingerprintIndex, fingerprint
from ...running.torch_trace import Trace, TracedOp
from ...spec.source import Source, SourceTensor
from ...spec.target import TargetVariable
from ...spec.tensor_spec import Shape
from .candidates import LayerMapping
from .layer_rules import LayerRules
from .transforms import VariableMapping


class TraceIndex:
    """What the torch trace says, arranged for look-up; the same for all passes."""
    def __init__(
        self, trace: Trace, source: Source, integers: tuple[tuple[TargetVariable, VariableMapping],
                                                            ...] = (),
        input_orders: Collection[tuple[int, ...]] = ()
    ) -> None:
        """Sort the fingerprints of `trace`, which is one of the module of `source`.

        `integers` are what integer variables of Keras must be, `input_orders` the orders in which
        the inputs that Keras gets hold the channels of torch's, where that is another one.
        """
        self.integers, self.input_orders = integers, input_orders
        self.trace = trace
        # What CandidateSearch found, for the passes to come.
        self.best_mappings: dict[tuple[object, ...], LayerMapping | None] = {}
        self.arrays: dict[str, npt.NDArray[Any]] = {
            name: _numpy(value) for name, value in trace.values.items()
        }
        self.shapes: dict[str,
                          Shape] = {name: tuple(array.shape) for name, array in self.arrays.items()}
        tensors = {
            name: SourceTensor(name, self.shapes[name], "float32", partial(np.asarray, array))
            for name, array in self.arrays.items()
        }
        constants = {name: tensor for name, tensor in source.items() if name not in tensors}
        self.constants = {
            name: tensor.shape for name, tensor in constants.items() if "float" in tensor.dtype
        }
        self.evaluation = Evaluation(Source({**constants, **tensors}, "randomized values"))
        self.rules = LayerRules(source)
        self.by_input = FingerprintIndex((key, unit) for unit in trace.units for key in unit.inputs)
        self.seen = FingerprintIndex(trace.seen)
        self.tainted = FingerprintIndex(trace.tainted)
        self.outputs = tuple((fingerprint(array), array) for array in trace.outputs)
        groups: dict[int, list[str]] = {}
        for name, value in trace.values.items():
            groups.setdefault(id(value), []).append(name)
        self.tables = tuple(name for name, shape in self.shapes.items() if len(shape) == 2)
        self.tied: dict[str, tuple[str, ...]] = {name: (name,) for name in constants}
        self.tied |= {name: tuple(group) for group in groups.values() for name in group}
        self._operations = sorted((unit for unit in trace.units if not unit.is_module),
                                  key=lambda unit: unit.order)
        self._times: dict[str, set[int]] = {}
        for unit in trace.units:
            for name in () if unit.is_module else unit.names:
                self._times.setdefault(self.tied[name][0], set()).add(unit.order)

    def is_used_again(self, name: str) -> bool:
        """Whether torch computes with a weight several times: a shared layer, a tied table."""
        return len(self._times.get(self.tied[name][0], ())) > 1

    def left_over(self, used: Collection[str], parts: Iterable[Expression]) -> list[str]:
        """The weights that torch computes with and of which nothing is among the `used` ones and
        the `parts`; of tied ones all or none.
        """
        in_part = {name for expression in parts for name in tensors_of(expression)}
        return [
            name for name in self.trace.reached
            if (first := self.tied[name][0]) not in used and first not in in_part
        ]

    def operation_behind(self, unit: TracedOp) -> TracedOp | None:
        """The next operation with other weights, whatever lies between."""
        first = bisect_right(self._operations, unit.order, key=lambda other: other.order)
        return next((other for other in islice(self._operations, first, None)
                     if not set(other.names) & set(unit.names)), None)

    def without_aliases(self, names: Sequence[str]) -> tuple[str, ...]:
        """The names, of tied ones only that whose layer holds most of the others."""
        layers = Counter(name.rpartition(".")[0] for name in names)
        best: dict[str, str] = {}
        for name in names:
            known = best.setdefault(self.tied[name][0], name)
            if layers[name.rpartition(".")[0]] > layers[known.rpartition(".")[0]]:
                best[self.tied[name][0]] = name
        return tuple(best.values())

    def trial_value(self, expression: Expression, display_name: str) -> npt.NDArray[Any]:
        """What an expression gives of the randomized values, in float32."""
        self._run_callbacks(expression)
        return self.evaluation.values(expression, "float32", display_name)

    def _run_callbacks(self, expression: Expression) -> None:
        """A parametrization that only its module can compute is a callback in the Plan."""
        for operand in expression.children():
            self._run_callbacks(operand)
        if isinstance(expression,
                      CallbackOutput) and expression.callback not in self.evaluation.results:
            callback = expression.callback
            operands = [
                self.evaluation.values(operand, "float32", callback.layer)
                for operand in callback.operands
            ]
            calls = [(call.key, call.function) for call in callback.calls]
            self.evaluation.results[callback] = apply_callbacks(callback.layer, operands, calls)


def _numpy(value: Any) -> npt.NDArray[Any]:
    return np.asarray(value.detach().cpu().float().numpy())
