"""Label Studio: who answered, shapes that were changed, labels and choices apart."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from bessemer.annotation.documents import documents
from bessemer.annotation.formats.exchange import bring_in
from bessemer.annotation.formats.table import read, write
from bessemer.annotation.intake import add_folder
from bessemer.annotation.shapes import AnnotatedImage, AnnotationSet
from bessemer.annotation.store import create_project
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
