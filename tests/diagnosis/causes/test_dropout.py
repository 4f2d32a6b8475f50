"""Dropout and what only looks like it."""

from __future__ import annotations

import numpy as np

from keras_torch_convert.diagnosis.causes.dropout import rate_of


def test_dropout_is_not_a_relu_behind_a_factor() -> None:
    values = np.random.default_rng(0).standard_normal(24).astype(np.float32)
    kept = np.random.default_rng(1).random(24) > 0.25
    rate = rate_of(values, np.where(kept, values / 0.75, 0).astype(np.float32))
    assert rate is not None
    assert abs(rate - 0.25) < 1e-6
    assert rate_of(values, np.maximum(1.3 * values, 0).astype(np.float32)) is None
    # Behind a relu dropout loses some of what is positive.
    positive = np.maximum(values, 0)
    assert rate_of(positive, np.where(kept, positive / 0.75, 0).astype(np.float32)) is not None
