"""`release`: checksums, the dictionary, and an upload through a stand-in `gh` that records its
arguments and can fail.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
import sys
from pathlib import Path
from typing import Any

import h5py
import pytest

from keras_torch_convert.cli.main import main

# Answers as gh 2 does: "auth status", "release view", "release upload"; what it must do wrong
# stands in the environment.
GH = f"""#!{sys.executable}
import json, os, sys
from pathlib import Path
arguments, fail = sys.argv[1:], os.environ.get("GH_FAIL", "")
log = Path(os.environ["GH_LOG"])
with log.open("a") as lines:
    lines.write(json.dumps(arguments) + "\\n")
store = log.with_suffix(".assets")
if arguments[:2] == ["auth", "status"]:
    sys.exit("You are not logged into any GitHub hosts." if fail == "auth" else 0)
if arguments[:2] == ["release", "view"]:
    if fail == "view":
        sys.exit("release not found")
    print(store.read_text() if "--json" in arguments and store.exists() else '{{"assets": []}}')
    sys.exit(0)
if arguments[:2] == ["release", "upload"]:
    if fail == "upload":
        sys.exit("HTTP 422: already_exists")
    files = [Path(name) for name in arguments[3:] if name.endswith(".h5")]
    size = 1 if fail == "size" else 0
    assets = [{{"name": one.name, "size": one.stat().st_size - size}} for one in files]
    store.write_text(json.dumps({{"assets": assets}}))
    sys.exit(0)
