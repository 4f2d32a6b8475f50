"""What people do wrong most often: each is recognized, and the message says what to do.

The messages were read as a user reads them. At most three lines of prose stand before a list.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import keras_torch_convert as ktc
from keras_torch_convert.cli.main import main

MODELS = """
def torch_model():
    from torch import nn
    return nn.Linear(4, 3)

def keras_model():
    import keras
    return keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, name="head")], name="net")
"""


class Raises(nn.Module):
    """A module that cannot be run."""
    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(4, 3)

    def forward(self, x: Any) -> Any:
        raise RuntimeError("out of cheese")


def keras_model() -> Any:
    import keras

    return keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, name="head")], name="net")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of files that are no PyTorch weights."""
    from safetensors.torch import save_file

    path = tmp_path_factory.mktemp("mistakes")
    rest = b"x" * 600
    files = {
        "graph.onnx": b"\x08\x07\x12\x07pytorch" + rest, "lite.tflite": b"\x1c\0\0\0TFL3" + rest,
        "tf.ckpt.index": rest + b"\x57\xfb\x80\x8b\x24\x75\x47\xdb",
        "tf.ckpt.data-00000-of-00001": rest, "llama.gguf": b"GGUF" + rest,
        "page.pth": b"<!doctype html><html>Not found</html>", "pointer.pth":
            b"version https://git-lfs.github.com/spec/v1\noid sha256:1", "empty.pth": b"",
        "packed.pth.gz": b"\x1f\x8b" + rest, "models.py": MODELS.encode(), "net.plan.json": b"{}"
    }
    for name, data in files.items():
        (path / name).write_bytes(data)
    for name in ("saved_model", "hub"):
        (path / name).mkdir()
    (path / "saved_model/saved_model.pb").write_bytes(rest)
    weights = nn.Linear(4, 3).state_dict()
    (path / "hub/text").mkdir()
    save_file(weights, path / "hub/text/model.safetensors")
    lora = {f"base_model.q.lora_{part}.weight": torch.zeros(2, 2) for part in "AB"}
    save_file(lora, path / "adapter_model.safetensors")
    torch.save(weights, path / "net.pth")
    torch.save({"optimizer": {}, "epoch": 3}, path / "training.pth")
    torch.save(nn.Linear(4, 3), path / "whole.pth")
    torch.jit.save(torch.jit.script(nn.Linear(4, 3)), path / "script.pt")
    keras_model().save(path / "net.keras")
    keras_model().save_weights(path / "net.weights.h5")
    return path


def prose(message: str) -> list[str]:
    """The lines of a message before its list, as a terminal of 100 columns shows them."""
    return textwrap.wrap(message.partition("\n")[0], 100)


@pytest.mark.parametrize(("name", "message"), [
    ("graph.onnx", "is an ONNX graph, whose weights have lost their names; give the PyTorch"),
    ("lite.tflite", "is a TensorFlow Lite model; give the PyTorch checkpoint or module"),
    ("saved_model", "is a TensorFlow SavedModel; give the PyTorch checkpoint or module"),
    ("saved_model/saved_model.pb", "is a TensorFlow SavedModel; give the PyTorch checkpoint"),
    ("tf.ckpt", "is a TensorFlow checkpoint; load it with the library that ported the model"),
    ("tf.ckpt.index", "is a TensorFlow checkpoint; load it with the library that ported"),
    ("tf.ckpt.data-00000-of-00001", "is a TensorFlow checkpoint; load it with the library"),
    ("hub", "is a directory without weight files; give one of its folders: 'text'"),
    ("adapter_model.safetensors", "is a LoRA adapter, which changes the weights of another model"),
    ("llama.gguf", "is a GGUF file of llama.cpp; give the PyTorch checkpoint"),
    ("script.pt", "is a TorchScript archive, which holds a program; load it with torch.jit.load"),
    ("training.pth", "holds no tensors (only optimizer, epoch): give what model.state_dict()"),
    ("whole.pth", "holds a whole object of class torch.nn.modules.linear.Linear"),
    ("net.keras", "is a Keras file: give the PyTorch side first"),
    ("net.weights.h5", "is an HDF5 file, as Keras writes: give the PyTorch side first"),
    ("page.pth", "is an HTML or XML page, not weights; the download gave an error page"),
    ("pointer.pth", "is a Git LFS pointer, not the weights; fetch the file with git lfs pull"),
    ("packed.pth.gz", "is compressed with gzip; unpack it first"),
    ("empty.pth", "is empty"),
    ("missing.pth", "there is no such file"),
])  # yapf: disable
def test_a_file_that_holds_no_weights_is_recognized(name: str, message: str, folder: Path) -> None:
    with pytest.raises(ktc.SourceError) as caught:
        ktc.convert(folder / name, keras_model(), accept_unproven=True)

    assert message in str(caught.value)
    assert len(prose(str(caught.value))) <= 3


