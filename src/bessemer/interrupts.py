"""SIGTERM and SIGINT ask once, politely: the stage saves its state at the next safe place and stops.

A second Ctrl-C is no longer a question: it raises KeyboardInterrupt at once. Signals belong to the process,
so this state does too.
"""

from __future__ import annotations

import os
import signal
import threading
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

__all__ = ["catch", "release", "requested"]

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


@dataclass
class _State:
    requested: bool = False
    interrupts: int = 0
    previous: dict[signal.Signals, Any] = field(default_factory=dict)


_state = _State()


def catch() -> bool:
    """Install the handlers and forget earlier requests; False, and nothing changes, when they are installed
    already.

    Outside the main thread, where Python does not allow it, this does nothing.
    """
    if _state.previous or threading.current_thread() is not threading.main_thread():
        return False
    _state.requested, _state.interrupts = False, 0
    for number in _SIGNALS:
        _state.previous[number] = signal.signal(number, _handle)
    return True


def release() -> None:
    """Give the signals back to whoever had them; what was requested stays readable until the next `catch`."""
    for number, handler in _state.previous.items():
        signal.signal(number, handler)
    _state.previous.clear()


def requested() -> bool:
    """Whether SIGTERM or SIGINT has arrived since `catch`."""
    return _state.requested


def _handle(number: int, frame: FrameType | None) -> None:
    _state.interrupts += number == signal.SIGINT
    if _state.interrupts > 1:
        raise KeyboardInterrupt
    _state.requested = True
    # A print could re-enter the very buffer that the signal interrupted.
    os.write(2, b"\nstopping: saving the state first; Ctrl-C once more stops at once\n")
