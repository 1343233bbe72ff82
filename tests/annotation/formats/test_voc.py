"""Pascal VOC where real files are less tidy: names that lead nowhere, keys of other tools."""

from __future__ import annotations

from pathlib import Path

import pytest

from bessemer.annotation.formats.choices import Choices
from bessemer.annotation.formats.table import read, write
from photographing import photograph


def voc(path: Path, filename: str | None, more: str = "", box: tuple[int, int, int, int] = (1, 2, 9, 9)) -> None:
    """Write a file of one object."""
    stated = "" if filename is None else f"<filename>{filename}</filename>"
    edges = "".join(f"<{k}>{v}</{k}>" for k, v in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True))
    size = "<size><width>64</width><height>48</height><depth>3</depth></size>"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        f'<annotation xmlns:m="u">{stated}<m:source m:of="us">1</m:source>{size}'
        f"<object><name>x</name>{more}<bndbox>{edges}</bndbox></object></annotation>"
    )


@pytest.mark.parametrize("filename", ["1", "1.png", "image.jpg", "gone/image.jpg", None])
def test_no_annotated_photograph_becomes_a_negative(tmp_path: Path, filename: str | None) -> None:
    """The name that the file states is wrong, missing or without a suffix: its own name counts."""
    photograph(tmp_path / "JPEGImages" / "1.jpg", 64, 48)
    photograph(tmp_path / "JPEGImages" / "empty.jpg", 64, 48)
    voc(tmp_path / "Annotations" / "1.xml", filename)
    found, notes = read(tmp_path, "voc")
    told = [(image.name, bool(image.sha256), len(image.annotations)) for image in found.images]
    assert told == [("JPEGImages/1.jpg", True, 1), ("JPEGImages/empty.jpg", True, 0)]
    assert any("by its own name" in remark for remark in notes.remarks) == (filename or "1")[0].isalpha()


@pytest.mark.parametrize("there", [True, False])
def test_one_name_in_every_file_is_none(tmp_path: Path, there: bool) -> None:
    """As tools leave it that copy a file for the next photograph; even where a photograph has that name."""
    for number in (1, 2):
        voc(tmp_path / "Annotations" / f"{number}.xml", "2.jpg")
        if there:
            photograph(tmp_path / "JPEGImages" / f"{number}.jpg", 64, 48)
    found, _ = read(tmp_path, "voc")
    under = "JPEGImages/" if there else ""
    told = [(image.name, bool(image.sha256), len(image.annotations)) for image in found.images]
    assert told == [(f"{under}1.jpg", there, 1), (f"{under}2.jpg", there, 1)]


def test_a_photograph_whose_file_is_of_another_is_no_negative(tmp_path: Path) -> None:
    photograph(tmp_path / "JPEGImages" / "1.jpg", 64, 48)
    photograph(tmp_path / "JPEGImages" / "2.jpg", 64, 48)
    voc(tmp_path / "Annotations" / "1.xml", "2.jpg")
    found, notes = read(tmp_path, "voc")
    assert [image.name for image in found.images] == ["JPEGImages/2.jpg"]
    assert any("JPEGImages/1.jpg has a file of its name" in remark for remark in notes.remarks)


def test_keys_of_others_survive_another_count_of_pixels(tmp_path: Path) -> None:
    """Also names with a colon."""
    more = "<pose>Left</pose><truncated>1</truncated><difficult>1</difficult><m:conf>3</m:conf>"
    voc(tmp_path / "in" / "a.xml", "a.jpg", more, (0, 2, 9, 9))
    found, notes = read(tmp_path / "in", "voc")
    assert notes.choices["voc_base"] == 0
    assert write(found, tmp_path / "out", "voc", Choices(voc_base="1")).losses == ()
    text = (tmp_path / "out" / "a.xml").read_text(encoding="utf-8")
    for kept in ("<pose>Left", "<truncated>1", "<difficult>1", "<m:conf>3", '<m:source m:of="us">1', 'xmlns:m="u"'):
        assert kept in text, kept
    assert "<xmin>1<" in text and "<ymin>3<" in text and "<xmax>9<" in text
