"""A norm before a branch in one model and behind its sum in the other: the causes say so, at the
norms, and nothing stays unknown.
"""

from __future__ import annotations

from typing import Any

import keras
import pytest
from torch import nn

import keras_torch_convert as ktc
from tests.helpers.small_models import randomized


class Block(nn.Module):
    def __init__(self, pre: bool) -> None:
        super().__init__()
        self.pre, self.norm1, self.norm2 = pre, nn.LayerNorm(12), nn.LayerNorm(12)
        self.mix, self.fc1, self.fc2 = nn.Linear(12, 12), nn.Linear(12, 20), nn.Linear(20, 12)

    def forward(self, x: Any) -> Any:
        def network(x: Any) -> Any:
            return self.fc2(nn.functional.gelu(self.fc1(x)))

        if self.pre:
            x = x + self.mix(self.norm1(x))
            return x + network(self.norm2(x))
        x = self.norm1(x + self.mix(x))
        return self.norm2(x + network(x))


class Net(nn.Module):
    def __init__(self, pre: bool) -> None:
        super().__init__()
        self.embed, self.blocks = nn.Linear(5, 12), nn.ModuleList(Block(pre) for _ in range(2))
        self.norm, self.head = nn.LayerNorm(12), nn.Linear(12, 3)

    def forward(self, x: Any) -> Any:
        x = self.embed(x)
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x).mean(1))


def of_layers(pre: bool) -> Any:
    layers = keras.layers

    def normalized(name: str, x: Any) -> Any:
        return layers.LayerNormalization(epsilon=1e-5, name=name)(x)

    x = inputs = keras.Input((6, 5))
    x = layers.Dense(12, name="embed")(x)
    for number in range(2):
        block = f"blocks_{number}"
        mix, act = layers.Dense(12, name=f"{block}_mix"), layers.Activation("gelu")
        fc1, fc2 = layers.Dense(20, name=f"{block}_fc1"), layers.Dense(12, name=f"{block}_fc2")
        if pre:
            x = layers.Add()([x, mix(normalized(f"{block}_norm1", x))])
            x = layers.Add()([x, fc2(act(fc1(normalized(f"{block}_norm2", x))))])
        else:
            x = normalized(f"{block}_norm1", layers.Add()([x, mix(x)]))
            x = normalized(f"{block}_norm2", layers.Add()([x, fc2(act(fc1(x)))]))
    x = layers.GlobalAveragePooling1D()(normalized("norm", x))
    return keras.Model(inputs, layers.Dense(3, name="head")(x))


class KerasBlock(keras.layers.Layer):  # type: ignore[misc]
    """The block in code of its own."""
    def __init__(self, pre: bool, **settings: Any) -> None:
        super().__init__(**settings)
        self.pre = pre
        self.norm1, self.norm2 = (
            keras.layers.LayerNormalization(epsilon=1e-5, name=name) for name in ("norm1", "norm2"))
        self.mix, self.fc1, self.fc2 = (keras.layers.Dense(units, name=name)
                                        for units, name in ((12, "mix"), (20, "fc1"), (12, "fc2")))

    def build(self, shape: Any) -> None:
        for layer in (self.norm1, self.norm2, self.mix, self.fc1):
            layer.build(shape)
        self.fc2.build((*shape[:-1], 20))
        self.built = True

    def network(self, x: Any) -> Any:
        return self.fc2(keras.activations.gelu(self.fc1(x), approximate=False))

    def call(self, x: Any) -> Any:
        if self.pre:
            x = x + self.mix(self.norm1(x))
            return x + self.network(self.norm2(x))
        x = self.norm1(x + self.mix(x))
        return self.norm2(x + self.network(x))


def of_blocks(pre: bool) -> Any:
    x = inputs = keras.Input((6, 5))
    x = keras.layers.Dense(12, name="embed")(x)
    for number in range(2):
        x = KerasBlock(pre, name=f"blocks_{number}")(x)
    x = keras.layers.LayerNormalization(epsilon=1e-5, name="norm")(x)
    return keras.Model(inputs,
                       keras.layers.Dense(3, name="head")(keras.layers.GlobalAveragePooling1D()(x)))


ADDED = {
    True: "torch adds what goes into this norm to a branch (pre-norm), Keras what comes out of "
          "this norm (post-norm)",
    False: "torch adds what comes out of this norm to a branch (post-norm), Keras what goes into "
           "this norm (pre-norm)"
}


def what_is_said(module: Any, keras_model: Any) -> str:
    try:
        report = ktc.convert(module, keras_model, if_different="keep")
    except ktc.AlignmentError as refused:
        # One norm of each side may be left.
        return str(refused)
    assert report.comparison is not None
    return str(report.comparison.first_divergence)


@pytest.mark.parametrize("keras_net", [of_layers, of_blocks])
@pytest.mark.parametrize("pre", [True, False])
def test_a_norm_on_the_other_side_of_a_sum_is_named(keras_net: Any, pre: bool) -> None:
    module = randomized(Net(pre))
    said = what_is_said(module, keras_net(not pre))
    assert ADDED[pre] in said, said
    assert not pre or "unknown" not in said
    assert ktc.convert(module, keras_net(pre)).equal


def named_alike() -> dict[str, str]:
    names = ["embed", "norm", "head"]
    inside = ("norm1", "norm2", "mix", "fc1", "fc2")
    blocks = {
        f"blocks_{number}_{name}": f"blocks.{number}.{name}" for number in range(2)
        for name in inside
    }
    return {**{name: name for name in names}, **blocks}


@pytest.mark.parametrize("pre", [True, False])
def test_norms_that_a_mapping_pairs_by_their_names_are_named_too(pre: bool) -> None:
    module, keras_model = randomized(Net(pre)), of_layers(not pre)
    plan = ktc.align(module, keras_model, mapping=named_alike())
    report = ktc.convert(module, keras_model, plan=plan, if_different="keep")
    assert report.comparison is not None
    found = report.comparison.first_divergence
    assert found is not None
    assert found.kind == "norm position"
    assert {one.kind for one in found.differences if one.kind} == {"norm position"}, str(found)
    before = [one for one in found.differences if "normalizes with 'blocks." in one.cause]
    elsewhere = [one for one in found.differences if "computes it elsewhere" in one.cause]
    assert before
    assert elsewhere
    assert "blocks_0_norm1" in elsewhere[0].keras_layers
