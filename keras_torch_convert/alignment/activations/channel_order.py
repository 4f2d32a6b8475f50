"""A vector that is reshaped into a feature map, or channels into a larger map (pixel shuffle):
torch counts them channels first, Keras channels last.

The layers that give them then give the same numbers in another order, which no layer shows before
the first one behind the reshape: that one finds its input in torch, whose fingerprint does not
depend on order, and never its output.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from math import prod
from typing import Any

import numpy.typing as npt

from ...comparison.outputs import closest_layout
from ...plan.expressions import tensors_of
from ...rules.families.flattened import outputs_channels_last, rule_of_outputs
from ...spec.tensor_spec import Shape
from .candidates import LayerMapping
from .pass_state import MapOfVector, Match, SearchState
from .transforms import VariableMapping

# In the place of a layer's display name: what the model gives.
OUTPUTS = "the outputs"
# Of values with randomized weights; those in another order are as far apart as any two.
IN_ORDER_BELOW = 1e-2


class Unflatten(BaseException):
    """A layer (or an output of the model) does not fit behind a map of a vector: the vector may be
    counted the other way. Keras 2 swallows Exceptions.
    """
    def __init__(self, display_name: str, made: MapOfVector) -> None:
        """The layer that does not fit, and the map."""
        super().__init__(display_name)
        self.display_name = display_name
        self.made = made


def maps_of_vectors(state: SearchState) -> Iterator[MapOfVector]:
    """The last feature maps of which settled layers may have given all numbers as a vector, or
    those of each place as its channels, the latest first.
    """
    for number, (*extents, channels) in enumerate(state.map_shapes):
        earlier = [(1,) * len(extents),
                   *(tuple(shape[:-1]) for shape in state.map_shapes[number + 1:])]
        for before in dict.fromkeys(earlier):
            parts = _parts(tuple(extents), before)
            if channels > 1 and prod(parts) > 1:
                for display_names in _gave(state.matches, channels * prod(parts)):
                    yield MapOfVector(parts, channels, display_names)


def _parts(extents: Shape, before: Shape) -> Shape:
    """Into how many places one place of an earlier map became along each axis; () when the maps
    have nothing to do with each other.
    """
    if len(extents) != len(before) or any(
            after % one for after, one in zip(extents, before, strict=True)):
        return ()
    return tuple(after // one for after, one in zip(extents, before, strict=True))


def _gave(matches: Mapping[str, Match], size: int) -> Iterator[tuple[str, ...]]:
    """Layers of `size` outputs, the last first, each with what came behind it feature by feature (a
    norm).
    """
    behind: list[str] = []
    for display_name, one in reversed(list(matches.items())):
        shapes = [variable.shape for variable in one.layer.variables]
        if one.is_turned or not all(shape[-1:] == (size,) for shape in shapes):
            continue
        behind.append(display_name)
        if any(len(shape) >= 2 for shape in shapes):
            yield tuple(behind)
            behind = []


def in_one_order(first: npt.NDArray[Any], second: npt.NDArray[Any]) -> bool:
    """Whether two arrays hold the same values in the same order, up to the place of the channels;
    also for shapes that cannot be compared.
    """
    best, _, _ = closest_layout(first, second)
    return best is None or best[2].relative < IN_ORDER_BELOW


def counted_channels_last(match: Match, made: MapOfVector) -> Match:
    """The layer with its outputs in the order that Keras counts a map in, where they were in
    torch's.
    """
    entries = tuple((variable, _moved(entry, variable.shape, made))
                    for variable, entry in match.mapping.entries)
    return replace(match, mapping=LayerMapping(entries, match.mapping.penalty), is_turned=True)


def _moved(entry: VariableMapping, shape: Shape, made: MapOfVector) -> VariableMapping:
    if not tensors_of(entry.expression):
        return entry
    moved = outputs_channels_last(entry.expression, shape, made.extents, made.channels)
    return VariableMapping(moved, rule_of_outputs(entry.rule, made.extents, made.channels),
                           entry.penalty)
