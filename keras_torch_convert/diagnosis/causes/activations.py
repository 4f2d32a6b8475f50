"""Another activation, one that only one side has."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ...running.fingerprint import distance, fingerprint
from ..context import Array, DivergenceContext, Hypothesis
from .bypass import bypass
from .functions import Function, functions, identity, recognized, softmaxes


def linear(x: Any) -> Any:
    """What a layer without activation has as its activation."""
    return x


def of_the_layer(scene: DivergenceContext) -> Iterator[Hypothesis]:
    """The spot is an activation, or a layer that ends in one: another one in its place."""
    if not scene.keras.inputs or not scene.keras.outputs or scene.spot.kind == "before":
        return
    fused = scene.call.leaf is not None
    if fused:
        if getattr(scene.call.layer, "activation", None) is None:
            return
        before = scene.run(activation=linear)
    else:
        before = scene.keras.inputs[0]
    if before is None:
        return
    ours = recognized(before, scene.keras.outputs[0])
    if ours is None or (ours.name == "none" and not fused):
        return
    label = scene.call.display_name
    softmax = ours.name.startswith("softmax")
    behind = activation_behind(scene) if fused and ours.name != "none" else None
    for theirs in (*functions(), *(softmaxes(before.ndim) if softmax else ())):
        if theirs.name == ours.name:
            continue
        if fused and behind is not None and behind.name == theirs.name:
            # What torch applies here Keras applies in its next call.
            said = f"Keras computes {ours.name} before {theirs.name}, torch goes on without"
            todo = f"give Keras layer '{label}' {identity().keras}, or add {ours.torch} in torch"
            yield Hypothesis("extra activation", said, todo, theirs(before))
            continue
        kind = "missing activation" if ours.name == "none" else "activation"
        kind = "softmax axis" if softmax and theirs.name.startswith("softmax") else kind
        yield Hypothesis(kind, f"Keras computes {ours.name}, torch {theirs.name}",
                         f"give Keras layer '{label}' {theirs.keras}, or torch {ours.torch}",
                         theirs(before))
        if kind == "softmax axis":
            # Inside fused attention torch's probabilities are known by their statistics.
            said = f"Keras computes {ours.name}, torch {theirs.name}"
            yield Hypothesis(kind, said, f"give '{label}' {theirs.keras}", theirs(before),
                             how="statistics")
    if ours.name != "none":
        yield from _without(scene, ours, before)


def _without(scene: DivergenceContext, ours: Function, before: Array) -> Iterator[Hypothesis]:
    """torch has no activation there."""
    label = scene.call.display_name
    said = f"Keras computes {ours.name}, torch goes on without"
    todo = f"give Keras layer '{label}' {identity().keras}, or add {ours.torch} in torch"
    yield from bypass(scene, "extra activation", said, todo, before)


def of_several_calls(scene: DivergenceContext) -> Iterator[Hypothesis]:
    """The spot begins an activation that Keras computes in several steps (x + 3, relu6, times 1/6):
    another one in its place.
    """
    if scene.call.leaf is not None or not scene.keras.inputs:
        return
    given = scene.keras.inputs[0]
    for last, captured in scene.along:
        ours = recognized(given, captured.outputs[0]) if captured.outputs else None
        for theirs in functions() if ours is not None and ours.name != "none" else ():
            if ours is not None and theirs.name != ours.name:
                said = (f"from here to '{last.display_name}' Keras computes {ours.name}, torch "
                        f"{theirs.name}")
                todo = f"put {theirs.keras} in the place of these layers, or {ours.torch} in torch"
                yield Hypothesis("activation", said, todo, theirs(given))


def idle_before(scene: DivergenceContext) -> Iterator[Hypothesis]:
    """An activation layer before the spot does nothing: torch computes something there."""
    idle = [
        call for call, _ in scene.before
        if "Activation" in call.class_names and call.inputs == call.outputs
    ]
    if idle:
        yield from (one for one in before_the_layer(scene)
                    if one.at in {call.display_name for call in idle})


def before_the_layer(scene: DivergenceContext) -> Iterator[Hypothesis]:
    """torch applies an activation to one of the inputs that Keras does not."""
    if scene.spot.kind == "before":
        return
    for number, array in enumerate(scene.keras.inputs[:3]):
        for function in functions():
            trial = with_input(scene, number, function(array))
            if trial is not None:
                at = last_that_could(scene, array)
                where = f"after Keras layer '{at}'" if at else f"before Keras layer '{scene.call.display_name}'"
                yield Hypothesis(
                    "missing activation", f"torch computes {function.name} {where}, Keras does not",
                    f"add {function.keras} {where}, or use {identity().torch} in torch", trial,
                    at=at, torch_at=scene.path_between)


def with_input(scene: DivergenceContext, number: int, array: Array) -> Array | None:
    """What the spot's call gives with one of its inputs replaced."""
    inputs = list(scene.keras.inputs)
    inputs[number] = array
    return scene.run(inputs)


def last_that_could(scene: DivergenceContext, array: Array) -> str:
    """The call before the spot that gave this input and has an activation of its own, which does
    nothing.
    """
    key = fingerprint(array)
    for call, _ in reversed(scene.before):
        if any(distance(key, output) < 1e-9 for output in call.outputs) and hasattr(
                call.layer, "activation"):
            return call.display_name
    return ""


def activation_behind(scene: DivergenceContext) -> Function | None:
    """The activation that Keras computes behind the spot, in one step or several; None when it is
    none.
    """
    for _, captured in scene.along if scene.keras.outputs else ():
        function = recognized(scene.keras.outputs[0],
                              captured.outputs[0]) if captured.outputs else None
        if function is not None and function.name != "none":
            return function
    return None
