"""What stands between two layers on one side only, or in another order: scales, sums, norms, whole
operations.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np

from ...comparison.arrays import apart, arranged
from ...running.keras_calls import Captured
from ..context import ENOUGH, Array, DivergenceContext, Hypothesis, called
from .activations import activation_behind, linear
from .bypass import bypass
from .elements import JOIN_ALIKE, JOINS, OTHER_ORDER, same_values

PREPARING = ("Rescaling", "Normalization", "Resizing", "CenterCrop")


def order_of_norm_and_activation(scene: DivergenceContext) -> Iterator[Hypothesis]:
    """torch applies the activation behind the norm before it."""
    if (scene.call.leaf is None
            or not any("Normalization" in kind for kind in scene.call.class_names)
            or not scene.behind):
        return
    function = activation_behind(scene)
    if function is None:
        return
    trial = scene.run([function(scene.keras.inputs[0]), *scene.keras.inputs[1:]])
    if trial is not None and scene.seen(function(trial)) > ENOUGH:
        said = f"torch computes {function.name} before the norm, Keras behind it"
        todo = (f"put Keras layer '{scene.behind[0].display_name}' before "
                f"'{scene.call.display_name}', or the norm first in torch")
        yield Hypothesis("order of norm and activation", said, todo, trial)


def hypotheses(scene: DivergenceContext) -> Iterator[Hypothesis]:
    """A factor, another way to join branches, an operation that only one side has."""
    if not scene.keras.inputs:
        return
    if scene.spot.kind != "before":
        yield from _joined_otherwise(scene)
        yield from _extra(scene)
        yield from _factor_of_inputs(scene)
        yield from factor_of_outputs(scene)
        yield from _factor_before_activation(scene)
    yield from _missing(scene)


def _extra(scene: DivergenceContext) -> Iterator[Hypothesis]:
    """torch has one of the inputs where Keras has the output: the operation has no counterpart."""
    if scene.call.leaf is not None and not set(scene.call.class_names) & set(PREPARING):
        return
    label, kind = scene.call.display_name, scene.call.class_names[0]
    preparing = bool(set(scene.call.class_names) & set(PREPARING)) or scene.is_before_all_weights
    for number, array in enumerate(scene.keras.inputs):
        name = "preprocessing" if preparing else "extra operation"
        which = "its input" if len(
            scene.keras.inputs) == 1 else f"its input number {number + 1} alone"
        todo = ("build the Keras model without preprocessing (include_preprocessing=False), or "
                "prepare torch's input alike" if preparing else
                f"take '{label}' out of the Keras model, or compute it in torch too")
        said = f"torch goes on with {which} where Keras computes {kind} '{label}'"
        yield from bypass(scene, name, said, todo, array)


def _joined_otherwise(scene: DivergenceContext) -> Iterator[Hypothesis]:
    inputs = scene.keras.inputs
    if scene.call.leaf is not None or len(
            inputs) != 2 or inputs[0].dtype.kind != "f" or inputs[1].dtype.kind != "f":
        return
    first, second = inputs
    ways: dict[str, Callable[[], Array]] = {
        "the sum": lambda: first + second, "the product": lambda: first * second,
        "the mean": lambda: (first + second) / 2, "the largest": lambda: np.maximum(first, second),
        "the difference": lambda: first - second,
        "the first times the sigmoid of the second": lambda: first / (1 + np.exp(-second))
    }
    ours = None
    for name, compute in ways.items():
        try:
            if apart(compute(), scene.keras.outputs[0]) < 1e-6:
                ours = name
        except ValueError:
            return
    for name, compute in ways.items():
        if name != ours:
            said = f"Keras takes {ours or scene.call.class_names[0]} of two values, torch {name}"
            yield Hypothesis("merge", said,
                             f"take {name} in Keras layer '{scene.call.display_name}' too",
                             np.asarray(compute(), np.float32))
    if ours == "the sum":
        yield from _weighted_sum(scene, first, second)


def _weighted_sum(scene: DivergenceContext, first: Array, second: Array) -> Iterator[Hypothesis]:
    """torch adds one branch times a number, the same everywhere or one for each channel."""
    if first.shape != second.shape:
        return
    for theirs in scene.expected:
        for array in arranged(theirs, first.shape):
            for number, (kept, scaled) in enumerate(((first, second), (second, first))):
                change = (array - kept).astype(np.float64)
                norm = float((scaled.astype(np.float64)**2).sum())
                factor = float((change * scaled).sum()) / norm if norm else 0.0
                trial = np.asarray(kept + factor * scaled, np.float32)
                which = "second" if number == 0 else "first"
                said = (f"torch multiplies the {which} of the two values that are added by "
                        f"{factor:.6g}, Keras does not")
                yield Hypothesis("branch scale", said,
                                 f"multiply that branch by {factor:.6g} in Keras", trial)


def factor_of_outputs(scene: DivergenceContext) -> Iterator[Hypothesis]:
    """One number between the two outputs."""
    if not scene.keras.outputs:
        return
    ours = scene.keras.outputs[0]
    for theirs in scene.expected[:6]:
        for array in arranged(theirs, ours.shape):
            factor = ratio_of(array, ours)
            if factor is not None:
                trial = np.asarray(ours * factor, np.float32)
                said = f"torch's output is {factor:.6g} times that of Keras"
                yield Hypothesis(
                    "scale", said,
                    f"multiply by {factor:.6g} behind '{scene.call.display_name}' in Keras", trial)


def _factor_before_activation(scene: DivergenceContext) -> Iterator[Hypothesis]:
    """One number between the two outputs before the activation that the Keras layer ends in."""
    activation = getattr(scene.call.layer, "activation",
                         None) if scene.call.leaf is not None else None
    before = scene.run(activation=linear) if activation is not None and scene.keras.inputs else None
    if activation is None or before is None:
        return
    for theirs in scene.expected[:6]:
        for array in arranged(theirs, before.shape):
            factor = ratio_of(array, before)
            trial = scene.run(
                activation=partial(_scaled, activation, factor)) if factor is not None else None
            if trial is not None:
                said = f"torch's output is {factor:.6g} times that of Keras before the activation"
                todo = (f"multiply by {factor:.6g} before the activation of "
                        f"'{scene.call.display_name}' in Keras")
                yield Hypothesis("scale", said, todo, trial)


def _scaled(activation: Callable[[Any], Any], factor: float, x: Any) -> Any:
    return activation(x * factor)


def _factor_of_inputs(scene: DivergenceContext) -> Iterator[Hypothesis]:
    """One number between the two inputs."""
    if scene.call.leaf is None or not scene.torch_inputs:
        return
    given = scene.keras.inputs[0]
    for array in arranged(scene.torch_inputs[0], given.shape):
        factor = ratio_of(array, given)
        scaled = (None if factor is None else scene.run(
            [np.asarray(given * factor, np.float32), *scene.keras.inputs[1:]]))
        if scaled is not None:
            said = f"torch multiplies the input of the layer by {factor:.6g}, Keras does not"
            kind = "preprocessing" if scene.is_before_all_weights else "scale"
            yield Hypothesis(
                kind, said, f"multiply by {factor:.6g} before '{scene.call.display_name}' in Keras",
                scaled, torch_at=scene.path_between)


def ratio_of(one: Array, other: Array) -> float | None:
    """The number that makes `one` of `other`, None when there is none but 1."""
    wide = other.astype(np.float64)
    norm = float((wide * wide).sum())
    factor = float((one * wide).sum()) / norm if norm else 0.0
    scale = float(np.abs(one).max(initial=0.0))
    if not factor or abs(factor - 1) < 1e-4 or not scale:
        return None
    return factor if float(np.abs(one - factor * wide).max()) < 1e-4 * scale else None


def _missing(scene: DivergenceContext) -> Iterator[Hypothesis]:
    """With torch's input the layer gives torch's output: what torch computes in between is missing
    in Keras.
    """
    if scene.call.leaf is None:
        yield from _missing_before_operation(scene)
    if scene.call.leaf is None or not scene.torch_inputs:
        return
    given = scene.keras.inputs[0]
    label = scene.call.display_name
    steps = scene.between()
    # A table of positions that is added counts as weights.
    if not steps or any(
            step.weights and step.name.strip("_") not in ("add", "sub", "mul") for step in steps):
        return
    for array in arranged(scene.torch_inputs[0], given.shape):
        trial = called(scene.target, scene.call.layer, *scene.arguments_with(array))
        if trial is None:
            continue
        if scene.is_before_all_weights and (pair := affine(array, given)) is not None:
            said = (f"torch's input is Keras's times {pair[0]} plus {pair[1]}: only one side "
                    "prepares its input (rescale_mode, preprocessing)")
            yield Hypothesis("preprocessing", said, "prepare the inputs of both models alike",
                             trial)
            continue
        between = ", ".join(dict.fromkeys(step.name.strip("_") for step in steps))
        said = f"torch computes {between} before this layer, Keras does not"
        todo = f"compute the same before Keras layer '{label}', or leave it out in torch"
        at = next(
            (call.display_name for call, one in reversed(scene.before) if _gives_an_input(one)), "")
        yield Hypothesis("missing operation", said, todo, trial, at=at,
                         torch_at=steps[0].path if steps else "")


def _missing_before_operation(scene: DivergenceContext) -> Iterator[Hypothesis]:
    """The same for a call without weights: each value that torch makes of its input in its place.
    """
    given = scene.keras.inputs[0]
    for step in scene.steps:
        for value in scene.values.get(step.order, ()):
            for array in arranged(value, given.shape):
                trial = called(scene.target, scene.call.layer, *scene.arguments_with(array))
                # What the call leaves as it is may be what the call itself gives: it tells nothing
                # about what comes before.
                if trial is None or same_values(array, trial):
                    continue
                joined = next(
                    (call.display_name
                     for call, _ in reversed(scene.before) if set(call.class_names) & set(JOINS)),
                    "")
                if joined and step.name == "cat" and same_values(given, array):
                    yield Hypothesis("concat order", OTHER_ORDER, JOIN_ALIKE, trial, at=joined,
                                     torch_at=step.path)
                    continue
                idle = next((call.display_name
                             for call, one in reversed(scene.before) if _gives_an_input(one)), "")
                where = (f"in the place of Keras layer '{idle}'"
                         if idle else f"before Keras layer '{scene.call.display_name}'")
                owner = f" in layer '{step.path}', whose weights Keras has no layer for," if step.weights else ""
                said = f"torch computes {step.name.strip('_')}{owner} {where}, Keras does not"
                yield Hypothesis("missing operation", said, f"compute the same {where}", trial,
                                 at=idle, torch_at=step.path)


def _gives_an_input(captured: Captured) -> bool:
    """Whether a call of several inputs gives one of them as it is."""
    outputs = captured.outputs[:1]
    return len(captured.inputs) > 1 and any(one.shape == out.shape and bool((one == out).all())
                                            for out in outputs for one in captured.inputs)


def affine(theirs: Array, ours: Array) -> tuple[list[float], list[float]] | None:
    """Factor and offset by channel that make torch's input of Keras's."""
    factors, offsets = [], []
    if ours.shape[-1] > 16:
        return None
    for channel in range(ours.shape[-1]):
        x, y = ours[...,
                    channel].ravel().astype(np.float64), theirs[...,
                                                                channel].ravel().astype(np.float64)
        if x.size < 3 or np.ptp(x) == 0:
            return None
        factor, offset = np.polyfit(x, y, 1)
        if np.abs(factor * x + offset - y).max() > 1e-4 * max(float(np.abs(y).max()), 1e-30):
            return None
        factors.append(round(float(factor), 6))
        offsets.append(round(float(offset), 6))
    return factors, offsets
