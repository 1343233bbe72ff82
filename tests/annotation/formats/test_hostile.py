"""What comes from outside and means harm: archives, XML, JSON, YAML, paths."""

from __future__ import annotations

import json
import os
import stat
import struct
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from bessemer.annotation.formats.photographs import key_of, safe_name
from bessemer.annotation.formats.sources import open_source
from bessemer.annotation.formats.table import FORMATS, read, write
from bessemer.annotation.shapes import AnnotatedImage, Annotation, AnnotationSet, Box
from bessemer.errors import UserError
from photographing import photograph

EMPTY = '{"images": [], "annotations": []}'  # sound COCO: what is refused is the archive
TRAVERSALS = [
    "../x.jpg", "../../x.jpg", "../../../../../../etc/passwd", "..", "../", "./../x.jpg", "a/../../x.jpg",
    "a/../../../x.jpg",
    "/etc/passwd", "//etc/passwd", "/x.jpg", "\\x.jpg", "..\\x.jpg", "..\\..\\x.jpg", "a\\..\\..\\x.jpg", "C:\\x.jpg",
    "C:x.jpg",
    "c:/windows/x.jpg", "\\\\server\\share\\x.jpg", "//server/share/x.jpg", "\\\\?\\C:\\x.jpg", "file:///etc/passwd",
    "file://localhost/etc/passwd", "http://127.0.0.1/x.jpg", "s3://bucket/../x.jpg",
    "/data/local-files/?d=../../../x.jpg",
    "/data/local-files/?d=%2e%2e%2f%2e%2e%2fx.jpg", "/data/local-files/?d=/etc/passwd", "/data/upload/../../x.jpg",
    "%2e%2e/x.jpg", "..%2fx.jpg", "%252e%252e%252fx.jpg", "....//x.jpg", "..;/x.jpg", "..\u2215x.jpg",
    "\uff0e\uff0e/x.jpg",
    "a/./../../x.jpg", " ../x.jpg", "../x.jpg\n", "x.jpg/../../../y", "~/x.jpg", "$HOME/x.jpg",
]  # fmt: skip
assert len(TRAVERSALS) >= 40


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def naming(format: str, name: str, folder: Path) -> None:
    """A file of a format whose every path-like field says `name`."""
    folder.mkdir()
    box = Box(1, 1, 5, 5)
    write(
        AnnotationSet((AnnotatedImage("harmless.jpg", 40, 30, annotations=(Annotation("1", "a", box),)),)),
        folder / "x",
        format,
    )
    for path in (folder / "x").rglob("*"):
        if path.is_file():
            text = path.read_text(encoding="utf-8")
            word = json.dumps(name)[1:-1] if path.suffix == ".json" else name.replace("&", "&amp;")
            path.write_text(text.replace("harmless.jpg", word), encoding="utf-8")


@pytest.mark.parametrize("format", ["coco", "labelme", "voc", "label-studio", "cvat"])
def test_40_names_lead_nowhere_when_read(tmp_path: Path, format: str) -> None:
    """The bait lies outside, where each name would lead; the size would differ if it were opened."""
    photograph(tmp_path / "x.jpg", 7, 7)
    photograph(tmp_path / "y", 7, 7)
    photograph(tmp_path / "images" / "other.jpg", 40, 30)
    for number, name in enumerate(TRAVERSALS):
        naming(format, name, tmp_path / f"case{number}")
        found, _ = read(tmp_path / f"case{number}" / "x", format, tmp_path / "images")
        (image,) = found.images
        assert (image.width, image.height, image.sha256) == (40, 30, ""), name
        assert ".." not in image.name.split("/") and not image.name.startswith("/"), image.name


@pytest.mark.parametrize("format", FORMATS)
def test_40_names_lead_nowhere_when_written(tmp_path: Path, format: str) -> None:
    """Image names, and the file names that raw remembers."""
    raws = [{"file": name, "files": {name: {}}, "name": name} for name in TRAVERSALS]
    images = tuple(
        AnnotatedImage(
            f"{name}", 40, 30, annotations=(Annotation("1", "a", Box(1, 1, 5, 5)),), raw={FORMATS[format].key: raw}
        )
        for name, raw in zip(TRAVERSALS, raws, strict=True)
    )
    files = {name: {} for name in TRAVERSALS}
    (tmp_path / "a" / "b").mkdir(parents=True)
    for number, raw in enumerate(({}, {FORMATS[format].key: {"files": files, "file": "../../x.json"}})):
        report = write(
            AnnotationSet(images, raw=raw), tmp_path / "a" / "b" / f"out{number}", format, photograph=lambda _: b"x"
        )
        assert report.images == len(TRAVERSALS)
    outside = [path for path in tmp_path.rglob("*") if path.is_file() and not path.is_relative_to(tmp_path / "a" / "b")]
    assert outside == [] and sorted(path.name for path in (tmp_path / "a" / "b").iterdir()) == ["out0", "out1"]
    assert len(tree(tmp_path / "a" / "b" / "out0")) >= len(TRAVERSALS)


