"""What `verify` costs beside the passes that it makes anyway: `python -m benchmarks.bench_verify
[--rounds 5] [--side 224]`.

A ResNet-50 and its Keras twin (on the backend that KERAS_BACKEND names). The rival is what no
comparison can do without: every input through both models. "Extra" is the time beyond that, in
units of one pass of each model; the bound is three. Diagnosis is timed on the same pair with one
epsilon changed. The last part measures memory in a process of its own: how much the two traces add
to the peak of plain passes, beside the largest activation and the sum of all of them.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
from typing import Any

import numpy as np

import keras_torch_convert as ktc
from benchmarks.race import print_ratios, race
from keras_torch_convert.keras_io.model import read_target
from keras_torch_convert.running.input_pair import InputPair
from keras_torch_convert.running.inputs import InputRequest, input_pair
from keras_torch_convert.running.keras_calls import run_keras_calls
from keras_torch_convert.running.torch_steps import run_torch_steps

STAGES = ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2))
MOST_EXTRA = 3.0


def torch_resnet() -> Any:
    """Return bottlenecks as everyone builds them, random weights."""
    import torch
    from torch import nn

    class Bottleneck(nn.Module):
        def __init__(self, given: int, width: int, stride: int) -> None:
            super().__init__()
            self.conv1, self.bn1 = nn.Conv2d(given, width, 1, bias=False), nn.BatchNorm2d(width)
            self.conv2, self.bn2 = nn.Conv2d(width, width, 3, stride, 1,
                                             bias=False), nn.BatchNorm2d(width)
            self.conv3, self.bn3 = nn.Conv2d(width, 4 * width, 1,
                                             bias=False), nn.BatchNorm2d(4 * width)
            self.shortcut = given != 4 * width
            if self.shortcut:
                self.conv4, self.bn4 = nn.Conv2d(given, 4 * width, 1, stride,
                                                 bias=False), nn.BatchNorm2d(4 * width)

        def forward(self, x: Any) -> Any:
            y = torch.relu(self.bn1(self.conv1(x)))
            y = torch.relu(self.bn2(self.conv2(y)))
            y = self.bn3(self.conv3(y))
            return torch.relu(y + (self.bn4(self.conv4(x)) if self.shortcut else x))

    class ResNet(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.bn, self.pool = (nn.Conv2d(3, 64, 7, 2, 3, bias=False),
                                             nn.BatchNorm2d(64), nn.MaxPool2d(3, 2, 1))
            blocks, given = [], 64
            for width, count, stride in STAGES:
                blocks += [
                    Bottleneck(given if n == 0 else 4 * width, width, stride if n == 0 else 1)
                    for n in range(count)
                ]
                given = 4 * width
            self.blocks, self.fc = nn.Sequential(*blocks), nn.Linear(given, 1000)

        def forward(self, x: Any) -> Any:
            x = self.blocks(self.pool(torch.relu(self.bn(self.conv(x)))))
            return self.fc(x.mean((2, 3)))

    torch.manual_seed(0)
    return ResNet().eval()


def keras_resnet(side: int) -> Any:
    """Return the same; layers are called as in torch, with _ for the dot."""
    import keras

    layers = keras.layers

    def conv_norm(x: Any, prefix: str, number: str, channels: int, size: int, stride: int) -> Any:
        if size > 1:
            x = layers.ZeroPadding2D(size // 2)(x)
        x = layers.Conv2D(channels, size, stride, use_bias=False, name=f"{prefix}conv{number}")(x)
        return layers.BatchNormalization(epsilon=1e-5, momentum=0.9, name=f"{prefix}bn{number}")(x)

    inputs = layers.Input((side, side, 3))
    x = layers.ReLU()(conv_norm(inputs, "", "", 64, 7, 2))
    x = layers.MaxPooling2D(3, 2)(layers.ZeroPadding2D(1)(x))
    number = 0
    for width, count, first in STAGES:
        for block in range(count):
            prefix, stride = f"blocks_{number}_", first if block == 0 else 1
            y = layers.ReLU()(conv_norm(x, prefix, "1", width, 1, 1))
            y = layers.ReLU()(conv_norm(y, prefix, "2", width, 3, stride))
            y = conv_norm(y, prefix, "3", 4 * width, 1, 1)
            short = x if block else conv_norm(x, prefix, "4", 4 * width, 1, stride)
            x = layers.ReLU()(layers.Add()([y, short]))
            number += 1
    return keras.Model(inputs, layers.Dense(1000, name="fc")(layers.GlobalAveragePooling2D()(x)))


def converted(side: int) -> tuple[Any, Any, ktc.Plan, tuple[Any, Any]]:
    """Return both models with one set of weights, the Plan, and a sample."""
    torch_module, keras_model = torch_resnet(), keras_resnet(side)
    mapping = {
        leaf.display_name: leaf.display_name.replace("_", ".")
        for leaf in read_target(keras_model).leaves()
    }
    plan = ktc.align(torch_module, keras_model, mapping=mapping)
    ktc.convert(torch_module, keras_model, plan=plan, verify=False)
    picture = np.random.default_rng(0).uniform(-1, 1, (1, side, side, 3)).astype("float32")
    return torch_module, keras_model, plan, (np.ascontiguousarray(picture.transpose(0, 3, 1,
                                                                                    2)), picture)


def passes(torch_module: Any, keras_model: Any, every: tuple[InputPair, ...]) -> None:
    """Every input through both models."""
    import torch

    with torch.no_grad():
        for inputs in every:
            inputs.torch_call(torch_module, inputs.torch_inputs)
            inputs.keras_call(keras_model, inputs.keras_inputs)


def measure(side: int, rounds: int) -> bool:
    """Print the table; True when `verify` of equal models stays within the bound."""
    torch_module, keras_model, plan, sample = converted(side)
    inputs = input_pair(torch_module, read_target(keras_model), InputRequest(sample))
    every = (inputs, *inputs.others(2))
    assert ktc.verify(torch_module, keras_model, plan=plan, sample=sample).equal is True
    times = race(
        {
            "one input through both":
                lambda: passes(torch_module, keras_model, every[:1]), "three inputs through both":
                    lambda: passes(torch_module, keras_model, every), "verify, three inputs":
                        lambda: ktc.verify(torch_module, keras_model, sample=sample),
            "verify, three inputs, plan":
                lambda: ktc.verify(torch_module, keras_model, plan=plan, sample=sample)
        }, rounds=rounds)
    print_ratios(f"ResNet-50 at {side} x {side}", times, unit="one input through both")
    one = times["one input through both"].median
    extra = (times["verify, three inputs"].median - times["three inputs through both"].median) / one
    proof = (times["verify, three inputs, plan"].median
             - times["three inputs through both"].median) / one
    print(f"  extra, in passes of each model: {extra:.2f}; with the random proof, whose own pass "
          f"counts here: {proof:.2f}")
    norm = next(layer for layer in keras_model.layers if layer.name == "blocks_7_bn2")
    norm.epsilon = 1e-2
    found = ktc.verify(torch_module, keras_model, plan=plan, sample=sample)
    assert found.first_divergence is not None
    assert (found.first_divergence.keras_layer, found.first_divergence.kind) == ("blocks_7_bn2",
                                                                                 "epsilon")
    slow = race(
        {"diagnosis": lambda: ktc.verify(torch_module, keras_model, plan=plan, sample=sample)},
        rounds=2)
    print(f"  verify with a diagnosis: {slow['diagnosis'].median / one:.1f} passes of each model "
          "in all")
    return extra <= MOST_EXTRA


def measure_memory(side: int) -> None:
    """Peak memory of plain passes and of traces, in this process."""
    torch_module, keras_model, _, sample = converted(side)
    target = read_target(keras_model)
    inputs = input_pair(torch_module, target, InputRequest(sample))
    for _ in range(3):
        passes(torch_module, keras_model, (inputs,))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    values = {name: tensor.detach() for name, tensor in torch_module.named_parameters()}
    trace = run_torch_steps(torch_module, inputs.torch_call, inputs.torch_inputs, values)
    run_keras_calls(target, inputs.keras_call, inputs.keras_inputs)
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    sizes = [
        4 * int(np.prod(value.shape)) / 2**20 for step in trace.steps for value in step.outputs
    ]
    print(f"  memory: both traces add {(after - before) / 1024:.1f} MiB to the peak of plain "
          f"passes; the largest activation has {max(sizes):.1f} MiB, "
          f"all of torch's together {sum(sizes):.0f} MiB")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--side", type=int, default=224)
    parser.add_argument("--memory", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.memory:
        measure_memory(arguments.side)
        return 0
    within = measure(arguments.side, arguments.rounds)
    subprocess.run([
        sys.executable, "-m", "benchmarks.bench_verify", "--memory", "--side",
        str(arguments.side)
    ], check=True)
    return 0 if within else 1


if __name__ == "__main__":
    sys.exit(main())
