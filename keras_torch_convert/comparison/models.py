"""Both models run, with the weights that they have, on the caller's inputs and on others: what
comes out, judged.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ..errors import PredictionError
from ..running.run import run_keras, run_torch
from ..spec.target import Target
from .prediction import SOFTMAX_NOTE, same_scale
from .tolerances import narrowest
from .verdict import Comparison, decide, pairwise, rounding_of, threshold_of

if TYPE_CHECKING:
    from ..running.input_pair import InputPair

Arrays = dict[str, npt.NDArray[Any]]

# The noise floor costs a pass in float64: it is measured only where outputs are further apart than
# this part of what rounding explains.
CLEARLY_EQUAL = 0.1
# A thousand roundings of float32. Ordinary networks move by a few times as much; those that move as
# far as from one input to another do so by rounding alone at some inputs, though most show nothing
# of it.
DISTURBANCE = 10_000
BLOCK = 65_537
SEED = 20240702


def compare_on_inputs(module: Any, target: Target, inputs: InputPair, count: int = 2,
                      values: Mapping[str, Any] | None = None, *,
                      disturb: bool = True) -> Comparison:
    """Run both models, with the weights that they have now, on `inputs` and on `count`
    others of the same kind and range.

    `values` are tensors by name that the torch module is to compute with in place of its own. With
    `disturb` the torch module runs once more for each input, to see how much the slightest change
    of its weights moves the outputs.
    """
    compared, torch_outputs, types = [], [], []
    layouts: dict[str, tuple[int, ...]] = {}
    every = (inputs, *inputs.others(count))
    notes: list[str] = []
    for one in every:
        ours, torch_types = run_torch(module, one, values)
        theirs, keras_types = run_keras(target, one)
        types += [*torch_types, *keras_types, str(getattr(target.model, "compute_dtype", ""))]
        torch_outputs.append(ours)
        ours, theirs, said = on_one_scale(ours, theirs)
        notes += said
        found = pairwise(ours, theirs, threshold_of(narrowest(types)), layouts)
        layouts = layouts or {
            output.keras_name: output.layout for output in found[0] if output.layout
        }
        compared.append(found)
    precision, depth = narrowest(types), sum(1 for _ in target.leaves())
    largest = max((output.relative_diff or 0.0 for outputs, _, _ in compared for output in outputs),
                  default=0.0)
    noise = None
    if largest > CLEARLY_EQUAL * rounding_of(precision, depth, None):
        noise = noise_floor(module, inputs, torch_outputs[0], values)
    changes = [relative_change(torch_outputs[0], other) for other in torch_outputs[1:]]
    sensitivity = max((change for change in changes if change is not None), default=None)
    moved = [
        perturbation_sensitivity(module, one, outputs, values)
        for one, outputs in zip(every, torch_outputs, strict=True) if disturb
    ]
    result = decide(compared, precision, depth, noise, sensitivity, instability_of(moved))
    return replace(result, inputs=tuple(one.description for one in every),
                   softmax_only_in=side_with_softmax(notes),
                   notes=tuple(dict.fromkeys((*notes, *inputs.notes, *result.notes))))


def on_one_scale(torch_outputs: Arrays, keras_outputs: Arrays) -> tuple[Arrays, Arrays, list[str]]:
    """Both as probabilities when one model ends in a softmax and the other in logits, and a note
    that says so.
    """
    ours, theirs, notes = same_scale(list(torch_outputs.values()), list(keras_outputs.values()))
    return (dict(zip(torch_outputs, ours,
                     strict=True)), dict(zip(keras_outputs, theirs, strict=True)), notes)


def side_with_softmax(notes: Sequence[str]) -> str:
    """Which model alone ends in a softmax, "" when none does."""
    sides = {
        SOFTMAX_NOTE.format(one, other): one
        for one, other in (("torch", "Keras"), ("Keras", "torch"))
    }
    return next((sides[note] for note in notes if note in sides), "")


def noise_floor(module: Any, inputs: InputPair, outputs: Arrays,
                values: Mapping[str, Any] | None = None) -> float | None:
    """How far torch's outputs are from those in float64; None when the module cannot be run in
    float64.
    """
    import torch

    try:
        wide, _ = run_torch(module, inputs, values, torch.float64)
    except PredictionError:
        # Models that name float32 somewhere inside cannot be run in float64. That says nothing
        # about their weights.
        return None
    return relative_change(outputs, wide)


def perturbation_sensitivity(module: Any, inputs: InputPair, outputs: Arrays,
                             values: Mapping[str, Any] | None = None) -> float | None:
    """How far torch's outputs move when each of its weights is changed by about one part in
    DISTURBANCE, at random; None when not measured.
    """
    import torch

    # Random numbers cost more than a pass of the model: one block of them, of a length that no row
    # of weights has, is used again and again.
    block = 1 + torch.randn(BLOCK, generator=torch.Generator().manual_seed(SEED)) / DISTURBANCE
    disturbed = dict(values or {})
    start = 0
    for name, tensor in {**dict(module.named_parameters()), **(values or {})}.items():
        if tensor.is_floating_point():
            count = tensor.numel()
            factors = block.roll(-start).repeat(-(-count // BLOCK))[:count].reshape(tensor.shape)
            disturbed[name] = tensor.detach() * factors.to(tensor.device, tensor.dtype)
            start = (start + count) % BLOCK
    return relative_change(outputs, run_torch(module, inputs, disturbed)[0])


def instability_of(changes: Sequence[float | None]) -> float | None:
    """The median of what could be measured: at chaos most inputs show it, while one may just have
    hit a switch (an expert chosen).
    """
    known = [change for change in changes if change is not None]
    return median(known) if known else None


def relative_change(first: Arrays, second: Arrays) -> float | None:
    """Largest difference of two sets of outputs relative to the largest output; None when their
    shapes differ.
    """
    if {name: array.shape for name, array in first.items()
       } != {name: array.shape for name, array in second.items()}:
        return None
    changes = []
    for name, one in first.items():
        wide = second[name].astype(np.float64)
        scale = max(float(np.abs(wide).max(initial=0.0)), 1e-30)
        changes.append(float(np.abs(one - wide).max(initial=0.0)) / scale)
    return max(changes, default=None)
