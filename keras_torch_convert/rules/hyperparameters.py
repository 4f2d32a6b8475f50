"""Settings that are no weights, compared when the torch module is at hand: they change outputs or
training, and no shape tells.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from ..keras_io.keras_private import all_layers
from ..plan.expressions import tensors_of
from ..plan.plan import Plan
from ..spec.layer_groups import last_part
from ..spec.source import Source
from ..spec.target import Target, TargetLayer
from ..util.text import join_names, plural

# Names by which modules keep the constant under the square root.
_EPSILON = ("eps", "epsilon", "variance_epsilon")
_DROPOUTS = ("Dropout", "SpatialDropout1D", "SpatialDropout2D", "SpatialDropout3D")


@dataclass(frozen=True, slots=True)
class Differences:
    """Settings that differ, in sentences.

    `warnings` change the outputs, `notes` only training or nothing that inference shows.
    """

    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def compare_hyperparameters(plan: Plan, source: Source, target: Target) -> Differences:
    """Compare the settings of every pair of layers of a Plan.

    Epsilon, groups and nonlinearity that differ are warnings; momentum, padding_idx, max_norm and
    dropout rates are notes. Which module belongs to which Keras layer is told by the tensors that
    the layer's variables get. Layers of one class that differ in the same way share a sentence.

    Args:
        plan: The Plan by which the weights are carried over.
        source: The torch side; without a module nothing is compared.
        target: The Keras side.

    Returns:
        The sentences.
    """
    if source.module is None or plan.reversed:
        return Differences()
    warnings: list[_Difference] = []
    notes: list[_Difference] = []
    for name, module, layer in _pairs(plan, source.module, target):
        for found, checks in ((warnings, (_epsilon, _groups, _nonlinearity)),
                              (notes, (_momentum, _padding_idx, _max_norm))):
            texts = [check(module, layer) for check in checks]
            found += [
                _Difference(text, layer.class_name, layer.display_name, name)
                for text in texts if text
            ]
    notes += _dropout_rates(source.module, target)
    return Differences(_sentences(warnings), _sentences(notes))


@dataclass(frozen=True, slots=True)
class _Difference:
    """What differs, as a sentence with the places {layer} and {torch}, and the two layers."""

    text: str
    class_name: str = ""
    layer: str = ""
    torch: str = ""


def _sentences(differences: Iterable[_Difference]) -> tuple[str, ...]:
    """Return one sentence for all layers of a class that differ in the same way."""
    groups: dict[tuple[str, str], list[_Difference]] = {}
    for one in differences:
        groups.setdefault((one.class_name, one.text), []).append(one)
    sentences = []
    for (class_name, text), group in groups.items():
        layer, torch = f"'{group[0].layer}'", f"torch layer '{group[0].torch}'"
        if len(group) > 1:
            names = join_names((one.layer for one in group), 3, quoted=True)
            layer = f"{len(group)} {class_name} layers ({names})"
            torch = "their torch layers"
        sentences.append(text.format(layer=layer, torch=torch))
    return tuple(dict.fromkeys(sentences))


def _pairs(plan: Plan, root: Any, target: Target) -> Iterator[tuple[str, Any, TargetLayer]]:
    """Yield name and module of the torch layers, each with a leaf layer that takes its values."""
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


def _dropout_rates(root: Any, target: Target) -> list[_Difference]:
    """Compare the dropout layers of both sides that drop anything, paired in their order.

    They own no weights, so that no Plan pairs them.
    """
    if target.framework == "torch" or target.model is None:
        return []
    torch = [(name, float(one.p)) for name, one in root.named_modules()
             if type(one).__name__.startswith("Dropout") and one.p]
    keras = [(str(layer.name), float(layer.rate)) for layer in all_layers(target.model)
             if type(layer).__name__ in _DROPOUTS and layer.rate]
    if len(torch) != len(keras):
        left, right = (
            join_names((f"{name} {rate:g}" for name, rate in side), 3) for side in (torch, keras))
        # Braces in a name must not be taken for a place of the sentence.
        text = (f"dropout: torch drops at {plural(len(torch), 'place')} ({left}), Keras at "
                f"{len(keras)} ({right}): this shows in training only")
        return [_Difference(text.replace("{", "{{").replace("}", "}}"))]
    return [
        _Difference(
            f"rate of {{layer}} is {rate:g}, p of {{torch}} is {p:g}: this shows in training only",
            "dropout", ours, theirs)
        for (theirs, p), (ours, rate) in zip(torch, keras, strict=True)
        if not math.isclose(p, rate, rel_tol=1e-6)
    ]


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


def _epsilon(module: Any, layer: TargetLayer) -> str:
    keras = layer.settings.get("epsilon")
    torch = torch_epsilon(module)
    if keras is None or torch is None or math.isclose(torch, keras, rel_tol=1e-6):
        return ""
    return (f"epsilon of {{layer}} is {keras:g}, eps of {{torch}} is {torch:g}: the outputs will "
            f"differ, build the Keras layer with epsilon={torch:g}")


def other_epsilons(plan: Plan, source: Source, target: Target) -> list[tuple[str, float, Any]]:
    """Return the torch norms whose Keras layers have another epsilon: name, epsilon, leaf."""
    if source.module is None or plan.reversed:
        return []
    return [(name, theirs, leaf) for name, module, leaf in _pairs(plan, source.module, target)
            if _epsilon(module, leaf) and (theirs := torch_epsilon(module)) is not None]


def _groups(module: Any, layer: TargetLayer) -> str:
    keras = layer.settings.get("groups")
    if "GroupNormalization" not in layer.class_names or not isinstance(keras, int):
        return ""
    torch = _number(module, ("num_groups",))
    if torch is None and type(module).__name__.startswith("InstanceNorm"):
        torch = _number(module, ("num_features",))
    one_each = torch == _number(module, ("num_channels", "num_features"))
    if torch is None or keras == torch or (one_each and keras == -1):
        return ""
    return (f"groups of {{layer}} is {keras}, num_groups of {{torch}} is {torch:g}: the outputs "
            "will differ")


def _nonlinearity(module: Any, layer: TargetLayer) -> str:
    torch, keras = getattr(module, "nonlinearity", None), layer.settings.get("activation")
    if "SimpleRNNCell" not in layer.class_names or not isinstance(torch, str) or keras is None:
        return ""
    return "" if torch == keras else (f"activation of {{layer}} is '{keras}', nonlinearity of "
                                      f"{{torch}} is '{torch}': the outputs will differ")


def _momentum(module: Any, layer: TargetLayer) -> str:
    keras = layer.settings.get("momentum")
    if keras is None or not hasattr(module, "momentum") or not hasattr(module, "running_mean"):
        return ""
    if module.momentum is None:
        return (f"momentum of {{layer}} is {keras:g}, of {{torch}} None, a cumulative mean, which "
                "Keras lacks: this shows in training only")
    torch = float(module.momentum)
    if math.isclose(1.0 - torch, keras, rel_tol=1e-6):
        return ""
    return (f"momentum of {{layer}} is {keras:g}, of {{torch}} {torch:g}, which Keras counts as "
            f"{1.0 - torch:g}: this shows in training only")


def _padding_idx(module: Any, layer: TargetLayer) -> str:
    padding = getattr(module, "padding_idx", None)
    if "Embedding" not in layer.class_names or not isinstance(padding, int):
        return ""
    return (f"padding_idx of {{torch}} is {padding}: that row of {{layer}} has the same values, "
            "but Keras will train it (mask_zero is about masks, and only about token 0)")


def _max_norm(module: Any, layer: TargetLayer) -> str:
    longest = getattr(module, "max_norm", None)
    if "Embedding" not in layer.class_names or not isinstance(longest, (int, float)):
        return ""
    return (f"max_norm of {{torch}} is {longest:g}: it shortens rows above that norm whenever they "
            "are used, Keras does not; run the torch model over all tokens before converting, or "
            "shorten the rows")
