"""What the user says about single pairs: the hinted Keras layers get no other candidates."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from ...errors import AlignmentError
from ...spec.layer_groups import TorchLayer
from ...spec.target import TargetLayer
from ...util.text import did_you_mean
from .sides import Sides


def with_hints(sides: Sides, hints: Mapping[str, str]) -> Sides:
    """The sides with the candidates of each hinted Keras layer cut down to the torch layer or
    tensor that is meant.

    `hints` are {"keras layer or variable": "torch layer or tensor"}. Raises AlignmentError for a
    name that does not exist, and for a pair that no rule fits together.
    """
    groups = list(sides.groups)
    group_of = list(sides.group_of)
    for key, value in hints.items():
        rows = [row for row, layer in enumerate(sides.layers) if key in _names(layer)]
        if not rows:
            known = {name for layer in sides.layers for name in _names(layer)}
            raise AlignmentError(
                f"hints: the Keras model has no layer or variable '{key}'{did_you_mean(key, known)}"
            )
        meant = [place for place, stack in enumerate(sides.stacks) if _is_meant(stack, value)]
        if not meant:
            known = {
                name for stack in sides.stacks
                for name in (stack.layer, *(one.name for one in stack.tensors))
            }
            raise AlignmentError(f"hints: the checkpoint has no layer or tensor '{value}'"
                                 f"{did_you_mean(value, known)}")
        for row in rows:
            fitting = tuple(place for place in sides.groups[sides.group_of[row]] if place in meant)
            if not fitting:
                layer = sides.layers[row]
                raise AlignmentError(
                    f"hints: '{value}' does not fit '{layer.display_name}' ({layer.class_name}), "
                    "whose variables have the shapes "
                    f"{[variable.shape for variable in layer.variables]}")
            group_of[row] = len(groups)
            groups.append(fitting)
    return replace(sides, groups=tuple(groups), group_of=tuple(group_of))


def _names(layer: TargetLayer) -> tuple[str, ...]:
    return (layer.name, layer.display_name,
            *(variable.display_name for variable in layer.variables))


def _is_meant(stack: TorchLayer, value: str) -> bool:
    return stack.layer == value or any(
        tensor.name == value or tensor.name.startswith(f"{value}.") for tensor in stack.tensors)
