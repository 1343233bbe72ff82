"""How far a stage is and how long it will take: a bar on a terminal, a line each 10 % in a log file.

Usage:
    with track(500, "sft", start=100) as progress:
        for step in range(100, 500):
            progress.advance(loss=0.31)
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

__all__ = ["Spans", "Track", "clock", "track"]


class Spans:
    """Seconds spent in each part of something that is repeated, by name: `with spans("rollout"): ...`. Final."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        """Add the time of the block to `name`."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - began


class Track(Protocol):
    """What `track` gives: something to advance."""

    def advance(self, n: int = 1, **shown: object) -> None:
        """`n` more are done; `shown` are the figures to show beside the bar, the latest of each name."""


@contextmanager
def track(total: int, description: str, start: int = 0) -> Iterator[Track]:
    """Follow work of `total` units of which `start` were done before; the remaining time counts only what is
    done now.

    Inside another `track` on a terminal the inner one becomes a second line of the same display.
    """
    if not sys.stderr.isatty():
        yield _Lines(total, description, start)
        return
    display = _displays[-1] if _displays else _new_display()
    task = display.add_task(description, total=total, completed=start, shown="")
    _displays.append(display)
    try:
        if len(_displays) == 1:
            display.start()
        yield _Bar(display, task)
    finally:
        _displays.pop()
        if _displays:
            display.remove_task(task)
        else:
            display.stop()


def clock(seconds: float) -> str:
    """1:02:03, or 2:03 below an hour."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


_displays: list[Progress] = []  # the terminal can hold only one live display


def _new_display() -> Progress:
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        TaskProgressColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[shown]}", markup=False),
        console=Console(stderr=True),
    )


@dataclass
class _Bar:
    display: Progress
    task: TaskID

    def advance(self, n: int = 1, **shown: object) -> None:
        if shown:
            self.display.update(self.task, shown=_figures(shown))
        self.display.advance(self.task, n)


class _Lines:
    def __init__(self, total: int, description: str, start: int) -> None:
        self.total, self.description, self.start, self.done = total, description, start, start
        self.began = time.monotonic()
        self._print({})

    def advance(self, n: int = 1, **shown: object) -> None:
        tenth = self._tenth()
        self.done += n
        if self._tenth() > tenth:
            self._print(shown)

    def _tenth(self) -> int:
        return min(10, 10 * self.done // self.total) if self.total else 10

    def _print(self, shown: dict[str, object]) -> None:
        elapsed, now = time.monotonic() - self.began, self.done - self.start
        left = clock(elapsed / now * (self.total - self.done)) if now else "?"
        percent = 100 * self.done // self.total if self.total else 100
        line = f"{self.description} {percent:3d}% {self.done}/{self.total} {clock(elapsed)} left {left}"
        print(f"{line} {_figures(shown)}".rstrip(), file=sys.stderr, flush=True)


def _figures(shown: dict[str, object]) -> str:
    return " ".join(f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in shown.items())
