"""What a pass starts with: at which layers it breaks off."""

from __future__ import annotations

import keras

from keras_torch_convert.alignment.activations.branching import block_name
from keras_torch_convert.alignment.activations.pass_state import PassConfig
from keras_torch_convert.keras_io.model import read_target


def test_a_pass_breaks_off_unless_the_layer_or_its_block_is_known_to_differ() -> None:
    config = PassConfig({}, {}, True, {}, accepted={"head": "differs"},
                        in_vain=frozenset({"stage_block_norm"}))
    assert config.gives_up_at("stage1_block2_conv", "stage_block_conv")
    assert not config.gives_up_at("stage3_block1_norm", "stage_block_norm")
    assert not config.gives_up_at("head", "head")
    assert not PassConfig({}, {}, False, {}).gives_up_at("stage1_block2_conv", "stage_block_conv")


def test_layers_with_automatic_names_are_at_one_place_only_where_their_shapes_agree() -> None:
    given = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(4, 1)(given)
    for _ in range(2):
        x = keras.layers.Conv2D(4, 3)(x)
    named = keras.layers.Conv2D(6, 1, name="block1_conv")(x)
    named = keras.layers.Conv2D(7, 1, name="block2_conv")(named)
    first, second, third, fourth, fifth = read_target(keras.Model(given, named)).leaves()
    assert block_name(second) == block_name(third) != block_name(first)
    assert block_name(fourth) == block_name(fifth)
