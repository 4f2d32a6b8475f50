"""The public names: exported, annotated, documented in one form, listed in docs/api.md, and every
example in their docstrings runs.

The form is Google's: a summary of one line in the imperative, then `Args:`, `Returns:`, `Raises:`
and, for functions, `Example:`. An example is a doctest; it may use the names of `namespace` below.
"""

from __future__ import annotations

import ast
import doctest
import inspect
import re
import textwrap
from collections.abc import Callable
from pathlib import Path
from types import FunctionType, MethodType
from typing import Any

import pytest

import keras_torch_convert as ktc
from keras_torch_convert import errors

API_PAGE = Path(__file__).resolve().parent.parent / "docs" / "api.md"
PUBLIC: dict[str, Any] = {name: getattr(ktc, name) for name in ktc.__all__}
CLASSES = {
    name: one
    for name, one in PUBLIC.items() if isinstance(one, type) and not issubclass(one, Exception)
}
FUNCTIONS = {name: one for name, one in PUBLIC.items() if inspect.isfunction(one)}


def members(one: type) -> list[str]:
    """Return the public names that a class of this package defines."""
    own = [base for base in one.__mro__ if base.__module__.startswith(ktc.__name__)]
    return sorted({name for base in own for name in vars(base) if not name.startswith("_")})


METHODS = {
    f"{name}.{member}": getattr(one, member) for name, one in CLASSES.items()
    for member in members(one) if isinstance(getattr(one, member), FunctionType | MethodType)
}
# What other rooms call on these objects, and users need not know.
FOR_OTHER_ROOMS = {
    "Comparison.difference_text", "FirstDivergence.difference_text", "PlanCache.find",
    "PlanCache.keep", "Report.add", "Report.add_comparison", "Report.difference_text",
    "Report.facts", "Report.kept_text", "Report.headline", "Report.lines", "Results.lines"
}
# A summary tells what to do: "Carry the weights", not "The weights" or "Carries".
NOT_IMPERATIVE = re.compile(
    r"(?:A|An|The|All|Any|Both|Each|Every|How|Many|One|Same|This|True|What|When|Where|Which|Whether"
    r"|[A-Z]\w*[^s]s)\b")


def sections(documented: Any) -> dict[str, str]:
    """Return a docstring by section; what stands before the first one is under ""."""
    found, current = {"": ""}, ""
    for line in (inspect.getdoc(documented) or "").splitlines():
        heading = re.fullmatch(r"(Args|Returns|Yields|Raises|Example|Examples|Attributes):", line)
        current = heading[1] if heading else current
        found[current] = found.get(current, "") + ("" if heading else line + "\n")
    return found


def raises(function: Callable[..., Any]) -> bool:
    """Return whether the function itself has a `raise`."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    return any(isinstance(node, ast.Raise) for node in ast.walk(tree))


def faults(function: Callable[..., Any]) -> list[str]:
    """Return what a function's docstring lacks."""
    found = sections(function)
    summary, _, rest = found[""].partition("\n")
    said = []
    if not summary.endswith(".") or (rest.strip() and rest[0] != "\n"):
        said.append(f"the summary is no sentence on one line: {summary!r}")
    if NOT_IMPERATIVE.match(summary):
        said.append(f"the summary is not imperative: {summary!r}")
    listed = re.findall(r"^    (\*{0,2}\w+(?:, \w+)*):", found.get("Args", ""), re.MULTILINE)
    documented = re.findall(r"\w+", " ".join(listed))
    given = [
        one.name for one in inspect.signature(function).parameters.values()
        if one.name not in ("self", "cls")
    ]
    if documented != given:
        said.append(f"Args are {documented}, the parameters {given}")
    nothing = inspect.signature(function).return_annotation in ("None", None)
    # Without parameters the summary says it all.
    if given and not nothing and "Returns" not in found:
        said.append("Returns is missing")
    if raises(function) and "Raises" not in found:
        said.append("Raises is missing")
    return said


def test_all_is_sorted_and_holds_what_the_module_imports() -> None:
    bound = {
        name
        for name, one in vars(ktc).items() if not name.startswith("_") and not inspect.ismodule(one)
    }
    assert ktc.__all__ == sorted(ktc.__all__)
    assert set(ktc.__all__) == bound


def test_what_users_receive_and_catch_is_exported() -> None:
    refusals = {
        name for name, one in vars(errors).items()
        if isinstance(one, type) and issubclass(one, errors.ConversionError)
    }
    assert refusals <= set(PUBLIC)
    assert {"Comparison", "FirstDivergence", "LedgerEntry", "Plan", "Report", "Results",
            "Source"} <= set(PUBLIC)


