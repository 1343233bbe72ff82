"""Log-log plots of how cost grows as SVG files that stand alone: measured points, and a line for the arithmetic."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.ticker import FixedFormatter, FixedLocator, LogLocator, NullFormatter

from bessemer.report.figure import INK, MUTED, SERIES, draw, style, to_svg
from bessemer.report.theme import STYLE_SHEET

__all__ = ["AXES", "LABELS", "plot"]

WIDTH, HEIGHT = 620, 400
COLORS = {"rollout": SERIES[0], "forward": SERIES[1], "train": SERIES[2]}
LABELS = {"rollout": "a decoding step", "forward": "scoring", "train": "a training step"}
AXES = {
    "batch": "sequences in the batch",
    "length": "tokens of a sequence",
    "size": "millions of parameters",
    "roles": "roles on one trunk",
}
VARIABLES = STYLE_SHEET[: STYLE_SHEET.index("\n* {")]
"""The colours of the report, light and dark."""


def plot(sweep: str, title: str, curves: Mapping[str, Sequence[tuple[float, Mapping[str, Any]]]]) -> str:
    """One sweep as an SVG file. curves: of each work the places on the axis, ascending, with what was measured
    there."""
    places = sorted({place for points in curves.values() for place, _ in points})
    with style():
        drawing = draw(WIDTH, HEIGHT)
        (axes,) = drawing.axes
        axes.set_xscale("log")
        axes.set_yscale("log")
        for work, points in curves.items():
            at = [place for place, _ in points]
            spans = [found["seconds"] for _, found in points]
            middle = [span["median"] for span in spans]
            below = [span["median"] - max(span["minimum"], span["median"] / 100) for span in spans]
            above = [span["maximum"] - span["median"] for span in spans]
            axes.plot(at, [found["predicted"] for _, found in points], color=COLORS[work], linewidth=1.5)
            axes.errorbar(
                at, middle, yerr=[below, above], fmt="o", color=COLORS[work], markersize=6, elinewidth=1.2, capsize=0
            )  # fmt: skip
            axes.plot([], [], "o", color=COLORS[work], markersize=6, label=LABELS[work])
        axes.plot([], [], color=MUTED, linewidth=1.5, label="least time by the arithmetic")
        axes.set_xlim(places[0] / 1.15, places[-1] * 1.15)
        axes.xaxis.set_major_locator(FixedLocator(places))
        axes.xaxis.set_major_formatter(FixedFormatter([f"{place:g}" for place in places]))
        axes.xaxis.set_minor_locator(FixedLocator([]))
        axes.yaxis.set_major_locator(LogLocator(numticks=12))
        axes.yaxis.set_major_formatter(lambda seconds, _: shown(seconds))
        axes.yaxis.set_minor_formatter(NullFormatter())
        axes.tick_params(which="both", length=0)
        axes.set_xlabel(AXES[sweep], color=INK)
        axes.set_ylabel("time of one step", color=INK)
        axes.set_title(title)
        drawing.figure.legend(loc="outside lower center", ncols=4, columnspacing=1.4, handlelength=1.4)
        svg = to_svg(drawing, f"scaling-{sweep}", title).text
    return standalone(svg)


def shown(seconds: float) -> str:
    """A power of ten of seconds, in the unit that people say it in."""
    for unit, factor in (("s", 1.0), ("ms", 1e3), ("µs", 1e6)):
        if seconds * factor >= 0.999:
            return f"{seconds * factor:g} {unit}"
    return f"{seconds:g} s"


def standalone(svg: str) -> str:
    """An inline SVG of the report as a file: with its namespaces, its colours, and a ground to stand on."""
    opening = svg.index(">") + 1
    names = ' xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
    head = svg[: opening - 1] + names + ">"
    ground = '<rect width="100%" height="100%" rx="10" fill="var(--card)"/>'
    return re.sub(r"\n+", "\n", f"{head}\n<style>{VARIABLES}</style>\n{ground}{svg[opening:]}") + "\n"
