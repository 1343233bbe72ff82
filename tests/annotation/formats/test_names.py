"""Names of written files: free, short, beside one another; and how long that takes."""

from __future__ import annotations

from pathlib import Path

import pytest

from bessemer.annotation.formats.photographs import free_name, safe_name
from bessemer.annotation.formats.table import read, write
from bessemer.annotation.shapes import AnnotatedImage, Annotation, AnnotationSet, Box
from photographing import photograph


@pytest.mark.parametrize(("format", "folder"), [("voc", "JPEGImages"), ("coco", "images")])
def test_copied_photographs_stay_in_their_folder(tmp_path: Path, format: str, folder: str) -> None:
    photograph(tmp_path / "in" / folder / "1.jpg", 64, 48)
    said = (Annotation("1", "x", Box(1, 2, 3, 4)),)
    write(AnnotationSet((AnnotatedImage("1.jpg", 64, 48, annotations=said),)), tmp_path / "made", format)
    for path in (tmp_path / "made").rglob("*.*"):
        target = tmp_path / "in" / path.relative_to(tmp_path / "made")
        target.parent.mkdir(exist_ok=True)
        path.rename(target)
    found, _ = read(tmp_path / "in", format)
    assert found.images[0].name == f"{folder}/1.jpg" and len(found.images) == 1
    write(found, tmp_path / "out", format, photograph=lambda _: b"jpg")
    assert [path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.jpg")] == [
        f"{folder}/1.jpg"
    ]


def test_a_photograph_of_another_name_is_reported(tmp_path: Path) -> None:
    images = (AnnotatedImage("a.jpg", 64, 48), AnnotatedImage("A.jpg", 64, 48))
    report = write(AnnotationSet(images), tmp_path / "out", "coco", photograph=lambda _: b"jpg")
    assert [(loss.kind, loss.image, loss.what) for loss in report.losses] == [
        ("name", "A.jpg", "its photograph is images/A~2.jpg")
    ]


def test_stems_keep_their_dots() -> None:
    assert free_name("a.png", ".txt", set()) == "a.png.txt" and safe_name("a.png", ".txt", set()) == "a.txt"


def test_names_are_short_for_file_systems(tmp_path: Path) -> None:
    """255 bytes, not characters."""
    taken: set[str] = set()
    names = [free_name("漢" * 300, ".txt", taken) for _ in range(20)]
    assert len(set(names)) == 20 and all(len(name.encode()) <= 204 for name in names)
    assert [free_name(name.removesuffix(".txt"), ".txt", set()) for name in names] == names
    write(AnnotationSet((AnnotatedImage("漢" * 90 + ".jpg", 64, 48),)), tmp_path / "out", "voc")