def test_names_become_keys_and_files() -> None:
    assert key_of("C:\\photos\\甲.jpg") == "photos/甲.jpg" and key_of("../b/a.jpg", "ann") == "b/a.jpg"
    assert key_of("/data/local-files/?d=a%2Fb.jpg") == "a/b.jpg" and key_of("..") == "unnamed"
    taken: set[str] = set()
    names = [safe_name(name, ".txt", taken) for name in ("a.jpg", "A.png", "x/a.jpg", "con:aux?.jpg", "b.")]
    assert names == ["a.txt", "A~2.txt", "x/a.txt", "con_aux_.txt", "b.txt"]


def crafted() -> dict[str, Callable[[Path], None]]:
    """Twelve archives."""

    def of(*names: str) -> Callable[[Path], None]:
        def make(path: Path) -> None:
            with zipfile.ZipFile(path, "w") as archive:
                for name in names:
                    archive.writestr(zipfile.ZipInfo(name), EMPTY)

        return make

    def link(path: Path) -> None:
        with zipfile.ZipFile(path, "w") as archive:
            entry = zipfile.ZipInfo("a.json")
            entry.external_attr = (stat.S_IFLNK | 0o777) << 16
            archive.writestr(entry, "/etc/passwd")

    def bomb(path: Path) -> None:
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("a.json", b" " * 30_000_000)

    def lying(path: Path) -> None:
        """The headers say 10 bytes, the data are 30 MB of blanks."""
        bomb(path)
        data = path.read_bytes()
        path.write_bytes(data.replace(struct.pack("<L", 30_000_000), struct.pack("<L", 10)))

    def encrypted(path: Path) -> None:
        of("a.json")(path)
        data = bytearray(path.read_bytes())
        for mark, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
            data[data.index(mark) + place] |= 1
        path.write_bytes(bytes(data))

    def cut(path: Path) -> None:
        of("a.json", "b.json")(path)
        path.write_bytes(path.read_bytes()[:-30])

    def many(path: Path) -> None:
        with zipfile.ZipFile(path, "w") as archive:
            for n in range(200):
                archive.writestr("a/" * 80 + f"{n}.json", "{}")

    return {
        "up": of("../a.json"), "absolute": of("/a.json"), "drive": of("C:/a.json"), "backslash": of("..\\a.json"),
        "twice": of("a.json", "A.json"), "inside a file": of("a.json", "a.json/b.json"), "link": link, "bomb": bomb,
        "lying": lying, "encrypted": encrypted, "cut": cut, "deep": many,
    }  # fmt: skip


WHY = {
    "up": "inside the archive", "absolute": "inside the archive", "drive": "inside the archive",
    "backslash": "inside the archive", "twice": "its own name", "inside a file": "inside another file",
    "link": "a link or device", "bomb": "a ratio below", "lying": "cannot be read|damaged", "encrypted": "password",
    "cut": "sound zip archive|no zip archive", "deep": "shorter names",
}  # fmt: skip


