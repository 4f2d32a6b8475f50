"""Why a torch layer and a Keras layer do not fit: the reason that a person would give."""

import numpy as np
import pytest

from keras_torch_convert.errors import PairError
from keras_torch_convert.rules import assign_layer
from tests.helpers.transfer import layer, source_of, stack_of, tensor

NORM = {"weight": (8,), "bias": (8,)}
TORCH = {
    "conv": {"weight": (8, 3, 3, 3)},
    "conv with bias": {"weight": (8, 3, 3, 3), "bias": (8,)},
    "depthwise": {"weight": (8, 1, 3, 3)},
    "linear": {"weight": (5, 8), "bias": (5,)},
    "wide linear": {"weight": (7, 8), "bias": (7,)},
    "batch norm": {**NORM, "running_mean": (8,), "running_var": (8,)},
    "norm": NORM,
    "table": {"weight": (8, 5)},
    "slopes": {"weight": (8,)},
    "lstm": {"weight_ih_l0": (20, 8), "weight_hh_l0": (20, 5), "bias_ih_l0": (20,),
             "bias_hh_l0": (20,)},
}  # yapf: disable
STATISTICS = {"moving_mean": (8,), "moving_variance": (8,)}
KERAS = {
    "Conv2D": {"kernel": (3, 3, 3, 8)},
    "Conv2D with bias": {"kernel": (3, 3, 3, 8), "bias": (8,)},
    "DepthwiseConv2D": {"kernel": (3, 3, 8, 1)},
    "Dense": {"kernel": (8, 5), "bias": (5,)},
    "BatchNormalization": {"gamma": (8,), "beta": (8,), **STATISTICS},
    "BatchNormalization without gamma": {"beta": (8,), **STATISTICS},
    "LayerNormalization": {"gamma": (8,), "beta": (8,)},
    "Embedding": {"embeddings": (8, 5)},
    "PReLU": {"alpha": (1, 1, 8)},
    "LSTMCell": {"kernel": (8, 20), "recurrent_kernel": (5, 20), "bias": (20,)},
    "SeparableConv2D": {"depthwise_kernel": (3, 3, 3, 1), "pointwise_kernel": (1, 1, 3, 8),
                        "bias": (8,)},
}  # yapf: disable


# Class, then number of arrays, then shapes, then settings: the first rule that fails is the reason.
@pytest.mark.parametrize(("torch_kind", "keras_kind", "reason"), [
    ("conv", "BatchNormalization", "1 tensor for 4 variables"),
    ("conv with bias", "BatchNormalization", "2 tensors for 4 variables"),
    ("depthwise", "BatchNormalization", "1 tensor for 4 variables"),
    ("linear", "BatchNormalization", "2 tensors for 4 variables"),
    ("linear", "BatchNormalization without gamma", "2 tensors for 3 variables"),
    ("table", "BatchNormalization", "1 tensor for 4 variables"),
    ("lstm", "BatchNormalization without gamma", "4 tensors for 3 variables"),
    ("conv", "LayerNormalization", "1 tensor for 2 variables"),
    ("table", "LayerNormalization", "1 tensor for 2 variables"),
    ("lstm", "LayerNormalization", "4 tensors for 2 variables"),
    ("conv with bias", "PReLU", "2 tensors for 1 variable"),
    ("batch norm", "Conv2D", "4 tensors for 1 variable"),
    ("batch norm", "Dense", "4 tensors for 2 variables"),
    ("batch norm", "Embedding", "4 tensors for 1 variable"),
    ("batch norm", "LSTMCell", "4 tensors for 3 variables"),
    ("norm", "Conv2D", "2 tensors for 1 variable"),
    ("norm", "SeparableConv2D", "2 tensors for 3 variables"),
    ("slopes", "Dense", "1 tensor for 2 variables"),
    ("slopes", "LSTMCell", "1 tensor for 3 variables"),
    ("conv", "Conv2D with bias", "1 tensor for 2 variables"),
    ("conv with bias", "Conv2D", "2 tensors for 1 variable"),
    ("linear", "Embedding", "2 tensors for 1 variable"),
    ("conv with bias", "LSTMCell", "expected weight_ih and weight_hh (and bias_ih, bias_hh), got"),
    ("conv", "DepthwiseConv2D", "needs a torch tensor of shape (8, 1, 3, 3), got 'weight' of"),
    ("depthwise", "Conv2D", "needs a torch tensor of shape (8, 3, 3, 3), got 'weight' of shape"),
    ("linear", "Conv2D with bias", "needs a torch tensor of shape (8, 3, 3, 3), got 'weight' of"),
    ("wide linear", "Dense", "needs a torch tensor of shape (5, 8), got 'weight' of shape (7, 8)"),
    ("norm", "Dense", "needs a torch tensor of shape (5, 8), got 'weight' of shape (8,)"),
    ("conv with bias", "LayerNormalization", "gamma needs a torch tensor of shape (8,)"),
    ("conv", "PReLU", "216 slopes for an alpha of shape (1, 1, 8)"),
    ("norm", "BatchNormalization", "keeps no running statistics"),
    ("batch norm", "LayerNormalization", "normalizes by running statistics in evaluation"),
])  # yapf: disable
def test_the_reason_is_that_of_the_most_basic_rule_that_fails(torch_kind: str, keras_kind: str,
                                                              reason: str) -> None:
    tensors = [tensor(name, np.zeros(shape)) for name, shape in TORCH[torch_kind].items()]
    keras_layer = layer("keras", [keras_kind.partition(" ")[0], "Layer"], KERAS[keras_kind])

    with pytest.raises(PairError) as caught:
        assign_layer(stack_of(source_of(tensors)), keras_layer)

    assert reason in caught.value.problem
