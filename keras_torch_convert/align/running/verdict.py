"""Whether two models are equal, judged on inputs that alignment never saw, against what the pair itself allows to be told.

The noise floor is how far torch in float32 is from torch in float64; the sensitivity how far the output moves from one input to
another. A difference below the noise cannot speak against equality, and an output that hardly moves cannot speak for it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ...read.target import Target
from ...verify.compare import OutputComparison, compare_outputs
from ...verify.outputs import outputs_of
from ...verify.predict import same_scale
from ...verify.running import evaluating, gradients_off, python_generators_kept
from .inputs import Runs, doubled

Arrays = list[npt.NDArray[Any]]

# Rounding that differs between the frameworks grows through a network like the rounding of torch itself; a few times that is the
# same answer. Between that and EQUAL_BELOW lie twins that approximate an activation; a wrong weight was never seen below it.
TIMES_NOISE = 20
ROUNDING_BELOW = 1e-4
EQUAL_BELOW = 1e-3
PART_OF_SENSITIVITY = 0.02
CHAOS = 0.1


@dataclass(frozen=True, slots=True)
class Verdict:
    """The comparison on all inputs and what it was judged by; `equal` is None when it cannot be decided at these inputs."""

    equal: bool | None
    max_abs_diff: float | None
    relative_diff: float | None
    threshold: float
    noise: float | None
    sensitivity: float | None
    notes: tuple[str, ...]


def judge(module: Any, target: Target, runs: Runs) -> Verdict:
    """Run both models, with the weights that they have now, on the inputs of `runs` and on others that alignment never saw."""
    judged = (runs, *runs.others())
    torch_outputs = [run_torch(module, inputs) for inputs in judged]
    comparisons = []
    for outputs, inputs in zip(torch_outputs, judged, strict=True):
        ours, theirs, _ = same_scale(outputs, run_keras(target, inputs))
        comparisons.append(compare_outputs(ours, theirs))
    floors = [noise_floor(module, inputs, outputs) for inputs, outputs in zip(judged, torch_outputs, strict=True)]
    changes = [relative_change(torch_outputs[0], other) for other in torch_outputs[1:]]
    return verdict_of(comparisons, largest_known(floors), largest_known(changes))


def largest_known(values: list[float | None]) -> float | None:
    """The largest of the values that could be measured, None when none could."""
    return max((value for value in values if value is not None), default=None)


def verdict_of(comparisons: list[OutputComparison], noise: float | None, sensitivity: float | None) -> Verdict:
    """The verdict that follows from the comparisons on all inputs, the noise floor and the sensitivity."""
    notes = tuple(dict.fromkeys(note for comparison in comparisons for note in comparison.notes))
    relative = [comparison.relative_diff for comparison in comparisons]
    absolute = [comparison.max_abs_diff for comparison in comparisons]
    rounding = max(ROUNDING_BELOW, TIMES_NOISE * (noise or 0.0))
    threshold = EQUAL_BELOW
    allowed = max(threshold, rounding)
    if sensitivity is not None:
        threshold = min(threshold, PART_OF_SENSITIVITY * sensitivity)
    largest = None if None in relative else max(value for value in relative if value is not None)
    equal: bool | None
    if largest is None:
        equal = False if any(comparison.equal is False for comparison in comparisons) else None
    elif noise is not None and noise > CHAOS:
        equal = None
        notes += (f"cannot be decided at this input: torch itself differs by {noise:.1e} between float32 and float64",)
    elif largest <= threshold:
        equal = True if all(comparison.relative_diff is not None for comparison in comparisons) else None
        if largest > rounding:
            notes += (
                f"the outputs differ by {largest:.1e}, more than rounding explains: the models compute a little differently "
                "(an approximated activation, an epsilon), which no weight can mend",
            )
    elif largest <= allowed:
        equal = None
        why = (
            f"the output moves by only {sensitivity:.1e} from one input to another"
            if sensitivity is not None and PART_OF_SENSITIVITY * sensitivity < largest
            else f"torch itself differs by {noise or 0.0:.1e} between float32 and float64"
        )
        notes += (f"cannot be decided at this input: the outputs differ by {largest:.1e}, and {why}",)
    else:
        equal = False
    if noise is not None and sensitivity is not None:
        notes += (f"noise floor of the torch model {noise:.1e}, sensitivity of its output {sensitivity:.1e}",)
    biggest = None if None in absolute else max(value for value in absolute if value is not None)
    return Verdict(equal, biggest, largest, threshold, noise, sensitivity, notes)


def run_torch(module: Any, runs: Runs) -> Arrays:
    """Outputs of the torch module in eval mode; it is left as it was."""
    import torch

    with evaluating(module), torch.no_grad(), torch.random.fork_rng(devices=[]), python_generators_kept():
        return outputs_of(runs.torch_call(module, runs.torch_inputs))[0]


def run_keras(target: Target, runs: Runs) -> Arrays:
    """Outputs of the Keras model in inference mode."""
    with gradients_off(target), python_generators_kept():
        return outputs_of(runs.keras_call(target.model, runs.keras_inputs))[0]


def noise_floor(module: Any, runs: Runs, outputs: Arrays) -> float | None:
    """How far torch's outputs are from those in float64; None when the module cannot be run in float64."""
    import torch

    values = {
        name: tensor.detach().double() if tensor.is_floating_point() else tensor.detach().clone()
        for name, tensor in (*module.named_parameters(), *module.named_buffers())
    }

    class Caller(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = module

        def forward(self) -> Any:
            return runs.torch_call(self.inner, doubled(runs.torch_inputs))

    with evaluating(module), torch.no_grad(), torch.random.fork_rng(devices=[]), python_generators_kept():
        try:
            result = torch.func.functional_call(
                Caller(), {f"inner.{name}": value for name, value in values.items()}, ()
            )
        except (RuntimeError, TypeError, ValueError, NotImplementedError):
            # Models that name float32 somewhere inside cannot be run in float64. That says nothing about their weights.
            return None
    return relative_change(outputs, outputs_of(result)[0])


def relative_change(first: Arrays, second: Arrays) -> float | None:
    """Largest difference of two lists of outputs relative to the largest output; None when their shapes differ."""
    if [array.shape for array in first] != [array.shape for array in second] or not first:
        return None
    changes = [0.0]
    for one, two in zip(first, second, strict=True):
        wide = two.astype(np.float64)
        scale = max(float(np.abs(wide).max(initial=0.0)), 1e-30)
        changes.append(float(np.abs(one - wide).max(initial=0.0)) / scale)
    return max(changes)
