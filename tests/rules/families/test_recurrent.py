"""LSTM, GRU and SimpleRNN: equal outputs on random sequences, one torch module into several Keras
layers, and what cannot be held.
"""

import numpy as np
import pytest

import keras_torch_convert as ktc
from keras_torch_convert.errors import AlignmentError, TransferError
from tests.helpers.recurrent_cases import CASES
from tests.helpers.rule_case import as_array
from tests.helpers.small_models import randomized
from tests.helpers.transfer import source_of

EQUAL = 1e-5
DIFFERENT = 1e-2

each_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


@each_case
def test_outputs_are_equal_when_layers_are_paired_by_order(case):
    import keras

    module, model = case.module(), case.keras_model(keras)

    ktc.keras_reload_from_torch_model(module, model, save_name="", do_predict=False, verbose=0)

    assert case.difference(module, model) < EQUAL


def converted(case):
    import keras

    module, model = case.module(), case.keras_model(keras)
    ktc.convert(module, model, plan=case.plan(module, model), verify=False)
    return module, model


@each_case
def test_outputs_differ_when_blocks_of_gates_are_exchanged(case):
    module, model = converted(case)
    for layer in model.layers:
        layer.set_weights([misplaced(weight) for weight in layer.get_weights()])

    assert case.difference(module, model) > DIFFERENT


def misplaced(weight):
    """The first two gates of three or four exchanged, everything shifted by one where there is one
    gate.
    """
    gates = weight.shape[-1] // 3
    blocks = np.split(weight, gates, axis=-1)
    return np.roll(weight, 1, axis=-1) if gates == 1 else np.concatenate(
        [blocks[1], blocks[0], *blocks[2:]], -1)


def test_outputs_differ_when_the_directions_are_exchanged():
    case = next(case for case in CASES if case.name == "bidirectional lstm")
    module, model = converted(case)
    weights = model.layers[-1].get_weights()
    model.layers[-1].set_weights([*weights[3:], *weights[:3]])

    assert case.difference(module, model) > DIFFERENT


def keras_of(*layers, features=4):
    import keras

    inputs = outputs = keras.Input((6, features))
    for layer in layers:
        outputs = layer(outputs)
    return keras.Model(inputs, outputs)


def torch_of(name, *arguments, **settings):
    from torch import nn

    return randomized(
        nn.ModuleDict({"rnn": getattr(nn, name)(*arguments, batch_first=True, **settings)}))


def refusal(module, model, mapping=None):
    with pytest.raises((TransferError, AlignmentError)) as caught:
        ktc.align(module, model, mapping=mapping or {model.layers[-1].name: "rnn"})
    return str(caught.value)


