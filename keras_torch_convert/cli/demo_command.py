"""`demo`: a small network with two branches, which PyTorch and Keras list in different order,
converted and proven.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import click

from ..api.classic import keras_reload_from_torch_model
from ..api.conversion import convert
from . import options, screen
from .main import DONE, MISMATCH, InputError
from .models import choose_backend

EXAMPLES = """
keras-torch-convert demo
keras-torch-convert demo -o two_branches.h5 --html two_branches.html
"""

TAILS = {"left": {"bn": -1, "conv2": -2}}


@options.command("demo", EXAMPLES)
@click.option("-o", "--output", type=options.FILE, help="Keep the Keras file that was made.")
@options.html_option
@options.backend_option
def command(output: Path | None, html: Path | None, backend: str | None, as_json: bool) -> int:
    """Convert a small network, and see what a misalignment looks like.

    The two frameworks list the layers of its branches in different order. Shown are both lists, the
    dictionary that puts them in order, and the same found without a dictionary. Needs PyTorch and
    Keras. The weights are random; `make demo` in the repository converts real ones.
    """
    options.check_places(output, html)
    choose_backend(backend)
    missing = [name for name in ("torch", "keras") if importlib.util.find_spec(name) is None]
    if missing:
        raise InputError(f"the demo needs {' and '.join(missing)}: pip install {' '.join(missing)}")
    with screen.chatter_on_stderr():
        torch_model, keras_model = two_branches_torch(), two_branches_keras()
        before = keras_reload_from_torch_model(torch_model, keras_model, do_convert=False,
                                               verbose=0).layer_table
        moved = keras_reload_from_torch_model(torch_model, keras_model, tail_align_dict=TAILS,
                                              tail_split_position=1, do_predict=False, save_name="",
                                              verbose=0).layer_table
        report = convert(torch_model, keras_model, save=output)
    assert before is not None
    assert moved is not None
    report.layer_table = moved
    if not as_json:
        lists = "The two lists as they are; the branches are listed in different order:\n"
        screen.say(lists, "title")
        screen.show_layer_table(before)
        screen.say(f"\nWith tail_align_dict={TAILS}, tail_split_position=1:\n", "title")
        screen.show_layer_table(moved)
        screen.say("\nThe same without a dictionary, by running both models:\n", "title")
    screen.show_report(report, html, as_json)
    return DONE if report.equal else MISMATCH


def two_branches_torch() -> Any:
    """Return a module with two branches side by side, listed branch after branch."""
    import torch
    from torch import nn

    class TwoBranches(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem = nn.Conv2d(3, 8, 3)
            self.left = nn.Sequential(nn.Conv2d(8, 8, 1), nn.BatchNorm2d(8), nn.ReLU(),
                                      nn.Conv2d(8, 8, 3))
            self.right = nn.Sequential(nn.Conv2d(8, 8, 1), nn.BatchNorm2d(8), nn.Tanh(),
                                       nn.Conv2d(8, 8, 3))
            self.head = nn.Linear(8, 10)

        def forward(self, picture: Any) -> Any:
            found = self.stem(picture)
            return self.head((self.left(found) + self.right(found)).mean(dim=(2, 3)))

    torch.manual_seed(0)
    model: Any = TwoBranches().eval()
    with torch.no_grad():
        for norm in (model.left[1], model.right[1]):
            norm.running_mean.normal_()
            norm.running_var.uniform_(0.5, 1.5)
    return model


def two_branches_keras() -> Any:
    """Return the same network in Keras, which lists layers by depth."""
    import keras
    from keras import layers

    def branch(found: Any, name: str, activation: str) -> Any:
        found = layers.Conv2D(8, 1, name=f"{name}_conv1")(found)
        found = layers.BatchNormalization(epsilon=1e-5, name=f"{name}_bn")(found)
        found = layers.Activation(activation, name=f"{name}_{activation}")(found)
        return layers.Conv2D(8, 3, name=f"{name}_conv2")(found)

    inputs = keras.Input((32, 32, 3))
    stem = layers.Conv2D(8, 3, name="stem")(inputs)
    found = layers.Add(name="add")([branch(stem, "left", "relu"), branch(stem, "right", "tanh")])
    found = layers.GlobalAveragePooling2D(name="pool")(found)
    return keras.Model(inputs, layers.Dense(10, name="head")(found), name="two_branches")
