"""The Plan of another depth and width: the same as the direct one, or a refusal that says why."""

from __future__ import annotations

from dataclasses import replace

import pytest

from keras_torch_convert.errors import TransferError
from keras_torch_convert.plan.expressions import Fill, Permute, Tensor
from keras_torch_convert.spec.tensor_spec import TensorSpec
from tests.helpers.family_members import Member, decoder, stages

DECODER = decoder().plan.generalize()
STAGES = stages(2, 2).plan.generalize()


@pytest.mark.parametrize("depths", [(1, 1), (3, 4), (2, 3, 2), (1, 2, 3, 1)])
@pytest.mark.parametrize("width", [8, 12])
def test_stages_of_blocks_with_transitions(depths: tuple[int, ...], width: int) -> None:
    member = stages(*depths, width=width)
    assert member.planned_by(STAGES) == member.expected


@pytest.mark.parametrize(
    "sizes", [{"layers": 5}, {"heads": 6, "groups": 2}, {"heads": 6, "groups": 6, "size": 6}, {
        "heads": 6, "groups": 3, "size": 10, "layers": 3, "experts": 5, "positions": 30
    }, {"heads": 4, "groups": 1}])
def test_sizes_follow_from_shapes(sizes: dict[str, int]) -> None:
    # With as many heads as groups, 2 x 1 groups or 3 x 2, slices must still tile the fused tensor:
    # learned from twice as many heads, their starts could be several things.
    member = decoder(**sizes)
    assert member.planned_by(DECODER) == member.expected


def test_a_stage_that_learning_saw_with_one_block_only() -> None:
    family = stages(1, 2).plan.generalize()
    member = stages(3, 2)
    # The index of the block is proven by the other stage, so it is no constant in the first.
    assert member.planned_by(family) == member.expected


def test_flat_counters_follow_by_their_neighbors_and_by_order() -> None:
    def flat(*depths: int) -> Member:
        made, number = Member(), 0
        for stage, depth in enumerate(depths):
            for block in range(depth):
                name = f"blocks.{stage}.{block}"
                number += 1
                made.dense(f"block_{number}_dw", f"{name}.conv_dw", 8 + stage, 8 + stage)
                made.add(f"block_{number}_norm/gamma", made.tensor(f"{name}.bn.weight", 8 + stage))
        return made

    family = flat(2, 3).plan.generalize()
    member = flat(1, 4, 2)
    assert member.planned_by(family) == member.expected


def test_roles_that_depend_on_what_stands_beside() -> None:
    def nets(*expanded: bool) -> Member:
        made = Member()
        for i, wide in enumerate(expanded):
            name = f"blocks.{i}"
            if wide:
                made.add(f"block_{i}_expand_bn/gamma", made.tensor(f"{name}.bn1.weight", 8))
            made.add(f"block_{i}_depth_bn/gamma", made.tensor(f"{name}.bn{1 + wide}.weight", 8))
            made.add(f"block_{i}_project_bn/gamma", made.tensor(f"{name}.bn{2 + wide}.weight", 8))
        return made

    family = nets(False, True, True).plan.generalize()
    member = nets(False, False, True, True, True)
    assert member.planned_by(family) == member.expected


def test_layers_named_after_the_model() -> None:
    def named(name: str, layers: int) -> Member:
        made = Member(name=name)
        for i in range(layers):
            made.dense(f"{name}_stage_{i}_dense", f"stages.{i}.fc", 4, 5)
        return made

    member = named("net_large", 4)
    assert member.planned_by(named("net_tiny", 2).plan.generalize()) == member.expected


def test_a_constant_is_for_variables_without_a_tensor() -> None:
    def scaled(layers: int, gains: bool) -> Member:
        made = Member()
        for i in range(layers):
            made.dense(f"dense_{i}", f"fc.{i}", 4, 4)
            made.add(f"gain_{i}/scale",
                     made.tensor(f"gain.{i}.weight", 4) if gains else Fill(1.0, (4,)))
        return made

    family = scaled(2, True).plan.generalize(scaled(2, False).plan)
    for member in (scaled(4, True), scaled(3, False)):
        assert member.planned_by(family) == member.expected


