"""A checkpoint into a Keras file by a Plan: the file is what the live conversion saves, and a
failure leaves the old one.
"""

import os
import subprocess
import sys
import tempfile
import zipfile
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

os.environ.setdefault("KERAS_BACKEND", "torch")

import keras_torch_convert as ktc
from keras_torch_convert.api import file_conversion as replay
from keras_torch_convert.errors import SaveError, TransferError
from keras_torch_convert.keras_io import write_from_layout as from_plan
from keras_torch_convert.keras_io.archive import archive_frame
from keras_torch_convert.keras_io.hdf5_header import make_hdf5_header
from keras_torch_convert.keras_io.record_layout import record_layout
from keras_torch_convert.keras_io.weights_file import open_weights
from keras_torch_convert.plan.expressions import Permute, Tensor
from keras_torch_convert.plan.plan import Plan
from keras_torch_convert.plan.recipe import Assignment
from keras_torch_convert.spec.file_layout import (ArchiveMember, FileLayout, StoredArray,
                                                  StoredGroup, TargetLayout)
from keras_torch_convert.spec.tensor_spec import TensorSpec
from tests.helpers.small_models import randomized

FORMATS = (".h5", ".weights.h5", ".keras")


def keras_model(keras: Any) -> Any:
    """Kinds whose weights are moved in different ways; the widest kernel is larger than the
    writer's buffer.
    """
    layers = keras.layers
    return keras.Sequential([
        layers.Input((12, 12, 3)),
        layers.Conv2D(40, 3, name="conv"),
        layers.BatchNormalization(name="norm"),
        layers.DepthwiseConv2D(3, use_bias=False, name="depthwise"),
        layers.Conv2D(800, 3, name="wide"),
        layers.GlobalAveragePooling2D(name="pool"),
        layers.Dropout(0.1, name="dropout"),
        layers.Dense(10, name="head")
    ], name="small")


def torch_model(seed: int = 0) -> Any:
    from torch import nn

    layers = OrderedDict(conv=nn.Conv2d(3, 40, 3), norm=nn.BatchNorm2d(40), depthwise=nn.Conv2d(
        40, 40, 3, groups=40, bias=False), wide=nn.Conv2d(40, 800, 3), head=nn.Linear(800, 10))
    return randomized(nn.Sequential(layers), seed)


@pytest.fixture(params=["keras", "tf_keras"])
def keras(request: pytest.FixtureRequest) -> Any:
    return pytest.importorskip(request.param)


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    import torch

    path = tmp_path / "model.pth"
    torch.save(torch_model().state_dict(), path)
    return path


@pytest.fixture
def filled(keras: Any, checkpoint: Path) -> tuple[Any, Plan]:
    """A model that was converted live, and the Plan with the layout of its files."""
    model = keras_model(keras)
    plan = ktc.convert(checkpoint, model, accept_unproven=True).plan
    assert plan is not None
    return model, plan


def small_plan(values: tuple[int, ...] = (300, 1000)) -> Plan:
    """One transposed matrix into a .weights.h5 and a legacy file, without any framework."""
    turned = values[::-1]
    file = FileLayout((), (StoredArray("/layers/dense/vars/0", turned, "<f4", "dense/0"),))
    layout = TargetLayout("keras", "3", legacy=file, weights=file,
                          members=(ArchiveMember("config.json", "{}"),))
    assignment = Assignment("dense/0", Permute(Tensor("weight"), (1, 0)), "kernel")
    return Plan((assignment,), targets={"dense/0": TensorSpec(turned, "float32", "dense/kernel")},
                layout=layout)


def small_source(folder: Path, seed: int = 0) -> Path:
    path = folder / f"source{seed}.npz"
    np.savez(path, weight=np.random.default_rng(seed).normal(size=(300, 1000)).astype(np.float32))
    return path


def every_array(path: Path) -> dict[str, np.ndarray]:
    found = {}
    with open_weights(path) as opened:
        opened.file.visititems(lambda name, item: found.update({name: item[()]})
                               if isinstance(item, h5py.Dataset) else None)
    return found


def test_recording_a_layout_leaves_the_model_as_it_was(keras: Any) -> None:
    model = keras_model(keras)
    before = [np.array(values) for values in model.get_weights()]
    record_layout(model)
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