@pytest.mark.parametrize("name", [*FUNCTIONS, *METHODS])
def test_every_parameter_and_result_has_a_type(name: str) -> None:
    signature = inspect.signature({**FUNCTIONS, **METHODS}[name])
    assert signature.return_annotation is not inspect.Signature.empty
    assert [
        one.name for one in signature.parameters.values()
        if one.annotation is one.empty and one.name not in ("self", "cls")
    ] == []


@pytest.mark.parametrize("name", [*FUNCTIONS, *METHODS])
def test_the_docstring_has_the_form(name: str) -> None:
    said = faults({**FUNCTIONS, **METHODS}[name])
    assert said == []


@pytest.mark.parametrize("name", CLASSES)
def test_classes_have_a_summary_of_one_line(name: str) -> None:
    summary, _, rest = sections(CLASSES[name])[""].partition("\n")
    well = summary.endswith(".") and (not rest.strip() or rest[0] == "\n")
    assert well, summary


def test_the_page_lists_every_name_and_every_method_once() -> None:
    page = API_PAGE.read_text()
    functions = re.findall(r"^\.\. autofunction:: (\w+)$", page, re.MULTILINE)
    assert sorted(functions) == sorted(FUNCTIONS)
    classes = dict(
        re.findall(r"^\.\. autoclass:: (\w+)(?:\n +:members:((?: \w+,?)*))?", page, re.MULTILINE))
    assert set(classes) == set(CLASSES)
    for name, option in classes.items():
        listed = re.findall(r"\w+", option)
        wanted = {
            member for member in members(CLASSES[name])
            if f"{name}.{member}" in METHODS.keys() - FOR_OTHER_ROOMS
        }
        assert wanted - set(listed) == set()
        assert [member for member in listed if not hasattr(CLASSES[name], member)] == []


@pytest.fixture
def namespace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Return the names that an example may use; it runs in a folder with model.pth, a checkpoint of
    `torch_model`, and model.plan.json, the Plan of its conversion.
    """
    import keras
    import torch

    monkeypatch.chdir(tmp_path)
    torch_model = torch.nn.Sequential()
    torch_model.conv = torch.nn.Conv2d(3, 8, 3, stride=2)
    torch_model.norm = torch.nn.BatchNorm2d(8)
    torch_model.relu = torch.nn.ReLU()
    torch_model.pool = torch.nn.AdaptiveAvgPool2d(1)
    torch_model.flatten = torch.nn.Flatten()
    torch_model.head = torch.nn.Linear(8, 10)
    keras_model = keras.Sequential([
        keras.Input((32, 32, 3)),
        keras.layers.Conv2D(8, 3, strides=2, name="conv"),
        keras.layers.BatchNormalization(epsilon=1e-5, name="norm"),
        keras.layers.ReLU(name="relu"),
        keras.layers.GlobalAveragePooling2D(name="pool"),
        keras.layers.Dense(10, name="head")
    ], name="model")
    torch.save(torch_model.state_dict(), "model.pth")
    plan = ktc.align(torch_model, keras_model)
    plan.save("model.plan.json")
    report = ktc.convert(torch_model, keras_model, plan=plan)
    return {
        "ktc": ktc, "torch": torch, "keras": keras, "plan": plan, "report": report,
        "torch_model": torch_model, "keras_model": keras_model
    }


WITH_EXAMPLES = {
    name: one for name, one in {**FUNCTIONS, **CLASSES, **METHODS}.items()
    if ">>>" in (inspect.getdoc(one) or "")
}


def test_every_function_has_an_example() -> None:
    assert set(FUNCTIONS) <= set(WITH_EXAMPLES)


@pytest.mark.parametrize("name", WITH_EXAMPLES)
def test_the_example_runs(name: str, namespace: dict[str, Any]) -> None:
    text = inspect.getdoc(WITH_EXAMPLES[name]) or ""
    example = doctest.DocTestParser().get_doctest(text, namespace, name, None, None)
    shown: list[str] = []
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    assert runner.run(example, out=shown.append).failed == 0, "".join(shown)


def test_a_docstring_out_of_form_would_be_found() -> None:
    def bad(first: int, second: int = 0) -> int:
        """The sum of
        both.

        Args:
            first (int): one summand.
        """
        if first < 0:
            raise ValueError(second)
        return first + second

    assert len(faults(bad)) == 5
