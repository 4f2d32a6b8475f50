"""What both models are given and how each is called, and other inputs of the same range."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy.typing as npt

from ..errors import ConversionError, PredictionError
from ..util.text import bullets
from .outputs import describe
from .redraw import redrawn

Array = npt.NDArray[Any]
Call = Callable[[Any, Any], Any]


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
    def failures_reported(self, *, state: str = "model and files are as they were",
                          remedy: str = "") -> Iterator[None]:
        """Raise what goes wrong inside, where models run, as a PredictionError; pass on other
        refusals of this package.

        Args:
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
        raise PredictionError(f"{message}; {state}{bullets(filter(None, ways))}") from cause

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
        """Return the pair with `count` other inputs of the kind and range of these, which have
        little in common with them and with each other; () when none can be drawn.
        """
        words = ("reflected", *("redrawn",) * count)
        return tuple(
            replace(self, torch_inputs=ours, keras_inputs=theirs,
                    description=f"{word} in the range of that") for word, (ours, theirs) in zip(
                        words,
                        redrawn(self.torch_inputs, self.keras_inputs, count) or (), strict=False))
