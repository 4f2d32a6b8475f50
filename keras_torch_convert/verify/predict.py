"""Both models run on the same input, and what they gave.

Neither model is changed by it: training flags and the state of random number generators are put back.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from inspect import Parameter, signature
from io import StringIO
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import PredictionError
from ..read.target import Target
from . import sample as samples
from .compare import EQUAL_BELOW, OutputComparison, compare_outputs, top_classes
from .imagenet import class_name
from .picture import Image, RescaleMode, Rescaling, load_picture, rescaling

Array = npt.NDArray[Any]
TopClass = tuple[int, str, float]

REMEDY = "give inputs that both take as sample=(torch inputs, Keras inputs), or convert without a prediction; the weights are in place"


@dataclass(frozen=True, slots=True)
class Predictions:
    """What both models gave for the same input.

    `input` says in words what they saw, `rescale_mode` how pixel values were brought to the models' range ("" for inputs that
    are no pictures). The tops are (class index, name, score), best first, empty for outputs that are not rows of classes; names are
    "" where the order of the classes is unknown. `comparison` is None when only one model, or none, could be run; `notes` say why.
    """

    torch_outputs: tuple[Array, ...] = ()
    keras_outputs: tuple[Array, ...] = ()
    torch_top: tuple[TopClass, ...] = ()
    keras_top: tuple[TopClass, ...] = ()
    comparison: OutputComparison | None = None
    input: str = ""
    rescale_mode: str = ""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Inputs:
    """The input of both models: `torch_arguments` positional or, as a dict, by name; `keras_input` one object."""

    torch_arguments: list[Any] | dict[str, Any]
    keras_input: Any
    words: str
    rescale_mode: str = ""
    classes_mean_something: bool = True
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the caller asked for; see `run_both`."""

    image: Any
    rescale_mode: RescaleMode
    size: tuple[int, int]
    sample: Any
    from_samples: bool


def run_both(
    torch_module: Any | None,
    target: Target,
    *,
    image: Any = None,
    rescale_mode: RescaleMode = None,
    input_shape: Sequence[int] = (224, 224),
    sample: Any = None,
    from_samples: bool = False,
) -> Predictions:
    """Run the torch module (None: only a checkpoint is at hand) and the Keras model on the same input and compare.

    Models of one picture see `image` (see `load_picture`; None: the bundled cat), resized to the Keras model's own size, or to
    `input_shape` (height, width) where that is open, and rescaled by `rescale_mode` (see `rescaling`; None: the Keras
    model's own `preprocess_input` or `rescale_mode` when it carries one, else "torch"). All others, and with
    `from_samples=True` those too, see random data made from the Keras model's input specs. `sample` overrules all that:
    one array in the Keras layout, or (torch inputs, Keras inputs), several inputs of a side in a list or dict.

    Raises PredictionError, naming the side, when a model fails, and when the picture cannot be read; ValueError for an unknown `rescale_mode`.
    """
    wanted = Wanted(image, rescale_mode, as_size(input_shape), sample, from_samples)
    prepared = inputs_for(torch_module, target, wanted)
    if isinstance(prepared, str):
        return Predictions(notes=(prepared,))
    notes = list(prepared.notes)
    torch_outputs: list[Array] = []
    torch_precision = "float32"
    if torch_module is not None:
        torch_outputs, torch_precision = run_torch(torch_module, prepared)
    keras_outputs, keras_precision = run_keras(target, prepared)

    comparison = None
    if torch_module is None:
        notes.append("there is no torch module to run, only its weights: the Keras model ran alone")
    else:
        torch_outputs, keras_outputs, softmax_note = same_scale(torch_outputs, keras_outputs)
        notes.extend(softmax_note)
        # Mixed precision computes in halves and gives float32.
        types = (torch_precision, keras_precision, str(getattr(target.model, "compute_dtype", "")))
        comparison = compare_outputs(torch_outputs, keras_outputs, precision=narrowest(types))
        notes.extend(comparison.notes)
    torch_top: tuple[TopClass, ...] = ()
    keras_top: tuple[TopClass, ...] = ()
    if prepared.classes_mean_something:
        keras_top, decoding_notes = top_of(keras_outputs, target.model)
        # What failed once is not tried again.
        torch_top, _ = top_of(torch_outputs, None if decoding_notes else target.model)
        notes.extend(decoding_notes)
    return Predictions(
        tuple(torch_outputs), tuple(keras_outputs), torch_top, keras_top, comparison,
        prepared.words, prepared.rescale_mode, tuple(notes),
    )  # fmt: skip


