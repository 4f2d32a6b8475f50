"""Reads the file of a case as a user would, and holds the result against a second opinion."""

from __future__ import annotations

import atexit
import contextlib
import io
import json
import shutil
import sys
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import h5py
import numpy as np

import keras_torch_convert as ktc
from keras_torch_convert.api.batch.manifest import read_manifest
from keras_torch_convert.api.batch.tasks import is_intact
from keras_torch_convert.cli.main import INTERNAL_ERROR, main
from keras_torch_convert.errors import SourceError
from keras_torch_convert.keras_io.template import read_template
from keras_torch_convert.keras_io.weights_file import model_config, read_members, read_stored
from keras_torch_convert.plan.plan import Plan
from keras_torch_convert.spec.dtypes import NUMPY_TYPES

from .makers import PLANS


class WrongError(AssertionError):
    """What was read is not what is in the file, or is no result at all."""


def read(kind: str, path: Path, *, with_torch: bool = False) -> None:
    """Read a file; raises what the package raises, and WrongError."""
    if kind.startswith("TOML of options"):
        _read_config(path)
    elif kind.startswith("TOML"):
        read_manifest(path)
    elif kind == "plan":
        _read_plan(path)
    elif kind in ("HDF5", ".keras", "index of Keras shards"):
        _read_keras(path)
    else:
        _read_torch(kind, path, with_torch)


def _read_torch(kind: str, path: Path, with_torch: bool) -> None:
    source = ktc.read(path)
    arrays = {name: tensor.read() for name, tensor in source.items()}
    for name, tensor in source.items():
        if arrays[name].shape != tensor.shape or arrays[name].dtype != NUMPY_TYPES[tensor.dtype]:
            raise WrongError(f"{name!r} is {arrays[name].shape} {arrays[name].dtype}, said to be "
                             f"{tensor.shape} {tensor.dtype}")
    expected = _second_opinion(kind, path, with_torch)
    for name, array in arrays.items():
        if expected is None or name not in expected:
            continue
        other = expected[name]
        if other.shape != array.shape or other.tobytes() != array.tobytes():
            raise WrongError(f"{name!r} is read with other values than by its own library")


def _second_opinion(kind: str, path: Path, with_torch: bool) -> dict[str, Any] | None:
    """Return the arrays as the format's own library reads them, None when it does not."""
    with contextlib.suppress(Exception):
        if kind == "safetensors":
            from safetensors.numpy import load

            return {name: _native(array) for name, array in load(path.read_bytes()).items()}
        if kind == "npz":
            with np.load(path, allow_pickle=False) as found:
                return {name: _native(found[name]) for name in found.files}
        if with_torch and kind.startswith("torch"):
            import torch

            content = torch.load(path, weights_only=True, map_location="cpu")
            content = content.get("state_dict", content)
            return {
                name: tensor.detach().contiguous().numpy()
                for name, tensor in content.items() if isinstance(tensor, torch.Tensor)
            }
    return None


def _native(array: Any) -> Any:
    if array.dtype.name == "bfloat16":
        return array.view(np.uint16)
    return array.astype(array.dtype.newbyteorder("="))


def _read_keras(path: Path) -> None:
    stored = read_stored(path)
    for array in stored.layout.arrays:
        values = stored.read(array.path, SourceError)
        if values.shape != array.shape or values.dtype != np.dtype(array.dtype):
            raise WrongError(f"{array.path!r} is {values.shape} {values.dtype}, said to be "
                             f"{array.shape} {array.dtype}")
        if path.suffix == ".h5":
            with h5py.File(path, "r") as file:
                if file[array.path][()].tobytes() != values.tobytes():
                    raise WrongError(f"{array.path!r} is read with other values than by h5py")
    if path.suffix == ".json":
        is_intact(path, "0" * 64)
        return
    with contextlib.suppress(SourceError):
        model_config(path)
    if path.suffix == ".keras":
        read_members(path)
    plan = _plan("keras_model")
    with contextlib.suppress(ktc.SaveError):
        read_template(path, plan, None)


@cache
def _plan(name: str) -> Plan:
    return Plan.load(PLANS / f"{name}.plan.json")


@cache
def _checkpoint(name: str) -> Path:
    """The checkpoint that belongs to a plan: one for the whole run."""
    folder = Path(tempfile.mkdtemp(prefix="checkpoints-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    with np.load(PLANS / "arrays.npz") as file:
        head = f"{name}|source|"
        np.savez(folder / "net.npz",
                 **{one[len(head):]: file[one] for one in file.files if one.startswith(head)})
    return folder / "net.npz"


def _read_plan(path: Path) -> None:
    plan = Plan.load(path)
    str(plan)
    name = path.name.removesuffix(".plan.json")
    if name == "keras_model_reversed" or plan.reversed:
        return
    source = ktc.read(_checkpoint(name))
    plan.difference(source)
    for suffix in (".h5", ".weights.h5", ".keras"):
        output = path.with_name(f"out{suffix}")
        with contextlib.suppress(ktc.SaveError):
            report = ktc.apply(plan, source, output)
            _check_written(plan, report, output)


def _check_written(plan: Plan, report: Any, output: Path) -> None:
    """The file must be there, and each variable that the report calls set must be in it."""
    stored = read_stored(output)
    by_path = {array.path for array in stored.layout.arrays}
    layout = plan.layout
    file = layout.legacy if output.name == "out.h5" else layout.weights  # type: ignore[union-attr]
    assert file is not None
    paths = {array.key: array.path for array in file.arrays}
    for assignment in plan.assignments:
        if paths.get(assignment.key) not in by_path:
            raise WrongError(f"{assignment.key!r} is said to be set, but is not in the file")
    if not report.ok:
        raise WrongError("the report of a file that was written is not ok")


def _read_config(path: Path) -> None:
    out, err, folders = io.StringIO(), io.StringIO(), list(sys.path)
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), contextlib.chdir(
            path.parent):
        code = main(["inspect", "--config", path.name, "--json"])
    sys.path[:] = folders
    if code == INTERNAL_ERROR or code not in range(5):
        raise WrongError(f"exit code {code}: {err.getvalue()[-2000:]}")
    answer = json.loads(out.getvalue())
    if not isinstance(answer, dict) or ("error" in answer) != (code > 1):
        raise WrongError(f"exit code {code}, and on standard output {out.getvalue()[:500]}")
    if "error" in answer:
        raise SourceError(f"{path}: {answer['error']['message']}")
