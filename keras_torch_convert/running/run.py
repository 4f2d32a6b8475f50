"""One model run once, left exactly as it was: training flags and random generators are put back."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ..errors import PredictionError
from ..spec.target import Target
from .outputs import describe, outputs_of

if TYPE_CHECKING:
    from .picture_inputs import Inputs

Array = npt.NDArray[Any]

REMEDY = ("give inputs that both take as sample=(torch inputs, Keras inputs), or convert without a "
          "prediction; "
          "the weights are in place")


def run_torch(module: Any, inputs: Inputs) -> tuple[list[Array], list[str]]:
    """Outputs of the torch module in eval mode, and their types; the module is left as it was."""
    with left_as_it_was(module):
        try:
            return outputs_of(call_torch(module, inputs.torch_arguments))
        except Exception as error:
            raise PredictionError(
                f"the torch model failed on {inputs.words}: {describe(error)}; {REMEDY}") from error


def call_torch(module: Any, inputs: Any) -> Any:
    """The module on its arguments, arrays as tensors of its own type and device."""
    tensors = as_tensors(inputs, module)
    return module(**tensors) if isinstance(tensors, dict) else module(*tensors)


def as_tensors(value: Any, module: Any) -> Any:
    """Every array of a structure as a torch tensor, floating-point ones in the type of the module's
    weights.
    """
    import torch

    if isinstance(value, Mapping):
        return {name: as_tensors(item, module) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [as_tensors(item, module) for item in value]
    tensor = value if isinstance(value, torch.Tensor) else torch.from_numpy(np.array(value))
    like = next((weight for weight in module.parameters() if weight.is_floating_point()), None)
    if like is None:
        return tensor
    return tensor.to(like.device, like.dtype) if tensor.is_floating_point() else tensor.to(
        like.device)


@contextmanager
def left_as_it_was(module: Any) -> Iterator[None]:
    """For one run of a module: eval mode, no gradients, and the flags and random generators put
    back.
    """
    import torch

    like = next(module.parameters(), None)
    devices = [like.device] if like is not None and like.device.type == "cuda" else []
    with eval_mode(module), torch.no_grad(), torch.random.fork_rng(
            devices=devices), preserve_rng_state():
        yield


@contextmanager
def eval_mode(module: Any) -> Iterator[None]:
    """Eval mode for the time being; the flag of every submodule is put back as it was, each by
    itself.
    """
    flags = [(submodule, submodule.training) for submodule in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for submodule, training in flags:
            submodule.training = training


def functional_call(module: Any, values: Mapping[str, Any], call: Callable[[Any], Any]) -> Any:
    """What `call(module)` gives with `values` in the place of the module's own tensors of those
    names, which it keeps.
    """
    import torch

    class Caller(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = module

        def forward(self) -> Any:
            return call(self.inner)

    replaced = {f"inner.{name}": value for name, value in _each_place_once(module, values).items()}
    return torch.func.functional_call(Caller(), replaced, (), tie_weights=False)


def _each_place_once(module: Any, values: Mapping[str, Any]) -> dict[str, Any]:
    """The values under one name for each place that holds a tensor; tied tensors get the value of
    the first name given.

    A module used under several names holds its tensors once: torch, given all of the names, would
    leave the last value in it.
    """
    named = [
        *module.named_parameters(remove_duplicate=False),
        *module.named_buffers(remove_duplicate=False)
    ]
    modules = dict(module.named_modules(remove_duplicate=False))
    given: dict[int, Any] = {}
    for name, tensor in named:
        if name in values:
            given.setdefault(id(tensor), values[name])
    places: dict[tuple[int, str], tuple[str, Any]] = {}
    for name, tensor in named:
        path, _, own = name.rpartition(".")
        if id(tensor) in given:
            places.setdefault((id(modules[path]), own), (name, given[id(tensor)]))
    return dict(places.values())


@contextmanager
def preserve_rng_state() -> Iterator[None]:
    """The state of Python's and NumPy's global random generators put back afterward: a model may
    draw from them.
    """
    python_state, numpy_state = random.getstate(), np.random.get_state()
    try:
        yield
    finally:
        random.setstate(python_state)
        np.random.set_state(numpy_state)


def run_keras(target: Target, inputs: Inputs) -> tuple[list[Array], list[str]]:
    """Outputs of the Keras model in inference mode, and their types."""
    with no_grad(target), preserve_rng_state():
        try:
            return outputs_of(target.model(inputs.keras_input, training=False))
        except Exception as error:
            raise PredictionError(
                f"the Keras model failed on {inputs.words}: {describe(error)}; {REMEDY}") from error


@contextmanager
def no_grad(target: Target) -> Iterator[None]:
    """For Keras on the torch backend: no gradients are recorded, and torch's random generator is
    put back.
    """
    if target.backend != "torch":
        yield
        return
    import torch

    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        yield
