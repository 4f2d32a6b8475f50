"""Pickles put together opcode by opcode: those of PyTorch's files, and worse."""

from __future__ import annotations

import io
import random
import struct
import zipfile
from dataclasses import dataclass
from typing import Any

from .mutations import EXTREMES, add, altered, damaged, odd_value

# What an attack would call, and what rebuilds tensors.
CALLABLES = ("posix system", "os system", "builtins eval", "builtins exec", "subprocess Popen",
             "builtins getattr", "runpy _run_code", "webbrowser open", "torch load", "nt system",
             "numpy load", "torch.hub load", "builtins __import__", "operator attrgetter",
             "shutil rmtree", "torch.jit load", "pickle loads", "__builtin__ apply",
             "torch._utils _rebuild_tensor_v2", "torch._utils _rebuild_parameter",
             "collections OrderedDict", "torch Size", "torch FloatStorage", "torch DoubleStorage",
             "numpy.core.multiarray _reconstruct", "numpy ndarray", "numpy dtype",
             "torch._utils _rebuild_sparse_tensor", "argparse Namespace", "builtins set",
             "_codecs encode", "torch.storage _load_from_bytes", "builtins bytearray")


@dataclass(frozen=True)
class Global:
    name: str


@dataclass(frozen=True)
class Call:
    function: Any
    arguments: Any


@dataclass(frozen=True)
class Reference:
    value: Any


@dataclass(frozen=True)
class Built:
    value: Any
    state: Any


@dataclass(frozen=True)
class Doubled:
    """A tuple of a tuple twice, and so on: 2**levels values when it is printed."""

    levels: int


def pickled(value: Any) -> bytes:
    """Return the pickle, of protocol 2."""
    return b"\x80\x02" + _opcodes(value) + b"."


def _opcodes(value: Any) -> bytes:
    match value:
        case None | bool():
            return {None: b"N", True: b"\x88", False: b"\x89"}[value]
        case int() if 0 <= value < 256:
            return b"K" + bytes([value])
        case int():
            data = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
            return b"\x8b" + struct.pack("<I", len(data)) + data
        case float():
            return b"G" + struct.pack(">d", value)
        case str():
            data = value.encode("utf-8", "surrogatepass")
            return b"X" + struct.pack("<I", len(data)) + data
        case bytes():
            return b"B" + struct.pack("<I", len(value)) + value
        case tuple():
            return b"(" + b"".join(map(_opcodes, value)) + b"t"
        case list():
            return b"](" + b"".join(map(_opcodes, value)) + b"e"
        case dict():
            return b"}(" + b"".join(_opcodes(k) + _opcodes(v) for k, v in value.items()) + b"u"
        case Global():
            return b"c" + value.name.replace(" ", "\n").encode() + b"\n"
        case Call():
            return _opcodes(value.function) + _opcodes(value.arguments) + b"R"
        case Reference():
            return _opcodes(value.value) + b"Q"
        case Doubled():
            return b")" + b"2\x86" * value.levels
        case Built():
            return _opcodes(value.value) + _opcodes(value.state) + b"b"
    raise TypeError(value)


def described_tensor(key: Any, count: Any, shape: Any, strides: Any, offset: Any = 0,
                     storage: str = "torch FloatStorage") -> Call:
    """A tensor as torch.save describes it."""
    reference = Reference(("storage", Global(storage), key, "cpu", count))
    return Call(
        Global("torch._utils _rebuild_tensor_v2"),
        (reference, offset, shape, strides, False, Call(Global("collections OrderedDict"), ())))


def state_dict(rng: random.Random, command: str) -> Any:
    """A state dict, some of whose tensors are described wrongly, or are calls."""
    tensors: dict[Any, Any] = {}
    for number in range(rng.randrange(1, 6)):
        fields: dict[str, Any] = {"key": str(number), "count": 6, "shape": (2, 3),
                                  "strides": (3, 1)}  # yapf: disable
        if rng.random() < 0.4:
            fields = altered(rng, fields, odd=odd_object)
            fields = {name: fields[name] for name in fields
                      if name in ("key", "count", "shape", "strides")} if isinstance(
                          fields, dict) else {}  # yapf: disable
        complete: dict[str, Any] = {"key": "0", "count": 6, "shape": (6,), "strides": (1,)} | fields
        tensors[f"layer{number}.weight"] = described_tensor(**complete)
    choice = rng.random()
    if choice < 0.3:
        tensors["extra"] = hostile_call(rng, command)
    elif choice < 0.4:
        tensors["extra"] = Doubled(rng.choice((10, 40, 3000)))
    return {"state_dict": tensors, "epoch": 3} if rng.random() < 0.3 else tensors


