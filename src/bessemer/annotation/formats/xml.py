"""XML from outside without what XML is attacked by, and XML to write.

Python's parsers expand entities and so can be made to fill the memory or read files; here a document type
declaration, which every one of those needs, is refused as soon as it begins.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any
from xml.parsers import expat
from xml.sax.saxutils import escape

from ...data.paths import shown
from ...data.schema import need
from ...errors import UserError

__all__ = ["Element", "element_of", "parse_xml", "to_tree", "to_xml"]

MAX_DEPTH = 32
MAX_ELEMENTS = 20_000_000
_NAME = re.compile(r"@?[^\W\d][\w.-]*(:[^\W\d][\w.-]*)?")
_FORBIDDEN = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass
class Element:
    """An element: its name, attributes, text (of all places between its children), children, and its line."""

    tag: str
    attributes: dict[str, str] = field(default_factory=dict)
    text: str = ""
    children: list[Element] = field(default_factory=list)
    line: int = 0

    def first(self, tag: str) -> Element | None:
        """The first child of that name."""
        return next((child for child in self.children if child.tag == tag), None)

    def value(self, tag: str, default: str = "") -> str:
        """The text of the first child of that name, without blanks around it."""
        child = self.first(tag)
        return child.text.strip() if child is not None else default


def parse_xml(data: bytes, where: str) -> Element:
    """The root element of a document.

    Raises:
        UserError: "where:line: what, expected what": a DTD or entity, more than 32 levels, broken XML.
    """
    parser = expat.ParserCreate()
    root = Element("")
    open_elements = [root]
    texts: list[list[str]] = [[]]
    count = 0

    def refuse(*_: object) -> None:
        raise UserError(f"{where}:{parser.CurrentLineNumber}: a DOCTYPE or entity, expected plain XML without them")

    def start(tag: str, attributes: dict[str, str]) -> None:
        nonlocal count
        count += 1
        line = parser.CurrentLineNumber
        need(len(open_elements) <= MAX_DEPTH, f"{where}:{line}: nested more than {MAX_DEPTH} levels", "flatter XML")
        need(count <= MAX_ELEMENTS, f"{where}:{line}: more than {MAX_ELEMENTS} elements", "a smaller file")
        element = Element(tag, attributes, line=line)
        open_elements[-1].children.append(element)
        open_elements.append(element)
        texts.append([])

    def end(_: str) -> None:
        open_elements.pop().text = "".join(texts.pop())

    parser.StartDoctypeDeclHandler = refuse
    parser.EntityDeclHandler = refuse
    parser.ExternalEntityRefHandler = refuse  # type: ignore[assignment]
    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.CharacterDataHandler = lambda text: texts[-1].append(text)
    try:
        parser.Parse(data, True)
    except (expat.ExpatError, ValueError, LookupError) as error:
        line = parser.CurrentLineNumber
        raise UserError(f"{where}:{line}: broken XML ({shown(error)}), expected a sound XML file") from error
    return root.children[0]


def to_tree(element: Element) -> dict[str, Any]:
    """An element as a JSON object: "@name" for attributes, "#" for its text where it says something, and a list of
    objects for the children of each name."""
    tree: dict[str, Any] = {f"@{name}": value for name, value in element.attributes.items()}
    text = element.text if not element.children else element.text.strip()
    if text.strip():
        tree["#"] = text
    for child in element.children:
        tree.setdefault(child.tag, []).append(to_tree(child))
    return tree


def element_of(tag: str, tree: Any) -> Element:
    """The element of a tree; what is of another form than `to_tree` makes is passed over."""
    element = Element(tag)
    for key, value in tree.items() if isinstance(tree, dict) else ():
        if key == "#" and isinstance(value, str):
            element.text = value
        elif _NAME.fullmatch(key) is None:
            continue
        elif key.startswith("@") and isinstance(value, str):
            element.attributes[key[1:]] = value
        elif not key.startswith("@") and isinstance(value, list):
            element.children += [element_of(key, item) for item in value]
    return element


def to_xml(element: Element) -> tuple[bytes, int]:
    """The document, and how many characters XML cannot hold were replaced by U+FFFD."""
    lines = ['<?xml version="1.0" encoding="utf-8"?>']
    _write(element, 0, lines)
    text, count = _FORBIDDEN.subn("\ufffd", "\n".join(lines) + "\n")
    return text.encode(), count


def _write(element: Element, level: int, lines: list[str]) -> None:
    marks = {"\n": "&#10;", "\r": "&#13;", "\t": "&#9;", '"': "&quot;"}
    attributes = "".join(f' {name}="{escape(value, marks)}"' for name, value in element.attributes.items())
    start = "  " * level + f"<{element.tag}{attributes}"
    text = escape(element.text, {"\r": "&#13;"})
    if element.children:
        lines.append(f"{start}>{text}")
        for child in element.children:
            _write(child, level + 1, lines)
        lines.append("  " * level + f"</{element.tag}>")
    else:
        lines.append(f"{start}>{text}</{element.tag}>" if text else f"{start}/>")
