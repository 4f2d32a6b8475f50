"""Pickles read one after the other without running anything. All protocols are read."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

from ..errors import ConversionError, SourceError
from .pickle_machine import PickleMachine
from .pickle_operations import OPERATIONS

_STOP = ord(".")


@dataclass(slots=True, eq=False)
class PickleReader(PickleMachine):
    """A machine that reads the pickles of a buffer."""
    def load(self, position: int = 0) -> tuple[Any, int]:
        """The value of the pickle that begins at `position`, and the position after it.

        SourceError when it is damaged or cut short, UnsafeFileError when it names what only an
        attack would.
        """
        self.stack, self.marked, self.memo = [], [], {}
        data, operations = self.data, OPERATIONS
        try:
            while True:
                code = data[position]
                position += 1
                operation = operations[code]
                if operation is not None:
                    position = operation(self, position)
                elif code == _STOP:
                    return self.stack.pop(), position
                else:
                    raise SourceError(f"operation {bytes([code])!r} is unknown or not allowed")
        except ConversionError as error:
            if str(error).startswith(self.where):
                raise
            raise SourceError(
                f"{self.where}: damaged pickle at byte {position}: {error}") from error
        except (IndexError, KeyError, ValueError, TypeError, AttributeError, struct.error,
                OverflowError) as error:
            raise SourceError(
                f"{self.where}: damaged or cut short: the pickle makes no sense at byte "
                f"{position}; download the file again") from error
