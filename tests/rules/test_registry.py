"""Every rule of the table: equal outputs, other outputs for anything misplaced, and both ways back.
A rule without a case fails here.
"""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

import keras_torch_convert as ktc
from keras_torch_convert.errors import TransferError
from keras_torch_convert.rules.registry import RULES, markdown, rule_table
from tests.helpers.fresh_process import answer_of
from tests.helpers.rule_case import misplaced
from tests.helpers.rule_cases import CASES, FOUND_BY_RUNNING, by_running, can_run

EQUAL = 1e-5
DIFFERENT = 1e-3
ROWS = {row.name: row for row in rule_table()}

each_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.display_name)
each_case_back = pytest.mark.parametrize("case", [case for case in CASES if not case.refused_back],
                                         ids=lambda case: case.display_name)


def converted(case):
    """Both models and the Plan, once the weights have traveled."""
    import keras

    module, model = case.module(), case.keras_model(keras)
    if not can_run(case, keras):
        pytest.skip("the framework lacks this layer")
    plan = case.plan(module, model)
    ktc.convert(module, model, plan=plan, verify=False)
    return module, model, plan


def test_every_rule_has_a_case():
    assert {case.rule for case in CASES} == set(ROWS)


def test_every_case_has_a_name_of_its_own():
    assert len({case.display_name for case in CASES}) == len(CASES)


@each_case
def test_outputs_are_equal_and_differ_for_whatever_is_misplaced(case):
    module, model, _ = converted(case)
    expected = case.run_torch(module)

    assert relative(case.run_keras(model), expected) < EQUAL

    weights = model.get_weights()
    names = [
        f"{weight.path if hasattr(weight, 'path') else weight.name}" for weight in model.weights
    ]
    for index, (name, values) in enumerate(zip(names, weights, strict=True)):
        if name.endswith(case.unseen or ("nothing",)):
            continue
        for how, changed in misplaced(values):
            model.set_weights([*weights[:index], changed, *weights[index + 1:]])
            assert relative(case.run_keras(model), expected) > DIFFERENT, f"{name} with {how}"


def relative(got, expected):
    assert got.shape == expected.shape, (got.shape, expected.shape)
    return float(np.abs(got - expected).max() / np.abs(expected).max())


@each_case
def test_the_plan_says_whether_every_value_can_be_had_back(case):
    _, _, plan = converted(case)

    assert plan.lossless == (not case.loss)
    assert case.loss in " ".join(plan.losses())
    assert plan.lossless or not ROWS[case.rule].lossless or case.rule in OF_OTHER_RULES


# What these carry is moved by the rules of the layers inside.
OF_OTHER_RULES = ("recurrent wrappers",)


@each_case_back
def test_torch_to_keras_to_torch(case):
    module, model, plan = converted(case)
    expected = case.run_torch(module)
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    forget(module)

    report = ktc.convert(model, module, plan=plan, verify=False)

    if plan.lossless:
        assert {
            name: tensor.numpy().tobytes()
            for name, tensor in module.state_dict().items() if "num_batches" not in name
        } == {
            name: tensor.numpy().tobytes()
            for name, tensor in before.items() if "num_batches" not in name
        }
    assert relative(case.run_torch(module), expected) < EQUAL
    assert not case.loss or report.warnings or report.notes


def forget(module):
    """Other values everywhere, as if nothing had ever been converted."""
    import torch

    with torch.no_grad():
        for tensor in module.state_dict().values():
            if tensor.is_floating_point():
                tensor.copy_(torch.full_like(tensor, 7))


@each_case_back
def test_keras_to_torch_to_keras(case):
    module, model, plan = converted(case)
    if not case.constrained:
        random = np.random.default_rng(3)
        model.set_weights([
            random.uniform(0.1, 0.9, value.shape).astype("float32")
            for value in model.get_weights()
        ])
    before = [value.copy() for value in model.get_weights()]
    forget(module)

    ktc.convert(model, module, plan=plan.invert(), verify=False)

    assert case.difference(module, model) < EQUAL
    model.set_weights([np.full_like(value, 7) for value in before])
    ktc.convert(module, model, plan=plan, verify=False)
    for value, expected in zip(model.get_weights(), before, strict=True):
        if "standardiz" in case.loss:
            np.testing.assert_allclose(value, expected, rtol=1e-5, atol=1e-6)
        else:
            assert value.tobytes() == expected.tobytes()


