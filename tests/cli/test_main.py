"""The commands, as a user runs them: what they print and write, and the code with which they end.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch

from keras_torch_convert.cli.main import COMMANDS, main

ROOT = Path(__file__).resolve().parents[2]

# What a user's own file looks like. It prints, as such files do.
MODELS = """
import os, signal

def torch_model(width=4):
    import torch
    from torch import nn
    print("building")
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, width, 3), nn.BatchNorm2d(width), nn.ReLU(), nn.AdaptiveAvgPool2d(1),
        nn.Flatten(), nn.Linear(width, 5)
    )

def keras_model(epsilon=1e-5, width=4):
    import keras
    from keras import layers
    return keras.Sequential([
        keras.Input((16, 16, 3)), layers.Conv2D(width, 3, name="stem_conv"),
        layers.BatchNormalization(epsilon=epsilon, momentum=0.9, name="stem_bn"),
        layers.ReLU(name="stem_relu"),
        layers.GlobalAveragePooling2D(name="pool"), layers.Dense(5, name="head"),
    ], name="net")

def broken(**kwargs):
    raise RuntimeError("no weights here")

def doubled(weights):
    return [2 * weights[0], weights[1]]

def interrupted(weights):
    os.kill(os.getpid(), signal.SIGINT)
    return weights
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a file of models, a checkpoint and nothing else, in which the commands run."""
    (tmp_path / "models.py").write_text(MODELS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "models", raising=False)
    import models  # type: ignore[import-not-found]  # the file above

    torch.save(models.torch_model().state_dict(), "net.pth")
    return tmp_path


def answer(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of a command."""
    capsys.readouterr()
    code = main(list(arguments))
    printed = capsys.readouterr()
    return code, printed.out, printed.err


