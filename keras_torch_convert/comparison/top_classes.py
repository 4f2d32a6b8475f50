"""The best classes of an output, and their names."""

from __future__ import annotations

from contextlib import redirect_stdout
from functools import cache
from io import StringIO
from typing import Any

import numpy as np
import numpy.typing as npt

from ..running.outputs import describe

Array = npt.NDArray[Any]
TopClass = tuple[int, str, float]


def top_classes(scores: Array, count: int = 5) -> list[int]:
    """Return the indices of the largest of a vector of scores, largest first, ties by index."""
    return [
        int(index) for index in np.argsort(-np.asarray(scores, np.float64), kind="stable")[:count]
    ]


def same_top(first: Array, second: Array) -> bool | None:
    """Return whether every row has the same five classes in the same order; None when the output
    is not rows of classes.
    """
    if first.ndim != 2 or second.ndim != 2 or first.shape != second.shape or first.shape[1] < 5:
        return None
    return all(top_classes(one) == top_classes(two) for one, two in zip(first, second, strict=True))


def named_top(output: Array | None, model: Any) -> tuple[tuple[TopClass, ...], tuple[str, ...]]:
    """Return the best classes of the first row as (index, name, score), and notes.

    () when the output is not rows of classes. Names come from the Keras model's own
    `decode_predictions` when it carries one that works (`model` None: not asked), else from the
    table of ImageNet's classes.
    """
    if output is None or output.ndim != 2 or output.shape[1] < 2 or output.dtype.kind != "f":
        return (), ()
    scores = output[0]
    best = top_classes(scores)
    names, notes = _own_names(model, output[:1], len(best))
    if names is None:
        names = [class_name(index, scores.size) for index in best]
    return tuple(
        (index, name, float(scores[index])) for index, name in zip(best, names, strict=True)), notes


def _own_names(model: Any, output: Array, count: int) -> tuple[list[str] | None, tuple[str, ...]]:
    """Return the names of the best classes by the model's own `decode_predictions`, None when it
    has none or it gives none.
    """
    decode = getattr(model, "decode_predictions", None)
    if not callable(decode) or (output.shape[-1] == 1000 and _reads_the_standard_table(decode)):
        return None, ()
    try:
        # Some print where they look for their table.
        with redirect_stdout(StringIO()):
            decoded = decode(output, top=count)
        names = None if decoded is None else [str(entry[1]) for entry in decoded[0]]
    except Exception as error:
        # It names classes for people and often downloads its table: its failure must not hide two
        # good predictions.
        return None, (
            f"the Keras model's own decode_predictions failed ({describe(error)}): classes are "
            "named by our table of ImageNet where their number fits",)
    return names if names is not None and len(names) == count else None, ()


def _reads_the_standard_table(decode: Any) -> bool:
    """Return whether a decoder is the common one of Keras or keras_cv_attention_models.

    For 1000 classes these give the names that our table holds, but download a file to know them.
    """
    module = str(getattr(decode, "__module__", ""))
    return module.startswith(("keras.", "tf_keras.", "keras_cv_attention_models.imagenet"))


@cache
def imagenet_classes() -> tuple[tuple[str, str], ...]:
    """Return the 1000 ImageNet classes in the order of the logits and the spelling of Keras.

    Each is (WordNet id, name), as ("n02124075", "Egyptian_cat") at index 285.
    """
    from importlib import resources

    folder = resources.files("keras_torch_convert") / "data"
    lines = (folder / "imagenet_classes.txt").read_text("utf-8").splitlines()
    return tuple((identifier, name) for identifier, name in map(str.split, lines))


def class_name(index: int, count: int) -> str:
    """Return the name of class `index` of a model with `count` classes, "" when it is not known.

    1000 classes are ImageNet's; 1001 are ImageNet's behind a background class, as in TensorFlow's
    early models.
    """
    if count == 1000:
        return imagenet_classes()[index][1]
    if count == 1001:
        return imagenet_classes()[index - 1][1] if index else "background"
    return ""
