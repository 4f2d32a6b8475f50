"""What the torch module computes, operation by operation: statistics of every value, never the
values.
"""

from __future__ import annotations

import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .fingerprint import Fingerprint
from .torch_trace import FACTORIES, PARTS, Recorder, tensors_in, traced_twin

Shape = tuple[int, ...]

# Operations whose result holds the same values: the statistics are not taken again.
SAME_VALUES = ("clone", "_unsafe_view", "_reshape_alias", "contiguous", "alias", "detach")


@dataclass(frozen=True, slots=True, eq=False)
class Value:
    """A tensor as it was: statistics, shape, and the time at which it appeared (0: an input)."""

    key: Fingerprint
    shape: Shape
    order: int


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """One operation on data: `name` is torch's own ("convolution", "gelu"), `path` that of the
    module in which it ran.

    `weights` are the names of the weights that took part, `settings` its further arguments in order
    and by name, None for tensors.
    """

    order: int
    name: str
    path: str
    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]
    weights: tuple[str, ...]
    settings: Mapping[str | int, Any]


@dataclass(frozen=True, slots=True, eq=False)
class ModuleCall:
    """One call of a module, from the operation `first` to `last`."""

    path: str
    first: int
    last: int
    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]


@dataclass(slots=True)
class TorchRun:
    """One run of the torch module. `captured` holds the outputs of the steps that were asked for,
    by order, `inside` the statistics of what fused operations compute on their way.
    """

    steps: list[Step] = field(default_factory=list)
    modules: list[ModuleCall] = field(default_factory=list)
    inputs: tuple[Value, ...] = ()
    outputs: tuple[Value, ...] = ()
    captured: dict[int, list[Any]] = field(default_factory=dict)
    inside: list[tuple[Fingerprint, int]] = field(default_factory=list)

    def every_value(self) -> list[Value]:
        """Return every value that appeared, those of equal statistics and time once."""
        values = [value for step in self.steps for value in (*step.inputs, *step.outputs)]
        values += [value for call in self.modules for value in (*call.inputs, *call.outputs)]
        values += [Value(key, (), order) for key, order in self.inside]
        # Of the same value that of a step counts, which knows its shape.
        return list({(value.key, value.order): value for value in (*values[::-1], *self.inputs)
                    }.values())


def run_torch_steps(module: Any, call: Any, inputs: Any, values: Mapping[str, Any],
                    capture: Sequence[int] = (), dtype: Any = None) -> TorchRun:
    """Run `call(module, inputs)` with `values` for the module's tensors and note every operation.

    `capture` are orders of steps whose outputs are kept, as seen in an earlier run, `dtype` the
    torch type of the run, None for that of the module. The module is left as it was.
    """
    with traced_twin(module, values, dtype) as (twin, own):
        recorder = StepRecorder(twin, own, frozenset(capture))
        with recorder.recording():
            result = call(twin, inputs)
            recorder.run.outputs = recorder.values_of(result)
    recorder.run.inside = recorder.trace.seen
    recorder.run.steps.sort(key=lambda step: step.order)
    return recorder.run


class StepRecorder(Recorder):
    """Notes every operation on data beside what alignment needs."""
    def __init__(self, module: Any, values: dict[str, Any], capture: frozenset[int]) -> None:
        """Record runs of `module` on `values`."""
        super().__init__(module, values, keep_arrays=False)
        self.run = TorchRun()
        self.capture = capture
        self.born: dict[int, tuple[Any, int]] = {}
        self.entered: list[tuple[str, int, tuple[Value, ...]]] = []

    def operation(self, func: Any, args: Any, kwargs: Any) -> Any:
        """Run one operation, and note the values before and after it."""
        if self.paused:
            return func(*args, **kwargs)
        given = [*tensors_in(args), *tensors_in(kwargs)]
        data = [tensor for tensor in given if self.is_data(tensor)]
        before = tuple(self.value_of(tensor) for tensor in data if tensor.numel())
        result = super().operation(func, args, kwargs)
        order, name = self.clock, func.overloadpacket.__name__
        if not data or name in FACTORIES:
            return result
        results = [tensor for tensor in tensors_in(result) if tensor.numel()]
        # An expanded view repeats them.
        keeps = all(tensor.numel() == given[0].numel() for tensor in results)
        if len(before) == 1 and keeps and self._keeps_values(func, name):
            for tensor in results:
                self.known[id(tensor)] = (weakref.ref(tensor), tensor._version, before[0].key)
                # An operation in place gives its own input back; the id of a tensor that is gone
                # may come again.
                if id(tensor) not in self.born or self.born[id(tensor)][0]() is not tensor:
                    self.born[id(tensor)] = (weakref.ref(tensor), before[0].order)
                self._keep_arranged(before[0].order, tensor)
            return result
        for tensor in results:
            self.born[id(tensor)] = (weakref.ref(tensor), order)
        if order in self.capture:
            self.run.captured[order] = [tensor.detach().clone().cpu() for tensor in results]
        weights = self.names_of(*given)
        after = tuple(self.value_of(tensor) for tensor in results)
        self.run.steps.append(
            Step(order, name, self.path, before, after, weights, _settings(args, kwargs)))
        return result

    def _keep_arranged(self, order: int, tensor: Any) -> None:
        """Keep the same values with their axes in another order or merged, too."""
        kept = self.run.captured.get(order)
        if kept is not None and all(tensor.shape != one.shape for one in kept):
            kept.append(tensor.detach().clone().cpu())

    def _keeps_values(self, func: Any, name: str) -> bool:
        return (bool(getattr(func, "is_view", False)) and name not in PARTS) or name in SAME_VALUES

    def value_of(self, tensor: Any) -> Value:
        """Return the tensor as it is now."""
        known = self.born.get(id(tensor))
        order = known[1] if known is not None and known[0]() is tensor else 0
        return Value(self.fingerprint_of(tensor), tuple(tensor.shape), order)

    def values_of(self, structure: Any) -> tuple[Value, ...]:
        """Return the data in a structure."""
        return tuple(
            self.value_of(tensor)
            for tensor in tensors_in(structure) if tensor.numel() and self.is_data(tensor))

    def enter(self, module: Any, args: Any) -> None:
        """Note the beginning of a module's forward."""
        if not self.paused:
            inputs = self.values_of(args)
            if not self.entered:
                self.run.inputs = inputs
            self.entered.append((self.paths.get(id(module), ""), self.clock, inputs))
        super().enter(module, args)

    def leave(self, module: Any, args: Any, kwargs: Any, output: Any) -> None:
        """Note the end of a module's forward."""
        super().leave(module, args, kwargs, output)
        if self.paused or not self.entered:
            return
        path, clock, inputs = self.entered.pop()
        inputs = (*inputs, *self.values_of(kwargs))
        if id(module) in self.paths:
            if not self.entered[1:]:
                self.run.inputs = self.run.inputs or inputs
            self.run.modules.append(
                ModuleCall(path, clock + 1, self.clock, inputs, self.values_of(output)))


def _settings(args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str | int, Any]:
    """Return the arguments that are no tensors."""
    everything: dict[str | int, Any] = dict(enumerate(args))
    everything.update(kwargs.items())
    return {
        name: None if any(True for _ in tensors_in(value)) else value
        for name, value in everything.items()
    }
