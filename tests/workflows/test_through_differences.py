"""Models that differ in one to four places: every layer gets the weights that it gets in the pair
without a difference, and nothing wrong is called proven.
"""

from __future__ import annotations

import random
from typing import Any

import keras
import pytest
import torch
from torch import nn
from torch.nn import functional

import keras_torch_convert as ktc
from tests.helpers.fault_pairs import convolutions, decoder, maps, transformer
from tests.helpers.faults import Pair, every_fault
from tests.helpers.small_models import randomized

MAKERS = {
    "convolutions": convolutions, "transformer": transformer, "maps": maps, "decoder": decoder
}
# Faults of settings and of steps without weights; none that changes weights, inputs or outputs.
WORDS = ("epsilon", "Keras relu", "Keras gelu", "Keras silu", "Keras hard", "torch ReLU",
         "torch GELU", "torch SiLU", "torch Hard", "slope", "residual", "groups of", "scale of",
         "output of a layer scaled")
FAULTS = [fault for fault in every_fault() if fault.name.startswith(WORDS)]


def sources_by_name(plan: ktc.Plan) -> dict[str, Any]:
    """The expression of every variable by the name that people know it by."""
    return {plan.targets[one.key].display_name: one.expression for one in plan.assignments}


def with_faults(maker: str, count: int, seed: int) -> tuple[Pair, list[str]]:
    """A pair with `count` faults at random places, and their names."""
    rng = random.Random(f"{maker} {count} {seed}")
    pair, names = MAKERS[maker](keras), []
    while len(names) < count:
        fault = rng.choice(FAULTS)
        if places := fault.places(pair):
            fault.put(pair, rng.choice(places))
            names.append(fault.name)
    return pair, names


@pytest.mark.parametrize("maker", MAKERS)
def test_every_layer_gets_its_weights(maker: str) -> None:
    unchanged = MAKERS[maker](keras)
    wanted = sources_by_name(
        ktc.align(unchanged.torch_module, unchanged.keras_model, sample=unchanged.sample))
    for count in (1, 2, 3, 4):
        for seed in range(3):
            pair, faults = with_faults(maker, count, seed)
            report = ktc.convert(pair.torch_module, pair.keras_model, sample=pair.sample,
                                 if_different="keep")
            assert report.plan is not None
            found = sources_by_name(report.plan)
            wrong = {name for name, expression in wanted.items() if found.get(name) != expression}
            assert not wrong, faults
            assert {entry.status for entry in report.ledger} <= {"used", "skipped", "set", "kept"}


def test_what_stands_behind_a_difference_is_not_called_proven() -> None:
    torch_model = MAKERS["maps"](keras).torch_module
    pair = MAKERS["maps"](keras)
    pair.keras_model.get_layer("norm1").epsilon = 0.5
    report = ktc.convert(torch_model, pair.keras_model, sample=pair.sample, if_different="keep")
    told = {name: words for name, words in report.evidence.items() if "/" not in name}
    assert "told by input and output" in told["conv1"]
    assert "the models differ here; " in told["norm1"]
    assert "distance" not in told["norm1"]
    assert "told by its output on torch's own input" in told["conv3"]


