"""Pickles of all protocols read without running anything: the operations that Python's pickletools
documents.

Each operation works on a PickleMachine and returns the position after its argument. Nothing here
recurses, and nothing reserves memory by a size that the file merely claims.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

from ..errors import ConversionError, SourceError
from .pickle_machine import PickleMachine
from .pickle_values import InertKey, NumpyArray, NumpyType, Placeholder, short

_ATOMS = (str, int, float, bool, bytes, type(None))
_LONGEST_TUPLE_KEY = 16
# Python's own limit for turning text into an integer, which takes quadratic time.
_LONGEST_NUMBER = 4300

_STOP = ord(".")

_UINT8 = struct.Struct("<B")
_INT32 = struct.Struct("<i")
_UINT16 = struct.Struct("<H")
_UINT32 = struct.Struct("<I")
_UINT64 = struct.Struct("<Q")
_FLOAT64 = struct.Struct(">d")

Operation = Callable[[PickleMachine, int], int]
# By code; None where no operation is known, and for the one that ends a pickle.
_OPERATIONS: list[Operation | None] = [None] * 256


class PickleReader(PickleMachine):
    """A machine that reads the pickles of a buffer."""
    def load(self, position: int = 0) -> tuple[Any, int]:
        """Return the value of the pickle that begins at `position`, and the position after it.

        Raises SourceError when it is damaged or cut short, UnsafeFileError when it names what only
        an attack would.
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
            raise SourceError(
                f"{self.where}: damaged pickle at byte {position}: {error}") from error
        except (IndexError, KeyError, ValueError, TypeError, AttributeError, struct.error,
                OverflowError) as error:
            raise SourceError(
                f"{self.where}: damaged or cut short: the pickle makes no sense at byte "
                f"{position}; download the file again") from error


def _operation(code: bytes) -> Callable[[Operation], Operation]:
    def register(function: Operation) -> Operation:
        _OPERATIONS[code[0]] = function
        return function

    return register


def _integer(text: str) -> int:
    if len(text) > _LONGEST_NUMBER:
        raise ValueError("digits")
    return int(text)


# --- constants and numbers ---


def _constant(make: Callable[[], Any]) -> Operation:
    def push(machine: PickleMachine, position: int) -> int:
        machine.stack.append(make())
        return position

    return push


# A set is read as the list of its elements: it never holds weights, and elements then need no hash.
_CONSTANTS: dict[bytes, Callable[[], Any]] = {
    b"N": lambda: None, b"\x88": lambda: True, b"\x89": lambda: False, b")": tuple, b"]": list,
    b"}": dict, b"\x8f": list
}
for _code, _make in _CONSTANTS.items():
    _OPERATIONS[_code[0]] = _constant(_make)


def _number(layout: struct.Struct) -> Operation:
    def push(machine: PickleMachine, position: int) -> int:
        machine.stack.append(machine.number(layout, position))
        return position + layout.size

    return push


for _code, _layout in {b"K": _UINT8, b"J": _INT32, b"M": _UINT16, b"G": _FLOAT64}.items():
    _OPERATIONS[_code[0]] = _number(_layout)


def _long(machine: PickleMachine, position: int, count: int) -> int:
    machine.stack.append(int.from_bytes(machine.take(position, count), "little", signed=True))
    return position + count


@_operation(b"\x8a")
def _long1(machine: PickleMachine, position: int) -> int:
    return _long(machine, position + 1, machine.data[position])


@_operation(b"\x8b")
def _long4(machine: PickleMachine, position: int) -> int:
    return _long(machine, position + 4, machine.number(_UINT32, position))


@_operation(b"I")
def _text_int(machine: PickleMachine, position: int) -> int:
    text, position = machine.line(position)
    booleans = {"00": False, "01": True}
    machine.stack.append(booleans[text] if text in booleans else _integer(text))
    return position


@_operation(b"L")
def _text_long(machine: PickleMachine, position: int) -> int:
    text, position = machine.line(position)
    machine.stack.append(_integer(text.removesuffix("L")))
    return position


@_operation(b"F")
def _text_float(machine: PickleMachine, position: int) -> int:
    text, position = machine.line(position)
    machine.stack.append(float(text))
    return position


# --- texts and bytes ---


def _old_text(data: bytes) -> Any:
    """A Python 2 string: text when it is plain ASCII, else bytes."""
    return data.decode("ascii") if data.isascii() else data


def _unicode(data: bytes) -> str:
    return data.decode("utf-8", "surrogatepass")


