"""The inputs of both models: the caller's sample, a picture, or random data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from inspect import Parameter, signature
from typing import Any

import numpy as np

from ..errors import AlignmentError, PredictionError
from ..spec.target import Target
from ..util.text import join_names, plural
from . import torch_layouts
from .input_pair import Array, Call, InputPair
from .input_specs import (InputSpec, channels_first, has_several_tables, input_specs, ordered,
                          padding_ids, random_inputs, takes_one_picture, to_torch_layout)
from .outputs import as_array, describe
from .picture import Image, RescaleMode, Rescaling, load_picture, rescaling
from .run import as_given_or_tensors, call_keras, call_torch, with_tensors

REMEDY = "give sample=(torch inputs, Keras inputs)"


@dataclass(frozen=True, slots=True)
class InputRequest:
    """What a caller says about the inputs.

    - `sample`: one array in the Keras layout, or (torch inputs, Keras inputs), where several inputs
      of a side go in a list or dict; overrides all that follows
    - `torch_call`, `keras_call`: `call(model, inputs)` runs the model
    - `picture`: whether a Keras model of one picture gets one: `image` (see `load_picture`), in the
      model's own size or, where that is open, in `input_shape` (height, width, in pixels), rescaled
      by `rescale_mode` (see `rescaling`; None: as the Keras model says, else "torch"). Every other
      model gets random data
    """

    sample: Any = None
    torch_call: Call | None = None
    keras_call: Call | None = None
    picture: bool = False
    image: Any = None
    rescale_mode: RescaleMode = None
    input_shape: Sequence[int] = (224, 224)

    def __post_init__(self) -> None:
        if len(self.input_shape) < 2:
            raise ValueError(f"input_shape must be (height, width), got {tuple(self.input_shape)}")

    @property
    def size(self) -> tuple[int, int]:
        """Height and width; a number of channels behind them is ignored."""
        return int(self.input_shape[0]), int(self.input_shape[1])


def input_pair(module: Any | None, target: Target, request: InputRequest) -> InputPair:
    """Make the inputs of both models.

    Args:
        module: The torch module, None when only its weights are at hand.
        target: The Keras model.
        request: What the caller says about the inputs.

    Raises:
        AlignmentError: There is no sample, and none can be made.
        PredictionError: The picture cannot be read or rescaled.
    """
    sample = request.sample
    pair = (_made_inputs(module, target, request) if sample is None else _given_inputs(
        sample, target))
    if request.keras_call is None:
        _check_names(pair.keras_inputs, target)
    if request.torch_call is not None:
        if isinstance(sample, tuple):
            arguments, call = sample[0], as_given_or_tensors(request.torch_call)
        else:
            arguments, call = _unlisted(pair.torch_inputs), with_tensors(request.torch_call)
        pair = replace(pair, torch_inputs=arguments, torch_call=call)
    return pair if request.keras_call is None else replace(pair, keras_call=request.keras_call)


def _pair(torch_inputs: Any, keras_inputs: Any, description: str, **more: Any) -> InputPair:
    """Return inputs for models that are called as usual: torch's are a list of arguments, or a dict
    of them by name.
    """
    return InputPair(torch_inputs, keras_inputs, call_torch, call_keras, description, **more)


def _unlisted(arguments: Any) -> Any:
    """Return what a caller's own call gets: one argument as it is, several as a list or dict."""
    return arguments[0] if isinstance(arguments, list) and len(arguments) == 1 else arguments


def _refusal(reason: str) -> AlignmentError:
    return AlignmentError(f"the models cannot be run: {reason}; {REMEDY}")


