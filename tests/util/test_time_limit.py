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


def test_a_share_ends_earlier_and_says_the_whole_time(clock):
    whole = TimeLimit(30)
    clock[0] = 110
    share = whole.share(2 / 3)
    assert share.seconds == 30
    assert not share.is_over
    clock[0] = 120.1
    assert share.is_over
    assert not whole.is_over
    assert not TimeLimit(None).share(0.5).is_over