def as_size(input_shape: Sequence[int]) -> tuple[int, int]:
    """Height and width; a number of channels behind them is ignored, as in the classic interface."""
    if len(input_shape) < 2:
        raise ValueError(f"input_shape must be (height, width), got {tuple(input_shape)}")
    return int(input_shape[0]), int(input_shape[1])


def inputs_for(torch_module: Any | None, target: Target, wanted: Wanted) -> Inputs | str:
    """The inputs of both models, or the reason why none can be made."""
    if wanted.sample is not None:
        return given_inputs(wanted.sample, target)
    specs = samples.input_specs(target.model)
    if not specs:
        return (
            "no prediction was made: the Keras model does not say what inputs it takes; "
            "give sample=(torch inputs, Keras inputs)"
        )
    if samples.takes_one_picture(specs, target) and not wanted.from_samples:
        return picture_inputs(specs[0], target, wanted)
    return random_data(specs, torch_module, target, wanted)


def given_inputs(sample: Any, target: Target) -> Inputs:
    """The caller's sample for both sides."""
    if isinstance(sample, tuple):
        if len(sample) != 2:
            raise ValueError(
                f"sample as a tuple must be (torch inputs, Keras inputs), got {len(sample)} entries; several inputs of one side go in a list"
            )
        for_torch, for_keras = sample
        arguments = (
            dict(for_torch)
            if isinstance(for_torch, Mapping)
            else list(for_torch)
            if isinstance(for_torch, list)
            else [for_torch]
        )
        return Inputs(arguments, for_keras, "sample given by the caller")
    if isinstance(sample, (list, Mapping)):
        raise ValueError("sample with several inputs must be a tuple of two: (torch inputs, Keras inputs)")
    array = as_array(sample)
    return Inputs([samples.to_torch_layout(array, None, target)], array, "sample given by the caller")


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
            np.repeat(array, spec.shape[0], axis=0) for array in (keras_input, channels_last_first)
        )
    if not spec.floating:
        keras_input = keras_input.astype(spec.dtype)
    return Inputs([channels_last_first], keras_input, f"{words}, {width} x {height}", chosen.words, notes=chosen.notes)


def apply_rescaling(chosen: Rescaling, picture: Image) -> Image:
    """The rescaled picture; an error of a user's or a model's own function is told apart from one of the models."""
    try:
        return chosen(picture)
    except Exception as error:
        raise PredictionError(f"rescaling the picture by {chosen.words} failed: {describe(error)}") from error


def rescaling_of(model: Any, rescale_mode: RescaleMode) -> Rescaling:
    """The caller's rescaling, else the one that the Keras model carries, else "torch"."""
    if rescale_mode is not None:
        return rescaling(rescale_mode)
    own_mode = getattr(model, "rescale_mode", None)
    own_function = getattr(model, "preprocess_input", None)
    if callable(own_function):
        words = "the Keras model's own preprocess_input" + (f", {own_mode!r}" if isinstance(own_mode, str) else "")
        return Rescaling(lambda picture: as_channels_last(as_array(own_function(picture[None])), picture), words)
    if own_mode is not None:
        own = rescaling(own_mode)
        return Rescaling(own.function, f"the Keras model's own {own.words}", own.notes)
    return rescaling("torch")


def as_channels_last(batch: Array, picture: Image) -> Array:
    """The picture that a model's own preprocessing gave, without its batch axis, channels last."""
    result = batch[0] if batch.ndim == 4 else batch
    height, width, channels = picture.shape
    return (
        result.transpose(1, 2, 0)
        if result.shape == (channels, height, width) and result.shape != picture.shape
        else result
    )


def random_data(
    specs: Sequence[samples.InputSpec], torch_module: Any | None, target: Target, wanted: Wanted
) -> Inputs | str:
    """Random data for both models, or the reason why the torch module cannot be given the Keras model's inputs."""
    arrays = samples.random_inputs(specs, target, wanted.size)
    for_torch = [samples.to_torch_layout(array, spec, target) for array, spec in zip(arrays, specs, strict=True)]
    names = [spec.name for spec in specs]
    arguments: list[Any] | dict[str, Any] = for_torch
    if torch_module is not None:
        accepted, required = forward_parameters(torch_module)
        if accepted is not None:
            if len(specs) > 1 and set(names) <= set(accepted):
                arguments = dict(zip(names, for_torch, strict=True))
            elif not required <= len(specs) <= len(accepted):
                return (
                    f"no prediction was made: the Keras model takes {len(specs)} inputs ({', '.join(names)}), "
                    f"the torch module {required} to {len(accepted)} ({', '.join(accepted)}); give sample=(torch inputs, Keras inputs)"
                )
    keras_input = arrays[0] if len(arrays) == 1 else dict(zip(names, arrays, strict=True))
    shapes = ", ".join(f"{spec.name} {array.shape}" for spec, array in zip(specs, arrays, strict=True))
    notes = ("the image was not used: the model does not take one picture",) if wanted.image is not None else ()
    return Inputs(arguments, keras_input, f"random data: {shapes}", classes_mean_something=False, notes=notes)