def _given_inputs(sample: Any, target: Target) -> InputPair:
    """Return the caller's sample for both sides."""
    description = "sample given by the caller"
    if isinstance(sample, tuple):
        if len(sample) != 2:
            raise ValueError(
                f"sample as a tuple must be (torch inputs, Keras inputs), got {len(sample)} "
                "entries; several inputs of one side go in a list or tuple of their own")
        for_torch, for_keras = sample
        arguments = (dict(for_torch) if isinstance(for_torch, Mapping) else
                     list(for_torch) if isinstance(for_torch, (list, tuple)) else [for_torch])
        return _pair(arguments, for_keras, description)
    if isinstance(sample, (list, Mapping)):
        raise ValueError(
            "sample with several inputs must be a tuple of two: (torch inputs, Keras inputs)")
    array = as_array(sample)
    return _pair([to_torch_layout(array, None, target)], array, description)


def _check_names(given: Any, target: Target) -> None:
    """Raise ValueError for names that a Keras model lacks: with them Keras takes all by position.
    """
    own = getattr(target.model, "input", None)
    if not (isinstance(given, Mapping) and isinstance(own, Mapping)):
        return
    others = sorted(given.keys() - own.keys())
    if others:
        raise ValueError(f"sample has {join_names(others, quoted=True)} for Keras, which model "
                         f"{target.name!r} does not take: it takes "
                         f"{join_names(sorted(own), quoted=True)}")


def _made_inputs(module: Any | None, target: Target, request: InputRequest) -> InputPair:
    """Return a picture or random data, as the Keras model's input specs say."""
    specs = input_specs(target.model)
    if not specs:
        raise _refusal("the Keras model does not say what inputs it takes")
    batch = torch_layouts.fixed_batch(module)
    specs = tuple(
        replace(spec, shape=(batch, *spec.shape[1:])) if spec.shape[:1] == (None,) else spec
        for spec in specs)
    pixels = next((spec for spec in specs if len(spec.shape) >= 4 and not spec.floating), None)
    if pixels is not None:
        raise _refusal(f"the Keras model takes pixels of type {pixels.dtype} and prepares them "
                       "inside")
    if request.picture and takes_one_picture(specs, target):
        return _picture_inputs(specs[0], target, request)
    return _random_data(specs, module, target, request)


def _picture_inputs(spec: InputSpec, target: Target, request: InputRequest) -> InputPair:
    """Return the picture for both models."""
    first = channels_first(spec, target)
    height, width = spec.shape[2:4] if first else spec.shape[1:3]
    height, width = height or request.size[0], width or request.size[1]
    picture, words = load_picture(request.image, (height, width))
    chosen = _rescaling_of(target.model, request.rescale_mode)
    try:
        batch = chosen(picture)[None]
    except Exception as error:
        # A user's or a model's own function: no failure of one of the models.
        raise PredictionError(
            f"rescaling the picture by {chosen.words} failed: {describe(error)}") from error
    batch = np.repeat(batch, spec.shape[0] or 1, axis=0)
    moved = np.ascontiguousarray(batch.transpose(0, 3, 1, 2))
    return _pair([moved], moved if first else batch, f"{words}, {width} x {height}",
                 rescale_mode=chosen.words, notes=chosen.notes)


def _rescaling_of(model: Any, rescale_mode: RescaleMode) -> Rescaling:
    """Return the caller's rescaling, else the one that the Keras model carries, else "torch"."""
    if rescale_mode is not None:
        return rescaling(rescale_mode)
    own_mode = getattr(model, "rescale_mode", None)
    own_function = getattr(model, "preprocess_input", None)
    if callable(own_function):
        mode = f", {own_mode!r}" if isinstance(own_mode, str) else ""
        return Rescaling(
            lambda picture: _as_channels_last(as_array(own_function(picture[None])), picture),
            f"the Keras model's own preprocess_input{mode}")
    if own_mode is not None:
        own = rescaling(own_mode)
        return replace(own, words=f"the Keras model's own {own.words}")
    return rescaling("torch")


def _as_channels_last(batch: Array, picture: Image) -> Array:
    """Return the picture that a model's own preprocessing gave, without its batch axis, channels
    last.
    """
    result = batch[0] if batch.ndim == 4 else batch
    height, width, channels = picture.shape
    is_first = result.shape == (channels, height, width) and result.shape != picture.shape
    return result.transpose(1, 2, 0) if is_first else result


