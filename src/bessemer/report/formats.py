"""Numbers as people read them; what was not measured is a dash, in the page, the terminal and README
alike."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["DASH", "count", "decimal", "duration", "percent", "points", "short", "span"]

DASH = "–"
MINUS = "\N{MINUS SIGN}"


def decimal(value: float | None, digits: int = 3) -> str:
    """A number with a fixed count of decimals."""
    return DASH if value is None else f"{value:.{digits}f}".replace("-", MINUS)


def percent(value: float | None, digits: int = 1) -> str:
    """A share as percent: 0.889 is "88.9 %"."""
    return DASH if value is None else f"{decimal(100 * value, digits)} %"


def points(value: float | None, digits: int = 1) -> str:
    """A difference of shares in percentage points, always with its sign."""
    if value is None:
        return DASH
    rounded = round(100 * value, digits) + 0.0
    sign = "+" if rounded > 0 else MINUS if rounded < 0 else "±"
    return f"{sign}{abs(rounded):.{digits}f}"


def span(interval: Sequence[float] | None, digits: int = 1) -> str:
    """An interval of shares, in percent without the sign: [0.862, 0.911] is "86.2 to 91.1"."""
    if interval is None:
        return DASH
    low, high = (decimal(round(100 * end, digits) + 0.0, digits) for end in interval)
    return f"{low} to {high}"


def count(value: float | None) -> str:
    """A count in thousands, millions or billions: 134515008 is "134.5 M"."""
    if value is None:
        return DASH
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.1f} {letter}"
    return f"{value:g}"


def duration(seconds: float | None) -> str:
    """Seconds as "42 s", "3 min 05 s" or "2 h 07 min"."""
    if seconds is None:
        return DASH
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def short(text: str, limit: int) -> str:
    """`text` on one line, cut to `limit` characters with an ellipsis."""
    line = " ".join(text.split())
    return line if len(line) <= limit else line[: limit - 1].rstrip() + "…"