@pytest.mark.parametrize(("call", "message"), [
    (lambda: ktc.convert(nn.Linear, keras_model()),
     "Linear is a class: give an instance of it, such as Linear(...)"),
    (lambda: ktc.convert(nn.Linear(4, 3), type(keras_model())),
     "expected a Keras model, got the class Sequential: build it first"),
    (lambda: ktc.convert(nn.Linear(4, 3), "net.keras"),
     "got the path 'net.keras': load it first, with keras.models.load_model('net.keras')"),
    (lambda: ktc.convert(nn.Linear(4, 3), "net.weights.h5"),
     "build the model and load the weights into it, with model.load_weights('net.weights.h5')"),
    (lambda: ktc.read(keras_model()), "Sequential is of Keras: the PyTorch side comes first"),
    (lambda: ktc.read(3), "a state dict, or the path of a file, got 3 of type int"),
    (lambda: ktc.convert({}, keras_model(), accept_unproven=True), "holds no tensors"),
    (lambda: ktc.read("nowhere://net.pth"), "expected an address such as https://, hf://, s3://"),
    (lambda: ktc.convert(Raises(), keras_model()), "the torch model failed on"),
    (lambda: ktc.convert(nn.Linear(4, 3), keras_model(), sample=np.zeros((1, 5), "float32")),
     "the torch model failed on sample given by the caller"),
    (lambda: ktc.convert(nn.Linear(4, 3), keras_model(), hints={"hed": "weight"}),
     "the Keras model has no layer or variable 'hed'; did you mean 'head'"),
    (lambda: ktc.convert(nn.Linear(4, 3), keras_model(), plan="net.plan.json"),
     "expected a Plan, got str: Plan.load(path) reads one from its file"),
    (lambda: ktc.convert(nn.Linear(4, 3), keras_model(), save="net.pth"),
     "expected a name ending in .h5, .weights.h5 or .keras"),
])  # yapf: disable
def test_a_call_that_cannot_work_says_what_to_give(call: Callable[[], Any], message: str) -> None:
    with pytest.raises(ktc.ConversionError) as caught:
        call()

    assert message in str(caught.value)
    assert len(prose(str(caught.value))) <= 3


@pytest.mark.parametrize(("arguments", "message"), [
    ("inspect models.py", "name what makes the model in it, as models.py:torch_model or :keras"),
    ("inspect torchvision.models.resnet18", "did you mean torchvision.models:resnet18?"),
    ("inspect models.py:torch_modle", "did you mean 'torch_model'"),
    ("inspekt net.pth", "there is no command 'inspekt'; did you mean 'inspect'?"),
    ("inspect net.pth --tail-aling-dict {}", "--tail-align-dict"),
    ("inspect nett.pth", "there is no file 'nett.pth'; did you mean 'net.pth'"),
    ("convert models.py:keras_model models.py:torch_model", "give the PyTorch side first"),
    ("convert net.pth net.weights.h5", "name the callable that builds the model"),
    ("convert net.pth models.py:keras_model --sample models.py", "is not an .npy file of one"),
    ("inspect models.py:torch_model --kwargs {'classes':3}", "is not valid JSON"),
])  # yapf: disable
def test_a_command_that_cannot_work_says_what_to_type(arguments: str, message: str, folder: Path,
                                                      monkeypatch: pytest.MonkeyPatch,
                                                      capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(folder)

    assert main(arguments.split()) in (2, 3)

    printed = capsys.readouterr()
    assert printed.out == ""
    assert message in printed.err
    assert len(prose(printed.err.splitlines()[-1])) <= 3