def forward_parameters(module: Any) -> tuple[list[str] | None, int]:
    """Names of what a module's forward takes by position, and how many must be given; None when it takes any number."""
    try:
        parameters = signature(module.forward).parameters.values()
    except (TypeError, ValueError):
        # Scripted modules have no Python signature.
        return None, 0
    if any(parameter.kind is Parameter.VAR_POSITIONAL for parameter in parameters):
        return None, 0
    named = [p for p in parameters if p.kind in (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)]
    return [parameter.name for parameter in named], sum(parameter.default is Parameter.empty for parameter in named)


def run_torch(module: Any, inputs: Inputs) -> tuple[list[Array], str]:
    """Outputs of the torch module in eval mode, and the narrowest type among them; the module is left as it was."""
    import torch

    like = next(module.parameters(), None)

    def as_tensor(value: Any) -> Any:
        tensor = value if isinstance(value, torch.Tensor) else torch.from_numpy(np.array(value))
        if like is None:
            return tensor
        return tensor.to(like.device, like.dtype) if tensor.is_floating_point() else tensor.to(like.device)

    devices = [like.device] if like is not None and like.device.type == "cuda" else []
    with evaluating(module), torch.no_grad(), torch.random.fork_rng(devices=devices), python_generators_kept():
        try:
            if isinstance(inputs.torch_arguments, dict):
                output = module(**{name: as_tensor(value) for name, value in inputs.torch_arguments.items()})
            else:
                output = module(*[as_tensor(value) for value in inputs.torch_arguments])
            return outputs_of(output)
        except Exception as error:
            raise PredictionError(f"the torch model failed on {inputs.words}: {describe(error)}; {REMEDY}") from error


