"""Models and checkpoints by their names on the command line."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from ..errors import SourceError
from ..keras_io.model import is_keras_model
from ..keras_io.values import torch_tensor
from ..keras_io.weights_file import model_config
from ..spec.source import SourceTensor, expect
from ..torch_io.live_tensor import is_torch_module
from ..torch_io.mapped_file import located
from ..torch_io.reader import read
from ..torch_io.remote import RemotePath, is_address
from ..torch_io.renaming import fitted, offered
from ..torch_io.wrappers import inner_module
from ..util.text import did_you_mean, join_names, shorten
from .main import InputError
from .values import imported, is_object_name
from .zoos import ZOOS, model_of_zoo, zoo_of

KERAS_FILES = (".keras", ".h5", ".hdf5")
# What comes behind the dot of a file, and is no function in a module.
_FILE_ENDINGS = ("pth", "pt", "bin", "ckpt", "npz", "safetensors", "h5", "hdf5", "keras", "json")
BACKENDS = ("torch", "tensorflow", "jax")


class Model(click.ParamType):  # type: ignore[type-arg]
    """The name of a model, or the path of a file."""

    name = "MODEL"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the text, once it is a name or the path of something that exists."""
        text = str(value)
        if is_object_name(text) or zoo_of(text) or is_address(text):
            return text
        path = Path(text)
        if path.suffix == ".py" and os.path.isfile(path):
            raise InputError(
                f"{text} is a Python file: name what makes the model in it, as "
                f"{text}:{join_names(_made_in(path), 3, separator=' or :', empty='NAME')}")
        # Not path.exists(), which raises for a name that is too long.
        if not os.path.exists(path):
            text = shorten(text, 200)
            beside = [one.name for one in path.parent.iterdir()] if os.path.isdir(
                path.parent) else []
            hint = did_you_mean(path.name, beside) or _with_colon(text)
            raise InputError(f"there is no file {text!r}{hint}")
        return text

    def shell_complete(self, ctx: click.Context, param: click.Parameter,
                       incomplete: str) -> list[Any]:
        """Complete files, in the shell's own way."""
        from click.shell_completion import CompletionItem

        return [CompletionItem(incomplete, type="file")]


def _made_in(path: Path) -> list[str]:
    """Return the functions and classes that a Python file defines, without running it."""
    try:
        statements = ast.parse(path.read_bytes()).body
    except (SyntaxError, ValueError):
        return []
    kinds = (ast.FunctionDef, ast.ClassDef)
    return [one.name for one in statements if isinstance(one, kinds) and one.name[0] != "_"]


def _with_colon(text: str) -> str:
    """Return how a model in a module is named, for a name without a colon."""
    module, dot, name = text.rpartition(".")
    if name in _FILE_ENDINGS:
        return ""
    if dot and all(part.isidentifier() for part in text.split(".")):
        return f"; did you mean {module}:{name}?"
    prefix, colon, _ = text.partition(":")
    if colon and (hint := did_you_mean(prefix, ZOOS)):
        return hint
    return ("; a model is named as package.module:callable, file.py:callable, or by a collection, "
            "such as timm:resnet50")


def models_of(names: Sequence[str], kwargs: Sequence[Mapping[str, Any]], backend: str | None,
              published: Sequence[bool] = (False, False)) -> list[Any]:
    """Return what the names stand for: torch modules, Keras models, state dicts, or paths.

    The n-th of `kwargs` belongs to the n-th of the names that names a callable. `published` says
    which models of a collection get the weights that its makers published.
    """
    choose_backend(backend)
    given = iter(kwargs)
    models = [
        model_of_zoo(name, pretrained, next(given, {})) if zoo_of(name) else _model(name, given)
        for name, pretrained in zip(names, published, strict=False)
    ]
    if next(given, None) is not None:
        raise click.UsageError(
            f"--kwargs was given {len(kwargs)} times, which is more than models are called")
    return models


def choose_backend(backend: str | None) -> None:
    """Choose Keras's backend before Keras is imported.

    It is the one asked for, else as Keras is configured, else one that is installed.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if backend is not None:
        os.environ["KERAS_BACKEND"] = backend
    elif "KERAS_BACKEND" not in os.environ:
        # Keras writes its configuration when it is first imported, whatever is installed: what it
        # says need not be a choice.
        for name in (_configured_backend(), *BACKENDS):
            if importlib.util.find_spec(name):
                os.environ["KERAS_BACKEND"] = name
                break


def _configured_backend() -> str:
    """Return the backend in Keras's configuration file."""
    home = os.environ.get("KERAS_HOME")
    path = (Path(home) if home else Path.home() / ".keras") / "keras.json"
    try:
        return str(json.loads(path.read_text()).get("backend", "tensorflow"))
    except (OSError, ValueError, AttributeError, RecursionError):
        return "tensorflow"


