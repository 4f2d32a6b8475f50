"""What both models are given: the caller's sample, a picture, or random data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from inspect import Parameter, signature
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import PredictionError
from ..spec.target import Target
from ..util.text import plural
from . import sample as samples
from . import torch_layouts
from .outputs import as_array, describe
from .picture import Image, RescaleMode, Rescaling, load_picture, rescaling

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Inputs:
    """The input of both models: `torch_arguments` positional or, as a dict, by name; `keras_input`
    one object.
    """

    torch_arguments: list[Any] | dict[str, Any]
    keras_input: Any
    words: str
    rescale_mode: str = ""
    classes_mean_something: bool = True
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the caller asked for; see `predict.run_both`."""

    image: Any
    rescale_mode: RescaleMode
    size: tuple[int, int]
    sample: Any
    from_samples: bool


def as_size(input_shape: Sequence[int]) -> tuple[int, int]:
    """Height and width; a number of channels behind them is ignored, as in the classic interface.
    """
    if len(input_shape) < 2:
        raise ValueError(f"input_shape must be (height, width), got {tuple(input_shape)}")
    return int(input_shape[0]), int(input_shape[1])


def inputs_for(torch_module: Any | None, target: Target, wanted: Wanted) -> Inputs | str:
    """The inputs of both models, or the reason why none can be made."""
    if wanted.sample is not None:
        return given_inputs(wanted.sample, target)
    specs = samples.input_specs(target.model)
    if not specs:
        return ("no prediction was made: the Keras model does not say what inputs it takes; "
                "give sample=(torch inputs, Keras inputs)")
    pixels = next((spec for spec in specs if len(spec.shape) >= 4 and not spec.floating), None)
    if pixels is not None:
        return (f"no prediction was made: the Keras model takes pixels of type {pixels.dtype} and "
                "prepares them inside; "
                "give sample=(torch inputs, Keras inputs)")
    if samples.takes_one_picture(specs, target) and not wanted.from_samples:
        return picture_inputs(specs[0], target, wanted)
    return random_data(specs, torch_module, target, wanted)


def given_inputs(sample: Any, target: Target) -> Inputs:
    """The caller's sample for both sides."""
    if isinstance(sample, tuple):
        if len(sample) != 2:
            raise ValueError(
                f"sample as a tuple must be (torch inputs, Keras inputs), got {len(sample)} "
                "entries; "
                "several inputs of one side go in a list")
        for_torch, for_keras = sample
        arguments = (dict(for_torch) if isinstance(for_torch, Mapping) else
                     list(for_torch) if isinstance(for_torch, list) else [for_torch])
        return Inputs(arguments, for_keras, "sample given by the caller")
    if isinstance(sample, (list, Mapping)):
        raise ValueError(
            "sample with several inputs must be a tuple of two: (torch inputs, Keras inputs)")
    array = as_array(sample)
    return Inputs([samples.to_torch_layout(array, None, target)], array,
                  "sample given by the caller")


def picture_inputs(spec: samples.InputSpec, target: Target, wanted: Wanted) -> Inputs:
    """The picture for both models."""
    first = samples.channels_first(spec, target)
    height, width = spec.shape[2:4] if first else spec.shape[1:3]
    height, width = height or wanted.size[0], width or wanted.size[1]
    picture, words = load_picture(wanted.image, (height, width))
    chosen = rescaling_of(target.model, wanted.rescale_mode)
    batch = apply_rescaling(chosen, picture)[None]
    channels_last_first = np.ascontiguousarray(batch.transpose(0, 3, 1, 2))
    keras_input = channels_last_first if first else batch
    if spec.shape[0] not in (None, 1):
        keras_input, channels_last_first = (
            np.repeat(array, spec.shape[0], axis=0) for array in (keras_input, channels_last_first))
    return Inputs([channels_last_first], keras_input, f"{words}, {width} x {height}", chosen.words,
                  notes=chosen.notes)


def apply_rescaling(chosen: Rescaling, picture: Image) -> Image:
    """The rescaled picture; an error of a user's or a model's own function is told apart from one
    of the models.
    """
    try:
        return chosen(picture)
    except Exception as error:
        raise PredictionError(
            f"rescaling the picture by {chosen.words} failed: {describe(error)}") from error


