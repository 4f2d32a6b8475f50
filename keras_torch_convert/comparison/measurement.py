"""Both models run, with the weights that they have, on the caller's inputs and on others: how far
the outputs are apart, and what rounding explains of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import Any

from ..errors import PredictionError
from ..running.input_pair import InputPair
from ..running.isolation import TorchTwin, twin_of
from ..running.run import run_keras, run_torch
from ..spec.target import Target
from ..util.text import join_names
from .inner_values import with_inner_values
from .outputs import (Arrays, ComparedOutputs, compare_outputs, on_one_scale, relative_change,
                      scale_note)
from .tolerances import TOLERANCES, is_half, narrowest, rounding_bound, visible_bound
from .top_classes import named_top
from .verdict import Comparison, comparison_of, decide

BLOCK = 65_537
SEED = 20240702


@dataclass(frozen=True, slots=True)
class Reference:
    """The torch module as its outputs are compared: a module in half precision runs in float32, so
    that only differences of the models count and not the rounding of its type.

    - `values`: tensors by name with which it computes in place of its own
    - `half`: the name of the half type that the module has, "" for a wider one
    - `dtype`: the torch type of the run, None for the module's own
    - `twin`: a copy of the module with these values in this type
    """

    module: Any
    values: Mapping[str, Any] | None
    half: str
    dtype: Any
    twin: TorchTwin

    def run(self, inputs: InputPair) -> tuple[Arrays, list[str]]:
        """Return the outputs by name, and their types."""
        return run_torch(self.twin, inputs, dtype=self.dtype)

    def noise(self, every: Sequence[InputPair], outputs: Sequence[Arrays],
              dtype: str) -> float | None:
        """Measure the noise floor: how far `outputs`, those of the reference for each input, are
        from those in a half type, or else in float64; None when the module cannot be run so.
        """
        import torch

        other = getattr(torch, dtype if is_half(dtype) else "float64")
        if dtype == self.half:
            # The module's own type, unless the reference runs in it already.
            other = None if self.dtype is not None else torch.float32
        try:
            return max(self._changes(every, outputs, self.values, other), default=None)
        except PredictionError:
            # Models that name a type somewhere inside can be run in that one only. That says
            # nothing about their weights.
            return None

    def _changes(self, every: Sequence[InputPair], outputs: Sequence[Arrays],
                 values: Mapping[str, Any] | None, dtype: Any) -> list[float]:
        """Return how far outputs are from those of another twin, where that can be measured."""
        twin = twin_of(self.module, values, dtype)
        return known_changes((own, run_torch(twin, one, dtype=dtype)[0])
                             for one, own in zip(every, outputs, strict=False))

    def instability(self, every: Sequence[InputPair], outputs: Sequence[Arrays]) -> float | None:
        """Measure how far the outputs move when each weight is changed by about one part in ten
        thousand, at random; None when their shapes depend on it.
        """
        import torch

        # Random numbers cost more than a pass of the model: one block of them, of a length that no
        # row of weights has, is used again and again.
        generator = torch.Generator().manual_seed(SEED)
        block = 1 + torch.randn(BLOCK, generator=generator) * TOLERANCES.perturbation
        values = {**dict(self.module.named_parameters()), **(self.values or {})}
        start = 0
        for name, tensor in values.items():
            if tensor.is_floating_point():
                count = tensor.numel()
                factors = block.roll(-start).repeat(-(-count // BLOCK))[:count]
                dtype = self.dtype or tensor.dtype
                factors = factors.reshape(tensor.shape).to(tensor.device, dtype)
                values[name] = tensor.detach().to(dtype) * factors
                start = (start + count) % BLOCK
        changes = self._changes(every, outputs, values, self.dtype)
        # At chaos most inputs show it, while one may just have hit a switch (an expert chosen).
        return median(changes) if changes else None


def reference_of(module: Any, inputs: InputPair,
                 values: Mapping[str, Any] | None = None) -> Reference:
    """Return the module as it is to be run: one in half precision in float32, if that works."""
    import torch

    dtypes = (str(tensor.dtype).removeprefix("torch.") for tensor in module.parameters())
    half = next(filter(is_half, dtypes), "")
    if half:
        twin = twin_of(module, values, torch.float32)
        wide = Reference(module, values, half, torch.float32, twin)
        try:
            wide.run(inputs)
        except PredictionError:
            pass
        else:
            return wide
    return Reference(module, values, half, None, twin_of(module, values))


def known_changes(pairs: Iterable[tuple[Arrays, Arrays]]) -> list[float]:
    """Return the relative change of each pair of outputs, where it can be measured."""
    changes = [relative_change(one, other) for one, other in pairs]
    return [change for change in changes if change is not None]


def measure(module: Any, target: Target, inputs: InputPair, count: int = 2,
            values: Mapping[str, Any] | None = None, *, disturb: bool = True,
            tolerance: float = TOLERANCES.accepted) -> Comparison:
    """Run both models with the weights that they have now, and compare their outputs.

    Args:
        module: The torch module.
        target: The Keras model.
        inputs: What both are given first.
        count: The number of further inputs of the same kind and range.
        values: Tensors by name with which the torch module computes in place of its own.
        disturb: Run the torch module once more for each input, to see how much the slightest change
            of its weights moves the outputs.
        tolerance: The relative difference that the caller accepts as close.

    Raises:
        PredictionError: One of the models cannot be run.
    """
    reference = reference_of(module, inputs, values)
    first, = _passes(reference, target, (inputs,))
    inner = with_inner_values(reference.run, lambda given: run_keras(target, given), target, inputs,
                              first.scaled, first.compared)
    inputs = inner or inputs
    every = (inputs, *inputs.others(count))
    passes = (_passes(reference, target, every) if inner is not None else
              [first, *_passes(reference, target, every[1:], first.compared.layouts)])
    outputs = [one.torch_outputs for one in passes]
    # As they are compared: a softmax may hide that logits move.
    compared = [one.scaled[0] for one in passes]
    moves = known_changes((compared[0], other) for other in compared[1:])
    side, ends_in = next((one.ends_in for one in passes if one.ends_in[0]), ("", ""))
    notes = [*inputs.notes, *([scale_note(side, ends_in)] if side else [])]
    if reference.twin.shared:
        notes.append("copies of the torch module that were run share with it what cannot be "
                     f"copied: {join_names(reference.twin.shared, 4)}")
    if len(every) == 1 < count + 1:
        notes.append(
            "the models were compared on these inputs alone: no others can be drawn, since "
            "torch's and Keras's do not hold the same values")
    found = comparison_of(
        [one.compared for one in passes], inputs=tuple(one.description for one in every),
        rescale_mode=inputs.rescale_mode, tolerance=tolerance,
        softmax_only_in=side if ends_in == "softmax" else "", sensitivity=max(moves, default=None),
        instability=reference.instability(every, outputs) if disturb else None, notes=notes)
    found = _with_rounding(found, reference, target, every, passes)
    return with_top_classes(found, target, inputs, *passes[0].scaled)


def run_alone(target: Target, inputs: InputPair) -> Comparison:
    """Run the Keras model where only the weights of the torch module are at hand."""
    outputs, _ = run_keras(target, inputs)
    found = Comparison(
        inputs=(inputs.description,), rescale_mode=inputs.rescale_mode,
        reason="there is no torch module to run, only its weights: the Keras model ran alone",
        notes=inputs.notes)
    return with_top_classes(found, target, inputs, {}, outputs)


@dataclass(frozen=True, slots=True)
class _Pass:
    """One input through both models; `scaled` are both outputs with softmax on both or none, as
    `on_one_scale` gives them.
    """

    torch_outputs: Arrays
    scaled: tuple[Arrays, Arrays]
    compared: ComparedOutputs
    ends_in: tuple[str, str]
    torch_types: Sequence[str]
    keras_types: Sequence[str]


def _passes(reference: Reference, target: Target, every: Sequence[InputPair],
            layouts: Mapping[str, tuple[int, ...]] | None = None) -> list[_Pass]:
    passes: list[_Pass] = []
    for inputs in every:
        ours, torch_types = reference.run(inputs)
        theirs, keras_types = run_keras(target, inputs)
        scaled, side = on_one_scale(ours, theirs)
        compared = compare_outputs(*scaled, layouts)
        layouts = layouts or compared.layouts
        passes.append(_Pass(ours, scaled, compared, side, torch_types, keras_types))
    return passes


def _with_rounding(found: Comparison, reference: Reference, target: Target,
                   every: Sequence[InputPair], passes: Sequence[_Pass]) -> Comparison:
    """Return the decided comparison with what rounding explains, from types, depth and noise."""
    # Mixed precision computes in halves and gives float32.
    keras_dtype = narrowest([
        *(name for one in passes for name in one.keras_types),
        str(getattr(target.model, "compute_dtype", ""))
    ])
    torch_types = [name for one in passes for name in one.torch_types]
    dtype = narrowest([*torch_types, keras_dtype, reference.half])
    depth = sum(1 for _ in target.leaves())
    noise = None
    largest = found.relative_diff or 0.0
    if is_half(dtype) or largest > TOLERANCES.clear * rounding_bound(dtype, depth, None):
        # Rounding to a half type differs much from one input to another.
        every = every if is_half(dtype) else every[:1]
        noise = reference.noise(every, [one.torch_outputs for one in passes], dtype)
    rounding = rounding_bound(dtype, depth, noise)
    notes, diagnosed_above = found.notes, rounding
    if noise is not None and not is_half(dtype):
        diagnosed_above = min(rounding, TOLERANCES.times_noise_of_cause * noise)
    if reference.half and reference.dtype is not None:
        notes = (*notes, f"the torch model, in {reference.half}, was run in float32 to compare")
        if not is_half(keras_dtype):
            # Only the values of the weights may have been rounded, or a cause is found.
            diagnosed_above = rounding_bound("float32", depth, None)
    origin = f"{dtype}, {depth} layers with weights"
    origin += "" if noise is None else f", torch's own rounding {noise:.1e}"
    return decide(
        replace(found, rounding=rounding, rounding_from=origin, diagnosed_above=diagnosed_above,
                visible=visible_bound(dtype, found.sensitivity), noise=noise, notes=notes))


def with_top_classes(found: Comparison, target: Target, inputs: InputPair, torch_outputs: Arrays,
                     keras_outputs: Arrays) -> Comparison:
    """Return the comparison with the best classes of both models, where classes mean something."""
    if not inputs.shows_classes:
        return found
    keras_top, notes = named_top(next(iter(keras_outputs.values()), None), target.model)
    # What failed once is not tried again.
    torch_top, _ = named_top(next(iter(torch_outputs.values()), None),
                             None if notes else target.model)
    return replace(found, torch_top=torch_top, keras_top=keras_top, notes=(*found.notes, *notes))
