"""Compare with random norm statistics, biases and scales in both models, so that a swap that
identity norms hide shows.

Fresh and barely trained norms are the identity, biases are zero and layer scales 1e-6: weights of
equal shape may then change places and no output tells. Here copies of torch's values are made
random, and what the Plan makes of them is what the Keras model computes with. The torch module is
never written to, a Keras 3 model is run statelessly, and a Keras 2 model is put back bit for bit,
whatever happens.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy.typing as npt

from ..plan.executor import check_plan
from ..plan.expressions import tensors_of
from ..plan.plan import Plan
from ..running.keras_calls import run_keras_calls
from ..running.outputs import named_outputs
from ..running.randomize import draw_values
from ..running.run import run_keras
from ..spec.source import Source
from ..spec.target import Target, TargetLayer
from ..torch_io.live_tensor import live_tensor
from .measurement import measure
from .outputs import relative_change
from .tolerances import TOLERANCES
from .verdict import Comparison

if TYPE_CHECKING:
    from ..running.input_pair import InputPair

SEED = 20240617
# Swaps are tried out, a pass of the Keras model each; pairs beyond this many are not.
MOST_SWAPS = 8


def random_values(module: Any, plan: Plan) -> dict[str, Any]:
    """Draw a new tensor, by name, for every norm statistic, bias, gain and scale of a Plan.

    Those are the floating-point tensors with at most one axis longer than 1; tied ones share one.
    Gains and scales lie between 0.5 and 1.5; biases and means are small against what they are added
    to; variances are the old ones times 0.6 to 1.4.
    """
    import torch

    generator = torch.Generator().manual_seed(SEED)
    carried = {
        name for assignment in plan.assignments for name in tensors_of(assignment.expression)
    }
    buffers = dict(module.named_buffers(remove_duplicate=False))
    named = (*module.named_parameters(remove_duplicate=False), *buffers.items())

    def draw(name: str, tensor: Any) -> Any:
        owner, _, last = name.rpartition(".")
        variance = buffers.get(f"{owner}.running_var".lstrip("."))
        return _random_value(last, tensor.detach(), variance, generator)

    return draw_values(
        ((name, tensor)
         for name, tensor in named if name in carried and tensor.is_floating_point() and sum(
             extent > 1 for extent in tensor.shape) <= 1), draw)


def _random_value(last: str, tensor: Any, variance: Any, generator: Any) -> Any:
    import torch

    noise = torch.randn(tensor.shape, generator=generator).to(tensor.device)
    uniform = torch.rand(tensor.shape, generator=generator).to(tensor.device)
    if last == "running_mean" and variance is not None:
        value = tensor + 0.2 * variance.sqrt() * noise
    elif last == "running_var":
        value = tensor * (0.6 + 0.8 * uniform)
    elif "bias" in last or "beta" in last or "mean" in last:
        value = 0.1 * noise
    else:
        value = 0.5 + uniform
    return value.to(tensor.dtype)


def compare_randomized(module: Any, target: Target, inputs: InputPair, plan: Plan,
                       source: Source) -> tuple[Comparison, tuple[tuple[str, str], ...]]:
    """Compare both models with random values in the places of norms, biases and scales.

    Returns:
        The comparison, and the pairs of Keras layers whose swap it would not show.

    Raises:
        TransferError: The Plan does not belong to these models.
    """
    from ..running.keras_values import trial_values

    values = random_values(module, plan)
    tensors = {
        name: live_tensor(name, values[name], source.origin) or tensor if name in values else tensor
        for name, tensor in source.items()
    }
    prepared = check_plan(plan, replace(source, tensors=tensors), target, strict=False)
    with trial_values(target) as set_value:
        held: dict[str, npt.NDArray[Any]] = {}
        for variable, array in prepared.arrays():
            set_value(variable, array)
            held[variable.key] = array
        # Whether anything can be decided about this pair its own values have shown.
        comparison = measure(module, target, inputs, count=0, values=values, disturb=False)
        if comparison.verdict not in ("equal", "close"):
            return comparison, ()
        swaps, untried = unnoticed_swaps(target, inputs, held, set_value)
    if untried:
        note = (f"{untried} more pairs of layers that get the same input were not swapped to see "
                "whether that shows")
        comparison = replace(comparison, notes=(*comparison.notes, note))
    return comparison, swaps


def unnoticed_swaps(target: Target, inputs: InputPair, held: dict[str, npt.NDArray[Any]],
                    set_value: Callable[..., None]) -> tuple[tuple[tuple[str, str], ...], int]:
    """Find pairs of layers that can exchange their weights without any output showing it.

    Only layers of one class and shape that get the same input can be: each pair is swapped, in the
    trial values, and the model run. Of layers that these inputs never reach none can be told from
    another.

    Returns:
        The pairs, and the number of pairs that were not tried.
    """
    found_outputs: list[Any] = []

    def keras_call(model: Any, given: Any) -> Any:
        found_outputs.append(inputs.keras_call(model, given))
        return found_outputs[0]

    with inputs.blamed("the Keras model"):
        calls = run_keras_calls(target, keras_call, inputs.keras_inputs).calls
    outputs, _ = named_outputs(found_outputs[0])
    called: dict[str, tuple[Any, ...]] = {}
    for call in calls:
        keys = tuple(tuple(round(value, 6) for value in key) for key in call.inputs)
        called.setdefault(call.leaf.display_name if call.leaf else "", keys)
    alike: dict[Any, list[TargetLayer]] = {}
    for leaf in target.leaves():
        shapes = tuple(variable.shape for variable in leaf.variables)
        alike.setdefault((leaf.class_name, shapes, called.get(leaf.display_name)), []).append(leaf)
    pairs = [pair for leaves in alike.values() for pair in combinations(leaves, 2)]
    found = []
    for one, other in pairs[:MOST_SWAPS]:
        variables = list(zip(one.variables, other.variables, strict=True))
        if not all(variable.key in held for pair in variables for variable in pair):
            continue
        for first, second in variables:
            set_value(first, held[second.key])
            set_value(second, held[first.key])
        swapped, _ = run_keras(target, inputs)
        for variable in (*one.variables, *other.variables):
            set_value(variable, held[variable.key])
        if (relative_change(swapped, outputs) or 0.0) < TOLERANCES.swap:
            found.append((one.display_name, other.display_name))
    return tuple(found), max(0, len(pairs) - MOST_SWAPS)
