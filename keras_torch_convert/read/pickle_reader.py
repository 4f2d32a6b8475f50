"""A pickle machine that cannot run anything: it moves plain data about and asks `pickle_names` for the few names it knows.

All protocols are read. The operations are those documented in Python's pickletools. Nothing here recurses, and nothing
reserves memory by a size that the file merely claims.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ..errors import ConversionError, SourceError
from .pickle_names import REBUILDS, known_value, refuse_attack
from .pickle_values import InertKey, Name, NumpyArray, NumpyType, Placeholder, StorageType, TorchType

_ATOMS = (str, int, float, bool, bytes, type(None))
_LONGEST_TUPLE_KEY = 16
# Python's own limit for turning text into an integer, which takes quadratic time.
_LONGEST_NUMBER = 4300
_NEWER_MODULES = {"__builtin__": "builtins", "copy_reg": "copyreg"}

_INT32 = struct.Struct("<i")
_UINT16 = struct.Struct("<H")
_UINT32 = struct.Struct("<I")
_UINT64 = struct.Struct("<Q")
_FLOAT64 = struct.Struct(">d")

Operation = Callable[["PickleReader", int], int]
_OPERATIONS: list[Operation | None] = [None] * 256


@dataclass(slots=True, eq=False)
class PickleReader:
    """Reads pickles one after the other from a buffer. `foreign` gathers the names answered by placeholders.

    `persistent` is given what the pickle refers to outside itself (PyTorch: its storages) and answers with a value.
    `where` begins every error message.
    """

    data: bytes | mmap.mmap = field(repr=False)
    where: str
    persistent: Callable[[Any], Any]
    foreign: dict[str, None] = field(default_factory=dict, init=False)
    stack: list[Any] = field(default_factory=list, init=False, repr=False)
    marked: list[list[Any]] = field(default_factory=list, init=False, repr=False)
    memo: dict[int, Any] = field(default_factory=dict, init=False, repr=False)
    _names: dict[str, Any] = field(default_factory=dict, init=False, repr=False)
    _copied: int = field(default=0, init=False)

    def load(self, position: int = 0) -> tuple[Any, int]:
        """The value of the pickle that begins at `position`, and the position after it.

        SourceError when it is damaged or cut short, UnsafeFileError when it names what only an attack would.
        """
        self.stack, self.marked, self.memo = [], [], {}
        data, operations = self.data, _OPERATIONS
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
            raise SourceError(f"{self.where}: damaged pickle at byte {position}: {error}") from error
        except (IndexError, KeyError, ValueError, TypeError, AttributeError, struct.error, OverflowError) as error:
            raise SourceError(
                f"{self.where}: damaged or cut short: the pickle makes no sense at byte {position}; download the file again"
            ) from error

    def take(self, position: int, count: int) -> bytes:
        """The next `count` bytes, all of them."""
        taken = self.data[position : position + count]
        if len(taken) != count:
            raise IndexError(count)
        return taken

    def line(self, position: int) -> tuple[str, int]:
        """The text up to the end of the line, and the position after it."""
        end = self.data.find(b"\n", position)
        if end < 0:
            raise IndexError(position)
        return self.data[position:end].decode("utf-8"), end + 1

    def pop_marked(self) -> list[Any]:
        """What was pushed since the last mark."""
        items = self.stack
        self.stack = self.marked.pop()
        return items

    def name(self, module: str, name: str) -> Any:
        """What a global stands for: one of the known values, or a Name that is only text."""
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
        """What calling a global with these arguments describes."""
        if not isinstance(arguments, tuple):
            raise TypeError("arguments")
        if isinstance(function, Name):
            rebuild = REBUILDS.get(function.path)
            if rebuild is None:
                return Placeholder(function.path, [arguments], True)
            if arguments and isinstance(arguments[0], (dict, list)):
                # Each element took a byte of the file at least once; copying it again and again would multiply it.
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
        """What an object of a class is before its state is set."""
        if isinstance(made_class, Name) and made_class.path not in REBUILDS:
            return Placeholder(made_class.path, [arguments], False)
        return self.call(made_class, arguments)


def _operation(code: bytes) -> Callable[[Operation], Operation]:
    def register(function: Operation) -> Operation:
        _OPERATIONS[code[0]] = function
        return function

    return register


_STOP = ord(".")


def _integer(text: str) -> int:
    if len(text) > _LONGEST_NUMBER:
        raise ValueError("digits")
    return int(text)


# --- constants and numbers ---


def _push_constant(code: bytes, make: Callable[[], Any]) -> None:
    def push(reader: PickleReader, position: int) -> int:
        reader.stack.append(make())
        return position

    _OPERATIONS[code[0]] = push


_push_constant(b"N", lambda: None)
_push_constant(b"\x88", lambda: True)
_push_constant(b"\x89", lambda: False)
_push_constant(b")", tuple)
_push_constant(b"]", list)
_push_constant(b"}", dict)
# A set is read as the list of its elements: it never holds weights, and elements then need no hash.
_push_constant(b"\x8f", list)


@_operation(b"K")
def _byte(reader: PickleReader, position: int) -> int:
    reader.stack.append(reader.data[position])
    return position + 1


def _push_number(code: bytes, layout: struct.Struct) -> None:
    def push(reader: PickleReader, position: int) -> int:
        reader.stack.append(layout.unpack_from(reader.data, position)[0])
        return position + layout.size

    _OPERATIONS[code[0]] = push


_push_number(b"J", _INT32)
_push_number(b"M", _UINT16)
_push_number(b"G", _FLOAT64)


def _long(reader: PickleReader, position: int, count: int) -> int:
    reader.stack.append(int.from_bytes(reader.take(position, count), "little", signed=True))
    return position + count


@_operation(b"\x8a")
def _long1(reader: PickleReader, position: int) -> int:
    return _long(reader, position + 1, reader.data[position])


@_operation(b"\x8b")
def _long4(reader: PickleReader, position: int) -> int:
    return _long(reader, position + 4, _UINT32.unpack_from(reader.data, position)[0])


@_operation(b"I")
def _text_int(reader: PickleReader, position: int) -> int:
    text, position = reader.line(position)
    booleans = {"00": False, "01": True}
    reader.stack.append(booleans[text] if text in booleans else _integer(text))
    return position


@_operation(b"L")
def _text_long(reader: PickleReader, position: int) -> int:
    text, position = reader.line(position)
    reader.stack.append(_integer(text.removesuffix("L")))
    return position


@_operation(b"F")
def _text_float(reader: PickleReader, position: int) -> int:
    text, position = reader.line(position)
    reader.stack.append(float(text))
    return position


# --- texts and bytes ---


def _old_text(data: bytes) -> Any:
    """A Python 2 string: text when it is plain ASCII, else bytes."""
    return data.decode("ascii") if data.isascii() else data


def _push_counted(code: bytes, layout: struct.Struct | None, convert: Callable[[bytes], Any]) -> None:
    def push(reader: PickleReader, position: int) -> int:
        if layout is None:
            count, position = reader.data[position], position + 1
        else:
            count, position = layout.unpack_from(reader.data, position)[0], position + layout.size
        reader.stack.append(convert(reader.take(position, count)))
        return position + int(count)

    _OPERATIONS[code[0]] = push


def _unicode(data: bytes) -> str:
    return data.decode("utf-8", "surrogatepass")


_push_counted(b"X", _UINT32, _unicode)
_push_counted(b"\x8c", None, _unicode)
_push_counted(b"\x8d", _UINT64, _unicode)
_push_counted(b"U", None, _old_text)
_push_counted(b"T", _UINT32, _old_text)
_push_counted(b"C", None, bytes)
_push_counted(b"B", _UINT32, bytes)
_push_counted(b"\x8e", _UINT64, bytes)
_push_counted(b"\x96", _UINT64, bytes)


@_operation(b"V")
def _text_unicode(reader: PickleReader, position: int) -> int:
    end = reader.data.find(b"\n", position)
    if end < 0:
        raise IndexError(position)
    reader.stack.append(reader.data[position:end].decode("raw-unicode-escape"))
    return end + 1


@_operation(b"S")
def _text_string(reader: PickleReader, position: int) -> int:
    text, position = reader.line(position)
    if len(text) < 2 or text[0] != text[-1] or text[0] not in "\"'":
        raise ValueError("quotes")
    reader.stack.append(_old_text(text[1:-1].encode("latin-1").decode("unicode-escape").encode("latin-1")))
    return position


# --- stack and memo ---


@_operation(b"\x80")
def _protocol(reader: PickleReader, position: int) -> int:
    if reader.data[position] > 5:
        raise SourceError(f"pickle protocol {reader.data[position]} is newer than this reader")
    return position + 1


@_operation(b"\x95")
def _frame(reader: PickleReader, position: int) -> int:
    return position + 8


@_operation(b"(")
def _mark(reader: PickleReader, position: int) -> int:
    reader.marked.append(reader.stack)
    reader.stack = []
    return position


@_operation(b"0")
def _pop(reader: PickleReader, position: int) -> int:
    if reader.stack:
        reader.stack.pop()
    else:
        reader.pop_marked()
    return position


@_operation(b"1")
def _pop_mark(reader: PickleReader, position: int) -> int:
    reader.pop_marked()
    return position


@_operation(b"2")
def _duplicate(reader: PickleReader, position: int) -> int:
    reader.stack.append(reader.stack[-1])
    return position


@_operation(b"q")
def _put1(reader: PickleReader, position: int) -> int:
    reader.memo[reader.data[position]] = reader.stack[-1]
    return position + 1


@_operation(b"r")
def _put4(reader: PickleReader, position: int) -> int:
    reader.memo[_UINT32.unpack_from(reader.data, position)[0]] = reader.stack[-1]
    return position + 4


@_operation(b"p")
def _put_text(reader: PickleReader, position: int) -> int:
    text, position = reader.line(position)
    reader.memo[_integer(text)] = reader.stack[-1]
    return position


@_operation(b"\x94")
def _memoize(reader: PickleReader, position: int) -> int:
    reader.memo[len(reader.memo)] = reader.stack[-1]
    return position


@_operation(b"h")
def _get1(reader: PickleReader, position: int) -> int:
    reader.stack.append(reader.memo[reader.data[position]])
    return position + 1


@_operation(b"j")
def _get4(reader: PickleReader, position: int) -> int:
    reader.stack.append(reader.memo[_UINT32.unpack_from(reader.data, position)[0]])
    return position + 4


@_operation(b"g")
def _get_text(reader: PickleReader, position: int) -> int:
    text, position = reader.line(position)
    reader.stack.append(reader.memo[_integer(text)])
    return position


# --- containers ---


@_operation(b"t")
def _tuple(reader: PickleReader, position: int) -> int:
    items = tuple(reader.pop_marked())
    reader.stack.append(items)
    return position


def _push_tuple(code: bytes, count: int) -> None:
    def push(reader: PickleReader, position: int) -> int:
        stack = reader.stack
        if len(stack) < count:
            raise IndexError(count)
        stack[-count:] = [tuple(stack[-count:])]
        return position

    _OPERATIONS[code[0]] = push


_push_tuple(b"\x85", 1)
_push_tuple(b"\x86", 2)
_push_tuple(b"\x87", 3)


@_operation(b"l")
@_operation(b"\x91")
def _list(reader: PickleReader, position: int) -> int:
    items = reader.pop_marked()
    reader.stack.append(items)
    return position


def _extend(target: Any, items: list[Any]) -> None:
    if isinstance(target, Placeholder):
        target.contents.extend(items)
    elif isinstance(target, list):
        target.extend(items)
    else:
        raise TypeError("append")


@_operation(b"a")
def _append(reader: PickleReader, position: int) -> int:
    item = reader.stack.pop()
    _extend(reader.stack[-1], [item])
    return position


@_operation(b"e")
@_operation(b"\x90")
def _appends(reader: PickleReader, position: int) -> int:
    items = reader.pop_marked()
    _extend(reader.stack[-1], items)
    return position


def _key(value: Any) -> Any:
    if isinstance(value, _ATOMS):
        return value
    flat = (
        isinstance(value, tuple)
        and len(value) <= _LONGEST_TUPLE_KEY
        and all(isinstance(item, _ATOMS) for item in value)
    )
    return value if flat else InertKey(value)


def _set_items(target: Any, items: list[Any]) -> None:
    if len(items) % 2:
        raise IndexError(len(items))
    if isinstance(target, Placeholder):
        target.contents.extend(items)
        return
    if not isinstance(target, dict):
        raise TypeError("items")
    for index in range(0, len(items), 2):
        key = _key(items[index])
        if key in target:
            # No dictionary is written with a key twice: one of the two values would be lost.
            raise SourceError(f"key {str(key)[:100]!r} is there twice")
        target[key] = items[index + 1]


@_operation(b"d")
def _dict(reader: PickleReader, position: int) -> int:
    items = reader.pop_marked()
    target: dict[Any, Any] = {}
    _set_items(target, items)
    reader.stack.append(target)
    return position


@_operation(b"s")
def _set_item(reader: PickleReader, position: int) -> int:
    value, key = reader.stack.pop(), reader.stack.pop()
    _set_items(reader.stack[-1], [key, value])
    return position


@_operation(b"u")
def _set_many(reader: PickleReader, position: int) -> int:
    items = reader.pop_marked()
    _set_items(reader.stack[-1], items)
    return position


# --- names, objects, and what lies outside ---


@_operation(b"c")
def _global(reader: PickleReader, position: int) -> int:
    module, position = reader.line(position)
    name, position = reader.line(position)
    reader.stack.append(reader.name(module, name))
    return position


@_operation(b"\x93")
def _stack_global(reader: PickleReader, position: int) -> int:
    name, module = reader.stack.pop(), reader.stack.pop()
    if not isinstance(name, str) or not isinstance(module, str):
        raise TypeError("name")
    reader.stack.append(reader.name(module, name))
    return position


@_operation(b"R")
def _reduce(reader: PickleReader, position: int) -> int:
    arguments = reader.stack.pop()
    reader.stack[-1] = reader.call(reader.stack[-1], arguments)
    return position


@_operation(b"\x81")
def _new_object(reader: PickleReader, position: int) -> int:
    arguments = reader.stack.pop()
    reader.stack[-1] = reader.make(reader.stack[-1], arguments)
    return position


@_operation(b"\x92")
def _new_object_with_keywords(reader: PickleReader, position: int) -> int:
    keywords, arguments, made_class = reader.stack.pop(), reader.stack.pop(), reader.stack.pop()
    reader.stack.append(reader.make(made_class, (*arguments, keywords) if keywords else arguments))
    return position


@_operation(b"i")
def _instance(reader: PickleReader, position: int) -> int:
    module, position = reader.line(position)
    name, position = reader.line(position)
    arguments = tuple(reader.pop_marked())
    reader.stack.append(reader.make(reader.name(module, name), arguments))
    return position


@_operation(b"o")
def _object(reader: PickleReader, position: int) -> int:
    made_class, *arguments = reader.pop_marked()
    reader.stack.append(reader.make(made_class, tuple(arguments)))
    return position


@_operation(b"b")
def _build(reader: PickleReader, position: int) -> int:
    state = reader.stack.pop()
    target = reader.stack[-1]
    if isinstance(target, Placeholder):
        target.contents.append(state)
    elif isinstance(target, NumpyArray):
        _, target.shape, target.dtype, target.fortran, target.values = state
    elif isinstance(target, NumpyType):
        # Anything in the third place and after describes a record or an array type, which no weights have.
        target.byte_order = state[1] if state[2:5] == (None, None, None) and isinstance(state[1], str) else "record"
    elif not isinstance(target, dict):
        # A dictionary's attributes (`_metadata` of a state dict) are no weights.
        raise TypeError("state")
    return position


@_operation(b"Q")
def _persistent(reader: PickleReader, position: int) -> int:
    reader.stack.append(reader.persistent(reader.stack.pop()))
    return position
