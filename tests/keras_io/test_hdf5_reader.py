"""HDF5 files that do what Keras's never do are refused by name, before a value is read."""

from __future__ import annotations

import io
import os
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from keras_torch_convert.errors import SaveError, SourceError
from keras_torch_convert.keras_io.hdf5_reader import UnreadableError, chunk_sizes
from keras_torch_convert.keras_io.weights_file import read_members, read_stored

SECRET = np.arange(100, dtype="f4")
Fill = Callable[[h5py.File, Path], object]


def made(path: Path, fill: Fill, **settings: Any) -> Path:
    """A file with what Keras writes, and what `fill` adds."""
    with h5py.File(path, "w", **settings) as file:
        file.attrs["keras_version"] = "3.0.0"
        file.attrs["layer_names"] = np.array([b"a", b"b"])
        file.attrs["weight_names"] = ["a/kernel", "a/bias", "\N{SNOWMAN}"]
        file["layers/a/kernel"] = SECRET
        fill(file, path.with_name("secret"))
    return path


def virtual(file: h5py.File, other: Path) -> None:
    layout = h5py.VirtualLayout((100,), "f4")
    layout[:] = h5py.VirtualSource(str(other), "a", (100,))
    file.create_virtual_dataset("x", layout)


def deep(file: h5py.File, other: Path) -> None:
    group = file
    for _ in range(2000):
        group = group.create_group("x")


# What each adds to a file, and what the message then says.
HOSTILE: dict[str, tuple[Fill, str]] = {
    "external storage":
        (lambda file, other: file.create_dataset("x",
                                                 (100,), "f4", external=[(str(other), 0, 400)]),
         "/x has its values in another file"),
    "external link": (lambda file, other: file.update(x=h5py.ExternalLink(str(other), "/a")),
                      "/x is an external link into another file"),
    "virtual": (virtual, "/x is a virtual data set"),
    "loop of soft links":
        (lambda file, other: file.update(x=h5py.SoftLink("/x")), "/x is a soft link"),
    "soft link":
        (lambda file, other: file.update(x=h5py.SoftLink("/layers")), "/x is a soft link"),
    "loop of hard links": (lambda file, other: file["layers"].update(x=file["layers"]),
                           "/layers/x is another name of something that has one"),
    "compound":
        (lambda file, other: file.update(x=np.zeros(3, "f4,i4")), r"/x is of a type.*\(compound"),
    "variable length": (lambda file, other: file.create_dataset("x", (3,), h5py.vlen_dtype("f4")),
                        r"/x is of a type.*\(variable-length\)"),
    "variable text": (lambda file, other: file.create_dataset("x", data=["a", "b"]),
                      r"/x is of a type.*\(variable-length text"),
    "reference":
        (lambda file, other: file.create_dataset("x",
                                                 (3,), h5py.ref_dtype), r"/x is .*\(reference"),
    "attribute": (lambda file, other: file.attrs.create("x", file.ref),
                  r"/: attribute x is .*\(reference"),
    "type": (lambda file, other: file.update(x=np.dtype("f4")), "/x is neither a group nor"),
    "no shape": (lambda file, other: file.update(x=h5py.Empty("f4")), "/x has no shape"),
    "attribute without value": (lambda file, other: file.attrs.create("x", h5py.Empty("f4")),
                                "attribute x is no single value and no list"),
    "unknown filter":
        (lambda file, other: file.create_dataset("x", data=np.zeros(
            (9, 9)), compression="lzf"), r"/x is packed by filter 32000.*h5repack -f NONE"),
    "values never written":
        (lambda file, other: file.create_dataset("x",
                                                 (1 << 30,), "f4", fillvalue=3), "/x holds no val"),
    "chunks never written": (lambda file, other: file.create_dataset("x",
                                                                     (99,), "f4", chunks=(9,)),
                             "/x lacks 11 of its 11 chunks"),
    "many chunks":
        (lambda file, other: file.create_dataset("x",
                                                 (1 << 30,), "f4", chunks=(99,)), "/x takes more"),
    "large chunks": (lambda file, other: file.create_dataset(
        "x", data=np.random.default_rng(0).random(1 << 16), chunks=(1 << 16,), compression="gzip"),
                    "/x is packed in chunks of up to"),
    "deep": (deep, "is more than 100 groups deep"),
    "newer form": (lambda file, other: [file.attrs.create(str(i), "text") for i in range(20)],
                   "attribute b'0' is kept as no Keras keeps it"),
}  # yapf: disable
LATEST = {"newer form"}