class TestWhatAKerasLayerCannotHold:
    def test_a_projection(self):
        import keras

        message = refusal(torch_of("LSTM", 4, 5, proj_size=3), keras_of(keras.layers.LSTM(5)))

        assert "'rnn.l0' was built with proj_size, which no Keras layer has" in message

    def test_the_reset_gate_of_torch_when_it_stands_before_the_product(self):
        import keras

        message = refusal(torch_of("GRU", 4, 3), keras_of(keras.layers.GRU(3, reset_after=False)))

        assert "build the Keras layer with reset_after=True" in message

    def test_the_reset_gate_without_bias_too(self):
        import keras

        message = refusal(torch_of("GRU", 4, 3, bias=False),
                          keras_of(keras.layers.GRU(3, reset_after=False, use_bias=False)))

        assert "build the Keras layer with reset_after=True" in message

    def test_biases_that_are_not_zero(self):
        import keras

        module, model = torch_of("LSTM", 4, 3), keras_of(keras.layers.LSTM(3, use_bias=False))
        plan = ktc.align(module, model, mapping={model.layers[-1].name: "rnn"})

        with pytest.raises(
                TransferError,
                match=r"use_bias=True.*'rnn.bias_ih_l0'.*every value is 0, 12 of 12 are not"):
            ktc.convert(module, model, plan=plan, verify=False)

    def test_biases_of_zero_are_left_out_and_the_ledger_says_so(self):
        import keras
        import torch

        module, model = torch_of("GRU", 4, 3), keras_of(
            keras.layers.GRU(3, use_bias=False, return_sequences=True))
        module["rnn"].bias_ih_l0.data.zero_()
        module["rnn"].bias_hh_l0.data.zero_()
        values = np.random.default_rng(0).standard_normal((2, 6, 4)).astype("float32")

        report = ktc.convert(module, model, plan=ktc.align(module, model,
                                                           mapping={model.layers[-1].name: "rnn"}),
                             verify=False)

        with torch.no_grad():
            expected = module["rnn"](torch.from_numpy(values))[0].numpy()
        np.testing.assert_allclose(as_array(model(values)), expected, atol=1e-6)
        skipped = {entry.name: entry.rule for entry in report.ledger if entry.status == "skipped"}
        assert set(skipped) == {"rnn.bias_ih_l0", "rnn.bias_hh_l0"}
        assert "0 everywhere" in skipped["rnn.bias_ih_l0"]

    def test_another_number_of_units(self):
        import keras

        message = refusal(torch_of("LSTM", 4, 5), keras_of(keras.layers.LSTM(3)))

        assert "build the Keras layer with units=5" in message

    def test_another_kind(self):
        import keras

        message = refusal(torch_of("GRU", 4, 3), keras_of(keras.layers.LSTM(3)))

        assert "it has 3 gates: use keras.layers.GRU" in message

    def test_several_layers(self):
        import keras

        message = refusal(torch_of("LSTM", 3, 3, 2), keras_of(keras.layers.LSTM(3), features=3))

        assert "2 torch cells ('rnn.l0', 'rnn.l1') for 1 Keras cells" in message

    def test_two_layers_are_not_two_directions(self):
        import keras

        message = refusal(torch_of("LSTM", 3, 3, 2),
                          keras_of(keras.layers.Bidirectional(keras.layers.LSTM(3)), features=3))

        expected = "a Bidirectional takes the two directions of one layer, got rnn.l0, rnn.l1"
        assert expected in message

    def test_two_directions_are_not_two_cells_of_a_stack(self):
        import keras

        cells = keras.layers.RNN([keras.layers.LSTMCell(3), keras.layers.LSTMCell(3)])
        message = refusal(torch_of("LSTM", 3, 3, bidirectional=True), keras_of(cells, features=3))

        assert "it runs in one direction" in message

    def test_a_stack_in_each_direction(self):
        import keras

        def stack():
            return keras.layers.RNN([keras.layers.LSTMCell(3), keras.layers.LSTMCell(3)])

        both = keras.layers.Bidirectional(
            stack(), backward_layer=keras.layers.RNN(stack().cell.cells, go_backwards=True))
        message = refusal(torch_of("LSTM", 3, 3, 2, bidirectional=True), keras_of(both, features=3))

        assert "torch joins both directions after every layer" in message

    def test_a_convolutional_lstm(self):
        import keras

        inputs = keras.Input((2, 5, 5, 4))
        model = keras.Model(inputs, keras.layers.ConvLSTM2D(3, 3)(inputs))

        assert "there is no rule for the gates of ConvLSTMCell" in refusal(
            torch_of("LSTM", 4, 3), model)


def test_a_reverse_direction_alone_goes_into_a_layer_that_runs_backwards():
    import keras
    import torch

    module = torch_of("GRU", 4, 3, bidirectional=True)
    model = keras_of(keras.layers.GRU(3, return_sequences=True, go_backwards=True))
    plan = ktc.align(module, model, mapping={model.layers[-1].name: "rnn.l0_reverse"},
                     skip_layers=["rnn.l0_forward"])

    report = ktc.convert(module, model, plan=plan, verify=False)

    values = np.random.default_rng(0).standard_normal((2, 6, 4)).astype("float32")
    with torch.no_grad():
        expected = module["rnn"](torch.from_numpy(values))[0].numpy()[..., 3:]
    np.testing.assert_allclose(as_array(model(values))[:, ::-1], expected, atol=1e-6)
    assert report.warnings == ()


def test_layers_of_a_module_that_are_skipped_by_name_are_cut_off_in_pairing_by_order():
    import keras

    module, model = torch_of("LSTM", 3, 3, 2), keras_of(keras.layers.LSTM(3), features=3)

    report = ktc.keras_reload_from_torch_model(module, model, save_name="", do_predict=False,
                                               verbose=0, skip_layers=["rnn.l1"])

    assert [pair[0] for pair in report.plan.pairs] == ["rnn.l0"]
    np.testing.assert_array_equal(model.layers[-1].get_weights()[0],
                                  module["rnn"].weight_ih_l0.detach().numpy().T)


