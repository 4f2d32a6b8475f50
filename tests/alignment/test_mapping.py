"""ktc.align(..., mapping=...): alignment written down by hand, checked like any other."""

import numpy as np
import pytest

from keras_torch_convert import align
from keras_torch_convert.errors import AlignmentError, TransferError
from tests.helpers.transfer import composite, layer, source_of, target_of, values_by_label


def counted(*shape):
    return np.arange(np.prod(shape), dtype="float32").reshape(shape)


SOURCE = source_of({
    "cls_token": counted(1, 1, 2), "encoder.fc.weight": counted(3,
                                                                2), "encoder.fc.bias": counted(3),
    "encoder.bn.num_batches_tracked": np.array(7), "head.weight": counted(5, 3)
})
TARGET = target_of(
    layer("token", "ClassToken", {"token": (1, 1, 2)}),
    composite("block", "Functional", layer("block/dense", "Dense",
                                           {"kernel": (2, 3), "bias": (3,)})),
    layer("top", "Dense", {"kernel": (3, 5)}))
MAPPING = {"top": "head", "block/dense": "encoder.fc", "token": "cls_token"}


def test_layers_go_by_name_leaves_by_label_and_single_tensors_by_their_whole_name():
    values = values_by_label(align(SOURCE, TARGET, mapping=MAPPING), SOURCE, TARGET)

    np.testing.assert_array_equal(values["top/kernel"], counted(5, 3).T)
    np.testing.assert_array_equal(values["block/dense/kernel"], counted(3, 2).T)
    np.testing.assert_array_equal(values["token/token"], counted(1, 1, 2))


def test_the_plan_is_the_same_whatever_the_order_of_the_mapping():
    turned = dict(reversed(MAPPING.items()))

    plans = [align(SOURCE, TARGET, mapping=mapping) for mapping in (MAPPING, turned)]

    assert plans[0].assignments == plans[1].assignments
    assert plans[0].dropped == {
        "encoder.bn.num_batches_tracked": "skip_weights 'num_batches_tracked'"
    }
    assert plans[0].portable


def test_several_torch_layers_fill_one_keras_layer_each_in_the_order_of_its_roles():
    source = source_of(
        {"dw.weight": counted(2, 1, 3, 3), "pw.bias": counted(4), "pw.weight": counted(4, 2, 1, 1)})
    separable = layer(
        "sep", "SeparableConv2D",
        {"depthwise_kernel": (3, 3, 2, 1), "pointwise_kernel": (1, 1, 2, 4), "bias": (4,)})

    values = values_by_label(align(source, target_of(separable), mapping={"sep": ["dw", "pw"]}),
                             source, target_of(separable))

    np.testing.assert_array_equal(values["sep/pointwise_kernel"][0, 0], counted(4, 2).T)
    with pytest.raises(TransferError, match=r"\(2, 1, 3, 3\)"):
        align(source, target_of(separable), mapping={"sep": ["pw", "dw"]})


def test_all_unknown_names_are_listed_with_the_nearest_ones():
    with pytest.raises(AlignmentError) as caught:
        align(SOURCE, TARGET,
              mapping={"tip": "head", "top": "hed", "token": ["cls_token", "nothing.like.it"]})

    for part in ("'tip'; did you mean 'top'?", "for Keras layer 'top'",
                 "'hed'; did you mean 'head'?", "'nothing.like.it'"):
        assert part in str(caught.value)


def test_all_pairs_that_do_not_fit_are_listed():
    with pytest.raises(TransferError) as caught:
        align(SOURCE, TARGET,
              mapping={"top": "encoder.fc", "block/dense": "head", "token": "cls_token"})

    assert len(caught.value.problems) == 2


def test_callbacks_decide_for_the_layers_that_they_hit():
    plan = align(SOURCE, TARGET, mapping=MAPPING,
                 additional_transfer={"top": lambda arrays: [arrays[0] * 2]})

    np.testing.assert_array_equal(
        values_by_label(plan, SOURCE, TARGET)["top/kernel"],
        counted(5, 3).T * 2)
    assert not plan.portable


def test_what_the_mapping_leaves_out_must_be_excused():
    part = {"top": "head", "token": "cls_token"}

    with pytest.raises(TransferError, match=r"skip_layers=\['encoder\.fc'\]"):
        values_by_label(align(SOURCE, TARGET, mapping=part), SOURCE, TARGET)

    excused = align(SOURCE, TARGET, mapping=part, skip_layers=["encoder.*"], keep_layers=["block"])
    assert set(values_by_label(excused, SOURCE, TARGET)) == {"top/kernel", "token/token"}


def test_a_layer_is_mapped_or_kept_not_both():
    with pytest.raises(AlignmentError, match="'top' is both in the mapping and in keep_layers"):
        align(SOURCE, TARGET, mapping=MAPPING, keep_layers=["top"])