def _counted(layout: struct.Struct, convert: Callable[[bytes], Any]) -> Operation:
    def push(machine: PickleMachine, position: int) -> int:
        count: int = machine.number(layout, position)
        position += layout.size
        machine.stack.append(convert(machine.take(position, count)))
        return position + count

    return push


_COUNTED: dict[bytes, tuple[struct.Struct, Callable[[bytes], Any]]] = {
    b"\x8c": (_UINT8, _unicode), b"X": (_UINT32, _unicode), b"\x8d": (_UINT64, _unicode),
    b"U": (_UINT8, _old_text), b"T": (_UINT32, _old_text), b"C": (_UINT8, bytes),
    b"B": (_UINT32, bytes), b"\x8e": (_UINT64, bytes), b"\x96": (_UINT64, bytes)
}
for _code, _counted_as in _COUNTED.items():
    _OPERATIONS[_code[0]] = _counted(*_counted_as)


@_operation(b"V")
def _text_unicode(machine: PickleMachine, position: int) -> int:
    end = machine.data.find(b"\n", position)
    if end < 0:
        raise IndexError(position)
    machine.stack.append(machine.data[position:end].decode("raw-unicode-escape"))
    return end + 1


@_operation(b"S")
def _text_string(machine: PickleMachine, position: int) -> int:
    text, position = machine.line(position)
    if len(text) < 2 or text[0] != text[-1] or text[0] not in "\"'":
        raise ValueError("quotes")
    machine.stack.append(
        _old_text(text[1:-1].encode("latin-1").decode("unicode-escape").encode("latin-1")))
    return position


# --- stack and memo ---


@_operation(b"\x80")
def _protocol(machine: PickleMachine, position: int) -> int:
    if machine.data[position] > 5:
        raise SourceError(f"pickle protocol {machine.data[position]} is newer than this reader")
    return position + 1


@_operation(b"\x95")
def _frame(machine: PickleMachine, position: int) -> int:
    return position + 8


@_operation(b"(")
def _mark(machine: PickleMachine, position: int) -> int:
    machine.marked.append(machine.stack)
    machine.stack = []
    return position


@_operation(b"0")
def _pop(machine: PickleMachine, position: int) -> int:
    if machine.stack:
        machine.stack.pop()
    else:
        machine.pop_marked()
    return position


@_operation(b"1")
def _pop_mark(machine: PickleMachine, position: int) -> int:
    machine.pop_marked()
    return position


@_operation(b"2")
def _duplicate(machine: PickleMachine, position: int) -> int:
    machine.stack.append(machine.stack[-1])
    return position


def _put(layout: struct.Struct) -> Operation:
    def put(machine: PickleMachine, position: int) -> int:
        machine.memo[machine.number(layout, position)] = machine.stack[-1]
        return position + layout.size

    return put


def _get(layout: struct.Struct) -> Operation:
    def get(machine: PickleMachine, position: int) -> int:
        machine.stack.append(machine.memo[machine.number(layout, position)])
        return position + layout.size

    return get


_OPERATIONS[ord("q")], _OPERATIONS[ord("r")] = _put(_UINT8), _put(_UINT32)
_OPERATIONS[ord("h")], _OPERATIONS[ord("j")] = _get(_UINT8), _get(_UINT32)


@_operation(b"p")
def _put_text(machine: PickleMachine, position: int) -> int:
    text, position = machine.line(position)
    machine.memo[_integer(text)] = machine.stack[-1]
    return position


@_operation(b"g")
def _get_text(machine: PickleMachine, position: int) -> int:
    text, position = machine.line(position)
    machine.stack.append(machine.memo[_integer(text)])
    return position


@_operation(b"\x94")
def _memoize(machine: PickleMachine, position: int) -> int:
    machine.memo[len(machine.memo)] = machine.stack[-1]
    return position


# --- containers ---


@_operation(b"t")
def _tuple(machine: PickleMachine, position: int) -> int:
    items = tuple(machine.pop_marked())
    machine.stack.append(items)
    return position


def _short_tuple(count: int) -> Operation:
    def push(machine: PickleMachine, position: int) -> int:
        stack = machine.stack
        if len(stack) < count:
            raise IndexError(count)
        stack[-count:] = [tuple(stack[-count:])]
        return position

    return push


for _code, _count in {b"\x85": 1, b"\x86": 2, b"\x87": 3}.items():
    _OPERATIONS[_code[0]] = _short_tuple(_count)


