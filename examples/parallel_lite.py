"""A network with parallel branches, in PyTorch and in Keras, that runs on the pretrained weights of
EfficientNet-Lite0.

Blocks 12, 13 and 14 of EfficientNet-Lite0 are residual and of equal shape. Here they stand side by
side instead of one behind the other: each sees the same input, and their three answers are added to
it. The picture of the cat is still recognized, by a network whose layers the two frameworks list in
different order: PyTorch branch after branch, Keras by depth, so first the expansions of all three
branches, then all their norms, and so on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

FIRST_BRANCH, LAST_BRANCH = 12, 14
BLOCKS = (  # expansion, kernel size, stride, channels out; as in EfficientNet-Lite0
    (1, 3, 1, 16), *((6, 3, 2, 24), (6, 3, 1, 24)), *((6, 5, 2, 40), (6, 5, 1, 40)),
    *((6, 3, 2, 80), (6, 3, 1, 80), (6, 3, 1, 80)), *((6, 5, 1, 112), (6, 5, 1, 112),
                                                      (6, 5, 1, 112)),
    *((6, 5, 2, 192), (6, 5, 1, 192), (6, 5, 1, 192), (6, 5, 1, 192)), (6, 3, 1, 320))


def parallel_lite_torch(lite: torch.nn.Module) -> torch.nn.Module:
    """Return the PyTorch side, made of the layers of a pretrained EfficientNet-Lite0."""
    import torch

    class ParallelLite(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem_conv, self.stem_bn = lite._conv_stem, lite._bn0
            self.blocks = torch.nn.ModuleList(lite._blocks[:FIRST_BRANCH])
            self.branches = torch.nn.ModuleList(lite._blocks[FIRST_BRANCH:LAST_BRANCH + 1])
            self.last_block = lite._blocks[LAST_BRANCH + 1]
            self.head_conv, self.head_bn = lite._conv_head, lite._bn1
            self.classifier = lite._fc

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = torch.nn.functional.relu6(self.stem_bn(self.stem_conv(x)))
            for block in self.blocks:
                x = block(x)
            # Each block adds its own input, which is wanted once and not three times.
            x = x + sum(branch(x) - x for branch in self.branches)
            x = self.last_block(x)
            x = torch.nn.functional.relu6(self.head_bn(self.head_conv(x)))
            return self.classifier(x.mean(dim=(2, 3)))

    return ParallelLite().eval()


def parallel_lite_keras() -> Any:
    """Return the Keras side: fresh, (224, 224, 3) in, 1000 logits out."""
    import keras
    from keras import layers

    def convolution(x: Any, name: str, filters: int, kernel_size: int, stride: int = 1,
                    relu: bool = True) -> Any:
        options = {"strides": stride, "padding": "same", "use_bias": False, "name": f"{name}_conv"}
        if filters:
            x = layers.Conv2D(filters, kernel_size, **options)(x)
        else:
            x = layers.DepthwiseConv2D(kernel_size, **options)(x)
        x = layers.BatchNormalization(epsilon=1e-3, name=f"{name}_bn")(x)
        return layers.ReLU(6.0, name=f"{name}_relu")(x) if relu else x

    def residual(x: Any, name: str, expansion: int, kernel_size: int, stride: int,
                 channels: int) -> Any:
        if expansion > 1:
            x = convolution(x, f"{name}_expand", x.shape[-1] * expansion, 1)
        x = convolution(x, f"{name}_depthwise", 0, kernel_size, stride)
        return convolution(x, f"{name}_project", channels, 1, relu=False)

    inputs = layers.Input((224, 224, 3))
    x = convolution(inputs, "stem", 32, 3, stride=2)
    for index, (expansion, kernel_size, stride, channels) in enumerate(BLOCKS[:FIRST_BRANCH]):
        block_input = x
        x = residual(x, f"block{index}", expansion, kernel_size, stride, channels)
        if stride == 1 and block_input.shape[-1] == channels:
            x = layers.Add(name=f"block{index}_add")([block_input, x])
    branches = [
        residual(x, f"branch{index}", *BLOCKS[index])
        for index in range(FIRST_BRANCH, LAST_BRANCH + 1)
    ]
    x = layers.Add(name="branches_add")([x, *branches])
    x = residual(x, "block15", *BLOCKS[LAST_BRANCH + 1])
    x = convolution(x, "head", 1280, 1)
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    return keras.Model(inputs, layers.Dense(1000, name="classifier")(x), name="parallel_lite")
