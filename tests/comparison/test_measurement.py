"""Both models on one input: what they see, what is put back afterward, and how a failure is told.
"""

import random

import numpy as np
import pytest

from keras_torch_convert.comparison.measurement import measure, run_alone
from keras_torch_convert.errors import AlignmentError, PredictionError
from keras_torch_convert.keras_io.model import read_target
from keras_torch_convert.running.inputs import InputRequest, input_pair
from keras_torch_convert.running.picture import load_picture
from keras_torch_convert.running.run import run_torch
from tests.helpers.small_models import keras_two_branches, randomized, torch_two_branches


def keras():
    import keras as imported

    return imported


def nn():
    import torch.nn

    return torch.nn


def twins(classes=1000, *, activation=None, size=16, data_format="channels_last"):
    """A convolution, a mean over the map and a dense layer on both sides, with the same weights."""
    layers = keras().layers
    module = randomized(nn().Sequential(nn().Conv2d(3, 6, 3),
                                        nn().AdaptiveAvgPool2d(1),
                                        nn().Flatten(),
                                        nn().Linear(6, classes)))
    inputs = layers.Input((size, size, 3) if data_format == "channels_last" else (3, size, size))
    x = layers.Conv2D(6, 3, data_format=data_format)(inputs)
    x = layers.GlobalAveragePooling2D(data_format=data_format)(x)
    model = keras().Model(inputs, layers.Dense(classes, activation=activation)(x))
    convolution, dense = module[0], module[3]
    model.set_weights([
        convolution.weight.detach().numpy().transpose(2, 3, 1, 0),
        convolution.bias.detach().numpy(),
        dense.weight.detach().numpy().T,
        dense.bias.detach().numpy()
    ])
    return module, model


def run_both(module, target, *, picture=True, **request):
    """The comparison on one input, made as the classic functions make it."""
    pair = input_pair(module, target, InputRequest(picture=picture, **request))
    with pair.failures_reported():
        return run_alone(target, pair) if module is None else measure(module, target, pair, count=0)


def torch_output(module, target, **request):
    """What the torch module gives for that input."""
    pair = input_pair(module, target, InputRequest(picture=True, **request))
    outputs, _ = run_torch(module, pair)
    return outputs[""]


class Remembering:
    """A function that keeps what it was given."""
    def __init__(self, result):
        self.result, self.given = result, None

    def __call__(self, *arguments, **options):
        self.given = arguments[0]
        return self.result(*arguments, **options)


def test_equal_models_agree_on_the_bundled_cat_with_class_names():
    module, model = twins()

    result = run_both(module, read_target(model), rescale_mode="lite")

    assert result.equal is True
    assert result.relative_diff < 1e-5
    assert result.inputs[0] == "the bundled cat (chelsea.png), 16 x 16"
    assert result.rescale_mode == "'lite'"
    assert [entry[:2] for entry in result.torch_top] == [entry[:2] for entry in result.keras_top]
    assert len(result.keras_top) == 5
    assert all(name for _, name, _ in result.keras_top)
    scores = [score for _, _, score in result.keras_top]
    assert scores == sorted(scores, reverse=True)


def test_different_models_are_found_different():
    result = run_both(torch_two_branches(), read_target(keras_two_branches(keras())))

    assert result.equal is False
    assert result.relative_diff > 1e-2


def test_both_models_see_the_whole_picture_rescaled():
    module, model = twins()
    picture, _ = load_picture(None, (16, 16))

    output = torch_output(module, read_target(model), rescale_mode=(10, 5))

    expected = ((picture - 10) / 5)[None]
    import torch

    with torch.no_grad():
        np.testing.assert_array_equal(
            output,
            module(torch.from_numpy(expected.transpose(0, 3, 1, 2).copy())).numpy())


def test_open_input_size_comes_from_input_shape():
    module, model = twins(size=None)
    target = read_target(model)

    assert run_both(module, target, input_shape=(20, 28, 3)).inputs[0].endswith("28 x 20")
    assert run_both(module, target).inputs[0].endswith("224 x 224")


