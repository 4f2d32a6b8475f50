"""report.explain: why each weight went where it went, whatever aligned it."""

from __future__ import annotations

import re

import keras
import pytest

import keras_torch_convert as ktc
from tests.helpers.running_pairs import attention_pair
from tests.helpers.small_models import TWO_BRANCHES_ALIGNED, keras_two_branches, torch_two_branches


def test_a_weight_found_by_running_tells_input_output_and_candidates():
    module, model = attention_pair(fused=True)
    report = ktc.convert(module, model)

    words = report.explain("attention/query/kernel")

    assert "qkv.weight" in words
    number = r"\d\.\de[+-]\d\d"
    assert re.search(
        f"input at distance {number}, output at {number}; "
        r"(\d+ candidates|the only candidate)", words)
    assert report.explain("attention/query").startswith("attention/query is")
    assert set(report.evidence) >= {entry.name for entry in report.ledger if entry.status == "set"}


def test_a_weight_from_a_checkpoint_alone_tells_its_confidence_and_the_parts_of_it():
    module, model = torch_two_branches(), keras_two_branches(keras)
    report = ktc.convert(module.state_dict(), model, accept_unproven=True)

    words = report.explain("stack1_block2_2_bn/gamma")

    assert "unproven, confidence" in words
    for part in ("fit by kind and shape", "names alike", "naming of the other pairs followed",
                 "order"):
        assert part in words


def test_a_weight_aligned_by_dictionaries_tells_what_the_ledger_knows():
    module, model = torch_two_branches(), keras_two_branches(keras)
    report = ktc.keras_reload_from_torch_model(module, model, tail_align_dict=TWO_BRANCHES_ALIGNED,
                                               save_name="", verbose=0, do_predict=False)

    assert report.explain(
        "predictions/bias") == "predictions/bias is set from head.bias (dense: moved as it stands)"
    assert report.explain("predictions").count("\n") == 1
    assert report.explain("block1.bn1.num_batches_tracked").startswith(
        "block1.bn1.num_batches_tracked is skipped")
    with pytest.raises(KeyError, match="did you mean 'predictions/"):
        report.explain("prediction/kernel")
