"""What goes between files of other tools and a project, and what does not."""

from __future__ import annotations

import json
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from bessemer.annotation.documents import documents, save
from bessemer.annotation.intake import add_folder
from bessemer.annotation.listing import image, image_file
from bessemer.annotation.predictions import import_predictions, predictions
from bessemer.annotation.shapes import Annotation, Box
from bessemer.annotation.store import create_project, open_project
from bessemer.errors import UserError
from bessemer.stages.data import Config, run
from photographing import photograph
from stages.test_data import rectangle


@pytest.fixture
def tasks(tmp_path: Path) -> Path:
    """Two people and a model on one image; another that nobody began."""
    folder = tmp_path / "tasks"
    for name in ("a.jpg", "b.jpg"):
        photograph(folder / "photos" / name, 40, 30)
    rows = [
        {"id": 1, "data": {"image": "/data/upload/1/0a1b2c3d-a.jpg"}, "annotations": [
            {"id": 1, "completed_by": {"id": 3, "email": "w@x.cn"}, "result": [rectangle("r", "裂纹", 10)]},
            {"id": 2, "completed_by": 4, "result": [rectangle("r", "dirt", 20)], "was_cancelled": False},
        ], "predictions": [{"model_version": "m1", "score": 0.5, "result": [rectangle("p", "dirt", 30)]}]},
        {"id": 2, "data": {"image": "s3://bucket/photos/b.jpg"}, "annotations": []},
    ]  # fmt: skip
    (folder / "tasks.json").write_text(json.dumps(rows), encoding="utf-8")
    return folder


