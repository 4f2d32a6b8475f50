"""Every kind of seeded fault, in small pairs: the place and the cause are named exactly, and models
without a fault are left in peace.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

import keras
import numpy as np
import pytest

import keras_torch_convert as ktc
from tests.helpers.align_seeded import run
from tests.helpers.fault_pairs import convolutions, decoder, maps, transformer
from tests.helpers.faults import Fault, Pair, Seeded, every_fault, verdict
from tests.helpers.small_models import same_values, values

MAKERS = {
    "convolutions": convolutions, "transformer": transformer, "maps": maps, "decoder": decoder
}
FAULTS = {fault.name: fault for fault in every_fault()}


def verified(pair: Pair) -> ktc.Comparison:
    return ktc.verify(pair.torch_module, pair.keras_model, plan=pair.plan, sample=pair.sample,
                      randomized=False)


def test_a_fault_that_stops_the_alignment_is_named_in_the_refusal() -> None:
    pair = maps(keras)
    keras_model = maps(keras).keras_model
    keras_model.get_layer("norm1").epsilon = 0.5
    before = values(keras_model)
    with pytest.raises(ktc.ConversionError,
                       match=r"epsilon is 0\.5 in Keras and 0\.001 in torch") as caught:
        ktc.convert(pair.torch_module, keras_model, sample=pair.sample)
    assert "norm1" in str(caught.value)
    assert same_values(before, values(keras_model))


@pytest.mark.parametrize("maker", MAKERS)
def test_equal_models_have_no_divergence(maker: str) -> None:
    pair = MAKERS[maker](keras)
    result = verified(pair)
    assert result.equal is True
    assert result.first_divergence is None


def test_there_are_more_than_forty_kinds() -> None:
    assert len(FAULTS) > 40


@pytest.mark.slow
@pytest.mark.parametrize("name", FAULTS)
def test_a_seeded_fault_is_named(name: str) -> None:
    fault: Fault = FAULTS[name]
    shown = [one for maker in MAKERS for one in at_one_place(fault, maker)]
    assert shown, "no place in any pair shows this fault"
    for said, seeded, result in shown:
        assert said == "exact", f"seeded {fault.name} at {seeded}\n{result}"


@pytest.mark.parametrize("name", ["gain never loaded", "bias never loaded"])
def test_a_layer_of_single_numbers_is_named(name: str) -> None:
    pair, fault = maps(keras), FAULTS[name]
    place = next(place for place in fault.places(pair) if place[0].display_name == "scaled")
    seeded = fault.put(pair, place)
    found = verified(pair).first_divergence
    assert verdict(found, fault, seeded) == "exact", str(found)


def test_a_single_number_is_not_said_to_be_a_fresh_layers_or_a_multiple() -> None:
    pair = maps(keras)
    scale = pair.keras_model.get_layer("scaled").scale
    scale.assign(np.float32(1.5))
    found = verified(pair).first_divergence
    assert found is not None
    assert found.kind == "weights"
    assert "scaled/scale: it holds 1.5, torch " in found.cause


SEVERAL = {
    "epsilon, approximation":
        ("transformer", ("epsilon of Keras LayerNormalization", 0), ("Keras gelu is gelu tanh", 1)),
    "approximation, scale, epsilon":
        ("transformer", ("Keras gelu is gelu tanh", 0), ("wrong scale of a kernel", 5),
         ("epsilon of Keras LayerNormalization", 3)),
    "epsilon, two activations": ("convolutions", ("epsilon of Keras BatchNormalization", 0),
                                 ("Keras silu is hard_silu", 0), ("Keras gelu is silu", 0)),
    "epsilon, slope, interpolation":
        ("maps", ("epsilon of Keras GroupNormalization", 0), ("slope of a leaky relu in Keras", 0),
         ("interpolation in Keras", 0)), "pooling, dilation, bias":
             ("convolutions", ("asymmetric padding of a Keras pooling", 0),
              ("dilation of a Keras convolution", 1), ("bias never loaded", 4)),
    "epsilon and activation in one layer's code":
        ("decoder", ("epsilon of Keras LayerNormalization", 0), ("Keras silu is hard_silu", 0),
         ("Keras silu is hard_silu", 0)),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", SEVERAL)
def test_several_faults_are_all_named_in_one_run(name: str) -> None:
    maker, *seeds = SEVERAL[name]
    pair = MAKERS[maker](keras)
    labels = {
        FAULTS[fault].put(pair, FAULTS[fault].places(pair)[number])[0][0] for fault, number in seeds
    }
    found = verified(pair).first_divergence
    assert found is not None
    assert found.kind
    assert {layer for one in found.differences for layer in one.keras_layers} == labels
    assert all(one.kind and one.advice for one in found.differences)
    effects = [one.effect for one in found.differences]
    assert effects == sorted(effects, reverse=True)
    assert found.keras_layer in found.differences[0].keras_layers
    assert all(one.cause in str(found) and one.advice in str(found) for one in found.differences)
    assert len(found.to_dict()["differences"]) == len(found.causes()) == len(found.differences)


TOGETHER = {
    "behind a map of another size":
        ("maps", ("ceil mode of pooling", 0), ("torch Tanh is Softsign()", 0),
         ("interpolation in torch", 0)),
    "of one softmax": ("transformer", ("scale of Keras's attention", 1),
                       ("axis of a softmax in Keras", 1), ("Keras gelu is gelu tanh", 1)),
    "inside a block and at its end":
        ("decoder", ("axis of a softmax in Keras", 0), ("output of a layer scaled in torch", 6),
         ("activation that only torch has", 3)), "at the very end":
             ("decoder", ("Keras silu is linear", 1), ("activation that only torch has", 4)),
    "in the blocks behind a scaled branch":
        ("decoder", ("output of a layer scaled in torch", 3), ("Keras silu is linear", 1)
        ), "in the blocks behind dropout":
            ("decoder", ("dropout left on in Keras", 0), ("axis of a softmax in Keras", 0),
             ("output of a layer scaled in torch", 11)), "of a layer behind another":
                 ("decoder", ("epsilon of Keras LayerNormalization", 0),
                  ("activation that only Keras has", 2)), "of one attention":
                      ("decoder", ("axis of a softmax in Keras", 1),
                       ("softmax at the end of Keras", 0)), "before a norm that differs":
                           ("transformer", ("epsilon of torch layer norm", 1),
                            ("dropout left on in torch", 0)), "before a factor that is a weight":
                                ("maps", ("activation that only Keras has", 2),
                                 ("torch Tanh is Softsign()", 0)), "behind a sum that Keras lacks":
                                     ("transformer", ("residual missing in Keras", 1),
                                      ("scale of a branch in torch", 1)),
    "dropout in both models": ("decoder", ("dropout left on in Keras", 0),
                               ("dropout left on in torch", 0), ("torch SiLU is Hardswish()", 0)),
}


@pytest.mark.parametrize("name", TOGETHER)
def test_faults_that_would_hide_each_other_are_all_named(name: str) -> None:
    maker, *seeds = TOGETHER[name]
    pair = MAKERS[maker](keras)
    faults = [(FAULTS[fault], FAULTS[fault].put(pair, FAULTS[fault].places(pair)[number]))
              for fault, number in seeds]
    outcome = run(pair, faults)
    assert all(outcome.named), outcome.said
    assert not outcome.wrong
    assert not outcome.wrong_causes
    assert not outcome.is_headline_unknown


def test_a_small_difference_before_a_large_one_is_not_the_headline() -> None:
    pair = transformer(keras)
    pair.keras_model.get_layer("blocks_0_norm1").epsilon = 1.2e-6
    pair.keras_model.get_layer("blocks_1_act").activation = keras.activations.relu
    found = verified(pair).first_divergence
    assert found is not None
    assert found.keras_layer == "blocks_1_act"
    assert found.kind == "activation"


@pytest.mark.parametrize("function", ["relu", lambda x: keras.ops.abs(x)**1.3])
def test_a_cause_in_a_layer_that_is_called_three_times_is_said_once(function: object) -> None:
    import torch

    torch.manual_seed(0)
    layers = [layer for _ in range(3) for layer in (torch.nn.Linear(8, 8), torch.nn.GELU())]
    module = torch.nn.Sequential(*layers, torch.nn.Linear(8, 8))
    x = inputs = keras.Input((8,))
    shared = keras.layers.Activation(function, name="shared")
    dense = [keras.layers.Dense(8) for _ in range(4)]
    for layer in dense[:3]:
        x = shared(layer(x))
    keras_model = keras.Model(inputs, dense[3](x))
    for layer, ours in zip(dense, module[::2], strict=True):
        layer.set_weights([ours.weight.detach().numpy().T, ours.bias.detach().numpy()])
    sample = np.random.default_rng(0).standard_normal((4, 8), np.float32)
    found = ktc.verify(module, keras_model, sample=(sample, sample),
                       randomized=False).first_divergence
    assert found is not None
    assert found.keras_layer == "shared"
    assert found.also == ()
    assert "3 layers" not in str(found)


def test_the_same_cause_in_many_layers_is_one_difference() -> None:
    import torch

    torch.manual_seed(0)
    layers = [
        layer for _ in range(12)
        for layer in (torch.nn.Linear(8, 8), torch.nn.LayerNorm(8, eps=1e-5), torch.nn.GELU())
    ]
    module = torch.nn.Sequential(*layers, torch.nn.Linear(8, 3))
    x = inputs = keras.Input((8,))
    for number in range(12):
        x = keras.layers.LayerNormalization(epsilon=1e-2)(keras.layers.Dense(8)(x))
        x = keras.layers.Activation("relu" if number == 7 else "gelu", name=f"act{number}")(x)
    keras_model = keras.Model(inputs, keras.layers.Dense(3)(x))
    report = ktc.convert(module, keras_model, if_different="keep")
    assert report.comparison is not None
    found = report.comparison.first_divergence
    assert found is not None
    activation, epsilon = sorted(found.differences, key=lambda one: one.kind)
    assert activation.keras_layers == ("act7",)
    assert epsilon.kind == "epsilon"
    assert len(epsilon.keras_layers) == len(epsilon.torch_modules) == 12
    assert "epsilon is 0.01 in Keras and 1e-05 in torch: 12 layers (" in str(report)
    assert report.to_dict()["comparison"]["first_divergence"]["differences"][1]["effect"] > 0


def test_known_causes_are_told_though_the_largest_effect_has_none() -> None:
    pair = transformer(keras)
    pair.keras_model.get_layer("blocks_0_norm1").epsilon = 0.1
    pair.keras_model.get_layer("blocks_1_act").activation = lambda x: keras.ops.abs(x)**1.3
    found = verified(pair).first_divergence
    assert found is not None
    assert [one.kind for one in found.differences if one.keras_layers == ("blocks_1_act",)] == [""]
    assert len(found.causes()) == 1
    assert found.causes()[0].startswith("blocks_0_norm1: epsilon is 0.1 in Keras")
    assert found.explains_difference


def test_what_stands_behind_a_block_that_differs_in_an_unknown_way_is_named() -> None:
    pair = decoder(keras)
    first = pair.layers("KerasBlock")[0]
    first.drop.call = lambda x, training=None: x + 0.3 * keras.ops.abs(x)**1.3
    pair.torch_module.blocks[0].drop.forward = lambda x: x.sin()
    scaled = FAULTS["output of a layer scaled in torch"]
    scaled.put(pair, next(one for one in scaled.places(pair) if one[0] == "blocks.1.up"))
    found = verified(pair).first_divergence
    assert found is not None
    assert "torch multiplies the output of 'blocks_1/up' by 1.3" in str(found)
    assert len([one for one in found.differences if not one.kind]) == 1


def test_two_faults_of_one_layer_are_both_named() -> None:
    pair = convolutions(keras)
    FAULTS["wrong scale of a kernel"].put(
        pair,
        next(place for place in FAULTS["wrong scale of a kernel"].places(pair)
             if place[0].display_name == "conv5"))
    pair.keras_model.get_layer("conv5").dilation_rate = (2, 2)
    found = verified(pair).first_divergence
    assert found is not None
    assert {one.kind for one in found.differences} == {"dilation", "scaled weights"}
    assert {one.keras_layers for one in found.differences} == {("conv5",)}


def at_one_place(fault: Fault, maker: str) -> Iterator[tuple[str, Seeded, ktc.Comparison]]:
    """What is said of the fault at the first place, in an order drawn by its name, where an output
    shows it.
    """
    count = len(fault.places(MAKERS[maker](keras)))
    for number in random.Random(fault.name).sample(range(count), count):
        pair = MAKERS[maker](keras)
        seeded = fault.put(pair, fault.places(pair)[number])
        try:
            result = verified(pair)
        except ktc.PredictionError:
            continue  # a fault that changes shapes so that torch itself cannot run
        # Some faults no output shows, such as relu6 where nothing is above 6.
        if result.first_divergence is not None or result.unexplained:
            yield verdict(result.first_divergence, fault, seeded), seeded, result
            return