def rescaling_of(model: Any, rescale_mode: RescaleMode) -> Rescaling:
    """The caller's rescaling, else the one that the Keras model carries, else "torch"."""
    if rescale_mode is not None:
        return rescaling(rescale_mode)
    own_mode = getattr(model, "rescale_mode", None)
    own_function = getattr(model, "preprocess_input", None)
    if callable(own_function):
        words = "the Keras model's own preprocess_input" + (f", {own_mode!r}" if isinstance(
            own_mode, str) else "")
        return Rescaling(
            lambda picture: as_channels_last(as_array(own_function(picture[None])), picture), words)
    if own_mode is not None:
        own = rescaling(own_mode)
        return Rescaling(own.function, f"the Keras model's own {own.words}", own.notes)
    return rescaling("torch")


def as_channels_last(batch: Array, picture: Image) -> Array:
    """The picture that a model's own preprocessing gave, without its batch axis, channels last."""
    result = batch[0] if batch.ndim == 4 else batch
    height, width, channels = picture.shape
    return (result.transpose(1, 2, 0) if result.shape == (channels, height, width)
            and result.shape != picture.shape else result)


def random_data(specs: Sequence[samples.InputSpec], torch_module: Any | None, target: Target,
                wanted: Wanted) -> Inputs | str:
    """Random data for both models, or the reason why the torch module cannot be given the Keras
    model's inputs.
    """
    made = _as_inputs(samples.random_inputs(specs, target, wanted.size), specs, torch_module,
                      target, wanted)
    if isinstance(made,
                  str) or torch_module is None or not samples.has_several_tables(specs, target):
        return made
    if not torch_layouts.failure_on(torch_module, made.torch_arguments):
        return made
    fewer = samples.random_inputs(specs, target, wanted.size, in_every_table=True)
    return _as_inputs(fewer, specs, torch_module, target, wanted)


def _as_inputs(arrays: Sequence[Array], specs: Sequence[samples.InputSpec],
               torch_module: Any | None, target: Target, wanted: Wanted) -> Inputs | str:
    names = [spec.name for spec in specs]
    for_torch = {
        spec.name: samples.to_torch_layout(array, spec, target)
        for array, spec in zip(arrays, specs, strict=True)
    }
    arguments: list[Any] | dict[str, Any] = list(for_torch.values())
    notes: list[str] = []
    if torch_module is not None:
        accepted, required = forward_parameters(torch_module)
        if len(specs) > 1 and set(names) <= set(accepted or ()):
            arguments = for_torch
        elif accepted is not None and not required <= len(specs) <= len(accepted):
            return unmatched(names, f"{required} to {len(accepted)} ({', '.join(accepted)})")
        elif len(specs) > 1 and not samples.ordered(target.model):
            return unmatched(names, "inputs of other names")
        elif len(specs) > 1:
            notes.append("the torch module was given the inputs in the Keras model's order: "
                         f"{', '.join(names)}")
        arguments, said = torch_layouts.in_its_layout(torch_module, arguments, arrays)
        notes += said
    if wanted.image is not None:
        notes.append("the image was not used: the model does not take one picture")
    keras_input: Any = arrays[0]
    if len(arrays) > 1:
        # By name only where the model itself goes by names: of inputs without a name Keras 3 knows
        # two, and takes neither.
        keras_input = list(arrays) if samples.ordered(target.model) else dict(
            zip(names, arrays, strict=True))
    shapes = ", ".join(f"{name} {array.shape}" for name, array in zip(names, arrays, strict=True))
    return Inputs(arguments, keras_input, f"random data: {shapes}", classes_mean_something=False,
                  notes=tuple(notes))


def unmatched(names: Sequence[str], taken: str) -> str:
    """Why no inputs can be made for both models."""
    return (f"no prediction was made: the Keras model takes {plural(len(names), 'input')} "
            f"({', '.join(names)}), "
            f"the torch module {taken}; give sample=(torch inputs, Keras inputs)")


def forward_parameters(module: Any) -> tuple[list[str] | None, int]:
    """Names of what a module's forward takes by position, and how many must be given; None when it
    takes any number.
    """
    try:
        parameters = signature(module.forward).parameters.values()
    except (TypeError, ValueError):
        # Scripted modules have no Python signature.
        return None, 0
    if any(parameter.kind is Parameter.VAR_POSITIONAL for parameter in parameters):
        return None, 0
    named = [
        p for p in parameters
        if p.kind in (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)
    ]
    return [parameter.name for parameter in named], sum(
        parameter.default is Parameter.empty for parameter in named)
