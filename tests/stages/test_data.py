from __future__ import annotations

import json
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from bessemer.annotation.documents import documents, label_set, save
from bessemer.annotation.formats.exchange import bring_in
from bessemer.annotation.formats.ranked import read_rankings, write_rankings
from bessemer.annotation.intake import add_folder, kept
from bessemer.annotation.predictions import predictions
from bessemer.annotation.rankings import rankings
from bessemer.annotation.shapes import AnnotatedImage, Annotation, AnnotationSet, Box, Label
from bessemer.annotation.snapshot import create_snapshot
from bessemer.annotation.store import create_project, open_project
from bessemer.errors import UserError
from bessemer.stages.data import Config, run
from photographing import photograph

SIZE = {"original_width": 40, "original_height": 30, "image_rotation": 0}


def rectangle(id: str, label: str, x: float) -> dict[str, object]:
    value = {"x": x, "y": 10, "width": 50, "height": 20, "rotation": 0, "rectanglelabels": [label]}
    return {"id": id, "type": "rectanglelabels", "from_name": "box", "to_name": "image", **SIZE, "value": value}


@pytest.fixture
def tasks(tmp_path: Path) -> Path:
    """Two people and a model on one image, nothing on another, a ranking and a comparison."""
    folder = tmp_path / "tasks"
    for name in ("a.jpg", "b.jpg"):
        photograph(folder / "photos" / name, 40, 30)
    ranker = {
        "type": "ranker",
        "from_name": "clarity",
        "to_name": "items",
        "value": {"ranker": {"clarity": ["y", "x"]}},
    }
    pair = {"type": "pairwise", "from_name": "better", "to_name": "text1,text2", "value": {"selected": "right"}}
    items = [{"id": "x", "title": "X", "body": "one"}, {"id": "y", "body": "two"}, {"id": "z", "body": "three"}]
    rows = [
        {"id": 1, "data": {"image": "/data/upload/1/0a1b2c3d-a.jpg"}, "annotations": [
            {"id": 1, "completed_by": {"id": 3, "email": "w@x.cn"}, "result": [rectangle("r", "裂纹", 10)]},
            {"id": 2, "completed_by": 4, "result": [rectangle("r", "dirt", 20)], "was_cancelled": False},
        ], "predictions": [{"model_version": "m1", "score": 0.5, "result": [rectangle("p", "dirt", 30)]}]},
        {"id": 2, "data": {"image": "s3://bucket/photos/b.jpg"}, "annotations": []},
        {"id": 3, "data": {"prompt": "Which?", "items": items},
         "annotations": [{"completed_by": 4, "result": [ranker]}]},
        {"id": 4, "data": {"text1": "A", "text2": "B"}, "annotations": [{"completed_by": 4, "result": [pair]}]},
    ]  # fmt: skip
    (folder / "tasks.json").write_text(json.dumps(rows), encoding="utf-8")
    return folder


