"""Layers that running cannot tell apart share the candidates by their names, all at once."""

import itertools

import keras
import numpy as np
import pytest
import torch
from torch import nn

import keras_torch_convert as ktc
from tests.helpers.small_models import randomized

PAIRS = [{"head": "head", "distill_head": "head_dist"},
         {"cls": "classifier", "cls_aux": "aux_classifier",
          "cls_aux_2": "aux_classifier_2"}, {"mean": "fc_mean", "std": "fc_log_var_std"},]


def torch_heads(names, average):
    class Heads(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = nn.Linear(6, 8)
            for name in names:
                self.add_module(name, nn.Linear(8, 5))

        def forward(self, x):
            x = torch.tanh(self.body(x))
            outputs = [getattr(self, name)(x) for name in names]
            return sum(outputs) / len(outputs) if average else outputs

    return randomized(Heads())


class KerasHeads(keras.Model):
    """The heads in the order of their names, called in another order."""
    def __init__(self, names, order, average):
        super().__init__()
        self.body = keras.layers.Dense(8, "tanh", name="body")
        self.heads = {name: keras.layers.Dense(5, name=name) for name in names}
        self.order, self.average = order, average

    def call(self, x):
        x, names = self.body(x), list(self.heads)
        made = {names[position]: self.heads[names[position]](x) for position in self.order}
        outputs = [made[name] for name in names]
        return sum(outputs) / len(outputs) if self.average else outputs


@pytest.mark.parametrize("average", [False, True])
@pytest.mark.parametrize(
    ("pairs", "order"),
    [(pairs, order) for pairs in PAIRS for order in itertools.permutations(range(len(pairs)))])
def test_each_head_takes_its_own(pairs, order, average):
    module = torch_heads(list(pairs.values()), average)
    model = KerasHeads(list(pairs), order, average)
    x = np.random.default_rng(0).normal(size=(3, 6)).astype("float32")
    model(x)

    report = ktc.convert(module, model, sample=(x, x))

    assert report.equal
    for name, theirs in pairs.items():
        kernel = keras.ops.convert_to_numpy(model.heads[name].kernel)
        np.testing.assert_array_equal(kernel, getattr(module, theirs).weight.detach().numpy().T)


def test_outputs_in_torchs_order_decide_where_names_say_nothing():
    module = torch_heads(["one", "two", "three"], False)
    inputs = keras.Input((6,))
    body = keras.layers.Dense(8, "tanh")(inputs)
    made = [keras.layers.Dense(5)(body) for _ in range(3)]
    model = keras.Model(inputs, [made[2], made[0], made[1]])

    report = ktc.convert(module, model)

    assert report.equal
