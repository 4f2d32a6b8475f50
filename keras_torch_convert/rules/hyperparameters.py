"""Settings that are no weights, compared when the torch module is at hand: they change outputs or
training, and no shape tells.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ..keras_io.keras_private import all_layers
from ..plan.expressions import tensors_of
from ..plan.plan import Plan
from ..spec.layer_groups import last_part
from ..spec.source import Source
from ..spec.target import Target, TargetLayer
from ..util.text import join_names

# Names by which modules keep the constant under the square root.
_EPSILON = ("eps", "epsilon", "variance_epsilon")


@dataclass(frozen=True, slots=True)
class Differences:
    """What was found, in sentences: `warnings` change the outputs, `notes` only training or nothing
    that inference shows.
    """

    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def compare_hyperparameters(plan: Plan, source: Source, target: Target) -> Differences:
    """Epsilon, groups and nonlinearity (warnings), momentum, padding_idx, max_norm and dropout
    rates (notes) of every pair of layers of `plan`.

    Without a torch module nothing is compared. Which module belongs to which Keras layer is told by
    the tensors that the layer's variables get.
    """
    if source.module is None or plan.reversed:
        return Differences()
    warnings: list[str] = []
    notes: list[str] = []
    for name, module, layer in _pairs(plan, source.module, target):
        warnings += _epsilon(name, module, layer)
        warnings += _groups(name, module, layer)
        warnings += _nonlinearity(name, module, layer)
        notes += _momentum(name, module, layer)
        notes += _embedding(name, module, layer)
    notes += _dropout_rates(source.module, target)
    return Differences(tuple(dict.fromkeys(warnings)), tuple(dict.fromkeys(notes)))


def _pairs(plan: Plan, root: Any, target: Target) -> Iterator[tuple[str, Any, TargetLayer]]:
    """Name and module of the torch layers, each with the leaf layers that hold values of theirs."""
    leaf_of = {variable.key: leaf for leaf in target.leaves() for variable in leaf.variables}
    modules = dict(root.named_modules())
    seen: set[tuple[str, str]] = set()
    for assignment in plan.assignments:
        leaf = leaf_of.get(assignment.key)
        for tensor in tensors_of(assignment.expression) if leaf is not None else ():
            name = tensor[:-len(last_part(tensor)) - 1]
            if leaf is not None and name in modules and (name, leaf.display_name) not in seen:
                seen.add((name, leaf.display_name))
                yield name, modules[name], leaf


def _dropout_rates(root: Any, target: Target) -> list[str]:
    """Dropout layers own no weights: those of both sides that drop anything are paired in their
    order.
    """
    if target.framework == "torch" or target.model is None:
        return []
    torch = [(name, float(one.p))
             for name, one in root.named_modules() if type(one).__name__.startswith("Dropout")]
    torch = [(name, rate) for name, rate in torch if rate]
    keras = [(str(layer.name), float(layer.rate)) for layer in all_layers(target.model)
             if type(layer).__name__ in ("Dropout", "SpatialDropout1D", "SpatialDropout2D",
                                         "SpatialDropout3D") and layer.rate]
    if len(torch) != len(keras):
        said = (f"torch drops at {len(torch)} places ({_rates_text(torch)}), Keras at {len(keras)} "
                f"({_rates_text(keras)})")
        return [f"dropout: {said}: this shows in training only"]
    return [
        f"rate of '{ours}' is {rate:g}, p of torch layer '{theirs}' is {p:g}: this shows in "
        "training only" for (theirs, p), (ours, rate) in zip(torch, keras, strict=True)
        if not math.isclose(p, rate, rel_tol=1e-6)
    ]


def _rates_text(rates: list[tuple[str, float]]) -> str:
    return join_names((f"{name} {rate:g}" for name, rate in rates), 3)


def _number(module: Any, names: tuple[str, ...]) -> float | None:
    for name in names:
        value = getattr(module, name, None)
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            return float(value)
    return None


def torch_epsilon(module: Any) -> float | None:
    """The constant under a torch norm's square root, None when the module has none."""
    epsilon = _number(module, _EPSILON)
    if epsilon is None and type(module).__name__ == "RMSNorm" and getattr(module, "eps",
                                                                          0.0) is None:
        # torch.nn.RMSNorm without eps takes the machine epsilon of its input's type, float32 here.
        epsilon = 2.0**-23
    return epsilon


def _epsilon(name: str, module: Any, layer: TargetLayer) -> list[str]:
    keras = layer.settings.get("epsilon")
    torch = torch_epsilon(module)
    if keras is None or torch is None or math.isclose(torch, keras, rel_tol=1e-6):
        return []
    return [
        f"epsilon of '{layer.display_name}' is {keras:g}, eps of torch layer '{name}' is "
        f"{torch:g}: the outputs will differ, "
        f"build the Keras layer with epsilon={torch:g}"
    ]


def _groups(name: str, module: Any, layer: TargetLayer) -> list[str]:
    keras = layer.settings.get("groups")
    if "GroupNormalization" not in layer.class_names or not isinstance(keras, int):
        return []
    torch = _number(module, ("num_groups",))
    if torch is None and type(module).__name__.startswith("InstanceNorm"):
        torch = _number(module, ("num_features",))
    if torch is None or keras in (torch, -1 if torch == _number(module,
                                                                ("num_channels",
                                                                 "num_features")) else torch):
        return []
    return [
        f"groups of '{layer.display_name}' is {keras}, torch layer '{name}' normalizes {torch:g} "
        "groups: the outputs will differ"
    ]


def _nonlinearity(name: str, module: Any, layer: TargetLayer) -> list[str]:
    torch, keras = getattr(module, "nonlinearity", None), layer.settings.get("activation")
    if "SimpleRNNCell" not in layer.class_names or not isinstance(
            torch, str) or keras is None or torch == keras:
        return []
    return [
        f"activation of '{layer.display_name}' is '{keras}', nonlinearity of torch layer "
        f"'{name}' is '{torch}': the outputs will differ"
    ]


def _momentum(name: str, module: Any, layer: TargetLayer) -> list[str]:
    keras = layer.settings.get("momentum")
    if keras is None or not hasattr(module, "momentum") or not hasattr(module, "running_mean"):
        return []
    if module.momentum is None:
        return [
            f"momentum of '{layer.display_name}' is {keras:g}, torch layer '{name}' has "
            "momentum=None, a cumulative mean, which Keras lacks: "
            "this shows in training only"
        ]
    torch = float(module.momentum)
    if math.isclose(1.0 - torch, keras, rel_tol=1e-6):
        return []
    return [
        f"momentum of '{layer.display_name}' is {keras:g}, of torch layer '{name}' {torch:g}, "
        f"which Keras counts as {1.0 - torch:g}: this shows in training only"
    ]


def _embedding(name: str, module: Any, layer: TargetLayer) -> list[str]:
    if "Embedding" not in layer.class_names:
        return []
    notes = []
    padding, longest = getattr(module, "padding_idx", None), getattr(module, "max_norm", None)
    if isinstance(padding, int):
        notes.append(
            f"torch layer '{name}' has padding_idx={padding}: its row in '{layer.display_name}' "
            "has the same values, but Keras will train it "
            "(mask_zero is about masks, and only about token 0)")
    if isinstance(longest, (int, float)):
        notes.append(
            f"torch layer '{name}' has max_norm={longest:g}: it shortens rows above that norm "
            "whenever they are used, Keras does not; "
            "run the torch model over all tokens before converting, or shorten the rows")
    return notes
