"""Ctrl-C that waits until something is done."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import pytest

from keras_torch_convert.util.interrupts import deferred_sigint


def strike() -> None:
    signal.raise_signal(signal.SIGINT)


def test_an_interrupt_arrives_at_the_end_of_the_block() -> None:
    steps = []

    def work() -> None:
        with deferred_sigint():
            strike()
            steps.append(1)
            strike()
            steps.append(2)

    with pytest.raises(KeyboardInterrupt):
        work()
    assert steps == [1, 2]


def test_the_handler_is_the_same_afterward() -> None:
    handler = signal.getsignal(signal.SIGINT)
    with deferred_sigint():
        assert signal.getsignal(signal.SIGINT) is not handler
    assert signal.getsignal(signal.SIGINT) is handler


def test_blocks_inside_of_each_other_deliver_at_the_end_of_the_outer_one() -> None:
    steps = []

    def work() -> None:
        with deferred_sigint():
            with deferred_sigint():
                strike()
            steps.append("outer")

    with pytest.raises(KeyboardInterrupt):
        work()
    assert steps == ["outer"]


def test_the_first_interrupt_is_let_through_and_cleaning_up_after_it_is_not_interrupted() -> None:
    steps = []

    def clean_up() -> None:
        try:
            strike()
            steps.append("not reached")
        except KeyboardInterrupt:
            strike()
            steps.append("cleaned up")
            raise

    with pytest.raises(KeyboardInterrupt), deferred_sigint(let_through=1):
        clean_up()
    assert steps == ["cleaned up"]


@pytest.mark.parametrize("leaving", [False, True])
def test_an_interrupt_between_the_block_and_its_manager_waits_for_the_end(leaving: bool) -> None:
    before, steps = signal.getsignal(signal.SIGINT), list[str]()

    @contextmanager
    def all_or_nothing() -> Iterator[None]:
        with deferred_sigint(let_through=1):
            steps.append("begun")
            try:
                yield
            finally:
                steps.append("ended")

    method = type(all_or_nothing()).__exit__ if leaving else type(all_or_nothing()).__enter__

    def interrupt(frame: FrameType, event: str, _: Any) -> None:
        if frame.f_code is method.__code__ and signal.getsignal(signal.SIGINT) is not before:
            sys.setprofile(None)
            signal.raise_signal(signal.SIGINT)

    try:
        sys.setprofile(interrupt)
        with pytest.raises(KeyboardInterrupt), all_or_nothing():
            steps.append("inside")
    finally:
        sys.setprofile(None)
    assert steps == ["begun", "inside", "ended"]
    assert signal.getsignal(signal.SIGINT) is before


def test_an_interrupt_while_the_handler_is_set_waits_for_the_end() -> None:
    before, steps = signal.getsignal(signal.SIGINT), list[str]()

    def interrupt(frame: FrameType, event: str, _: Any) -> None:
        if (frame.f_code.co_filename == signal.__file__ and event == "c_return"
                and signal.getsignal(signal.SIGINT) is not before):
            sys.setprofile(None)
            signal.raise_signal(signal.SIGINT)

    def work() -> None:
        sys.setprofile(interrupt)
        with deferred_sigint(let_through=1):
            steps.append("inside")

    try:
        with pytest.raises(KeyboardInterrupt):
            work()
    finally:
        sys.setprofile(None)
    assert steps == ["inside"]
    assert signal.getsignal(signal.SIGINT) is before


def test_other_threads_and_ignored_signals_change_nothing() -> None:
    handlers = []

    def look() -> None:
        with deferred_sigint():
            handlers.append(signal.getsignal(signal.SIGINT))

    handler = signal.getsignal(signal.SIGINT)
    thread = threading.Thread(target=look)
    thread.start()
    thread.join(10)
    assert handlers == [handler]
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with deferred_sigint():
            strike()
            assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, handler)
