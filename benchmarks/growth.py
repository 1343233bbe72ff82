"""The part of the page on how cost grows: a plot and a table of each sweep, and what grows faster than it should."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from arithmetic import Peak, Work
from loglog import AXES, LABELS, plot
from scaling import QUICK, SWEEPS, WORKS, Point, Sweep, values

__all__ = ["faster_than_predicted", "growth", "number"]

TOLERANCE = 1.25
"""How much the ratio of measured to predicted may rise along a sweep; noise of a busy machine is below."""
TITLES = {
    "batch": "Cost by batch",
    "length": "Cost by length",
    "size": "Cost by size of the model",
    "roles": "Cost by roles on one trunk",
}
ABOUT = """\
Random Llama-shaped models in {dtype}; unless it is what changes, the model has 135M parameters. A decoding
step advances every row by one token; scoring reads the sequences once and asks for the log-probabilities of their
second half; a training step does so with a LoRA adapter and learns. Of several roles the policy learns, and reference,
reward and value read the same batch. Dots are medians with minimum and maximum, lines the least time by the arithmetic
at one peak, the median of those that each point's process measured just before. `python benchmarks/scaling.py`
measures all of it.

Small steps are far above the line: hundreds of small operations take their time whatever their size. What counts is
that the distance does not grow. A row is named below its table when its ratio rises by more than a quarter along the
sweep.
"""


def growth(scaling: Mapping[str, Any], remarks: Mapping[str, str], folder: str) -> tuple[str, dict[str, str]]:
    """Markdown of all sweeps, and their plots by file name. remarks: why, by "SWEEP WORK"."""
    points = at_one_peak(scaling.get("points", {}))
    quick = not any(point.key in points for sweep in SWEEPS.values() for work in WORKS for point in values(sweep, work))
    # a processor that multiplies no bf16 measures in fp32, and so are its bytes and its peak
    parts, plots = [ABOUT.format(dtype=scaling.get("dtype", "bf16")) + when(points)], {}
    for name, sweep in (QUICK if quick and points else SWEEPS).items():
        curves = {work: measured(name, sweep, work, points) for work in WORKS}
        parts.append(f"### {TITLES[name]}\n")
        if not any(curves.values()):
            parts.append("Not measured.\n")
            continue
        if max(map(len, curves.values())) > 1:
            plots[f"{name}.svg"] = plot(name, TITLES[name], {work: found for work, found in curves.items() if found})
            parts.append(f"![{TITLES[name]}, measured and predicted, log-log]({folder}/{name}.svg)\n")
        parts.append(table(name, sweep, points) + "\n")
        parts += [worse(name, work, found, remarks) for work, found in curves.items() if faster_than_predicted(found)]
    return "\n".join(parts), plots


def at_one_peak(points: Mapping[str, Any]) -> dict[str, Any]:
    """The points with the least time at the median of all peaks: on a machine that others share a process may meet
    twice the peak of the one before, and the ratios of a sweep would tell of that."""
    peaks = [found["peak"] for found in points.values() if "error" not in found]
    if not peaks:
        return dict(points)
    peak = Peak(*(statistics.median(one[name] for one in peaks) for name in ("gflops", "gbs")))

    def judged(found: Mapping[str, Any]) -> Mapping[str, Any]:
        if "error" in found:
            return found
        least = Work(found["flop"], found["bytes"]).seconds(peak)
        return {**found, "predicted": least, "ratio": found["seconds"]["median"] / least}

    return {key: judged(found) for key, found in points.items()}


def when(points: Mapping[str, Any]) -> str:
    """The dates of what was measured, and the peak then: another processor of the same name may have another."""
    good = [found for found in points.values() if "error" not in found]
    if not good:
        return ""
    dates = sorted({found["date"] for found in good})
    peaks = [found["peak"]["gflops"] for found in good]
    days = " to ".join(dict.fromkeys([dates[0], dates[-1]]))
    return f"\n{days}; the peak was {statistics.median(peaks):.0f} GFLOP/s ({min(peaks):.0f} to {max(peaks):.0f}).\n"


def measured(name: str, sweep: Sweep, work: str, points: Mapping[str, Any]) -> list[tuple[float, Mapping[str, Any]]]:
    """Places on the axis, ascending, with what was measured there."""
    found = [(point, points.get(point.key, {"error": ""})) for point in values(sweep, work)]
    return [(place(name, point, one), one) for point, one in found if "error" not in one]


def place(name: str, point: Point, found: Mapping[str, Any]) -> float:
    """Where on the axis a point stands."""
    sizes = {"batch": point.batch, "length": point.length, "roles": point.roles}
    return float(sizes[name]) if name in sizes else round(found["parameters"] / 1e6, 1)


def faster_than_predicted(curve: Sequence[tuple[float, Mapping[str, Any]]]) -> list[float]:
    """The places whose ratio is more than TOLERANCE above the lowest ratio of a smaller place."""
    ratios = [found["ratio"] for _, found in curve]
    return [x for i, (x, _) in enumerate(curve) if i and ratios[i] > TOLERANCE * min(ratios[:i])]


def worse(name: str, work: str, curve: Sequence[tuple[float, Mapping[str, Any]]], remarks: Mapping[str, str]) -> str:
    """A row that grows faster than predicted, with the reason that was written down for it."""
    places = ", ".join(f"{x:g}" for x in faster_than_predicted(curve))
    why = remarks.get(f"{name} {work}", "the reason has not been found yet.")
    return f"{LABELS[work].capitalize()} grows faster than the arithmetic at {places} {AXES[name]}: {why}\n"


def table(name: str, sweep: Sweep, points: Mapping[str, Any]) -> str:
    """Milliseconds measured and predicted, and their ratio, of every work at every place."""
    heads = [cell for work in WORKS for cell in (f"{LABELS[work]}, ms", "least", "ratio")]
    lines = [[AXES[name], *heads], ["---"] * (1 + len(heads))]
    for same in zip(*(values(sweep, work) for work in WORKS), strict=True):
        found = [points.get(point.key, {"error": "not measured"}) for point in same]
        known = next(
            (place(name, point, one) for point, one in zip(same, found, strict=True) if "error" not in one), None
        )
        cells = [f"{known:g}" if known is not None else getattr(same[0], sweep[0])]
        for one in found:
            cells += ["not measured", "", ""] if "error" in one else figures(one)
        lines.append([str(cell) for cell in cells])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def figures(found: Mapping[str, Any]) -> list[str]:
    seconds = found["seconds"]
    middle, low, high, least = (
        number(1e3 * value) for value in (seconds["median"], seconds["minimum"], seconds["maximum"], found["predicted"])
    )
    return [f"{middle} ({low} – {high})", least, number(found["ratio"])]


def number(value: float) -> str:
    """Three digits, as people write them."""
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"
