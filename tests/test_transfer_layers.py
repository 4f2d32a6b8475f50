"""Every kind of layer: a torch layer and its Keras twin give the same outputs once the weights have travelled."""

import pytest
from fresh_process import answer_of
from layer_cases import CASES, keras_model, randomised_layer, relative_difference
from transfer_helpers import transferred

EQUAL = 1e-5


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_outputs_are_equal_on_keras_3(case):
    import keras

    if case.name == "conv2d channels first" and keras.backend.backend() == "tensorflow":
        pytest.skip("TensorFlow has no channels_first convolution on the CPU")
    module = randomised_layer(case)

    model = transferred(module, keras_model(keras, case), case.torch_names)

    assert relative_difference(module, model, case) < EQUAL


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_outputs_differ_before_the_transfer(case):
    import keras

    assert relative_difference(randomised_layer(case), keras_model(keras, case), case) > 1e-2


@pytest.fixture(scope="module")
def keras2_differences():
    return answer_of("layer_cases.py", "tf_keras")


@pytest.mark.keras2
@pytest.mark.parametrize("case", [case for case in CASES if not case.keras3_only], ids=lambda case: case.name)
def test_outputs_are_equal_on_keras_2(case, keras2_differences):
    assert keras2_differences[case.name] < EQUAL
