"""Outputs that only one model gives: the value is looked for inside the other model.

A Keras model may give its hidden state beside torch's logits, end before torch's head, or go on
with one of its own. Both models are then called so that they give the values that both compute.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ..running.input_pair import Call, InputPair
from ..running.keras_values import intercepted_calls
from ..running.outputs import as_array, leaves_by_name, leaves_of, squeezed
from ..running.torch_steps import SAME_VALUES
from ..running.torch_trace import every_module, every_operation
from ..spec.target import Target
from ..util.text import join_names
from .outputs import Arrays, ComparedOutputs, distance
from .tolerances import TOLERANCES, is_half, narrowest

# A call of a layer or operation: its name ("" for what only rearranges), where it is, and which one
# of these it is.
Step = tuple[str, str, int]
Position = tuple[Step, int]

# Steps that make probabilities of a model's output. What ends in another step and in the same shape
# computes something else.
_ENDS = ("softmax", "_softmax", "log_softmax", "_log_softmax", "sigmoid", "log_sigmoid_forward")
_MOST_NAMED = 3
_SAME_BELOW = 1e-6


@dataclass(slots=True)
class Tap:
    """Values inside a model, by the step that gives them and their position in what it gives:
    looked for by value (`wanted`, up to a relative difference of `limit`), or taken at `positions`.
    """

    wanted: Arrays = field(default_factory=dict)
    limit: float = 0.0
    positions: Mapping[str, Position] = field(default_factory=dict)
    steps: list[Step] = field(default_factory=list)
    counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    found: dict[str, tuple[float, bool, int, Position]] = field(default_factory=dict)
    taken: dict[str, Any] = field(default_factory=dict)

    def begin(self, name: str, path: str) -> int:
        """Note that a step begins; return its number."""
        self.counts[name, path] += 1
        self.steps.append((name, path, self.counts[name, path]))
        return len(self.steps) - 1

    def end(self, number: int, results: Iterable[Any]) -> None:
        """Note what a step gave."""
        for index, result in enumerate(results):
            position = (self.steps[number], index)
            self.taken.update(
                (name, result) for name, at in self.positions.items() if at == position)
            size = int(np.prod(tuple(result.shape)))
            for name, array in self.wanted.items():
                if array.size == size:
                    self._compare(name, as_array(result), number, position)

    def _compare(self, name: str, value: Any, number: int, position: Position) -> None:
        apart = distance(value, self.wanted[name])
        # Of equal values the last one, in the shape that is wanted.
        found = (max(apart, _SAME_BELOW), value.shape != self.wanted[name].shape, -number, position)
        if apart <= self.limit and (name not in self.found or found < self.found[name]):
            self.found[name] = found

    def behind(self, name: str) -> list[Step]:
        """Return the steps behind a value that was found, but for those that only rearrange."""
        return [step for step in self.steps[1 - self.found[name][2]:] if step[0]]


def with_inner_values(run_torch: Callable[[InputPair], Any], run_keras: Callable[[InputPair], Any],
                      target: Target, inputs: InputPair, outputs: tuple[Arrays, Arrays],
                      compared: ComparedOutputs) -> InputPair | None:
    """Return the inputs with calls that give, under the same names, the values that both models
    compute, where an output of one model is a value inside the other; None where none is.

    Args:
        run_torch: Runs the torch model on inputs, called as these say.
        run_keras: The same for the Keras model.
        target: The Keras model.
        inputs: What both were given.
        outputs: Torch's and Keras's outputs by name.
        compared: How far these are apart.
    """
    ours, theirs = outputs
    dtype = narrowest([array.dtype.name for array in theirs.values()]
                      + [str(getattr(target.model, "compute_dtype", ""))])
    limit = TOLERANCES.rounding[dtype] if is_half(dtype) else TOLERANCES.accepted
    same = {
        one.keras_name: one.torch_name for one in compared.outputs
        if one.comparable is not False and (one.relative_diff or 0.0) <= limit
    }
    missing = {name: array for name, array in theirs.items() if name not in same}
    others = {name: array for name, array in ours.items() if name not in same.values()}
    in_torch, in_keras = Tap(_telling(missing), limit), Tap(_telling(others), limit)
    if in_torch.wanted:
        run_torch(replace(inputs, torch_call=_torch_with(inputs.torch_call, in_torch)))
    known = [name for name in in_torch.found if _is_other(missing[name], others, in_torch, name)]
    rest = {name: array for name, array in missing.items() if name not in known}
    if rest and in_keras.wanted:
        run_keras(replace(inputs, keras_call=_keras_with(inputs.keras_call, in_keras, target)))
    inside = [name for name in in_keras.found if _is_other(others[name], rest, in_keras, name)]
    if not known and not inside:
        return None
    own = {name: f"torch's {name}".strip() for name in inside}
    # What Keras makes of an output of torch's has no counterpart; further outputs stay unmatched.
    kept = [*same, *known, *(rest if len(inside) < len(rest) else ())]
    notes = [_note("Keras", name, "torch", in_torch, others) for name in known]
    notes += [_note("torch", name, "Keras", in_keras, rest) for name in inside]
    return replace(
        inputs, shows_classes=inputs.shows_classes and not others, notes=(*inputs.notes, *notes),
        torch_call=_joined(lambda tap: _torch_with(inputs.torch_call, tap),
                           {**same, **{own[name]: name for name in inside}},
                           {name: in_torch.found[name][-1] for name in known}),
        keras_call=_joined(lambda tap: _keras_with(inputs.keras_call, tap, target),
                           dict(zip(kept, kept, strict=True)),
                           {own[name]: in_keras.found[name][-1] for name in inside}))


def _telling(arrays: Arrays) -> Arrays:
    """Return those that are no constants."""
    return {
        name: array for name, array in arrays.items()
        if array.dtype.kind == "f" and array.size > 1 and np.ptp(array) > 0
    }


def _is_other(value: Any, instead: Arrays, tap: Tap, name: str) -> bool:
    """Return whether the other model means to give something else than this value of its inside:
    nothing in its place, an output of another shape, or probabilities.
    """
    shapes = {tuple(sorted(squeezed(array.shape))) for array in instead.values()}
    if tuple(sorted(squeezed(value.shape))) not in shapes:
        return True
    behind = [step for step, _, _ in tap.behind(name)]
    return bool(behind) and all(step in _ENDS for step in behind)


def _note(side: str, name: str, other: str, tap: Tap, instead: Arrays) -> str:
    """Say where an output was found, and with what the other model goes on."""
    step, path, _ = tap.found[name][-1][0]
    output = f"{side}'s output {name}".strip() if name else f"{side}'s output"
    where = f"in '{path or step}'" if path or step else "on its way"
    text = f"{output} is what {other} computes {where}, and was compared there"
    behind = tap.behind(name)
    if not instead or not behind:
        return text
    steps = list(dict.fromkeys(path or step for step, path, _ in behind))
    return (f"{text}; {other} goes on with {join_names(steps, _MOST_NAMED)}, which {side} has not")


def _joined(tapped: Callable[[Tap], Call], outputs: Mapping[str, str],
            positions: Mapping[str, Position]) -> Call:
    """Return a call that gives some of a model's outputs and values of its inside by new names."""
    def call(model: Any, inputs: Any) -> dict[str, Any]:
        tap = Tap(positions=positions)
        leaves = leaves_by_name(tapped(tap)(model, inputs))
        return {
            **{new: leaves[name] for new, name in outputs.items()},
            **{name: tap.taken[name] for name in positions}
        }

    return call


