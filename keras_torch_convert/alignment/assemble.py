"""From pairs of layers to the Plan: where every alignment by layers ends."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from ..keras_io.lazy_layout import lazy_layout
from ..plan.derived_tensors import own_tensors
from ..plan.plan import Plan
from ..plan.recipe import tensors_read
from ..rules.callbacks import Transfer, calls_for
from ..rules.families.position_tables import Resize, check_resize, with_resized_tables
from ..rules.layer import assign_pairs
from ..spec.layer_groups import TorchLayer
from ..spec.source import Source
from ..spec.target import Target, TargetLayer


def plan_of_pairs(pairs: Sequence[tuple[TorchLayer, TargetLayer]], target: Target,
                  additional_transfer: Mapping[Any, Transfer], *, dropped: Mapping[str, str],
                  kept: Mapping[str, str], resize: Resize = None) -> Plan:
    """Make the Plan that fills each Keras layer from its torch layer.

    Args:
        pairs: Torch layers with their Keras layers.
        target: The Keras model.
        additional_transfer: The callbacks of the user.
        dropped: Names of tensors that a rule leaves out, with the rule in words.
        kept: Keys of variables that keep their values, with the rule in words.
        resize: How position tables of another resolution are resized.

    Raises:
        TransferError: Some pairs do not fit; it lists all of them.
    """
    check_resize(resize)
    variables = target.variables
    order = {key: index for index, key in enumerate(variables)}
    calls = [calls_for(layer, additional_transfer) for _, layer in pairs]
    resized = [(one if hit else with_resized_tables(one, layer, target, resize), layer)
               for (one, layer), hit in zip(pairs, calls, strict=True)]
    assignments = sorted(assign_pairs(resized, calls), key=lambda one: order[one.key])
    assigned = {assignment.key for assignment in assignments}
    tensors = own_tensors(tensor for one, _ in pairs for tensor in one.tensors)
    constants = [constant for assignment in assignments for constant in assignment.constants]
    return Plan(tuple(assignments), dropped,
                {key: rule for key, rule in kept.items() if key not in assigned},
                tuple((one.name, layer.display_name) for one, layer in pairs), tuple(constants),
                sources={tensor.name: tensor.spec for tensor in tensors}, targets={
                    key: variable.spec for key, variable in variables.items()
                }, layout=lazy_layout(target, assigned))


def with_both_sides(plan: Plan, source: Source, target: Target) -> Plan:
    """Add what a Plan from torch to Keras lacks: the arrays of both sides and the file layout."""
    keys = {assignment.key for assignment in plan.assignments}
    sources = {name: source[name].spec for name in tensors_read(plan) if name in source.tensors}
    targets = {key: variable.spec for key, variable in target.variables.items()}
    return replace(plan, sources={**sources, **plan.sources}, targets={**targets, **plan.targets},
                   layout=plan.layout or lazy_layout(target, keys))