@_operation(b"l")
@_operation(b"\x91")
def _list(machine: PickleMachine, position: int) -> int:
    items = machine.pop_marked()
    machine.stack.append(items)
    return position


def _extend(target: Any, items: list[Any]) -> None:
    if isinstance(target, Placeholder):
        target.contents.extend(items)
    elif isinstance(target, list):
        target.extend(items)
    else:
        raise TypeError("append")


@_operation(b"a")
def _append(machine: PickleMachine, position: int) -> int:
    item = machine.stack.pop()
    _extend(machine.stack[-1], [item])
    return position


@_operation(b"e")
@_operation(b"\x90")
def _appends(machine: PickleMachine, position: int) -> int:
    items = machine.pop_marked()
    _extend(machine.stack[-1], items)
    return position


def _key(value: Any) -> Any:
    if isinstance(value, _ATOMS):
        return value
    flat = (isinstance(value, tuple) and len(value) <= _LONGEST_TUPLE_KEY
            and all(isinstance(item, _ATOMS) for item in value))
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
            raise SourceError(f"key {short(key)} is there twice")
        target[key] = items[index + 1]


@_operation(b"d")
def _dict(machine: PickleMachine, position: int) -> int:
    items = machine.pop_marked()
    target: dict[Any, Any] = {}
    _set_items(target, items)
    machine.stack.append(target)
    return position


@_operation(b"s")
def _set_item(machine: PickleMachine, position: int) -> int:
    value, key = machine.stack.pop(), machine.stack.pop()
    _set_items(machine.stack[-1], [key, value])
    return position


@_operation(b"u")
def _set_many(machine: PickleMachine, position: int) -> int:
    items = machine.pop_marked()
    _set_items(machine.stack[-1], items)
    return position


# --- names, objects, and what lies outside ---


@_operation(b"c")
def _global(machine: PickleMachine, position: int) -> int:
    module, position = machine.line(position)
    name, position = machine.line(position)
    machine.stack.append(machine.name(module, name))
    return position


@_operation(b"\x93")
def _stack_global(machine: PickleMachine, position: int) -> int:
    name, module = machine.stack.pop(), machine.stack.pop()
    if not isinstance(name, str) or not isinstance(module, str):
        raise TypeError("name")
    machine.stack.append(machine.name(module, name))
    return position


@_operation(b"R")
def _reduce(machine: PickleMachine, position: int) -> int:
    arguments = machine.stack.pop()
    machine.stack[-1] = machine.call(machine.stack[-1], arguments)
    return position


@_operation(b"\x81")
def _new_object(machine: PickleMachine, position: int) -> int:
    arguments = machine.stack.pop()
    machine.stack[-1] = machine.make(machine.stack[-1], arguments)
    return position


@_operation(b"\x92")
def _new_object_with_keywords(machine: PickleMachine, position: int) -> int:
    keywords, arguments, made_class = machine.stack.pop(), machine.stack.pop(), machine.stack.pop()
    machine.stack.append(machine.make(made_class,
                                      (*arguments, keywords) if keywords else arguments))
    return position


@_operation(b"i")
def _instance(machine: PickleMachine, position: int) -> int:
    module, position = machine.line(position)
    name, position = machine.line(position)
    arguments = tuple(machine.pop_marked())
    machine.stack.append(machine.make(machine.name(module, name), arguments))
    return position


@_operation(b"o")
def _object(machine: PickleMachine, position: int) -> int:
    made_class, *arguments = machine.pop_marked()
    machine.stack.append(machine.make(made_class, tuple(arguments)))
    return position


@_operation(b"b")
def _build(machine: PickleMachine, position: int) -> int:
    state = machine.stack.pop()
    target = machine.stack[-1]
    if isinstance(target, Placeholder):
        target.contents.append(state)
    elif isinstance(target, NumpyArray):
        _, target.shape, target.dtype, target.fortran, target.values = state
    elif isinstance(target, NumpyType):
        # Anything in the third place and after describes a record or an array type, which no
        # weights have.
        target.byte_order = state[1] if state[2:5] == (None, None, None) and isinstance(
            state[1], str) else "record"
    elif not isinstance(target, dict):
        # A dictionary's attributes (`_metadata` of a state dict) are no weights.
        raise TypeError("state")
    return position


@_operation(b"Q")
def _persistent(machine: PickleMachine, position: int) -> int:
    machine.stack.append(machine.persistent(machine.stack.pop()))
    return position
