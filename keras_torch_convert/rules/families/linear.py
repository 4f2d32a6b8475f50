"""Matrices and tables: dense layers, with or without an equation, embeddings, banks of experts."""

from __future__ import annotations

from ...plan.expressions import Expression, Permute, Tensor
from ...spec.source import SourceTensor
from ...spec.target import TargetLayer, TargetVariable
from ..rule import AxisPattern, Rule

_EINSUM_SOURCE = ("keras.layers.EinsumDense: the letters of the kernel are those that the equation "
                  "sums over and those that it makes; torch.nn.Linear keeps each group merged as "
                  "one axis, (made, summed)")
_BANK = "bank of experts"


def linear_rule(layer: TargetLayer) -> Rule | None:
    """Return the rule of a dense layer, with or without an equation, None for any other layer."""
    if "EinsumDense" in layer.class_names:
        return _einsum_rule(layer)
    return _DENSE if "Dense" in layer.class_names else None


def _einsum_rule(layer: TargetLayer) -> Rule:
    """Return the rule that the equation gives; it refuses what is no matrix product."""
    equation = str(layer.settings.get("equation") or "")
    axes = _axes_of_equation(equation, layer)
    return Rule(f"einsum dense {equation}", ("EinsumDense",), _EINSUM_SOURCE, axes or {},
                unlike_torch="" if axes else "the axes of its equation")


def _axes_of_equation(equation: str, layer: TargetLayer) -> dict[str, AxisPattern] | None:
    inputs, _, output = equation.replace(" ", "").replace("...", "").partition("->")
    data, _, kernel = inputs.partition(",")
    summed = "".join(letter for letter in data if letter in kernel and letter not in output)
    made = "".join(letter for letter in output if letter in kernel and letter not in data)
    if not kernel or sorted(made + summed) != sorted(kernel):
        return None
    axes = {"kernel": AxisPattern(f"{_merged(made)} {_merged(summed)}", " ".join(kernel))}
    bias = next((variable for variable in layer.variables if variable.name == "bias"), None)
    if bias is not None:
        letters = output[len(output) - len(bias.shape):]
        larger = {letter for letter, extent in zip(letters, bias.shape, strict=True) if extent > 1}
        if not larger <= set(made):
            return None
        axes["bias"] = AxisPattern(_merged(letters), " ".join(letters))
    return axes


def _merged(letters: str) -> str:
    return f"({' '.join(letters)})" if letters else "1"


def bank_of_experts(tensor: SourceTensor,
                    variable: TargetVariable) -> tuple[Expression, str] | None:
    """Transpose the matrix of each expert; None when the tensor is no bank or fits as it stands.

    Returns:
        The expression, and the rule in words.
    """
    if len(tensor.shape) != 3 or "expert" not in tensor.name.lower():
        return None
    experts, rows, columns = tensor.shape
    if tensor.shape == variable.shape or variable.shape != (experts, columns, rows):
        return None
    return Permute(Tensor(tensor.name), (0, 2, 1)), f"{_BANK}: expert out in -> expert in out"


_DENSE = Rule(
    "dense", ("Dense",), "torch.nn.Linear computes x A^T + b with A (out, in); "
    "keras.layers.Dense computes x kernel + bias", {"kernel": AxisPattern("out in", "in out")})
RULES = (_DENSE, Rule("einsum dense", ("EinsumDense",), _EINSUM_SOURCE, for_layer=_einsum_rule),
         Rule(
             "embedding", ("Embedding",), "torch.nn.Embedding weight and keras.layers.Embedding "
             "embeddings are both (tokens, width); keras.layers.ReversibleEmbedding has the matrix "
             "of torch's output layer as (width, tokens)", {
                 "embeddings": AxisPattern("token width", "token width"),
                 "reverse_embeddings": AxisPattern("token width", "width token")
             }))
CONDITIONAL_RULES = (
    Rule(
        "fused and split layers", (),
        "rows of one tensor for several Keras layers, or several tensors one after the other for "
        "one: torch stacks outputs along the first axis; which part is which stands in a mapping "
        "(split, concat, stack) or is found by running both models"),
    Rule(
        _BANK, (),
        "a mixture of experts in Keras keeps one variable (expert, in, out); torch has a "
        "torch.nn.Linear (out, in) for each expert, joined by stack(...), or a tensor (expert, "
        "out, in) or (expert, in, out): the sizes say which, and nothing is moved where they do "
        "not"),
    Rule(
        "raw parameter", (),
        "a parameter that no rule names moves as it stands; axes of size 1 may differ around a "
        "vector, leading ones around anything: (C,), (1, 1, C), (C, 1, 1) of a layer scale, (1, 1, "
        "C) of a class token, (1, N, C) of a position table"))
