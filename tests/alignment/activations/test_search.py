"""Alignment by running both models, on pairs that share neither names nor order."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

import keras
import numpy as np
import pytest
import torch

import keras_torch_convert as ktc
from keras_torch_convert.alignment.activations import search
from keras_torch_convert.alignment.activations.branching import BranchPoint, next_exclusions

from tests.helpers.running_pairs import (  # isort: skip
    attention_pair, branches_pair, chaos_pair, flattened_pair, frequencies_pair,
    ignored_branch_pair, language_pair, offsets_pair, pair_with_another_step,
    pair_with_more_in_keras, shortcut_pair, switches_pair, tied_table_pair, token_types_pair)
from tests.helpers.small_models import (keras_two_branches, randomized, same_values,
                                        torch_two_branches, values)


def sources(plan: ktc.Plan, model: Any) -> dict[str, tuple[str, ...]]:
    """Keras variable, by its path, to the torch tensors that it gets."""
    from keras_torch_convert.keras_io.model import read_target
    from keras_torch_convert.plan.expressions import tensors_of

    labels = {key: variable.display_name for key, variable in read_target(model).variables.items()}
    return {labels[item.key]: tensors_of(item.expression) for item in plan.assignments}


def test_a_network_with_shortcuts_converts_with_nothing_told() -> None:
    report = ktc.convert(torch_two_branches(), keras_two_branches(keras))
    assert report.equal is True
    assert report.complete
    assert report.alignment == "found by running both models"


@pytest.mark.parametrize("fused", [False, True])
def test_query_key_and_value_find_their_parts(fused: bool) -> None:
    report = ktc.convert(*attention_pair(fused))
    assert report.equal is True
    assert report.relative_diff is not None
    assert report.relative_diff < 1e-5


@pytest.mark.parametrize("order", [("query", "key", "value", "skip"),
                                   ("skip", "value", "key", "query")])
def test_a_fused_projection_is_told_from_a_shortcut_of_one_shape_on_the_same_input(
        order: tuple[str, ...]) -> None:
    torch_module, keras_model = shortcut_pair(order)
    report = ktc.convert(torch_module, keras_model)
    assert report.equal is True
    skip = keras_model.get_layer("skip").kernel
    assert np.array_equal(keras.ops.convert_to_numpy(skip),
                          torch_module.skip.weight.detach().numpy().T)


def test_taking_back_an_earlier_choice_opens_what_came_behind_it() -> None:
    first = BranchPoint("first", ("a",), (("b",),), 1)
    second = BranchPoint("second", ("c",), (), 2)
    taken_back = next_exclusions([first, second], {"third": {("d",)}, "second": {("e",)}})
    assert taken_back == ({"first": {("a",)}}, 0)


def test_parallel_branches_are_told_apart_by_what_follows_even_when_their_names_lie() -> None:
    torch_module, keras_model = branches_pair("concat", ("second", "first"))
    plan = ktc.align(torch_module, keras_model)
    assert sources(plan, keras_model)["second/kernel"] == ("first.weight",)
    assert sources(plan, keras_model)["first/kernel"] == ("second.weight",)


def test_rows_of_a_dense_kernel_follow_the_flattened_map() -> None:
    assert ktc.convert(*flattened_pair()).equal is True


def test_a_shared_table_positions_and_an_unused_layer() -> None:
    torch_module, keras_model = language_pair()
    report = ktc.convert(torch_module, keras_model)
    assert report.equal is True
    statuses = {
        entry.name: (entry.status, entry.rule) for entry in report.ledger if entry.side == "source"
    }
    assert statuses["unused.weight"] == ("skipped", "not reached by this input")
    assert statuses["head.weight"][0] == "used"
    assert statuses["positions"][0] == "used"


def test_the_same_models_give_the_same_plan() -> None:
    torch_module, keras_model = branches_pair("concat", ("a", "b"))
    assert ktc.align(torch_module, keras_model) == ktc.align(torch_module, keras_model)


def test_a_weight_explains_itself() -> None:
    report = ktc.convert(torch_two_branches(), keras_two_branches(keras))
    assert "block1.shortcut" in report.explain("stack1_block1_shortcut_conv/kernel")
    with pytest.raises(KeyError, match="nothing is known about 'nothing'"):
        report.explain("nothing")


def test_a_branch_that_no_output_shows_is_told_by_what_it_computes() -> None:
    torch_module, keras_model = ignored_branch_pair()
    report = ktc.convert(torch_module, keras_model)
    assert report.equal is True
    found = sources(report.plan, keras_model)
    assert found["second/kernel"] == ("ignored.weight",)
    assert found["first/kernel"] == ("shown.weight",)
    assert {entry.name for entry in report.ledger if entry.status == "skipped"
           } >= {"unused.weight", "unused.bias"}


def test_an_output_at_chaos_cannot_be_decided() -> None:
    report = ktc.convert(*chaos_pair())
    assert report.equal is None
    assert report.verdict == "undecided"
    assert "torch itself moves its outputs by" in report.summary()


def test_equal_outputs_that_the_slightest_change_of_the_weights_turns_over_prove_nothing() -> None:
    report = ktc.convert(*switches_pair())
    assert report.equal is None
    assert "each of its weights is changed by 1e-04 of its value" in report.summary()


def test_a_row_that_torch_adds_by_itself_goes_into_the_table_of_positions() -> None:
    torch_module, keras_model = token_types_pair()
    with pytest.raises(ktc.TransferError,
                       match=r"8 of 16 values of 'types.weight' \(2, 8\) are left over"):
        ktc.convert(torch_module, keras_model)
    report = ktc.convert(torch_module, keras_model, strict="target")
    assert report.equal is True
    assert "types.weight" in [
        tensor for tensors in sources(report.plan, keras_model).values() for tensor in tensors
    ]


def test_what_torch_lacks_is_filled_so_that_it_does_nothing() -> None:
    torch_module, keras_model = pair_with_more_in_keras()
    report = ktc.convert(torch_module, keras_model)
    assert report.equal is True
    assert report.complete
    norm = keras_model.get_layer("b1")
    gamma, beta, mean, variance = (np.asarray(value) for value in norm.get_weights())
    assert np.allclose(variance + norm.epsilon, 1)
    assert np.all(gamma == 1)
    assert not np.any(beta)
    assert not np.any(mean)
    assert not np.any(keras_model.get_layer("c1").get_weights()[1])


@pytest.mark.parametrize("gain", [1.0, 1.5])
def test_a_gain_of_one_may_be_missing_in_keras_and_no_other(gain: float) -> None:
    torch_module = randomized(
        torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.BatchNorm2d(8)), seed=1)
    with torch.no_grad():
        torch_module[1].weight.fill_(1.0)
        torch_module[1].weight[0] = gain
    inputs = keras.layers.Input((8, 8, 3))
    x = keras.layers.BatchNormalization(scale=False, epsilon=1e-5)(keras.layers.Conv2D(8,
                                                                                       3)(inputs))
    keras_model = keras.Model(inputs, x)
    before = values(keras_model)
    if gain != 1.0:
        with pytest.raises(ktc.ConversionError, match=r"1\.weight"):
            ktc.convert(torch_module, keras_model)
        assert same_values(before, values(keras_model))
        return
    report = ktc.convert(torch_module, keras_model)
    assert report.equal is True
    assert [entry.status for entry in report.ledger if entry.name == "1.weight"] == ["skipped"]


def test_a_layer_that_computed_its_own_constants_keeps_them() -> None:
    torch_module, keras_model = frequencies_pair()
    report = ktc.convert(torch_module, keras_model)
    assert report.equal is True
    assert list(
        report.plan.kept.values()) == ["its own values give what torch computes without a weight"]


def test_weights_that_meet_only_constants_are_told_apart_by_when_they_are_used() -> None:
    torch_module, keras_model = offsets_pair()
    report = ktc.convert(torch_module, keras_model)
    assert report.equal is True
    assert sources(report.plan, keras_model)["alpha/dense/kernel"] == ("zeta.weight",)


def test_a_tied_table_fills_both_of_a_layer_that_keeps_it_twice() -> None:
    torch_module, keras_model = tied_table_pair()
    report = ktc.convert(torch_module, keras_model, sample=np.array([[3, 1, 4, 15, 9, 2]]))
    assert report.equal is True
    embeddings, reverse = keras_model.get_layer("tokens").get_weights()
    assert np.array_equal(reverse, embeddings.T)
    assert np.array_equal(embeddings, torch_module.table.weight.detach().numpy())


def test_layers_behind_a_step_that_differs_get_their_weights() -> None:
    torch_module, keras_model = pair_with_another_step()
    before = values(keras_model)
    with pytest.raises(ktc.NotEqualError, match="Keras computes exp, torch relu"):
        ktc.convert(torch_module, keras_model)
    assert same_values(before, values(keras_model))
    report = ktc.convert(torch_module, keras_model, if_different="keep")
    assert report.plan is not None
    doubts = {one.key.rpartition("/")[0]: one.doubt for one in report.plan.assignments if one.doubt}
    assert len(doubts) == 1
    assert "'b' gives something else than" in next(iter(doubts.values()))
    # The cause is proven, so nothing is left of the doubt.
    assert not set(doubts.values()) & set(report.warnings)
    assert report.equal is False
    assert sources(report.plan, keras_model)["b/kernel"] == ("2.weight",)
    assert sources(report.plan, keras_model)["c/kernel"] == ("4.weight",)


def test_a_layer_of_another_size_is_named_with_both_shapes_and_once() -> None:
    torch_module, keras_model = pair_with_another_step(width=7)
    with pytest.raises(ktc.AlignmentError, match=r"- b: kernel \(5, 7\), bias \(7,\)"):
        ktc.convert(torch_module, keras_model)
    torch_module = torch.nn.Sequential(torch.nn.Linear(6, 5), torch.nn.Linear(5, 3))
    inputs = keras.Input((6,))
    keras_model = keras.Model(inputs,
                              keras.layers.Dense(4, name="wide")(keras.layers.Dense(5)(inputs)))
    with pytest.raises(
            ktc.AlignmentError, match=
            r"- wide: .*: it gets in Keras what torch gives to '1', which has 1\.weight \(3, 5\), "
            r"1\.bias \(3,\); nothing there has as many values as kernel, bias: build both"):
        ktc.convert(torch_module, keras_model)


def test_hints_are_advised_only_where_all_weights_of_a_layer_fit() -> None:
    torch_module = torch.nn.Sequential(torch.nn.Linear(6, 5), torch.nn.ReLU(),
                                       torch.nn.Linear(5, 3))
    inputs = keras.Input((6,))
    middle = keras.layers.Dense(4, activation="relu", name="first")(inputs)
    keras_model = keras.Model(inputs, keras.layers.Dense(3, name="last")(middle))
    with pytest.raises(ktc.AlignmentError, match="4 torch tensors without") as caught:
        ktc.convert(torch_module, keras_model)
    # The offsets of '2' and 'last' have one size, the matrices have not.
    assert "hints=" not in str(caught.value)


def test_the_whole_module_is_called_so_where_it_is_a_candidate() -> None:
    torch_module = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.BatchNorm2d(8))
    inputs = keras.Input((8, 8, 3))
    keras_model = keras.Model(inputs,
                              keras.layers.BatchNormalization()(keras.layers.Conv2D(9, 3)(inputs)))
    with pytest.raises(
            ktc.AlignmentError,
            match=r"torch gives to '0', which has [^;]*; or the whole module, which has"):
        ktc.convert(torch_module, keras_model)


def test_a_layer_that_differs_gets_its_weights_and_the_cause_is_named() -> None:
    torch_module = torch.nn.Sequential(torch.nn.Linear(6, 8),
                                       torch.nn.Tanh(), torch.nn.Linear(8, 8), torch.nn.Tanh(),
                                       torch.nn.Linear(8, 3))
    inputs = keras.Input((6,))
    middle = keras.layers.Dense(8, activation="tanh", name="first")(inputs)
    middle = keras.layers.Dense(8, activation="sigmoid", name="middle")(middle)
    keras_model = keras.Model(inputs, keras.layers.Dense(3, name="last")(middle))
    with pytest.raises(ktc.NotEqualError, match="Keras computes sigmoid, torch tanh"):
        ktc.convert(torch_module, keras_model)
    plan = ktc.align(torch_module, keras_model)
    assert sources(plan, keras_model)["middle/kernel"] == ("2.weight",)
    assert sources(plan, keras_model)["last/kernel"] == ("4.weight",)


NO_COUNTERPART: list[tuple[dict[str, Any], str]] = [
    ({"bias": False}, r"Keras layer 'first' \(Dense\) has no variable for 0\.bias of torch layer "
     r"'0' \(Linear\): build it with use_bias=True"),
    ({"norm": None},
     r"torch layer '1' \(BatchNorm1d\) with 1\.weight, .* has no counterpart in the Keras model"),
    ({"norm": "LayerNormalization"},
     r"Keras layer 'norm' \(LayerNormalization: .* torch layer '1' \(BatchNorm1d\) "
     r"\(1\.weight \(8,\), .*1\.running_var \(8,\)\) with a running mean and variance"),
    ({"extra": True}, r"Keras layer 'extra' \(Dense\) has no counterpart in torch"),
]


@pytest.mark.parametrize(("settings", "said"), NO_COUNTERPART)
def test_what_has_no_counterpart_is_named(settings: dict[str, Any], said: str) -> None:
    torch_module = randomized(
        torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.BatchNorm1d(8), torch.nn.Tanh(),
                            torch.nn.Linear(8, 3)))
    with pytest.raises(ktc.AlignmentError, match=said):
        ktc.convert(torch_module, keras_like_with_a_difference(**settings))


def keras_like_with_a_difference(bias: bool = True, norm: str | None = "BatchNormalization",
                                 extra: bool = False) -> Any:
    inputs = keras.Input((6,))
    middle = keras.layers.Dense(8, use_bias=bias, name="first")(inputs)
    if norm is not None:
        middle = getattr(keras.layers, norm)(epsilon=1e-5, name="norm")(middle)
    middle = keras.layers.Activation("tanh")(middle)
    if extra:
        middle = keras.layers.Dense(8, name="extra")(middle)
    return keras.Model(inputs, keras.layers.Dense(3, name="last")(middle))


def test_a_head_for_another_number_of_classes_is_told_from_other_sizes_and_can_be_left_out(
) -> None:
    seven = randomized(torch_two_branches(7))
    five, model_of_seven = keras_two_branches(keras, 5), keras_two_branches(keras, 7)
    before = values(five)
    with pytest.raises(ktc.AlignmentError,
                       match=r"'predictions' has 5 outputs, 'head.weight' 7: .*with strict=False"):
        ktc.convert(seven, five)
    assert same_values(before, values(five))
    report = ktc.convert(seven, five, plan=ktc.align(seven, model_of_seven).without("predictions"),
                         verify=False)
    assert report.ok
    assert [entry.name for entry in report.ledger if entry.status == "kept"
           ] == ["predictions/kernel", "predictions/bias"]


def test_a_torch_model_with_a_layer_more_is_not_taken_for_one_of_other_classes() -> None:
    torch_module = randomized(
        torch.nn.Sequential(*(torch.nn.Linear(6, width) for width in (6, 6, 5))))
    keras_model = keras.Sequential(
        [keras.Input((6,)), keras.layers.Dense(6),
         keras.layers.Dense(5)])
    with pytest.raises(ktc.AlignmentError) as caught:
        ktc.convert(torch_module, keras_model)
    assert "number of classes" not in str(caught.value)


def test_a_sample_that_does_not_fit_the_models_is_told_as_such() -> None:
    torch_module, keras_model = pair_with_another_step()
    before = values(keras_model)
    with pytest.raises(ktc.PredictionError,
                       match="the torch model failed on sample given by the caller"):
        ktc.convert(torch_module, keras_model, sample=np.zeros((1, 2, 3, 4), "float32"))
    assert same_values(before, values(keras_model))


class DoubledInKeras(keras.layers.Layer):  # type: ignore[misc]
    """A step that torch does not have."""
    def call(self, x: Any) -> Any:
        return 2 * x


def pair_that_differs() -> tuple[Any, Any]:
    inputs = keras.layers.Input((4,))
    outputs = DoubledInKeras()(keras.layers.Dense(3, name="dense")(inputs))
    return torch.nn.Sequential(torch.nn.Linear(4, 3)), keras.Model(inputs, outputs)


@pytest.mark.parametrize("planned", [False, True])
def test_outputs_that_differ_leave_the_model_as_it_was_and_come_with_the_report(
        planned: bool) -> None:
    torch_module, keras_model = pair_that_differs()
    before = values(keras_model)
    plan = ktc.align(torch_module, keras_model, mapping={"dense": "0"}) if planned else None
    with pytest.raises(ktc.NotEqualError, match="aligned but their outputs differ") as caught:
        ktc.convert(torch_module, keras_model, plan=plan)
    assert same_values(before, values(keras_model))
    assert caught.value.report is not None
    assert caught.value.report.equal is False
    assert caught.value.comparison is not None
    assert caught.value.comparison.relative_diff == pytest.approx(1, rel=1e-3)


@pytest.mark.parametrize("planned", [False, True])
def test_outputs_that_differ_can_be_kept(planned: bool) -> None:
    torch_module, keras_model = pair_that_differs()
    plan = ktc.align(torch_module, keras_model, mapping={"dense": "0"}) if planned else None
    report = ktc.convert(torch_module, keras_model, plan=plan, if_different="keep")
    assert report.equal is False
    assert not report.ok
    kernel = np.asarray(keras_model.get_layer("dense").get_weights()[0])
    assert np.array_equal(kernel, torch_module[0].weight.detach().numpy().T)


def test_a_call_of_the_users_serves_a_plan_too_and_its_failure_leaves_the_model_as_it_was() -> None:
    torch_module, keras_model = pair_that_differs()
    plan = ktc.align(torch_module, keras_model, mapping={"dense": "0"})
    before = values(keras_model)
    with pytest.raises(ktc.PredictionError,
                       match=r"KeyError: 'no such output'; model and files are as they were"):
        ktc.convert(torch_module, keras_model, plan=plan,
                    torch_call=lambda model, inputs: {}["no such output"])
    assert same_values(before, values(keras_model))
    report = ktc.convert(torch_module, keras_model, plan=plan,
                         torch_call=lambda model, inputs: 2 * model(inputs))
    assert report.equal


def test_a_module_is_filled_from_keras_only_when_their_outputs_agree() -> None:
    torch_module, keras_model = pair_that_differs()
    before = {name: value.clone() for name, value in torch_module.state_dict().items()}
    with pytest.raises(ktc.NotEqualError, match="aligned but their outputs differ"):
        ktc.convert(keras_model, torch_module, direction="to_torch")
    assert all(
        torch.equal(value, before[name]) for name, value in torch_module.state_dict().items())
    assert ktc.convert(keras_model, torch_module, direction="to_torch",
                       if_different="keep").equal is False


def test_a_model_that_does_not_belong_is_refused_with_what_is_open() -> None:
    inputs = keras.layers.Input((4,))
    wrong = keras.Model(
        inputs,
        keras.layers.Dense(3, name="dense")(keras.layers.Dense(7, name="odd")(inputs)))
    before = values(wrong)
    with pytest.raises(ktc.AlignmentError, match=r"(is|are) open, nothing was written(.|\n)*odd"):
        ktc.align(torch.nn.Sequential(torch.nn.Linear(4, 3)), wrong)
    assert same_values(before, values(wrong))


def test_a_hint_is_honored_and_an_unknown_one_refused() -> None:
    torch_module, keras_model = branches_pair("sum", ("a", "b"))
    plan = ktc.align(torch_module, keras_model, hints={"a": "second"})
    assert sources(plan, keras_model)["a/kernel"] == ("second.weight",)
    with pytest.raises(ktc.AlignmentError, match="no layer or tensor 'thrid'"):
        ktc.align(torch_module, keras_model, hints={"a": "thrid"})
    with pytest.raises(ktc.AlignmentError, match="no layer or variable 'z'"):
        ktc.align(torch_module, keras_model, hints={"z": "second"})


def test_a_checkpoint_alone_is_refused_with_the_ways_out() -> None:
    torch_module, keras_model = branches_pair("sum", ("a", "b"))
    with pytest.raises(ktc.AlignmentError, match="is only weights"):
        ktc.convert(torch_module.state_dict(), keras_model)


class Failing(torch.nn.Module):
    """Fails the second time it or a twin of it is run."""

    runs: ClassVar[list[int]] = []

    def __init__(self) -> None:
        super().__init__()
        self.dense = torch.nn.Linear(4, 3)
        self.runs.clear()

    def forward(self, x: Any) -> Any:
        self.runs.append(1)
        if len(self.runs) == 2:
            raise KeyboardInterrupt
        return self.dense(x)


def test_an_interrupt_leaves_weights_modes_hooks_and_random_state_as_they_were() -> None:
    _, keras_model = pair_that_differs()
    module = Failing()
    module.train()
    module.dense.eval()
    weights, states = values(keras_model), {
        name: value.clone() for name, value in module.state_dict().items()
    }
    random_states = torch.get_rng_state(), np.random.get_state()[1].copy()
    original = keras.layers.Layer.__call__
    with pytest.raises(KeyboardInterrupt):
        ktc.align(module, keras_model)
    assert same_values(weights, values(keras_model))
    assert all(torch.equal(value, states[name]) for name, value in module.state_dict().items())
    assert (module.training, module.dense.training) == (True, False)
    assert torch.equal(torch.get_rng_state(), random_states[0])
    assert np.array_equal(np.random.get_state()[1], random_states[1])
    assert keras.layers.Layer.__call__ is original
    assert torch.nn.modules.module._global_forward_hooks == {}
    assert torch.nn.modules.module._global_forward_pre_hooks == {}


def test_aligning_writes_to_neither_model() -> None:
    torch_module, keras_model = torch_two_branches(), keras_two_branches(keras)
    weights = values(keras_model)
    states = {name: value.clone() for name, value in torch_module.state_dict().items()}
    ktc.align(torch_module, keras_model)
    assert same_values(weights, values(keras_model))
    assert all(
        torch.equal(value, states[name]) for name, value in torch_module.state_dict().items())


def test_a_source_that_was_read_before_is_aligned_by_running_as_the_module_itself() -> None:
    import keras

    from tests.helpers.small_models import (keras_two_branches, largest_difference,
                                            torch_two_branches)

    torch_module, keras_model = torch_two_branches(), keras_two_branches(keras)
    report = ktc.convert(ktc.read(torch_module), keras_model)
    assert report.alignment == "found by running both models"
    assert report.equal is True
    assert largest_difference(torch_module, keras_model) < 1e-5


def test_constants_that_a_keras_layer_keeps_as_weights_stay() -> None:
    class Rotation(keras.layers.Layer):
        def build(self, _: Any) -> None:
            frequencies = keras.ops.arange(1.0, 5.0)
            self.frequencies = self.add_weight(name="frequencies", shape=(4,), trainable=False)
            self.frequencies.assign(frequencies)

        def call(self, x: Any) -> Any:
            return keras.ops.ones_like(x) * keras.ops.tile(keras.ops.sin(self.frequencies), (2,))

    class Rotated(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = torch.nn.Linear(8, 8), torch.nn.Linear(8, 3)

        def forward(self, x: Any) -> Any:
            # In two steps, so that nothing in torch is what the Keras layer gives.
            return self.last(
                torch.addcmul(torch.ones(8), self.first(x),
                              torch.sin(torch.arange(1.0, 5.0)).repeat(2)) - 1)

    inputs = keras.Input((8,))
    x = keras.layers.Dense(8)(inputs)
    rotated = x * Rotation(name="rotation")(x)
    keras_model = keras.Model(inputs, keras.layers.Dense(3)(rotated))
    report = ktc.convert(randomized(Rotated()), keras_model)
    assert report.equal is True
    kept = {entry.name: entry.rule for entry in report.ledger if entry.status == "kept"}
    assert "rotation/frequencies" in kept


class ResidualWithoutEnd(torch.nn.Module):
    """A net that computes one branch more than it uses, and counts its calls nowhere."""
    def __init__(self) -> None:
        super().__init__()
        self.gate, self.skip, self.rest = (torch.nn.Linear(5, 5) for _ in range(3))

    def forward(self, x: Any) -> Any:
        hidden = torch.tanh(self.gate(x))
        self.rest(hidden)
        return self.skip(hidden)


def test_weights_on_which_no_output_depends_are_left_out_and_said_to_be() -> None:
    inputs = keras.Input((5,))
    model = keras.Model(inputs,
                        keras.layers.Dense(5)(keras.layers.Dense(5, activation="tanh")(inputs)))
    report = ktc.convert(randomized(ResidualWithoutEnd()), model)
    assert report.equal is True
    skipped = {entry.name: entry.rule for entry in report.ledger if entry.status == "skipped"}
    assert skipped == dict.fromkeys(["rest.weight", "rest.bias"],
                                    "computed with, but no output depends on it at this input")


def test_a_layer_that_keras_lacks_is_left_over_when_outputs_depend_on_it() -> None:
    module = torch.nn.Sequential(torch.nn.Linear(5, 4), torch.nn.Linear(4, 4))
    inputs = keras.Input((5,))
    with pytest.raises(ktc.ConversionError, match=r"1\.weight"):
        ktc.convert(module, keras.Model(inputs, keras.layers.Dense(4)(inputs)))


@pytest.mark.parametrize("transposed", [False, True])
def test_a_sequence_is_given_to_torch_in_the_layout_that_runs(transposed: bool) -> None:
    class Sequence(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.convolution, self.head = torch.nn.Conv1d(3, 8, 1), torch.nn.Linear(8, 2)

        def forward(self, x: Any) -> Any:
            x = x.transpose(1, 2) if transposed else x
            return self.head(torch.relu(self.convolution(x)).amax(2))

    inputs = keras.Input((20, 3))
    first = keras.layers.Conv1D(8, 1) if transposed else keras.layers.Dense(8)
    pooled = keras.layers.GlobalMaxPooling1D()(keras.layers.ReLU()(first(inputs)))
    report = ktc.convert(randomized(Sequence()), keras.Model(inputs, keras.layers.Dense(2)(pooled)))
    assert report.equal is True
    assert any("cannot be run on the other layout" in note for note in report.notes)


def test_single_ids_are_drawn_several_at_a_time() -> None:
    class Scores(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.users, self.items = torch.nn.Embedding(30, 8), torch.nn.Embedding(40, 8)

        def forward(self, user: Any, item: Any) -> Any:
            return self.users(user) * self.items(item)

    user, item = (keras.Input((1,), dtype="int32", name=name) for name in ("user", "item"))
    scores = keras.layers.Multiply()(
        [keras.layers.Embedding(30, 8)(user),
         keras.layers.Embedding(40, 8)(item)])
    report = ktc.convert(randomized(Scores()), keras.Model([user, item], scores))
    assert report.equal is True
    assert "(4, 1)" in report.input


def test_ids_are_small_enough_for_every_table_when_columns_go_into_several() -> None:
    class Columns(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.tables = torch.nn.ModuleList(
                [torch.nn.Embedding(size, 4) for size in (10, 20, 30)])

        def forward(self, ids: Any) -> Any:
            return torch.cat([table(ids[:, column]) for column, table in enumerate(self.tables)], 1)

    ids = keras.Input((3,), dtype="int32", name="ids")
    columns = [
        keras.layers.Embedding(size, 4)(ids[:, column]) for column, size in enumerate((10, 20, 30))
    ]
    report = ktc.convert(randomized(Columns()), keras.Model(ids,
                                                            keras.layers.Concatenate()(columns)))
    assert report.equal is True


class SharedLayers(torch.nn.Module):
    """A table that is the head too, and a layer called twice."""
    def __init__(self) -> None:
        super().__init__()
        self.tokens, self.inner, self.head = (torch.nn.Embedding(30, 8), torch.nn.Linear(8, 8),
                                              torch.nn.Linear(8, 30, bias=False))
        self.head.weight = self.tokens.weight

    def forward(self, ids: Any) -> Any:
        hidden = torch.tanh(self.inner(self.tokens(ids)))
        return self.head(torch.tanh(self.inner(hidden)))


def test_weights_that_torch_uses_twice_fill_layers_that_each_have_their_own() -> None:
    ids = keras.Input((6,), dtype="int32")
    hidden = keras.layers.Embedding(30, 8)(ids)
    for _ in range(2):
        hidden = keras.layers.Dense(8, activation="tanh")(hidden)
    model = keras.Model(ids, keras.layers.Dense(30, use_bias=False, name="head")(hidden))
    module = randomized(SharedLayers())
    report = ktc.convert(module, model)
    assert report.equal is True
    assert report.complete
    weight = module.inner.weight.detach().numpy()
    assert sum(np.array_equal(weight.T, array) for array in model.get_weights()) == 2
    assert np.array_equal(
        model.get_layer("head").kernel.value.detach().numpy(),
        module.tokens.weight.detach().numpy().T)


def test_a_layer_beside_the_one_that_torch_has_is_not_filled_with_the_same_weights() -> None:
    module = torch.nn.Sequential(torch.nn.Linear(5, 4), torch.nn.Tanh())
    inputs = keras.Input((5,))
    both = keras.layers.Add()([keras.layers.Dense(4, activation="tanh")(inputs) for _ in range(2)])
    with pytest.raises(ktc.ConversionError):
        ktc.convert(module, keras.Model(inputs, both))


def test_a_head_that_is_not_run_gets_its_own_tensor_and_no_part_of_another() -> None:
    class Table(keras.layers.Layer):
        """A table of ids and another one for the way back, which the model does not use."""
        def build(self, _: Any) -> None:
            self.embeddings = self.add_weight(shape=(20, 8), name="embeddings")
            self.reverse = self.add_weight(shape=(8, 20), name="reverse_embeddings")

        def call(self, ids: Any) -> Any:
            return keras.ops.take(self.embeddings, ids, axis=0)

    class Language(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = torch.nn.Embedding(20, 8)
            self.up, self.down = torch.nn.Linear(8, 24), torch.nn.Linear(24, 8)
            self.head = torch.nn.Linear(8, 20, bias=False)

        def forward(self, ids: Any) -> Any:
            return self.down(torch.relu(self.up(self.table(ids))))

    ids = keras.Input((5,), dtype="int32")
    states = keras.layers.Dense(24, "relu", name="up")(Table(name="table")(ids))
    model = keras.Model(ids, keras.layers.Dense(8, name="down")(states))
    sample = np.arange(5, dtype="int32")[None]

    plan = ktc.align(randomized(Language()), model, sample=(torch.from_numpy(sample), sample))

    # Its shape fits 20 rows of the wider layer as well.
    assert sources(plan, model)["table/reverse_embeddings"] == ("head.weight",)
    doubts = {one.doubt for one in plan.assignments}
    assert any("paired by its shape alone" in doubt for doubt in doubts)


def test_a_pass_that_begins_with_what_was_found_goes_on_behind_it(
        monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a layer gets what torch never computed, the steps behind the last one are looked at:
    from the first step on they would be too many.
    """
    one_pass, last_orders = search.one_pass, []

    def twice(trace_index: Any, target: Any, call: Any, config: Any) -> Any:
        state, finished = one_pass(trace_index, target, call, config)
        again, _ = one_pass(trace_index, target, call, replace(config, presets=dict(state.matches)))
        last_orders.append((state.last_order, again.last_order))
        return state, finished

    monkeypatch.setattr(search, "one_pass", twice)
    ktc.align(torch_two_branches(), keras_two_branches(keras))
    first, again = last_orders[0]
    assert 0 < first == again


