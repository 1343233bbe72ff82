"""Label Studio: who answered, shapes that were changed, labels and choices apart."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bessemer.annotation.documents import documents
from bessemer.annotation.formats.exchange import bring_in
from bessemer.annotation.formats.table import read, write
from bessemer.annotation.formats.xml import parse_xml
from bessemer.annotation.geometry import iou
from bessemer.annotation.intake import add_folder
from bessemer.annotation.shapes import AnnotatedImage, Annotation, AnnotationSet, Box, Polygon
from bessemer.annotation.store import create_project
from bessemer.errors import UserError
from photographing import photograph

SIZE = {"original_width": 40, "original_height": 30, "image_rotation": 0}


def result(id: str, type: str, **value: Any) -> dict[str, Any]:
    return {"id": id, "type": type, "from_name": "e", "to_name": "image", **SIZE, "value": value}


def rectangle(id: str) -> dict[str, Any]:
    return result(id, "rectanglelabels", x=50, y=50, width=10, height=10, rotation=0, rectanglelabels=["c"])


def tasks(folder: Path, *rows: dict[str, Any]) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "tasks.json").write_text(json.dumps(rows), encoding="utf-8")
    return folder


def test_documents_are_of_those_who_answered(tmp_path: Path) -> None:
    """Nothing to see is an answer; a task that nobody began, a cancelled one and a prediction are none."""
    rows = {
        "a": {
            "annotations": [{"completed_by": "bob", "result": []}],
            "predictions": [{"model_version": "m", "result": [rectangle("p")]}],
        },
        "b": {"annotations": []},
        "c": {
            "annotations": [{"completed_by": "ann", "result": [rectangle("q")]}, {"completed_by": "bob", "result": []}]
        },
        "d": {"annotations": [{"completed_by": "ann", "was_cancelled": True, "result": [rectangle("q")]}]},
    }
    for name in rows:
        photograph(tmp_path / "in" / f"{name}.jpg", 40, 30)
    tasks(tmp_path / "in", *({"data": {"image": f"{name}.jpg"}, **row} for name, row in rows.items()))
    annotations, notes = read(tmp_path / "in", "label-studio")
    assert any("cancelled" in remark for remark in notes.remarks)
    with create_project(tmp_path / "project", "p") as project:
        ids = dict(zip(rows, add_folder(project, tmp_path / "in").ids, strict=True))
        bring_in(project, annotations, "label-studio")
        found = {
            name: {item.annotator: len(item.annotations) for item in documents(project, id)} for name, id in ids.items()
        }
    assert found == {"a": {"bob": 0}, "b": {}, "c": {"ann": 1, "bob": 0}, "d": {}}
    write(annotations, tmp_path / "out", "label-studio")
    before = json.loads((tmp_path / "in" / "tasks.json").read_text())
    after = json.loads((tmp_path / "out" / "tasks.json").read_text())
    assert after == before


def test_an_image_with_nothing_on_it_is_written_as_an_answer(tmp_path: Path) -> None:
    write(AnnotationSet((AnnotatedImage("a.jpg", 40, 30),)), tmp_path / "out", "label-studio")
    (task,) = json.loads((tmp_path / "out" / "tasks.json").read_text())
    assert task["annotations"] == [{"result": []}]


def changed(folder: Path, out: Path, shape: Any) -> dict[str, Any]:
    """The row that is written once the only annotation of a folder has another shape."""
    found, _ = read(folder, "label-studio")
    (image,) = found.images
    (one,) = image.annotations
    new = shape(one.shape) if callable(shape) else shape
    write(replace(found, images=(replace(image, annotations=(replace(one, shape=new),)),)), out, "label-studio")
    (row,) = json.loads((out / "tasks.json").read_text())[0]["annotations"][0]["result"]
    back = read(out, "label-studio")[0].images[0].annotations[0].shape
    assert back is not None and iou(back, new) > 1 - 1e-6
    return dict(row)


def test_an_ellipse_that_was_moved_is_a_polygon(tmp_path: Path) -> None:
    row = result("r", "ellipselabels", x=50, y=50, radiusX=10, radiusY=10, rotation=0, ellipselabels=["c"])
    folder = tasks(tmp_path / "in", {"data": {"image": "a.jpg"}, "annotations": [{"result": [{**row, "mine": 7}]}]})
    assert changed(folder, tmp_path / "same", lambda shape: shape) == {**row, "mine": 7}

    def moved(shape: Polygon) -> Polygon:
        return Polygon(((tuple((x + 5, y) for x, y in shape.parts[0][0]),),))

    found = changed(folder, tmp_path / "moved", moved)
    assert (found["type"], found["from_name"], found["mine"]) == ("polygonlabels", "polygon", 7)
    assert set(found["value"]) == {"points", "closed", "polygonlabels"}


def test_another_kind_of_shape_takes_nothing_of_the_old_one(tmp_path: Path) -> None:
    row = result("r", "keypointlabels", x=50, y=50, width=0.3, keypointlabels=["c"])
    folder = tasks(tmp_path / "in", {"data": {"image": "a.jpg"}, "annotations": [{"result": [row]}]})
    found = changed(folder, tmp_path / "box", Box(1, 2, 0.2, 3))
    assert found["value"]["width"] == pytest.approx(0.5) and found["from_name"] == "rectangle"


def again(folder: Path, out: Path) -> Any:
    write(read(folder, "label-studio")[0], out, "label-studio")
    return json.loads((out / "tasks.json").read_text())


def test_a_label_beside_its_shape(tmp_path: Path) -> None:
    """`<Labels>` with `<Rectangle>`, as the template for reading texts has it."""
    place = {"x": 10, "y": 10, "width": 10, "height": 10, "rotation": 0}
    rows = [
        result("r", "rectangle", **place),
        result("r", "labels", **place, labels=["Text"]),
        result("r", "textarea", **place, text=["hello"]),
    ]
    task = {"data": {"image": "a.jpg"}, "annotations": [{"result": rows}]}
    folder = tasks(tmp_path / "in", task)
    found, notes = read(folder, "label-studio")
    (image,) = found.images
    (one,) = image.annotations
    assert (one.label, one.text, notes.remarks) == ("Text", "hello", ())
    assert again(folder, tmp_path / "same") == [task]
    new = replace(one, label="Title", shape=Box(8, 3, 4, 3))
    write(replace(found, images=(replace(image, annotations=(new,)),)), tmp_path / "new", "label-studio")
    (back,) = read(tmp_path / "new", "label-studio")[0].images[0].annotations
    assert (back.label, back.shape) == ("Title", Box(8, 3, 4, 3))
    box, label, _ = json.loads((tmp_path / "new" / "tasks.json").read_text())[0]["annotations"][0]["result"]
    assert "rectanglelabels" not in box["value"] and label["value"]["labels"] == ["Title"]
    assert label["value"]["x"] == box["value"]["x"] == 20


def test_what_is_read_as_less_is_said(tmp_path: Path) -> None:
    ellipse = result("e", "ellipselabels", x=50, y=50, radiusX=10, radiusY=10, rotation=0, ellipselabels=["c"])
    two = rectangle("two")
    two["value"]["rectanglelabels"] = ["c", "d"]
    task = {"data": {"image": "a.jpg"}, "annotations": [{"result": [ellipse, two]}]}
    folder = tasks(tmp_path / "in", task)
    _, notes = read(folder, "label-studio")
    assert "region e is an ellipse, read as a polygon of 64" in notes.remarks[0]
    assert "region two has 2 labels; c is read" in notes.remarks[1]
    assert again(folder, tmp_path / "out") == [task]


def test_a_label_of_nothing_stays_in_its_task(tmp_path: Path) -> None:
    row = result("r", "labels", start=0, end=3, labels=["Text"])
    task = {"data": {"image": "a.jpg", "width": 40, "height": 30}, "annotations": [{"result": [row]}]}
    assert again(tasks(tmp_path / "in", task), tmp_path / "out") == [task]


@pytest.mark.parametrize("groups", [{"predictions": []}, {"completions": [{"result": []}]}, {"annotations": None}, {}])
def test_empty_groups_stay_as_they_are(tmp_path: Path, groups: dict[str, Any]) -> None:
    task = {"data": {"image": "a.jpg", "width": 40, "height": 30}, **groups}
    assert again(tasks(tmp_path / "in", task), tmp_path / "out") == [task]


def test_attributes_do_not_take_the_names_of_controls(tmp_path: Path) -> None:
    said = (
        Annotation("1", "x", attributes={"label": "y"}),
        Annotation("2", "x", Box(1, 1, 2, 2), text="t", attributes={"text": "y", "rectangle": "q", "label": "z"}),
    )
    write(AnnotationSet((AnnotatedImage("a.jpg", 40, 30, annotations=said),)), tmp_path / "out", "label-studio")
    config = parse_xml((tmp_path / "out" / "label_config.xml").read_bytes(), "config")
    names = [child.attributes["name"] for child in config.children]
    assert len(set(names)) == len(names)
    first, second = read(tmp_path / "out", "label-studio")[0].images[0].annotations
    assert first.attributes == {"label": "y"} and second.attributes == said[1].attributes


@pytest.mark.parametrize(
    "wrong", [{"type": ["x"], "value": {}}, {"type": "choices", "value": {}, "bessemer": {"attributes": 5}}]
)
def test_results_of_another_form_are_no_fault_of_ours(tmp_path: Path, wrong: dict[str, Any]) -> None:
    task = {"data": {"image": "a.jpg", "width": 40, "height": 30}, "annotations": [{"result": [wrong]}]}
    if "bessemer" in wrong:
        with pytest.raises(UserError, match="attributes in 'bessemer' is '5', expected an object"):
            read(tasks(tmp_path / "in", task), "label-studio")
    else:
        assert again(tasks(tmp_path / "in", task), tmp_path / "out") == [task]


def test_an_ellipse_is_another_kind_elsewhere_and_a_polygon_is_not(tmp_path: Path) -> None:
    ellipse = result("e", "ellipselabels", x=50, y=50, radiusX=10, radiusY=10, rotation=0, ellipselabels=["c"])
    ring = result("p", "polygonlabels", points=[[10, 10], [50, 10], [50, 60]], polygonlabels=["c"])
    task = {"data": {"image": "a.jpg"}, "annotations": [{"result": [ellipse, ring]}]}
    found, _ = read(tasks(tmp_path / "in", task), "label-studio")
    losses = write(found, tmp_path / "out", "coco").losses
    assert [(loss.kind, loss.annotation) for loss in losses if loss.kind == "kind"] == [("kind", "e")]
