"""Matrices and tables: dense layers, with or without an equation, embeddings, banks of experts."""

from __future__ import annotations

from ...plan.expressions import Expression, Permute, Tensor
from ...spec.source import SourceTensor
from ...spec.target import TargetLayer, TargetVariable
from ..rule import AxisPattern, Rule

_EINSUM_SOURCE = ("keras.layers.EinsumDense: the equation sums over some axes of the kernel and "
                  "keeps the others for the output; torch.nn.Linear has each group as one axis, "
                  "(output, summed)")
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
        "Several Keras layers take rows of one torch tensor, or one Keras layer takes several "
        "tensors: torch stacks outputs along the first axis. A mapping says which part is which "
        "(split, concat, stack), or running both models finds it"),
    Rule(
        _BANK, (),
        "A mixture of experts in Keras keeps one variable (expert, in, out). PyTorch has a "
        "torch.nn.Linear (out, in) for each expert, joined by stack(...), or a tensor (expert, "
        "out, in) or (expert, in, out). The sizes tell which; a tensor that fits as it stands is "
        "not transposed"),
    Rule(
        "raw parameter", (),
        "A parameter without a rule of its own moves as it stands. A vector may have other axes of "
        "size 1 on any side: a layer scale (C,), (1, 1, C) or (C, 1, 1), a class token (1, 1, C). "
        "Anything else may have others in front: a position table (1, N, C)"))
