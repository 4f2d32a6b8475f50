"""Batch norms that only one side has: folded on the other, and what to do about it."""

import os

os.environ.setdefault("KERAS_BACKEND", "torch")

import keras
import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

import keras_torch_convert as ktc
from keras_torch_convert.errors import AlignmentError
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


def test_norms_of_torch_are_named_and_the_advice_works():
    module, model = torch_net(True), keras_net(False)

    with pytest.raises(AlignmentError, match="the Keras model has no batch norms") as caught:
        ktc.convert(module, model)
    assert "fuse_conv_bn_eval" in str(caught.value)
    assert "1, 4" in str(caught.value)

    for number in (0, 3):
        module[number] = fuse_conv_bn_eval(module[number], module[number + 1])
        module[number + 1] = nn.Identity()
    report = ktc.convert(module, model)

    assert report.equal
    x = torch.randn(2, 3, 12, 12)
    found = keras.ops.convert_to_numpy(model(x.permute(0, 2, 3, 1).numpy()))
    np.testing.assert_allclose(found.transpose(0, 3, 1, 2), module(x).detach().numpy(), atol=1e-5)
