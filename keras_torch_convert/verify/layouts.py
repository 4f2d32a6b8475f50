"""In which layout a torch module takes sequences: with the channels last as Keras does, or behind the batch axis. Nothing but a run tells."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt

from .running import evaluating, python_generators_kept

Array = npt.NDArray[Any]
Arguments = Any  # a list of arrays, or a dict of them by name

# So many sequences may each be laid out in either way.
MOST_SEQUENCES = 3


def that_runs(module: Any, arguments: Arguments, keras_inputs: Sequence[Array]) -> tuple[Arguments, list[str]]:
    """The arguments, with sequences (batch, steps, channels) in another layout where the module cannot be run on these; a note about what was changed.

    They are as they came when the module can be run, when it has no sequences among its inputs, and when no layout helps.
    """
    names = list(arguments) if isinstance(arguments, dict) else list(range(len(arguments)))
    given = [arguments[name] for name in names]
    sequences = [index for index, array in enumerate(given) if array.ndim == 3 and array.dtype.kind == "f"]
    if not 0 < len(sequences) <= MOST_SEQUENCES or runs_on(module, arguments):
        return arguments, []
    for changed in _changes(sequences):
        arrays = list(given)
        for index in changed:
            is_as_in_keras = arrays[index].shape == keras_inputs[index].shape
            arrays[index] = (
                np.ascontiguousarray(np.moveaxis(keras_inputs[index], -1, 1)) if is_as_in_keras else keras_inputs[index]
            )
        other = dict(zip(names, arrays, strict=True)) if isinstance(arguments, dict) else arrays
        if runs_on(module, other):
            shapes = ", ".join(str(arrays[index].shape) for index in changed)
            return other, [f"the torch module was given sequences as {shapes}: it cannot be run on the other layout"]
    return arguments, []


def _changes(sequences: Sequence[int]) -> Iterator[list[int]]:
    """Which of the sequences to lay out in the other way: every choice but none, few before many."""
    choices = sorted(product((False, True), repeat=len(sequences)), key=sum)
    for choice in choices[1:]:
        yield [index for index, is_chosen in zip(sequences, choice, strict=True) if is_chosen]


def runs_on(module: Any, arguments: Arguments) -> bool:
    """Whether a module can be run on arrays at all. It is left as it was."""
    import torch

    from ..align.running.inputs import call_torch

    with evaluating(module), torch.no_grad(), torch.random.fork_rng(devices=[]), python_generators_kept():
        try:
            call_torch(module, arguments)
        except Exception:  # the caller runs the module again and tells what it says
            return False
    return True
