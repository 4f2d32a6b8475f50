"""Values at offsets: what the stream writes, widens and finds again, and files that are cut."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from keras_torch_convert.errors import SourceError
from keras_torch_convert.util.mapped_memory import MappedMemory
from keras_torch_convert.util.values_at_offsets import ValueStream, Widened

SIDE = 1500


@pytest.fixture
def stream(tmp_path: Path) -> Iterator[ValueStream]:
    with (tmp_path / "target").open("w+b") as file:
        yield ValueStream(file.fileno())


def mapped(path: Path, values: np.ndarray) -> MappedMemory:
    path.write_bytes(values.tobytes())
    with path.open("rb") as file:
        return MappedMemory.of(file.fileno(), str(path))


def written(stream: ValueStream, size: int) -> bytes:
    return os.pread(stream.descriptor, size + 1, 7)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_is_written_as_float32(stream: ValueStream, dtype: str) -> None:
    singles = np.random.default_rng(0).standard_normal((40, 30)).astype(np.float16)
    values = singles if dtype == "float16" else singles.view(np.uint16)
    expected = (singles.astype(np.float32) if dtype == "float16" else
                (values.astype(np.uint32) << 16).view(np.float32)).T
    widened = Widened(values.T, dtype)
    stream.write(widened, 7)
    assert written(stream, widened.nbytes) == expected.tobytes()
    assert stream.holds(widened, 7)
    np.testing.assert_array_equal(np.asarray(widened), expected)
    os.pwrite(stream.descriptor, b"x", 9)
    assert not stream.holds(widened, 7)


def test_the_pages_of_a_large_array_are_given_back(stream: ValueStream, tmp_path: Path) -> None:
    values = np.random.default_rng(0).standard_normal((SIDE, SIDE)).astype(np.float32)
    mapping = mapped(tmp_path / "source", values)
    view = np.ndarray((SIDE, SIDE), np.float32, mapping).T
    assert resident(mapping) == 0
    assert view.sum() != 0
    assert resident(mapping) >= values.nbytes // 2
    stream.write(view, 7)
    assert written(stream, values.nbytes) == values.T.tobytes()
    assert resident(mapping) == 0
    stream.write(view[::-1, ::-2], 7)
    assert written(stream, values.nbytes // 2)[:-1] == values.T[::-1, ::-2].tobytes()
    assert resident(mapping) < 2**20


@pytest.mark.parametrize("shape", [(60, 50), (3, 40, 30), (2, 30, 7, 5)])
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_arrays_that_are_too_large_to_be_permuted_at_once_are_the_same(
        stream: ValueStream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
        shape: tuple[int, ...], dtype: type) -> None:
    monkeypatch.setattr("keras_torch_convert.util.values_at_offsets.STAGED_BYTES", 2000)
    monkeypatch.setattr("keras_torch_convert.util.values_at_offsets._SLAB_BYTES", 700)
    values = np.random.default_rng(0).standard_normal(shape).astype(dtype)
    mapping = mapped(tmp_path / "source", values)
    given = np.ndarray(shape, dtype, mapping)
    for view in (given.T, np.moveaxis(given, -1, 1), given[::-1].T, given[:, ::2]):
        told: list[int] = []
        stream.written = told.append
        stream.write(view, 7)
        assert written(stream, view.nbytes)[:view.nbytes] == view.tobytes()
        assert sum(told) == view.nbytes
        assert stream.holds(view, 7)
        if dtype is np.float16:
            widened = Widened(view, "float16")
            stream.write(widened, 7)
            assert written(stream,
                           widened.nbytes)[:widened.nbytes] == view.astype(np.float32).tobytes()
            assert stream.holds(widened, 7)
        os.pwrite(stream.descriptor, b"xxx", 7 + view.nbytes // 2)
        assert not stream.holds(view, 7)


def resident(mapping: MappedMemory) -> int:
    """Bytes of the mapping that count as this process's memory."""
    lines = iter(Path("/proc/self/smaps").read_text().splitlines())
    for line in lines:
        if line.startswith(f"{mapping.address:x}-"):
            return next(int(one.split()[1]) * 1024 for one in lines if one.startswith("Rss"))
    raise LookupError("the mapping is not listed")


@pytest.mark.parametrize("side", [500, SIDE])
@pytest.mark.parametrize("form", ["permuted", "straight", "widened"])
def test_a_file_that_was_cut_is_an_error_with_both_sizes(stream: ValueStream, tmp_path: Path,
                                                         side: int, form: str) -> None:
    values = np.ones((side, side), np.float16 if form == "widened" else np.float32)
    mapping = mapped(tmp_path / "source", values)
    view = np.ndarray(values.shape, values.dtype, mapping)
    given = {"permuted": view.T, "straight": view, "widened": Widened(view.T, "float16")}[form]
    stream.write(given, 7)
    os.truncate(tmp_path / "source", 5000)
    for call in (stream.write, stream.holds):
        with pytest.raises(
                SourceError, match=rf"source: the file was cut while it was read: it had "
                rf"{values.nbytes} bytes, now it has 5000"):
            call(given, 7)


@pytest.mark.parametrize("form", ["permuted", "straight", "widened"])
def test_a_file_that_is_cut_between_two_parts_is_an_error(stream: ValueStream, tmp_path: Path,
                                                          form: str) -> None:
    # More than two threads do before the caller is told.
    values = (np.ones((8, SIDE, SIDE), np.float16) if form == "widened" else np.ones(
        (4, SIDE, SIDE), np.float32))
    mapping = mapped(tmp_path / "source", values)
    view = np.ndarray(values.shape, values.dtype, mapping)
    given = {"permuted": view.T, "straight": view, "widened": Widened(view.T, "float16")}[form]
    stream.write(given, 7)
    stream.written = lambda count: os.truncate(tmp_path / "source", 5000)
    with pytest.raises(SourceError, match="now it has 5000"):
        stream.holds(given, 7)
    os.truncate(tmp_path / "source", values.nbytes)
    stream.written = lambda count: os.truncate(tmp_path / "source", 5000)
    with pytest.raises(SourceError, match="now it has 5000"):
        stream.write(given, 7)
