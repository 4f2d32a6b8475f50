"""Every rule at any size, on paper: what is moved comes back bit for bit, what is computed as
values that give the same variables.
"""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_torch_convert import align
from keras_torch_convert.errors import TransferError
from keras_torch_convert.plan.executor import check_plan
from keras_torch_convert.plan.recipe import Assignment
from keras_torch_convert.rules.registry import RULES, rule_table
from tests.helpers.rule_shapes import DRAWN
from tests.helpers.transfer import layer, source_of, target_of, tensor

ROWS = {row.name: row for row in rule_table()}
BY_AXES = {rule.name for rule in RULES if rule.axes}  # see test_inverse.py


def test_every_rule_is_drawn():
    assert set(DRAWN) | BY_AXES == set(ROWS)
    assert not set(DRAWN) & BY_AXES


@pytest.mark.parametrize("name", DRAWN)
@settings(max_examples=25)
@given(data=st.data())
def test_a_rule_there_and_back(name, data):
    pair = DRAWN[name](data.draw)
    random = np.random.default_rng(data.draw(st.integers(0, 9)))
    tensors = {one: values_for(one, about, random) for one, about in pair.tensors.items()}
    source, keras = with_modules(source_of(tensors), pair.modules), target_of(pair.layer)
    plan = align(source, keras, mapping={"k": pair.mapping}, **pair.options)
    variables = computed(plan, source, keras)
    if ROWS[name].back.startswith("none"):
        assert not plan.lossless
        with pytest.raises(TransferError, match="resized"):
            plan.invert()
        return

    back = in_torch(plan, variables, tensors)
    again = computed(plan, with_modules(source_of(back), pair.modules), keras)

    assert ROWS[name].lossless <= plan.lossless or name == "recurrent wrappers"
    if plan.lossless:
        assert {one: array.tobytes() for one, array in back.items()
               } == {one: array.tobytes() for one, array in tensors.items()}
    for key, array in variables.items():
        if name == "weight-standardized convolution":
            np.testing.assert_allclose(again[key], array, rtol=1e-4, atol=1e-5)
        else:
            assert again[key].tobytes() == array.tobytes()


def values_for(name, about, random):
    shape, value = about if about and isinstance(about[0], tuple) else (about, None)
    if value is not None:
        return np.full(shape, value, "float32")
    drawn = random.uniform(0.5, 1.5, shape) if name.endswith(
        ("_var", "_g", "original0", "gain")) else random.standard_normal(shape)
    return drawn.astype("float32")


def with_modules(source, modules):
    """The source with the live modules of its layers."""
    return replace(source, module=SimpleNamespace(_modules=modules)) if modules else source


def computed(plan, source, target):
    return {variable.key: array for variable, array in check_plan(plan, source, target).arrays()}


def in_torch(plan, variables, tensors):
    """The torch tensors by the inverted Plan, of the Keras variables."""
    inverse = plan.invert()
    target = target_of(layer("t", "Module", {name: array.shape for name, array in tensors.items()}))
    keys = {variable.name: variable.key for variable in target.layers[0].variables}
    renamed = tuple(
        Assignment(keys[one.key], one.expression, one.rule) for one in inverse.assignments)
    source = source_of([tensor(key, array) for key, array in variables.items()])
    values = check_plan(replace(inverse, assignments=renamed), source, target).arrays()
    return {variable.name: array for variable, array in values}