def test_callers_picture_is_used():
    module, model = twins()
    black = np.zeros((8, 8, 3), "uint8")

    result = run_both(module, read_target(model), image=black, rescale_mode="raw")

    assert result.equal is True
    import torch

    with torch.no_grad():
        np.testing.assert_allclose(
            torch_output(module, read_target(model), image=black, rescale_mode="raw"),
            module(torch.zeros(1, 3, 16, 16)).numpy(), rtol=1e-5)


def test_softmax_at_the_end_of_one_model_is_made_up_for_and_told():
    module, model = twins(activation="softmax")

    result = run_both(module, read_target(model))

    assert result.equal is True
    assert result.relative_diff < 1e-5
    assert result.notes == ((
        "the Keras model ends in a softmax and the torch model does not: softmax was applied to "
        "torch's output to compare"),)


def test_softmax_at_the_end_of_the_torch_model_is_made_up_for_too():
    module, model = twins()

    result = run_both(nn().Sequential(module, nn().Softmax(-1)), read_target(model))

    assert result.equal is True
    assert "the torch model ends in a softmax" in result.notes[0]


def test_channels_first_model_gets_the_picture_channels_first():
    if keras().backend.backend() == "tensorflow":
        pytest.skip("TensorFlow cannot convolve channels first on a CPU")
    module, model = twins(data_format="channels_first")

    result = run_both(module, read_target(model))

    assert result.equal is True
    assert result.inputs[0].endswith("16 x 16")


def test_own_preprocessing_and_own_names_of_the_model_are_the_default():
    module, model = twins(classes=10)
    model.preprocess_input = Remembering(lambda batch: batch / 255 - 0.5)
    model.rescale_mode = "halves"
    model.decode_predictions = lambda output, top: [[("id", f"name{rank}", 0.0)
                                                     for rank in range(top)]]

    result = run_both(module, read_target(model))

    assert model.preprocess_input.given.shape == (1, 16, 16, 3)
    assert model.preprocess_input.given.max() > 1
    assert result.rescale_mode == "the Keras model's own preprocess_input, 'halves'"
    assert [name for _, name, _ in result.keras_top
           ] == ["name0", "name1", "name2", "name3", "name4"]
    assert result.equal is True


def test_own_rescale_mode_alone_is_followed_and_the_callers_wins():
    module, model = twins()
    model.rescale_mode = "tf"

    own = run_both(module, read_target(model))
    given = run_both(module, read_target(model), rescale_mode="raw01")

    assert own.rescale_mode == "the Keras model's own 'tf'"
    assert given.rescale_mode == "'raw01'"
    assert not np.allclose(torch_output(module, read_target(model)),
                           torch_output(module, read_target(model), rescale_mode="raw01"))


def test_failing_decode_predictions_of_the_model_is_told_and_replaced():
    module, model = twins()

    def no_network(output, top):
        raise OSError("no network")

    model.decode_predictions = no_network

    result = run_both(module, read_target(model))

    assert all(name for _, name, _ in result.keras_top)
    assert "decode_predictions failed (OSError: no network)" in result.notes[0]


def test_common_decoder_of_keras_is_not_asked_since_it_would_download():
    module, model = twins()
    model.decode_predictions = keras().applications.imagenet_utils.decode_predictions

    result = run_both(module, read_target(model))

    assert all(name for _, name, _ in result.keras_top)
    assert result.notes == ()


def test_training_flags_and_random_generators_are_put_back():
    import torch

    module, model = twins()
    module = nn().Sequential(module, nn().Dropout(0.5))
    module.train()
    module[0].eval()
    module[0][3].train()
    flags = [submodule.training for submodule in module.modules()]
    torch.manual_seed(1), np.random.seed(2), random.seed(3)
    states = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()

    result = run_both(module, read_target(model))

    assert result.equal is True, "dropout must be off"
    assert [submodule.training for submodule in module.modules()] == flags
    assert len(set(flags)) == 2
    assert torch.equal(torch.get_rng_state(), states[0])
    assert np.array_equal(np.random.get_state()[1], states[1])
    assert random.getstate() == states[2]


