from __future__ import annotations

import pytest

from bessemer.report.markup import Markup, element, escaped, join, table


def test_a_string_is_text_and_markup_is_not_escaped_twice() -> None:
    made = element("p", ["<b>&'\"", element("em", "x < y")])
    assert made == Markup("<p>&lt;b&gt;&amp;&#x27;&quot;<em>x &lt; y</em></p>")
    assert join("<i>").text == "&lt;i&gt;"


def test_an_attribute_cannot_be_left() -> None:
    assert element("p", "", {"title": '" onload="x'}).text == '<p title="&quot; onload=&quot;x"></p>'


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("onclick", "x()"),
        ("onerror", "x()"),
        ("style", "background: url(x)"),
        ("srcdoc", "x"),
        ("href", "javascript:x()"),
        ("href", "https://example.org"),
        ("src", "https://example.org/x.jpg"),
        ("src", "data:text/html;base64,x"),
        ("src", "data:image/svg+xml;base64,x"),
    ],
)
def test_attributes_that_run_or_fetch_are_refused(name: str, value: str) -> None:
    with pytest.raises(ValueError, match="neither run nor fetch"):
        element("a", "x", {name: value})


def test_control_and_direction_characters_are_shown() -> None:
    assert escaped("a\u202eb\x00c\x1b[31m\ud800") == "a\\u202eb\\x00c\\x1b[31m\\ud800"
    assert escaped("缺陷 é\n\tß") == "缺陷 é\n\tß"


def test_table_marks_the_strong_row_and_heads_its_rows() -> None:
    made = table(["model", "n"], [["a<", "1"], ["b", "2"]], strong=1).text
    assert '<tr><th scope="row">a&lt;</th><td>1</td></tr>' in made
    assert '<tr class="strong"><th scope="row">b</th><td>2</td></tr>' in made
