"""From pairs of layers to the Plan: where every way of aligning by layers ends."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ..keras_io.lazy_layout import lazy_layout
from ..plan.derived_tensors import own_tensors
from ..plan.executor import Strict
from ..plan.expressions import tensors_of
from ..plan.plan import Plan
from ..rules.callbacks import calls_for
from ..rules.families.position_tables import Resize, check_resize, with_resized_tables
from ..rules.layer import assign_pairs
from ..spec.source import Order, Source
from ..spec.target import Target, TargetLayer
from . import by_order

if TYPE_CHECKING:
    from ..spec.layer_groups import LayerGroups, TorchLayer


def plan_by_order(collection: LayerGroups, target: Target, names: Sequence[str] | None = None,
                  additional_transfer: Mapping[Any, Callable[[list[Any]], Any]] | None = None, *,
                  skip_layers: Sequence[str] = (), keep_layers: Sequence[str] = (),
                  strict: Strict = True, order: Order = "registered", aligned: bool = False,
                  resize: Resize = None) -> Plan:
    """The Plan that pairs the torch layers of `collection` with the Keras layers called `names`,
    both in their order.

    The arguments are those of `by_order.pairs` and `plan_of_pairs`, and so are the errors.
    """
    additional_transfer = additional_transfer or {}
    pairing = by_order.pairs(
        collection, target.layers, names, skip_layers=skip_layers, keep_layers=keep_layers,
        strict=strict, order=order, aligned=aligned, by_callback=[
            layer.name for layer in target.layers if calls_for(layer, additional_transfer)
        ])
    return plan_of_pairs(pairing.pairs, target, additional_transfer,
                         dropped={**collection.skipped, **pairing.dropped_tensors},
                         kept=pairing.kept_places, resize=resize)


def plan_of_pairs(pairs: Sequence[tuple[TorchLayer, TargetLayer]], target: Target,
                  additional_transfer: Mapping[Any, Callable[[list[Any]], Any]], *,
                  dropped: Mapping[str, str], kept: Mapping[str,
                                                            str], resize: Resize = None) -> Plan:
    """The Plan that fills each Keras layer of `pairs` from its torch layer.

    `dropped` are the names of tensors that a rule leaves out, `kept` the places of variables that
    keep their values, each with the rule in words, `resize` how position tables of another
    resolution are resized. Raises TransferError listing all pairs that do not fit.
    """
    order = {place: index for index, place in enumerate(target.variables)}
    check_resize(resize)
    calls = [calls_for(layer, additional_transfer) for _, layer in pairs]
    resized = [(torch_layer if hit else with_resized_tables(torch_layer, layer, target, resize),
                layer) for (torch_layer, layer), hit in zip(pairs, calls, strict=True)]
    assignments = assign_pairs(resized, calls)
    assigned = {assignment.key for assignment in assignments}
    return Plan(tuple(sorted(assignments, key=lambda assignment: order[assignment.key])), dropped,
                {place: rule for place, rule in kept.items() if place not in assigned},
                tuple((torch_layer.name, layer.display_name) for torch_layer, layer in pairs),
                tuple(constant for assignment in assignments for constant in assignment.constants),
                {
                    tensor.name: tensor.as_kind() for torch_layer, _ in pairs
                    for tensor in own_tensors(torch_layer.tensors)
                }, {place: variable.as_kind() for place, variable in target.variables.items()},
                layout=lazy_layout(target, assigned))


def with_both_sides(plan: Plan, source: Source, target: Target) -> Plan:
    """The Plan, from torch to Keras, with what it lacks of the arrays on both sides and of the
    layout of the Keras model's files.
    """
    places = {assignment.key for assignment in plan.assignments}
    used = dict.fromkeys(
        name for assignment in plan.assignments for name in tensors_of(assignment.expression))
    used |= dict.fromkeys(
        name for constant in plan.constants for name in tensors_of(constant.expression))
    return replace(
        plan, sources={
            **{name: source[name].as_kind() for name in used if name in source.tensors},
            **plan.sources
        }, targets={
            **{place: variable.as_kind() for place, variable in target.variables.items()},
            **plan.targets
        }, layout=plan.layout or lazy_layout(target, places))