def _keras_with(call: Call, tap: Tap, target: Target) -> Call:
    """Return the call of a Keras model with a tap on its layers and operations."""
    def handle(layer: Any, inner: Any, args: Any, kwargs: Any) -> Any:
        activation = getattr(getattr(layer, "activation", None), "__name__", "")
        name = type(layer).__name__
        number = tap.begin(activation if name == "Activation" else name.lower(),
                           str(getattr(layer, "name", name)))
        result = inner(*args, **kwargs)
        tap.end(number, leaves_of(result))
        return result

    def tapped(model: Any, inputs: Any) -> Any:
        with intercepted_calls(target, handle, operations=True):
            return call(model, inputs)

    return tapped


def _torch_with(call: Call, tap: Tap) -> Call:
    """Return the call of a torch module with a tap on every operation."""
    def tapped(module: Any, inputs: Any) -> Any:
        names = {id(inner): path for path, inner in module.named_modules()}
        paths = [""]

        def enter(inner: Any, _: Any) -> None:
            paths.append(names.get(id(inner), ""))

        def leave(*_: Any) -> None:
            paths.pop()

        def operation(func: Any, args: Any, kwargs: Any) -> Any:
            result = func(*args, **kwargs)
            name = func.overloadpacket.__name__
            keeps = getattr(func, "is_view", False) or name in (*SAME_VALUES, "_to_copy")
            tap.end(tap.begin("" if keeps else name, paths[-1]), leaves_of(result))
            return result

        with every_module(enter, leave), every_operation(operation):
            return call(module, inputs)

    return tapped
