"""The numbers with which the command ends, and which error leads to which."""

from __future__ import annotations

import click

from ..errors import (AlignmentError, DictionaryError, ManifestError, NotEqualError, PlanError,
                      PredictionError, SaveError, SourceError, TargetError, TransferError,
                      UploadError)

DONE = 0
MISMATCH = 1
BAD_USE = 2
BAD_INPUT = 3
NOT_DONE = 4
UNEXPECTED = 70
INTERRUPTED = 130
# What the shell calls a program that wrote to a closed pipe.
PIPE_CLOSED = 141

TABLE = f"""\b
Exit codes:
  {DONE}    done; of what was compared, all is equal
  {MISMATCH}    mismatch: layers or weights do not fit together, or outputs differ
  {BAD_USE}    bad use: an unknown command, option or value
  {BAD_INPUT}    bad input: a file, plan or model that cannot be read or run
  {NOT_DONE}    a file could not be written or uploaded
  {UNEXPECTED}   an error that nobody foresaw
  {INTERRUPTED}  interrupted; nothing is left half done"""


class InputError(click.ClickException):
    """A model, file or function named on the command line cannot be had."""

    exit_code = BAD_INPUT


def exit_code_of(error: BaseException) -> int:
    """The exit code that an error leads to."""
    if isinstance(error, click.ClickException):
        return error.exit_code
    if isinstance(error, (NotEqualError, TransferError, AlignmentError)):
        return MISMATCH
    if isinstance(
            error,
        (SourceError, TargetError, PlanError, PredictionError, DictionaryError, ManifestError)):
        return BAD_INPUT
    if isinstance(error, (SaveError, UploadError, OSError)):
        return NOT_DONE
    return UNEXPECTED
