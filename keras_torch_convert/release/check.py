"""One test of a zoo's repository: a Keras model against its PyTorch original, the class of a
picture, and the digest of the file.
"""

from __future__ import annotations

import ast
import tempfile
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Union

from ..api.verification import VerifyOptions, compare_models
from ..comparison.tolerances import TOLERANCES
from ..errors import ConversionError, PredictionError
from ..keras_io.keras_save import check_path
from ..keras_io.model import is_keras_model, read_target
from ..keras_io.save_model import write_model
from ..plan.plan import Plan, check_is_plan
from ..running.inputs import InputRequest, input_pair
from ..running.picture import RescaleMode
from ..torch_io.live_tensor import is_torch_module
from ..torch_io.reader import read
from ..util.atomic_file import AtomicFile
from ..util.hash_workers import digests_of
from ..util.text import join_names
from .pretrained_dict import Source

if TYPE_CHECKING:
    from ..comparison.verdict import Comparison


@dataclass(frozen=True, slots=True)
class ConversionCheck:
    """What a check found.

    Attributes:
        comparison: How far the outputs of both models are apart.
        problems: What is wrong with the models, as sentences; a wrong digest is not among them.
        md5: The digest of the file, "" when it was not asked for.
    """

    comparison: Comparison
    problems: tuple[str, ...]
    md5: str

    def failure(self, md5: str | None) -> str:
        """Return why the check fails, "" when it does not; `md5` is the expected digest."""
        problems = list(self.problems)
        if md5 is not None and md5 != self.md5:
            problems.append(f"the file's md5 is {self.md5}, expected {md5 or 'none yet'}: run "
                            "pytest --ktc-update to renew it, if the file was meant to change")
        return "\n\n".join(problems)


# They are what a test says about a conversion, each by its name.
def check_conversion(keras_model: Any, torch_model: Any, *, predicts: Union[str, int, None] = None,
                     with_md5: bool = False, file: str | PathLike[str] | None = None,
                     plan: Plan | None = None, sample: Any = None, image: Any = None,
                     rescale_mode: RescaleMode = None, accept: str = "close",
                     tolerance: float = TOLERANCES.accepted) -> ConversionCheck:
    """Run a Keras model and its PyTorch original, and look at the file.

    Args:
        keras_model: A Keras model. A model of one picture gets one, every other model random data.
        torch_model: A torch module.
        predicts: The best class of both models for the picture, by name or index.
        with_md5: Compute the digest: of `file`, or of the .h5 file that a conversion would write.
            Names that Keras made up are in that file and change its digest.
        file: A file of weights, which is loaded into the Keras model first.
        plan: The Plan of the conversion; repeats the proof on random values.
        sample, tolerance: Those of `verify`.
        image: The picture: a path, or an array (height, width, 3) of 0 to 255. Default: a cat.
        rescale_mode: How its values are scaled, as in `keras_reload_from_torch_model`.
        accept: The worst verdict that passes, "close" or "equal".

    Returns:
        What was found.

    Raises:
        ConversionError: The models cannot be run, or the file cannot be loaded.
    """
    if not is_keras_model(keras_model) or not is_torch_module(torch_model):
        raise ConversionError("expected a Keras model and then a torch module, got "
                              f"{type(keras_model).__name__} and {type(torch_model).__name__}")
    if accept not in ("close", "equal"):
        raise ValueError(f'accept must be "close" or "equal", got {accept!r}')
    if plan is not None:
        check_is_plan(plan)
    if file is not None:
        keras_model.load_weights(str(file))
    source, target = read(torch_model), read_target(keras_model, sample=sample)
    request = InputRequest(sample, picture=True, image=image, rescale_mode=rescale_mode)
    inputs = input_pair(source.module, target, request)
    with inputs.failures_reported():
        found = compare_models(source, target, inputs, plan, VerifyOptions(tolerance=tolerance))
    problems = []
    if found.verdict not in ("equal", "close") or (found.verdict, accept) == ("close", "equal"):
        problems.append(str(found))
    if predicts is not None:
        problems += _wrong_classes(found, predicts)
    md5 = ""
    if with_md5:
        md5 = _md5_of_model(target) if file is None else digests_of(Path(file), ("md5",))["md5"]
    return ConversionCheck(found, tuple(problems), md5)


def _wrong_classes(found: Comparison, expected: str | int) -> list[str]:
    """Return a sentence for each model whose best class is another one."""
    if not found.keras_top or not found.torch_top:
        raise PredictionError(
            f"predicts={expected!r} is for models that give classes for one picture; the input was "
            f"{join_names(found.inputs, 1)}")
    wrong = []
    for side, top in (("Keras", found.keras_top), ("torch", found.torch_top)):
        index, name, _ = top[0]
        if expected not in (index, name):
            others = join_names((f"{other or number}" for number, other, _ in top[1:]))
            wrong.append(f"the {side} model predicts {name or index}, expected {expected}; the "
                         f"next classes are {others}")
    return wrong


def _md5_of_model(target: Any) -> str:
    """Return the md5 of the .h5 file that a conversion would write."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{target.name}.h5"
        check_path(path, target)
        with AtomicFile(path, durable=False) as new:
            return write_model(target, new, ("md5",)).digests["md5"]


def renewed(text: str, path: Path, line: int, md5: str) -> str | None:
    """Return the text of a test file with another digest in the call at a line.

    None when the call there does not say md5="..." itself.
    """
    source = Source(text, path)
    digests = [
        keyword.value for call in ast.walk(source.tree)
        if isinstance(call, ast.Call) and call.lineno <= line <= (call.end_lineno or line)
        for keyword in call.keywords if keyword.arg == "md5"
    ]
    if len(digests) != 1 or not isinstance(getattr(digests[0], "value", None), str):
        return None
    return source.replaced(digests[0], f'"{md5}"')