@pytest.mark.parametrize("kind", crafted())
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_twelve_archives_are_refused(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a.zip"
    crafted()[kind](path)
    before = tree(tmp_path)
    start = time.process_time()
    with pytest.raises(UserError, match=WHY[kind]) as caught:
        read(path, "coco")
    assert time.process_time() - start < 1 and "expected" in str(caught.value)
    assert tree(tmp_path) == before


def test_a_sound_archive_is_read(tmp_path: Path) -> None:
    made = Path(__file__).parent / "made" / "datumaro" / "coco"
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for path in made.rglob("*"):
            archive.write(path, path.relative_to(made))
    found, notes = read(tmp_path / "a.zip")
    assert notes.format == "coco" and found.images == read(made)[0].images and found.images[0].sha256


BOMB = (
    '<!DOCTYPE a [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]><annotation><object>&b;</object></annotation>'
)
XML = {
    "laughs": BOMB.encode(),
    "external": b'<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><annotation><filename>&x;</filename></annotation>',
    "outside subset": b'<!DOCTYPE a SYSTEM "http://127.0.0.1/a.dtd"><annotation><object/></annotation>',
    "deep": b"<annotation>" * 10_000 + b"</annotation>" * 10_000,
    "cut": b"<annotation><object>",
    "utf-16 DTD": BOMB.encode("utf-16"),
    "encoding": b'<?xml version="1.0" encoding="nonsense"?><annotation><object/></annotation>',
    "empty": b"",
}


@pytest.mark.parametrize("kind", XML)
@pytest.mark.parametrize("format", ["voc", "cvat", "auto"])
def test_xml_that_means_harm(tmp_path: Path, kind: str, format: str) -> None:
    (tmp_path / "a.xml").write_bytes(XML[kind])
    start = time.process_time()
    with pytest.raises(UserError, match=r"a\.xml:\d+: .*, expected"):
        read(tmp_path, format)
    assert time.process_time() - start < 1


JSON = {
    "deep": "[" * 100_000, "deep and closed": "[" * 200 + "]" * 200, "nan": '{"images": [NaN]}',
    "beyond floats": '{"images": [], "info": {"version": 1e999}}', "twice": '{"a": 1, "a": 2}',
    "cut": '{"images": [', "huge number": '{"a": 1' + "0" * 5000 + "}", "half a character": None,
}  # fmt: skip


@pytest.mark.parametrize("kind", JSON)
@pytest.mark.parametrize("format", ["coco", "labelme", "label-studio", "auto"])
def test_json_that_means_harm(tmp_path: Path, kind: str, format: str) -> None:
    text = JSON[kind]
    if text is None:
        (tmp_path / "a.json").write_bytes(b'{"images": ["\xff"]}')
    else:
        (tmp_path / "a.json").write_text(text)
    with pytest.raises(UserError, match=r"a\.json.*expected"):
        read(tmp_path, format)


def test_yaml_that_means_harm(tmp_path: Path) -> None:
    photograph(tmp_path / "images" / "a.jpg", 8, 8)
    for text in (
        "names: &a [x, *a]",
        "names: !!python/object/apply:os.system [id]",
        "names: [",
        "[1]",
        "names: {0: a, 7: b}",
        'a: !!int ""',
        "a: !!bool x",
        "a: !!timestamp x",
        "a: !!set {x}",
    ):
        (tmp_path / "data.yaml").write_text(text)
        with pytest.raises(UserError, match="expected"):
            read(tmp_path, "yolo")


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "secret.json").write_text('{"images": [], "annotations": []}')
    (tmp_path / "given").mkdir()
    (tmp_path / "given" / "a.json").symlink_to(tmp_path / "secret.json")
    with open_source(tmp_path / "given") as source:
        assert source.names == ()


def test_nothing_is_written_over(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(UserError, match="not an empty directory"):
        write(AnnotationSet(), tmp_path, "coco")
    assert tree(tmp_path) == {"mine.txt": b"mine"}


def test_errors_say_of_which_file_they_are(tmp_path: Path) -> None:
    rows = {"images": [], "annotations": [], "categories": [{"id": 1, "name": " "}]}
    (tmp_path / "a.json").write_text(json.dumps(rows))
    with pytest.raises(UserError, match=f"^{tmp_path}.*expected"):
        read(tmp_path, "coco")
    (tmp_path / "a.json").write_text('{"images": [')
    with pytest.raises(UserError) as caught:
        read(tmp_path, "coco")
    assert str(caught.value).count(str(tmp_path)) == 1


def test_a_name_that_is_no_text_stops_nothing(tmp_path: Path) -> None:
    photograph(tmp_path / "images" / "b.jpg", 8, 8)
    photograph(tmp_path / "images" / "c\u2028.jpg", 8, 8)  # no name for people, but text
    photograph(tmp_path / "images" / "a.jpg", 8, 8)
    (tmp_path / "images" / "a.jpg").rename(os.fsdecode(os.fsencode(tmp_path / "images") + b"/caf\xe9.jpg"))
    found, notes = read(tmp_path, "yolo")
    assert [image.name for image in found.images] == ["images/b.jpg", "images/c\u2028.jpg"]
    (remark,) = notes.remarks
    assert "1 files whose names are no UTF-8" in remark and "caf" in remark
