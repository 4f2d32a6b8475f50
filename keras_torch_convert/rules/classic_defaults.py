"""What keras_cv_attention_models hands to a callback: its default transform of the first array, by
class.

For layers that a callback hits, and only for those: recipes in use were written against exactly
these arrays. The first class that fits counts, subclasses included, so in Keras 2 a Conv2DTranspose
is a Conv2D and in Keras 3 it is not.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..plan.expressions import Expression, Permute, Reshape, Tensor
from ..spec.source import SourceTensor
from ..spec.target import TargetLayer

_TRANSPOSED_AXES = {
    "DepthwiseConv2D": (2, 3, 0, 1), "Conv2D": (2, 3, 1, 0), "PReLU": None, "Conv1D": (2, 1, 0),
    "Dense": None
}


def callback_operands(layer: TargetLayer,
                      tensors: Sequence[SourceTensor]) -> tuple[Expression, ...]:
    """The tensors of one layer as the reference gives them to a callback.

    Raises ValueError when the first tensor has not the rank of the layer's default transform, as
    the reference does.
    """
    operands: list[Expression] = [Tensor(tensor.name) for tensor in tensors]
    kind = next((kind for kind in _TRANSPOSED_AXES if kind in layer.class_names), None)
    if not tensors or kind is None:
        return tuple(operands)
    first = tensors[0]
    axes = _TRANSPOSED_AXES[kind]
    if kind == "PReLU":
        operands[0] = Reshape(operands[0], (1, 1, *first.shape))
    elif kind == "Dense":
        operands[0] = Permute(operands[0], tuple(reversed(range(len(first.shape)))))
    elif axes is not None:
        if len(first.shape) != len(axes):
            raise ValueError(
                f"the default transform of {kind} permutes a tensor of {len(axes)} axes before "
                "the callback runs, "
                f"got '{first.name}' of shape {first.shape}")
        operands[0] = Permute(operands[0], axes)
    if kind == "Conv2D" and len(tensors) > 2:
        operands[2] = Reshape(operands[2],
                              tuple(extent for extent in tensors[2].shape if extent != 1))
    return tuple(operands)