def test_neither_model_is_changed_by_running_it():
    module, model = torch_two_branches().train(), keras_two_branches(keras())
    before = [value.clone() for value in module.state_dict().values()], model.get_weights()

    run_both(module, read_target(model))

    assert all((a == b).all() for a, b in zip(module.state_dict().values(), before[0], strict=True))
    assert all((a == b).all() for a, b in zip(model.get_weights(), before[1], strict=True))


def test_failing_torch_model_is_named_and_its_flags_are_put_back():
    class Failing(nn().Module):
        def forward(self, x):
            raise KeyError("no such branch")

    module = Failing().train()

    with pytest.raises(
            PredictionError,
            match=r"the torch model failed on the bundled cat .*KeyError: 'no such branch'"):
        run_both(module, read_target(twins()[1]))

    assert module.training


def test_failing_keras_model_is_named_with_the_cause():
    module, model = twins()

    with pytest.raises(PredictionError,
                       match="the Keras model failed on sample given by the caller") as caught:
        run_both(module, read_target(model), sample=(np.zeros(
            (1, 3, 8, 8), "float32"), np.zeros((1, 4), "float32")))

    assert caught.value.__cause__ is not None
    assert "sample=(torch inputs, Keras inputs)" in str(caught.value)


def test_checkpoint_without_a_module_shows_the_keras_model_alone():
    _, model = twins()

    result = run_both(None, read_target(model))

    assert result.verdict == "undecided"
    assert (len(result.torch_top), len(result.keras_top)) == (0, 5)
    assert result.reason == (
        "there is no torch module to run, only its weights: the Keras model ran alone")


def test_model_of_token_ids_runs_on_random_ids_that_its_table_holds():
    layers = keras().layers
    inputs = layers.Input((7,), dtype="int32")
    model = keras().Model(inputs, layers.Embedding(11, 4)(inputs))
    module = nn().Embedding(11, 4)
    model.set_weights([module.weight.detach().numpy()])

    result = run_both(module, read_target(model), image=np.zeros((4, 4, 3), "uint8"))

    assert result.equal is True
    assert result.inputs[0].startswith("random data: ")
    assert result.inputs[0].endswith("(1, 7)")
    assert result.keras_top == ()
    assert result.notes == ("the image was not used: the model does not take one picture",)


def test_gray_pictures_and_sequences_run_on_random_data_in_the_layout_of_either_side():
    layers = keras().layers
    gray_inputs, sequence_inputs = layers.Input((12, 12, 1)), layers.Input((None, 5))
    gray = keras().Model(gray_inputs, layers.Conv2D(4, 3)(gray_inputs))
    sequence = keras().Model(sequence_inputs, layers.Conv1D(4, 3)(sequence_inputs))
    gray_module, sequence_module = nn().Conv2d(1, 4, 3), nn().Conv1d(5, 4, 3)
    for model, module in ((gray, gray_module), (sequence, sequence_module)):
        kernel = np.moveaxis(module.weight.detach().numpy(), (0, 1), (-1, -2))
        model.set_weights([kernel, module.bias.detach().numpy()])

        assert run_both(module, read_target(model)).equal is True


def test_features_last_sequences_keep_their_layout():
    layers = keras().layers
    inputs = layers.Input((9, 5))
    model = keras().Model(inputs, layers.Dense(3)(inputs))
    module = nn().Linear(5, 3)
    model.set_weights([module.weight.detach().numpy().T, module.bias.detach().numpy()])

    assert run_both(module, read_target(model)).equal is True


def test_picture_model_runs_on_random_data_when_asked():
    module, model = twins()

    result = run_both(module, read_target(model), picture=False)

    assert result.equal is True
    assert result.inputs[0].startswith("random data: ")
    assert result.rescale_mode == ""