def odd_object(rng: random.Random) -> Any:
    return Global(rng.choice(CALLABLES)) if rng.random() < 0.3 else odd_value(rng)


def hostile_call(rng: random.Random, command: str) -> Any:
    """A call that would run `command`, perhaps in some disguise."""
    function: Any = Global(rng.choice(CALLABLES))
    if rng.random() < 0.2:
        function = Call(Global("builtins getattr"), (Global("os path"), "system"))
    call: Any = Call(function, (command,))
    return Built(call, {"a": command}) if rng.random() < 0.3 else call


def program(rng: random.Random, command: str) -> bytes:
    """Opcodes in any order."""
    text = command.encode()
    named = b"X" + struct.pack("<I", len(text)) + text
    pieces = [
        b"(", b")", b"]", b"}", b"N", b"\x88", b"0", b"2", b"1", b"K\5", b"M\0\1", b"q\0", b"h\0",
        b"R", b"b", b"Q", b"a", b"e", b"s", b"u", b"t", b"\x85", b"\x86", b"\x87", b"\x81",
        b"\x94", b"\x8f", b"\x90", b"\x91", b"\x93", b"l", b"d", b"o", b"P0\n", b"I01\n", b"L9L\n",
        b"F1.5\n", b"S'a'\n", b"Va\n", named,
        b"U" + bytes([min(255, len(text))]) + text[:255], b"\x8a\x01\x05", b"\x82\1",
        b"\x95" + b"\0" * 8,
        b"j" + struct.pack("<I", rng.choice(EXTREMES) % 2**32), b"g1\n", b"p1\n", b"\x97", b"\x98",
        b"r" + struct.pack("<I", rng.choice(EXTREMES) % 2**32),
        b"X" + struct.pack("<I", rng.choice(EXTREMES) % 2**32), b"\x96" + struct.pack("<Q", 2**62)
    ]  # yapf: disable
    pieces += [b"c" + name.replace(" ", "\n").encode() + b"\n" for name in CALLABLES]
    pieces += [b"i" + name.replace(" ", "\n").encode() + b"\n" for name in CALLABLES[:6]]
    attack = b"cposix\nsystem\n(" + named + b"tR"
    body = b"".join(rng.choice(pieces) for _ in range(rng.randrange(2, 60)))
    if rng.random() < 0.4:
        body += attack
    return b"\x80" + bytes([rng.choice((2, 2, 3, 4, 5))]) + body + b"."


def torch_zip(rng: random.Random, command: str) -> bytes:
    """A file of torch.save, damaged or not."""
    content = state_dict(rng, command)
    data = program(rng, command) if rng.random() < 0.2 else pickled(content)
    if rng.random() < 0.2:
        data = damaged(rng, data)
    packed = io.BytesIO()
    method = zipfile.ZIP_DEFLATED if rng.random() < 0.05 else zipfile.ZIP_STORED
    with zipfile.ZipFile(packed, "w", method) as archive:
        root = rng.choice(("archive", "archive", "net", "..", "a/b"))
        add(archive, f"{root}/data.pkl", data)
        add(archive, f"{root}/version", "3\n")
        if rng.random() < 0.2:
            add(archive, f"{root}/byteorder", rng.choice(("little", "big", "x" * 99)))
        for number in range(6):
            size = 24 if rng.random() < 0.9 else rng.choice((0, 4, 23, 1000))
            add(archive, f"{root}/data/{number}", rng.randbytes(size))
    result = packed.getvalue()
    return damaged(rng, result) if rng.random() < 0.4 else result


def legacy_file(rng: random.Random, command: str) -> bytes:
    """A file of PyTorch before 1.6, damaged or not."""
    count = rng.randrange(1, 4)
    tensors = {}
    for number in range(count):
        storage = ("storage", Global("torch FloatStorage"), str(number), "cpu", 6, None)
        if rng.random() < 0.3:
            storage = altered(rng, storage, odd=odd_object)
        tensors[f"a.{number}"] = Call(Global("torch._utils _rebuild_tensor_v2"),
                                      (Reference(storage), 0, (2, 3), (3, 1), False, {}))
    parts: list[Any] = [
        0x1950A86A20F9469CFC6C, 1001, {"protocol_version": 1001, "little_endian": True}, tensors,
        [str(number) for number in range(count)]
    ]  # yapf: disable
    if rng.random() < 0.3:
        parts = altered(rng, parts, odd=odd_object)
        parts = parts if isinstance(parts, list) else [parts]
    data = b"".join(map(pickled, parts))
    for _ in range(count):
        data += struct.pack("<q", 6 if rng.random() < 0.9 else rng.choice((0, -1, 2**62)))
        data += rng.randbytes(24)
    return damaged(rng, data) if rng.random() < 0.4 else data
