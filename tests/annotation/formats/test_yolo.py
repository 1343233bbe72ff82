"""YOLO: what Ultralytics takes, and where the text files and photographs are."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from bessemer.annotation.formats.choices import Choices
from bessemer.annotation.formats.table import read, write
from bessemer.annotation.shapes import AnnotatedImage, Annotation, AnnotationSet, Box, Label, Polygon, Shape
from bessemer.errors import UserError
from photographing import photograph


def one(*shapes: Shape, name: str = "a.jpg", score: float | None = None) -> AnnotationSet:
    said = tuple(Annotation(str(n), "x", shape, score=score) for n, shape in enumerate(shapes, 1))
    return AnnotationSet((AnnotatedImage(name, 64, 48, annotations=said),), (Label("x"),))


def rows(path: Path) -> list[list[float]]:
    return [[float(word) for word in line.split()] for line in path.read_text().splitlines()]


def test_a_row_has_a_score_if_it_had_one(tmp_path: Path) -> None:
    report = write(one(Box(1, 1, 5, 5), score=0.9), tmp_path / "new", "yolo")
    assert [len(row) for row in rows(tmp_path / "new" / "labels" / "a.txt")] == [5]
    assert report.counts() == {"score": 1}
    photograph(tmp_path / "in" / "images" / "a.jpg", 64, 48)
    (tmp_path / "in" / "labels").mkdir()
    text = "0 0.5 0.5 0.1 0.1 0.75\n0 0.5 0.5 0.2 0.2\n"
    (tmp_path / "in" / "labels" / "a.txt").write_text(text)
    report = write(read(tmp_path / "in", "yolo")[0], tmp_path / "out", "yolo")
    assert (tmp_path / "out" / "labels" / "a.txt").read_text() == text and report.losses == ()


@pytest.mark.parametrize(
    ("task", "shape", "expected"),
    [
        ("segment", Polygon(((((-1.0, 0.0), (65.0, 0.0), (65.0, 12.0)),),)), [0, 0, 0, 1, 0, 1, 0.25]),
        ("detect", Box(-64, 12, 96, 12), [0, 0.25, 0.375, 0.5, 0.25]),
    ],
)
def test_what_reaches_out_is_cut_off(tmp_path: Path, task: str, shape: Shape, expected: list[float]) -> None:
    report = write(one(shape), tmp_path / "out", "yolo", Choices(task=task))  # type: ignore[arg-type]
    assert rows(tmp_path / "out" / "labels" / "a.txt") == [expected] and report.counts() == {"clipped": 1}


def test_a_box_over_a_border_and_rows_of_a_file_stay(tmp_path: Path) -> None:
    photograph(tmp_path / "in" / "images" / "a.jpg", 64, 48)
    (tmp_path / "in" / "labels").mkdir()
    text = "0 0.9 0.5 0.4 0.1\n0 1.25 0.5 1.0 0.1\n"
    (tmp_path / "in" / "labels" / "a.txt").write_text(text)
    report = write(read(tmp_path / "in", "yolo")[0], tmp_path / "out", "yolo")
    assert (tmp_path / "out" / "labels" / "a.txt").read_text() == text and report.losses == ()


def test_paths_begin_where_the_file_is(tmp_path: Path) -> None:
    write(one(Box(1, 1, 5, 5)), tmp_path / "out", "yolo")
    assert "path" not in yaml.safe_load((tmp_path / "out" / "data.yaml").read_text())


def files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.suffix != ".yaml")[::-1]


@pytest.mark.parametrize(
    ("name", "expected", "losses"),
    [
        ("el_images/a.jpg", "images/el_images/a.jpg labels/el_images/a.txt", {}),
        ("images/x/a.jpg", "images/x/a.jpg labels/x/a.txt", {}),
        ("train/images/a.jpg", "images/train/images/a.jpg images/train/labels/a.txt", {}),
        ("a.png.jpg", "images/a.png.jpg labels/a.png.txt", {}),
        ("12:30/a..jpg", "images/12_30/a.jpg labels/12_30/a.txt", {"name": 1}),
    ],
)
def test_text_files_stay_with_their_photographs(
    tmp_path: Path, name: str, expected: str, losses: dict[str, int]
) -> None:
    """Under images/, as data.yaml says, and found again by the reader."""
    report = write(one(Box(1, 1, 5, 5), name=name), tmp_path / "out", "yolo", photograph=lambda _: b"jpg")
    found = [path for path in files(tmp_path / "out") if (tmp_path / "out" / path).is_file()]
    assert sorted(found) == expected.split() and report.counts() == losses
    photo, text = expected.split()
    photograph(tmp_path / "out" / photo, 64, 48)
    (image,) = read(tmp_path / "out", "yolo")[0].images
    assert (image.name, len(image.annotations), image.raw["yolo"]["file"]) == (photo, 1, text)


def test_twins_stay_with_their_photographs(tmp_path: Path) -> None:
    images = tuple(one(Box(1, 1, n, 5), name=name).images[0] for n, name in ((1, "a.jpg"), (2, "a.png"), (3, "A.bmp")))
    report = write(AnnotationSet(images, (Label("x"),)), tmp_path / "out", "yolo", photograph=lambda _: b"jpg")
    names = {path.name for path in (tmp_path / "out" / "images").iterdir()}
    assert names == {"a.jpg", "a~2.png", "A~3.bmp"} and report.counts() == {"name": 2}
    assert rows(tmp_path / "out" / "labels" / "a~2.txt")[0][3] == 2 / 64


def test_a_split_is_written_as_it_was(tmp_path: Path) -> None:
    photograph(tmp_path / "in" / "train" / "images" / "a.jpg", 64, 48)
    photograph(tmp_path / "in" / "valid" / "images" / "b.jpg", 64, 48)
    (tmp_path / "in" / "train" / "labels").mkdir()
    (tmp_path / "in" / "train" / "labels" / "a.txt").write_text("0 0.5 0.5 0.1 0.1\n")
    (tmp_path / "in" / "data.yaml").write_text("train: train/images\nnames: {0: x}\n")
    found, _ = read(tmp_path / "in", "yolo")
    write(found, tmp_path / "out", "yolo", photograph=lambda _: b"jpg")
    assert files(tmp_path / "out") == files(tmp_path / "in")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    photograph(tmp_path / "in" / "images" / "a.jpg", 64, 48)
    (tmp_path / "in" / "labels").mkdir()
    (tmp_path / "in" / "labels" / "a.txt").write_text("0 0.5 0.5 0.1 0.1\n")
    return tmp_path / "in"


def test_data_yaml_comes_before_others(folder: Path) -> None:
    (folder / "data.yaml").write_text("names: [dog]\n")
    (folder / "args.yaml").write_text("task: detect\nepochs: 3\n")
    assert read(folder, "yolo")[0].labels == (Label("dog"),)


def test_lists_among_the_labels(folder: Path) -> None:
    """Names of classes lie there too; but a text file of a photograph is one whatever its name."""
    (folder / "labels" / "classes.txt").write_text("dog\nbig cat\n")
    photograph(folder / "images" / "train.jpg", 64, 48)
    (folder / "labels" / "train.txt").write_text("1 0.5 0.5 0.1 0.1\n")
    found, _ = read(folder, "yolo")
    assert found.labels == (Label("dog"), Label("big cat"))
    assert [[item.label for item in image.annotations] for image in found.images] == [["dog"], ["big cat"]]


@pytest.mark.parametrize("names", ["{0: dog, 0.5: cat}", "{0: dog, '0.0': cat}"])
def test_keys_of_names_are_whole_and_once(folder: Path, names: str) -> None:
    (folder / "data.yaml").write_text(f"names: {names}\n")
    with pytest.raises(UserError, match="expected"):
        read(folder, "yolo")


def test_rows_in_pixels_are_remarked(folder: Path) -> None:
    assert read(folder, "yolo")[1].remarks == ()
    (folder / "labels" / "a.txt").write_text("0 32 24 10 10\n0 0.5 0.5 0.1 0.1\n")
    (remark,) = read(folder, "yolo")[1].remarks
    assert "1 of 2 rows reach far out" in remark and "pixels" in remark
