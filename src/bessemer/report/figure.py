"""Drawings with matplotlib as inline SVG that follows the page's colours, light or dark, and the reader's
fonts."""

from __future__ import annotations

import io
import re
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from bessemer.report.formats import short
from bessemer.report.markup import Markup, escaped

__all__ = ["ACCENT", "GRID", "INK", "MUTED", "ON_ACCENT", "SERIES", "Drawing", "draw", "style", "to_svg"]

# Stand-ins that no chart uses as real colours; each becomes a CSS variable, so that dark mode recolours it.
INK, MUTED, GRID, ON_ACCENT = "#010203", "#010204", "#010205", "#010206"
SERIES = ("#010301", "#010302", "#010303", "#010304", "#010305", "#010306", "#010307")
ACCENT = SERIES[0]
VARIABLES = {INK: "--ink", MUTED: "--muted", GRID: "--line", ON_ACCENT: "--on-accent"} | {
    color: f"--series-{number}" for number, color in enumerate(SERIES, 1)
}
STYLE: Any = {
    "axes.edgecolor": GRID,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.labelcolor": MUTED,
    "axes.labelsize": 10,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlecolor": INK,
    "axes.titlelocation": "left",
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.unicode_minus": True,
    "font.family": ["DejaVu Sans"],
    "font.size": 10,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "legend.fontsize": 9,
    "legend.frameon": False,
    "legend.labelcolor": INK,
    "lines.linewidth": 1.8,
    "svg.fonttype": "none",
    "svg.id": None,
    "text.color": INK,
    "text.parse_math": False,
    "xtick.color": GRID,
    "xtick.labelcolor": MUTED,
    "xtick.labelsize": 9,
    "ytick.color": GRID,
    "ytick.labelcolor": MUTED,
    "ytick.labelsize": 9,
}
TOKEN = re.compile(r"q(\d+)qx*")
# Comments, metadata, a style sheet that would reach the whole page, and the names of groups. Ids that are
# referred to are a letter and a salted hash, without an underscore.
NOT_NEEDED = (
    r"<!--.*?-->",
    r"<metadata>.*?</metadata>",
    r"<defs>\s*<style.*?</style>\s*</defs>",
    r' id="[\w.]*_\d+"',
)


@dataclass(frozen=True)
class Drawing:
    """A figure of one or more axes, and the words from outside that will stand in it."""

    figure: Figure
    axes: tuple[Axes, ...]
    words: list[str] = field(default_factory=list)

    def word(self, text: str, limit: int = 22) -> str:
        """A stand-in as wide as `text` for matplotlib to lay out; the text itself is put into the SVG,
        escaped.

        So hostile words never reach matplotlib, and a script that its font lacks is drawn by the reader's
        fonts.
        """
        cut = short(text, limit)
        self.words.append(cut)
        width = sum(2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in cut)
        return f"q{len(self.words) - 1}q".ljust(width, "x")


def draw(width: int = 400, height: int = 260, rows: int = 1, columns: int = 1, share_x: bool = False) -> Drawing:
    """An empty drawing of `width` x `height` CSS pixels; to be made and filled within `style()`."""
    figure = Figure(figsize=(width / 72, height / 72), dpi=72, layout="constrained")
    FigureCanvasSVG(figure)
    axes = figure.subplots(rows, columns, sharex=share_x, squeeze=False)
    return Drawing(figure, tuple(axes.flatten()))


@contextmanager
def style() -> Iterator[None]:
    """Within it, drawings look like the page, whatever the user's matplotlibrc says."""
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(STYLE)
        yield


def to_svg(drawing: Drawing, name: str, description: str) -> Markup:
    """The drawing as inline SVG that refers to nothing outside; equal input gives equal bytes.

    name: keeps the ids of several drawings on one page apart. description: what a screen reader says.
    """
    buffer = io.StringIO()
    absent = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    with mpl.rc_context({"svg.hashsalt": name}):
        drawing.figure.savefig(buffer, format="svg", transparent=True, metadata=absent)
    svg = buffer.getvalue()
    svg = svg[svg.index(">", svg.index("<svg")) + 1 :]
    for pattern in NOT_NEEDED:
        svg = re.sub(pattern, "", svg, flags=re.DOTALL)
    svg = re.sub(r"'DejaVu Sans'[^;\"]*", "var(--font)", svg)
    # Coordinates to a hundredth of a pixel; numbers that are read stand outside of the tags.
    svg = re.sub(r"<[^>]*>", lambda tag: re.sub(r"(\.\d\d)\d+", r"\1", tag[0]), svg)
    for color, variable in VARIABLES.items():
        svg = svg.replace(color, f"var({variable})")
    svg = re.sub(r"\n\s*", "\n", svg).strip()
    # Last, so that nothing above can touch a word from outside.
    svg = TOKEN.sub(lambda match: escaped(drawing.words[int(match[1])]), svg)
    width, height = (round(72 * inches) for inches in drawing.figure.get_size_inches())
    view = f'viewBox="0 0 {width} {height}" width="{width}"'
    return Markup(f'<svg {view} role="img" aria-label="{escaped(description)}">\n{svg}')