def test_a_bias_that_torch_adds_after_steps_without_weights() -> None:
    """A graph convolution adds its bias behind the sum over neighbors."""
    class Graph(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linears = torch.nn.ModuleList(torch.nn.Linear(6, 6, bias=False) for _ in range(3))
            self.biases = torch.nn.ParameterList(torch.randn(6) for _ in range(3))

        def forward(self, x: Any, neighbors: Any) -> Any:
            for linear, bias in zip(self.linears, self.biases, strict=True):
                x = torch.relu(neighbors @ linear(x) / 2 + bias)
            return x

    class Convolution(keras.layers.Layer):  # type: ignore[misc]
        def build(self, shapes: Any) -> None:
            self.kernel = self.add_weight(shape=(6, 6), name="kernel")
            self.bias = self.add_weight(shape=(6,), name="bias")

        def call(self, given: Any) -> Any:
            mixed = keras.ops.matmul(given[1], keras.ops.matmul(given[0], self.kernel))
            return keras.ops.relu(mixed / 2 + self.bias)

    features, neighbors = keras.Input((5, 6), name="x"), keras.Input((5, 5), name="neighbors")
    x = features
    for _ in range(3):
        x = Convolution()([x, neighbors])
    module, model = randomized(Graph()), keras.Model([features, neighbors], x)
    assert ktc.convert(module, model).equal is True


@pytest.mark.parametrize("inside", [False, True])
def test_a_table_that_torch_keeps_in_a_buffer(inside: bool) -> None:
    """A variable that holds other values than the constant of torch gets those."""
    class Positions(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding = torch.nn.Linear(4, 6)
            self.register_buffer("positions", torch.randn(1, 5, 6))
            self.norm, self.head = torch.nn.LayerNorm(6), torch.nn.Linear(6, 3)

        def forward(self, x: Any) -> Any:
            return self.head(self.norm(self.embedding(x) + self.positions))

    class Table(keras.layers.Layer):  # type: ignore[misc]
        def __init__(self, layers: Any = ()) -> None:
            super().__init__()
            self.layers = list(layers)

        def build(self, shape: Any) -> None:
            self.table = self.add_weight(shape=(5, 6), name="position_embedding")

        def call(self, x: Any) -> Any:
            first, *others = self.layers or [lambda value: value]
            x = first(x) + self.table
            for layer in others:
                x = layer(x)
            return x

    inputs = keras.Input((5, 4))
    layers = [
        keras.layers.Dense(6),
        keras.layers.LayerNormalization(epsilon=1e-5),
        keras.layers.Dense(3)
    ]
    x = Table(layers)(inputs) if inside else layers[2](layers[1](Table()(layers[0](inputs))))
    module, model = randomized(Positions()), keras.Model(inputs, x)
    report = ktc.convert(module, model)
    assert report.equal is True
    assert report.plan is not None
    assert ("positions",) in sources(report.plan, model).values()
