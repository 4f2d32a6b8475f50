"""Checkpoints with a beginning of names more or less than where the family was learned."""

from __future__ import annotations

import pytest

from keras_torch_convert.errors import TransferError
from keras_torch_convert.plan.evaluation import Evaluation
from keras_torch_convert.plan.expressions import tensors_of
from keras_torch_convert.plan.generalization.prefixes import with_own_names
from tests.helpers.family_members import Member, decoder, stages


def begun(member: Member, beginning: str) -> Member:
    """The checkpoint with a beginning in front of all names; the Keras model as it is."""
    return member.but(shapes={f"{beginning}{name}": one for name, one in member.shapes.items()})


@pytest.mark.parametrize(("learned", "beginning"), [("", ""), ("", "bert."), ("", "module.model."),
                                                    ("model.", ""), ("model.", "module.model.")])
def test_the_plan_names_the_tensors_of_the_checkpoint(learned: str, beginning: str) -> None:
    small = stages(2, 2)
    names = {name: f"{learned}{name}" for name in small.shapes}

    family = with_own_names(small.plan, names).generalize()

    member = stages(3, 2)
    checkpoint = begun(member, beginning)
    plan = family.plan_for(checkpoint.source, member.target)

    used = {name for one in plan.assignments for name in tensors_of(one.expression)}
    assert used == set(checkpoint.shapes)
    evaluation = Evaluation(checkpoint.source)
    for one in plan.assignments:
        assert evaluation.shape(one.expression) == plan.targets[one.key].shape
    assert set(plan.sources) == used
    assert ("stem.0" if not beginning else f"{beginning}stem.0", "stem") in plan.pairs


def test_what_is_beside_the_beginning_is_left_over() -> None:
    member = decoder(3)
    checkpoint = begun(member, "gpt.")
    checkpoint.tensor("head.weight", 5, 32)
    family = decoder().plan.generalize()
    with pytest.raises(TransferError, match=r"'head\.weight'.*read without 'gpt\.' in front"):
        family.plan_for(checkpoint.source, member.target)
    assert family.plan_for(checkpoint.source, member.target, strict="target").assignments