def hostile(name: str, folder: Path) -> tuple[Path, str]:
    fill, message = HOSTILE[name]
    settings = {"libver": "latest"} if name in LATEST else {}
    return made(folder / f"{name.replace(' ', '_')}.h5", fill, **settings), message


@pytest.mark.parametrize("name", HOSTILE)
def test_what_reaches_out_or_takes_too_much_is_refused_by_name(name: str, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(SECRET.tobytes())
    path, message = hostile(name, tmp_path)
    with pytest.raises(SourceError, match=message) as caught:
        read_stored(path)
    assert str(path) in str(caught.value)
    assert len(str(caught.value)) < 600
    weights = path.rename(path.with_suffix(".weights.h5"))
    with pytest.raises(SaveError, match=message):
        read_stored(weights, SaveError)
    archive = tmp_path / "model.keras"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("model.weights.h5", weights.read_bytes())
    with pytest.raises(SourceError, match=message):
        read_stored(archive)


def test_a_link_that_appears_after_the_layout_was_read_is_refused(tmp_path: Path) -> None:
    stored = read_stored(made(tmp_path / "a.h5", lambda file, other: None))
    with h5py.File(tmp_path / "a.h5", "a") as file:
        file.move("layers", "old")
        file["layers"] = h5py.SoftLink("/old")
    with pytest.raises(SourceError, match="/layers is a soft link to another name"):
        stored.read("/layers/a/kernel", SourceError)


@pytest.mark.parametrize(
    "values", [SECRET.astype("c8"), SECRET > 3, SECRET.astype("V4")[:2], SECRET.astype("i8"),
               np.zeros((0, 3), "f4"), np.float32(3), np.array([b"ab", b"c"])],
    ids=["complex", "bool", "opaque", "int64", "empty", "scalar", "text"])  # yapf: disable
@pytest.mark.parametrize("packed", [False, True])
def test_what_keras_writes_is_read(values: Any, packed: bool, tmp_path: Path) -> None:
    values = np.asarray(values)
    # h5py's own chunks, as h5repack and pandas make them.
    settings = {"compression": "gzip", "shuffle": True, "fletcher32": True}
    settings = settings if packed and values.ndim and values.size else {}
    path = made(tmp_path / "a.h5",
                lambda file, other: file.create_dataset("x", data=values, **settings))
    stored = read_stored(path)
    root = {one.name: one.value for one in stored.layout.groups[0].attributes}
    assert root == {
        "keras_version": "3.0.0", "layer_names": ("a", "b"),
        "weight_names": ("a/kernel", "a/bias", "\N{SNOWMAN}")
    }
    found = stored.read("/x", SourceError)
    assert found.dtype == values.dtype
    assert found.tobytes() == values.tobytes()


def test_chunks_are_counted_by_an_old_hdf5_too(tmp_path: Path) -> None:
    class OfOldHdf5:
        """Without what HDF5 1.12.3 brought."""
        def __init__(self, item: Any) -> None:
            self.get_num_chunks, self.get_chunk_info = item.get_num_chunks, item.get_chunk_info

    with h5py.File(tmp_path / "a.h5", "w") as file:
        values = np.arange(1000, dtype=np.float32)
        item = file.create_dataset("x", data=values, chunks=(64,), compression="gzip")
        assert chunk_sizes("/x", OfOldHdf5(item.id)) == chunk_sizes("/x", item.id)
        assert len(chunk_sizes("/x", item.id)) == 16
        item = file.create_dataset("y", data=np.zeros(10_000, np.uint8), chunks=(1,))
        with pytest.raises(UnreadableError, match="/y has 10000 chunks, at most 8192 are read"):
            chunk_sizes("/y", OfOldHdf5(item.id))


def shared_texts(path: Path, length: int) -> Path:
    """Let thousands of texts be one of a megabyte, whose length is then said to be another."""
    with h5py.File(path, "w") as file:
        file.attrs["text"] = "x" * 1_000_000
        file.attrs["names"] = ["abc"] * 3000
    data = path.read_bytes()
    start = data.index(struct.pack("<I", 1_000_000))
    entry = data[start:start + 16]
    first = data.index(struct.pack("<I", 3), data.index(b"names\0") + 8)
    data = data[:first] + entry * 3000 + data[first + 16 * 3000:]
    path.write_bytes(data.replace(entry, struct.pack("<I", length) + entry[4:]))
    return path


@pytest.mark.parametrize(("length", "name"), [(1_000_000, "names"), (4_000_000_000, "text")])
def test_texts_that_would_take_gigabytes_are_not_read(length: int, name: str,
                                                      tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="takes more than the file can hold") as caught:
        read_stored(shared_texts(tmp_path / "a.h5", length))
    assert f"attribute {name} takes" in str(caught.value) or "attribute names" in str(caught.value)


@pytest.mark.parametrize(("number", "size"), [(0, 0), (0, 8), (1, 2**60), (1, 2**64 - 1)])
def test_a_heap_of_texts_in_which_hdf5_would_search_for_ever_is_damaged(
        number: int, size: int, tmp_path: Path) -> None:
    path = made(tmp_path / "a.h5", lambda file, other: None)
    data = bytearray(path.read_bytes())
    # The free space behind the last text.
    start = position = data.index(b"GCOL")
    position += 16
    while data[position:position + 2] != b"\0\0":
        position += 16 + -(-int.from_bytes(data[position + 8:position + 16], "little") // 8) * 8
    assert position < start + 4096
    data[position:position + 16] = struct.pack("<HHIQ", number, 0, 0, size)
    path.write_bytes(data)
    with pytest.raises(SourceError,
                       match=r"the texts in the heap at byte|holds a text that is not"):
        read_stored(path)


def test_weights_that_hold_the_end_of_a_zip_file_are_no_archive(tmp_path: Path) -> None:
    content = io.BytesIO()
    zipfile.ZipFile(content, "w").close()
    end = np.frombuffer(content.getvalue().ljust(24, b"\0"), "f4")
    path = made(tmp_path / "a.h5", lambda file, other: file.create_dataset("x", data=end))
    assert zipfile.is_zipfile(path)
    assert read_stored(path).read("/x", SourceError).tobytes() == end.tobytes()


def archive_of(path: Path, *members: tuple[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, data in members:
            file.writestr(name, data)
    return path


def test_a_packed_archive_is_read_and_one_that_unpacks_to_too_much_is_not(tmp_path: Path) -> None:
    weights = made(tmp_path / "a.h5", lambda file, other: None).read_bytes()
    good = archive_of(tmp_path / "good.keras", ("config.json", b"{}"),
                      ("model.weights.h5", weights))
    assert read_stored(good).read("/layers/a/kernel", SourceError).tolist() == SECRET.tolist()
    assert [member.text for member in read_members(good)] == ["{}"]
    bomb = archive_of(tmp_path / "bomb.keras", ("config.json", bytes(1 << 27)),
                      ("model.weights.h5", bytes((1 << 29) + 1)))
    with pytest.raises(SourceError, match=r"'model\.weights\.h5' takes 536870913 bytes, at most"):
        read_stored(bomb)
    with pytest.raises(SourceError, match=r"'config\.json' takes 134217728 bytes, at most"):
        read_members(bomb)
    damaged = bytearray(good.read_bytes())
    damaged[14] ^= 1
    damaged[damaged.rindex(b"PK\1\2", 0, damaged.rindex(b"PK\1\2")) + 16] ^= 1
    good.write_bytes(damaged)
    with pytest.raises(SourceError, match=r"'config\.json' does not fit its check sum"):
        read_members(good)
    assets = archive_of(tmp_path / "assets.keras", ("assets/a", b"\xff"))
    with pytest.raises(SourceError, match="holds 'assets/a', which is no text"):
        read_members(assets)
    with pytest.raises(SourceError, match=r"an archive without model\.weights\.h5"):
        read_stored(assets)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_what_is_no_regular_file_is_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.h5")
    with (tmp_path / "sparse.keras").open("wb") as file:
        file.truncate(100 << 30)
    for path, message in ((tmp_path / "pipe.h5", "is not a regular file"),
                          (Path("/dev/zero"), "is not a regular file"), (tmp_path / "no.h5",
                                                                         "there is no such file"),
                          (tmp_path / "sparse.keras", "neither HDF5 nor a .keras archive")):
        with pytest.raises(SourceError, match=message):
            read_stored(path)
