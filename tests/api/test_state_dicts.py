"""A Keras model into a torch module or a new state dict: the same checks, all or nothing, equal
outputs.
"""

import numpy as np
import pytest

import keras_torch_convert as ktc
from keras_torch_convert.errors import SaveError, TransferError
from keras_torch_convert.plan.plan import Plan
from tests.helpers.small_models import randomized


def torch_model(classes=5):
    import torch

    class Model(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = torch.nn.Conv2d(3, 4, 3)
            self.bn = torch.nn.BatchNorm2d(4)
            self.head = torch.nn.Linear(4, classes)

        def forward(self, x):
            return self.head(torch.relu(self.bn(self.conv(x))).mean((2, 3)))

    return randomized(Model())


def keras_model(seed=5):
    import keras

    inputs = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(4, 3, name="conv")(inputs)
    x = keras.layers.ReLU()(keras.layers.BatchNormalization(epsilon=1e-5, name="bn")(x))
    model = keras.Model(
        inputs,
        keras.layers.Dense(5, name="head")(keras.layers.GlobalAveragePooling2D()(x)))
    generator = np.random.default_rng(seed)
    model.set_weights([
        generator.uniform(0.2, 1.2, weight.shape).astype("float32")
        for weight in model.get_weights()
    ])
    return model


MAPPING = {"conv": "conv", "bn": "bn", "head": "head"}


def bits(module):
    return {name: tensor.numpy().tobytes() for name, tensor in module.state_dict().items()}


def test_layers_are_paired_by_order_when_no_plan_is_given():
    model, module = keras_model(), torch_model()
    before = module.bn.num_batches_tracked.item()

    report = ktc.convert(model, module, direction="to_torch")

    assert report.relative_diff < 1e-5
    assert report.complete
    assert module.bn.num_batches_tracked.item() == before
    statuses = {entry.name: entry.status for entry in report.ledger}
    assert statuses["conv/kernel"] == "used"
    assert statuses["conv.weight"] == "set"
    assert statuses["bn.num_batches_tracked"] == "kept"


def test_there_and_back_again_changes_no_bit():
    model, module = keras_model(), torch_model()
    before = [weight.tobytes() for weight in model.get_weights()]
    ktc.convert(model, module, direction="to_torch", verify=False)
    model.set_weights([np.zeros_like(weight) for weight in model.get_weights()])

    ktc.convert(module, model, verify=False)

    assert [weight.tobytes() for weight in model.get_weights()] == before


def test_a_plan_of_either_direction_serves():
    model = keras_model()
    plan = ktc.align(torch_model(), model, mapping=MAPPING)
    modules = torch_model(), torch_model()

    for module, given in zip(modules, (plan, plan.invert()), strict=True):
        assert ktc.convert(model, module, plan=given).relative_diff < 1e-5

    assert bits(modules[0]) == bits(modules[1])


def test_a_new_state_dict_needs_no_module():
    import torch

    model = keras_model()
    plan = ktc.align(dict(torch_model().state_dict()), model, mapping=MAPPING)

    state = ktc.to_state_dict(model, plan)

    assert all(isinstance(tensor, torch.Tensor) for tensor in state.values())
    np.testing.assert_array_equal(state["conv.weight"].numpy(),
                                  model.get_layer("conv").kernel.numpy().transpose(3, 2, 0, 1))
    module = torch_model()
    module.load_state_dict(state)
    assert {name: one for name, one in bits(module).items() if name in state
           } == {name: one.numpy().tobytes() for name, one in state.items()}


def test_nothing_is_changed_when_the_models_do_not_fit():
    model, module = keras_model(), torch_model(classes=7)
    before = bits(module)

    with pytest.raises(TransferError):
        ktc.convert(model, module, direction="to_torch")

    assert bits(module) == before


def test_what_was_written_is_put_back_when_writing_breaks_off(monkeypatch):
    from keras_torch_convert.keras_io import model_writer as into_model

    model, module = keras_model(), torch_model()
    before = bits(module)
    fill, written = into_model.ModelWriter.fill, []

    def break_off(writer, variable, values):
        def half(into):
            values(into)
            raise KeyboardInterrupt

        written.append(variable.key)
        fill(writer, variable, half if len(written) == 5 else values)

    monkeypatch.setattr(into_model.ModelWriter, "fill", break_off)
    with pytest.raises(KeyboardInterrupt):
        ktc.convert(model, module, direction="to_torch")

    assert len(written) == 5
    assert bits(module) == before


def test_parameters_stay_the_same_objects_with_their_gradients_on():
    model, module = keras_model(), torch_model()
    parameters = list(module.parameters())

    ktc.convert(model, module, direction="to_torch")

    assert all(
        first is second for first, second in zip(parameters, module.parameters(), strict=True))
    assert all(parameter.requires_grad for parameter in parameters)


def test_keras_variables_that_no_tensor_takes_are_left_over():
    model, module = keras_model(), torch_model()
    plan = ktc.align(torch_model(), model, mapping=MAPPING).invert()
    without = Plan(tuple(one for one in plan.assignments if one.key != "head.bias"), plan.dropped,
                   plan.kept, targets=plan.targets, sources=plan.sources, reversed=True)

    with pytest.raises(TransferError) as caught:
        ktc.convert(model, module, plan=without)

    assert "Keras variable 'head/bias' (5,) is left over" in caught.value.problems[0]
    assert "torch tensor 'head.bias' (5,) gets no values" in caught.value.problems[1]


def test_a_file_cannot_be_saved_of_a_torch_module(tmp_path):
    with pytest.raises(SaveError, match=r"torch\.save"):
        ktc.convert(keras_model(), torch_model(), direction="to_torch", save=tmp_path / "model.h5")


def test_the_report_names_what_comes_back_as_an_equal_function_only():
    model, module = keras_model(), torch_model()
    plan = ktc.align(torch_model(), model, mapping=MAPPING).invert()
    half = module.half()

    report = ktc.convert(model, half, plan=plan, verify=False)

    assert any("float32 to float16" in warning for warning in report.warnings)
    assert half.conv.weight.dtype.itemsize == 2


@pytest.mark.parametrize("swapped", [False, True])
def test_swapped_models_are_refused_and_keep_their_weights(swapped):
    model, module = keras_model(), torch_model()
    before = bits(module), [weight.tobytes() for weight in model.get_weights()]

    models, direction = ((model, module), "to_keras") if swapped else ((module, model), "to_torch")
    with pytest.raises(TransferError, match=r'direction="to_torch"'):
        ktc.convert(*models, direction=direction)

    assert (bits(module), [weight.tobytes() for weight in model.get_weights()]) == before
    with pytest.raises(ValueError, match="direction must be"):
        ktc.convert(module, model, direction="to torch")
