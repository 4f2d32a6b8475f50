"""Redrawn inputs: both sides stay the same, and the structure of the caller's stays."""

from __future__ import annotations

from collections import UserDict, namedtuple
from typing import Any

import numpy as np
import pytest
import torch

from keras_torch_convert.running.redraw import redrawn

RANDOM = np.random.default_rng(0)


def both(array: Any, **others: Any) -> list[dict[str, Any]]:
    """Return three other draws of inputs that both sides take alike."""
    given = {"x": array, **others}
    pairs = redrawn(given, dict(given), 3)
    assert pairs is not None
    for ours, theirs in pairs:
        assert all(np.array_equal(ours[name], theirs[name]) for name in given)
    return [theirs for _, theirs in pairs]


def test_pictures_and_ids_are_mirrored_and_masks_stay() -> None:
    first = both(np.array([[0.0, 1.0, 4.0]], "float32"), ids=np.array([[7, 2, 9]]),
                 mask=np.array([[1, 1, 0]]))[0]
    assert first["x"].tolist() == [[4.0, 3.0, 0.0]]
    assert first["ids"].tolist() == [[7, 9, 2]]
    assert first["mask"].tolist() == [[1, 1, 0]]


@pytest.mark.parametrize("scale", [1 / 127.5, np.array([0.01, 0.02, 0.015])])
def test_pixels_that_one_side_rescales_stay_one_picture(scale: Any) -> None:
    pixels = RANDOM.integers(0, 256, (1, 8, 6, 3)).astype("uint8")
    floats = ((pixels * scale - 1).transpose(0, 3, 1, 2)).astype("float32")
    pairs = redrawn([torch.tensor(floats)], pixels, 3)
    assert pairs is not None
    for (ours,), theirs in pairs:
        assert theirs.dtype == np.uint8
        assert not np.array_equal(theirs, pixels)
        assert np.allclose(ours.permute(0, 2, 3, 1).numpy(), theirs * scale - 1, atol=1e-5)


def test_steps_before_the_batch_and_half_precision_stay_the_same_sequence() -> None:
    sequence = RANDOM.normal(size=(2, 7, 3)).astype("float32")
    given = torch.tensor(sequence).transpose(0, 1).to(torch.bfloat16)
    pairs = redrawn((given,), [sequence], 2)
    assert pairs is not None
    for (ours,), (theirs,) in pairs:
        assert ours.dtype == torch.bfloat16
        assert np.allclose(ours.float().transpose(0, 1).numpy(), theirs, atol=0.05)
        assert np.abs(theirs - sequence).max() > 0.5


def test_padding_stays_where_it_is_and_is_drawn_nowhere_else() -> None:
    ids = RANDOM.integers(2, 90, (3, 12))
    ids[0, 6:], ids[1, 11:], ids[:, 0] = 0, 0, 90
    for drawn in both(ids):
        assert np.array_equal(drawn["x"] == 0, ids == 0)
        assert (drawn["x"][:, 0] == 90).all()
        assert not np.array_equal(drawn["x"], ids)
    left = ids[:1, ::-1].copy()
    assert all(np.array_equal(drawn["x"] == 0, left == 0) for drawn in both(left))
    floats = RANDOM.normal(size=(2, 9, 4)).astype("float32")
    floats[0, 5:] = -1
    for drawn in both(floats):
        assert np.array_equal((drawn["x"] == -1).all(2), (floats == -1).all(2))
        assert not np.array_equal(drawn["x"], floats)


def test_begin_and_end_of_a_sentence_stay() -> None:
    for drawn in both(np.array([[2, 11, 17, 5, 9, 3, 0, 0], [2, 8, 3, 0, 0, 0, 0, 0]])):
        assert drawn["x"][:, 0].tolist() == [2, 2]
        assert (drawn["x"] == 3).sum(1).tolist() == [1, 1]


@pytest.mark.parametrize("dtype", ["float32", "int64"])
def test_boxes_stay_boxes(dtype: str) -> None:
    corners = RANDOM.integers(0, 500, (2, 5, 4))
    corners[..., 2:] += corners[..., :2]
    for drawn in both(corners.astype(dtype)):
        assert (drawn["x"][..., 2:] >= drawn["x"][..., :2]).all()
        assert not np.array_equal(drawn["x"], corners)


def test_segments_stay_sorted_and_their_borders_move() -> None:
    segments = np.array([[0, 0, 0, 0, 1, 1, 2, 2, 2, 3]])
    draws = both(segments, ids=RANDOM.integers(0, 50, (1, 10)))
    assert all((np.diff(drawn["x"]) >= 0).all() for drawn in draws)
    assert any(not np.array_equal(drawn["x"], segments) for drawn in draws)


def test_rising_ids_that_are_all_there_is_are_mixed() -> None:
    ids = np.arange(12)[None]
    assert all(not np.array_equal(drawn["x"], ids) for drawn in both(ids))


def test_a_row_of_ids_does_not_keep_all_of_its_ids() -> None:
    before = np.array([[9, 3, 11, 5, 4, 8, 12]])
    draws = [one["x"] for one in both(before)]
    assert sorted(draws[0][0]) == sorted(before[0])
    assert all(len(np.unique(one)) < before.size for one in draws[1:])
    assert all(np.isin(one, before).all() and one[0, -1] == 12 for one in draws)


def test_lengths_of_rows_stay() -> None:
    draws = both(np.array([9, 5, 2]), ids=RANDOM.integers(1, 90, (3, 9)))
    assert all(drawn["x"].tolist() == [9, 5, 2] for drawn in draws)


def test_each_column_of_categories_keeps_to_its_own_values() -> None:
    table = np.stack([RANDOM.integers(0, 3, 6), RANDOM.integers(0, 900, 6)], axis=1)
    for drawn in both(table):
        for column in (0, 1):
            assert sorted(drawn["x"][:, column]) == sorted(table[:, column])


def test_what_only_one_side_has_stays() -> None:
    ids, extra = RANDOM.integers(0, 50, (2, 8)), RANDOM.normal(size=(2, 3))
    pairs = redrawn({"ids": ids, "scores": extra}, [ids], 2)
    assert pairs is not None
    for ours, _ in pairs:
        assert np.array_equal(ours["scores"], extra)
        assert not np.array_equal(ours["ids"], ids)


def test_nothing_is_drawn_where_the_two_sides_hold_other_values() -> None:
    picture = RANDOM.normal(size=(1, 8, 8, 3))
    assert redrawn([picture[:, ::2, ::2]], picture, 2) is None
    assert redrawn([RANDOM.normal(size=(1, 8, 8, 3))], picture, 2) is None


def test_containers_and_what_is_no_array_stay() -> None:
    State = namedtuple("State", "h c")
    x = RANDOM.normal(size=(2, 5)).astype("float32")
    given = UserDict(x=x, state=State(x + 1, None), count=3, name="a")
    pairs = redrawn(given, (x,), 1)
    assert pairs is not None
    ours, theirs = pairs[0]
    assert (type(ours), type(ours["state"]), type(theirs)) == (UserDict, State, tuple)
    assert (ours["count"], ours["name"], ours["state"].c) == (3, "a", None)
    assert np.allclose(ours["state"].h, ours["x"] + 1)
    assert given["x"] is x