@pytest.mark.parametrize("suffix", FORMATS)
def test_the_file_has_the_arrays_and_attributes_that_the_live_conversion_saves(
        filled: tuple[Any, Plan], checkpoint: Path, tmp_path: Path, suffix: str) -> None:
    model, plan = filled
    live, applied = tmp_path / f"live{suffix}", tmp_path / f"applied{suffix}"
    (model.save_weights if suffix == ".weights.h5" else model.save)(str(live))
    report = ktc.apply(plan, checkpoint, applied)
    expected, found = every_array(live), every_array(applied)
    assert report.ok
    assert expected.keys() == found.keys()
    assert len(found) >= 11
    for name, values in expected.items():
        if "seed_generator" not in name:
            np.testing.assert_array_equal(found[name], values, err_msg=name)
    with open_weights(live) as live_file, open_weights(applied) as applied_file:
        first, second = live_file.file, applied_file.file
        names = ["/"]
        first.visit(names.append)
        for name in names:
            for key, value in first[name].attrs.items():
                if key != "training_config":
                    np.testing.assert_array_equal(second[name].attrs[key], value)


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_fresh_process_loads_the_file(keras: Any, filled: tuple[Any, Plan], checkpoint: Path,
                                        tmp_path: Path, suffix: str) -> None:
    model, plan = filled
    path = tmp_path / f"applied{suffix}"
    ktc.apply(plan, checkpoint, path)
    expected = tmp_path / "expected.npz"
    np.savez(expected, *model.get_weights())
    whole = suffix != ".weights.h5"
    script = f"""
import numpy as np, {keras.__name__} as keras
from tests.api.test_file_conversion import keras_model
expected = list(np.load({str(expected)!r}).values())
def check(model):
    for first, second in zip(expected, model.get_weights(), strict=True):
        np.testing.assert_array_equal(first, second)
if {whole}:
    check(keras.models.load_model({str(path)!r}))
if {suffix != ".keras"}:
    model = keras_model(keras)
    model.load_weights({str(path)!r})
    check(model)
if {suffix == ".h5"}:
    model = keras_model(keras)
    model.load_weights({str(path)!r}, by_name=True, skip_mismatch=True)
    check(model)
print("loaded")
"""
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "-1", "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True,
                          check=False, env=environment, cwd=os.getcwd())
    assert "loaded" in done.stdout, done.stderr


def test_the_legacy_file_of_either_keras_gives_its_weights_to_the_other(
        keras: Any, filled: tuple[Any, Plan], checkpoint: Path, tmp_path: Path) -> None:
    other = pytest.importorskip("tf_keras" if keras.__name__ == "keras" else "keras")
    model, plan = filled
    ktc.apply(plan, checkpoint, tmp_path / "out.h5")
    for options in ({}, {"by_name": True, "skip_mismatch": True}):
        fresh = keras_model(other)
        fresh.load_weights(str(tmp_path / "out.h5"), **options)
        for first, second in zip(model.get_weights(), fresh.get_weights(), strict=True):
            np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("suffix", FORMATS)
def test_the_same_input_gives_the_same_bytes_under_any_name(tmp_path: Path, suffix: str) -> None:
    (tmp_path / "other").mkdir()
    paths = [tmp_path / f"first{suffix}", tmp_path / "other" / f"second_and_longer{suffix}"]
    reports = [ktc.apply(small_plan(), small_source(tmp_path), path) for path in paths]
    assert paths[0].read_bytes() == paths[1].read_bytes()
    assert reports[0].md5 == reports[1].md5
    md5 = subprocess.run(["md5sum", paths[0]], capture_output=True, text=True,
                         check=True).stdout.split()[0]
    assert reports[0].md5 == md5


