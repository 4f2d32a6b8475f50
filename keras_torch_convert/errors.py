"""Every way a conversion can be refused, as one exception each.

All derive from ConversionError, so that a caller can catch the tool's own refusals apart from
programming errors. Exceptions raised by a user's callback are never wrapped: they keep their type
and gain a note that says which layer and which key of `additional_transfer` was running.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

# Enough to see a pattern; a model misaligned by one layer has as many bad pairs as layers.
MOST_SHOWN = 12


class ConversionError(Exception):
    """Base of all refusals: the message names the layer, what was expected and found, and what to
    try.
    """


class SourceError(ConversionError, ValueError):
    """A checkpoint, state dict or module cannot be read as a set of named tensors."""


class PluginError(ConversionError, ImportError):
    """What another package registers by an entry point cannot be used; the message names it."""


class UnsafeFileError(SourceError):
    """A pickle names code that rebuilding tensors does not need, and a tensor depends on it;
    nothing was run.
    """


class TargetError(ConversionError, ValueError):
    """A Keras model cannot be used as a target: unbuilt, without weights, or of an unknown
    framework.
    """


class AlignmentError(ConversionError, ValueError):
    """Names cannot be aligned: a move would lose a name, the lists differ in length, or a name is
    unknown.
    """


class ClassCountError(AlignmentError):
    """All layers are aligned but one, which has another number of outputs than its torch layer: the
    head, for other classes.
    """


class TransferError(ConversionError, ValueError):
    """Tensors and variables do not fit together.

    `problems` lists every bad pair found, one message each, so that all can be fixed in one go.
    """
    def __init__(self, message: str, problems: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.problems = tuple(problems)

    @classmethod
    def of(cls, problems: Sequence[str], hint: str = "") -> TransferError:
        """Make one error of everything found; `hint` is what to try about all of it."""
        hint = f"; {hint}" if hint else ""
        if len(problems) == 1:
            return cls(f"{problems[0]}{hint}; nothing was written", problems)
        shown = "".join(f"\n  - {problem}" for problem in problems[:MOST_SHOWN])
        more = f"\n  and {len(problems) - MOST_SHOWN} more, in .problems" if len(
            problems) > MOST_SHOWN else ""
        return cls(f"{len(problems)} problems, nothing was written{hint}:{shown}{more}", problems)


class PairError(TransferError):
    """One torch layer and one Keras layer do not fit: `problem` says why in short, the message also
    names both and what to try.
    """
    def __init__(self, message: str, problem: str) -> None:
        super().__init__(message, (message,))
        self.problem = problem


class NotEqualError(ConversionError, ArithmeticError):
    """Both models were aligned, but their outputs differ; model and files are as they were.

    `report` is the report of the conversion that was taken back, `comparison` what was measured.
    """
    def __init__(self, message: str, report: Any = None, comparison: Any = None) -> None:
        super().__init__(message)
        self.report = report
        self.comparison = comparison


class PlanError(ConversionError, ValueError):
    """A plan file is damaged, foreign or of a newer version, or a plan lacks what is asked of it.
    """


class ManifestError(ConversionError, ValueError):
    """What `apply_many` is asked to do is not sound: no TOML, an unknown or missing option, one
    output named twice; nothing was begun.
    """


class SaveError(ConversionError, OSError):
    """The converted model cannot be written, or what was written reads back differently; the old
    file is kept.
    """


class PredictionError(ConversionError, RuntimeError):
    """Running one of the two models failed; the classic functions keep the weights, which are
    safely transferred, `convert` takes them back.

    `report` is the report of the conversion, complete but for the predictions.
    """
    def __init__(self, message: str, report: Any = None) -> None:
        super().__init__(message)
        self.report = report


class DictionaryError(ConversionError, ValueError):
    """A dictionary of pretrained weights is not in its file, is not written out plainly, or has an
    entry of another form; the file is as it was.
    """


class UploadError(ConversionError, RuntimeError):
    """The program `gh` refused to upload, or a release does not hold afterward what was uploaded.
    """