def test_from_label_studio_into_a_project_and_out(
    tmp_path: Path, tasks: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "project"
    run(Config("import", str(tasks), str(target)))
    with open_project(target) as project:
        with project.read() as db:
            ids = dict(db.execute("SELECT name, id FROM images").fetchall())
        assert sorted(ids) == ["photos/a.jpg", "photos/b.jpg"]
        by = {item.annotator: item for item in documents(project, ids["photos/a.jpg"])}
        assert {who: item.annotations[0].label for who, item in by.items()} == {"w@x.cn": "裂纹", "4": "dirt"}
        assert by["4"].state == "submitted" and by["4"].annotations[0].shape == Box(8, 3, 20, 6)
        (proposed,) = predictions(project, ids["photos/a.jpg"], "4")
        assert (proposed.model_version, proposed.score, proposed.annotation.shape) == ("m1", 0.5, Box(12, 3, 20, 6))
        assert documents(project, ids["photos/b.jpg"]) == []
        assert label_set(project).labels == (Label("裂纹"), Label("dirt"))
        ranked = {item.id.rsplit("-", 1)[0]: item for item in rankings(project)}
        assert ranked["label-studio-3"].ranks == {"clarity": (2, 1, None)} and ranked["label-studio-3"].annotator == "4"
        assert ranked["label-studio-3"].responses == ("one", "two", "three")
        assert ranked["label-studio-4"].ranks == {"better": (2, 1)} and ranked["label-studio-4"].responses == ("A", "B")
    out = tmp_path / "coco"
    run(Config("export", str(target), str(out), to="coco", annotator="4", copy_images=True))
    top = json.loads((out / "annotations.json").read_text(encoding="utf-8"))
    assert [row["bbox"] for row in top["annotations"]] == [[8, 3, 20, 6]]
    assert (out / "images" / "photos" / "a.jpg").read_bytes() == (tasks / "photos" / "a.jpg").read_bytes()
    report = json.loads((tmp_path / "coco.report.json").read_text(encoding="utf-8"))
    assert report["written"]["format"] == "coco" and report["written"]["counts"].get("raw") == 2
    assert "what was lost" in capsys.readouterr().out


def test_two_documents_of_one_image_need_a_name(tmp_path: Path, tasks: Path) -> None:
    run(Config("import", str(tasks), str(tmp_path / "project")))
    with pytest.raises(UserError, match="name the annotator"):
        run(Config("export", str(tmp_path / "project"), str(tmp_path / "out"), to="coco"))


def test_an_export_of_nothing_is_refused(tmp_path: Path, tasks: Path) -> None:
    """Slips in states and annotator; of a project and of a snapshot; and rankings where they cannot go."""
    project = run(Config("import", str(tasks), str(tmp_path / "project")))
    with open_project(project) as opened:
        snapshot = create_snapshot(opened, ("submitted",)).directory
    wrong = Config("export", str(project), str(tmp_path / "out"), to="coco")
    for states in (["acepted"], ["todo", "accepted"], []):
        with pytest.raises(UserError, match="expected some of doing, submitted, accepted, rejected"):
            run(replace(wrong, states=states))
    for source in (project, snapshot):
        with pytest.raises(UserError, match=r"nothing by annotator 'w@x\.com' in .*, expected one of 4, w@x\.cn"):
            run(replace(wrong, source=str(source), annotator="w@x.com"))
    for more in ({}, {"annotator": "w@x.cn"}):
        with pytest.raises(UserError, match="no document.* that is accepted and no ranking .*expected something"):
            run(replace(wrong, states=["accepted"], **more))  # type: ignore[arg-type]
    assert not (tmp_path / "out").exists()
    run(replace(wrong, states=["accepted"], annotator="4", to="label-studio"))  # rankings alone
    assert (tmp_path / "out.rankings.json").is_file()


def test_an_archive_with_photographs(tmp_path: Path, tasks: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for path in tasks.rglob("*"):
            archive.write(path, path.relative_to(tasks))
    target = run(Config("import", str(tmp_path / "a.zip"), str(tmp_path / "project"), annotator="me"))
    with open_project(target) as project, project.read() as db:
        assert db.execute("SELECT count(*) FROM images").fetchone() == (2,)
    assert len(list((target / "photographs").glob("a-*/photos/a.jpg"))) == 1


def test_archives_of_one_name_keep_their_own_photographs(tmp_path: Path) -> None:
    """Label Studio and CVAT give every export the same name."""
    target = tmp_path / "project"
    for number, size in ((1, 40), (2, 50)):
        photograph(tmp_path / f"{number}.jpg", size, 30)
        (tmp_path / str(number)).mkdir()
        rows = {"images": [{"id": 1, "file_name": f"{number}.jpg", "width": size, "height": 30}], "annotations": []}
        with zipfile.ZipFile(tmp_path / str(number) / "export.zip", "w") as archive:
            archive.write(tmp_path / f"{number}.jpg", f"{number}.jpg")
            archive.writestr("a.json", json.dumps({**rows, "categories": [{"id": 1, "name": "a"}]}))
        run(Config("import", str(tmp_path / str(number) / "export.zip"), str(target), annotator="me"))
    with open_project(target) as project, project.read() as db:
        assert db.execute("SELECT name, width FROM images ORDER BY name").fetchall() == [("1.jpg", 40), ("2.jpg", 50)]


@pytest.mark.parametrize("data", [b"<svg/>", b"\x89PNG\r\n\x1a\n cut"])
def test_a_refused_archive_leaves_nothing(tmp_path: Path, data: bytes) -> None:
    rows = {"images": [{"id": 1, "file_name": "a.jpg", "width": 4, "height": 3}], "annotations": []}
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("a.json", json.dumps({**rows, "categories": []}))
        archive.writestr("b.png", data)
    with pytest.raises(UserError, match="expected"):
        run(Config("import", str(tmp_path / "a.zip"), str(tmp_path / "project")))
    assert [path.name for path in tmp_path.iterdir()] == ["a.zip"]


def test_predictions_find_their_image_as_people_do(tmp_path: Path, tasks: Path) -> None:
    """By the file name that only one image has; and a size that is wrong is refused before anything is saved."""
    guess = Annotation("1", "dirt", Box(1, 2, 3, 4), source="prediction", model_version="m1", score=0.5)
    image = AnnotatedImage("C:\\old\\a.jpg", 40, 30, annotations=(guess,))
    wrong = AnnotatedImage("b.jpg", 41, 30, annotations=(Annotation("1", "dirt", Box(1, 2, 3, 4)),))
    with create_project(tmp_path / "project", "p") as project:
        first, second = add_folder(project, tasks).ids
        found = bring_in(project, AnnotationSet((image, replace(image, name="none.jpg"))), "coco")
        assert found.predictions == {"m1": 1} and found.absent == ["none.jpg"]
        assert len(predictions(project, first, "")) == 1 and not predictions(project, second, "")
        with pytest.raises(UserError, match="41 x 30"):
            bring_in(
                project, AnnotationSet((replace(image, annotations=(replace(guess, source="human"),)), wrong)), "a"
            )
        assert not documents(project, first)


def test_convert_and_check(tmp_path: Path, tasks: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = run(Config("convert", str(tasks), str(tmp_path / "yolo"), to="yolo", copy_images=True))
    assert (out / "labels" / "photos" / "b.txt").read_text() == ""
    assert len((out / "labels" / "photos" / "a.txt").read_text().splitlines()) == 3
    run(Config("check", str(out), report=str(tmp_path / "found.json")))
    found = json.loads((tmp_path / "found.json").read_text(encoding="utf-8"))
    assert (
        found["images"] == 2 and found["images_without_annotations"] == 1 and found["labels"] == {"裂纹": 1, "dirt": 2}
    )
    assert "images without annotations: 1" in capsys.readouterr().out
    for wrong, message in (
        (Config("convert", "nowhere", str(tmp_path / "x")), "to '', expected a format: to=coco"),
        (Config("export", "nowhere", str(tmp_path / "y"), to="voc"), "nowhere is not there, expected an annotation"),
    ):
        with pytest.raises(UserError, match=message):
            run(wrong)
    with pytest.raises(UserError, match="expected an action"):
        run(Config())


def test_check_finds_what_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photograph(tmp_path / "images" / "a.jpg", 40, 30)
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "a.txt").write_text(
        "0 0.5 0.5 0.1 0.1\n0 0.5 0.5 0.1 0.1\n0 0.9 0.5 0.9 0.1\n0 0.5 0.5 0 0.1\n"
    )
    run(Config("check", str(tmp_path), report=str(tmp_path / "found.json")))
    wrong = json.loads((tmp_path / "found.json").read_text(encoding="utf-8"))["wrong"]
    # Without names of classes no label is listed.
    expected = {"outside": 1, "empty": 1, "twice": 1, "unlisted": 4}
    assert {name: len(places) for name, places in wrong.items()} == expected
    printed = capsys.readouterr().out
    assert "wrong, a label that the set does not list: 4, first images/a.jpg 1: 0" in printed
    assert "wrong, outside the photograph: 1" in printed


def test_rankings_to_label_studio_and_back(tmp_path: Path, tasks: Path) -> None:
    before, _ = read_rankings(tasks)
    rows, losses = write_rankings(before)
    (tmp_path / "r.json").write_text(json.dumps(rows))
    after, _ = read_rankings(tmp_path / "r.json")
    assert [(item.ranks, item.responses) for item in after] == [(item.ranks, item.responses) for item in before]
    assert {loss.kind for loss in losses} == {"author"}
    _, losses = write_rankings([replace(before[0], ranks={"clarity": (1, 1, None)})])
    assert any(loss.kind == "ties" for loss in losses)


def test_photographs_of_the_source_are_copied_too(tmp_path: Path) -> None:
    """With a folder of images named, one of them may still lie in the source."""
    photograph(tmp_path / "in" / "a.jpg", 40, 30)
    photograph(tmp_path / "photos" / "b.jpg", 40, 30)
    rows = [{"id": n, "file_name": f"{name}.jpg", "width": 40, "height": 30} for n, name in enumerate("ab", 1)]
    (tmp_path / "in" / "a.json").write_text(json.dumps({"images": rows, "annotations": [], "categories": []}))
    config = Config("convert", str(tmp_path / "in"), str(tmp_path / "out"), to="voc", copy_images=True)
    run(replace(config, images=str(tmp_path / "photos")))
    assert sorted(path.name for path in (tmp_path / "out" / "JPEGImages").iterdir()) == ["a.jpg", "b.jpg"]


def test_what_a_file_says_of_images_goes_through_a_project(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """And what it says as a whole; of what comes in a second time and says something else, the first stays."""
    photograph(tmp_path / "in" / "a.jpg", 40, 30)
    picture = {"id": 77, "file_name": "a.jpg", "width": 40, "height": 30, "license": 1, "coco_url": "u"}
    row = {"id": 9, "image_id": 77, "category_id": 4, "bbox": [1, 2, 3, 4], "area": 12, "iscrowd": 0, "mine": 1}
    top = {"info": {"v": 1}, "images": [picture], "categories": [{"id": 4, "name": "x", "supercategory": "s"}]}
    whole = {**top, "annotations": [{**row, "segmentation": []}]}
    (tmp_path / "in" / "a.json").write_text(json.dumps(whole))
    run(Config("import", str(tmp_path / "in"), str(tmp_path / "project"), report=str(tmp_path / "in.json")))
    brought = json.loads((tmp_path / "in.json").read_text())["brought"]
    assert brought["unkept"] == []
    out = run(Config("export", str(tmp_path / "project"), str(tmp_path / "out"), to="coco"))
    (file,) = out.glob("*.json")
    assert file.name == "a.json" and json.loads(file.read_text()) == whole
    report = json.loads((tmp_path / "out.report.json").read_text())["written"]
    assert report["losses"] == [] and "nothing was lost" in capsys.readouterr().out
    picture["license"] = 2  # the image is there already with what was said of it
    (tmp_path / "in" / "a.json").write_text(json.dumps({**top, "info": {"v": 2}, "annotations": []}))
    run(Config("import", str(tmp_path / "in"), str(tmp_path / "project"), report=str(tmp_path / "in.json")))
    unkept = json.loads((tmp_path / "in.json").read_text())["brought"]["unkept"]
    assert unkept == [
        "keys of coco of a.jpg, which was in the project",
        "coco a.json of the whole set, which the project has otherwise",
    ]
    (tmp_path / "in" / "b.json").write_text(json.dumps({**top, "annotations": []}))
    with pytest.raises(UserError, match="annotator"):
        run(Config("import", str(tmp_path / "in"), str(tmp_path / "project"), annotator="bad\u202ename"))
    with open_project(tmp_path / "project") as project, project.read() as db:
        files = kept(db)["coco"]["files"]  # nothing of what was refused
        assert list(files) == ["a.json"] and files["a.json"]["info"] == {"v": 1}


YAML = """download: get.sh
path: .
train: images/train
names:
  0: crack
  1: spill
"""
CVAT = """<?xml version="1.0" encoding="utf-8"?>
<annotations>
  <version>1.1</version>
  <meta><task><id>31</id><name>night shift</name><labels><label><name>crack</name><color>#ff0000</color>
    <attributes></attributes></label></labels></task><dumped>2026-11-02 10:00:00+00:00</dumped></meta>
  <image id="3" name="a.jpg" width="40" height="30">
    <box label="crack" source="manual" occluded="0" xtl="1.00" ytl="2.00" xbr="4.00" ybr="6.00" z_order="0"></box>
  </image>
</annotations>
"""


@pytest.mark.parametrize(
    ("format", "files", "expected"),
    [
        (
            "yolo",
            {"data.yaml": YAML, "labels/train/a.txt": "1 0.5 0.5 0.1 0.2\n"},
            ["get.sh", "images/train", "1: spill"],
        ),
        ("cvat", {"annotations.xml": CVAT}, ["night shift", "<id>31</id>", "2026-11-02 10:00:00+00:00"]),
    ],
)
def test_what_a_set_says_as_a_whole_goes_through_project_and_snapshot(
    tmp_path: Path, format: str, files: dict[str, str], expected: list[str]
) -> None:
    photograph(tmp_path / "in" / ("images/train/a.jpg" if format == "yolo" else "a.jpg"), 40, 30)
    for name, text in files.items():
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / name).write_text(text)
    run(Config("import", str(tmp_path / "in"), str(tmp_path / "project")))
    with open_project(tmp_path / "project") as project:
        snapshot = create_snapshot(project, ("submitted",)).directory
    run(Config("convert", str(tmp_path / "in"), str(tmp_path / "direct"), to=format))
    direct = {path.relative_to(tmp_path / "direct"): path.read_bytes() for path in _files(tmp_path / "direct")}
    for source in (tmp_path / "project", snapshot):
        out = run(Config("export", str(source), str(tmp_path / f"out-{source.name}"), to=format))
        assert {path.relative_to(out): path.read_bytes() for path in _files(out)} == direct
    whole = direct[Path(next(iter(files)))].decode()
    assert [text for text in expected if text not in whole] == []


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def test_one_annotators_work_does_not_become_anothers_nothing(tmp_path: Path, tasks: Path) -> None:
    """The groups of Label Studio do not come out of a project empty."""
    run(Config("import", str(tasks), str(tmp_path / "project")))
    out = run(Config("export", str(tmp_path / "project"), str(tmp_path / "out"), to="label-studio", annotator="4"))
    (task,) = json.loads((out / "tasks.json").read_text(encoding="utf-8"))
    assert [len(group["result"]) for group in task["annotations"]] == [1]
    assert task["data"]["image"] == "/data/upload/1/0a1b2c3d-a.jpg"


def test_a_split_of_yolo_goes_through_a_project(tmp_path: Path) -> None:
    """In the folders that its data.yaml names; with a photograph that lies in none of them, all are where a new one
    says."""
    photograph(tmp_path / "in" / "train" / "images" / "a.jpg", 40, 30)
    (tmp_path / "in" / "train" / "labels").mkdir()
    (tmp_path / "in" / "train" / "labels" / "a.txt").write_text("0 0.5 0.5 0.1 0.1\n")
    (tmp_path / "in" / "data.yaml").write_text("train: train/images\nnames: {0: x}\nurl: u\n")
    run(Config("import", str(tmp_path / "in"), str(tmp_path / "project")))
    out = run(Config("export", str(tmp_path / "project"), str(tmp_path / "out"), to="yolo", copy_images=True))
    files = [path.relative_to(out).as_posix() for path in _files(out)]
    assert files == ["data.yaml", "train/images/a.jpg", "train/labels/a.txt"]
    assert yaml.safe_load((out / "data.yaml").read_text()) == {"train": "train/images", "names": {0: "x"}, "url": "u"}
    photograph(tmp_path / "more" / "b.jpg", 50, 30)
    with open_project(tmp_path / "project") as project:
        save(project, add_folder(project, tmp_path / "more").ids[0], "yolo", 0, [Annotation("1", "x", Box(1, 2, 3, 4))])
    out = run(Config("export", str(tmp_path / "project"), str(tmp_path / "all"), to="yolo", copy_images=True))
    about = yaml.safe_load((out / "data.yaml").read_text())
    assert about == {"train": "images", "val": "images", "task": "detect", "names": {0: "x"}, "url": "u"}
    assert sorted(path.name for path in (out / "images").rglob("*.jpg")) == ["a.jpg", "b.jpg"]
    assert "folders that data.yaml named" in (tmp_path / "all.report.json").read_text()


def test_rankings_alone_need_no_photographs(tmp_path: Path, tasks: Path) -> None:
    rows = json.loads((tasks / "tasks.json").read_text(encoding="utf-8"))[2:]
    (tmp_path / "ranked").mkdir()
    (tmp_path / "ranked" / "tasks.json").write_text(json.dumps(rows))
    run(Config("import", str(tmp_path / "ranked" / "tasks.json"), str(tmp_path / "project")))
    with open_project(tmp_path / "project") as project:
        assert len(rankings(project)) == 2


@pytest.mark.parametrize("place", [0, 2])
def test_a_bad_name_is_refused_before_anything_is_saved(tmp_path: Path, tasks: Path, place: int) -> None:
    """One of an annotator of images, one of a ranker."""
    rows = json.loads((tasks / "tasks.json").read_text(encoding="utf-8"))
    rows[place]["annotations"][-1]["completed_by"] = "bad\u202ename"
    (tasks / "tasks.json").write_text(json.dumps(rows))
    with create_project(tmp_path / "project", "p"):
        pass
    with pytest.raises(UserError, match="expected"):
        run(Config("import", str(tasks), str(tmp_path / "project")))
    with open_project(tmp_path / "project") as project, project.read() as db:
        assert db.execute("SELECT count(*) FROM documents").fetchone() == (0,)
        assert db.execute("SELECT count(*) FROM ranking_tasks").fetchone() == (0,)


def test_rankings_go_out_beside_the_tasks(tmp_path: Path, tasks: Path) -> None:
    run(Config("import", str(tasks), str(tmp_path / "project")))
    run(Config("export", str(tmp_path / "project"), str(tmp_path / "out"), to="label-studio", annotator="4"))
    after, remarks = read_rankings(tmp_path / "out.rankings.json")
    assert [(item.ranks, item.responses) for item in after] == [
        ({"clarity": (2, 1, None)}, ("one", "two", "three")),
        ({"better": (2, 1)}, ("A", "B")),
    ]
    report = json.loads((tmp_path / "out.report.json").read_text(encoding="utf-8"))["written"]
    assert remarks == [] and report["counts"]["author"] == 2
    run(Config("export", str(tmp_path / "project"), str(tmp_path / "voc"), to="voc", annotator="4"))
    assert not (tmp_path / "voc.rankings.json").exists()
