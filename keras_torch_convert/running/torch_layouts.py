"""In which layout a torch module takes sequences and volumes: with the channels last as Keras does,
or behind the batch axis; with the batch or the steps first.

Nothing but a run tells.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt

from .input_pair import Call
from .isolation import TorchTwin, twin_of
from .outputs import describe
from .run import inference

Array = npt.NDArray[Any]
Arguments = Any  # a list of arrays, or a dict of them by name

# So many inputs may each be laid out in either way.
MOST_INPUTS = 3
# Axes of sequences and volumes. Pictures have one layout in torch, and a run of a large network for
# nothing takes long.
NDIMS = (3, 5)


def in_its_layout(module: Any, call: Call, arguments: Arguments,
                  keras_inputs: Sequence[Array]) -> tuple[Arguments, list[str]]:
    """Return the arguments as `call(module, arguments)` wants them, and notes about what was
    changed of the Keras model's layout.
    """
    arguments, notes = that_runs(module, call, arguments, keras_inputs)
    if takes_batch_for_steps(module, call, arguments) is False:
        return arguments, notes
    turned = _each(
        arguments, lambda array: np.ascontiguousarray(np.swapaxes(array, 0, 1))
        if array.ndim > 1 else array)
    if takes_batch_for_steps(module, call, turned) is not False:
        return arguments, notes
    return turned, [
        *notes,
        "the torch module was given its inputs with the steps before the batch, since its layers "
        "have batch_first=False"
    ]


def fixed_batch(module: Any) -> int | None:
    """Return the one batch size that an exported module takes, None for any other module."""
    if not any(base.__name__ == "GraphModule" for base in type(module).__mro__):
        return None
    values = (node.meta.get("val") for node in module.graph.nodes if node.op == "placeholder")
    shape = getattr(next(values, None), "shape", ())
    return shape[0] if shape and isinstance(shape[0], int) else None


def _each(arguments: Arguments, change: Callable[[Array], Array]) -> Arguments:
    if isinstance(arguments, dict):
        return {name: change(array) for name, array in arguments.items()}
    return [change(array) for array in arguments]


def takes_batch_for_steps(module: Any, call: Call, arguments: Arguments) -> bool | None:
    """Return whether a layer that wants the steps first gets a batch of one there, and the steps
    behind it; None when the module cannot be run, or runs none of these layers on a sequence.
    """
    import torch

    if all(getattr(inner, "batch_first", True) for inner in module.modules()):
        return False
    twin = twin_of(module)
    wanting = {
        id(inner) for inner in twin.module.modules() if not getattr(inner, "batch_first", True)
    }
    shapes: list[tuple[int, ...]] = []

    def note(inner: Any, given: tuple[Any, ...]) -> None:
        if id(inner) in wanting and given and isinstance(given[0],
                                                         torch.Tensor) and given[0].ndim == 3:
            shapes.append(tuple(given[0].shape))

    hook = torch.nn.modules.module.register_module_forward_pre_hook(note)
    try:
        if failure_on(twin, call, arguments) or not shapes:
            return None
    finally:
        hook.remove()
    return any(steps == 1 < batch for steps, batch, _ in shapes)


def that_runs(module: Any, call: Call, arguments: Arguments,
              keras_inputs: Sequence[Array]) -> tuple[Arguments, list[str]]:
    """Return arguments on which the module can be run, with a note when their layout was changed.

    Sequences and volumes (batch, extents, channels) are laid out in another way where the module
    cannot be run on these. The arguments are as they came when it can, when it has none of these
    among its inputs, and when no layout helps.
    """
    names = list(arguments) if isinstance(arguments, dict) else list(range(len(arguments)))
    given = [arguments[name] for name in names]
    movable = [
        index
        for index, array in enumerate(given) if array.ndim in NDIMS and array.dtype.kind == "f"
    ]
    if not 0 < len(movable) <= MOST_INPUTS:
        return arguments, []
    failure = failure_on(module, call, arguments)
    if not failure:
        return arguments, []
    for changed in _changes(movable):
        arrays = list(given)
        for index in changed:
            is_as_in_keras = arrays[index].shape == keras_inputs[index].shape
            arrays[index] = (np.ascontiguousarray(np.moveaxis(keras_inputs[index], -1, 1))
                             if is_as_in_keras else keras_inputs[index])
        other = dict(zip(names, arrays, strict=True)) if isinstance(arguments, dict) else arrays
        if not failure_on(module, call, other):
            shapes = ", ".join(str(arrays[index].shape) for index in changed)
            return other, [
                f"the torch module was given inputs of {shapes}: it cannot be run on the other "
                f"layout ({failure})"
            ]
    return arguments, []


def _changes(movable: Sequence[int]) -> Iterator[list[int]]:
    """Yield which of the inputs to lay out in the other way: every choice but none, few before
    many.
    """
    choices = sorted(product((False, True), repeat=len(movable)), key=sum)
    for choice in choices[1:]:
        yield [index for index, is_chosen in zip(movable, choice, strict=True) if is_chosen]


def failure_on(module: Any, call: Call, arguments: Arguments) -> str:
    """Say why a module, or a twin of one, cannot be run on arrays; "" when it can."""
    twin = (module if isinstance(module, TorchTwin) else twin_of(module)).module
    with inference(twin):
        try:
            call(twin, arguments)
        except Exception as error:
            return describe(error)
    return ""