@pytest.mark.parametrize("case", [case for case in CASES if case.refused_back],
                         ids=lambda case: case.display_name)
def test_what_has_no_way_back_is_refused_with_the_reason(case):
    _, _, plan = converted(case)

    with pytest.raises(TransferError) as caught:
        plan.invert()

    assert case.refused_back in str(caught.value)


@pytest.mark.parametrize("case", [case for case in CASES if case.constrained],
                         ids=lambda case: case.display_name)
def test_keras_values_that_torch_cannot_hold_are_refused_and_nothing_is_written(case):
    module, model, plan = converted(case)
    random = np.random.default_rng(3)
    model.set_weights(
        [random.uniform(0.1, 0.9, value.shape).astype("float32") for value in model.get_weights()])
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}

    with pytest.raises(TransferError):
        ktc.convert(model, module, plan=plan, verify=False)

    assert all(bool((before[name] == tensor).all()) for name, tensor in module.state_dict().items())


@pytest.mark.parametrize("case", FOUND_BY_RUNNING, ids=lambda case: case.display_name)
def test_nothing_needs_to_be_told(case):
    import keras

    if not can_run(case, keras):
        pytest.skip("the framework lacks this layer")
    assert by_running(keras, case) < EQUAL


def assert_equal_everywhere(answer, *, keras2=False, tensorflow=False):
    for differences, cases in zip(answer, (CASES, FOUND_BY_RUNNING), strict=True):
        assert len(differences) == sum(
            not (keras2 and case.keras3_only) for case in cases) - tensorflow
        assert {label: value for label, value in differences.items() if not value < EQUAL} == {}


@pytest.mark.keras2
def test_outputs_are_equal_on_keras_2():
    assert_equal_everywhere(answer_of("rule_cases.py", "tf_keras"), keras2=True)


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["tensorflow", "jax"])
def test_outputs_are_equal_on_other_backends(backend):
    answer = answer_of("rule_cases.py", "keras", KERAS_BACKEND=backend)

    assert_equal_everywhere(answer, tensorflow=backend == "tensorflow")


DOCS = Path(__file__).resolve().parents[2] / "docs"


def rendered_page():
    specification = importlib.util.spec_from_file_location("render_rules", DOCS / "render_rules.py")
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module.page()


def test_the_page_in_the_documentation_is_current():
    assert (DOCS / "rules.md").read_text(
        encoding="utf-8") == rendered_page(), "run `python docs/render_rules.py`"


def test_every_rule_has_a_name_of_its_own_and_says_where_its_convention_is_written():
    rows = rule_table()

    assert len({row.name for row in rows}) == len(rows)
    assert all(
        "torch" in row.source or "parameter" in row.source or "Keras" in row.source for row in rows)


def test_every_kind_that_something_serves_is_in_the_table():
    in_table = {kind for row in rule_table() for kind in row.class_names}

    assert {kind for rule in RULES for kind in rule.class_names} <= in_table


def test_no_kind_has_two_rules():
    kinds = [kind for rule in RULES for kind in rule.class_names]

    assert len(set(kinds)) == len(kinds)


def test_a_layout_is_shown_as_both_sides_have_it():
    assert "`kernel: out in height width → height width in out`" in markdown()
    assert ("`depthwise_kernel: (channel multiplier) 1 height width → height width channel "
            "multiplier`") in markdown()


def test_the_table_is_one_line_a_rule_without_characters_that_would_break_it():
    lines = markdown().splitlines()

    assert len(lines) == 2 + len(rule_table())
    assert {line.replace(r"\|", "").count("|") for line in lines} == {6}
