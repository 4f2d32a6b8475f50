"""What the Keras model computes, layer by layer: statistics of what goes in and comes out of every
call, never the values.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Any

import numpy.typing as npt

from ..spec.target import Target, TargetLayer
from .fingerprint import Fingerprint, fingerprint
from .keras_values import as_tensor_like, eager_arrays, intercepted_calls
from .outputs import leaves_of
from .run import no_grad, preserve_rng_state

Array = npt.NDArray[Any]
Shape = tuple[int, ...]


@dataclass(slots=True, eq=False)
class LayerCall:
    """One call of a layer, or of an operation of the model's graph that is no layer.

    `number` grows with the time at which calls begin. `display_name` has the names of the layers
    around in front. `leaf` is given for layers that own variables, or whose cell does. `parent` is
    the number of the call in which this one was made, `children` those made inside it.
    """

    number: int
    layer: Any
    display_name: str
    leaf: TargetLayer | None
    parent: int | None
    inputs: tuple[Fingerprint, ...] = ()
    input_shapes: tuple[Shape, ...] = ()
    outputs: tuple[Fingerprint, ...] = ()
    output_shapes: tuple[Shape, ...] = ()
    children: list[int] = field(default_factory=list)

    @property
    def class_names(self) -> tuple[str, ...]:
        """Class names of the layer, its own first."""
        return tuple(one.__name__ for one in type(self.layer).__mro__)


@dataclass(slots=True, eq=False)
class Captured:
    """The values of one call: arrays that went in, how the call was made, and the arrays that came
    out; `own` are those that the layer gave before the first was patched.
    """

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    inputs: list[Array]
    outputs: list[Array]
    own: list[Array]


# Called with a call and the first array that it gave: the array to give instead, or None.
Patch = Callable[[LayerCall, Array], Array | None]


@dataclass(slots=True)
class KerasRun:
    """One run of the Keras model. `captured` holds the values of the calls that were asked for, by
    number, `outputs` the statistics of what came out.
    """

    calls: list[LayerCall] = field(default_factory=list)
    outputs: tuple[Fingerprint, ...] = ()
    captured: dict[int, Captured] = field(default_factory=dict)

    def leaves(self) -> list[LayerCall]:
        """Return the calls that made no other calls, in order."""
        return [call for call in self.calls if not call.children]


def run_keras_calls(target: Target, keras_call: Callable[[Any, Any], Any], inputs: Any,
                    capture: Collection[int] = (), patch: Patch | None = None) -> KerasRun:
    """Run the model and note every call; `capture` are the numbers of calls whose values are kept,
    as seen in an earlier run.

    `patch` is asked after each call, with the first array that it gave: what it returns is given in
    the place of that one, unless it is None.
    """
    recorder = _CallRecorder(target, frozenset(capture), patch)
    with (no_grad(target), preserve_rng_state(),
          intercepted_calls(target, recorder.handle, operations=True)):
        outputs = keras_call(target.model, inputs)
    recorder.run.outputs = tuple(
        fingerprint(array) for array in eager_arrays(outputs) if array.size)
    return recorder.run


class _CallRecorder:
    def __init__(self, target: Target, capture: frozenset[int], patch: Patch | None) -> None:
        self.run = KerasRun()
        self.target = target
        self.capture = capture
        self.patch = patch
        self.leaf_of = {id(leaf.layer): leaf for leaf in target.leaves()}
        self.root = id(target.model)
        self.stack: list[LayerCall] = []
        self.known: dict[int, tuple[Any, Fingerprint]] = {}

    def handle(self, layer: Any, call: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Note one call; a layer's own call reaches its class's again, which is not another one."""
        around = self.stack[-1] if self.stack else None
        if around is not None and (around.layer is layer or cell_of(around.layer) is not None):
            # What a recurrent layer computes at each step torch never shows.
            return call(*args, **kwargs)
        noted = self._begin(layer)
        keys, shapes = self._keys((args, kwargs))
        noted.inputs, noted.input_shapes = keys, shapes
        before = [array.copy() for array in eager_arrays((args, kwargs))
                 ] if noted.number in self.capture else []
        self.stack.append(noted)
        try:
            output = call(*args, **kwargs)
        finally:
            self.stack.pop()
        own = [array.copy() for array in eager_arrays(output)
              ] if noted.number in self.capture else []
        output = self._patched(noted, output)
        noted.outputs, noted.output_shapes = self._keys(output)
        if noted.number in self.capture:
            after = [array.copy() for array in eager_arrays(output)]
            self.run.captured[noted.number] = Captured(args, kwargs, before, after, own)
        return output

    def _patched(self, noted: LayerCall, output: Any) -> Any:
        first = next(eager_arrays(output), None) if self.patch is not None else None
        array = None if self.patch is None or first is None else self.patch(noted, first)
        return output if array is None else _with_first(output, array, self.target)

    def _begin(self, layer: Any) -> LayerCall:
        number = len(self.run.calls)
        parent = self.stack[-1] if self.stack else None
        leaf = self.leaf_of.get(id(layer)) or self.leaf_of.get(id(cell_of(layer)))
        name = str(getattr(layer, "name", type(layer).__name__))
        around = f"{parent.display_name}/" if parent is not None and parent.display_name else ""
        display_name = f"{around}{name}" if id(layer) != self.root else ""
        if leaf is not None and leaf.layer is layer:
            display_name = leaf.display_name
        noted = LayerCall(number, layer, display_name, leaf,
                          None if parent is None else parent.number)
        if parent is not None:
            parent.children.append(number)
        self.run.calls.append(noted)
        return noted

    def _keys(self, structure: Any) -> tuple[tuple[Fingerprint, ...], tuple[Shape, ...]]:
        keys, shapes = [], []
        for tensor in leaves_of(structure):
            for array in eager_arrays(tensor):
                if array.size:
                    keys.append(self._key(tensor, array))
                    shapes.append(tuple(array.shape))
        return tuple(keys), tuple(shapes)

    def _key(self, tensor: Any, array: Array) -> Fingerprint:
        """Return the statistics of a tensor, taken once."""
        known = self.known.get(id(tensor))
        if known is not None and known[0]() is tensor:
            return known[1]
        found = fingerprint(array)
        try:
            self.known[id(tensor)] = (weakref.ref(tensor), found)
        except TypeError:
            # A tensor that cannot be referred to weakly is looked at anew each time.
            self.known.pop(id(tensor), None)
        return found


def cell_of(layer: Any) -> Any:
    """Return the cell of a recurrent layer, None of another."""
    is_recurrent = any(one.__name__ == "RNN" for one in type(layer).__mro__)
    return layer.cell if is_recurrent else None


def _with_first(output: Any, array: Array, target: Target) -> Any:
    """Return what a call gave with its first tensor replaced."""
    if isinstance(output, (list, tuple)):
        return type(output)((_with_first(output[0], array, target), *output[1:]))
    return as_tensor_like(array, output, target)
