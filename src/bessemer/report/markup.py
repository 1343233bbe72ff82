"""HTML that is escaped by construction: a plain string is text, and only this file and the plots make markup
of it.

Everything a report shows comes from outside: model output, labels, questions, file names. An element has no
attribute that runs code or fetches anything, whatever the caller passes.
"""

from __future__ import annotations

import html
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

__all__ = ["Markup", "Node", "element", "escaped", "join", "table"]

VOID = frozenset({"img", "meta"})
ATTRIBUTES = frozenset(
    {
        "alt",
        "aria-label",
        "class",
        "colspan",
        "content",
        "dir",
        "charset",
        "height",
        "http-equiv",
        "id",
        "lang",
        "name",
    }
    | {"open", "role", "scope", "tabindex", "title", "width"}
)


@dataclass(frozen=True)
class Markup:
    """Text that is HTML already."""

    text: str


Node = str | Markup


def escaped(text: str) -> str:
    """`text` for HTML: escaped, its control and direction characters shown as they would be written in
    Python.

    A right-to-left override could make an answer read as its opposite, and would carry on after its element.
    """
    safe = "".join(
        c
        if c in "\n\t" or unicodedata.category(c) not in ("Cc", "Cf", "Cs", "Co") or c == "\u200d"
        else c.encode("unicode_escape").decode("ascii")
        for c in text
    )
    return html.escape(safe, quote=True)


def _attribute(name: str, value: str) -> str:
    local = (name == "href" and value.startswith("#")) or (
        name == "src" and value.startswith("data:image/jpeg;base64,")
    )
    if name not in ATTRIBUTES and not local:
        raise ValueError(f"attribute {name}={value[:40]!r}, expected one that can neither run nor fetch anything")
    return f' {name}="{escaped(value)}"'


def element(name: str, children: Node | Iterable[Node] = (), attributes: Mapping[str, str] | None = None) -> Markup:
    """An element; strings among its children are text. ValueError for an attribute that could run or fetch
    anything."""
    opening = name + "".join(_attribute(key, value) for key, value in (attributes or {}).items())
    return Markup(f"<{opening}>" if name in VOID else f"<{opening}>{join(children).text}</{name}>")


def join(nodes: Node | Iterable[Node]) -> Markup:
    """Nodes one after the other, the strings among them escaped."""
    several = [nodes] if isinstance(nodes, (str, Markup)) else nodes
    return Markup("".join(node.text if isinstance(node, Markup) else escaped(node) for node in several))


def table(head: Sequence[Node], rows: Iterable[Sequence[Node]], caption: str = "", strong: int | None = None) -> Markup:
    """A table that scrolls sideways on a narrow screen; the first column heads its row, row `strong` is
    marked."""
    top = element("tr", [element("th", cell, {"scope": "col"}) for cell in head])
    body = [
        element(
            "tr",
            [element("th", row[0], {"scope": "row"}), *(element("td", cell) for cell in row[1:])],
            {"class": "strong"} if number == strong else None,
        )
        for number, row in enumerate(rows)
    ]
    inner = [element("caption", caption)] if caption else []
    whole = element("table", [*inner, element("thead", top), element("tbody", body)])
    return element("div", whole, {"class": "scroll", "tabindex": "0"})