sys.exit("unknown command")
"""
ZOO = 'PRETRAINED_DICT = {\n    "net": {"imagenet": {224: "old"}},\n}\n'


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A converted file, a zoo, a `gh` in front of all others, and its log."""
    monkeypatch.chdir(tmp_path)
    with h5py.File("net_224_imagenet.h5", "w") as file:
        file.attrs["model_config"] = json.dumps(
            {"class_name": "Functional", "config": {"name": "net"}})
        file["weights"] = [1.0, 2.0]
    Path("zoo.py").write_text(ZOO)
    Path("bin").mkdir()
    Path("bin/gh").write_text(GH)
    Path("bin/gh").chmod(Path("bin/gh").stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("GH_LOG", str(tmp_path / "gh.log"))
    monkeypatch.delenv("GH_FAIL", raising=False)
    return tmp_path


def run(capsys: pytest.CaptureFixture[str], *options: str) -> tuple[int, str, str]:
    """Exit code, output, errors of `release` on the converted file."""
    code = main(["release", "net_224_imagenet.h5", *options])
    printed = capsys.readouterr()
    return code, printed.out, printed.err


def calls() -> list[list[str]]:
    """How `gh` was called."""
    log = Path("gh.log")
    return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []


UPLOAD = ("--upload", "owner/zoo", "--release-tag", "net")
DICTIONARY = ("--dictionary", "zoo.py")


def test_checksums_and_the_entry_are_printed(folder: Path,
                                             capsys: pytest.CaptureFixture[str]) -> None:
    data = Path("net_224_imagenet.h5").read_bytes()
    md5, sha256 = hashlib.md5(data).hexdigest(), hashlib.sha256(data).hexdigest()

    code, out, err = run(capsys)

    assert code == 0
    assert f"md5     {md5}" in out
    assert f"sha256  {sha256}" in out
    assert f'entry     "net": {{"imagenet": {{224: "{md5}"}}}},' in out
    assert err == ""


def test_a_file_that_the_zoo_would_not_find_is_told(folder: Path,
                                                    capsys: pytest.CaptureFixture[str]) -> None:
    _, _, err = run(capsys, "--pretrained", "noisy")

    assert "looks for net_224_noisy.h5" in err


def test_the_dictionary_is_edited_and_the_file_uploaded(folder: Path,
                                                        capsys: pytest.CaptureFixture[str]) -> None:
    md5 = hashlib.md5(Path("net_224_imagenet.h5").read_bytes()).hexdigest()

    code, out, _ = run(capsys, *DICTIONARY, *UPLOAD)

    assert code == 0
    assert Path("zoo.py").read_text() == ZOO.replace("old", md5)
    assert f'+    "net": {{"imagenet": {{224: "{md5}"}}}},' in out
    assert out.splitlines()[-1] == "uploaded to release net of owner/zoo"
    assert calls() == [["auth", "status"], ["release", "view", "net", "--repo", "owner/zoo"],
                       ["release", "upload", "net", "net_224_imagenet.h5", "--repo", "owner/zoo"],
                       ["release", "view", "net", "--repo", "owner/zoo", "--json", "assets"]]
    assert run(capsys, *DICTIONARY)[1].splitlines()[-1] == "zoo.py has this entry already"


@pytest.mark.parametrize(
    ("failure", "message"),
    [("view", ("there is no release net of owner/zoo: release not found; make it with: gh "
               "release create net --repo owner/zoo")),
     ("upload", ("HTTP 422: already_exists; the command was: gh release upload net "
                 "net_224_imagenet.h5 --repo owner/zoo")), ("size", "net_224_imagenet.h5 has")])
def test_a_failed_upload_leaves_the_dictionary_as_it_was(failure: str, message: str, folder: Path,
                                                         capsys: pytest.CaptureFixture[str],
                                                         monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GH_FAIL", failure)

    code, out, err = run(capsys, *DICTIONARY, *UPLOAD)

    assert (code, out) == (4, "")
    assert message in err
    assert Path("zoo.py").read_text() == ZOO


def test_without_a_login_the_command_to_run_is_told(folder: Path,
                                                    capsys: pytest.CaptureFixture[str],
                                                    monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GH_FAIL", "auth")

    code, out, _ = run(capsys, *DICTIONARY, *UPLOAD, "--replace")

    assert code == 4
    assert out.splitlines()[-3:] == [
        "not uploaded: gh is not logged in: run gh auth login", "left to do by hand:",
        "  gh release upload net net_224_imagenet.h5 --repo owner/zoo --clobber"
    ]
    assert Path("zoo.py").read_text() != ZOO


def test_without_gh_the_command_to_run_is_told(folder: Path, capsys: pytest.CaptureFixture[str],
                                               monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(folder / "nowhere"))

    code, out, _ = run(capsys, *UPLOAD)

    assert code == 4
    assert "not uploaded: the program gh is not installed" in out
    assert out.splitlines()[-1].strip(
    ) == "gh release upload net net_224_imagenet.h5 --repo owner/zoo"


def test_a_dry_run_changes_nothing(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, *DICTIONARY, *UPLOAD, "--dry-run", "--json")

    assert code == 0
    answer: dict[str, Any] = json.loads(out)
    assert answer["dictionary"]["changed"]
    assert not answer["uploaded"]
    assert answer["by_hand"].startswith("gh release upload net")
    assert Path("zoo.py").read_text() == ZOO
    assert calls() == []


def test_files_in_parts_are_one_entry(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in (1, 2):
        Path(f"net_imagenet.{number}.h5").write_bytes(bytes([number]))

    code = main(
        ["release", "net_imagenet.1.h5", "net_imagenet.2.h5", "--model-name", "net", "--json"])

    answer = json.loads(capsys.readouterr().out)
    assert code == 0
    assert (answer["entry"] == '"net": {"imagenet": ["55a54008ad1ba589aa210d2629c1df41", '
            '"9e688c58a5487b8eaf69c9e1005ad0bf"]},')
    assert answer["notes"] == []


@pytest.mark.parametrize(
    ("code", "options", "message"),
    [(2, ("--upload", "owner/zoo"), "--upload and --release-tag belong together"),
     (3, ("--dictionary", "zoo.py", "--name", "MODELS"), "no dictionaries called MODELS")])
def test_usage_errors_and_input_errors(code: int, options: tuple[str, ...], message: str,
                                       folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found, out, err = run(capsys, *options)

    assert (found, out) == (code, "")
    assert message in err
    assert Path("zoo.py").read_text() == ZOO


def test_a_file_without_a_model_name_wants_it_said(folder: Path,
                                                   capsys: pytest.CaptureFixture[str]) -> None:
    Path("other.h5").write_bytes(b"weights")

    assert main(["release", "other.h5"]) == 2
    assert "give --model-name" in capsys.readouterr().err


def renamed(name: str, height: int | None = None) -> str:
    """The converted file under another name, with a model of that input height."""
    Path("net_224_imagenet.h5").rename(name)
    if height is not None:
        layers = [{"class_name": "InputLayer",
                   "config": {"batch_shape": [None, height, height, 3]}}]  # yapf: disable
        with h5py.File(name, "a") as file:
            file.attrs["model_config"] = json.dumps({"config": {"name": "net", "layers": layers}})
    return name


@pytest.mark.parametrize(("name", "options", "tag", "value"), [
    ("net_imagenet.h5", (), "imagenet", '"{}"'), ("net.h5", (), "imagenet", '"{}"'),
    ("net_384_imagenet21k-ft1k.h5", (), "imagenet21k-ft1k", '{{384: "{}"}}'),
    ("net_token_label.h5", (), "token_label", '"{}"'),
    ("net_160.h5", ("--pretrained", "noisy"), "noisy", '{{160: "{}"}}'),
    ("net_160_a.h5", ("--resolution", "99"), "a", '{{99: "{}"}}'),
    ("other_160_a.h5", (), "imagenet", '"{}"'), ("network_160_a.h5", (), "imagenet", '"{}"'),
])  # yapf: disable
def test_resolution_and_tag_are_read_from_the_name(name: str, options: tuple[str, ...], tag: str,
                                                   value: str, folder: Path,
                                                   capsys: pytest.CaptureFixture[str]) -> None:
    file = renamed(name)
    md5 = hashlib.md5(Path(file).read_bytes()).hexdigest()

    assert main(["release", file, *options, "--json"]) == 0

    entry = json.loads(capsys.readouterr().out)["entry"]
    assert entry == f'"net": {{"{tag}": {value.format(md5)}}},'


def test_the_size_of_the_model_decides_where_the_dictionary_wants_one(
        folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["release", renamed("net_imagenet.h5", 160), "--dictionary", "zoo.py"]) == 0
    printed = capsys.readouterr()
    assert '224: "old", 160: "' in Path("zoo.py").read_text()
    assert "looks for net_160_imagenet.h5" in printed.err


def test_without_any_size_the_dictionary_stays(folder: Path,
                                               capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["release", renamed("net_imagenet.h5"), "--dictionary", "zoo.py"]) == 3
    assert "has an md5 for each resolution (224)" in capsys.readouterr().err
    assert Path("zoo.py").read_text() == ZOO
