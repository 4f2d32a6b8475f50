"""EinsumDense: a linear layer whose axes the equation names."""

from __future__ import annotations

from ..spec.target import TargetLayer
from .rule import AxisPattern, Rule

SOURCE = ("keras.layers.EinsumDense: the letters of the kernel are those that the equation sums "
          "over and those that it makes; "
          "torch.nn.Linear keeps each group merged as one axis, (made, summed)")


def einsum_rule(layer: TargetLayer) -> Rule | None:
    """The rule that the layer's equation gives, None when it is no matrix product: letters of the
    kernel on all three sides, or none known.
    """
    equation = layer.settings.get("equation")
    letters = _letters(str(equation)) if equation else None
    if letters is None:
        return None
    made, summed, kernel, output = letters
    movements = {"kernel": AxisPattern(f"{_merged(made)} {_merged(summed)}", " ".join(kernel))}
    bias = next((variable for variable in layer.variables if variable.name == "bias"), None)
    if bias is not None:
        axes = output[len(output) - len(bias.shape):]
        larger = {letter for letter, extent in zip(axes, bias.shape, strict=True) if extent > 1}
        if not larger <= set(made):
            return None
        movements["bias"] = AxisPattern(_merged(axes), " ".join(axes))
    return Rule(f"einsum dense {equation}", ("EinsumDense",), SOURCE, movements)


def _letters(equation: str) -> tuple[str, str, str, str] | None:
    """Letters that the kernel makes (in the output's order), sums over (in the input's), has; and
    the output's.
    """
    inputs, _, output = equation.replace(" ", "").replace("...", "").partition("->")
    data, _, kernel = inputs.partition(",")
    summed = "".join(letter for letter in data if letter in kernel and letter not in output)
    made = "".join(letter for letter in output if letter in kernel and letter not in data)
    if not kernel or sorted(made + summed) != sorted(kernel):
        return None
    return made, summed, kernel, output


def _merged(letters: str) -> str:
    return f"({' '.join(letters)})" if letters else "1"
