"""Values into the variables of a live model, all or nothing.

Before a variable changes, its old values are kept: in memory as long as that is little, else in a
temporary file, so that a big model is never held twice. Any exception, an interrupt included, puts
every changed variable back bit for bit.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from ..errors import TransferError
from ..spec.dtypes import numpy_dtype
from ..spec.target import Target, TargetVariable
from ..util.interrupts import deferred_sigint
from .values import assign_values, kept_values, read_values

# Old values beyond this many bytes go to a temporary file.
KEPT_IN_MEMORY = 256 * 2**20


@contextmanager
def transaction(target: Target) -> Iterator[ModelWriter]:
    """Write into a model's variables: all values stay, or none when an exception leaves the block.

    Layers that keep something computed from their variables (Keras's Normalization) compute it
    again. An exception passes on as it came.

    Raises:
        TransferError: Variables could not be restored after an error; the message names them.
    """
    with tempfile.TemporaryFile() as journal:
        writer = ModelWriter(target, journal, target.variables)
        try:
            yield writer
            writer.commit()
        except BaseException:
            with deferred_sigint():
                writer.rollback()
            raise


@dataclass(slots=True)
class _OldValues:
    """What a variable held: `kept`, or None when it stands in the journal, `size` bytes from
    `start` on.
    """

    variable: TargetVariable
    kept: Any
    start: int
    size: int


@dataclass(slots=True)
class ModelWriter:
    """Writes variables of one model and remembers what they held."""

    target: Target
    journal: IO[bytes]
    variables: Mapping[str, TargetVariable]
    changed: dict[str, _OldValues] = field(default_factory=dict)
    kept_bytes: int = 0

    def write(self, variable: TargetVariable, array: npt.NDArray[Any]) -> None:
        """Give one variable new values, an array of just its shape and type (bfloat16 as
        ml_dtypes.bfloat16).

        Raises TransferError when the array does not fit or the variable is not one of this model;
        nothing is changed then.
        """
        array = np.asarray(
            array)  # NumPy turns arrays without axes into scalars of its own at every occasion
        self._check(variable, array)
        # First the old values, then their entry, then the change: an interrupt between any two of
        # them loses nothing.
        if variable.key not in self.changed:
            self.changed[variable.key] = self._keep(variable, array.nbytes)
        assign_values(self.target, variable.variable, array)

    def commit(self) -> None:
        """Let the layers whose variables changed recompute what they derive from them."""
        for leaf in {id(leaf.layer): leaf for leaf in self.target.leaves()}.values():
            if any(variable.key in self.changed for variable in leaf.variables) and hasattr(
                    leaf.layer, "finalize_state"):
                leaf.layer.finalize_state()

    def rollback(self) -> None:
        """Give every changed variable its old values again, bit for bit.

        Raises TransferError, after all others are back, for those that cannot be.
        """
        failures = []
        for old in self.changed.values():
            try:
                assign_values(self.target, old.variable.variable, self._kept_values(old))
            except Exception as error:
                failures.append(f"{old.variable.display_name}: {type(error).__name__}: {error}")
        if failures:
            raise TransferError(
                f"{len(failures)} variables of model {self.target.name!r} could not be put back "
                "after an error, "
                f"load its weights again: {'; '.join(failures)}", failures)
        self.commit()
        self.changed.clear()

    def _keep(self, variable: TargetVariable, size: int) -> _OldValues:
        if self.kept_bytes + size <= KEPT_IN_MEMORY:
            self.kept_bytes += size
            return _OldValues(variable, kept_values(self.target, variable.variable), 0, size)
        start = self.journal.seek(0, 2)
        old = np.ascontiguousarray(read_values(self.target, variable.variable))
        self.journal.write(old.reshape(-1).view(np.uint8).data)
        return _OldValues(variable, None, start, old.nbytes)

    def _kept_values(self, old: _OldValues) -> npt.NDArray[Any]:
        dtype, shape = numpy_dtype(old.variable.dtype), old.variable.shape
        if old.kept is not None:
            return np.asarray(old.kept)
        self.journal.seek(old.start)
        return np.frombuffer(self.journal.read(old.size), dtype).reshape(shape)

    def _check(self, variable: TargetVariable, array: npt.NDArray[Any]) -> None:
        if self.variables.get(variable.key) is not variable:
            raise TransferError(
                f"variable {variable.display_name} does not belong to model {self.target.name!r}")
        if tuple(array.shape) != variable.shape:
            raise TransferError(f"{variable.display_name}: expected shape {variable.shape}, got "
                                f"{tuple(array.shape)}")
        if array.dtype != numpy_dtype(variable.dtype):
            raise TransferError(
                f"{variable.display_name}: expected type {variable.dtype}, got {array.dtype}")
