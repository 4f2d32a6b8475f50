"""What the caller of a classic function says about the alignment, and both lists of layers side by
side as that pairs them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Union

from ..alignment import by_order
from ..alignment.by_order import PairingOptions, plan_by_order
from ..alignment.classic import MatchFunction, NameAlignment, align_names
from ..alignment.regrouping import cut_where_skipped, joined_by_kind, split_by_order
from ..errors import PairError
from ..plan.executor import Strict
from ..plan.plan import Plan
from ..report.layer_table import LayerTable, side_by_side
from ..rules import assign_layer, calls_for, keys_without_hit
from ..rules.families.position_tables import Resize
from ..spec.layer_groups import LayerGroups, TorchLayer
from ..spec.source import Order
from ..spec.target import Target, TargetLayer
from ..util.text import did_you_mean

# What the alignment dictionaries may be: one stage, or a list of stages.
Moves = Union[Mapping[str, Any], Sequence[Mapping[str, Any]]]
Transfer = Callable[[list[Any]], Any]


@dataclass(frozen=True, slots=True)
class AlignmentOptions:
    """What the caller says about which layer belongs where; the parameters of the classic functions
    of these names.
    """

    tail_align_dict: Moves = field(default_factory=dict)
    full_name_align_dict: Moves = field(default_factory=dict)
    tail_split_position: int | Sequence[int] = 2
    specific_match_func: MatchFunction | None = None
    additional_transfer: Mapping[Any, Transfer] = field(default_factory=dict)
    unstack_weights: Sequence[str] = ()
    skip_layers: Sequence[str] = ()
    keep_layers: Sequence[str] = ()
    resize: Resize = None

    @property
    def moves(self) -> bool:
        """Whether the names of the Keras layers are moved."""
        return self.specific_match_func is not None or bool(self.tail_align_dict) or bool(
            self.full_name_align_dict)

    @property
    def anything(self) -> bool:
        """Whether anything is said that running both models could contradict."""
        return bool(self.moves or self.additional_transfer or self.skip_layers or self.keep_layers
                    or self.resize)

    def aligned(self, target: Target) -> NameAlignment:
        """The names of the Keras layers in the order of the torch layers."""
        return align_names([layer.name for layer in target.layers], self.tail_align_dict,
                           self.full_name_align_dict, self.tail_split_position,
                           self.specific_match_func)

    def plan(self, collection: LayerGroups, target: Target, names: Sequence[str], order: Order,
             strict: Strict) -> Plan:
        """The Plan that pairs the torch layers, which stand in `order`, with the Keras layers
        called `names`.
        """
        options = PairingOptions(self.skip_layers, self.keep_layers, strict, order, self.moves)
        return plan_by_order(collection, target, names, options, self.additional_transfer,
                             self.resize)

    def arguments(self) -> dict[str, Any]:
        """Those that are given, as the report repeats them."""
        given = {
            "tail_align_dict": self.tail_align_dict,
            "full_name_align_dict": self.full_name_align_dict,
            "tail_split_position": self.tail_split_position if self.tail_align_dict else None,
            "unstack_weights": list(self.unstack_weights),
            "specific_match_func": self.specific_match_func
        }
        return {name: value for name, value in given.items() if value}


def listed(collection: LayerGroups, target: Target, names: Sequence[str],
           told: AlignmentOptions) -> LayerTable:
    """Both lists side by side as they would be paired, without the layers that the caller excuses.
    """
    stacks = cut_where_skipped(collection.layers, told.skip_layers)
    skipped = by_order.hit_by(told.skip_layers, [stack.name for stack in stacks], "skip_layers",
                              "torch layer")
    kept = by_order.hit_by(told.keep_layers, [layer.name for layer in target.layers], "keep_layers",
                           "Keras layer")
    names = [name for name in names if name not in kept]
    by_name = {layer.name: layer for layer in target.layers}
    by_callback = [
        layer.name for layer in target.layers if calls_for(layer, told.additional_transfer)
    ]
    named = [by_name[name] for name in names if name in by_name]
    unskipped = [stack for stack in stacks if stack.name not in skipped]
    return side_by_side(split_by_order(joined_by_kind(unskipped, named), named, by_callback),
                        target.layers, names, by_callback=by_callback, fit=mismatch)


def mismatch(stack: TorchLayer, layer: TargetLayer) -> str:
    """Why a torch layer cannot go into a Keras layer, "" when it can: what the transfer itself
    would say.
    """
    try:
        assign_layer(stack, layer)
    except PairError as error:
        return (f"'{stack.name}' does not fit into '{layer.name}' ({layer.class_name}): "
                f"{error.problem}")
    return ""


def unused_keys(target: Target, additional_transfer: Mapping[Any, Transfer]) -> tuple[str, ...]:
    """A warning for every key of `additional_transfer` that is no layer's, with the nearest names.
    """
    names = [layer.name for layer in target.layers]
    return tuple(f"additional_transfer key {key} hits no layer{did_you_mean(str(key), names)}"
                 for key in keys_without_hit(target.layers, additional_transfer))