def test_several_inputs_are_matched_by_name():
    class Difference(nn().Module):
        def __init__(self):
            super().__init__()
            self.scale = nn().Linear(3, 3)

        def forward(self, minus, plus):
            return self.scale(plus) - minus

    layers = keras().layers
    plus, minus = layers.Input((3,), name="plus"), layers.Input((3,), name="minus")
    model = keras().Model([plus, minus], layers.Subtract()([layers.Dense(3)(plus), minus]))
    module = Difference()
    model.set_weights([module.scale.weight.detach().numpy().T, module.scale.bias.detach().numpy()])

    assert run_both(module, read_target(model)).equal is True


def test_several_inputs_without_common_names_go_in_the_order_of_the_keras_model():
    layers = keras().layers
    plus, minus = layers.Input((3,), name="a"), layers.Input((3,), name="b")
    model = keras().Model([plus, minus], layers.Subtract()([layers.Dense(3)(plus), minus]))

    class Difference(nn().Module):
        def __init__(self):
            super().__init__()
            self.scale = nn().Linear(3, 3)

        def forward(self, x, y):
            return self.scale(x) - y

    module = Difference()
    model.set_weights([module.scale.weight.detach().numpy().T, module.scale.bias.detach().numpy()])

    result = run_both(module, read_target(model))

    assert result.equal is True
    assert result.notes == (
        "the torch module was given the inputs in the Keras model's order: a, b",)


def test_inputs_of_a_dict_are_not_guessed_by_order():
    layers = keras().layers
    inputs = {"token_ids": layers.Input((4,), dtype="int32"), "padding_mask": layers.Input((4,))}
    embedded = layers.Embedding(9, 2)(inputs["token_ids"])
    kept = layers.Multiply()([embedded, layers.Reshape((4, 1))(inputs["padding_mask"])])
    model = keras().Model(inputs, kept)

    class Masked(nn().Module):
        def __init__(self):
            super().__init__()
            self.table = nn().Embedding(9, 2)

        def forward(self, token_ids, padding_mask):
            return self.table(token_ids) * padding_mask[..., None]

    class OtherNames(Masked):
        def forward(self, input_ids, attention_mask):
            return super().forward(input_ids, attention_mask)

    module = Masked()
    model.set_weights([module.table.weight.detach().numpy()])

    assert run_both(module, read_target(model)).equal is True
    with pytest.raises(AlignmentError) as caught:
        run_both(OtherNames(), read_target(model))
    assert str(caught.value) == (
        "the models cannot be run: the Keras model takes 2 inputs (padding_mask, token_ids), "
        "the torch module inputs of other names; give sample=(torch inputs, Keras inputs)")


def test_model_of_whole_pixels_is_not_guessed_at():
    layers = keras().layers
    inputs = layers.Input((8, 8, 3), dtype="uint8")
    model = keras().Model(inputs, layers.Conv2D(2, 3)(layers.Rescaling(1 / 255)(inputs)))

    with pytest.raises(AlignmentError, match="cannot be run: the Keras model takes pixels of type "
                       "uint8"):
        run_both(nn().Conv2d(3, 2, 3), read_target(model))


def test_inputs_that_cannot_be_matched_are_refused_with_a_reason():
    layers = keras().layers
    one, two = layers.Input((3,), name="one"), layers.Input((3,), name="two")
    model = keras().Model([one, two], layers.Dense(3)(layers.Add()([one, two])))

    with pytest.raises(AlignmentError,
                       match=r"the Keras model takes 2 inputs \(one, two\)") as caught:
        run_both(nn().Linear(3, 3), read_target(model))
    assert "sample=(torch inputs, Keras inputs)" in str(caught.value)


def test_sample_of_the_caller_overrules_everything():
    module, model = twins()
    target = read_target(model)
    picture = np.random.default_rng(0).normal(size=(2, 16, 16, 3)).astype("float32")

    one = run_both(module, target, sample=picture)
    two = run_both(module, target, sample=(picture.transpose(0, 3, 1, 2), picture))

    assert one.equal is two.equal is True
    assert one.outputs[0].torch_shape == (2, 1000)
    assert one.inputs[0] == "sample given by the caller"