def test_another_process_of_another_day_and_place_gives_the_same_md5(tmp_path: Path) -> None:
    report = ktc.apply(small_plan(), small_source(tmp_path), tmp_path / "here.keras")
    (tmp_path / "elsewhere").mkdir()
    script = f"""
import time
time.time = lambda: 2e9
import keras_torch_convert as ktc
from tests.api.test_file_conversion import small_plan
print(ktc.apply(small_plan(), {str(tmp_path / "source0.npz")!r}, "there.keras").md5)
"""
    environment = {
        **os.environ, "PYTHONHASHSEED": "1", "TZ": "Asia/Tokyo", "LC_ALL": "C",
        "PYTHONPATH": os.getcwd()
    }
    done = subprocess.run([sys.executable, "-c", script], check=True, cwd=tmp_path / "elsewhere",
                          env=environment, text=True, stdout=subprocess.PIPE)
    assert done.stdout.strip() == report.md5


def test_a_bfloat16_tensor_keeps_its_bits(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    values = torch.randn(5, 7, dtype=torch.bfloat16)
    torch.save({"weight": values}, tmp_path / "half.pth")
    file = FileLayout((), (StoredArray("/v", (7, 5), "|V2", "v"),))
    plan = Plan((Assignment("v", Permute(Tensor("weight"), (1, 0)), "kernel"),),
                targets={"v": TensorSpec((7, 5), "bfloat16",
                                         "v")}, layout=TargetLayout("keras", "3", weights=file))
    ktc.apply(plan, tmp_path / "half.pth", tmp_path / "half.weights.h5")
    with h5py.File(tmp_path / "half.weights.h5") as opened:
        found = opened["v"][()].view(np.int16)
    np.testing.assert_array_equal(found, values.T.contiguous().view(torch.int16).numpy())


def test_an_archive_is_sound_for_zip_tools(tmp_path: Path) -> None:
    ktc.apply(small_plan(), small_source(tmp_path), tmp_path / "out.keras")
    with zipfile.ZipFile(tmp_path / "out.keras") as archive:
        assert archive.testzip() is None
        assert archive.namelist() == ["config.json", "model.weights.h5"]
        assert all(member.date_time == (1980, 1, 1, 0, 0, 0) for member in archive.infolist())


def test_an_archive_past_four_gibibytes_has_its_64_bit_fields(tmp_path: Path) -> None:
    frame = archive_frame((ArchiveMember("config.json", "{}"),), 5 * 2**30)
    path = tmp_path / "large.keras"
    with path.open("wb") as file:
        file.write(frame.before)
        file.seek(5 * 2**30, 1)
        file.write(frame.after(0x12345678))
    with zipfile.ZipFile(path) as archive:
        member = archive.getinfo("model.weights.h5")
        assert (member.file_size, member.CRC) == (5 * 2**30, 0x12345678)
        assert archive.read("config.json") == b"{}"
        with archive.open(member) as weights:
            assert weights.read(4) == bytes(4)


def test_a_flipped_bit_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = tmp_path / "out.h5"
    old.write_bytes(b"old")
    write = from_plan._write_pieces

    def write_and_damage(descriptor: int, skeleton: Any, *others: Any) -> dict[str, int]:
        checksums = write(descriptor, skeleton, *others)
        values = next(piece for piece in skeleton.pieces if not isinstance(piece.content, bytes))
        place = values.start + values.size // 2
        path = next(tmp_path.glob(".out.*.h5"))
        byte = os.pread(os.open(path, os.O_RDONLY), 1, place)[0]
        os.pwrite(descriptor, bytes([byte ^ 1]), place)
        return checksums

    monkeypatch.setattr(from_plan, "_write_pieces", write_and_damage)
    with pytest.raises(
            SaveError,
            match="/layers/dense/vars/0 reads back from the saved file with other values"):
        ktc.apply(small_plan(), small_source(tmp_path), old)
    assert old.read_bytes() == b"old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.h5", "source0.npz"]


@pytest.mark.parametrize("phase",
                         ["make_hdf5_header", "reserve", "write_all", "compare_with_checksums"])
def test_an_interrupt_leaves_the_old_file_and_nothing_else(tmp_path: Path,
                                                           monkeypatch: pytest.MonkeyPatch,
                                                           phase: str) -> None:
    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    (tmp_path / "out.keras").write_bytes(b"old")
    monkeypatch.setattr(from_plan, phase, interrupt)
    with pytest.raises(KeyboardInterrupt):
        ktc.apply(small_plan(), small_source(tmp_path), tmp_path / "out.keras")
    assert (tmp_path / "out.keras").read_bytes() == b"old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.keras", "source0.npz"]


