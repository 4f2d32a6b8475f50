"""What other packages register: the rule of a layer, and a reader of files. The example package is
in tests/data/plugin_package.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import keras_torch_convert as ktc
from keras_torch_convert.cli.main import main
from keras_torch_convert.rules import registry
from keras_torch_convert.util.plugins import plugins

EXAMPLE = Path(__file__).resolve().parents[1] / "data" / "plugin_package"


def forget() -> None:
    """Let the next use look for packages again."""
    for found in (plugins, registry.plugin_rules, registry._rules_by_class):
        found.cache_clear()  # type: ignore[attr-defined]


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of the example package, which is on the path."""
    folder = Path(shutil.copytree(EXAMPLE, tmp_path / "package"))
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.delitem(__import__("sys").modules, "ktc_example", raising=False)
    forget()
    yield folder
    forget()


def pair(groups: int = 4, width: int = 4) -> tuple[Any, Any]:
    """A torch module and a Keras model with the package's layer, every axis of one size."""
    import keras
    import torch
    from keras import layers, ops

    class GroupedPointwise(layers.Layer):  # type: ignore[misc]
        def build(self, shape: Any) -> None:
            self.kernel = self.add_weight(shape=(groups, width, width), name="kernel")

        def call(self, inputs: Any) -> Any:
            split = ops.reshape(inputs, (-1, groups, width))
            return ops.reshape(ops.einsum("bgs,gsm->bgm", split, self.kernel), (-1, groups * width))

    class Grouped(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.mix = torch.nn.Conv1d(groups * width, groups * width, 1, groups=groups, bias=False)
            self.head = torch.nn.Linear(groups * width, 3)

        def forward(self, data: Any) -> Any:
            return self.head(self.mix(data[..., None])[..., 0])

    inputs = keras.Input((groups * width,))
    mixed = GroupedPointwise(name="mix")(inputs)
    model = keras.Model(inputs, layers.Dense(3, name="head")(mixed))
    return Grouped(), model


def test_the_rule_of_a_package_converts_there_and_back(package: Path) -> None:
    (package / "ktc_example.py").write_text(
        (package / "ktc_example.py").read_text().replace('"(group made) summed 1"',
                                                         '"(group made) summed 1"'))
    module, model = pair()
    before = {name: value.numpy().copy() for name, value in module.state_dict().items()}

    report = ktc.convert(module, model)

    assert report.verdict == "equal"
    rules = {one.key: one.rule for one in report.plan.assignments}
    assert sum("grouped pointwise" in rule for rule in rules.values()) == 1
    assert ktc.verify(module, model, plan=report.plan).randomized.verdict == "equal"
    back = ktc.to_state_dict(model, report.plan)
    assert all(np.array_equal(back[name].numpy(), value) for name, value in before.items())


def test_without_the_package_nothing_is_called_certain() -> None:
    forget()
    module, model = pair()
    with pytest.raises(ktc.ConversionError):
        ktc.convert(module, model)


def test_a_wrong_layout_of_a_package_does_not_pass(package: Path) -> None:
    (package / "ktc_example.py").write_text(
        (package / "ktc_example.py").read_text().replace('"(group made) summed 1"',
                                                         '"(group summed) made 1"'))
    module, model = pair()
    with pytest.raises((ktc.NotEqualError, ktc.AlignmentError)):
        ktc.convert(module, model)


def test_the_files_of_a_package_are_read(package: Path, tmp_path: Path) -> None:
    file = tmp_path / "weights.example"
    file.write_text("EXAMPLE1\nhead.bias 1 2.5\nhead.scale 3\n")

    source = ktc.read(file)

    assert list(source) == ["head.bias", "head.scale"]
    np.testing.assert_array_equal(source["head.bias"].read(), np.array([1, 2.5], np.float32))
    assert source.origin == str(file)
    file.write_text("EXAMPLE1\nhead.bias one\n")
    with pytest.raises(ktc.SourceError,
                       match="the reader 'example' of ktc-example raised ValueErr"):
        ktc.read(file)
    file.write_text("EXAMPLE2\n")
    with pytest.raises(ktc.SourceError,
                       match="is no file that PyTorch, safetensors or NumPy wrote"):
        ktc.read(file)


def test_both_are_listed(package: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rules", "grouped pointwise", "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)["rules"]
    assert row["source"] == "ktc_example.GroupedPointwise (from ktc-example)"
    assert main(["rules"]) == 0
    out = capsys.readouterr().out
    assert "grouped pointwise" in out
    assert "reader of files: example (from ktc-example)" in out


@pytest.mark.parametrize(("old", "new", "message"), [
    ('("GroupedPointwise",)', '("Dense",)', "a rule for 'Dense', which keras_torch_convert has"),
    ('("GroupedPointwise",)', "()", "names no class"),
    ("RULE = Rule(", "RULE = 3, (", "expected a Rule"),
    ("SIGNATURE =", "import nowhere\nSIGNATURE =", "cannot be imported: ModuleNotFoundError"),
])  # yapf: disable
def test_what_cannot_be_used_names_the_package(old: str, new: str, message: str, package: Path,
                                               capsys: pytest.CaptureFixture[str]) -> None:
    text = (package / "ktc_example.py").read_text()
    assert old in text
    (package / "ktc_example.py").write_text(text.replace(old, new))

    assert main(["rules"]) == 3

    err = capsys.readouterr().err
    assert message in err
    assert "ktc-example registers" in err
