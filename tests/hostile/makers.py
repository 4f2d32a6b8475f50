"""Makes the file of a case: a kind, and a number that seeds everything in it.

Each maker gets a generator and a folder of its own, and returns the file to read. A third of the
files are sound, so that a reader that refuses everything is found as well.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import pickle
import random
import zipfile
import zlib
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from . import pickles
from .mutations import TEXTS, add, altered, damaged, deep, odd_value

PLANS = Path(__file__).parents[1] / "data" / "plans"
PLAN_NAMES = ("keras_model", "tf_keras_model", "movements", "computed", "reversed", "bare",
              "keras_model_reversed")
# What a call that runs would leave behind in the folder of the case.
MARKER = "code_was_run"
SECRET = "secret"
Maker = Callable[[random.Random, Path], Path]


def command(folder: Path) -> str:
    """A command of the shell, which is also Python that does nothing."""
    return f"touch {folder / MARKER}"


def torch_zip(rng: random.Random, folder: Path) -> Path:
    return _written(folder / "net.pth", pickles.torch_zip(rng, command(folder)))


def torch_legacy(rng: random.Random, folder: Path) -> Path:
    return _written(folder / "net.pt", pickles.legacy_file(rng, command(folder)))


def bare_pickle(rng: random.Random, folder: Path) -> Path:
    choice = rng.random()
    if choice < 0.4:
        data = pickles.program(rng, command(folder))
    elif choice < 0.6:
        data = pickles.pickled(pickles.state_dict(rng, command(folder)))
    else:
        data = pickle.dumps({"a": np.arange(6.0), "b": {"c": 3}}, rng.randrange(6))
        data = damaged(rng, data) if choice < 0.8 else data
    return _written(folder / "net.bin", data)


def safetensors(rng: random.Random, folder: Path) -> Path:
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    position = 0
    for number in range(rng.randrange(1, 5)):
        dtype, size = rng.choice((("F32", 4), ("F16", 2), ("BF16", 2), ("I64", 8), ("BOOL", 1)))
        shape = rng.choice(([2, 3], [6], [], [0], [1, 1, 6]))
        end = position + int(np.prod(shape)) * size
        header[f"layer{number}.weight"] = {
            "dtype": dtype, "shape": shape, "data_offsets": [position, end]
        }
        position = end
    if rng.random() < 0.3:
        position = _add_quantized(rng, folder, header, position)
    if rng.random() < 0.5:
        header = altered(rng, header, rng.choice((1, 1, 3)))
    text = json.dumps(header).encode()
    if rng.random() < 0.2:
        text = damaged(rng, text)
    size = len(text) if rng.random() < 0.9 else rng.choice((0, 1, 2**31, 2**63, 2**64 - 1))
    data = size.to_bytes(8, "little") + text + rng.randbytes(position)
    return _written(folder / "net.safetensors", damaged(rng, data) if rng.random() < 0.2 else data)


def _add_quantized(rng: random.Random, folder: Path, header: dict[str, Any], position: int) -> int:
    """Add the tensors of a quantized weight, and a configuration; return where they end."""
    parts = rng.choice((
        {"weight": ("F8_E4M3", [4, 6]), "weight_scale_inv": ("F32", [1, 1])},
        {"w_blocks": ("U8", [1, 2, 2, 16]), "w_scales": ("U8", [1, 2, 2])},
        {"qweight": ("I32", [2, 8]), "qzeros": ("I32", [2, 1]), "scales": ("F16", [2, 8]),
         "g_idx": ("I32", [16])}))  # yapf: disable
    for name, (dtype, shape) in parts.items():
        odd = rng.choice(([], [0], [2**31, 2**31], [1, *shape], shape[:-1]))
        given = odd if rng.random() < 0.1 else shape
        end = position + int(np.prod(given, dtype=float)) * {"U8": 1, "F8_E4M3": 1, "F16": 2}.get(
            dtype, 4)
        header[f"q.{name}"] = {"dtype": dtype, "shape": given, "data_offsets": [position, end]}
        position = end if end < 10**6 else position
    config = {
        "quantization_config": {
            "bits": 4, "group_size": rng.choice((8, 8, 0, -1, 2**63)), "quant_method": rng.choice(
                ("gptq", "awq", "fp8"))
        }
    }
    if rng.random() < 0.7:
        _written(folder / "config.json", _json_text(rng, altered(rng, config, rng.choice((0, 1)))))
    return position


def npz(rng: random.Random, folder: Path) -> Path:
    packed = io.BytesIO()
    method = rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))
    with zipfile.ZipFile(packed, "w", method) as archive:
        for number in range(rng.randrange(1, 4)):
            array = np.arange(6).astype(rng.choice(("f4", "f8", "i8", ">f4", "f2", "?")))
            content = io.BytesIO()
            np.save(content, array.reshape(rng.choice(((2, 3), (6,), (1, 6)))), allow_pickle=False)
            data = content.getvalue()
            if rng.random() < 0.5:
                shape = rng.choice(
                    ("(2**40,)", "(99999999999999999999,)", "(-1,)", "(0, 9)", "(6,"))
                data = damaged(rng, data, within=90) if rng.random() < 0.7 else data.replace(
                    b"(6,)", shape.encode())
            add(archive, f"a{number}.npy", data)
        if rng.random() < 0.1:
            add(archive, "bomb.npy", bytes(1 << 22), zipfile.ZIP_DEFLATED)
    data = packed.getvalue()
    return _written(folder / "net.npz", damaged(rng, data) if rng.random() < 0.3 else data)


def torch_index(rng: random.Random, folder: Path) -> Path:
    header = {f"layer{number}.weight": {"dtype": "F32", "shape": [6],
                                        "data_offsets": [24 * number, 24 * number + 24]}
              for number in range(3)}  # yapf: disable
    text = json.dumps(header).encode()
    _written(folder / "model-1.safetensors",
             len(text).to_bytes(8, "little") + text + rng.randbytes(72))
    weight_map = dict.fromkeys(header, "model-1.safetensors")
    content: Any = {"metadata": {"total_size": 3}, "weight_map": weight_map}
    if rng.random() < 0.7:
        content = altered(rng, content, rng.choice((1, 2, 4)))
    return _written(folder / "model.safetensors.index.json", _json_text(rng, content))


def plan(rng: random.Random, folder: Path) -> Path:
    name = rng.choice(PLAN_NAMES)
    content = json.loads(_plan_text(name))
    del content["sha256"]
    layout = content["layout"]
    if layout is not None and rng.random() < 0.5:
        inner = json.loads(zlib.decompress(base64.b64decode(layout["compressed"])))
        inner = altered(rng, inner, rng.choice((1, 2, 8)))
        data = json.dumps(inner, separators=(",", ":")).encode()
        if rng.random() < 0.1:
            data += b" " * (200 << 20)
        layout["compressed"] = base64.b64encode(zlib.compress(data, 1)).decode()
    elif rng.random() < 0.7:
        content = altered(rng, content, rng.choice((1, 1, 2, 5)), odd_expression)
    if not isinstance(content, dict):
        return _written(folder / f"{name}.plan.json", json.dumps(content).encode())
    text = json.dumps(content, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    if rng.random() < 0.95:
        content["sha256"] = hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()
    return _written(folder / f"{name}.plan.json", _json_text(rng, content))


def odd_expression(rng: random.Random) -> Any:
    """A piece of a plan that may be an expression."""
    if rng.random() < 0.5:
        return odd_value(rng)
    inner: Any = "weight"
    for _ in range(rng.choice((1, 3, 20, 200))):
        inner = rng.choice([
            ["permute", inner, [1, 0]], ["reshape", inner, [2**31, 2**31]], ["slice", inner, 0, 9],
            ["add", inner, inner] if rng.random() < 0.2 else ["scale", inner, 2.0],
            ["concat", [inner], 0], ["callback", "a", [inner], ["a"], 1, 0]
        ])  # yapf: disable
    return inner


@cache
def _plan_text(name: str) -> str:
    return (PLANS / f"{name}.plan.json").read_text("utf-8")


def _json_text(rng: random.Random, content: Any) -> bytes:
    if rng.random() < 0.03:
        content = deep(100_000) if rng.random() < 0.5 else content
        return b"[" * 100_000 + b"]" * 100_000
    data = json.dumps(content).encode()
    if rng.random() < 0.02:
        data = data.replace(b"3", b"9" * 5000)
    return damaged(rng, data) if rng.random() < 0.15 else data


def hdf5_content(rng: random.Random, folder: Path, legacy: bool) -> bytes:
    """An HDF5 file as Keras writes it, with what Keras never writes, damaged or neither."""
    content = io.BytesIO()
    with h5py.File(content, "w", libver=rng.choice(("earliest",) * 9 + ("latest",))) as file:
        top = file.create_group("model_weights") if legacy else file
        file.attrs["keras_version"] = "3.0.0"
        file.attrs["model_config"] = json.dumps({"class_name": "Sequential", "config": {}})
        for number in range(rng.randrange(1, 5)):
            group = top.create_group(f"dense_{number}" if legacy else f"layers/dense_{number}/vars")
            group.attrs["weight_names"] = [f"dense_{number}/kernel", f"dense_{number}/bias"]
            for name, shape in (("kernel", (3, 4)), ("bias", (4,))):
                group[name] = np.arange(np.prod(shape), dtype="f4").reshape(shape)
        for _ in range(rng.choice((0, 0, 1, 1, 3))):
            with suppress(ValueError):  # a name that is there
                FEATURES[rng.choice(list(FEATURES))](rng, file, folder / SECRET)
    data = content.getvalue()
    return damaged(rng, data, within=rng.choice((0, 100, 2000))) if rng.random() < 0.4 else data


def _virtual(rng: random.Random, file: Any, secret: Path) -> None:
    layout = h5py.VirtualLayout((100,), "f4")
    layout[:] = h5py.VirtualSource(str(secret), "a", (100,))
    file.create_virtual_dataset(_name(file), layout)


def _chunked(rng: random.Random, file: Any, secret: Path) -> None:
    filters = rng.choice(({}, {"compression": "gzip"}, {"compression": "lzf"}, {"shuffle": True},
                          {"fletcher32": True}, {"scaleoffset": 2}))
    made = file.create_dataset(_name(file), (40, 40), rng.choice(("f4", "i4")), maxshape=(None, 40),
                               chunks=rng.choice(((10, 10), (40, 40), (1, 40))), **filters)
    if rng.random() < 0.7:
        made[:rng.choice((1, 40))] = 3


def _name(file: Any) -> str:
    return f"x{sum(1 for _ in file)}"


FEATURES: dict[str, Callable[[random.Random, Any, Path], object]] = {
    "external storage": lambda rng, file, secret: file.create_dataset(
        _name(file), (100,), "f4", external=[(str(secret), 0, 400)]),
    "external link": lambda rng, file, secret: file.update({
        _name(file): h5py.ExternalLink(str(secret), "/a")}),
    "soft link": lambda rng, file, secret: file.update({
        _name(file): h5py.SoftLink(rng.choice(("/x0", "/", "/model_weights", "nothing")))}),
    "hard link": lambda rng, file, secret: file.update({
        _name(file): file["model_weights" if "model_weights" in file else "layers"]}),
    "virtual": _virtual, "chunked": _chunked,
    "types": lambda rng, file, secret: file.create_dataset(_name(file), (3,), rng.choice((
        h5py.vlen_dtype("f4"), h5py.string_dtype(), h5py.ref_dtype, np.dtype("f4,i4"),
        np.dtype("c8"), np.dtype("?"), np.dtype("V2"), np.dtype("V3000"), np.dtype("S5")))),
    "fill": lambda rng, file, secret: file.create_dataset(
        _name(file), (rng.choice((10, 1 << 20, 1 << 33)),), "f4", fillvalue=3),
    "empty": lambda rng, file, secret: file.create_dataset(_name(file), data=h5py.Empty("f4")),
    "named type": lambda rng, file, secret: file.update({_name(file): np.dtype("f4")}),
    "attribute": lambda rng, file, secret: file.attrs.create(_name(file), rng.choice((
        [1, 2], 3.5, np.zeros((2, 2)), b"abc", "text", ["a"] * 50, file.ref, np.zeros(3, "f4,i4"),
        h5py.Empty("f4")))),
    "name": lambda rng, file, secret: file.create_group(
        rng.choice([text for text in TEXTS if text.strip("./") and "\0" not in text]) + "z"),
    "deep": lambda rng, file, secret: file.create_group(f"{_name(file)}/" + "a/" * 120)
}  # yapf: disable


def hdf5(rng: random.Random, folder: Path) -> Path:
    legacy = rng.random() < 0.5
    return _written(folder / ("net.h5" if legacy else "net.weights.h5"),
                    hdf5_content(rng, folder, legacy))


def keras_archive(rng: random.Random, folder: Path) -> Path:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", rng.choice((0, 0, zipfile.ZIP_DEFLATED))) as archive:
        config = altered(rng, {"class_name": "Functional", "config": {"name": "net", "layers": []}})
        add(archive, "config.json", json.dumps(config))
        add(archive, "metadata.json", json.dumps({"keras_version": "3.0.0"}))
        if rng.random() < 0.1:
            add(archive, rng.choice(("../a", "/a", "config.json", "a.bin")), b"\xff" * 9)
        if rng.random() < 0.1:
            add(archive, "a.json", bytes(200 << 20), zipfile.ZIP_DEFLATED)
        add(archive, "model.weights.h5", hdf5_content(rng, folder, legacy=False))
    data = packed.getvalue()
    return _written(folder / "net.keras", damaged(rng, data) if rng.random() < 0.4 else data)


def keras_index(rng: random.Random, folder: Path) -> Path:
    (folder / "net_00001_aa.weights.h5").write_bytes(hdf5_content(rng, folder, legacy=False))
    content: Any = {
        "metadata": {"total_size": 3, "checksum": {"net_00001_aa.weights.h5": "0" * 16}},
        "weight_map": {"/layers/dense_0/vars": "net_00001_aa.weights.h5", "/a": ["/etc/passwd"]}
    }  # yapf: disable
    if rng.random() < 0.6:
        content = altered(rng, content, rng.choice((1, 2, 4)))
    return _written(folder / "net.weights.json", _json_text(rng, content))


def config(rng: random.Random, folder: Path) -> Path:
    settings: dict[str, Any] = {
        "models": ["net.npz"], "tensors": True, "kwargs": [{"a": 1}], "skip_layers": ["a"],
        "tail_align_dict": {"a": -1}, "tail_split_position": [1, 2], "expand_nested": False,
        "wrapper": "a", "additional_transfer": {"a": "b:c"}, "json": True
    }  # yapf: disable
    names = ["models", *rng.sample(list(settings)[1:], rng.randrange(4))]
    chosen = {name: settings[name] for name in names}
    if rng.random() < 0.8:
        chosen = altered(rng, chosen, rng.choice((1, 2)))
    np.savez(folder / "net.npz", **{"a.weight": np.zeros(3)})
    return _written(folder / "options.toml", _toml(rng, chosen))


def manifest(rng: random.Random, folder: Path) -> Path:
    content: Any = {
        "plan": "a.plan.json", "strict": True, "file": [{
            "source": "net.npz", "output": "a.h5", "max_shard_size": 0.5, "without": ["a"],
            "template": "a.keras", "wrapper": "a", "verify": False
        }, {"source": "b.npz", "output": "b.h5"}]
    }  # yapf: disable
    if rng.random() < 0.8:
        content = altered(rng, content, rng.choice((1, 2, 4)))
    return _written(folder / "many.toml", _toml(rng, content))


def _toml(rng: random.Random, content: Any) -> bytes:
    """The settings as TOML: inline tables, whose syntax is next to that of JSON."""
    if not isinstance(content, dict):
        content = {"a": content}
    lines = [f"{json.dumps(str(name))} = {_inline(value)}" for name, value in content.items()]
    if rng.random() < 0.03:
        lines.append("a = " + "[" * 50_000)
    data = "\n".join(lines).encode("utf-8", "replace")
    return damaged(rng, data) if rng.random() < 0.1 else data


def _inline(value: Any) -> str:
    if isinstance(value, dict):
        inner = ", ".join(f"{json.dumps(str(key))} = {_inline(one)}" for key, one in value.items())
        return f"{{{inner}}}"
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(_inline, value))}]"
    return "1979-05-27" if value is None else json.dumps(value)


def _written(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


MAKERS: dict[str, Maker] = {
    "torch zip": torch_zip, "torch before 1.6": torch_legacy, "pickle": bare_pickle,
    "safetensors": safetensors, "npz": npz, "index of torch shards": torch_index, "plan": plan,
    "HDF5": hdf5, ".keras": keras_archive, "index of Keras shards": keras_index,
    "TOML of options": config, "TOML of many files": manifest
}


def made(kind: str, number: int, folder: Path) -> Path:
    """Make the file of a case in a folder, always the same."""
    return MAKERS[kind](random.Random(f"{kind} {number}"), folder)