@pytest.mark.parametrize("suffix", FORMATS)
def test_progress_counts_every_byte_of_the_values_once(tmp_path: Path,
                                                       monkeypatch: pytest.MonkeyPatch,
                                                       suffix: str) -> None:
    seen: list[int] = []
    totals: list[int] = []

    @contextmanager
    def bar(total: int, *, title: str, unit: str, shown: bool) -> Iterator[Any]:
        totals.append(total)
        assert shown
        yield seen.append

    monkeypatch.setattr(replay, "counting_bar", bar)
    ktc.apply(small_plan(), small_source(tmp_path), tmp_path / f"out{suffix}", progress=True)
    assert totals == [300 * 1000 * 4]
    assert sum(seen) == totals[0]
    assert len(seen) > 1


def test_a_checkpoint_that_does_not_fit_is_refused_with_every_difference(tmp_path: Path) -> None:
    np.savez(tmp_path / "other.npz", weight=np.zeros((2, 3), np.float32), surplus=np.zeros(
        (4, 4), np.float32))
    with pytest.raises(TransferError) as caught:
        ktc.apply(small_plan(), tmp_path / "other.npz", tmp_path / "out.h5")
    assert len(caught.value.problems) == 2
    assert not (tmp_path / "out.h5").exists()


def test_a_plan_without_a_layout_says_how_to_get_one(tmp_path: Path) -> None:
    with pytest.raises(SaveError, match="convert once more and save"):
        ktc.apply(replace(small_plan(), layout=None), small_source(tmp_path), tmp_path / "out.h5")


def test_the_same_layout_gives_the_same_skeleton() -> None:
    layout = small_plan().layout
    assert layout is not None
    assert layout.weights is not None
    first = make_hdf5_header(layout.weights)
    make_hdf5_header.cache_clear()
    assert make_hdf5_header(layout.weights) == first


@pytest.mark.parametrize("exists", [True, False])
def test_the_skeleton_leaves_nothing_in_the_folder_for_temporary_files(
        monkeypatch: pytest.MonkeyPatch, tmp_path: Path, exists: bool) -> None:
    folder = tmp_path if exists else tmp_path / "nowhere"
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    layout = FileLayout((StoredGroup("/"),), (StoredArray("/a", (2,), "<f4", "a"),))
    make_hdf5_header.cache_clear()
    if exists:
        values = [
            piece
            for piece in make_hdf5_header(layout).pieces if isinstance(piece.content, StoredArray)
        ]
        assert [piece.size for piece in values] == [8]
    else:
        with pytest.raises(SaveError, match="structure cannot be made"):
            make_hdf5_header(layout)
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere nothing says when a process started")
def test_what_a_killed_writer_left_of_a_skeleton_is_removed_by_the_next(
        monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    killed = """
import os, pathlib
from keras_torch_convert.keras_io.hdf5_header import make_hdf5_header
from keras_torch_convert.spec.file_layout import FileLayout
pathlib.Path.unlink = lambda *_, **__: os.kill(os.getpid(), 9)
make_hdf5_header(FileLayout((), ()))
"""
    subprocess.run([sys.executable, "-c", killed], check=False,
                   env={**os.environ, "TMPDIR": str(tmp_path)})
    assert len(list(tmp_path.iterdir())) == 1
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    make_hdf5_header.cache_clear()
    make_hdf5_header(FileLayout((StoredGroup("/"),), (StoredArray("/a", (2,), "<f4", "a"),)))
    assert not list(tmp_path.iterdir())


def test_apply_imports_no_framework(tmp_path: Path) -> None:
    script = f"""
import sys
import tempfile
import keras_torch_convert as ktc
from tests.api.test_file_conversion import small_plan
ktc.apply(small_plan(), {str(small_source(tmp_path))!r}, {str(tmp_path / "out.keras")!r})
heavy = {{"torch", "keras", "tf_keras", "tensorflow", "jax", "ml_dtypes"}} & sys.modules.keys()
assert not heavy, heavy
"""
    subprocess.run([sys.executable, "-c", script], check=True, cwd=os.getcwd())
