"""Contract A by properties: files with unknown keys everywhere, read and written again in their own format."""

from __future__ import annotations

import copy
import json
import random
import tempfile
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from bessemer.annotation.formats.choices import Choices
from bessemer.annotation.formats.leftovers import leftover, restored, same
from bessemer.annotation.formats.table import read, write
from bessemer.annotation.formats.xml import Element, parse_xml, to_tree, to_xml
from bessemer.annotation.shapes import AnnotationSet
from drawn_annotations import json_values, objects
from drawn_sets import sets
from photographing import photographs

UNKNOWN: list[Any] = [None, 0, 1.5, "x-1.2.3", [], {}, [{"深": ["a", None]}], {"nested": {"deep": True}}]
CLOSED = {"bessemer"}  # our own object is no place for others


def sprinkle(value: Any, dice: random.Random) -> None:
    """Put unknown keys into objects of a file, at every depth."""
    if isinstance(value, dict):
        for key, item in value.items():
            if key not in CLOSED and key not in ("attributes", "flags", "ranker"):
                sprinkle(item, dice)
        if dice.random() < 0.7:
            value[f"unknown {dice.randrange(3)}"] = copy.deepcopy(dice.choice(UNKNOWN))
    elif isinstance(value, list):
        for item in value:
            sprinkle(item, dice)


def sprinkle_xml(element: Element, dice: random.Random) -> None:
    for child in element.children:
        if child.tag not in ("attributes", "attribute", "bndbox", "size", "labels", "label"):
            sprinkle_xml(child, dice)
    if element.tag in ("object", "box", "polygon", "image", "annotation", "annotations", "task"):
        element.attributes["unknown"] = f'"<{dice.randrange(9)}>&\n'
        element.children.append(Element("unknown", {"深": "x"}, "text", []))


def told(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for file in folder.rglob("*"):
        if file.suffix == ".json":
            found[file.name] = top = json.loads(file.read_text(encoding="utf-8"))
            if "annotations" in top and isinstance(top, dict):
                top["annotations"].sort(key=lambda row: row["id"])
                top["images"].sort(key=lambda row: row["id"])  # the order of COCO's rows says nothing
        elif file.suffix == ".xml" and file.name != "label_config.xml":
            found[file.name] = to_tree(parse_xml(file.read_bytes(), file.name))
        elif file.suffix == ".yaml":
            found[file.name] = yaml.safe_load(file.read_text(encoding="utf-8"))
        elif file.suffix == ".txt":
            found[file.name] = file.read_text(encoding="utf-8")
    return found


@pytest.mark.parametrize("format", ["coco", "labelme", "x-anylabeling", "label-studio", "voc", "cvat", "yolo"])
@settings(deadline=None, max_examples=40)
@given(drawn=sets(), seed=st.integers(0, 2**32))
def test_unknown_keys_everywhere_survive(format: str, drawn: AnnotationSet, seed: int) -> None:
    drawn = AnnotationSet(tuple(i for i in drawn.images if Path(i.name).suffix), drawn.labels)
    if not drawn.images:
        return
    dice = random.Random(seed)
    with tempfile.TemporaryDirectory() as place:
        folder, first, second = photographs(Path(place, "photos"), drawn.images), Path(place, "1"), Path(place, "2")
        task = write(drawn, first, format).choices.get("task", "auto")
        for file in first.rglob("*"):
            if file.suffix == ".json":
                top = json.loads(file.read_text(encoding="utf-8"))
                sprinkle(top, dice)
                file.write_text(json.dumps(top), encoding="utf-8")
            elif file.suffix == ".xml" and file.name != "label_config.xml":
                root = parse_xml(file.read_bytes(), file.name)
                sprinkle_xml(root, dice)
                file.write_bytes(to_xml(root)[0])
        found, _ = read(first, format, folder, Choices(task=task))
        report = write(found, second, format)
        before, after = told(first), told(second)
        assert before.keys() == after.keys()
        for name, top in before.items():
            assert same(top, after[name]), f"{name}\n{top}\n{after[name]}"
        assert report.losses == ()


@settings(deadline=None)
@given(row=objects, made=objects, now=objects)
def test_leftovers_by_definition(row: dict[str, Any], made: dict[str, Any], now: dict[str, Any]) -> None:
    """Unchanged: the row itself. Changed: every key that was made anew has its new value."""
    left = leftover(row, made)
    assert same(restored(made, left), row)
    written = restored(now, left)
    for key, value in now.items():
        if key not in made or not same(value, made[key]):
            assert key in written or key in row
            merged = isinstance(value, dict) and isinstance(made.get(key), dict)
            if not merged and not (key in row and key not in made):
                assert same(written[key], value)
    for key, value in row.items():
        if key not in made and key not in now:
            assert same(written[key], value)
    assert leftover(row, row) == {}


@given(json_values, json_values)
def test_same_is_equality_of_json(one: Any, other: Any) -> None:
    assert same(one, one) and same(one, other) == same(other, one)
    if same(one, other):
        assert json.loads(json.dumps(one)) == json.loads(json.dumps(other))


def test_one_is_not_true() -> None:
    assert same(1, 1.0) and not same(1, True) and not same([0], [False]) and not same({"a": None}, {})


def test_leftovers_of_anything() -> None:
    for left in (None, [], "x", {"row": 1}, {"row": {"a": 1}, "was": [], "inside": {"b": 3}}):
        assert restored({"b": {"c": 2}}, left)["b"] == {"c": 2}