def as_json(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    """The JSON that a command prints with --json: all of standard output."""
    code, out, err = answer(capsys, *arguments, "--json")
    assert code == 0, err
    return json.loads(out)


def fresh(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """A command in a process of its own."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "keras_torch_convert", *arguments]
    return subprocess.run(command, check=False, capture_output=True, text=True, env=environment,
                          **options)


@pytest.mark.parametrize("name", COMMANDS)
def test_help_has_examples(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = answer(capsys, name, "--help")

    assert code == 0
    assert f"keras-torch-convert {name}" in out
    assert name == "completion" or ("Examples:" in out and "Exit codes:" in out)


def test_help_imports_nothing_heavy() -> None:
    script = ("import sys; from keras_torch_convert.cli.main import main; main(['--help']); "
              "main(['convert', '--help']);"
              "print(sorted({'torch', 'keras', 'tf_keras', 'tensorflow', 'jax', 'rich', 'dask', "
              "'distributed', 'PIL'} & set(sys.modules)))")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    out = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True,
                         env=environment)

    assert out.stdout.splitlines()[-1] == "[]"


def test_inspect_lists_a_checkpoint(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = answer(capsys, "inspect", "net.pth")

    assert code == 0
    assert out.splitlines()[2].split() == ["0", "0", "(4,3,3,3)", "(4)", "112"]
    assert out.splitlines()[-1] == "torch: 3 layers, 8 arrays, 153 parameters"


def test_inspect_lists_a_keras_model(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = as_json(capsys, "inspect", "models:keras_model", "--kwargs", '{"width": 6}')["rows"]

    assert rows[0] == {
        "name": "stem_conv", "class": "Conv2D", "shapes": [[3, 3, 3, 6], [6]],
        "arrays": ["kernel", "bias"], "parameters": 168
    }
    assert [row["name"] for row in rows] == ["stem_conv", "stem_bn", "head"]


def test_inspect_of_two_marks_the_first_misalignment_and_ends_with_1(
        folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert answer(capsys, "inspect", "net.pth", "models.py:keras_model")[0] == 0

    code, out, _ = answer(capsys, "inspect", "net.pth", "models.py:keras_model",
                          "--full-name-align-dict", '{"stem_bn": -1}')

    assert code == 1
    assert "<- first misalignment: '0' does not fit into 'stem_bn'" in out


def test_convert_proves_and_saves_and_its_plan_can_be_looked_at(
        folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = answer(
        capsys,
        *("convert", "models.py:torch_model", "models.py:keras_model", "-o", "net.h5",
          "--save-plan", "net.plan.json"))

    assert code == 0, err
    assert out.splitlines()[-1].startswith("outputs are equal")
    assert "building" in err
    assert "building" not in out
    with h5py.File("net.h5") as file:
        kernel = file["model_weights/stem_conv"]["net/stem_conv/kernel"][()]
    expected = torch.load("net.pth")["0.weight"].numpy()
    np.testing.assert_array_equal(kernel, expected.transpose(2, 3, 1, 0))

    plan = as_json(capsys, "inspect", "net.plan.json")
    assert len(plan["assignments"]) == 8
    assert plan["portable"]
    assert plan["lossless"]


def test_convert_loads_a_checkpoint_into_the_module_first(
        folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    state = {name: tensor + 1 for name, tensor in torch.load("net.pth").items()}
    torch.save({"state_dict": state}, "finetuned.pth")

    arguments = ("models:torch_model", "models:keras_model", "--weights", "finetuned.pth", "-o",
                 "net.weights.h5")
    report = as_json(capsys, "convert", *arguments)

    assert report["equal"]
    with h5py.File("net.weights.h5") as file:
        np.testing.assert_array_equal(file["layers/dense/vars/1"][()], state["5.bias"].numpy())


def test_classic_arguments_come_as_options_or_from_a_file(
        folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "convert.toml").write_text("""
        source = "net.pth"
        target = "models.py:keras_model"
        output = "net.h5"
        kwargs = { width = 4 }
        skip-weights = ["num_batches_tracked"]
        additional_transfer = { head = "models.py:doubled" }
        """)
    report = as_json(capsys, "convert", "--config", "convert.toml", "--tail-align-dict",
                     '{"relu": -1}')

    assert report["complete"]
    assert report["equal"] is None
    assert "relu" in report["warnings"][0]
    with h5py.File("net.h5") as file:
        kernel = file["model_weights/head"]["net/head/kernel"][()]
    np.testing.assert_array_equal(kernel, 2 * torch.load("net.pth")["5.weight"].numpy().T)


def test_different_outputs_end_with_1_and_are_told(folder: Path,
                                                   capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = answer(
        capsys, *("convert", "models.py:torch_model", "models.py:keras_model", "--by-order"),
        *("--kwargs", "{}", "--kwargs", '{"epsilon": 0.1}'))

    assert code == 1
    assert out.splitlines()[-1].startswith("OUTPUTS DIFFER")
    assert "build the Keras layer with epsilon=1e-05" in out


@pytest.mark.parametrize(("code", "arguments", "message"), [
    (1, ("convert models.py:torch_model models.py:keras_model --kwargs {} --kwargs "
         "{\"width\":5}"), "nothing was written"),
    (1, "convert net.pth models.py:keras_model", "only weights"),
    (1, "convert net.pth models.py:keras_model",
     "on the command line hints is --hints, accept_unproven is --accept-unproven"),
    (1, ("convert models.py:torch_model models.py:keras_model --kwargs {} --kwargs "
         "{\"width\":5} --by-order"), "do_convert is the command inspect"),
    (2, "convret", "there is no command 'convret'; did you mean 'convert'"),
    (2, "convert net.pth", "Missing argument 'TARGET'"),
    (2, "convert net.pth models.py:keras_model --tail-align-dict {bad", "'{bad' is not valid JSON"),
    (2, "convert net.pth models.py:keras_model --tail-align-dict 3",
     "expected an object {...} or a list [...], got 3"),
    (2, "convert net.pth models.py:keras_model --hints {} --by-order",
     "--by-order and --hints are two different ways"),
    (2, "convert net.pth models.py:torch_model --by-order", "the second model is a torch module"),
    (2, "verify models.py:torch_model net.pth",
     "the second model is net.pth, a checkpoint: give the PyTorch side first"),
    (2, "convert net.pth models.py:keras_model --kwargs {} --kwargs {}",
     "--kwargs was given 2 times"),
    (2, "convert --config wrong.toml",
     "has no option 'tail_align'; did you mean 'tail_align_dict'"),
    (2, "apply net.pth", "Missing argument 'CHECKPOINT'"),
    (2, "apply wrong.plan.json net.pth", "Missing argument 'OUTPUT'"),
    (2, "apply net.pth --many wrong.toml", "PLAN does not go with --many"),
    (2, "apply net.pth net.pth x.h5 --workers 3", "--workers goes with --many only"),
    (3, "apply --many wrong.toml", "wrong.toml"),
    (3, "inspect nett.pth", "there is no file 'nett.pth'; did you mean 'net.pth'"),
    (3, "inspect away.safetensors", "there is no file 'away.safetensors'\n"),
    (3, "inspect models.py:keras_modle",
     "models.py has no 'keras_modle'; did you mean 'keras_model'"),
    (3, "inspect nowhere.models:net", "nowhere.models cannot be imported: ModuleNotFoundError"),
    (3, "inspect models.py:broken --kwargs {\"depth\":3}",
     "models.py:broken(depth=3) raised RuntimeError: no weights here"),
    (3, "inspect empty.pth", "empty.pth"), (3, "inspect convert.h5", "cannot be loaded as a model"),
    (3, "inspect wrong.plan.json", "it is no plan"),
    (3, "convert --config net.pth", "net.pth is not valid TOML"),
    (4, "convert net.pth models.py:keras_model --by-order -o nowhere/net.h5",
     "cannot save to nowhere/net.h5: there is no folder"),
    (4, ("convert models.py:torch_model models.py:keras_model -o convert.keras --save-plan "
         "nowhere/net.plan.json"), "nowhere/net.plan.json: there is no folder"),
    (4, "align models.py:torch_model models.py:keras_model -o nowhere/net.plan.json",
     "nowhere/net.plan.json: there is no folder")
])
def test_exit_codes_tell_mismatch_usage_error_input_error_and_failed_writing_apart(
        code: int, arguments: str, message: str, folder: Path,
        capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("empty.pth", "convert.h5", "wrong.plan.json"):
        (folder / name).write_text("")
    (folder / "wrong.toml").write_text("tail_align = { a = -1 }\n")

    found, out, err = answer(capsys, *arguments.split())

    assert (found, out) == (code, "")
    assert message in err
    assert "Traceback" not in err
    assert not (folder / "convert.keras").exists()


@pytest.mark.parametrize(("code", "kind", "arguments"), [
    (2, "NoSuchOption", "convert net.pth models.py:keras_model --nothing"),
    (2, "UsageError", "nothing"), (2, "MissingParameter", "inspect"),
    (2, "BadParameter", "convert --config wrong.toml"),
    (3, "InputError", "inspect nett.pth"),
    (3, "SourceError", "inspect empty.pth"), (3, "PlanError", "inspect wrong.plan.json"),
    (3, "ManifestError", "apply --many wrong.toml"),
    (1, "AlignmentError", "convert net.pth models.py:keras_model --by-order --skip-layers 0"),
    (4, "SaveError", "convert net.pth models.py:keras_model --by-order -o nowhere/net.h5"),
    (1, "NotEqualError", "convert models.py:torch_model models.py:keras_model "
     '--kwargs {} --kwargs {"epsilon":1.0}')
])  # yapf: disable
def test_json_is_one_object_also_on_failure(code: int, kind: str, arguments: str, folder: Path,
                                            capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("empty.pth", "wrong.plan.json"):
        (folder / name).write_text("")
    (folder / "wrong.toml").write_text("tail_align = { a = -1 }\n")

    found, out, err = answer(capsys, *arguments.split(), "--json")

    failure = json.loads(out)
    assert (found, failure["ok"], failure["error"]["kind"]) == (code, False, kind)
    assert set(failure["error"]) == {"kind", "message", "problems"}
    assert failure["error"]["message"].splitlines()[0] in err
    assert isinstance(failure["error"]["problems"], list)
    if kind == "NotEqualError":
        assert failure["comparison"]["verdict"] == "different"


@pytest.mark.parametrize(("setting", "message"), [
    ("tolerance = [1]", "tolerance: expected a whole number or a number, got [1]"),
    ('tolerance = "much"', "tolerance: expected a whole number or a number, got 'much'"),
    ("tolerance = -1.0", "-1.0 is not in the range x>=0"),
    ("tolerance = nan", "nan is no finite number"),
    ("tolerance = inf", "inf is no finite number"),
    ("input_shape = [0, 3]", "0 is not in the range x>=1"),
    ("input_shape = 5", "input_shape: expected a list of 2 values, got 5"),
    ('input_shape = ["a", 3]', "input_shape: expected a whole number, got 'a'"),
    ("input_shape = [true, 3]", "input_shape: expected a whole number, got True"),
    ("keep_different = 1", "keep_different: expected true or false, got 1"),
    ("verify = []", "verify: expected true or false, got []"),
    ("output = { a = 1 }", "output: expected a string, got {'a': 1}"),
    ("output = 2020-01-01", "output: expected a string, got datetime.date"),
    ('output = "a\\u0000"', "output: expected a text without null characters"),
    ("skip_layers = [1, 2]", "skip_layers: expected a string, got 1"),
    ("accept = 7", "accept: expected a string, got 7"), ("accept = \"all\"", "'all' is not one of"),
    ("tail_align_dict = 3", "tail_align_dict: expected an object {...} or a list [...]"),
    ("source = [1]", "source: expected a string, got [1]"),
    ("a = " + "[" * 20000 + "]" * 20000, "is not valid TOML"),
    ("tolerance = " + "9" * 5000, "is not valid TOML")
])  # yapf: disable
def test_values_of_a_wrong_type_are_refused_with_their_key(
        setting: str, message: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "wrong.toml").write_text(setting + "\n")
    code, out, err = answer(capsys, "convert", "net.pth", "models.py:keras_model", "--config",
                            "wrong.toml", "--json")
    failure = json.loads(out)["error"]
    assert code == (3 if "TOML" in message else 2)
    assert message in failure["message"]
    assert "wrong.toml" in failure["message"] or any(
        text in message for text in ("range", "one of", "finite"))
    assert len(err) < 1000


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
@pytest.mark.parametrize("arguments", [
    "apply {} net.pth x.h5", "apply net.pth {} x.h5", "apply --many {}", "release {}",
    "convert net.pth models.py:keras_model --config {}", "inspect {}", "inspect {}.h5",
    "inspect {}.json", "convert net.pth models.py:keras_model --sample {}",
    "convert net.pth models.py:keras_model --plan {}"
])  # yapf: disable
def test_what_could_be_read_for_ever_is_refused(arguments: str, folder: Path,
                                                capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("pipe", "pipe.h5", "pipe.json"):
        os.mkfifo(folder / name)
    code, _, err = answer(capsys, *arguments.format("pipe").split())
    assert code in (2, 3)
    assert "is not a regular file" in err


def test_traceback_is_shown_when_asked_for(folder: Path,
                                           capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = answer(capsys, "inspect", "models.py:broken", "--traceback")

    assert code == 3
    assert "in broken" in err


def test_interrupt_leaves_the_old_file_and_nothing_beside_it(folder: Path) -> None:
    (folder / "net.h5").write_text("the old one")
    before = sorted(path.name for path in folder.iterdir() if path.name != "__pycache__")

    ended = fresh(*("convert", "net.pth", "models.py:keras_model", "-o", "net.h5"),
                  *("--additional-transfer", '{"head": "models.py:interrupted"}'), cwd=folder)

    assert ended.returncode == 130, ended.stderr
    assert ended.stderr.splitlines()[-1] == "interrupted; nothing is left half done"
    assert "Traceback" not in ended.stderr
    assert (folder / "net.h5").read_text() == "the old one"
    assert sorted(path.name for path in folder.iterdir() if path.name != "__pycache__") == before


def test_reader_that_has_closed_the_pipe_is_no_mismatch() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "keras_torch_convert", "rules", "--json"]
    ended = subprocess.run(command, check=False, stdout=writing, stderr=subprocess.PIPE, text=True,
                           env=environment)
    os.close(writing)

    assert (ended.returncode, ended.stderr) == (141, "")


def test_rules_can_be_searched(capsys: pytest.CaptureFixture[str]) -> None:
    rows = as_json(capsys, "rules", "conv2dtranspose")["rules"]

    assert [row["name"] for row in rows
           ] == ["transposed convolution 2D", "grouped transposed convolution"]
    assert rows[0]["layouts"] == ["kernel: in out height width -> height width out in"]
    code, out, _ = answer(capsys, "rules")
    assert code == 0
    assert any(line.startswith("dense ") for line in out.splitlines())
    assert answer(capsys, "rules", "conv9d")[0] == 3


def test_align_keeps_a_plan(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = as_json(capsys, "align", "models.py:torch_model", "models.py:keras_model", "-o",
                    "net.plan.json")

    assert found["pairs"] == [["0", "stem_conv"], ["1", "stem_bn"], ["5", "head"]]
    assert "told by input and output" in found["evidence"]["stem_bn"]
    assert not list(folder.glob("*.h5"))
    converted = as_json(capsys, "convert", "models.py:torch_model", "models.py:keras_model",
                        "--plan", found["plan"])
    assert converted["equal"]


def test_align_says_it_as_dictionaries(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = ("keras_torch_convert.cli.demo_command:two_branches_torch",
             "keras_torch_convert.cli.demo_command:two_branches_keras")

    code, out, err = answer(capsys, "align", *names, "--dictionaries")

    assert code == 0, err
    assert "keras_reload_from_torch_model(" in out
    said = as_json(capsys, "align", *names, "--dictionaries")["dictionaries"]
    moves = said.get("tail_align_dict") or said.get("full_name_align_dict")
    options = [
        f"--{name.replace('_', '-')}={json.dumps(value)}"
        for name, value in said.items() if name != "comment"
    ]
    assert moves
    assert answer(capsys, "inspect", *names, *options)[0] == 0


def test_apply_writes_what_the_conversion_saved(folder: Path,
                                                capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ("models:torch_model", "models:keras_model", "--save-plan", "net.plan.json")
    assert main(["convert", *arguments, "-o", "live.weights.h5"]) == 0

    applied = as_json(capsys, "apply", "net.plan.json", "net.pth", "file.weights.h5")

    assert applied["complete"]
    with h5py.File("live.weights.h5") as live, h5py.File("file.weights.h5") as file:
        for name in ("layers/conv2d/vars/0", "layers/batch_normalization/vars/3",
                     "layers/dense/vars/1"):
            np.testing.assert_array_equal(live[name][()], file[name][()])


def test_apply_goes_back_to_a_checkpoint_and_takes_a_template(
        folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main([
        "convert", "models:torch_model", "models:keras_model", "--save-plan", "net.plan.json", "-o",
        "net.h5"
    ])

    assert as_json(capsys, "apply", "net.plan.json", "net.h5", "back.safetensors")["complete"]
    again = as_json(capsys, "apply", "net.plan.json", "net.pth", "again.h5", "--template", "net.h5",
                    "--without", "head")

    assert [entry["name"] for entry in again["ledger"] if entry["status"] == "kept"
           ] == ["head/kernel", "head/bias"]
    state = torch.load("net.pth")
    from safetensors.torch import load_file

    back = load_file("back.safetensors")
    assert all(torch.equal(back[name], state[name]) for name in back)


@pytest.mark.slow
def test_apply_many_tells_what_became_of_each_file(folder: Path,
                                                   capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("distributed", reason="Dask is not installed")
    main(["convert", "models:torch_model", "models:keras_model", "--save-plan", "net.plan.json"])
    files = [("net.pth", "one.h5"), ("missing.pth", "two.h5"), ("net.pth", "three.weights.h5")]
    tables = [f'[[file]]\nsource = "{source}"\noutput = "{output}"\n' for source, output in files]
    (folder / "manifest.toml").write_text('plan = "net.plan.json"\n' + "".join(tables))

    first = fresh("apply", "--many", "manifest.toml", "--workers", "1", cwd=folder)

    assert first.returncode == 4, first.stderr
    assert first.stdout.splitlines()[-1] == "2 written, 0 skipped, 1 failed"
    assert (folder / "one.h5").exists()
    assert not (folder / "two.h5").exists()


def test_apply_shows_how_a_checkpoint_differs(folder: Path,
                                              capsys: pytest.CaptureFixture[str]) -> None:
    main([
        "convert", "net.pth", "models.py:keras_model", "--by-order", "--save-plan", "net.plan.json"
    ])
    state = torch.load("net.pth")
    state["5.weight"] = state["5.weight"][:3]
    torch.save(state, "other.pth")

    code, out, _ = answer(capsys, "apply", "net.plan.json", "other.pth", "--diff")

    assert code == 1
    assert "other shape: '5.weight' is (3, 4), expected (5, 4)" in out
    assert answer(capsys, "apply", "net.plan.json", "other.pth", "x.h5")[0] == 1
    assert not (folder / "x.h5").exists()


def test_tables_on_a_terminal_keep_to_its_width_and_have_colors(
        folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "70")
    monkeypatch.setenv("TERM", "xterm-256color")

    _, out, _ = answer(capsys, "inspect", "net.pth", "models.py:keras_model",
                       "--full-name-align-dict", '{"stem_bn": -1}')

    assert "\x1b[31m" in out
    assert max(len(line.rstrip()) for line in re.sub(r"\x1b\[[0-9;]*m", "", out).splitlines()) <= 70


def test_verify_tells_equal_from_different_by_its_exit_code(
        folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert (main([
        "convert", "models:torch_model", "models:keras_model", "-o", "net.keras", "--save-plan",
        "n.json"
    ]) == 0)

    equal = as_json(capsys, "verify", "models:torch_model", "net.keras", "--plan", "n.json",
                    "--inputs", "2")
    assert equal["equal"]
    assert equal["randomized"]["equal"]

    code, out, _ = answer(capsys, "verify", "models:torch_model", "models:keras_model")
    assert code == 1
    assert out.splitlines()[-1].startswith("OUTPUTS DIFFER")
    assert answer(capsys, "verify", "net.pth", "net.keras")[0] == 3


def test_a_wrong_epsilon_is_named_by_verify_and_by_convert(
        folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main([
        "convert", "models:torch_model", "models:keras_model", "-o", "net.keras", "--save-plan",
        "net.plan.json"
    ])
    kwargs = ("--kwargs", "{}", "--kwargs", '{"epsilon": 0.1}')

    arguments = ("models:torch_model", "models:keras_model", *kwargs, "--plan", "net.plan.json")
    code, out, err = answer(capsys, "convert", *arguments, "-o", "other.h5", "--html", "other.html")

    assert code == 1
    assert "cause: epsilon is 0.1 in Keras and 1e-05 in torch" in out
    assert "to do: build the Keras layer with epsilon=1e-05" in (folder / "other.html").read_text()
    assert "model and files are as they were" in err
    assert not (folder / "other.h5").exists()
    code, out, _ = answer(capsys, "convert", *arguments, "--json")
    assert code == 1
    assert json.loads(out)["comparison"]["first_divergence"]["kind"] == "epsilon"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_of_a_shell(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = answer(capsys, "completion", shell)

    assert code == 0
    assert "_KERAS_TORCH_CONVERT_COMPLETE" in out


def test_completion_knows_commands_and_options() -> None:
    def completed(words: str, place: int) -> list[str]:
        environment = {
            "COMP_WORDS": words, "COMP_CWORD": str(place),
            "_KERAS_TORCH_CONVERT_COMPLETE": "bash_complete"
        }
        command = [sys.executable, "-m", "keras_torch_convert"]
        environment = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
        ended = subprocess.run(command, check=False, capture_output=True, text=True,
                               env=environment)
        return [line.partition(",")[2] for line in ended.stdout.splitlines()]

    assert completed("keras-torch-convert in", 1) == ["inspect"]
    assert completed("keras-torch-convert convert --tail-a", 2) == ["--tail-align-dict"]


@pytest.mark.slow
def test_demo_shows_both_lists_and_proves_the_conversion() -> None:
    ended = fresh("demo")

    assert ended.returncode == 0, ended.stderr
    assert "first misalignment: 'left.1' does not fit into 'right_conv1'" in ended.stdout
    assert ended.stdout.splitlines()[-1].startswith("outputs are equal")


def test_a_head_for_other_classes_is_left_out_and_the_rest_is_compared(
        folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    models = ("models.py:torch_model", "models.py:keras_model")

    as_json(capsys, "align", *models, "--without", "head", "-o", "net.plan.json")
    converted = as_json(capsys, "convert", *models, "--skip-layers", "5", "--keep-layers", "head")

    assert len(as_json(capsys, "inspect", "net.plan.json")["kept"]) == 2
    assert converted["verdict"] == "equal"
    kept = [entry["name"] for entry in converted["ledger"] if entry["status"] == "kept"]
    assert kept == ["head/kernel", "head/bias"]
    assert as_json(capsys, "apply", "net.plan.json", "net.pth", "x.h5", "--template",
                   saved_model(folder))["complete"]


def saved_model(folder: Path) -> str:
    """The path of a Keras file of the model."""
    main(["convert", "models:torch_model", "models:keras_model", "-o", "template.h5"])
    return str(folder / "template.h5")


def test_without_arguments_the_help_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = answer(capsys)

    assert (code, err) == (0, "")
    assert "Examples:" in out
    assert out == answer(capsys, "--help")[1]
