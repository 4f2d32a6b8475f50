"""The progress bar: on stderr while work goes on, silent when not wanted."""

import pytest

from keras_torch_convert.util import progress
from keras_torch_convert.util.progress import progress_bar


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    monkeypatch.setattr(progress, "SECONDS_BEFORE_SHOWN", 0)


def test_items_pass_unchanged_and_the_bar_goes_to_stderr(capfd):
    assert list(progress_bar(iter("abc"), title="transfer", total=3)) == ["a", "b", "c"]

    out, err = capfd.readouterr()
    assert out == ""
    assert "transfer" in err
    assert "/3" in err


def test_nothing_is_printed_when_not_shown(capfd):
    assert list(progress_bar(iter("abc"), title="transfer", total=3,
                             shown=False)) == ["a", "b", "c"]

    assert capfd.readouterr() == ("", "")


def test_short_work_shows_nothing(capfd, monkeypatch):
    monkeypatch.setattr(progress, "SECONDS_BEFORE_SHOWN", 60)

    assert list(progress_bar(range(3), title="transfer")) == [0, 1, 2]

    assert "transfer" not in capfd.readouterr().err


def test_exception_of_the_work_passes_through():
    def failing():
        yield 1
        raise KeyError("stop")

    with pytest.raises(KeyError, match="stop"):
        list(progress_bar(failing(), title="transfer", total=2))
