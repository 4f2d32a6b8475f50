"""Pairing by order: two lists of one length, or an error that lists what is left over; never cut
off in silence.
"""

import numpy as np
import pytest

from keras_torch_convert.alignment.by_order import PairingOptions, pair_by_order
from keras_torch_convert.errors import AlignmentError
from keras_torch_convert.spec.layer_groups import group_by_layer
from tests.helpers.transfer import layer, source_of

TORCH = group_by_layer(
    source_of({f"{name}.weight": np.ones((2, 2)) for name in ("stem", "block.1", "block.2", "head")
              }))
KERAS = [layer(name, "Dense", {"kernel": (2, 2)}) for name in ("stem", "first", "second", "head")]


def pairs(*arguments, **options):
    return pair_by_order(*arguments, options=PairingOptions(**options))


def names_of(pairing):
    return [(torch_layer.name, keras_layer.name) for torch_layer, keras_layer in pairing.pairs]


def test_layers_are_paired_in_order():
    assert names_of(pairs(TORCH, KERAS)) == [("stem", "stem"), ("block.1", "first"),
                                             ("block.2", "second"), ("head", "head")]


def test_aligned_names_decide_the_order_of_the_keras_layers():
    pairing = pairs(TORCH, KERAS, ["stem", "second", "first", "head"])

    assert names_of(pairing)[1:3] == [("block.1", "second"), ("block.2", "first")]


def test_the_longer_side_is_listed_with_the_way_to_mean_it():
    with pytest.raises(
            AlignmentError, match=
            r"4 torch layers for 3 Keras layers; left over on the torch side: 'head'.*skip_layers"):
        pairs(TORCH, KERAS[:3])
    with pytest.raises(AlignmentError, match=r"left over on the Keras side: 'extra'.*keep_layers"):
        pairs(TORCH, [*KERAS, layer("extra", "Dense", {"kernel": (2, 2)})])


def test_names_that_a_function_left_out_are_left_over_too():
    with pytest.raises(AlignmentError, match="left over on the Keras side: 'second'"):
        pairs(TORCH, KERAS, ["stem", "first", "head"], skip_layers=["block.2"])


def test_the_first_pair_that_does_not_fit_is_pointed_at():
    keras = [KERAS[0], layer("norm", "LayerNormalization", {"gamma": (2,)}), *KERAS[1:]]

    with pytest.raises(AlignmentError,
                       match=r"first pair that does not fit is 'block\.1' with 'norm'"):
        pairs(TORCH, keras)


def test_skipped_and_kept_layers_leave_both_lists():
    pairing = pairs(TORCH, KERAS[1:], skip_layers=["s*", "block.1"], keep_layers=["first"])

    assert names_of(pairing) == [("block.2", "second"), ("head", "head")]
    assert pairing.dropped_tensors == {
        "stem.weight": "skip_layers 's*'", "block.1.weight": "skip_layers 'block.1'"
    }
    assert pairing.kept_keys == {"first/0": "keep_layers 'first'"}


def test_a_star_stands_for_any_text_and_a_dot_for_itself():
    assert [
        torch_layer.name
        for torch_layer, _ in pairs(TORCH, KERAS[:2], skip_layers=["block.*"]).skipped
    ] == ["block.1", "block.2"]
    with pytest.raises(AlignmentError,
                       match=r"no torch layer is called 'block-1'; did you mean 'block\.1'"):
        pairs(TORCH, KERAS, skip_layers=["block-1"])


def test_not_strict_pairs_go_as_far_as_both_lists_and_report_the_rest():
    pairing = pairs(TORCH, KERAS[:3], strict=False)

    assert len(pairing.pairs) == 3
    assert [torch_layer.name for torch_layer in pairing.left_over] == ["head"]
    assert [torch_layer.name for torch_layer in pairs(TORCH, KERAS[:3], strict="target").left_over
           ] == ["head"]
    assert [one.name for one in pairs(TORCH, KERAS, ["stem"], strict=False).unset
           ] == ["first", "second", "head"]


def test_unknown_and_repeated_names_are_refused():
    with pytest.raises(AlignmentError, match="the first is 'sten'; did you mean 'stem'"):
        pairs(TORCH, KERAS, ["sten", "first", "second", "head"])
    with pytest.raises(AlignmentError, match="'first' more than once"):
        pairs(TORCH, KERAS, ["stem", "first", "first", "head"])


def test_a_source_sorted_by_name_is_not_paired_by_order_alone():
    with pytest.raises(AlignmentError, match="sorted by name"):
        pairs(TORCH, KERAS, order="sorted by name")

    assert len(pairs(TORCH, KERAS, order="sorted by name", aligned=True).pairs) == 4
    assert len(pairs(TORCH, KERAS, order="sorted by name", strict=False).pairs) == 4
