"""The pytest plugin in the repository of an example zoo: what passes, and what a failure says."""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

pytest_plugins = ("pytester",)
ROOT = Path(__file__).resolve().parents[2]
TEST = "tests/test_tiny.py"


@pytest.fixture(scope="module")
def checked(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any, Any]:
    """The report of a conversion, the check of the models after it, and both models.

    What is imported here stays: pytester forgets all that is imported in its own runs, and NumPy
    cannot be imported twice.
    """
    from keras_torch_convert import convert
    from keras_torch_convert.release.check import check_conversion

    sys.path.insert(0, str(ROOT / "examples" / "zoo_repo"))
    from zoo.tiny import tiny_keras, tiny_torch  # type: ignore[import-not-found]

    sys.path.pop(0)
    models = tiny_keras(), tiny_torch()
    file = tmp_path_factory.mktemp("zoo") / "tiny.h5"
    report = convert(models[1], models[0], save=file)
    return report, check_conversion(*models, with_md5=True, plan=report.plan), models


@pytest.fixture
def zoo(pytester: pytest.Pytester, checked: Any,
        monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """A copy of the example repository."""
    shutil.copytree(ROOT / "examples" / "zoo_repo", pytester.path, dirs_exist_ok=True)
    monkeypatch.syspath_prepend(str(ROOT))
    # Its own run is one process, whatever runs this test.
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)
    for name in ("zoo", "zoo.tiny", "test_tiny"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return pytester


def run(zoo: pytest.Pytester, *options: str) -> pytest.RunResult:
    """Run the repository's tests with the plugin."""
    return zoo.runpytest_inprocess("-p", "keras_torch_convert_pytest", *options)


def change(zoo: pytest.Pytester, name: str, old: str, new: str) -> None:
    """Replace a text that is in a file of the repository."""
    text = (zoo.path / name).read_text()
    assert old in text
    (zoo.path / name).write_text(text.replace(old, new))


def test_the_example_repository_passes(zoo: pytest.Pytester) -> None:
    run(zoo).assert_outcomes(passed=1)


def test_a_failure_shows_the_first_divergence(zoo: pytest.Pytester) -> None:
    change(zoo, "zoo/tiny.py", "epsilon=1e-5", "epsilon=0.5")

    result = run(zoo)

    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines([
        "*first divergence: Keras layer 'stem_bn'*", "*epsilon is 0.5 in Keras and 1e-05 in torch*"
    ])


def test_another_class_is_named(zoo: pytest.Pytester) -> None:
    change(zoo, TEST, "predicts=4", "predicts=3")

    result = run(zoo)

    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*the Keras model predicts 4, expected 3; the next classes are*"])


def test_update_renews_a_digest_and_nothing_else(zoo: pytest.Pytester) -> None:
    before = (zoo.path / TEST).read_text()
    change(zoo, TEST, "6395af", "000000")

    run(zoo).assert_outcomes(failed=1)
    renewed = run(zoo, "--ktc-update")

    renewed.assert_outcomes(passed=1)
    renewed.stdout.re_match_lines([rf".*{re.escape(TEST)}:\d+ md5=[0-9a-f]{{32}}"])
    assert (zoo.path / TEST).read_text() == before


@pytest.mark.parametrize(("old", "new", "message"), [
    ("epsilon=1e-5", "epsilon=0.5", "*first divergence*"),
    ("predicts", "predicts", "*has no md5=* to renew*"),
])  # yapf: disable
def test_update_changes_nothing_where_it_must_not(zoo: pytest.Pytester, old: str, new: str,
                                                  message: str) -> None:
    if old == new:
        change(zoo, TEST, 'md5="', 'md5="0" + "')
    else:
        change(zoo, "zoo/tiny.py", old, new)
        change(zoo, TEST, "6395af", "000000")
    before = (zoo.path / TEST).read_text()

    result = run(zoo, "--ktc-update")

    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines([message])
    assert (zoo.path / TEST).read_text() == before


def test_the_digest_is_that_of_the_file_that_a_conversion_writes(checked: Any) -> None:
    report, found, _ = checked
    assert found.md5 == report.md5
    assert found.problems == ()
    assert found.comparison.randomized.verdict == "equal"
    assert "the file's md5 is" in found.failure("another")


def test_models_in_the_wrong_order_are_refused(checked: Any) -> None:
    from keras_torch_convert.errors import ConversionError
    from keras_torch_convert.release.check import check_conversion

    keras_model, torch_model = checked[2]
    with pytest.raises(ConversionError, match="expected a Keras model and then a torch module"):
        check_conversion(torch_model, keras_model)


def test_the_plugin_imports_nothing_heavy() -> None:
    import ast

    tree = ast.parse((ROOT / "keras_torch_convert_pytest.py").read_text())
    named = [node for node in tree.body if isinstance(node, (ast.Import, ast.ImportFrom))]
    names = {getattr(node, "module", None) or node.names[0].name for node in named}
    assert names <= {*sys.stdlib_module_names, "collections.abc", "pytest"}
