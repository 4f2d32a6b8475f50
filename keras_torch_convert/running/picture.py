"""The picture that both models see: found, resized, and brought to the range of values that they
were trained on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Union

import numpy as np
import numpy.typing as npt

from ..errors import PredictionError

Image = npt.NDArray[np.float32]
RescaleMode = Union[str, Sequence[Any], Callable[[Image], Any], None]

# (mean, standard deviation) of values from 0 to 255. "torch": the channel statistics of ImageNet
# that torchvision uses; "tf": the span -1 to 1; "lite": EfficientNet-Lite's; "clip": the statistics
# of OpenAI's CLIP. The remaining names are those that models of keras_cv_attention_models carry in
# their `rescale_mode`.
RESCALE_MODES: dict[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "torch": ((0.485 * 255, 0.456 * 255, 0.406 * 255), (0.229 * 255, 0.224 * 255, 0.225 * 255)),
    "tf": ((127.5,), (127.5,)), "lite": ((127.0,), (128.0,)), "raw": ((0.0,), (1.0,)), "raw01": (
        (0.0,), (255.0,)), "tf128": (
            (128.0,), (128.0,)), "clip": ((0.48145466 * 255, 0.4578275 * 255, 0.40821073 * 255),
                                          (0.26862954 * 255, 0.26130258 * 255, 0.27577711 * 255))
}


@dataclass(frozen=True, slots=True)
class Rescaling:
    """How pixel values from 0 to 255 are brought to a model's range: the function, how to say it,
    and what to warn of.
    """

    function: Callable[[Image], npt.NDArray[Any]]
    words: str
    notes: tuple[str, ...] = ()

    def __call__(self, image: Image) -> Image:
        """Return the rescaled picture, of the same shape (height, width, 3)."""
        result = np.asarray(self.function(image), np.float32)
        if result.shape != image.shape:
            raise ValueError(
                f"rescale_mode must keep the shape of the picture: expected {image.shape}, got "
                f"{result.shape}")
        return result


def rescaling(rescale_mode: RescaleMode) -> Rescaling:
    """Return the rescaling that `rescale_mode` asks for; raise ValueError for an unknown one.

    A name of RESCALE_MODES, a pair (mean, std) of numbers or of one number per channel, used as
    (x - mean) / std on values from 0 to 255, or a function of the picture, float32 (height, width,
    3) from 0 to 255. None means "torch".
    """
    if callable(rescale_mode):
        return Rescaling(rescale_mode,
                         f"function {getattr(rescale_mode, '__name__', repr(rescale_mode))}")
    if rescale_mode is None:
        rescale_mode = "torch"
    if isinstance(rescale_mode, str):
        if rescale_mode not in RESCALE_MODES:
            known = ", ".join(repr(name) for name in RESCALE_MODES)
            raise ValueError(f"unknown rescale_mode {rescale_mode!r}: use one of {known}, "
                             "a pair (mean, std) for values from 0 to 255, or a function")
        mean, std = RESCALE_MODES[rescale_mode]
        return Rescaling(standardizing(mean, std), repr(rescale_mode))
    return pair_rescaling(rescale_mode)


def pair_rescaling(pair: Sequence[Any]) -> Rescaling:
    """Return the rescaling by a pair (mean, std), each one number or one per channel."""
    if len(pair) != 2:
        raise ValueError(
            f"rescale_mode as a sequence must be the pair (mean, std), got {len(pair)} entries")
    mean, std = (np.atleast_1d(np.asarray(part, np.float32)) for part in pair)
    if mean.shape not in ((1,), (3,)) or std.shape not in ((1,), (3,)) or not np.all(std):
        raise ValueError(
            "rescale_mode as a pair (mean, std) must hold one number or three numbers each, std "
            "without zeros, "
            f"got {pair[0]!r} and {pair[1]!r}")
    notes: tuple[str, ...] = ()
    if np.all(np.abs(mean) <= 1) and np.all(np.abs(std) < 1):
        notes = (
            "the mean and std of rescale_mode look as if they were meant for values from 0 to 1, "
            "and were used on values "
            "from 0 to 255: multiply both by 255 if so",)
    words = f"(x - {spoken(mean)}) / {spoken(std)} on values from 0 to 255"
    return Rescaling(standardizing(mean, std), words, notes)


def standardizing(mean: Any, std: Any) -> Callable[[Image], npt.NDArray[Any]]:
    """Return the function (x - mean) / std in float32."""
    mean, std = np.asarray(mean, np.float32), np.asarray(std, np.float32)
    return lambda image: (image - mean) / std


def spoken(numbers: npt.NDArray[Any]) -> str:
    """Return one number as itself, three as a list."""
    texts = [f"{number:g}" for number in numbers.tolist()]
    return texts[0] if len(texts) == 1 else f"[{', '.join(texts)}]"


def load_picture(image: Any = None, size: tuple[int, int] | None = None) -> tuple[Image, str]:
    """Read a picture, and say what it is.

    Args:
        image: None for the bundled cat, a path, a Pillow image, or an array (height, width, 3) or
            (height, width): whole numbers from 0 to 255, or floating point from 0 to 1 or from 0 to
            255 (the largest value decides).
        size: The whole picture is resized to it (height, width), bicubic, nothing cropped; None
            keeps its own.

    Returns:
        The picture as float32 (height, width, 3), values from 0 to 255, and words for it.

    Raises:
        PredictionError: It cannot be read, or Pillow is missing.
    """
    from importlib import resources

    try:
        from PIL import Image as PillowImage
    except ImportError as error:
        raise PredictionError(
            "the picture for the prediction needs Pillow: `pip install pillow`, or convert with "
            "do_predict=False") from error

    if image is None:
        words = "the bundled cat (chelsea.png)"
        with (resources.files("keras_torch_convert") / "data" / "chelsea.png").open("rb") as stream:
            picture = PillowImage.open(stream).convert("RGB")
    elif isinstance(image, PillowImage.Image):
        words, picture = "image given by the caller", image.convert("RGB")
    elif isinstance(image, (str, Path)):
        words = str(image)
        try:
            picture = PillowImage.open(image).convert("RGB")
        except (OSError, ValueError) as error:
            raise PredictionError(
                f"the picture {words} cannot be read: {error}; give another path, or image=None "
                "for the bundled cat") from error
    else:
        words, picture = "array given by the caller", PillowImage.fromarray(
            pixels(image)).convert("RGB")
    if size is not None and picture.size != (size[1], size[0]):
        picture = picture.resize((size[1], size[0]), PillowImage.Resampling.BICUBIC)
    return np.asarray(picture, np.float32), words


def pixels(image: Any) -> npt.NDArray[np.uint8]:
    """Return an array as whole pixel values from 0 to 255."""
    array = np.asarray(image)
    if (array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (3, 4))
            or array.dtype.kind not in "uifb" or not array.size):
        raise PredictionError(
            "image as an array must be numbers of shape (height, width, 3), got shape "
            f"{array.shape}, type {array.dtype}")
    values = array.astype(np.float64)
    if array.dtype.kind == "f" and values.max() <= 1:
        values *= 255
    if array.dtype.kind == "b":
        values *= 255
    if not np.all(np.isfinite(values)) or values.min() < 0 or values.max() > 255:
        raise PredictionError(
            "image as an array must hold values from 0 to 255, or from 0 to 1 in floating point, "
            f"got {values.min():g} to {values.max():g}: "
            "pass the picture before any normalization, and rescale_mode= for that")
    return np.rint(values).astype(np.uint8)