def _random_data(specs: Sequence[InputSpec], module: Any | None, target: Target,
                 request: InputRequest) -> InputPair:
    """Return random data for both models; AlignmentError when the torch module cannot be given the
    Keras model's inputs.
    """
    padding = padding_ids(module, target)
    arrays = random_inputs(specs, module, target, request.size, padding=padding)
    call: Call = call_torch
    if request.torch_call is not None:
        own_call = with_tensors(request.torch_call)
        call = lambda module, arguments: own_call(module, _unlisted(arguments))  # noqa: E731

    arguments, notes = _torch_arguments(arrays, specs, module, target, call)
    if module is not None and has_several_tables(
            specs, module, target) and torch_layouts.failure_on(module, call, arguments):
        arrays = random_inputs(specs, module, target, request.size, in_every_table=True,
                               padding=padding)
        arguments, notes = _torch_arguments(arrays, specs, module, target, call)
    if request.image is not None:
        notes.append("the image was not used: the model does not take one picture")
    names = [spec.name for spec in specs]
    keras_inputs: Any = arrays[0]
    if len(arrays) > 1:
        # By name only where the model itself goes by names: of inputs without a name Keras 3 knows
        # two, and takes neither.
        keras_inputs = list(arrays) if ordered(target.model) else dict(
            zip(names, arrays, strict=True))
    shapes = ", ".join(f"{name} {array.shape}" for name, array in zip(names, arrays, strict=True))
    return _pair(arguments, keras_inputs, f"random data: {shapes}", shows_classes=False,
                 notes=tuple(notes))


def _torch_arguments(arrays: Sequence[Array], specs: Sequence[InputSpec], module: Any | None,
                     target: Target, call: Call) -> tuple[list[Any] | dict[str, Any], list[str]]:
    """Return the torch module's arguments, by position or by name, and notes about them; those of a
    caller's own call as the Keras model takes its inputs.
    """
    by_name = {
        spec.name: to_torch_layout(array, spec, target)
        for array, spec in zip(arrays, specs, strict=True)
    }
    arguments: list[Any] | dict[str, Any] = list(by_name.values())
    if module is None:
        return arguments, []
    notes = []
    accepted, required = forward_parameters(module)
    if call is not call_torch:
        arguments = arguments if ordered(target.model) else by_name
    elif len(specs) > 1 and set(by_name) <= set(accepted or ()):
        arguments = by_name
    elif accepted is not None and not required <= len(specs) <= len(accepted):
        raise _unmatched(by_name, f"{required} to {len(accepted)} ({', '.join(accepted)})")
    elif len(specs) > 1 and not ordered(target.model):
        raise _unmatched(by_name, "inputs of other names")
    elif len(specs) > 1:
        notes.append("the torch module was given the inputs in the Keras model's order: "
                     f"{', '.join(by_name)}")
    arguments, said = torch_layouts.in_its_layout(module, call, arguments, arrays)
    return arguments, [*notes, *said]


def _unmatched(names: Mapping[str, Any], taken: str) -> AlignmentError:
    return _refusal(f"the Keras model takes {plural(len(names), 'input')} ({', '.join(names)}), "
                    f"the torch module {taken}")


def forward_parameters(module: Any) -> tuple[list[str] | None, int]:
    """Return the names of what a module's forward takes by position, and how many must be given;
    None when it takes any number.
    """
    try:
        parameters = signature(module.forward).parameters.values()
    except (TypeError, ValueError):
        # Scripted modules have no Python signature.
        return None, 0
    if any(parameter.kind is Parameter.VAR_POSITIONAL for parameter in parameters):
        return None, 0
    positional = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)
    named = [parameter for parameter in parameters if parameter.kind in positional]
    return [parameter.name for parameter in named], sum(
        parameter.default is Parameter.empty for parameter in named)
