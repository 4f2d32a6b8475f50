"""Both models run on the same input, and what they gave.

Neither model is changed by it: training flags and the state of random number generators are put
back.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from io import StringIO
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import AlignmentError
from ..running.imagenet import class_name
from ..running.inputs import InputRequest, input_pair
from ..running.outputs import describe
from ..running.picture import RescaleMode
from ..running.run import run_keras, run_torch
from ..spec.target import Target
from .outputs import top_classes
from .tolerances import narrowest
from .verdict import Comparison, compare_outputs

Array = npt.NDArray[Any]
TopClass = tuple[int, str, float]

SOFTMAX_NOTE = (
    "the {0} model ends in a softmax and the {1} model does not: softmax was applied to "
    "{1}'s output to compare")


@dataclass(frozen=True, slots=True)
class Predictions:
    """What both models gave for the same input.

    `input` says in words what they saw, `rescale_mode` how pixel values were brought to the models'
    range ("" for inputs that are no pictures). The tops are (class index, name, score), best first,
    empty for outputs that are not rows of classes; names are "" where the order of the classes is
    unknown. `comparison` is None when only one model, or none, could be run; `notes` say why.
    """

    torch_outputs: tuple[Array, ...] = ()
    keras_outputs: tuple[Array, ...] = ()
    torch_top: tuple[TopClass, ...] = ()
    keras_top: tuple[TopClass, ...] = ()
    comparison: Comparison | None = None
    input: str = ""
    rescale_mode: str = ""
    notes: tuple[str, ...] = ()


def run_both(torch_module: Any | None, target: Target, *, image: Any = None,
             rescale_mode: RescaleMode = None, input_shape: Sequence[int] = (224, 224),
             sample: Any = None, from_samples: bool = False) -> Predictions:
    """Run the torch module (None: only a checkpoint is at hand) and the Keras model on the same
    input and compare.

    Models of one picture see `image` (see `load_picture`; None: the bundled cat), resized to the
    Keras model's own size, or to `input_shape` (height, width) where that is open, and rescaled by
    `rescale_mode` (see `rescaling`; None: the Keras model's own `preprocess_input` or
    `rescale_mode` when it carries one, else "torch"). All others, and with `from_samples=True`
    those too, see random data made from the Keras model's input specs. `sample` overrules all that:
    one array in the Keras layout, or (torch inputs, Keras inputs), several inputs of a side in a
    list or dict.

    Raises PredictionError, naming the side, when a model fails, and when the picture cannot be
    read; ValueError for an unknown `rescale_mode`.
    """
    try:
        prepared = input_pair(
            torch_module, target,
            InputRequest(sample, None, None, not from_samples, image, rescale_mode, input_shape))
    except AlignmentError as error:
        return Predictions(notes=(f"no prediction was made: {error}",))
    notes = list(prepared.notes)
    torch_outputs: list[Array] = []
    torch_types: list[str] = []
    with prepared.failures_reported(state="the weights are in place",
                                    remedy=", or convert with do_predict=False"):
        if torch_module is not None:
            named, torch_types = run_torch(torch_module, prepared)
            torch_outputs = list(named.values())
        named, keras_types = run_keras(target, prepared)
        keras_outputs = list(named.values())

    comparison = None
    if torch_module is None:
        notes.append("there is no torch module to run, only its weights: the Keras model ran alone")
    else:
        torch_outputs, keras_outputs, softmax_note = same_scale(torch_outputs, keras_outputs)
        notes.extend(softmax_note)
        # Mixed precision computes in halves and gives float32.
        types = (*torch_types, *keras_types, str(getattr(target.model, "compute_dtype", "")))
        comparison = compare_outputs(torch_outputs, keras_outputs, precision=narrowest(types))
        notes.extend(comparison.notes)
    torch_top: tuple[TopClass, ...] = ()
    keras_top: tuple[TopClass, ...] = ()
    if prepared.shows_classes:
        keras_top, decoding_notes = top_of(keras_outputs, target.model)
        # What failed once is not tried again.
        torch_top, _ = top_of(torch_outputs, None if decoding_notes else target.model)
        notes.extend(decoding_notes)
    return Predictions(
        tuple(torch_outputs), tuple(keras_outputs), torch_top, keras_top, comparison,
        prepared.description, prepared.rescale_mode, tuple(notes)
    )  # yapf: disable


def same_scale(torch_outputs: list[Array],
               keras_outputs: list[Array]) -> tuple[list[Array], list[Array], list[str]]:
    """Both outputs as probabilities when one model ends in a softmax and the other in logits, and a
    note that says so.
    """
    if len(torch_outputs) != 1 or len(
            keras_outputs) != 1 or torch_outputs[0].shape != keras_outputs[0].shape:
        return torch_outputs, keras_outputs, []
    torch_ends, keras_ends = are_probabilities(torch_outputs[0]), are_probabilities(
        keras_outputs[0])
    if keras_ends and not torch_ends:
        return [softmax(torch_outputs[0])], keras_outputs, [SOFTMAX_NOTE.format("Keras", "torch")]
    if torch_ends and not keras_ends:
        return torch_outputs, [softmax(keras_outputs[0])], [SOFTMAX_NOTE.format("torch", "Keras")]
    return torch_outputs, keras_outputs, []


def are_probabilities(output: Array) -> bool:
    """Whether the last axis holds probabilities: no negative numbers, sums of one."""
    if output.ndim < 2 or output.dtype.kind != "f" or output.shape[-1] < 2:
        return False
    # Sums in float32 over a few thousand classes stay within 1e-5 of one; half types within 1e-2.
    return bool(
        np.all(output >= 0) and np.allclose(output.sum(axis=-1, dtype=np.float64), 1, atol=1e-2))


def softmax(logits: Array) -> Array:
    """Softmax over the last axis, in float64, given back in the type of the logits."""
    wide = logits.astype(np.float64)
    powers = np.exp(wide - wide.max(axis=-1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=-1, keepdims=True), logits.dtype)


def top_of(outputs: Sequence[Array], model: Any,
           count: int = 5) -> tuple[tuple[TopClass, ...], list[str]]:
    """The best classes of the first row as (index, name, score); () when the output is not rows of
    classes.

    Names come from the Keras model's own `decode_predictions` when it carries one that works, else
    from the table of ImageNet's classes.
    """
    if not outputs or outputs[0].ndim != 2 or outputs[0].shape[1] < 2 or outputs[
            0].dtype.kind != "f":
        return (), []
    scores = outputs[0][0]
    best = top_classes(scores, count)
    names, notes = own_names(model, outputs[0][:1], len(best))
    if names is None:
        names = [class_name(index, scores.size) for index in best]
    return tuple(
        (index, name, float(scores[index])) for index, name in zip(best, names, strict=True)), notes


def own_names(model: Any, output: Array, count: int) -> tuple[list[str] | None, list[str]]:
    """Names of the best classes by the model's own `decode_predictions`, None when it has none or
    it gives none.
    """
    decode = getattr(model, "decode_predictions", None)
    if not callable(decode) or (output.shape[-1] == 1000 and reads_the_standard_table(decode)):
        return None, []
    try:
        # Some print where they look for their table.
        with redirect_stdout(StringIO()):
            decoded = decode(output, top=count)
        names = None if decoded is None else [str(entry[1]) for entry in decoded[0]]
    except Exception as error:
        # It names classes for people and often downloads its table: its failure must not hide two
        # good predictions.
        reason = f"the Keras model's own decode_predictions failed ({describe(error)})"
        return None, [
            f"{reason}: classes are named by our table of ImageNet where their number fits"
        ]
    return (names, []) if names is not None and len(names) == count else (None, [])


def reads_the_standard_table(decode: Any) -> bool:
    """Whether a decoder is the common one of Keras or keras_cv_attention_models.

    For 1000 classes these give the names that our table holds, but download a file to know them.
    """
    module = str(getattr(decode, "__module__", ""))
    return module.startswith(("keras.", "tf_keras.", "keras_cv_attention_models.imagenet"))
