"""Sources and targets made by hand, so that a test shows all of its data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from keras_torch_convert import align
from keras_torch_convert.plan.executor import check_plan
from keras_torch_convert.plan.plan import Plan
from keras_torch_convert.rules import assign_pairs
from keras_torch_convert.spec.layer_groups import TorchLayer
from keras_torch_convert.spec.source import Source, SourceTensor
from keras_torch_convert.spec.target import Target, TargetLayer, TargetVariable


def tensor(name: str, values: Any, **about: Any) -> SourceTensor:
    """A source tensor with the given values."""
    array = np.asarray(values)
    return SourceTensor(name, array.shape, about.pop("dtype", array.dtype.name), lambda: array,
                        **about)


def source_of(tensors: Mapping[str, Any] | Sequence[SourceTensor]) -> Source:
    """A source of named arrays, or of tensors."""
    made = [tensor(name, values) for name, values in tensors.items()] if isinstance(
        tensors, Mapping) else tensors
    return Source({one.name: one for one in made}, "state dict")


def layer(name: str, kinds: str | Sequence[str], variables: Mapping[str, tuple[int, ...]],
          dtype: str = "float32", **settings: Any) -> TargetLayer:
    """A Keras layer on paper: `variables` are names and shapes."""
    made = tuple(
        TargetVariable(f"{name}/{index}", f"{name}/{variable}", variable, shape, dtype, True, None)
        for index, (variable, shape) in enumerate(variables.items()))
    return TargetLayer(name, name, (kinds,) if isinstance(kinds, str) else tuple(kinds), made, (),
                       0, settings, None)


def composite(name: str, kind: str, *children: TargetLayer) -> TargetLayer:
    """A Keras layer made of others, on paper."""
    variables = tuple(variable for child in children for variable in child.variables)
    return TargetLayer(name, name, (kind, "Layer"), variables, children, 0, {}, None)


def target_of(*layers: TargetLayer) -> Target:
    """A Keras model on paper."""
    return Target(None, "model", "keras", "torch", layers)


def stack_of(source: Source, name: str = "torch_layer") -> TorchLayer:
    """All tensors of a source as one torch layer."""
    return TorchLayer(name, tuple(source.tensors.values()))


def values_by_label(plan: Plan, source: Source, target: Target,
                    **options: Any) -> dict[str, np.ndarray]:
    """What the executor computes, by label of the variable."""
    return {
        variable.display_name: array
        for variable, array in check_plan(plan, source, target, **options).arrays()
    }


def moved(source: Source, keras_layer: TargetLayer) -> dict[str, np.ndarray]:
    """One stack onto one layer: the values by name of the variable."""
    plan = Plan(assign_pairs([(stack_of(source), keras_layer)]))
    values = values_by_label(plan, source, target_of(keras_layer))
    return {label.rsplit("/", 1)[1]: array for label, array in values.items()}


def module_source(module: Any) -> Source:
    """The state dict of a torch module, without BatchNorm's counters."""
    state = {
        name: one
        for name, one in module.state_dict().items() if not name.endswith("num_batches_tracked")
    }
    return source_of({name: one.numpy() for name, one in state.items()})


def transferred(module: Any, model: Any, torch_names: Sequence[str]) -> Any:
    """The Keras model, of one layer, with the weights of the torch layers `torch_names`."""
    from keras_torch_convert.keras_io.model import read_target
    from keras_torch_convert.keras_io.model_writer import transaction

    source, target = module_source(module), read_target(model)
    plan = align(source, target, mapping={target.layers[0].name: list(torch_names)})
    with transaction(target) as writer:
        for variable, array in check_plan(plan, source, target).arrays():
            writer.write(variable, array)
    return model
