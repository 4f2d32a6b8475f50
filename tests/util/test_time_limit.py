"""A limit of time says how far the work is, and ends it."""

import pytest

from keras_torch_convert.util import time_limit
from keras_torch_convert.util.time_limit import OutOfTime, TimeLimit


@pytest.fixture
def clock(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(time_limit, "monotonic", lambda: now[0])
    return now


def test_work_goes_on_until_the_time_is_up(clock):
    limit = TimeLimit(5)
    clock[0] = 104.9
    limit.check(1)
    clock[0] = 105
    with pytest.raises(OutOfTime):
        limit.check(2)
    assert limit.is_over


def test_without_a_limit_it_goes_on_for_ever(clock):
    limit = TimeLimit(None)
    clock[0] = 1e9
    limit.check(1)
    assert not limit.is_over


def test_what_is_done_is_told_once(clock):
    more = []
    limit = TimeLimit(None, more.append)
    for done in (1, 3, 2, 3, 4):
        limit.check(done)
    assert more == [1, 2, 1]


def test_a_negative_limit_is_refused():
    with pytest.raises(ValueError, match="time_limit must not be negative, got -1"):
        TimeLimit(-1)