class TorchInception(nn.Module):
    """Blocks of three branches, of which two begin with convolutions of one shape."""
    def __init__(self, blocks: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 12, 3, padding=1, bias=False)
        self.blocks = nn.ModuleList(
            nn.ModuleDict({
                "single": self.unit(12, 4, 1), "first": self.unit(12, 4, 1), "second": self.unit(
                    4, 4, 3), "pooled": self.unit(12, 4, 1)
            }) for _ in range(blocks))
        self.head = nn.Linear(12, 5)

    @staticmethod
    def unit(channels: int, filters: int, kernel: int) -> nn.Module:
        return nn.Sequential(nn.Conv2d(channels, filters, kernel, padding=kernel // 2, bias=False),
                             nn.BatchNorm2d(filters, eps=1e-3), nn.ReLU())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        for block in self.blocks:
            branches = [
                block["single"](x), block["second"](block["first"](x)),
                block["pooled"](functional.avg_pool2d(x, 3, 1, 1))
            ]
            x = torch.cat(branches, 1)
        result: torch.Tensor = self.head(x.mean((2, 3)))
        return result


def keras_inception(blocks: int) -> Any:
    def unit(x: Any, filters: int, kernel: int) -> Any:
        x = keras.layers.Conv2D(filters, kernel, padding="same", use_bias=False)(x)
        return keras.layers.ReLU()(keras.layers.BatchNormalization()(x))

    x = given = keras.Input((12, 12, 3))
    x = keras.layers.Conv2D(12, 3, padding="same", use_bias=False)(x)
    for _ in range(blocks):
        pooled = keras.layers.AveragePooling2D(3, 1, padding="same")(x)
        second = unit(unit(x, 4, 1), 4, 3)
        x = keras.layers.concatenate([unit(x, 4, 1), second, unit(pooled, 4, 1)])
    x = keras.layers.GlobalAveragePooling2D()(x)
    return keras.Model(given, keras.layers.Dense(5)(x))


def test_one_difference_in_every_block_of_branches_that_look_the_same() -> None:
    """Layers with automatic names, whose places in a block only shapes tell."""
    report = ktc.convert(randomized(TorchInception(5)), keras_inception(5), if_different="keep")
    assert set(report.match_status.values()) <= {
        "proven", "proven given its input", "proven but for a cause"
    }
    assert report.comparison is not None
    found = report.comparison.first_divergence
    assert found is not None
    assert [(one.kind, len(one.keras_layers)) for one in found.differences
           ] == [("count_include_pad", 5)]


class TorchBottleneck(nn.Module):
    """The stride of a block stands in its second convolution, as in torchvision."""
    def __init__(self, channels: int, filters: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, filters, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(filters)
        self.conv2 = nn.Conv2d(filters, filters, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(filters)
        self.conv3 = nn.Conv2d(filters, 4 * filters, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(4 * filters)
        self.downsample = nn.Sequential(nn.Conv2d(channels, 4 * filters, 1, stride, bias=False),
                                        nn.BatchNorm2d(4 * filters)) if stride > 1 else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        y = self.bn1(self.conv1(x)).relu()
        y = self.bn2(self.conv2(y)).relu()
        result: torch.Tensor = (self.bn3(self.conv3(y)) + shortcut).relu()
        return result


def keras_bottlenecks(first: int, second: int) -> Any:
    """Convolutions with an offset that torch lacks, and a stride in either of two."""
    def unit(x: Any, filters: int, kernel: int, stride: int, name: str) -> Any:
        x = keras.layers.ZeroPadding2D(1)(x) if kernel == 3 else x
        x = keras.layers.Conv2D(filters, kernel, stride, name=f"{name}_conv")(x)
        return keras.layers.BatchNormalization(epsilon=1e-5, name=f"{name}_bn")(x)

    x = given = keras.Input((16, 16, 3))
    x = keras.layers.Conv2D(16, 3, padding="same", name="stem")(x)
    for stage, filters in enumerate((4, 8, 16), 1):
        for block in (1, 2):
            name, stride = f"stage{stage}_block{block}", 2 if block == 1 else 1
            y = unit(x, filters, 1, first if stride > 1 else 1, f"{name}_1")
            y = unit(keras.layers.ReLU()(y), filters, 3, second if stride > 1 else 1, f"{name}_2")
            shortcut = unit(x, 4 * filters, 1, 2, f"{name}_0") if stride > 1 else x
            y = unit(keras.layers.ReLU()(y), 4 * filters, 1, 1, f"{name}_3")
            x = keras.layers.ReLU()(keras.layers.add([shortcut, y]))
    return keras.Model(given, x)


def test_a_stride_in_another_convolution_of_each_stage() -> None:
    """Maps of another size inside a block, in layers with an offset that torch lacks."""
    blocks, channels = [], 16
    for filters in (4, 8, 16):
        blocks += [TorchBottleneck(channels, filters, 2), TorchBottleneck(4 * filters, filters, 1)]
        channels = 4 * filters
    module = randomized(nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), *blocks))
    assert ktc.convert(module, keras_bottlenecks(1, 2)).equal
    report = ktc.convert(module, keras_bottlenecks(2, 1), if_different="keep")
    assert report.comparison is not None
    found = report.comparison.first_divergence
    assert found is not None
    assert {one.kind for one in found.differences} == {"strides"}
    assert {layer for one in found.differences for layer in one.keras_layers
           } == {f"stage{stage}_block1_{number}_conv" for stage in (1, 2, 3) for number in (1, 2)}


class TorchPyramid(nn.Module):
    """Maps of three sizes, each brought to the largest one by as many blocks as that takes."""
    def __init__(self) -> None:
        super().__init__()
        self.down = nn.ModuleList(
            nn.Conv2d(width, 16, 3, stride=2, padding=1) for width in (3, 16, 16))
        self.up = nn.ModuleList(
            nn.ModuleList([
                nn.Sequential(nn.Conv2d(16 if number == 0 else 8, 8, 3, padding=1, bias=False),
                              nn.GroupNorm(4, 8), nn.ReLU()) for number in range(max(count, 1))
            ]) for count in (2, 1, 0))
        self.head = nn.Conv2d(8, 3, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        maps = []
        for layer in self.down:
            maps.insert(0, x := functional.relu(layer(x)))
        total = 0
        for number, (blocks, given) in enumerate(zip(self.up, maps, strict=True)):
            own = given
            for block in blocks:
                own = block(own)
                if number < 2:
                    own = functional.interpolate(own, scale_factor=2.0, mode="bilinear",
                                                 align_corners=True)
            total = total + own
        return self.head(total)


def keras_pyramid() -> keras.Model:
    """The same with the resizing that Keras has; Keras calls the branches in turns."""
    layers = keras.layers
    inputs = x = keras.Input((32, 32, 3))
    maps: list[Any] = []
    for _ in range(3):
        x = layers.Conv2D(16, 3, strides=2, activation="relu")(layers.ZeroPadding2D(1)(x))
        maps.insert(0, x)
    branches = []
    for count, given in zip((2, 1, 0), maps, strict=True):
        own = given
        for _ in range(max(count, 1)):
            own = layers.Conv2D(8, 3, padding="same", use_bias=False)(own)
            own = layers.ReLU()(layers.GroupNormalization(4, epsilon=1e-5)(own))
            own = layers.UpSampling2D(2, interpolation="bilinear")(own) if count else own
        branches.append(own)
    return keras.Model(inputs, layers.Conv2D(3, 1)(layers.Add()(branches)))


def test_branches_that_keras_calls_in_turns_are_found_behind_a_difference() -> None:
    with pytest.raises(ktc.NotEqualError) as raised:
        ktc.convert(randomized(TorchPyramid()), keras_pyramid())
    assert str(raised.value).count("cause: ") == 1
    assert "corners aligned: 3 layers" in str(raised.value)