def test_experts_must_have_no_gap() -> None:
    member = decoder(experts=4)
    del member.shapes["layers.1.experts.1.up.weight"]
    with pytest.raises(TransferError, match=r"layer_1/expert_bank_6/kernel.*does not fit"):
        DECODER.plan_for(member.source, decoder(experts=4).target)


@pytest.mark.parametrize(("family", "member"), [(STAGES, stages(3, 3)),
                                                (DECODER, decoder(4, 6, 3, 6))],
                         ids=["stages", "decoder"])
@pytest.mark.parametrize("strict", [True, "target"])
def test_whatever_changes_is_refused_and_named(family, member, strict) -> None:
    for name, shape in list(member.shapes.items()):
        rest = {key: one for key, one in member.shapes.items() if key != name}
        for changed in (rest, {**rest, f"{name}_other": shape}, {**rest, name:
            (*shape[:-1], 99)}, {**member.shapes, f"{name}_other": shape}):
            with pytest.raises(TransferError) as error:
                family.plan_for(member.but(shapes=changed).source, member.target, strict=strict)
            assert name.rsplit(".", 1)[0] in str(error.value) or error.value.problems
    for key in member.rows:
        rows = {other: row for other, row in member.rows.items() if other != key}
        with pytest.raises(TransferError):
            family.plan_for(member.source, member.but(rows=rows).target, strict=strict)


def test_another_family_is_refused() -> None:
    for family, other in ((STAGES, decoder()), (DECODER, stages(2, 2))):
        with pytest.raises(TransferError, match="has no pattern"):
            other.planned_by(family)


def test_the_nearest_pattern_is_named() -> None:
    member = stages(2, 2)
    member.dense("stage1_block0_gate", "layer1.0.gate", 8, 8)
    with pytest.raises(TransferError) as error:
        member.planned_by(STAGES)
    assert ("variable 'stage1_block0_gate/kernel' (8, 8) has no pattern (the nearest one is "
            "stage{}_block{}_") in str(error.value)
    assert "plan.generalize(other_plan)" in str(error.value)


def test_a_tensor_that_the_family_does_not_know_may_be_left_over() -> None:
    member = stages(3, 2)
    member.tensor("aux.weight", 3)
    with pytest.raises(TransferError, match=r"'aux.weight' \(3,\) is left over"):
        member.planned_by(STAGES)
    assert member.planned_by(STAGES, strict="target") == member.expected
    # One more layer is a sign that something is wrong, whatever may be left over.
    member.tensor("layer2.7.conv1.weight", 16, 16)
    with pytest.raises(TransferError, match=r"layer2.7.conv1.weight.*lacks its variable"):
        member.planned_by(STAGES, strict="target")


def test_the_rows_that_are_left_out_are_those_of_learning() -> None:
    member = decoder()
    member.shapes["embed.positions.weight"] = (13, 32)
    with pytest.raises(TransferError, match=r"'embed.positions.weight'"):
        DECODER.plan_for(member.source, decoder().target)


def test_dropped_and_kept_have_patterns_too() -> None:
    def member(layers: int) -> tuple[Member, dict[str, str]]:
        made = Member()
        for i in range(layers):
            made.dense(f"dense_{i}", f"fc.{i}", 4, 4)
            made.tensor(f"fc.{i}.mask", 4)
        return made, {f"fc.{i}.mask": "skip_weights: 'mask'" for i in range(layers)}

    small, dropped = member(2)
    key = "9:Extra/0"
    plan = replace(small.plan, dropped=dropped, kept={key: "keep_layers: 'extra'"},
                   targets={**small.plan.targets, key: TensorSpec((3,), "float32", "extra/w")})
    large, expected = member(4)
    large.rows[key] = "extra/w", Fill(0.0, (3,))
    found = plan.generalize().plan_for(large.source, large.target)
    assert dict(found.dropped) == expected
    assert dict(found.kept) == {key: "keep_layers: 'extra'"}
    assert len(found.assignments) == 8
    assert found.assignments[0].expression == Permute(Tensor("fc.0.weight"), (1, 0))
