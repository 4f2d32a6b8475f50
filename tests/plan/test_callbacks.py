"""User functions are called with what the reference hands them, and nothing they do can harm the
caller.
"""

from __future__ import annotations

import sys
import threading
from typing import Any

import numpy as np
import pytest

from keras_torch_convert.errors import TransferError
from keras_torch_convert.plan.callbacks import apply_callbacks

Arrays = list[Any]


def weights() -> Arrays:
    """Fresh arrays as the executor makes them: a kernel and a bias."""
    return [np.arange(6, dtype=np.float32).reshape(2, 3), np.ones(3, np.float32)]


def test_a_function_gets_the_list_and_its_answer_is_returned() -> None:
    result = apply_callbacks("conv", weights(),
                             [("conv", lambda arrays: [arrays[0].T, arrays[1] * 2])])
    np.testing.assert_array_equal(result[0], weights()[0].T)
    np.testing.assert_array_equal(result[1], [2, 2, 2])


def test_functions_are_chained_in_order() -> None:
    zeroing = ("Dense", lambda arrays: [np.zeros_like(array) for array in arrays])
    adding = ("a", lambda arrays: [array + 1 for array in arrays])
    assert all((array == 1).all() for array in apply_callbacks("a", weights(), [zeroing, adding]))
    assert all((array == 0).all() for array in apply_callbacks("a", weights(), [adding, zeroing]))


def test_arrays_may_be_changed_in_place() -> None:
    def double_in_place(arrays: Arrays) -> Arrays:
        arrays[0] *= 2
        return arrays

    result = apply_callbacks("conv", weights(), [("conv", double_in_place)])
    np.testing.assert_array_equal(result[0], weights()[0] * 2)


def test_the_number_of_arrays_may_change() -> None:
    assert len(apply_callbacks("conv", weights(), [("conv", lambda arrays: arrays[:1])])) == 1
    assert len(apply_callbacks("conv", weights(),
                               [("conv", lambda arrays: [*arrays, np.ones(1)])])) == 3
    assert apply_callbacks("conv", weights(), [("conv", lambda arrays: [])]) == []


def test_whatever_numpy_takes_as_numbers_is_accepted() -> None:
    result = apply_callbacks("conv", [], [("conv", lambda arrays:
                                           ([1, 2], 3.5, True, np.float16(2)))])
    assert [array.dtype for array in result] == ["int64", "float64", "bool", "float16"]
    assert [array.shape for array in result] == [(2,), (), (), ()]


def test_torch_tensors_are_accepted() -> None:
    torch = pytest.importorskip("torch")
    result = apply_callbacks("conv", weights(),
                             [("conv", lambda arrays: [torch.from_numpy(arrays[0]).T])])
    np.testing.assert_array_equal(result[0], weights()[0].T)


def test_returned_arrays_belong_to_nobody_else() -> None:
    kept: Arrays = []

    def keep(arrays: Arrays) -> Arrays:
        kept.extend(arrays)
        return [arrays[0], arrays[0].T, np.broadcast_to(arrays[1], (2, 3))]

    result = apply_callbacks("conv", weights(), [("conv", keep)])
    expected = [array.copy() for array in result]
    for array in kept:
        array[...] = -1
    for array, before in zip(result, expected, strict=True):
        np.testing.assert_array_equal(array, before)
        assert array.flags.owndata
        assert array.flags.writeable
        assert array.flags.c_contiguous


def test_without_functions_the_arrays_are_copied() -> None:
    arrays = weights()
    result = apply_callbacks("conv", arrays, [])
    np.testing.assert_array_equal(result[0], arrays[0])
    assert not np.shares_memory(result[0], arrays[0])


class TestRubbish:
    """What is not a list of arrays is told by name, with what was expected."""
    @pytest.mark.parametrize(
        ("answer", "message"),
        [(None, "got NoneType; return the list at the end of the function"),
         (np.ones(3), "got numpy.ndarray; put the arrays into a list"),
         ({"kernel": 1}, "got dict; put"), ((array for array in weights()), "got generator; put"),
         ([None], "got NoneType as item 0"), ([np.ones(1), "text"], "got str as item 1"),
         ([np.array([{}])], r"got numpy.ndarray as item 0 \(as an array: dtype\('O'\)\)"),
         ([[1, [2]]], "got list as item 0, which numpy cannot turn into an array"),
         ([np.ones(2, "complex64")], "complex64"),
         ([np.zeros(2, "M8[s]")], "M8")], ids=lambda value: value
        if isinstance(value, str) else type(value).__name__)
    def test_is_refused(self, answer: object, message: str) -> None:
        with pytest.raises(TransferError, match=message) as caught:
            apply_callbacks("stem_conv", weights(), [("'stem'", lambda arrays: answer)])
        expected = "layer 'stem_conv', additional_transfer key 'stem': expected a list of arrays"
        assert expected in str(caught.value)
        assert caught.value.problems == (str(caught.value),)

    def test_keeps_what_numpy_said_as_the_cause(self) -> None:
        with pytest.raises(TransferError) as caught:
            apply_callbacks("conv", weights(), [("conv", lambda arrays: [[1, [2]]])])
        assert isinstance(caught.value.__cause__, ValueError)

    def test_an_array_whose_conversion_fails_keeps_its_exception(self) -> None:
        class Stubborn:
            def __array__(self, *arguments: object, **keywords: object) -> np.ndarray:
                raise LookupError("no numbers here")

        with pytest.raises(LookupError, match="no numbers here") as caught:
            apply_callbacks("conv", weights(), [("'stem'", lambda arrays: [Stubborn()])])
        assert "key 'stem' for layer 'conv'" in caught.value.__notes__[0]


