"""The values of a Keras variable (or a torch tensor) as a NumPy array, and back, without a copy
beyond what the backend needs.

Bits travel unchanged: NaN payloads and signed zeros too. bfloat16 is the type of ml_dtypes, which
Keras brings along.
"""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import TransferError
from ..spec.dtypes import NUMPY_TYPES, numpy_dtype, stored_as_bits
from ..spec.target import Target
from ..spec.tensor_spec import Shape

WITHOUT_VALUES = (
    "the Keras model was made on the meta device and has no values: make it on another "
    "one, or write its file: ktc.apply(family.plan_for(source, keras_model), source, "
    "'model.keras')")
# TensorFlow and JAX take memory as it is only from a multiple of this on.
_ALIGNMENT = 64


def read_values(target: Target, variable: Any) -> npt.NDArray[Any]:
    """Current values of a Keras variable, in its own type. They may share its memory: read, do not
    keep or write.
    """
    if target.backend == "tensorflow":
        tensor = kept_values(target, variable)
        # TensorFlow's numpy() copies; its buffer is the variable's own memory, and has no type for
        # bfloat16.
        return np.asarray(tensor.numpy() if variable.dtype == "bfloat16" else memoryview(tensor))
    if target.backend != "torch":
        return np.asarray(variable.numpy())
    import torch

    tensor = variable if target.framework == "torch" else variable.value
    if tensor.is_meta:
        raise TransferError(WITHOUT_VALUES)
    tensor = tensor.detach().cpu()
    if tensor.dtype == torch.bfloat16:
        return np.asarray(tensor.view(torch.int16).numpy()).view(numpy_dtype("bfloat16"))
    return np.asarray(tensor.numpy())


def is_without_values(target: Target, variable: Any) -> bool:
    """Return whether a Keras variable was made on torch's meta device, with a shape alone."""
    return target.backend == "torch" and target.framework != "torch" and bool(
        variable.value.is_meta)


def kept_values(target: Target, variable: Any) -> Any:
    """Current values of a variable of TensorFlow or JAX, of which NumPy makes an array.

    Neither writes into an array that somebody else holds, so later assignments do not change it.
    """
    if target.backend == "tensorflow":
        import tensorflow

        held = _held_by_tensorflow(target, variable)
        if not _is_plain(held):
            return tensorflow.convert_to_tensor(held)
        return tensorflow.raw_ops.ReadVariableOp(resource=held.handle, dtype=held.dtype)
    return variable.value


def _held_by_tensorflow(target: Target, variable: Any) -> Any:
    """Return TensorFlow's own variable."""
    return variable if target.framework == "tf_keras" else variable.value


def _is_plain(held: Any) -> bool:
    """Return whether a variable of TensorFlow is just one piece of memory, which its operations
    reach without the layers of Python above them, a third of the time of small variables.
    """
    return type(held).__name__ == "ResourceVariable"


def own_memory(target: Target, variable: Any) -> npt.NDArray[Any] | None:
    """Return the memory of a variable as an array to write into, bfloat16 as its bits; None where
    the backend has no such thing, or the tensor is more than plain memory.
    """
    if target.backend != "torch":
        return None
    import torch

    # Without it automatic differentiation would not see the change; torch 2.0 lacks it.
    announce = getattr(torch.autograd.graph, "increment_version", None)
    tensor = variable if target.framework == "torch" else variable.value
    plain = type(tensor) in (torch.Tensor, torch.nn.Parameter) and tensor.device.type == "cpu"
    if not announce or not plain or tensor.is_inference() or tensor.is_conj() or tensor.is_neg():
        return None
    announce(tensor)
    dtype = str(tensor.dtype).removeprefix("torch.")
    tensor = tensor.detach()
    if stored_as_bits(dtype):
        tensor = tensor.view(torch.int16 if tensor.element_size() == 2 else torch.uint8)
    return np.asarray(tensor.numpy()).view(NUMPY_TYPES[dtype])


def array_to_give(shape: Shape, dtype: str) -> npt.NDArray[Any]:
    """Return a new array, bfloat16 as its bits, in whose memory a variable may live for good."""
    stored = NUMPY_TYPES[dtype]
    memory = np.empty(prod(shape) * stored.itemsize + _ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % _ALIGNMENT
    return memory[start:len(memory) + start - _ALIGNMENT].view(stored).reshape(shape)


def assign_values(target: Target, variable: Any, array: npt.NDArray[Any],
                  given: bool = False) -> None:
    """Give a Keras variable the values of an array of its own shape and type.

    Only where the array is `given` may the variable share its memory.
    """
    if target.framework == "torch":
        import torch

        with torch.no_grad():
            variable.copy_(torch_tensor(array))
    elif target.backend == "tensorflow":
        import tensorflow

        held = _held_by_tensorflow(target, variable)
        value = _given_to_tensorflow(array) if given else array
        if _is_plain(held):
            value = tensorflow.convert_to_tensor(value, held.dtype)
            tensorflow.raw_ops.AssignVariableOp(resource=held.handle, value=value)
        else:
            variable.assign(value)
    elif target.backend == "torch":
        variable.assign(torch_tensor(array))
    else:
        # jax may let the variable live in the array's memory for good, or copy it only later.
        variable.assign(_given_to_jax(array) if given else array.copy())


def _given_to_tensorflow(array: npt.NDArray[Any]) -> Any:
    """Return the array as a tensor in the same memory, where TensorFlow would copy it twice."""
    if not _may_be_shared(array):
        return array
    import tensorflow

    return tensorflow.experimental.dlpack.from_dlpack(array.__dlpack__())


def _given_to_jax(array: npt.NDArray[Any]) -> Any:
    """Return the array as one of JAX in the same memory, which takes half the time of its way from
    NumPy.
    """
    import jax

    # Without jax_enable_x64 it has no wider types.
    if not _may_be_shared(array) or array.itemsize > 4 or jax.default_backend() != "cpu":
        return array
    return jax.dlpack.from_dlpack(array)


def _may_be_shared(array: npt.NDArray[Any]) -> bool:
    """Return whether DLPack and the backends take an array as it lies in memory."""
    return bool(array.dtype.kind in "fiu" and array.size and array.ctypes.data % _ALIGNMENT == 0)


def torch_tensor(array: npt.NDArray[Any]) -> Any:
    """The array as a torch tensor, without a copy where torch allows; Keras then copies it into the
    variable.
    """
    import torch

    # torch cannot describe read-only memory or negative strides.
    if not array.flags.writeable or any(stride < 0 for stride in array.strides):
        array = array.copy()
    if array.dtype.name == "bfloat16":
        return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(array)
