"""How both models are run while aligning and judging: on the caller's sample, on inputs from the
Keras model's specs, on a second input.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import AlignmentError, ConversionError, PredictionError
from ..spec.target import Target
from .keras_values import eager_arrays
from .outputs import describe
from .picture_inputs import Wanted, inputs_for
from .run import as_tensors, call_torch

Call = Callable[[Any, Any], Any]


@dataclass(frozen=True, slots=True)
class Runs:
    """Both models' inputs and the way in which each is called."""

    torch_inputs: Any
    keras_inputs: Any
    torch_call: Call
    keras_call: Call
    words: str
    notes: tuple[str, ...] = ()

    @contextmanager
    def failures_told(self, report: object = None, otherwise: str = "") -> Iterator[None]:
        """What goes wrong inside, where the models run, is raised as a PredictionError with
        `report`; our own refusals pass as they are.

        `otherwise` is what else the caller can do.
        """
        try:
            yield
        except ConversionError:
            raise
        except Exception as error:
            raise PredictionError(
                f"one of the two models failed on {self.words}: {describe(error)}; model and "
                "files are as they were; give inputs that both take as "
                "sample=(torch inputs, Keras inputs), or say how they are run (torch_call=, "
                f"keras_call=){otherwise}", report) from error

    def others(self, count: int = 2) -> tuple[Runs, ...]:
        """The same with `count` other inputs in the range of these, which have little in common
        with them and with each other.
        """
        changes: tuple[Change, ...] = (
            reflected, *(partial(folded, folds=FOLDS + 2 * number) for number in range(count - 1)))
        return tuple(
            replace(self, torch_inputs=changed(self.torch_inputs, change), keras_inputs=changed(
                self.keras_inputs, change),
                    words=f"{'reflected' if number == 0 else 'redrawn'} in the range of that")
            for number, change in enumerate(changes[:count]))


def runs_for(module: Any, target: Target, sample: Any, torch_call: Call | None,
             keras_call: Call | None) -> Runs:
    """The inputs and calls for a pair of models; see `convert` for what `sample` may be.

    Raises AlignmentError when there is no sample and none can be made.
    """
    notes: tuple[str, ...] = ()
    if isinstance(sample, tuple) and len(sample) == 2 and torch_call is not None:
        torch_inputs, keras_inputs, words = *sample, "sample given by the caller"
    else:
        wanted = Wanted(None, None, (224, 224), sample, True)
        made = inputs_for(module, target, wanted)
        if isinstance(made, str):
            raise AlignmentError(f"the models cannot be run: {made}")
        torch_inputs, keras_inputs, words = made.torch_arguments, made.keras_input, made.words
        notes = made.notes
        if torch_call is not None:
            torch_inputs = as_tensors(torch_inputs, module)
            if isinstance(torch_inputs, list) and len(torch_inputs) == 1:
                torch_inputs = torch_inputs[0]
    return Runs(torch_inputs, keras_inputs, torch_call or call_torch, keras_call or call_keras,
                words, notes)


def call_keras(model: Any, inputs: Any) -> Any:
    """The Keras model in inference mode."""
    return model(inputs, training=False)


Change = Callable[[npt.NDArray[Any]], npt.NDArray[Any]]

# How often the range of values is folded up: neighboring values come far apart, and rounding grows
# by as much.
FOLDS = 37


def changed(value: Any, change: Change) -> Any:
    """Every array of a structure changed value by value, within the range of its own values.

    Done to the inputs of both models it keeps them the same picture, also when one of them is laid
    out or scaled in another way.
    """
    if isinstance(value, Mapping):
        return {name: changed(item, change) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(changed(item, change) for item in value)
    if hasattr(value, "detach"):
        import torch

        return torch.from_numpy(change(value.detach().cpu().numpy())).to(value.device)
    arrays = list(eager_arrays(value))
    return change(arrays[0]) if len(arrays) == 1 else value


def reflected(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The largest value for the smallest and so on; whole numbers by rank, but for those of at most
    two values, which are masks.
    """
    if array.dtype.kind == "f":
        return np.asarray(array.min() + array.max() - array, array.dtype) if array.size else array
    found, ranks = np.unique(array, return_inverse=True)
    if len(found) <= 2:
        return array
    return np.asarray(found[::-1][ranks].reshape(array.shape), array.dtype)


def folded(array: npt.NDArray[Any], folds: int = FOLDS) -> npt.NDArray[Any]:
    """The range of values folded up like a strip of paper and stretched again, so that each value
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
    return np.asarray(
        np.roll(found,
                folds * len(found) // (FOLDS + folds))[ranks].reshape(array.shape), array.dtype)


def doubled(value: Any) -> Any:
    """The same inputs with every floating-point array in float64."""
    if isinstance(value, Mapping):
        return {name: doubled(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(doubled(item) for item in value)
    if hasattr(value, "detach"):
        return value.double() if value.is_floating_point() else value
    return value.astype(
        np.float64) if hasattr(value, "dtype") and np.asarray(value).dtype.kind == "f" else value
