"""What a user's function does to arrays, read off what it does to numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from keras_torch_convert.plan.callback_tracing import trace_callbacks
from keras_torch_convert.plan.evaluation import Evaluation
from keras_torch_convert.plan.expressions import Concat, Expression, Fill, Permute, Reshape, Tensor
from tests.helpers.transfer import source_of

Function = Callable[[list[Any]], list[Any]]
KERNEL = np.random.default_rng(0).normal(size=(8, 6, 3, 3)).astype(np.float32)
MATRIX = np.random.default_rng(1).normal(size=(12, 8)).astype(np.float32)


def recorded(function: Function, *arrays: np.ndarray) -> tuple[Expression | None, ...]:
    """The recording of a function over tensors called "0", "1" and so on."""
    operands = [Tensor(str(index)) for index in range(len(arrays))]
    return trace_callbacks(function, operands, [(array.shape, array.dtype) for array in arrays])


def replayed(expressions: tuple[Expression | None, ...], *arrays: np.ndarray) -> list[np.ndarray]:
    evaluation = Evaluation(source_of({str(index): array for index, array in enumerate(arrays)}))
    assert None not in expressions
    return [
        evaluation.values(expression, "float32", "x")
        for expression in expressions if expression is not None
    ]


def test_a_transposed_kernel_is_recorded_as_one_permutation() -> None:
    assert recorded(lambda w: [np.transpose(w[0], (2, 3, 1, 0))],
                    KERNEL) == (Permute(Tensor("0"), (2, 3, 1, 0)),)


def test_what_stays_as_it_is_is_recorded_as_the_tensor() -> None:
    assert recorded(lambda w: w, KERNEL, MATRIX) == (Tensor("0"), Tensor("1"))


def test_an_axis_of_size_one_that_moves_is_a_permutation_too() -> None:
    depthwise = np.zeros((5, 1, 3, 3), np.float32)
    assert recorded(lambda w: [w[0].transpose(2, 3, 0, 1)],
                    depthwise) == (Permute(Tensor("0"), (2, 3, 0, 1)),)


def test_an_added_axis_is_a_reshape() -> None:
    assert recorded(lambda w: [w[0][None]], MATRIX) == (Reshape(Tensor("0"), (1, 12, 8)),)


def test_zeros_that_a_function_adds_are_a_constant() -> None:
    assert recorded(lambda w: [w[0], np.zeros(8, np.float32)],
                    MATRIX) == (Tensor("0"), Fill(0.0, (8,)))


def test_operands_in_another_order_and_joined() -> None:
    joined = recorded(lambda w: [np.concatenate([w[1], w[0]], axis=1)], MATRIX, 2 * MATRIX)
    assert joined == (Concat((Tensor("1"), Tensor("0")), 1),)


@pytest.mark.parametrize("function", [
    lambda w: [w[0].reshape(2, 4, 6, 9).transpose(3, 1, 2, 0).reshape(36, 12)],
    lambda w: [w[0][:, 2:5, 1:, :2]], lambda w: [w[0][::2], w[0][1::2]],
    lambda w: [w[0][:, :, ::-1, ::-1].transpose(2, 3, 1, 0)],
    lambda w: [np.concatenate([w[0][4:6], w[0][:4], w[0][6:]]).transpose(2, 3, 1, 0)],
    lambda w: list(np.split(w[0], 4, axis=0)), lambda w: [np.roll(w[0], 3, axis=1)],
    lambda w: [w[0][[3, 1, 2, 0, 7, 6, 5, 4]]],
    lambda w: [np.pad(w[0].reshape(8, -1), (
        (0, 0), (0, 0)))], lambda w: [np.stack([w[0][0], w[0][3]])], lambda w: [w[0][1, 2, 1, 1]]
])
def test_movements_of_every_regular_kind_replay_to_the_same_values(function: Function) -> None:
    expressions = recorded(function, KERNEL)
    for expected, got in zip(function([KERNEL]), replayed(expressions, KERNEL), strict=True):
        np.testing.assert_array_equal(got, expected, strict=True)


@pytest.mark.parametrize("function", [
    lambda w: [w[0] * 2], lambda w: [np.sort(w[0].ravel())],
    lambda w: [np.sort(w[0].ravel())[::-1]], lambda w: [np.abs(w[0])],
    lambda w: [np.maximum(w[0], 0)], lambda w: [w[0] - w[0].mean()], lambda w: [w[0] + w[0]],
    lambda w: [w[0].max(axis=0)], lambda w: [np.where(w[0] > 100, w[0], 0)]
])
def test_what_looks_at_values_is_not_recorded(function: Function) -> None:
    assert recorded(function, KERNEL) == (None,)


def test_more_elements_than_float32_can_count_are_numbered_in_float64() -> None:
    seen = []

    def function(weights: list[Any]) -> list[Any]:
        seen.append(weights[0].dtype)
        return [weights[0].T]

    assert recorded(function, np.empty((4097, 4096), np.float32)) == (Permute(Tensor("0"), (1, 0)),)
    assert set(seen) == {np.dtype(np.float64)}
