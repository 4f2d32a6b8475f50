"""Batch norms that only one side has: folded on the other, and what to do about it."""

import os

os.environ.setdefault("KERAS_BACKEND", "torch")

import keras
import numpy as np
import pytest
import torch
from torch import nn

import keras_torch_convert as ktc
from keras_torch_convert.errors import AlignmentError, TransferError
from tests.helpers.small_models import randomized

L = keras.layers
CHANNELS = (8, 6)


def torch_net(has_norms):
    layers, before = [], 3
    for channels in CHANNELS:
        layers.append(nn.Conv2d(before, channels, 3, bias=not has_norms))
        layers += [nn.BatchNorm2d(channels)] if has_norms else []
        layers.append(nn.ReLU())
        before = channels
    return randomized(nn.Sequential(*layers))


def keras_net(has_norms):
    inputs = x = keras.Input((12, 12, 3))
    for number, channels in enumerate(CHANNELS):
        x = L.Conv2D(channels, 3, use_bias=not has_norms, name=f"conv{number}")(x)
        x = L.BatchNormalization(epsilon=1e-5, name=f"norm{number}")(x) if has_norms else x
        x = L.ReLU()(x)
    return keras.Model(inputs, x)


def test_biases_of_torch_go_into_norms_of_keras():
    report = ktc.convert(torch_net(False), keras_net(True))

    assert report.equal
    assert set(report.match_status.values()) == {"proven"}


def test_norms_of_torch_are_named_and_the_advice_works(tmp_path):
    module, model = torch_net(True), keras_net(False)
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}

    with pytest.raises(AlignmentError, match="the Keras model has no batch norms") as caught:
        ktc.convert(module, model)
    assert "fold 1, 4 as well with fold_norms=True" in str(caught.value)

    report = ktc.convert(module, model, fold_norms=True, save=tmp_path / "folded.h5")

    assert report.equal
    assert set(report.match_status.values()) == {"proven"}
    skipped = {one.name for one in report.ledger if one.status not in ("used", "set")}
    assert skipped == {"1.num_batches_tracked", "4.num_batches_tracked"}
    assert all(torch.equal(module.state_dict()[name], one) for name, one in before.items())
    x = torch.randn(2, 3, 12, 12)
    found = keras.ops.convert_to_numpy(model(x.permute(0, 2, 3, 1).numpy()))
    np.testing.assert_allclose(found.transpose(0, 3, 1, 2), module(x).detach().numpy(), atol=1e-5)


def test_the_plan_folds_the_next_checkpoint_without_its_module(tmp_path):
    template = tmp_path / "template.h5"
    report = ktc.convert(torch_net(True), keras_net(False), fold_norms=True, save=template)
    report.plan.save(tmp_path / "plan.json")
    other, model = randomized(torch_net(True), seed=7), keras_net(False)

    torch.save(other.state_dict(), tmp_path / "next.pth")
    ktc.apply(ktc.Plan.load(tmp_path / "plan.json"), tmp_path / "next.pth", tmp_path / "next.h5")
    model.load_weights(tmp_path / "next.h5")

    assert ktc.verify(other, model).equal


@pytest.mark.parametrize("kind", ["dense", "transposed", "grouped", "activation", "no gain"])
def test_norms_behind_other_layers_fold_too(kind):
    class NormAndRelu(nn.BatchNorm2d):
        def forward(self, x):
            return torch.relu(super().forward(x))

    inputs = keras.Input((5,) if kind == "dense" else (6, 6, 4))
    layer, keras_layer = {
        "dense": (nn.Linear(5, 8), L.Dense(8)),
        "transposed": (nn.ConvTranspose2d(4, 8, 2, 2, bias=False), L.Conv2DTranspose(8, 2, 2)),
        "grouped": (nn.Conv2d(4, 8, 3, groups=2), L.Conv2D(8, 3, groups=2)), "activation":
            (nn.Conv2d(4, 8, 3), L.Conv2D(8, 3, activation="relu")), "no gain": (nn.Conv2d(4, 8, 3),
                                                                                 L.Conv2D(8, 3))
    }[kind]
    norm = {"dense": nn.BatchNorm1d,
            "activation": NormAndRelu}.get(kind, nn.BatchNorm2d)(8, affine=kind != "no gain")
    module = randomized(nn.Sequential(layer, norm))

    assert ktc.convert(module, keras.Model(inputs, keras_layer(inputs)), fold_norms=True).equal


def test_a_norm_behind_an_output_that_is_used_elsewhere_is_refused():
    class Shared(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.norm = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)

        def forward(self, x):
            x = self.conv(x)
            return self.norm(x) + x

    inputs = keras.Input((6, 6, 3))
    model = keras.Model(inputs, L.Conv2D(3, 1)(inputs))
    before = model.get_weights()

    with pytest.raises(AlignmentError, match=r"folding changes the outputs.*norm"):
        ktc.convert(randomized(Shared()), model, fold_norms=True)
    with pytest.raises(AlignmentError, match="no batch norm directly behind"):
        ktc.convert(nn.Conv2d(3, 3, 1), model, fold_norms=True)

    assert all(map(np.array_equal, model.get_weights(), before))


def test_what_a_module_caches_is_not_carried_to_other_weights():
    class Caching(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.norm = nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)
            self.head = nn.Conv2d(4, 4, 1)
            self.cache = {}

        def forward(self, x):
            if "matrix" not in self.cache:
                self.cache["matrix"] = self.head.weight * 2
            x = self.norm(self.conv(x))
            return nn.functional.conv2d(x, self.cache["matrix"] / 2, self.head.bias)

    module = randomized(Caching())
    inputs = keras.Input((6, 6, 3))
    model = keras.Model(inputs, L.Conv2D(4, 1, name="head")(L.Conv2D(4, 1)(inputs)))

    assert ktc.convert(module, model, fold_norms=True).equal
    assert module.cache == {}


def test_folding_needs_a_module_and_no_plan():
    module, model = torch_net(True), keras_net(False)
    report = ktc.convert(module, model, fold_norms=True)

    with pytest.raises(TransferError, match="folds by itself"):
        ktc.convert(module, model, plan=report.plan, fold_norms=True)
    with pytest.raises(TransferError, match="module="):
        ktc.convert(module.state_dict(), model, fold_norms=True)
    with pytest.raises(ValueError, match="running a torch module"):
        ktc.align(module.state_dict(), model, fold_norms=True)

    assert ktc.convert(module.state_dict(), keras_net(False), plan=report.plan).ok
