"""The other direction: what a Keras model holds, into a torch module or a state dict of its own.

The same Plan, executor and journal as for Keras models: only what is read and what is written change places.
"""

from __future__ import annotations

from dataclasses import replace
from os import PathLike
from typing import Any

from .align.assemble import plan_by_order
from .collect import collect
from .errors import TransferError
from .plan import Plan
from .read import read
from .read.keras_model import read_target
from .read.keras_weights import read_keras_file
from .read.source import Source
from .read.target import Target
from .read.torch_target import read_keras_source, read_torch_target, torch_target_of
from .save.values import torch_tensor
from .transfer.executor import Prepared, Strict, prepare


def sides_of(keras_model: Any, module: Any, plan: Plan | None, sample: Any) -> tuple[Plan, Source, Target, Target]:
    """What is needed to fill `module` from `keras_model`: (Plan from Keras to torch, source, torch target, the Keras model as it is read).

    Without a Plan the layers are paired by order, as if to fill the Keras model, and the Plan is inverted; so is a Plan of that direction.
    """
    keras = keras_model if isinstance(keras_model, Target) else read_target(keras_model, sample=sample)
    if plan is None:
        source = read(module)
        plan = plan_by_order(collect(source), keras, order=source.order)
    return reverse_of(plan), read_keras_source(keras), read_torch_target(module), keras


def reverse_of(plan: Plan) -> Plan:
    """The Plan itself when it leads from Keras to torch, else its inverse."""
    return plan if plan.reversed else plan.invert()


def to_state_dict(keras_model: Any, plan: Plan, *, strict: Strict = True) -> dict[str, Any]:
    """A state dict with the weights of a Keras model: names to new torch tensors, as `plan` says; no torch module is needed.

    `keras_model` may be the path of a Keras file as well (.h5, .weights.h5, .keras, or the index of shards), which needs no Keras.
    `plan` is a Plan from Keras to torch, or one from torch to Keras, which is inverted. Names, shapes and types are
    those of the torch side when the Plan was made. Tensors that the Plan leaves out are not in the result; BatchNorm does
    without its counter, for anything else load it with `strict=False`.
    `strict=True` refuses Keras variables that are left over. Raises TransferError with all problems in `.problems`, SourceError for a file that
    cannot be read or is of another architecture.
    """
    plan = reverse_of(plan)
    if isinstance(keras_model, (str, PathLike)):
        source = read_keras_file(keras_model, plan)
    else:
        source = read_keras_source(keras_model if isinstance(keras_model, Target) else read_target(keras_model))
    prepared = prepare_state_dict(plan, source, strict)
    return {variable.place: torch_tensor(array) for variable, array in prepared.arrays()}


def prepare_state_dict(plan: Plan, source: Source, strict: Strict) -> Prepared:
    """A Plan from Keras to torch, checked against what it is applied to; its targets are all that is known of the torch side."""
    assigned = {assignment.place for assignment in plan.assignments}
    missing = assigned - set(plan.targets)
    if missing:
        raise TransferError(
            f"the plan does not know shape and type of '{min(missing)}'; make it anew, with a conversion of live models"
        )
    target = torch_target_of({name: kind for name, kind in plan.targets.items() if name in assigned})
    return prepare(replace(plan, kept={}), source, target, strict=strict)