def test_sample_in_another_form_is_refused():
    module, model = twins()

    with pytest.raises(ValueError, match=r"\(torch inputs, Keras inputs\), got 3 entries"):
        run_both(module, read_target(model), sample=(1, 2, 3))
    with pytest.raises(ValueError, match="must be a tuple of two"):
        run_both(module, read_target(model), sample=[1, 2])


def test_half_precision_module_is_compared_within_the_rounding_of_its_type():
    import torch

    module, model = twins()
    target = read_target(model)

    # The weights were rounded, and the Keras model holds them as they were.
    rounded = run_both(module.to(torch.bfloat16), target)
    assert rounded.equal is True
    assert 1e-4 < rounded.relative_diff < rounded.rounding == pytest.approx(3 * rounded.noise)
    assert "the torch model, in bfloat16, was run in float32 to compare" in rounded.notes

    # The very same values differ by the rounding of float32 alone.
    with torch.no_grad():
        model.set_weights([
            module[0].weight.float().numpy().transpose(2, 3, 1, 0), module[0].bias.float().numpy(),
            module[3].weight.float().numpy().T, module[3].bias.float().numpy()
        ])
    same = run_both(module, target)
    assert same.relative_diff < 1e-6
    assert not same.unexplained


def test_half_precision_on_the_keras_side_is_measured_by_torch_in_that_type():
    module, _ = twins()
    policy = keras().config.dtype_policy()
    keras().config.set_dtype_policy("mixed_bfloat16")
    try:
        _, model = twins()
    finally:
        keras().config.set_dtype_policy(policy)

    result = run_both(module, read_target(model))

    assert result.equal is True
    assert 1e-5 < result.relative_diff < result.rounding
    assert result.noise > 1e-4
    assert result.rounding_from.startswith("bfloat16, 2 layers")


def test_module_that_runs_in_its_own_half_type_only_is_compared_in_it():
    import torch

    module, model = twins()

    class Strict(nn().Module):
        def __init__(self):
            super().__init__()
            self.inner = module

        def forward(self, x):
            assert x.dtype == torch.bfloat16
            return self.inner(x)

    result = run_both(Strict().to(torch.bfloat16), read_target(model))

    assert result.equal is True
    assert result.noise is None
    assert not any("run in float32" in note for note in result.notes)


def test_unknown_rescale_mode_is_an_error_of_the_call():
    module, model = twins()

    with pytest.raises(ValueError, match="unknown rescale_mode"):
        run_both(module, read_target(model), rescale_mode="caffe2")


def test_failing_rescale_function_is_told_apart_from_the_models():
    module, model = twins()

    with pytest.raises(PredictionError,
                       match=r"rescaling the picture by function .* failed: ZeroDivisionError"):
        run_both(module, read_target(model), rescale_mode=lambda x: 1 / 0)


def test_subclassed_model_runs_from_the_shape_it_was_built_for():
    class Plain(keras().Model):
        def __init__(self):
            super().__init__()
            self.dense = keras().layers.Dense(4)

        def call(self, x):
            return self.dense(x)

    model = Plain()
    model(np.zeros((2, 3), "float32"))
    module = nn().Linear(3, 4)
    model.set_weights([module.weight.detach().numpy().T, module.bias.detach().numpy()])

    assert run_both(module, read_target(model)).equal is True


def test_a_softmax_that_hides_the_logits_proves_nothing():
    import keras
    import torch

    import keras_torch_convert as ktc

    # Logits of 1e-12 move from input to input, and their softmax is the same number everywhere.
    module = torch.nn.Linear(4, 10)
    with torch.no_grad():
        module.weight.mul_(1e-12)
        module.bias.zero_()
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(10, "softmax")])
    model.layers[0].kernel.assign(model.layers[0].kernel * 0)

    assert ktc.verify(module, model).verdict == "undecided"
    with torch.no_grad():
        module.weight.mul_(1e12)
    assert ktc.verify(module, model).verdict == "different"
