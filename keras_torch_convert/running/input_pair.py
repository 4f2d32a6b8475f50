"""What both models are given and how each is called, and other inputs of the same range."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import ConversionError, PredictionError
from ..util.text import bullets
from .keras_values import eager_arrays
from .outputs import describe

Array = npt.NDArray[Any]
Call = Callable[[Any, Any], Any]
Change = Callable[[Array], Array]

# How often the range of values is folded up: neighboring values come far apart, and rounding grows
# by as much.
FOLDS = 37


@dataclass(frozen=True, slots=True)
class InputPair:
    """The inputs of both models, and how each model is called on its own.

    - `torch_inputs`, `keras_inputs`: what the calls get
    - `torch_call`, `keras_call`: `call(model, inputs)` gives the outputs
    - `description`: what the inputs are, for people
    - `rescale_mode`: how pixel values were brought to the models' range, "" for no picture
    - `shows_classes`: False for random data, where the best classes mean nothing
    - `notes`: what was done to give both models the same
    """

    torch_inputs: Any
    keras_inputs: Any
    torch_call: Call
    keras_call: Call
    description: str
    rescale_mode: str = ""
    shows_classes: bool = True
    notes: tuple[str, ...] = ()

    @contextmanager
    def failures_reported(self, report: object = None, *,
                          state: str = "model and files are as they were",
                          remedy: str = "") -> Iterator[None]:
        """Raise what goes wrong inside, where models run, as a PredictionError with `report`; pass
        on other refusals of this package.

        Args:
            report: What is known so far.
            state: In which state the model is.
            remedy: One more way to go on.
        """
        try:
            yield
        except PredictionError as error:
            message, cause = str(error), error.__cause__
        except ConversionError:
            raise
        except Exception as error:
            message, cause = f"running both models failed: {describe(error)}", error
        else:
            return
        ways = [
            "give inputs that both models take as sample=(torch inputs, Keras inputs)",
            "say how they are run (torch_call=, keras_call=)", remedy
        ]
        raise PredictionError(f"{message}; {state}{bullets(filter(None, ways))}", report) from cause

    @contextmanager
    def blamed(self, side: str) -> Iterator[None]:
        """Raise what a model raises on these inputs as a PredictionError that names the model."""
        try:
            yield
        except ConversionError:
            raise
        except Exception as error:
            raise PredictionError(
                f"{side} failed on {self.description}: {describe(error)}") from error

    def others(self, count: int = 2) -> tuple[InputPair, ...]:
        """Return the pair with `count` other inputs in the range of these, which have little in
        common with them and with each other.
        """
        changes: tuple[Change, ...] = (
            reflected, *(partial(folded, folds=FOLDS + 2 * number) for number in range(count - 1)))
        return tuple(
            replace(self, torch_inputs=changed(self.torch_inputs, change), keras_inputs=changed(
                self.keras_inputs, change),
                    description=f"{'redrawn' if number else 'reflected'} in the range of that")
            for number, change in enumerate(changes[:count]))


def changed(value: Any, change: Change) -> Any:
    """Change every array of a structure value by value, within the range of its own values.

    Done to the inputs of both models it keeps them the same picture, also when one of them is laid
    out or scaled in another way.
    """
    if isinstance(value, Mapping):
        return {name: changed(item, change) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(changed(item, change) for item in value)
    if hasattr(value, "detach"):
        import torch

        array = value.detach().cpu()
        if array.dtype == torch.bfloat16:  # NumPy has no such type.
            return torch.from_numpy(change(array.float().numpy())).to(value.device, value.dtype)
        return torch.from_numpy(change(array.numpy())).to(value.device)
    arrays = list(eager_arrays(value))
    return change(arrays[0]) if len(arrays) == 1 else value


def reflected(array: Array) -> Array:
    """Exchange the largest value with the smallest and so on; whole numbers by rank, but for those
    of at most two values, which are masks.
    """
    if array.dtype.kind == "f":
        return np.asarray(array.min() + array.max() - array, array.dtype) if array.size else array
    found, ranks = np.unique(array, return_inverse=True)
    if len(found) <= 2:
        return array
    return np.asarray(found[::-1][ranks].reshape(array.shape), array.dtype)


def folded(array: Array, folds: int = FOLDS) -> Array:
    """Fold up the range of values like a strip of paper and stretch it again, so that each value
    is nearly a new draw; whole numbers, masks aside, by rank.
    """
    if array.dtype.kind == "f":
        low, extent = (float(array.min()), float(np.ptp(array))) if array.size else (0.0, 0.0)
        if not extent:
            return array
        position = (array.astype(np.float64) - low) / extent * folds
        return np.asarray(low + extent * np.abs(position - 2 * np.round(position / 2)), array.dtype)
    found, ranks = np.unique(array, return_inverse=True)
    if len(found) <= 2:
        return array
    shift = folds * len(found) // (FOLDS + folds)
    return np.asarray(np.roll(found, shift)[ranks].reshape(array.shape), array.dtype)
