"""CVAT: shapes that are redrawn, labels that stand twice, and who drew a shape."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from bessemer.annotation.formats.table import read, write
from bessemer.annotation.formats.xml import Element, parse_xml, to_tree
from bessemer.annotation.shapes import AnnotatedImage, Annotation, AnnotationSet, Box, Label, Polygon
from bessemer.errors import UserError

OWN = {"occluded": "1", "z_order": "4", "group_id": "7"}
TRIANGLE = Polygon(((((1, 1), (5, 1), (5, 6)),),))
META = """<meta><task><labels>
<label><name>x</name><color>#ff0000</color><attributes/></label>
<label><name>hand</name><type>skeleton</type><attributes/></label>
<label><name>1</name><type>points</type><parent>hand</parent><attributes/></label>
<label><name>1</name><type>points</type><parent>foot</parent><attributes/></label>
</labels></task></meta>"""


def cvat(folder: Path, *shapes: str, meta: str = META) -> None:
    own = " ".join(f'{key}="{value}"' for key, value in OWN.items())
    rows = "".join(f'<{shape} label="x" source="manual" {own}/>' for shape in shapes)
    image = f'<image id="0" name="a.jpg" width="64" height="48">{rows}</image>'
    folder.mkdir()
    (folder / "a.xml").write_text(f"<annotations><version>1.1</version>{meta}{image}</annotations>")


def image_of(folder: Path) -> Element:
    element = parse_xml((folder / "a.xml").read_bytes(), "a.xml").first("image")
    assert element is not None
    return element


def test_a_redrawn_shape_keeps_what_is_not_its_shape(tmp_path: Path) -> None:
    cvat(tmp_path / "in", 'box xtl="1" ytl="1" xbr="5" ybr="5" rotation="9"', 'ellipse cx="20" cy="20" rx="5" ry="4"')
    found, notes = read(tmp_path / "in", "cvat")
    assert "ellipses taken as polygons of 64 corners: 1" in notes.remarks
    assert write(found, tmp_path / "same", "cvat").losses == ()
    assert to_tree(image_of(tmp_path / "same")) == to_tree(image_of(tmp_path / "in"))
    assert write(found, tmp_path / "coco", "coco").counts()["kind"] == 2  # a rotated box, an ellipse
    (image,) = found.images
    redrawn = tuple(replace(annotation, shape=TRIANGLE) for annotation in image.annotations)
    report = write(replace(found, images=(replace(image, annotations=redrawn),)), tmp_path / "out", "cvat")
    assert report.counts() == {"kind": 1}
    for element in image_of(tmp_path / "out").children:
        assert element.tag == "polygon" and element.attributes.items() >= OWN.items()
        assert set(element.attributes) == {"label", "source", "points", *OWN}


def test_the_second_label_of_a_name_stays(tmp_path: Path) -> None:
    cvat(tmp_path / "in", 'box xtl="1" ytl="1" xbr="5" ybr="5"')
    found, _ = read(tmp_path / "in", "cvat")
    assert [label.name for label in found.labels] == ["x", "hand", "1"]
    write(found, tmp_path / "out", "cvat")
    before, after = (parse_xml((tmp_path / place / "a.xml").read_bytes(), "a.xml") for place in ("in", "out"))
    assert to_tree(after) == to_tree(before)


def test_a_prediction_comes_back_as_one(tmp_path: Path) -> None:
    said = (Annotation("1", "x", Box(1, 1, 5, 5), source="prediction"), Annotation("2", "x", Box(2, 1, 5, 5)))
    image = AnnotatedImage("a.jpg", 64, 48, annotations=said)
    write(AnnotationSet((image,), (Label("x"),)), tmp_path / "out", "cvat")
    found, _ = read(tmp_path / "out", "cvat")
    assert [annotation.source for annotation in found.images[0].annotations] == ["prediction", "cvat"]


def test_messages_name_the_line(tmp_path: Path) -> None:
    cvat(tmp_path / "in", meta=META.replace("hand", "h" * 1_001))
    with pytest.raises(UserError, match=r"a\.xml:3: .* has 1001 characters"):
        read(tmp_path / "in", "cvat")
    (tmp_path / "in" / "a.xml").write_text('<annotations><image name="a.jpg" width="x" height="2"/></annotations>')
    with pytest.raises(UserError, match=r"a\.xml:1: width is 'x', expected a number"):
        read(tmp_path / "in", "cvat")
