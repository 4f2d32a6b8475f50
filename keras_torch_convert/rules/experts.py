"""Banks of experts: one matrix for each expert, which PyTorch keeps apart or in one tensor, either
way round.
"""

from __future__ import annotations

from ..plan.expressions import Expression, Permute, Tensor
from ..spec.source import SourceTensor
from ..spec.target import TargetVariable

SOURCE = ("a mixture of experts in Keras keeps one variable (expert, in, out); torch has a "
          "torch.nn.Linear (out, in) for each expert, joined by stack(...), or "
          "a tensor (expert, out, in) or (expert, in, out): the sizes say which, and nothing is "
          "moved where they do not")
RULE = "bank of experts"


def bank(tensor: SourceTensor, variable: TargetVariable) -> tuple[Expression, str] | None:
    """The tensor with the matrix of each expert transposed, and the layouts in words; None when it
    is no bank of experts or fits as it stands.
    """
    if len(tensor.shape) != 3 or "expert" not in tensor.name.lower(
    ) or tensor.shape == variable.shape:
        return None
    experts, rows, columns = tensor.shape
    if variable.shape != (experts, columns, rows):
        return None
    return Permute(Tensor(tensor.name), (0, 2, 1)), f"{RULE}: expert out in -> expert in out"
