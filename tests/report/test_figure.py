from __future__ import annotations

import re
from html.parser import HTMLParser

import matplotlib as mpl
import pytest

from bessemer.report.figure import ACCENT, INK, SERIES, Drawing, draw, style, to_svg

WORDS = [
    "</text></svg><script>x()</script>",
    "$\\frac{1}{0}$",
    "a_b^c%",
    "缺陷：裂纹",
    "&amp;",
    "-->",
    "q0qxx",
    "x'\"",
]


class Text(HTMLParser):
    """The text of an SVG, and what tags it has."""

    def __init__(self) -> None:
        super().__init__()
        self.text: list[str] = []
        self.tags: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)

    def handle_data(self, data: str) -> None:
        self.text.append(data.strip())


def drawn(word: str = "word") -> Drawing:
    drawing = draw(300, 200)
    (axes,) = drawing.axes
    axes.plot([0, 1], [0.123456, 1], "o-", color=ACCENT, label=drawing.word(word, 60))
    axes.set_title(drawing.word(word, 60))
    axes.text(0.5, 0.5, "0.98765", color=INK)
    axes.legend()
    return drawing


@pytest.mark.parametrize("word", WORDS)
def test_words_from_outside_are_shown_as_they_are_and_run_nothing(word: str) -> None:
    with style():
        svg = to_svg(drawn(word), "name", f"about {word}").text
    parser = Text()
    parser.feed(svg)
    assert parser.text.count(word) == 2
    assert parser.tags <= {"svg", "g", "path", "defs", "use", "text", "clippath", "rect"}
    assert "<script" not in svg


def test_colours_become_variables_and_nothing_is_left_of_the_stand_ins() -> None:
    with style():
        svg = to_svg(drawn(), "name", "x").text
    assert "var(--series-1)" in svg and "var(--ink)" in svg and "var(--font)" in svg
    assert not re.search("|".join([INK, *SERIES]), svg) and "DejaVu" not in svg
    assert len(set(SERIES)) == len(SERIES)


def test_no_style_sheet_no_comment_no_reference_outside() -> None:
    with style():
        svg = to_svg(drawn(), "name", "x").text
    assert "<style" not in svg and "<!--" not in svg and "http" not in svg
    ids = re.findall(r' id="([^"]+)"', svg)
    references = re.findall(r'href="([^"]+)"|url\(([^)]+)\)', svg)
    assert references and {(a or b).removeprefix("#") for a, b in references} == set(ids)
    assert len(ids) == len(set(ids))


def test_coordinates_are_rounded_and_numbers_to_read_are_not() -> None:
    with style():
        svg = to_svg(drawn(), "name", "x").text
    assert ">0.98765<" in svg
    assert not re.search(r"\.\d{3,}", re.sub(r">[^<]*<", "><", svg))


def test_equal_drawings_give_equal_bytes_whatever_matplotlibrc_says() -> None:
    with style():
        one = to_svg(drawn(), "name", "x").text
        named = to_svg(drawn(), "other", "x").text
    with mpl.rc_context({"lines.markersize": 20, "axes.linewidth": 5, "font.size": 30}), style():
        two = to_svg(drawn(), "name", "x").text
    assert one == two
    assert not set(re.findall(r' id="([^"]+)"', one)) & set(re.findall(r' id="([^"]+)"', named))
