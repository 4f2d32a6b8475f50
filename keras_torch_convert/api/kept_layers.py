"""Compare what is left when a layer keeps its own values, as a head for other classes does."""

from __future__ import annotations

import importlib
from dataclasses import replace
from typing import Any

from ..plan.difference import LEFT_OUT
from ..plan.plan import Plan
from ..running.input_pair import InputPair
from ..spec.layer_groups import last_part
from ..spec.source import Source
from ..spec.target import Target


def before_kept_layer(inputs: InputPair, source: Source, target: Target,
                      plan: Plan) -> InputPair | None:
    """Return the inputs with calls that give what goes into the layer that keeps its own values.

    Args:
        inputs: What both models are given.
        source: The torch side, with its module.
        target: The Keras side.
        plan: Says which Keras layer keeps its values, and which torch layer was left out for it.

    Returns:
        None when that is not one layer on each side, or when the Keras model is no graph in which
        the layer is called once.
    """
    kept = {
        leaf.display_name: leaf.layer for leaf in target.leaves() for variable in leaf.variables
        if plan.kept.get(variable.key, "").startswith(("keep_layers", LEFT_OUT))
    }
    left_out = {
        name[:-len(last_part(name)) - 1]
        for name, rule in plan.dropped.items() if rule.startswith(("skip_layers", LEFT_OUT))
    }
    if len(kept) != 1 or len(left_out) != 1:
        return None
    (keras_name, layer), = kept.items()
    torch_name, = left_out
    keras = importlib.import_module(target.framework)
    try:
        source.module.get_submodule(torch_name)
        # A name, so that Keras does not count up those that it makes.
        model = target.model
        given = model.inputs[0] if len(model.inputs) == 1 else model.input
        features = keras.Model(given, layer.input, name=f"before_{layer.name}")
    except (AttributeError, ValueError):
        return None

    def torch_call(module: Any, given: Any) -> Any:
        found: list[Any] = []
        hook = module.get_submodule(torch_name).register_forward_pre_hook(
            lambda _, arguments: found.extend(arguments[:1]))
        try:
            inputs.torch_call(module, given)
        finally:
            hook.remove()
        return found[0]

    def keras_call(_: Any, given: Any) -> Any:
        return inputs.keras_call(features, given)

    note = (f"'{keras_name}' keeps its own values: compared is what goes into it, and into "
            f"'{torch_name}' in torch")
    return replace(inputs, torch_call=torch_call, keras_call=keras_call, shows_classes=False,
                   notes=(*inputs.notes, note))