@contextmanager
def evaluating(module: Any) -> Iterator[None]:
    """Eval mode for the time being; the flag of every submodule is put back as it was, each by itself."""
    flags = [(submodule, submodule.training) for submodule in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for submodule, training in flags:
            submodule.training = training


@contextmanager
def python_generators_kept() -> Iterator[None]:
    """The state of Python's and NumPy's global random generators put back afterwards: a model may draw from them."""
    python_state, numpy_state = random.getstate(), np.random.get_state()
    try:
        yield
    finally:
        random.setstate(python_state)
        np.random.set_state(numpy_state)


def run_keras(target: Target, inputs: Inputs) -> tuple[list[Array], str]:
    """Outputs of the Keras model in inference mode, and the narrowest type among them."""
    with gradients_off(target), python_generators_kept():
        try:
            return outputs_of(target.model(inputs.keras_input, training=False))
        except Exception as error:
            raise PredictionError(f"the Keras model failed on {inputs.words}: {describe(error)}; {REMEDY}") from error


@contextmanager
def gradients_off(target: Target) -> Iterator[None]:
    """For Keras on the torch backend: no gradients are recorded, and torch's random generator is put back."""
    if target.backend != "torch":
        yield
        return
    import torch

    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        yield


def describe(error: BaseException) -> str:
    """Type and first lines of an error's message: Keras repeats all arguments behind them."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = " ".join(lines[:3])
    return f"{type(error).__name__}: {text[:400]}{' ...' if len(text) > 400 or len(lines) > 3 else ''}"


def outputs_of(output: Any) -> tuple[list[Array], str]:
    """Every array of a model's output, nested structures laid out in order, and the narrowest floating type among them."""
    leaves = list(leaves_of(output))
    names = [type_name(leaf) for leaf in leaves]
    return [as_array(leaf) for leaf in leaves], narrowest(names)


def type_name(tensor: Any) -> str:
    """The type of a tensor of any of the frameworks, without the framework's name."""
    return str(getattr(tensor.dtype, "name", tensor.dtype)).removeprefix("torch.")


def narrowest(names: Sequence[str]) -> str:
    """The type with the widest threshold, "float32" when none of them is floating-point."""
    return max((name for name in names if name in EQUAL_BELOW), key=EQUAL_BELOW.__getitem__, default="float32")


def leaves_of(output: Any) -> Iterator[Any]:
    """The tensors of an output, in order; what is no tensor (None, numbers, cached states) is passed over."""
    if isinstance(output, Mapping):
        for value in output.values():
            yield from leaves_of(value)
    elif isinstance(output, (list, tuple)):
        for value in output:
            yield from leaves_of(value)
    elif hasattr(output, "shape") and hasattr(output, "dtype"):
        yield output


def as_array(tensor: Any) -> Array:
    """A tensor of any of the frameworks as a NumPy array of a type that NumPy has; the half types widen to float32."""
    if hasattr(tensor, "detach"):
        tensor = tensor.detach().cpu()
        if "bfloat16" in str(tensor.dtype):
            tensor = tensor.float()
        tensor = tensor.numpy()
    elif hasattr(tensor, "numpy"):
        tensor = tensor.numpy()
    array: Array = np.asarray(tensor)
    # bfloat16 comes as an extension type, which NumPy itself cannot compute with; it has the kind of raw bytes.
    return array.astype(np.float32) if array.dtype.kind == "V" or array.dtype == np.float16 else array


def same_scale(torch_outputs: list[Array], keras_outputs: list[Array]) -> tuple[list[Array], list[Array], list[str]]:
    """Both outputs as probabilities when one model ends in a softmax and the other in logits, and a note that says so."""
    if len(torch_outputs) != 1 or len(keras_outputs) != 1 or torch_outputs[0].shape != keras_outputs[0].shape:
        return torch_outputs, keras_outputs, []
    torch_ends, keras_ends = are_probabilities(torch_outputs[0]), are_probabilities(keras_outputs[0])
    if keras_ends and not torch_ends:
        note = "the Keras model ends in a softmax and the torch model does not: softmax was applied to torch's output to compare"
        return [softmax(torch_outputs[0])], keras_outputs, [note]
    if torch_ends and not keras_ends:
        note = "the torch model ends in a softmax and the Keras model does not: softmax was applied to Keras's output to compare"
        return torch_outputs, [softmax(keras_outputs[0])], [note]
    return torch_outputs, keras_outputs, []


def are_probabilities(output: Array) -> bool:
    """Whether the last axis holds probabilities: no negative numbers, sums of one."""
    if output.ndim < 2 or output.dtype.kind != "f" or output.shape[-1] < 2:
        return False
    # Sums in float32 over a few thousand classes stay within 1e-5 of one; half types within 1e-2.
    return bool(np.all(output >= 0) and np.allclose(output.sum(axis=-1, dtype=np.float64), 1, atol=1e-2))


def softmax(logits: Array) -> Array:
    """Softmax over the last axis, in float64, given back in the type of the logits."""
    wide = logits.astype(np.float64)
    powers = np.exp(wide - wide.max(axis=-1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=-1, keepdims=True), logits.dtype)


def top_of(outputs: Sequence[Array], model: Any, count: int = 5) -> tuple[tuple[TopClass, ...], list[str]]:
    """The best classes of the first row as (index, name, score); () when the output is not rows of classes.

    Names come from the Keras model's own `decode_predictions` when it carries one that works, else from the table of
    ImageNet's classes.
    """
    if not outputs or outputs[0].ndim != 2 or outputs[0].shape[1] < 2 or outputs[0].dtype.kind != "f":
        return (), []
    scores = outputs[0][0]
    best = top_classes(scores, count)
    names, notes = own_names(model, outputs[0][:1], len(best))
    if names is None:
        names = [class_name(index, scores.size) for index in best]
    return tuple((index, name, float(scores[index])) for index, name in zip(best, names, strict=True)), notes


def own_names(model: Any, output: Array, count: int) -> tuple[list[str] | None, list[str]]:
    """Names of the best classes by the model's own `decode_predictions`, None when it has none or it gives none."""
    decode = getattr(model, "decode_predictions", None)
    if not callable(decode) or (output.shape[-1] == 1000 and reads_the_standard_table(decode)):
        return None, []
    try:
        # Some print where they look for their table.
        with redirect_stdout(StringIO()):
            decoded = decode(output, top=count)
        names = None if decoded is None else [str(entry[1]) for entry in decoded[0]]
    except Exception as error:
        # It names classes for people and often downloads its table: its failure must not hide two good predictions.
        reason = f"the Keras model's own decode_predictions failed ({describe(error)})"
        return None, [f"{reason}: classes are named by our table of ImageNet where their number fits"]
    return (names, []) if names is not None and len(names) == count else (None, [])


def reads_the_standard_table(decode: Any) -> bool:
    """Whether a decoder is the common one of Keras or keras_cv_attention_models.

    For 1000 classes these give the names that our table holds, but download a file to know them.
    """
    module = str(getattr(decode, "__module__", ""))
    return module.startswith(("keras.", "tf_keras.", "keras_cv_attention_models.imagenet"))
