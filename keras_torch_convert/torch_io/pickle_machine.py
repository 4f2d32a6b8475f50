"""A pickle machine that cannot run anything: it moves plain data about and knows a few names."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ..errors import SourceError
from ..util.mapped_memory import MappedMemory
from .pickle_names import REBUILDS, known_value, refuse_attack
from .pickle_values import Name, Placeholder, StorageType, TorchType

_NEWER_MODULES = {"__builtin__": "builtins", "copy_reg": "copyreg"}


@dataclass(slots=True, eq=False)
class PickleMachine:
    """What the operations of a pickle work on: a buffer, a stack with marks, a memo.

    `persistent` is given what the pickle refers to outside itself (PyTorch: its storages) and
    returns a value. `where` begins every error message. `foreign` gathers the names answered by
    placeholders.
    """

    data: bytes | MappedMemory = field(repr=False)
    where: str
    persistent: Callable[[Any], Any]
    foreign: dict[str, None] = field(default_factory=dict, init=False)
    stack: list[Any] = field(default_factory=list, init=False, repr=False)
    marked: list[list[Any]] = field(default_factory=list, init=False, repr=False)
    memo: dict[int, Any] = field(default_factory=dict, init=False, repr=False)
    _names: dict[str, Any] = field(default_factory=dict, init=False, repr=False)
    _copied: int = field(default=0, init=False)

    def take(self, position: int, count: int) -> bytes:
        """Return the next `count` bytes, all of them."""
        taken = self.data[position:position + count]
        if len(taken) != count:
            raise IndexError(count)
        return taken

    def number(self, layout: struct.Struct, position: int) -> Any:
        """Return the number that stands in the next bytes."""
        return layout.unpack(self.data[position:position + layout.size])[0]

    def line(self, position: int) -> tuple[str, int]:
        """Return the text up to the end of the line, and the position after it."""
        end = self.data.find(b"\n", position)
        if end < 0:
            raise IndexError(position)
        return self.data[position:end].decode("utf-8"), end + 1

    def pop_marked(self) -> list[Any]:
        """Return what was pushed since the last mark."""
        items = self.stack
        self.stack = self.marked.pop()
        return items

    def name(self, module: str, name: str) -> Any:
        """Return what a global stands for: a known value, or a Name that is only text."""
        path = f"{_NEWER_MODULES.get(module, module)}.{name}"
        if path not in self._names:
            refuse_attack(module, name, self.where)
            value = known_value(path)
            if value is None:
                value = Name(path)
                self.foreign[path] = None
            self._names[path] = value
        return self._names[path]

    def call(self, function: Any, arguments: Any) -> Any:
        """Return what calling a global with these arguments describes."""
        if not isinstance(arguments, tuple):
            raise TypeError("arguments")
        if isinstance(function, Name):
            rebuild = REBUILDS.get(function.path)
            if rebuild is None:
                return Placeholder(function.path, [arguments], True)
            if arguments and isinstance(arguments[0], (dict, list)):
                # Each element took a byte of the file at least once; copying it again and again
                # would multiply it.
                self._copied += len(arguments[0])
                if self._copied > len(self.data):
                    raise SourceError("the same data is copied again and again")
            return rebuild(*arguments)
        if isinstance(function, Placeholder):
            return Placeholder(function.name, [function, arguments], True)
        if isinstance(function, (StorageType, TorchType)):
            return Placeholder("torch.Storage", [arguments], True)
        raise TypeError("call")

    def make(self, made_class: Any, arguments: Any) -> Any:
        """Return what an object of a class is before its state is set."""
        if isinstance(made_class, Name) and made_class.path not in REBUILDS:
            return Placeholder(made_class.path, [arguments], False)
        return self.call(made_class, arguments)
