"""A family printed: one line for each layer, within a screen's width."""

from __future__ import annotations

from tests.helpers.family_members import decoder, stages


def test_a_line_for_each_layer() -> None:
    lines = str(stages(2, 2).plan.generalize()).splitlines()
    assert lines[0] == "family of 8 patterns, learned from 22 variables, 1594 values"
    assert lines[1] == "  stem: kernel, bias <- stem.0: weight (permute 1 0), bias"
    assert ("  stage{i}_block{j}_conv{k}: kernel, bias <- layer{i}.{j}.conv{k}: weight "
            "(permute 1 0), bias") in lines
    assert all(len(line) <= 100 for line in lines)


def test_joined_and_sliced_tensors() -> None:
    text = str(decoder().plan.generalize())
    assert "layers.{i}.attn.qkv: weight (slice, reshape, permute 2 0 1)" in text
    assert "ExpertBank[0]" not in text
    assert "layer_{i}/ExpertBank[{j}]: kernel" in text
    assert "layers.{i}.experts.{*}.up: weight" in text
