"""The pytest plugin of keras_torch_convert: the fixture `assert_converted`, and --ktc-update.

    def test_weights(assert_converted):
        assert_converted(keras_model, torch_model, predicts="Egyptian_cat", md5="0123...")

pytest imports this file at each start, so it imports nothing of the package before it is used.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

RENEWED = pytest.StashKey[list[str]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option."""
    parser.getgroup("keras_torch_convert").addoption(
        "--ktc-update", action="store_true",
        help='write the digests that were found into the calls of assert_converted(md5="...")')


def pytest_configure(config: pytest.Config) -> None:
    """Make the list of what was renewed."""
    config.stash[RENEWED] = []


@pytest.fixture
def assert_converted(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """Return a function that fails unless a Keras model computes what its PyTorch original does.

    Its arguments are those of `keras_torch_convert.release.check.check_conversion`, and `md5`, the
    expected digest; it returns the Comparison. With --ktc-update a digest that differs is written
    into the test, when everything else is right.
    """
    from keras_torch_convert.release.check import check_conversion

    config = request.config

    def assert_converted(keras_model: Any, torch_model: Any, *, md5: str | None = None,
                         **options: Any) -> Any:
        __tracebackhide__ = True
        found = check_conversion(keras_model, torch_model, with_md5=md5 is not None, **options)
        failure = found.failure(md5)
        if failure and not found.problems and config.getoption("--ktc-update"):
            caller = sys._getframe(1)
            failure = _renew(config, Path(caller.f_code.co_filename), caller.f_lineno, found.md5)
        if failure:
            pytest.fail(failure, pytrace=False)
        return found.comparison

    return assert_converted


def _renew(config: pytest.Config, path: Path, line: int, md5: str) -> str:
    """Write a digest into the test that calls from a line; return why it cannot be done, or ""."""
    from keras_torch_convert.release.check import renewed
    from keras_torch_convert.util.atomic_file import write_atomically

    if os.environ.get("PYTEST_XDIST_WORKER"):
        return "--ktc-update changes files of tests: run it in one process, with -n 0"
    text = renewed(path.read_bytes().decode(), path, line, md5)
    if text is None:
        return f'{path}:{line} has no md5="..." to renew: the file\'s md5 is {md5}'
    write_atomically(path, text.encode())
    config.stash[RENEWED].append(f"{path}:{line} md5={md5}")
    return ""


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """List the digests that were renewed."""
    if config.stash[RENEWED]:
        terminalreporter.section("digests renewed by --ktc-update")
        for one in config.stash[RENEWED]:
            terminalreporter.line(one)
