"""Progress on a terminal and in a log file."""

from __future__ import annotations

import io
import re
import sys

import pytest

from bessemer.progress import Spans, clock, track


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_log_file_gets_a_line_each_tenth(capsys: pytest.CaptureFixture[str]) -> None:
    with track(40, "sft", start=10) as progress:
        for step in range(30):
            progress.advance(loss=0.123456, 步=step)
    lines = capsys.readouterr().err.splitlines()
    assert [line.split()[:3] for line in lines] == [
        ["sft", f"{done * 100 // 40}%", f"{done}/40"] for done in (10, 12, 16, 20, 24, 28, 32, 36, 40)
    ]
    assert re.fullmatch(r"sft  25% 10/40 \d+:\d\d left \?", lines[0])
    assert re.fullmatch(r"sft 100% 40/40 \d+:\d\d left 0:00 loss 0.1235 步 29", lines[-1])


@pytest.mark.parametrize(("total", "advances", "last"), [(0, 0, "100% 0/0"), (3, 3, "100% 3/3"), (2, 3, "100% 2/2")])
def test_small_and_exceeded_totals(capsys: pytest.CaptureFixture[str], total: int, advances: int, last: str) -> None:
    with track(total, "x") as progress:
        for _ in range(advances):
            progress.advance()
    assert last in capsys.readouterr().err.splitlines()[-1]


def test_a_terminal_gets_a_bar_with_times_and_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setenv("TERM", "xterm")
    with track(4, "[sft]") as progress:
        with track(2, "inner") as inner:
            inner.advance(2)
        progress.advance(4, loss=0.5)
    text = terminal.getvalue()
    for part in ("[sft]", "inner", "100%", "4/4", "loss 0.5", "left"):
        assert part in text
    with track(1, "again"):
        pass
    assert "again" in terminal.getvalue()


def test_a_terminal_is_given_back_after_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", Terminal())
    with pytest.raises(ValueError, match="inside"), track(2, "outer"), track(2, "inner"):
        raise ValueError("inside")
    with track(1, "after") as progress:
        progress.advance()


@pytest.mark.parametrize(("seconds", "text"), [(0, "0:00"), (59.6, "1:00"), (605, "10:05"), (3661, "1:01:01")])
def test_clock(seconds: float, text: str) -> None:
    assert clock(seconds) == text


def test_spans_add_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Entered at 0, 10 and 20, left 1, 2 and 4 later; a block that fails counts too."""
    clock = iter([0.0, 1.0, 10.0, 12.0, 20.0, 24.0])
    monkeypatch.setattr("bessemer.progress.time.perf_counter", lambda: next(clock))
    spans = Spans()
    with spans("a"):
        pass
    with spans("b"):
        pass
    with pytest.raises(KeyError), spans("a"):
        raise KeyError
    assert spans.seconds == {"a": 5.0, "b": 2.0}
