"""Names of written files: free, short, beside one another; and how long that takes."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from bessemer.annotation.formats.photographs import Photograph, Photographs, free_name, key_of, safe_name, unique_names
from bessemer.annotation.formats.sources import Source, parse_json
from bessemer.annotation.formats.table import read, write
from bessemer.annotation.shapes import AnnotatedImage, Annotation, AnnotationSet, Box, Label
from bessemer.errors import UserError
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


def seconds(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def test_time_grows_with_the_names(tmp_path: Path) -> None:
    """Each took minutes for so many while it grew with their square."""
    count = 20_000
    taken: set[str] = set()
    pairs = ",".join(f'"k{n}":1' for n in range(count)) + ',"z":1,"z":2'

    def twice(work: Callable[[], object]) -> Callable[[], None]:
        def refused() -> None:
            with pytest.raises(UserError, match="twice"):
                work()

        return refused

    labels = tuple(Label(f"label {n}") for n in [*range(count), 0])
    for work in (
        lambda: [key_of("?" * count) for _ in range(100)],
        lambda: unique_names(["a.jpg"] * count),
        lambda: [free_name("x" * 300, ".txt", taken) for _ in range(count)],
        twice(lambda: parse_json("{" + pairs + "}", "file")),
        twice(lambda: AnnotationSet(labels=labels)),
    ):
        assert seconds(work) < 5


def test_many_photographs_of_one_name_are_matched_fast() -> None:
    names = tuple(f"photos/{n:05d}/img.png" for n in range(5_000))
    known = Photographs([Source(Path("nowhere"), names)])
    known.facts = lambda name: Photograph(name, 1, 1, 1, "")  # type: ignore[assignment]
    found: dict[str, Photograph] = {}
    keys = [f"images/{n:05d}/img.png" for n in range(5_000)]
    assert seconds(lambda: found.update(known.match(keys))) < 5
    assert [found[key].name for key in keys] == list(names)


def test_the_longest_common_end_decides() -> None:
    known = Photographs([Source(Path("nowhere"), ("x/a/1.jpg", "x/b/1.jpg", "y/b/1.jpg", "2.jpg"))])
    known.facts = lambda name: Photograph(name, 1, 1, 1, "")  # type: ignore[assignment]
    found = known.match(["old/a/1.jpg", "old/b/1.jpg", "upload/0a1b2c3d-2.jpg", "3.jpg"])
    assert {key: item.name for key, item in found.items()} == {
        "old/a/1.jpg": "x/a/1.jpg",
        "upload/0a1b2c3d-2.jpg": "2.jpg",
    }