def test_leaf_layers_of_a_bidirectional_take_one_direction_each():
    import keras

    module = torch_of("LSTM", 4, 3, bidirectional=True)
    model = keras_of(keras.layers.Bidirectional(keras.layers.LSTM(3)))

    report = ktc.keras_reload_from_torch_model(module, model, save_name="", do_predict=False,
                                               verbose=0, expand_nested=True)

    assert [pair[0] for pair in report.plan.pairs] == ["rnn.l0_forward", "rnn.l0_reverse"]
    kernels = [module["rnn"].weight_ih_l0, module["rnn"].weight_ih_l0_reverse]
    for kernel, place in zip(kernels, (0, 3), strict=True):
        np.testing.assert_array_equal(model.layers[-1].get_weights()[place],
                                      kernel.detach().numpy().T)


def test_a_layer_that_a_callback_hits_gets_all_tensors_of_the_module_in_their_order():
    import keras

    module, model = torch_of("LSTM", 3, 3, 2), keras_of(keras.layers.LSTM(3), features=3)
    seen = []

    def first_layer(weights):
        seen.append([weight.shape for weight in weights])
        return [weights[0].T, weights[1].T, weights[2] + weights[3]]

    ktc.keras_reload_from_torch_model(module, model, save_name="", do_predict=False, verbose=0,
                                      additional_transfer={keras.layers.LSTM: first_layer})

    assert seen[0] == [(12, 3), (12, 3), (12,), (12,)] * 2


def test_cells_of_two_torch_modules_go_into_a_bidirectional_in_the_order_given():
    import keras
    from torch import nn

    module = randomized(nn.ModuleDict({"there": nn.LSTMCell(4, 3), "back": nn.LSTMCell(4, 3)}))
    model = keras_of(keras.layers.Bidirectional(keras.layers.LSTM(3)))
    plan = ktc.align(module, model, mapping={model.layers[-1].name: ["there", "back"]})

    ktc.convert(module, model, plan=plan, verify=False)

    weights = model.layers[-1].get_weights()
    np.testing.assert_array_equal(weights[0], module["there"].weight_ih.detach().numpy().T)
    np.testing.assert_array_equal(weights[3], module["back"].weight_ih.detach().numpy().T)


def test_stacked_arrays_without_names_are_told_apart_by_torch_s_order():
    import keras

    module, model = torch_of("LSTM", 3, 3), keras_of(keras.layers.LSTM(3), features=3)
    stacked = ktc.state_dict_stack_by_layer(module.state_dict())

    ktc.keras_reload_stacked_state_dict(model, stacked, [model.layers[-1].name], save_name="",
                                        verbose=0)

    kernel, recurrent, bias = model.layers[-1].get_weights()
    rnn = module["rnn"]
    np.testing.assert_array_equal(kernel, rnn.weight_ih_l0.detach().numpy().T)
    np.testing.assert_array_equal(recurrent, rnn.weight_hh_l0.detach().numpy().T)
    np.testing.assert_array_equal(bias, (rnn.bias_ih_l0 + rnn.bias_hh_l0).detach().numpy())


def test_a_state_dict_sorted_by_name_gives_the_same_layer():
    import keras

    module, model = torch_of("GRU", 3, 3), keras_of(keras.layers.GRU(3), features=3)
    arrays = {name: one.numpy() for name, one in sorted(module.state_dict().items())}
    source = source_of(arrays)

    ktc.convert(source, model, plan=ktc.align(source, model,
                                              mapping={model.layers[-1].name: "rnn"}))

    reset, update, new = np.split(arrays["rnn.weight_ih_l0"], 3)
    np.testing.assert_array_equal(model.layers[-1].get_weights()[0],
                                  np.concatenate([update, reset, new]).T)


def test_another_activation_is_a_warning():
    import keras

    module, model = torch_of("LSTM", 4,
                             3), keras_of(keras.layers.LSTM(3, recurrent_activation="hard_sigmoid"))

    report = ktc.convert(module, model, plan=ktc.align(module, model,
                                                       mapping={model.layers[-1].name: "rnn"}),
                         verify=False)

    assert any("recurrent_activation='hard_sigmoid', torch's has sigmoid" in warning
               for warning in report.warnings)


def test_another_merge_mode_is_a_note():
    import keras

    module = torch_of("LSTM", 4, 3, bidirectional=True)
    model = keras_of(keras.layers.Bidirectional(keras.layers.LSTM(3), merge_mode="sum"))

    report = ktc.convert(module, model, plan=ktc.align(module, model,
                                                       mapping={model.layers[-1].name: "rnn"}),
                         verify=False)

    assert any("adds the two halves of its output" in note for note in report.notes)
