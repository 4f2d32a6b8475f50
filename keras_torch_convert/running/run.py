"""One model run once and left exactly as it was: training flags, tensors, random generators."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from ..spec.target import Target
from .input_pair import Call, InputPair
from .isolation import TorchTwin, twin_of
from .outputs import Array, as_array, map_leaves, named_outputs


def run_torch(module: Any, inputs: InputPair,
              dtype: Any = None) -> tuple[dict[str, Array], list[str]]:
    """Run a twin of the torch module in eval mode; return its outputs by name, and their types.

    Args:
        module: The torch module, which is not run itself; or a TorchTwin, which is, as it is.
        inputs: What it is given, and how it is called.
        dtype: The torch type of all floating-point tensors and inputs in this run, None for theirs.

    Raises:
        PredictionError: The module cannot be run on these inputs.
    """
    given = inputs.torch_inputs if dtype is None else cast_floats(inputs.torch_inputs, dtype)
    twin = module if isinstance(module, TorchTwin) else twin_of(module, None, dtype)
    with inference(twin.module), inputs.blamed("the torch model"):
        return named_outputs(inputs.torch_call(twin.module, given))


def run_keras(target: Target, inputs: InputPair) -> tuple[dict[str, Array], list[str]]:
    """Run the Keras model in inference mode; return its outputs by name, and their types.

    Raises PredictionError when it cannot be run on these inputs.
    """
    with no_grad(target), preserve_rng_state(), inputs.blamed("the Keras model"):
        return named_outputs(inputs.keras_call(target.model, inputs.keras_inputs))


def call_torch(module: Any, inputs: Any) -> Any:
    """Call the module on its arguments, with arrays as tensors of its own type and device."""
    tensors = as_tensors(inputs, module)
    return module(**tensors) if isinstance(tensors, dict) else module(*tensors)


def with_tensors(call: Call) -> Call:
    """Return a caller's own call of a torch module, given tensors where the inputs are arrays."""
    return lambda module, inputs: call(module, as_tensors(inputs, module))


def as_given_or_tensors(call: Call) -> Call:
    """Return a caller's own call, which gets the caller's own sample as it is, or as tensors if it
    cannot take that.
    """
    def run(module: Any, inputs: Any) -> Any:
        try:
            return call(module, inputs)
        except Exception as error:
            try:
                return call(module, as_tensors(inputs, module))
            except Exception as other:
                raise other from error

    return run


def call_keras(model: Any, inputs: Any) -> Any:
    """Call the Keras model in inference mode."""
    return model(inputs, training=False)


def as_tensors(value: Any, module: Any) -> Any:
    """Turn every array of a structure into a torch tensor, floating-point ones in the type of the
    module's weights.
    """
    import torch

    like = next((weight for weight in module.parameters() if weight.is_floating_point()), None)

    def changed(_: str, leaf: Any) -> Any:
        tensor = leaf if isinstance(leaf, torch.Tensor) else torch.from_numpy(
            np.array(as_array(leaf)))
        if like is None:
            return tensor
        return tensor.to(like.device, like.dtype if tensor.is_floating_point() else None)

    return map_leaves(value, changed)


def cast_floats(value: Any, dtype: Any) -> Any:
    """Return a structure with its floating-point tensors and arrays in a torch type; arrays in half
    precision, which NumPy lacks, stay float32 until `call_torch` makes tensors of them.
    """
    def changed(_: str, leaf: Any) -> Any:
        if hasattr(leaf, "detach"):
            tensor = leaf.detach()
            return tensor.to(dtype) if tensor.is_floating_point() else tensor.clone()
        if isinstance(leaf, np.ndarray) and leaf.dtype.kind == "f":
            return leaf.astype(np.float64 if "64" in str(dtype) else np.float32)
        return leaf

    return map_leaves(value, changed)


@contextmanager
def inference(twin: Any) -> Iterator[None]:
    """Run a twin in eval mode without gradients; put the random generators back."""
    import torch

    like = next(twin.parameters(), None)
    devices = [like.device] if like is not None and like.device.type == "cuda" else []
    twin.eval()
    with torch.no_grad(), torch.random.fork_rng(devices=devices), preserve_rng_state():
        yield


@contextmanager
def preserve_rng_state() -> Iterator[None]:
    """Put the state of Python's and NumPy's global random generators back: a model may draw from
    them.
    """
    python_state, numpy_state = random.getstate(), np.random.get_state()
    try:
        yield
    finally:
        random.setstate(python_state)
        np.random.set_state(numpy_state)


@contextmanager
def no_grad(target: Target) -> Iterator[None]:
    """For Keras on the torch backend: record no gradients, put torch's random generator back."""
    if target.backend != "torch":
        yield
        return
    import torch

    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        yield
