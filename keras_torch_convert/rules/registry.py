"""All rules by kind of layer, and the kinds whose parameters are laid out in a way that only a rule
of their own could know.
"""

from __future__ import annotations

from collections.abc import Callable

from ..plan.recipe import Assignment
from ..spec.layer_groups import TorchLayer
from ..spec.target import TargetLayer
from . import (activation, bias_tables, convolution, dense, einsum, embedding, normalization,
               recurrent)
from .rule import Rule

RULES: tuple[Rule, ...] = (*convolution.RULES, *dense.RULES, *embedding.RULES, *normalization.RULES,
                           *activation.RULES, *recurrent.RULES, *bias_tables.RULES)
# Kinds of Keras layers whose variables are not one torch tensor each: a function of their own
# family makes the assignments.
Assigner = Callable[[TorchLayer, TargetLayer], tuple[Assignment, ...]]
ASSIGNERS: dict[str, Assigner] = {
    **dict.fromkeys(normalization.ASSIGNED_KINDS, normalization.assign_normalization),
    **dict.fromkeys(activation.ASSIGNED_KINDS, activation.assign_prelu),
    **dict.fromkeys(recurrent.ASSIGNED_KINDS, recurrent.assign_recurrent)
}

# Keras layers that hold the same function as a PyTorch one in another layout (gate orders, heads,
# equations, groups of locations): equal shapes say nothing there, so that nothing of theirs is ever
# moved as it stands.
LAID_OUT_OTHERWISE = {
    "RNN": "its gates and biases", "LSTMCell": "its gates and biases",
    "GRUCell": "its gates and biases", "SimpleRNNCell": "its gates and biases",
    "ConvLSTMCell": "its gates and biases", "Bidirectional": "its gates and biases",
    "MultiHeadAttention": "its heads", "GroupedQueryAttention": "its heads",
    "EinsumDense": "the axes of its equation", "LocallyConnected1D": "its locations",
    "LocallyConnected2D": "its locations", "SpectralNormalization": "its normalized kernel"
}

_RULE_OF_KIND = {
    kind: rule for rule in RULES for kind in rule.class_names if kind not in LAID_OUT_OTHERWISE
}


def assigner_for(layer: TargetLayer) -> Assigner | None:
    """The function that serves the nearest class along the layer's method resolution order, None
    when a rule does.
    """
    for kind in layer.class_names:
        if kind in ASSIGNERS:
            return ASSIGNERS[kind]
        if kind in _RULE_OF_KIND:
            return None
    return None


def rule_for(layer: TargetLayer) -> Rule | None:
    """The rule of the nearest class along the layer's method resolution order, None for a kind
    without one.
    """
    if "EinsumDense" in layer.class_names:
        return einsum.einsum_rule(layer)
    return next((_RULE_OF_KIND[kind] for kind in layer.class_names if kind in _RULE_OF_KIND), None)


def laid_out_otherwise(layer: TargetLayer) -> str | None:
    """In words what such a layer stores in another way than PyTorch does, None for every other
    kind.
    """
    for kind in layer.class_names:
        if kind in _RULE_OF_KIND:
            return None
        if kind in LAID_OUT_OTHERWISE:
            if kind == "EinsumDense" and rule_for(layer) is not None:
                return None
            return LAID_OUT_OTHERWISE[kind]
    return None
