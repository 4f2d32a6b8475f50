"""What learning refuses: Plans without patterns, contradictions, blocks that differ from their
twins.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from keras_torch_convert.errors import PlanError
from keras_torch_convert.plan.expressions import CallbackOutput, LayerCallback, Slice, Tensor
from keras_torch_convert.plan.plan import Plan
from tests.helpers.family_members import decoder, stages


def exchanged(plan: Plan, one: str, other: str) -> Plan:
    """The Plan with the expressions of two variables exchanged."""
    keys = {spec.display_name: key for key, spec in plan.targets.items()}
    found = {assignment.key: assignment.expression for assignment in plan.assignments}
    found[keys[one]], found[keys[other]] = found[keys[other]], found[keys[one]]
    return replace(
        plan, assignments=tuple(
            replace(assignment, expression=found[assignment.key])
            for assignment in plan.assignments))


@pytest.mark.parametrize("layers", [3, 5])
def test_a_block_that_differs_from_its_twins_is_refused(layers: int) -> None:
    plan = exchanged(decoder(layers).plan, "layer_1/norm_1/scale", "layer_1/norm_2/scale")
    with pytest.raises(PlanError) as error:
        plan.generalize()
    assert "one block differs from its twins: 'layer_1/norm_" in str(error.value)
    assert "norm_before" in str(error.value)
    assert "norm_after" in str(error.value)


def test_an_exchange_between_blocks_is_refused() -> None:
    plan = exchanged(stages(3, 3).plan, "stage1_block1_conv2/bias", "stage1_block2_conv2/bias")
    with pytest.raises(PlanError, match=r"differs from its twins.*layer1\.[12]\.conv2\.bias"):
        plan.generalize()


def test_a_part_of_one_layer_alone_is_refused() -> None:
    # Alignment once gave an untied head rows of the first layer's queries.
    made = decoder(3)
    made.add("head/kernel", Slice(Tensor("layers.0.experts.0.up.weight"), 0, 0, 7))
    with pytest.raises(PlanError, match=r"'head/kernel' takes 'layers.0.experts.0.up.weight'"):
        made.plan.generalize()


def test_plans_that_contradict_each_other_are_refused() -> None:
    one, other = decoder(3).plan, decoder(4).plan
    for layer in range(4):
        other = exchanged(other, f"layer_{layer}/norm_1/scale", f"layer_{layer}/norm_2/scale")
    with pytest.raises(PlanError, match="contradict each other: 'layer_0/norm_"):
        one.generalize(other)


def test_what_has_no_pattern_is_refused() -> None:
    plan = decoder().plan
    first = plan.assignments[0]
    called = CallbackOutput(LayerCallback("positions", (Tensor("embed.positions.weight"),), (), 1),
                            0)
    with pytest.raises(PlanError, match="'positions/embeddings' needs a user's callback"):
        replace(plan, assignments=(replace(first, expression=called),)).generalize()
    with pytest.raises(PlanError, match="invert what plan_for gives"):
        plan.invert().generalize()
    with pytest.raises(PlanError, match="does not know the shapes"):
        replace(plan, targets={}).generalize()
    with pytest.raises(PlanError, match="expected a Plan, got str"):
        plan.generalize("llama.plan.json")


def test_what_was_learned_does_not_depend_on_the_order_of_plans() -> None:
    small, large = decoder(2), decoder(4, 6, 3, 10)
    one, other = small.plan.generalize(large.plan), large.plan.generalize(small.plan)
    member = decoder(3, 4, 4, 6)
    assert member.planned_by(one) == member.planned_by(other) == member.expected
