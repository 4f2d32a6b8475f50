"""What a pass starts with: at which layers it breaks off."""

from __future__ import annotations

from keras_torch_convert.alignment.activations.pass_state import PassConfig


def test_a_pass_breaks_off_unless_the_layer_or_its_block_is_known_to_differ() -> None:
    config = PassConfig({}, {}, True, {}, accepted={"head": "differs"},
                        in_vain=frozenset({"stage_block_norm"}))
    assert config.gives_up_at("stage1_block2_conv")
    assert not config.gives_up_at("stage3_block1_norm")
    assert not config.gives_up_at("head")
    assert not PassConfig({}, {}, False, {}).gives_up_at("stage1_block2_conv")
