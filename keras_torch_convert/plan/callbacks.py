"""Functions of `additional_transfer`: this is the only place that calls them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import numpy as np
import numpy.typing as npt

from .. import _core
from ..errors import TransferError

Array = npt.NDArray[Any]
Callback = Callable[[list[Any]], Any]


def apply_callbacks(layer: str, arrays: Sequence[Array],
                    calls: Sequence[tuple[str, Callback]]) -> list[Array]:
    """Chain the user's functions on a list of arrays.

    Each function gets a fresh list of the arrays that the one before returned and may change them
    in place; the first one gets `arrays` themselves. What a function raises keeps its type and
    gains a note with layer and key.

    Args:
        layer: Name of the layer, for messages.
        arrays: Arrays of numbers.
        calls: Each function after its key of `additional_transfer`, as messages show it.

    Returns:
        New arrays in C order and native byte order, whose memory nobody else holds.

    Raises:
        TransferError: A function did not return a list or tuple of what NumPy turns into booleans,
            integers or real numbers.
    """
    current = tuple(arrays)
    for key, function in tuple(calls):
        where = f"layer {layer!r}, additional_transfer key {key}"
        try:
            result = function(list(current))
            current = tuple(
                _as_array(item, f"item {index}", where)
                for index, item in enumerate(_items(result, where)))
        except _ResultError as error:
            raise TransferError(str(error), (str(error),)) from error.__cause__
        except BaseException as error:
            _add_note(
                error, f"raised by the function of additional_transfer key {key} for layer "
                f"{layer!r}")
            raise
    return [_fresh_copy(array) for array in current]


class _ResultError(Exception):
    """Say what came back instead of a list of arrays."""


def _items(result: Any, where: str) -> Sequence[Any]:
    # The built-in's own slice runs no code of a subclass.
    if isinstance(result, list):
        return list.__getitem__(result, slice(None))
    if isinstance(result, tuple):
        return tuple.__getitem__(result, slice(None))
    remedy = ("return the list at the end of the function" if result is None else
              "put the arrays into a list, in the order of the layer's weights")
    raise _ResultError(f"{where}: expected a list of arrays from the function, got "
                       f"{_type_name(result)}; {remedy}")


def _as_array(item: Any, which: str, where: str) -> Array:
    start = (f"{where}: expected a list of arrays of plain numbers from the function, got "
             f"{_type_name(item)} as {which}")
    try:
        array = np.asarray(item)
    except (ValueError, TypeError) as error:
        raise _ResultError(f"{start}, which numpy cannot turn into an array") from error
    dtype = array.dtype
    # Types that other packages register, such as bfloat16, count as numbers.
    if dtype.kind not in "biuf" and dtype.isbuiltin != 2:
        raise _ResultError(f"{start} (as an array: {dtype!r})")
    return array


def _fresh_copy(array: Array) -> Array:
    copy = np.empty(array.shape, array.dtype.newbyteorder("="))
    if array.dtype.isnative:
        _core.copy_strided(array, copy)
    else:
        copy[...] = array
    return copy


def _type_name(value: Any) -> str:
    found = type(value)
    builtin = found.__module__ == "builtins"
    return found.__name__ if builtin else f"{found.__module__}.{found.__name__}"


def _add_note(error: BaseException, note: str) -> None:
    # Whatever goes wrong with the note, the user's own exception is the one to be seen.
    with suppress(Exception):
        error.add_note(note)
