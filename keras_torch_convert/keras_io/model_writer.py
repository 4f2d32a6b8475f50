"""Values into the variables of a live model, and the file of it, all or nothing.

Before a variable changes, its old values are kept: in memory as long as that is little, else in a
temporary file, so that a big model is never held twice. Any exception, an interrupt included,
restores every changed variable bit for bit.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from .. import _core
from ..errors import TransferError
from ..plan.evaluation import Copies
from ..spec.dtypes import NUMPY_TYPES, numpy_dtype
from ..spec.target import Target, TargetVariable
from ..util.atomic_file import AtomicFile
from ..util.interrupts import deferred_sigint
from ..util.mapped_memory import lie_in_files
from .keras_save import check_path
from .save_model import write_model
from .values import array_to_give, assign_values, kept_values, own_memory, read_values
from .write_from_layout import WrittenFile

Array = npt.NDArray[Any]
# Old values beyond this many bytes go to a temporary file, in pieces: larger ones are slower.
KEPT_IN_MEMORY = 256 * 2**20
_PIECE = 2**20


@contextmanager
def transaction(target: Target) -> Iterator[ModelWriter]:
    """Write into a model's variables and a file: all of it stays, or nothing when an exception
    leaves the block.

    Layers that keep something computed from their variables (Keras's Normalization) compute it
    again. An exception passes on as it came; an interrupt lets nothing be half new, also when it
    arrives during the commit or the rollback.

    Raises:
        TransferError: Variables could not be restored after an error; the message names them.
    """
    with deferred_sigint(let_through=1), ExitStack() as stack:
        journal = stack.enter_context(tempfile.TemporaryFile())
        adapters = {one.key: one for one in target.adapters}
        writer = ModelWriter(target, journal, target.variables | adapters, stack)
        try:
            try:
                yield writer
                writer.commit()
            except BaseException:
                writer.rollback()
                raise
        except BaseException:
            # The one interrupt that is let through may have ended the first rollback.
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
    stack: ExitStack
    file: AtomicFile | None = None
    changed: dict[str, _OldValues] = field(default_factory=dict)
    kept_bytes: int = 0
    # One block for all old values that are copied: fresh pages cost more than the copy, and less
    # where they are large.
    block: Array | None = None

    def fill(self, variable: TargetVariable, values: Callable[[Array | None], Array]) -> None:
        """Give one variable new values, computed straight into its own memory where that is
        possible.

        Args:
            variable: A variable of this model.
            values: Takes an array of the variable's shape to write into (bfloat16 as its bits), or
                None, and returns the values, there or elsewhere.

        Raises:
            TransferError: As `write` does.
        """
        memory = self._memory(variable)
        if memory is None:
            into = array_to_give(variable.shape, variable.dtype)
            self.write(variable, values(into), given=True)
            return
        if variable.key not in self.changed:
            self.changed[variable.key] = self._keep(variable, memory)
        array = values(memory)
        if not np.may_share_memory(array, memory):
            self.write(variable, array)

    def copy_all(self, copies: Iterable[tuple[TargetVariable, Callable[[Array],
                                                                       Copies | None]]]) -> bool:
        """Give variables new values in one step that neither fails nor is interrupted, so that no
        old values are kept: nothing that may fail is to follow in the transaction.

        Args:
            copies: Variables with the function that says, for an array in their memory, what is to
                be copied where; None where it takes more.

        Returns:
            Whether it was done; else nothing has changed.
        """
        if any(hasattr(leaf.layer, "finalize_state") for leaf in self.target.leaves()):
            return False
        pairs: Copies = []
        for variable, copies_into in copies:
            memory = self._memory(variable)
            found = None if memory is None else copies_into(memory)
            if found is None:
                return False
            pairs += found
        sources, targets = tuple(one for one, _ in pairs), tuple(one for _, one in pairs)
        if lie_in_files(sources):
            return False
        _core.copy_strided_all(sources, targets)
        return True

    def write(self, variable: TargetVariable, array: Array, *, given: bool = False) -> None:
        """Give one variable new values.

        Args:
            variable: A variable of this model.
            array: Values of just its shape and dtype (bfloat16 as ml_dtypes.bfloat16).
            given: Let the variable share the array's memory: nobody else uses it.

        Raises:
            TransferError: The array does not fit, or the variable is not one of this model;
                nothing is changed then.
        """
        array = np.asarray(array)  # NumPy turns arrays without axes into scalars of its own
        self._check(variable, array)
        # First the old values, then their entry, then the change: an interrupt between any two of
        # them loses nothing.
        if variable.key not in self.changed:
            self.changed[variable.key] = self._keep(variable)
        assign_values(self.target, variable.variable, array, given)

    def save(
        self, path: str | PathLike[str], digests: tuple[str,
                                                        ...] = ("md5", "sha256")) -> WrittenFile:
        """Write the model to a file, which takes its name when the transaction is committed.

        Args:
            path: `.weights.h5` holds the weights, `.keras` and the legacy `.h5` or `.hdf5` the
                whole model. An existing file is replaced in one step.
            digests: Checksums to compute, by names that hashlib knows.

        Returns:
            The file, with its digests, read back and found equal to the model.

        Raises:
            SaveError: As `check_path` does, when Keras cannot save the model so, or when what was
                written reads back different.
        """
        check_path(path, self.target)
        self.file = self.stack.enter_context(AtomicFile(Path(path)))
        written = write_model(self.target, self.file, digests)
        self.file.prepare()
        return written

    def finalize_layers(self) -> None:
        """Let the layers whose variables changed recompute what they derive from them."""
        for leaf in {id(leaf.layer): leaf for leaf in self.target.leaves()}.values():
            if any(variable.key in self.changed for variable in leaf.variables) and hasattr(
                    leaf.layer, "finalize_state"):
                leaf.layer.finalize_state()

    def commit(self) -> None:
        """Keep what was written. Renaming the file is the last step, and the last that can fail."""
        self.finalize_layers()
        with deferred_sigint():
            if self.file is not None:
                self.file.commit()
            self.changed.clear()

    def rollback(self) -> None:
        """Give every changed variable its old values again, bit for bit.

        Raises TransferError, after all others are restored, for those that cannot be.
        """
        failures = []
        for old in self.changed.values():
            try:
                assign_values(self.target, old.variable.variable, self._kept_values(old))
            except Exception as error:
                failures.append(f"{old.variable.display_name}: {type(error).__name__}: {error}")
        if failures:
            raise TransferError(
                f"{len(failures)} variables of model {self.target.name!r} could not be restored "
                f"after an error, load its weights again: {'; '.join(failures)}", failures)
        self.finalize_layers()
        self.changed.clear()

    def _memory(self, variable: TargetVariable) -> Array | None:
        """Return the memory of a variable of this model where values can be put into it."""
        memory = own_memory(self.target, variable.variable)
        fits = self.variables.get(variable.key) is variable and memory is not None and (
            memory.shape, memory.dtype) == (variable.shape, NUMPY_TYPES.get(variable.dtype))
        return memory if fits else None

    def _keep(self, variable: TargetVariable, memory: Array | None = None) -> _OldValues:
        size = _size_of(variable)
        in_memory = self.kept_bytes + size <= KEPT_IN_MEMORY
        if in_memory and self.target.backend != "torch":
            self.kept_bytes += size
            return _OldValues(variable, kept_values(self.target, variable.variable), 0, size)
        old = read_values(self.target, variable.variable) if memory is None else memory
        if in_memory:
            self.kept_bytes += size
            return _OldValues(variable, self._copied(old), 0, size)
        start = self.journal.seek(0, 2)
        content = np.ascontiguousarray(old).reshape(-1).view(np.uint8).data
        for first in range(0, old.nbytes, _PIECE):
            self.journal.write(content[first:first + _PIECE])
        return _OldValues(variable, None, start, old.nbytes)

    def _copied(self, old: Array) -> Array:
        """Return a copy in the block, in the type of the variable."""
        if self.block is None:
            size = sum(map(_size_of, self.variables.values()))
            self.block = np.empty(min(size, KEPT_IN_MEMORY), np.uint8)
        copy = self.block[self.kept_bytes - old.nbytes:self.kept_bytes].view(old.dtype)
        copy = copy.reshape(old.shape)
        np.copyto(copy, old)
        return copy

    def _kept_values(self, old: _OldValues) -> Array:
        dtype, shape = numpy_dtype(old.variable.dtype), old.variable.shape
        if old.kept is not None:
            return np.asarray(old.kept).view(dtype)
        self.journal.seek(old.start)
        return np.frombuffer(self.journal.read(old.size), dtype).reshape(shape)

    def _check(self, variable: TargetVariable, array: Array) -> None:
        if self.variables.get(variable.key) is not variable:
            raise TransferError(
                f"variable {variable.display_name} does not belong to model {self.target.name!r}")
        if tuple(array.shape) != variable.shape:
            raise TransferError(f"{variable.display_name}: expected shape {variable.shape}, got "
                                f"{tuple(array.shape)}")
        if array.dtype != numpy_dtype(variable.dtype):
            raise TransferError(
                f"{variable.display_name}: expected type {variable.dtype}, got {array.dtype}")


def _size_of(variable: TargetVariable) -> int:
    """Return the number of bytes of a variable."""
    return variable.size * numpy_dtype(variable.dtype).itemsize