def _model(name: str, kwargs: Iterator[Mapping[str, Any]]) -> Any:
    """Return one model: imported and called, loaded from a Keras file, or the path as it is."""
    if is_address(name):
        return located(name)
    if not is_object_name(name):
        path = Path(name)
        return _loaded_keras_model(path) if path.suffix in KERAS_FILES else path
    found = imported(name)
    if is_torch_module(found) or is_keras_model(found) or isinstance(found, Mapping):
        return found
    if not callable(found):
        raise InputError(
            f"{name} is a {type(found).__name__}, expected a function or class that makes a model")
    arguments = next(kwargs, {})
    try:
        return found(**arguments)
    except Exception as error:
        given = ", ".join(f"{key}={value!r}" for key, value in arguments.items())
        raise InputError(f"{name}({given}) raised {type(error).__name__}: {error}") from error


def _loaded_keras_model(path: Path) -> Any:
    """Return the model in a .keras or .h5 file, loaded by the Keras that wrote it."""
    if path.name.endswith(".weights.h5"):
        raise InputError(
            f"{path} holds weights without a model: name the callable that builds the model")
    try:
        # What reaches out of the file is refused before Keras opens it.
        package = "tf_keras" if model_config(path)[1].startswith("2.") else "keras"
    except SourceError as error:
        raise InputError(f"{path} cannot be loaded as a model: {error}") from error
    if importlib.util.find_spec(package) is None:
        raise InputError(f"{path} was written by {package}, which is not installed")
    keras = importlib.import_module(package)
    try:
        return keras.models.load_model(path, compile=False)
    except Exception as error:
        raise InputError(
            f"{path} cannot be loaded as a model: {type(error).__name__}: {error}; layers of "
            "your own need the callable that builds the model") from error


def torch_side(source: Any, values: Mapping[str, Any]) -> Any:
    """Return the PyTorch side as the options say: a module with the weights of a checkpoint in it,
    or a checkpoint's part and names.
    """
    if is_keras_model(source):
        raise click.UsageError(
            "the first model is a Keras model: give the PyTorch side first, then the Keras side")
    chosen = {
        name: values[name]
        for name in ("wrapper", "rename", "adapter") if values.get(name) is not None
    }
    weights = values["weights"]
    if weights is None:
        return read(source, **chosen) if chosen else source
    if not is_torch_module(source):
        raise click.UsageError(
            "--weights are for a module: name the callable that makes it as the first model")
    own = inner_module(source)[1]
    shapes = {
        name: tuple(tensor.shape) for name, tensor in own.state_dict().items()
        if isinstance(getattr(tensor, "shape", None), tuple)
    }
    found = fitted(read(weights, **chosen), shapes)
    expect(found, found)
    tensors = {name: _torch_tensor(tensor) for name, tensor in found.items()}
    try:
        own.load_state_dict(tensors, strict=True)
    except RuntimeError as error:
        advice = offered(found, shapes)
        raise InputError(f"{weights} does not fit into {type(source).__name__}: {error}"
                         f"{advice and chr(10)}{advice}") from error
    return source


def keras_side(target: Any) -> Any:
    """Return the Keras side, or refuse what is none."""
    if not is_keras_model(target):
        what = "a torch module" if is_torch_module(target) else f"a {type(target).__name__}"
        if isinstance(target, (Path, RemotePath)):
            what = f"{target}, a checkpoint"
        raise click.UsageError(
            f"the second model is {what}: give the PyTorch side first, then the Keras side")
    return target


def _torch_tensor(tensor: SourceTensor) -> Any:
    """Return a tensor of a checkpoint for torch; dtypes that NumPy lacks come as their bits."""
    import torch

    array, wanted = tensor.read(), getattr(torch, tensor.dtype)
    if array.dtype.kind == "u" and tensor.dtype != array.dtype.name:
        return torch_tensor(array.view(f"i{array.dtype.itemsize}")).view(wanted)
    return torch_tensor(array)
