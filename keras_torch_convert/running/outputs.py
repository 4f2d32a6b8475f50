"""Outputs of any framework as NumPy arrays, and errors of any framework in a line."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


def describe(error: BaseException) -> str:
    """Return type and first lines of an error's message: Keras repeats all arguments behind."""
    # Keras prints parts of its messages in bold.
    plain = re.sub(r"\x1b\[[0-9;]*m", "", str(error))
    lines = [line.strip() for line in plain.splitlines() if line.strip()]
    text = " ".join(lines[:3])
    return (f"{type(error).__name__}: "
            f"{text[:400]}{' ...' if len(text) > 400 or len(lines) > 3 else ''}")


def named_outputs(output: Any) -> tuple[dict[str, Array], list[str]]:
    """Return every array of a model's output by name, and their types."""
    leaves = leaves_by_name(output)
    arrays = {name: as_array(leaf) for name, leaf in leaves.items()}
    return arrays, [type_name(leaf) for leaf in leaves.values()]


def leaves_by_name(output: Any) -> dict[str, Any]:
    """Return the tensors of a model's output by position or key inside tuples and dicts, joined by
    dots ("hidden.1"); "" for a single one without a key.
    """
    leaves = dict(named_leaves(output))
    has_no_key = len(leaves) == 1 and next(iter(leaves)).isdigit()
    return {"": next(iter(leaves.values()))} if has_no_key else leaves


def named_leaves(output: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the tensors of an output with their names, in order; pass over what is no tensor (None,
    numbers, cached states).
    """
    if isinstance(output, (Mapping, list, tuple)):
        items = output.items() if isinstance(output, Mapping) else enumerate(output)
        for key, value in items:
            yield from named_leaves(value, f"{name}.{key}" if name else str(key))
    elif hasattr(output, "shape") and hasattr(output, "dtype"):
        yield name, output


def map_leaves(value: Any, change: Callable[[str, Any], Any], name: str = "") -> Any:
    """Return a structure of the same containers with `change(name, tensor)` for every tensor; the
    names are those of `named_leaves`.
    """
    if isinstance(value, Mapping):
        items = {
            key: map_leaves(item, change, f"{name}.{key}" if name else str(key))
            for key, item in value.items()
        }
        if type(value) is dict or not isinstance(value, MutableMapping):
            return items
        twin = copy.copy(value)
        twin.update(items)
        return twin
    if isinstance(value, (list, tuple)):
        parts = [
            map_leaves(item, change, f"{name}.{key}" if name else str(key))
            for key, item in enumerate(value)
        ]
        return type(value)(*parts) if hasattr(value, "_fields") else type(value)(parts)
    return change(name, value) if hasattr(value, "shape") and hasattr(value, "dtype") else value


def type_name(tensor: Any) -> str:
    """Return the type of a tensor of any of the frameworks, without the framework's name."""
    return str(getattr(tensor.dtype, "name", tensor.dtype)).removeprefix("torch.")


def leaves_of(output: Any) -> Iterator[Any]:
    """Yield the tensors of an output, in order."""
    for _, leaf in named_leaves(output):
        yield leaf


def as_array(tensor: Any) -> Array:
    """Return a tensor of any of the frameworks as a NumPy array; the half types widen to float32.
    """
    if hasattr(tensor, "detach"):
        tensor = tensor.detach().cpu()
        if "bfloat16" in str(tensor.dtype):
            tensor = tensor.float()
        tensor = tensor.numpy()
    elif hasattr(tensor, "numpy"):
        tensor = tensor.numpy()
    array: Array = np.asarray(tensor)
    # bfloat16 comes as an extension type, which NumPy itself cannot compute with; it has the kind
    # of raw bytes.
    return array.astype(
        np.float32) if array.dtype.kind == "V" or array.dtype == np.float16 else array


def squeezed(shape: Sequence[int]) -> tuple[int, ...]:
    """Return the shape without axes of size 1."""
    return tuple(extent for extent in shape if extent != 1)