class TestExceptions:
    """An exception of the user's keeps its type and says where it came from."""
    def test_it_gains_a_note_of_layer_and_key(self) -> None:
        with pytest.raises(ZeroDivisionError) as caught:
            apply_callbacks("stem_conv", weights(), [("'stem'", lambda arrays: 1 / 0)])
        assert caught.value.__notes__ == [
            "raised by the function of additional_transfer key 'stem' for layer 'stem_conv'"
        ]

    def test_a_key_in_words_is_said_as_it_is(self) -> None:
        with pytest.raises(
                TransferError,
                match=r"layer 'head', additional_transfer key \(Dense, Conv2D\): expected"):
            apply_callbacks("head", weights(), [("(Dense, Conv2D)", lambda arrays: None)])

    @pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit, MemoryError, TransferError])
    def test_it_keeps_its_type(self, kind: type[BaseException]) -> None:
        def fail(arrays: Arrays) -> Arrays:
            raise kind("stop")

        with pytest.raises(kind):
            apply_callbacks("conv", weights(), [("conv", fail)])

    def test_an_exception_that_takes_no_notes_is_still_the_one_seen(self) -> None:
        class Noteless(Exception):
            def add_note(self, note: str) -> None:
                raise RuntimeError("no notes please")

        def fail(arrays: Arrays) -> Arrays:
            raise Noteless("mine")

        with pytest.raises(Noteless, match="mine"):
            apply_callbacks("conv", weights(), [("conv", fail)])

    def test_later_functions_are_not_run(self) -> None:
        ran = []
        with pytest.raises(ZeroDivisionError):
            apply_callbacks("conv", weights(), [("a", lambda arrays: 1 / 0),
                                                ("b", lambda arrays: ran.append(1))])
        assert ran == []


class TestHostileFunctions:
    """Nothing borrowed is used after user code ran."""
    def test_clearing_the_given_lists_changes_nothing(self) -> None:
        arrays = weights()
        calls: list[Any] = []

        def clear_everything(given: Arrays) -> Arrays:
            answer = [array + 1 for array in given]
            given.clear()
            arrays.clear()
            calls.clear()
            return answer

        calls += [("conv", clear_everything),
                  ("conv", lambda given: [array + 1 for array in given])]
        result = apply_callbacks("conv", arrays, calls)
        np.testing.assert_array_equal(result[1], [3, 3, 3])

    def test_the_answer_may_change_while_it_is_being_read(self) -> None:
        answer: Arrays = []

        class Shrinking:
            def __array__(self, *arguments: object, **keywords: object) -> np.ndarray:
                answer.clear()
                return np.ones(2)

        answer += [Shrinking(), np.zeros(3), np.zeros(4)]
        result = apply_callbacks("conv", [], [("conv", lambda arrays: answer)])
        assert [array.shape for array in result] == [(2,), (3,), (4,)]

    def test_lists_and_tuples_with_their_own_ideas_are_read_as_what_they_hold(self) -> None:
        class Lying(list[Any]):
            def __len__(self) -> int:
                return 1000

            def __iter__(self) -> Any:
                raise RuntimeError("never asked")

        result = apply_callbacks("conv", [], [("conv", lambda arrays: Lying([np.ones(2)]))])
        assert len(result) == 1

    def test_arrays_may_be_reshaped_and_resized_by_the_function(self) -> None:
        def resize(arrays: Arrays) -> Arrays:
            arrays[0].shape = (6,)
            arrays[1].resize((100,), refcheck=False)
            return arrays

        result = apply_callbacks("conv", weights(), [("conv", resize)])
        assert [array.shape for array in result] == [(6,), (100,)]

    def test_a_function_may_call_it_again(self) -> None:
        def nested(arrays: Arrays) -> Arrays:
            return apply_callbacks("inner", arrays,
                                   [("inner", lambda given: [array + 1 for array in given])])

        result = apply_callbacks("outer", weights(), [("outer", nested), ("outer", nested)])
        np.testing.assert_array_equal(result[1], [3, 3, 3])

    def test_endless_recursion_ends_in_a_recursion_error(self) -> None:
        def endless(arrays: Arrays) -> Arrays:
            return apply_callbacks("conv", arrays, [("conv", endless)])

        before = sys.getrecursionlimit()
        sys.setrecursionlimit(200)
        try:
            with pytest.raises(RecursionError):
                apply_callbacks("conv", weights(), [("conv", endless)])
        finally:
            sys.setrecursionlimit(before)

    def test_a_function_may_wait_for_another_thread_that_does_the_same(self) -> None:
        meeting = threading.Barrier(2, timeout=20)
        results: dict[int, Arrays] = {}

        def meet(arrays: Arrays) -> Arrays:
            meeting.wait()
            return [array + 1 for array in arrays]

        def run(number: int) -> None:
            results[number] = apply_callbacks("conv", weights(), [("conv", meet)])

        threads = [threading.Thread(target=run, args=(number,)) for number in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [results[number][1].tolist() for number in range(2)] == [[2.0] * 3] * 2
