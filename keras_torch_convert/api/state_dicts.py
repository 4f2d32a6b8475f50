"""The other direction: what a Keras model holds, into a torch module or a state dict of its own.

The same Plan, executor and journal as for Keras models: only what is read and what is written
change places.
"""

from __future__ import annotations

from dataclasses import replace
from os import PathLike
from typing import Any

from ..alignment.by_order import PairingOptions, plan_by_order
from ..errors import TransferError
from ..keras_io.keras_source import read_keras_file, read_keras_source
from ..keras_io.model import read_target
from ..keras_io.values import torch_tensor
from ..plan.executor import CheckedPlan, Strict, check_plan
from ..plan.plan import Plan
from ..spec.layer_groups import group_by_layer
from ..spec.source import Source
from ..spec.target import Target
from ..torch_io.module import read_torch_target, torch_target_of
from ..torch_io.reader import read


def sides_of(keras_model: Any, module: Any, plan: Plan | None,
             sample: Any) -> tuple[Plan, Source, Target, Target]:
    """Read what is needed to fill `module` from `keras_model`.

    Without a Plan the layers are paired by order, as if to fill the Keras model, and the Plan is
    inverted; so is a Plan of that direction.

    Returns:
        The Plan from Keras to torch, the source, the torch target, and the Keras model as read.
    """
    keras = keras_model if isinstance(keras_model, Target) else read_target(
        keras_model, sample=sample)
    if plan is None:
        source = read(module)
        plan = plan_by_order(group_by_layer(source), keras,
                             options=PairingOptions(order=source.order))
    return reverse_of(plan), read_keras_source(keras), read_torch_target(module), keras


def reverse_of(plan: Plan) -> Plan:
    """Return the Plan itself when it leads from Keras to torch, else its inverse."""
    return plan if plan.reversed else plan.invert()


def to_state_dict(keras_model: Any, plan: Plan, *, strict: Strict = True) -> dict[str, Any]:
    """Make a PyTorch state dict from a Keras model or file; no torch module is needed.

    Names, shapes and types are those of the torch side when the Plan was made. Tensors that the
    Plan leaves out are not in the result. BatchNorm does without its counter; for anything else
    load the result with `strict=False`.

    Args:
        keras_model: A Keras model, or the path of a Keras file (.h5, .weights.h5, .keras, or the
            index of shards), which needs no Keras.
        plan: A Plan from Keras to torch, or one from torch to Keras, which is inverted.
        strict: True refuses Keras variables that are left over.

    Returns:
        Names to new torch tensors.

    Raises:
        TransferError: The two sides do not fit; `.problems` lists everything.
        SourceError: The file cannot be read, or has another architecture.

    Example:
        >>> state = ktc.to_state_dict(keras_model, plan)
        >>> sorted(state)[:2]
        ['conv.bias', 'conv.weight']
    """
    plan = reverse_of(plan)
    if isinstance(keras_model, (str, PathLike)):
        source = read_keras_file(keras_model, plan)
    else:
        source = read_keras_source(
            keras_model if isinstance(keras_model, Target) else read_target(keras_model))
    prepared = prepare_state_dict(plan, source, strict)
    return {variable.key: torch_tensor(array) for variable, array in prepared.arrays()}


def prepare_state_dict(plan: Plan, source: Source, strict: Strict) -> CheckedPlan:
    """Check a Plan from Keras to torch against what it is applied to; its targets are all that is
    known of the torch side.
    """
    assigned = {assignment.key for assignment in plan.assignments}
    missing = assigned - set(plan.targets)
    if missing:
        raise TransferError(
            f"the plan does not know shape and type of '{min(missing)}'; make it anew, with a "
            "conversion of live models")
    target = torch_target_of(
        {name: spec for name, spec in plan.targets.items() if name in assigned})
    return check_plan(replace(plan, kept={}), source, target, strict=strict)
