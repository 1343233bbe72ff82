"""The label set in the `meta` of a CVAT file: names, colours, attributes with their kinds."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ..shapes import AnnotationSet, AttributeDefinition, AttributeKind, Label
from .fields import image_raw, placed
from .leftovers import leftover, restored
from .xml import Element, element_of, to_tree

__all__ = ["attribute_kinds", "read_labels", "write_labels"]

NAME = "cvat"
_KINDS: dict[str, AttributeKind] = {
    "select": "select", "radio": "select", "checkbox": "checkbox", "number": "number", "text": "text",
}  # fmt: skip


def read_labels(meta: Element | None, where: str) -> tuple[list[Label], dict[str, Any]]:
    """The labels of a file's `meta`, and the tree of `meta` without them; the second of a name, as parts of skeletons
    have it, stays in the tree."""
    labels: dict[str, Label] = {}
    if meta is None:
        return [], {}
    for part in meta.children:
        listed = part.first("labels")
        rest = []
        for element in listed.children if listed is not None else ():
            name = element.value("name")
            if element.tag != "label" or not name or name in labels:
                rest.append(element)
                continue
            with placed(f"{where}:{element.line}"):
                label = _label(element, name)
            raw = {NAME: {"left": leftover(to_tree(element), _made(label))}}
            labels[name] = Label(name, label.color, label.attributes, raw)
        if listed is not None:
            listed.children = rest
    return list(labels.values()), to_tree(meta)


def _label(element: Element, name: str) -> Label:
    color = element.value("color").lower()
    plain = len(color) == 7 and color[0] == "#" and not set(color[1:]) - set("0123456789abcdef")
    listed = element.first("attributes")
    found: dict[str, AttributeDefinition] = {}
    for item in listed.children if listed is not None else ():
        kind = _KINDS.get(item.value("input_type"), "text")
        options = tuple(dict.fromkeys(filter(None, (line.strip() for line in item.value("values").splitlines()))))
        if not options and kind == "select":
            kind = "text"
        if item.value("name"):
            own = AttributeDefinition(
                item.value("name"), kind, options if kind == "select" else (), item.value("default_value") or None
            )
            found.setdefault(own.name, own)
    return Label(name, color if plain else "", tuple(found.values()))


def _made(label: Label) -> dict[str, Any]:
    rows = []
    for item in label.attributes:
        values = "\n".join(item.options)
        default = "" if item.default is None else str(item.default)
        texts = {
            "name": item.name,
            "mutable": "False",
            "input_type": item.kind,
            "default_value": default,
            "values": values,
        }
        rows.append({key: [{"#": text} if text.strip() else {}] for key, text in texts.items()})
    tree: dict[str, Any] = {"name": [{"#": label.name}]}
    if label.color:
        tree["color"] = [{"#": label.color}]
    return tree | {"attributes": [{"attribute": rows} if rows else {}]}


def write_labels(annotations: AnnotationSet, kept: Any) -> Element:
    """The `meta` element: what was kept of it, with the labels of the set and those that are used."""
    kept = kept if isinstance(kept, dict) and kept else {"task": [{"labels": [{}]}]}
    meta = element_of("meta", kept)
    part = next((child for child in meta.children if child.first("labels") is not None), None)
    if part is None:
        part = Element("task")
        part.children.append(Element("labels"))
        meta.children.append(part)
    home = part.first("labels")
    assert home is not None
    rest, home.children = home.children, []
    known = {label.name: label for label in annotations.labels}
    for name, kinds in attribute_kinds(annotations).items():
        label = known.get(name, Label(name))
        have = {item.name for item in label.attributes}
        more = tuple(AttributeDefinition(key, kind) for key, kind in kinds.items() if key not in have and key.strip())
        made = _made(replace(label, attributes=(*label.attributes, *more)))
        home.children.append(element_of("label", restored(made, image_raw(label, NAME).get("left"))))
    home.children += rest
    return meta


def attribute_kinds(annotations: AnnotationSet) -> dict[str, dict[str, AttributeKind]]:
    """label -> attribute -> kind: as the set defines it, else as all values of other sources agree, else text. Labels
    in the order of the set, then of their use."""
    found = {label.name: {item.name: item.kind for item in label.attributes} for label in annotations.labels}
    defined = {(label, name) for label, kinds in found.items() for name in kinds}
    for image in annotations.images:
        for annotation in image.annotations:
            if annotation.label is None:
                continue
            own = found.setdefault(annotation.label, {})
            for name, value in annotation.attributes.items() if NAME not in annotation.raw else ():
                kind: AttributeKind = "text"
                kind = "checkbox" if isinstance(value, bool) else "number" if isinstance(value, int | float) else kind
                if (annotation.label, name) not in defined and own.setdefault(name, kind) != kind:
                    own[name] = "text"
    return found
