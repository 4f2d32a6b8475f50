"""Files behind an address, from a server on this machine that is honest, slow, cut off or lying."""

from __future__ import annotations

import io
import json
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import save

from keras_torch_convert.errors import SourceError
from keras_torch_convert.spec.source import Source, expect
from keras_torch_convert.torch_io import remote
from keras_torch_convert.torch_io.reader import read
from tests.helpers.range_server import serving

pytest.importorskip("fsspec")
pytest.importorskip("aiohttp")
Arrays = dict[str, Any]


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything a twentieth of its size, for files of some megabytes."""
    for name in ("_PART", "_GAP", "_AHEAD", "_KEPT", "_LEAST", "_FIRST_PAUSE", "_LONGEST_PAUSE"):
        value = getattr(remote, name)
        monkeypatch.setattr(remote, name, type(value)(value / 20))


def arrays(count: int = 40, rows: int = 40) -> Arrays:
    random = np.random.default_rng(count)
    found: Arrays = {}
    for index in range(count):
        found[f"layers.{index}.weight"] = random.random((rows, 500), np.float32)
        found[f"layers.{index}.bias"] = random.random(500, np.float32)
    return found


def check(source: Source, expected: Arrays) -> None:
    expect(source, source)
    for name, tensor in source.items():
        assert tensor.read().tobytes() == expected[name].tobytes(), name
        assert not tensor.read().flags.writeable


def test_a_header_takes_three_requests_and_the_values_little_more_than_their_bytes() -> None:
    expected = arrays()
    with serving({"model.safetensors": save(expected)}) as server:
        source = read(f"{server.url}/model.safetensors")
        assert source.keys() == expected.keys()
        assert len(server.requests) <= 3
        check(source, expected)
        assert server.sent <= 1.05 * sum(one.nbytes for one in expected.values())
        gets = [one for one in server.requests if one.startswith("GET")]
        assert len(gets) <= 2 + server.sent / 50_000


def test_a_long_header_takes_three_requests() -> None:
    expected = {f"layers.{index}.weight": np.ones(2, np.float32) for index in range(500)}
    with serving({"model.safetensors": save(expected)}) as server:
        assert len(read(f"{server.url}/model.safetensors")) == 500
        assert len(server.requests) == 3


def test_what_is_not_needed_is_not_fetched() -> None:
    expected = arrays(12, 150)
    with serving({"model.safetensors": save(expected)}) as server:
        source = read(f"{server.url}/model.safetensors")
        wanted = ["layers.2.weight", "layers.9.weight"]
        expect(source, wanted)
        for name in wanted:
            assert source[name].read().tobytes() == expected[name].tobytes()
        assert server.sent <= 1.05 * 2 * expected[wanted[0]].nbytes


def test_twenty_cuts_are_survived() -> None:
    expected = arrays()
    with serving({"model.safetensors": save(expected)}, cuts=20, refusals=1) as server:
        check(read(f"{server.url}/model.safetensors"), expected)
        assert server.cuts == server.refusals == 0


def test_requests_go_out_together_and_before_they_are_needed() -> None:
    expected = arrays(40, 80)
    with serving({"model.safetensors": save(expected)}, seconds_a_request=0.05) as server:
        source = read(f"{server.url}/model.safetensors")
        check(source, expected)
        assert server.most_at_once >= 2
        # Other bytes are asked for while the first ones are still on their way.
        source = read(f"{server.url}/model.safetensors")
        expect(source, source)
        before = len(server.requests)
        next(iter(source.values())).read()
        assert len(server.requests) - before >= 4


def test_while_the_last_large_tensor_that_came_is_used_others_come() -> None:
    expected = {str(index): np.ones((420, 500), np.float32) for index in range(6)}
    with serving({"model.safetensors": save(expected)}) as server:
        source = read(f"{server.url}/model.safetensors")
        expect(source, source)
        for name in ("0", "1"):
            source[name].read()
        limit = time.monotonic() + 20
        while server.sent < 4 * expected["0"].nbytes:
            assert time.monotonic() < limit
            time.sleep(0.01)


def test_a_file_that_changes_is_an_error() -> None:
    expected = arrays(40, 100)
    with serving({"model.safetensors": save(expected)}) as server:
        source = read(f"{server.url}/model.safetensors")
        expect(source, source)
        first, *_, last = source.values()
        assert first.read().tobytes() == expected[first.name].tobytes()
        server.files["model.safetensors"] = save({name: -one for name, one in expected.items()})
        with pytest.raises(SourceError, match="was changed while it was read"):
            last.read()
        del server.files["model.safetensors"]
        with pytest.raises(SourceError, match="no longer there"):
            source["layers.20.weight"].read()


@pytest.mark.parametrize(("behavior", "message"), [
    ({"ignores_ranges": True}, "does not send parts of files"),
    ({"lie": 1000}, "belong to no tensor"),
    ({"lie": -1000}, "cut short"),
    ({"cuts": 10**9}, "cannot be read: ClientPayloadError"),
    ({"refusals": 10**9}, "cannot be read: status 503"),
])  # yapf: disable
def test_a_server_that_misbehaves_is_an_error(behavior: dict[str, Any], message: str) -> None:
    with serving({"model.safetensors": save(arrays(2))}, **behavior) as server:
        with pytest.raises(SourceError, match=message) as error:
            check(read(f"{server.url}/model.safetensors"), {})
        assert f"{server.url}/model.safetensors: " in str(error.value)


def test_fewer_bytes_than_announced_are_an_error() -> None:
    content = save(arrays(2))
    with (serving({"model.safetensors": content[:-1000]}, lie=1000) as
          server, pytest.raises(SourceError, match="fewer bytes than it announced")):
        check(read(f"{server.url}/model.safetensors"), arrays(2))


def test_secrets_are_not_shown() -> None:
    with serving({"a.safetensors": save(arrays(1))}) as server:
        host = server.url.removeprefix("http://")
        source = read(f"http://name:pass-word@{host}/a.safetensors?signature=s-e-cret#part")
        assert source.origin == f"http://{host}/a.safetensors"
        assert "s-e-cret" not in repr((source, *source.values()))
        server.files["a.safetensors"] = b"other"
        asked = [
            source["layers.0.weight"].read,
            partial(read, f"http://name:pass-word@{host}/a.safetensors?signature=s-e-cret"),
            partial(read, f"http://name:pass-word@{host}/none.safetensors?signature=s-e-cret")
        ]
        for request in asked:
            with pytest.raises(SourceError) as error:
                request()
            assert "s-e-cret" not in str(error.value)
            assert "pass-word" not in str(error.value)
    with pytest.raises(SourceError, match="fsspec cannot open it") as error:
        read("nothing://name:pass-word@host/x?signature=s-e-cret")
    assert "pass-word" not in str(error.value)
    assert "s-e-cret" not in str(error.value)


def test_shards_are_read_beside_their_index() -> None:
    expected = arrays(4)
    halves = [dict(list(expected.items())[:4]), dict(list(expected.items())[4:])]
    files = {f"repo/model-{number}.safetensors": save(half) for number, half in enumerate(halves)}
    weight_map = {
        name: f"model-{number}.safetensors" for number, half in enumerate(halves) for name in half
    }
    files["repo/model.safetensors.index.json"] = json.dumps({"weight_map": weight_map}).encode()
    with serving(files) as server:
        check(read(f"{server.url}/repo/model.safetensors.index.json"), expected)


@pytest.mark.parametrize("names_alone", [False, True])
def test_a_folder_is_read_as_one_on_this_machine(names_alone: bool,
                                                 monkeypatch: pytest.MonkeyPatch) -> None:
    import fsspec
    from fsspec.implementations.memory import MemoryFileSystem

    if names_alone:
        # As s3fs lists a folder unless it is asked for more.
        real = MemoryFileSystem.ls
        monkeypatch.setattr(
            MemoryFileSystem, "ls",
            lambda self, path, detail=False, **more: real(self, path, detail=detail, **more))
    expected, memory = arrays(2), fsspec.filesystem("memory")
    memory.pipe("/repo/model.safetensors", save(expected))
    memory.pipe("/repo/config.json", b'{"model_type": "tiny"}')
    memory.pipe("/empty/note.txt", b"x")
    try:
        source = read("memory://repo")
        check(source, expected)
        assert "config.json describes tiny" in source.notes
        with pytest.raises(SourceError, match="without weight files"):
            read("memory://empty")
        with pytest.raises(SourceError, match="there is no such file"):
            read("memory://repo/none.safetensors")
    finally:
        memory.rm("/repo", recursive=True)
        memory.rm("/empty", recursive=True)


@pytest.mark.parametrize("zipped", [True, False])
def test_pth_files_are_read_by_their_members(zipped: bool, tmp_path: Path) -> None:
    expected = arrays(6, 200)
    stream = io.BytesIO()
    state = {name: torch.from_numpy(one) for name, one in expected.items()}
    torch.save(state, stream, _use_new_zipfile_serialization=zipped)
    with serving({"model.pth": stream.getvalue()}) as server:
        source = read(f"{server.url}/model.pth")
        assert not zipped or server.sent < len(stream.getvalue()) / 2
        check(source, expected)
        assert server.sent <= 1.05 * len(stream.getvalue())


def test_what_is_kept_in_memory_has_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = arrays(20)
    monkeypatch.setattr(remote, "_KEPT", 600_000)
    monkeypatch.setattr(remote, "_AHEAD", 200_000)
    with serving({"model.safetensors": save(expected)}) as server:
        path = remote.RemotePath.of(f"{server.url}/model.safetensors")
        source = read(path)
        check(source, expected)
        assert sum(one.end - one.first for one in path.connection.kept) <= 600_000
        assert server.sent <= 1.05 * sum(one.nbytes for one in expected.values())


def test_without_fsspec_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fsspec.core", None)
    with pytest.raises(SourceError, match=r"pip install 'keras-torch-convert\[remote\]'$"):
        read("hf://owner/repo@main/model.safetensors")
    with pytest.raises(SourceError, match=r"needs fsspec and s3fs: .*\[remote\]' s3fs"):
        read("s3://bucket/model.safetensors")


def test_an_adapter_may_lie_behind_an_address() -> None:
    base = {"a.weight": np.zeros((3, 4), np.float32)}
    matrices = {"A": np.ones((2, 4), np.float32), "B": np.ones((3, 2), np.float32)}
    adapter = save({f"base_model.model.a.lora_{name}.weight": one
                    for name, one in matrices.items()})  # yapf: disable
    config = json.dumps({"peft_type": "LORA", "r": 2, "lora_alpha": 2}).encode()
    files = {"lora/adapter_model.safetensors": adapter, "lora/adapter_config.json": config,
             "base.safetensors": save(base)}  # yapf: disable
    with serving(files) as server:
        source = read(f"{server.url}/base.safetensors", adapter=f"{server.url}/lora")
        assert (source["a.weight"].read() == 2).all()
