"""Signals: one asks, two Ctrl-C insist, and the handlers are given back."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator

import pytest

from bessemer import interrupts


@pytest.fixture(autouse=True)
def released() -> Iterator[None]:
    yield
    interrupts.release()


def send(number: signal.Signals) -> None:
    os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_one_signal_asks(number: signal.Signals, capfd: pytest.CaptureFixture[str]) -> None:
    assert interrupts.catch()
    assert not interrupts.requested()
    send(number)
    assert interrupts.requested()
    assert "saving the state" in capfd.readouterr().err


def test_a_second_ctrl_c_insists_but_not_a_second_sigterm() -> None:
    interrupts.catch()
    send(signal.SIGTERM)
    send(signal.SIGTERM)
    send(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        send(signal.SIGINT)


def test_the_handlers_are_installed_once_and_given_back() -> None:
    own = {signal.SIGTERM: lambda *_: None, signal.SIGINT: lambda *_: None}
    before = {number: signal.signal(number, handler) for number, handler in own.items()}
    try:
        assert interrupts.catch()
        send(signal.SIGTERM)
        assert not interrupts.catch()
        assert interrupts.requested()
        interrupts.release()
        assert {number: signal.getsignal(number) for number in own} == own
        assert interrupts.requested()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    interrupts.catch()
    assert not interrupts.requested()


def test_outside_the_main_thread_nothing_happens() -> None:
    results: list[bool] = []
    thread = threading.Thread(target=lambda: results.append(interrupts.catch()))
    thread.start()
    thread.join()
    assert results == [False]