def test_what_only_a_task_of_label_studio_holds_is_said(
    tmp_path: Path, tasks: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A project has no place for it; a conversion gives all of it back."""
    rows = json.loads((tasks / "tasks.json").read_text(encoding="utf-8"))[:1]
    (first, second), (model,) = rows[0]["annotations"], rows[0]["predictions"]
    relation = {"type": "relation", "from_id": "r", "to_id": "q", "direction": "right"}
    rating = {"id": "s", "type": "rating", "from_name": "stars", "to_name": "image", "value": {"rating": 4}}
    ranker = {"id": "t", "type": "ranker", "from_name": "c", "to_name": "i", "value": {"ranker": {"c": []}}}
    first["result"] += [relation, rating, ranker, rectangle("q", "dirt", 5), rectangle("q", "dirt", 6)]
    second["was_cancelled"] = True
    rows[0]["predictions"] = [17, model]
    (tasks / "tasks.json").write_text(json.dumps(rows))
    run(Config("import", str(tasks), str(tmp_path / "project"), report=str(tmp_path / "in.json")))
    printed, report = capsys.readouterr().out, json.loads((tmp_path / "in.json").read_text())
    assert report["brought"]["unkept"] == [
        "photos/a.jpg: results of type rating, rectanglelabels, relation, in the task of Label Studio alone",
        "photos/a.jpg: work that was cancelled, in the task of Label Studio alone",
        "photos/a.jpg: prediction 17, its number alone, in the task of Label Studio alone",
    ]
    assert "not kept: 3" in printed and printed.count("a conversion to Label Studio keeps it, a project") == 3
    assert "stays in its task" not in printed
    run(Config("convert", str(tasks), str(tmp_path / "direct"), to="label-studio"))
    assert json.loads((tmp_path / "direct" / "tasks.json").read_text(encoding="utf-8")) == rows


def test_predictions_go_out_where_they_stay_apart_and_are_counted_elsewhere(
    tmp_path: Path, tasks: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    project = run(Config("import", str(tasks), str(tmp_path / "project")))
    guess = Annotation("r", "dirt", Box(1, 2, 3, 4), score=0.25)
    with open_project(project) as opened:
        by_name = {name: id for id, name in enumerate(("photos/a.jpg", "photos/b.jpg"), 1)}
        import_predictions(opened, "m2", [(by_name["photos/b.jpg"], [guess])])
    config = Config("export", str(project), str(tmp_path / "one"), to="label-studio", annotator="4")
    out = run(config)
    (task,) = json.loads((out / "tasks.json").read_text(encoding="utf-8"))
    assert [row["id"] for group in task["annotations"] for row in group["result"]] == ["r"]
    ((model,), (box,)) = (task["predictions"], task["predictions"][0]["result"])
    assert (model["model_version"], box["score"], box["value"]) == ("m1", 0.5, rectangle("p", "dirt", 30)["value"])
    losses = json.loads((tmp_path / "one.report.json").read_text())["written"]["losses"]
    said = [loss["what"] for loss in losses if loss["kind"] == "predictions"]
    assert said == ["1 predictions of images that are not written; the project keeps them"]
    with open_project(project) as opened:  # nothing to see, which the prediction beside it does not take away
        save(opened, by_name["photos/b.jpg"], "4", 0, [])
    again = run(Config("import", str(run(replace(config, target=str(tmp_path / "all")))), str(tmp_path / "second"),
                       images=str(tasks)))  # fmt: skip
    with open_project(again) as opened:
        ids = {image(opened, id).name: id for id in (1, 2)}
        back = {name: predictions(opened, id, "") for name, id in ids.items()}
        assert [(p.model_version, p.score) for p in back["photos/a.jpg"]] == [("m1", 0.5)]
        assert [(p.model_version, p.annotation.shape) for p in back["photos/b.jpg"]] == [("m2", Box(1, 2, 3, 4))]
        (nothing,) = documents(opened, ids["photos/b.jpg"])
        assert nothing.annotations == ()
    capsys.readouterr()
    run(replace(config, target=str(tmp_path / "coco"), to="coco"))
    assert "2 predictions of models, which coco does not keep apart" in capsys.readouterr().out
    rows = json.loads((tmp_path / "coco" / "annotations.json").read_text(encoding="utf-8"))["annotations"]
    assert len(rows) == 1


def test_a_second_export_brings_annotations_and_what_is_new(tmp_path: Path) -> None:
    """Into a project of an archive, and into one of the folder: of the same project of a tool, worked on since. What is
    refused leaves no photographs behind."""
    photos = tmp_path / "photos"
    widths = {"a.jpg": 40, "b.jpg": 50}
    for name, width in widths.items():
        photograph(photos / name, width, 30)

    def export(name: str, box: int, *files: str) -> Path:
        rows = [
            {"id": n, "file_name": f, "width": 40 if f == "a.jpg" else 50, "height": 30} for n, f in enumerate(files)
        ]
        drawn = [{"id": 1, "image_id": 0, "category_id": 1, "bbox": [1, 2, box, 4]}]
        with zipfile.ZipFile(tmp_path / name, "w") as archive:
            for file in files:
                archive.write(photos / file, file)
            whole = {"images": rows, "annotations": drawn, "categories": [{"id": 1, "name": "x"}]}
            archive.writestr("a.json", json.dumps(whole))
            archive.writestr("broken.jpg", b"\xff\xd8\xff no")  # left out, in a second export too
        return tmp_path / name

    for place in (export("one.zip", 3, "a.jpg"), photos):
        target = tmp_path / f"of-{place.name}"
        if place.is_dir():
            with create_project(target, "p") as project:
                add_folder(project, place)
        else:
            run(Config("import", str(place), str(target), annotator="first"))
        run(Config("import", str(export("two.zip", 5, "a.jpg")), str(target), annotator="again"))
        run(Config("import", str(export("three.zip", 6, "a.jpg", "b.jpg")), str(target), annotator="third"))
        with open_project(target) as project:
            names = {image(project, id).name: id for id in (1, 2)}
            boxes = {item.annotator: item.annotations[0].shape for item in documents(project, names["a.jpg"])}
            assert boxes["again"] == Box(1, 2, 5, 4) and boxes["third"] == Box(1, 2, 6, 4)
            assert all(image_file(project, id).is_file() for id in names.values())
        unpacked = {f"{path.parent.name.split('-')[0]} {path.name}" for path in target.glob("photographs/*/*.jpg")}
        named = ("one a.jpg", "one broken.jpg", "three b.jpg", "three broken.jpg")
        assert unpacked == set(() if place.is_dir() else named)
        assert (target / "photographs").is_dir() == bool(unpacked)
    Image.new("L", (40, 30), 7).save(photos / "a.jpg")
    changed = export("four.zip", 5, "a.jpg")
    for target in (tmp_path / "of-one.zip", tmp_path / "of-photos"):
        before = sorted(target.rglob("*"))
        with pytest.raises(UserError, match="other bytes"):
            run(Config("import", str(changed), str(target), annotator="x"))
        assert sorted(target.rglob("*")) == before


def test_a_refused_import_leaves_an_empty_folder_empty(tmp_path: Path) -> None:
    (tmp_path / "project").mkdir()
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.json").write_text(json.dumps({"images": [], "annotations": [], "categories": []}))
    with pytest.raises(UserError, match="no readable photograph"):
        run(Config("import", str(tmp_path / "in"), str(tmp_path / "project")))
    assert list((tmp_path / "project").iterdir()) == []
