"""Fingerprints found among many in C, against a look at every one of them."""

from __future__ import annotations

import math

import numpy as np
import pytest

from keras_torch_convert import _core
from keras_torch_convert.running.fingerprint import FingerprintIndex, distance


def test_look_up_equals_a_look_at_every_key():
    random = np.random.default_rng(2)
    keys = [tuple(map(float, key)) for key in random.normal(0, 0.5, (300, 5)).round(1)]
    index = FingerprintIndex((key, number) for number, key in enumerate(keys))
    for wanted in [*keys[:20], *(tuple(map(float, key)) for key in random.normal(0, 0.7, (60, 5)))]:
        apart = [distance(wanted, key) for key in keys]

        for within in (1e-3, 0.3, 2.0):
            found = sorted((round(far, 12), number) for far, number in index.find(wanted, within))
            assert found == sorted(
                (round(far, 12), number) for number, far in enumerate(apart) if far < within)
        nearest = min(far if far < 1 else math.inf for far in apart)
        assert index.nearest(wanted) == pytest.approx(nearest)


def test_nothing_is_near_where_there_is_nothing_and_nan_is_near_nothing():
    empty = FingerprintIndex([])
    index = FingerprintIndex([((math.nan,) * 5, "lost"), ((0.0,) * 5, "found")])

    assert empty.find((0.0,) * 5, 9.0) == []
    assert empty.nearest((0.0,) * 5) == math.inf
    assert [item for _, item in index.find((0.0,) * 5, 9.0)] == ["found"]
    assert index.find((0.0, 0.0, math.nan, 0.0, 0.0), 9.0) == []
    assert index.nearest((math.nan,) * 5) == math.inf


def test_other_arrays_and_tuples_are_refused():
    keys = np.zeros((3, 5))
    with pytest.raises(TypeError, match="5 columns"):
        _core.nearest_fingerprint(keys[:, :4], (0.0,) * 5, 1.0)
    with pytest.raises(TypeError, match="5 columns"):
        _core.near_fingerprints(keys.astype(np.float32), (0.0,) * 5, 1.0)
    with pytest.raises(TypeError, match="tuple of 5 numbers"):
        _core.near_fingerprints(keys, (0.0,) * 4, 1.0)
