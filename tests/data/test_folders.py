from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from bessemer.data.folders import Survey, examples_from, survey_folder
from bessemer.data.images import load_image
from bessemer.errors import UserError

_SHADE = iter(range(10**9))


def _photo(path: Path, size: tuple[int, int] = (40, 32), format: str | None = None) -> Path:
    """A PNG that no other file equals."""
    path.parent.mkdir(parents=True, exist_ok=True)
    number = next(_SHADE)
    Image.new("RGB", size, (number % 256, number // 256 % 256, 7)).save(path, format or "PNG")
    return path


def _classes(root: Path, counts: dict[str, int]) -> None:
    for name, count in counts.items():
        for number in range(count):
            _photo(root / name / f"{number:02d}.png")


def _odd(survey: Survey) -> dict[str, str]:
    return dict(survey.odd)


def test_a_class_has_single_spaces(tmp_path: Path) -> None:
    _classes(tmp_path, {"crack  (small)": 2, "ok": 2})
    assert survey_folder(tmp_path).attributes[0].values == ("crack (small)", "ok")


def test_class_folders(tmp_path: Path) -> None:
    _classes(tmp_path, {"正常": 12, "划痕": 10})
    survey = survey_folder(tmp_path)
    (attribute,) = survey.attributes
    assert (attribute.name, attribute.counts, attribute.ordered) == ("class", {"划痕": 10, "正常": 12}, False)
    assert attribute.values == ("划痕", "正常")
    assert (survey.odd, survey.notes, survey.other_files, survey.table) == ((), (), {}, None)
    examples = examples_from(survey, scene="environment")
    assert len(examples) == 22
    assert Counter(example.split for example in examples) == {
        "test": 6,
        "val": 2,
        "train": 14,
    }  # 5.5 -> 6; 1.6 -> 2
    assert {e.labels["class"] for e in examples if e.split == "test"} == {"正常", "划痕"}
    first = examples[0]
    assert (first.id, first.labels, first.group, first.scene) == (
        "划痕/00.png",
        {"class": "划痕"},
        "划痕/00.png",
        "environment",
    )
    assert load_image(first.image).size == (40, 32)
    assert examples == examples_from(survey, scene="environment")
    assert [e.split for e in examples] != [e.split for e in examples_from(survey, seed=1)]


def test_odd_files_are_left_out_and_named(tmp_path: Path) -> None:
    _classes(tmp_path / "in", {"ok": 11, "ng": 11})
    root = tmp_path / "in"
    (root / "ok" / "empty.jpg").write_bytes(b"")
    data = (root / "ok" / "00.png").read_bytes()
    (root / "ok" / "cut.png").write_bytes(data[: len(data) // 2])
    (root / "ok" / "page.png").write_text("<html>")
    (root / "ng" / "again.png").write_bytes((root / "ng" / "00.png").read_bytes())
    (root / "ng" / "conflict.png").write_bytes((root / "ok" / "10.png").read_bytes())
    _photo(root / "loose.png")
    _photo(tmp_path / "outside.png")
    (root / "ok" / "link.png").symlink_to(tmp_path / "outside.png")
    (root / "linked").symlink_to(tmp_path)
    _photo(root / "ok" / "line\nbreak.png")
    for name in ("Thumbs.db", ".DS_Store", "._00.png", "desktop.ini"):
        (root / "ok" / name).write_bytes(b"x")
    _photo(root / ".cache" / "x.png")
    _photo(root / "__MACOSX" / "y.png")
    (root / "ok" / "notes.txt").write_text("x")
    (root / "ok" / "movie.gif").write_bytes(b"GIF89a")
    (root / "README").write_text("x")
    os.mkfifo(root / "ok" / "pipe.png")
    survey = survey_folder(root)
    assert {name: reason.split(",")[0] for name, reason in survey.odd} == {
        "ok/empty.jpg": "the file is empty (0 bytes)",
        "ok/cut.png": _odd(survey)["ok/cut.png"].split(",")[0],
        "ok/page.png": "not an image",
        "ng/again.png": "the same bytes as ng/00.png",
        "ng/conflict.png": "the same bytes under different labels",
        "ok/10.png": "the same bytes under different labels",
        "loose.png": "not in a class folder",
        "ok/link.png": "a link that leads out of the folder",
        "linked": "a link to a folder",
        "ok/line\nbreak.png": _odd(survey)["ok/line\nbreak.png"].split(",")[0],
        "ok/pipe.png": "not a regular file",
    }
    assert "cut short" in _odd(survey)["ok/cut.png"]
    assert "control characters" in _odd(survey)["ok/line\nbreak.png"]
    assert survey.other_files == {".txt": 1, ".gif": 1, "(none)": 1}
    assert survey.attributes[0].counts == {"ng": 11, "ok": 10}
    assert len(examples_from(survey)) == 21


def test_names_that_are_not_unicode(tmp_path: Path) -> None:
    _classes(tmp_path, {"a": 3, "b": 3})
    raw = os.fsencode(tmp_path / "a") + b"/\xff.png"
    Path(os.fsdecode(raw)).write_bytes((tmp_path / "a" / "00.png").read_bytes())
    survey = survey_folder(tmp_path)
    assert len(survey.photos) == 6
    assert "not Unicode" in survey.odd[0][1]
    survey.text().encode()


def test_wrapping_folder_and_predefined_parts(tmp_path: Path) -> None:
    data = tmp_path / "casting" / "data"
    for part, count in (("Train", 12), ("test", 4)):
        _classes(data / part, {"ok": count, "def": count})
    _photo(data / "masks" / "ok" / "m.png")
    survey = survey_folder(tmp_path)
    assert survey.attributes[0].counts == {"def": 16, "ok": 16}
    assert any("'masks' lies beside train and test and is left out (1 images)" in note for note in survey.notes)
    examples = examples_from(survey)
    assert Counter(e.split for e in examples) == {"train": 22, "val": 2, "test": 8}
    assert all(("/test/" in e.id) == (e.split == "test") for e in examples)
    assert "parts already made: train 24, test 8" in survey.text()


def test_all_parts_predefined_are_kept(tmp_path: Path) -> None:
    for part, count in (("train", 8), ("valid", 3), ("testing", 2)):
        _classes(tmp_path / part, {"ok": count, "ng": count})
    assert Counter(e.split for e in examples_from(survey_folder(tmp_path))) == {
        "train": 16,
        "val": 6,
        "test": 4,
    }


def test_a_value_that_is_never_trained_is_noted(tmp_path: Path) -> None:
    _classes(tmp_path / "train", {"good": 12})
    _classes(tmp_path / "test", {"good": 10, "crack": 10})
    survey = survey_folder(tmp_path)
    assert "values of class without a photograph to train on: crack" in survey.notes


def test_folders_below_classes_are_groups(tmp_path: Path) -> None:
    for batch in range(6):
        _classes(tmp_path / "ok" / f"b{batch}", {"": 4})
        _classes(tmp_path / "ng" / f"b{batch}", {"": 4})
    survey = survey_folder(tmp_path)
    examples = examples_from(survey)
    assert {e.group for e in examples} == {f"b{batch}" for batch in range(6)}
    assert all(len({e.split for e in examples if e.group == group}) == 1 for group in {e.group for e in examples})
    assert {e.split for e in examples} == {"train", "val", "test"}
    assert "the 6 folders below the classes are groups: each stays in one part" in survey.notes


def test_too_few_folders_below_classes(tmp_path: Path) -> None:
    for label in ("ok", "ng"):
        _classes(tmp_path / label / "images", {"": 8})
    survey = survey_folder(tmp_path)
    assert {photo.group for photo in survey.photos} == {""}
    assert any("folders below the classes are not used" in note for note in survey.notes)
    assert Counter(e.split for e in examples_from(survey)) == {"train": 11, "val": 1, "test": 4}


def test_notes_on_what_will_surprise(tmp_path: Path) -> None:
    _classes(tmp_path, {"OK": 12, "ok": 12, "rare": 2})
    _photo(tmp_path / "OK" / "thumb.png", (16, 16))
    _photo(tmp_path / "OK" / "misnamed.png", format="JPEG")
    survey = survey_folder(tmp_path)
    assert "class 'rare' has only 2 photographs: too few to learn or measure" in survey.notes
    assert "ok of class is read as OK" in survey.notes  # of which there are two more
    assert [a.counts for a in survey.attributes] == [{"OK": 26, "rare": 2}]
    assert "1 photographs are less than 32 pixels wide or high: thumbnails?" in survey.notes
    assert any(note.startswith("1 files hold another format") for note in survey.notes)


def test_text_for_people(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _classes(tmp_path, {"正常": 12, "划痕": 10})
    for side in range(50, 55):
        _photo(tmp_path / "正常" / f"s{side}.png", (side, side))
    (tmp_path / "划痕" / "bad\x1b[2J.png").write_bytes(b"")
    text = survey_folder(tmp_path).text()
    assert "photographs 100% 27/27" in capsys.readouterr().err
    assert text.splitlines() == [
        f"{tmp_path}: 27 photographs, labels from sub-folders",
        "  class: 划痕 10, 正常 17",
        "  sizes: 6 sizes, 40 x 32 to 54 x 54, most often 40 x 32 (22), 50 x 50 (1), 51 x 51 (1), 52 x 52 (1)",
        "  formats: PNG 27",
        "  left out: 1",
        text.splitlines()[5],
    ]
    assert text.splitlines()[5].startswith("    划痕/bad\\x1b[2J.png: image path")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda root: None, "no photographs .found nothing else"),
        (lambda root: (root / "a.gif").write_bytes(b"x"), "no photographs .found .gif 1"),
        (lambda root: _photo(root / "a.png"), "no class folders, expected a sub-folder for each class, or"),
        (lambda root: _classes(root, {"only": 4}), "one class folder, 'only'"),
        (lambda root: (_photo(root / "a.png"), (root / "t.csv").write_text("x,y\n1,2\n")),
         r"no column holds names of images: x, y"),
        (lambda root: (_photo(root / "b" / "y.png"), _photo(root / "a" / "x.png").write_bytes(b"")),
         "no label has two values"),
    ],
)  # fmt: skip
def test_folders_without_labels(tmp_path: Path, make: Any, message: str) -> None:
    make(tmp_path)
    with pytest.raises(UserError, match=message):
        survey_folder(tmp_path)


def test_rare_reasons_do_not_drown_in_common_ones(tmp_path: Path) -> None:
    _classes(tmp_path, {"a": 3, "b": 3})
    for number in range(30):
        (tmp_path / "a" / f"c{number}.png").write_bytes((tmp_path / "a" / "00.png").read_bytes())
    (tmp_path / "b" / "z.png").write_bytes(b"")
    lines = survey_folder(tmp_path).text().splitlines()
    start = lines.index("  left out: 31") + 1
    assert lines[start].startswith("    b/z.png: the file is empty")
    assert lines[start + 1] == "    a/c0.png: the same bytes as a/00.png"
    assert lines[start + 6] == "    ... and 25 more: the same bytes as ..."


def test_names_in_a_reason_do_not_make_it_another(tmp_path: Path) -> None:
    table = _with_table(tmp_path, 40)
    table.write_text(table.read_text(encoding="utf-8") + "".join(f"gone{i}.png,无,1,2,3\n" for i in range(30)))
    lines = survey_folder(tmp_path).text().splitlines()
    assert sum("is no image file of the folder" in line for line in lines) == 5
    assert any(line.endswith(" more: is no image file ...") for line in lines)


def test_no_folder(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="none is not a folder"):
        survey_folder(tmp_path / "none")


# -------------------------------------------------------------------------------- tables


def _with_table(root: Path, n: int = 24, name: str = "labels.csv") -> Path:
    lines = ["filename,defect,grade,comment,batch"]
    for i in range(n):
        _photo(root / "images" / f"img{i:02d}.png")
        lines.append(f"images/img{i:02d}.png,{'裂纹' if i % 3 else '无'},{i % 4},text {i},lot{i % 6}")
    (root / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
    return root / name


def test_table(tmp_path: Path) -> None:
    table = _with_table(tmp_path)
    _photo(tmp_path / "images" / "extra.png")
    survey = survey_folder(tmp_path)
    assert survey.table == table
    assert {a.name: (a.counts, a.ordered) for a in survey.attributes} == {
        "defect": ({"无": 8, "裂纹": 16}, False),
        "grade": ({"0": 6, "1": 6, "2": 6, "3": 6}, True),
        "batch": ({f"lot{i}": 4 for i in range(6)}, False),
    }
    assert "column 'comment' is no label: it holds 24 different values (free text or ids?)" in survey.notes
    assert "images are named in column 'filename' of labels.csv" in survey.notes
    assert "1 photographs are left out or not in the table" in survey.notes
    assert "  grade (ordered): 0 6, 1 6, 2 6, 3 6" in survey.text().splitlines()
    examples = examples_from(survey)
    assert examples[5].labels == {"defect": "裂纹", "grade": "1", "batch": "lot5"}
    assert Counter(e.split for e in examples) == {"train": 16, "val": 2, "test": 6}


def test_table_with_chosen_columns_and_groups(tmp_path: Path) -> None:
    _with_table(tmp_path)
    survey = survey_folder(tmp_path, image_column="filename", label_columns=["defect"], group_column="batch")
    assert [attribute.name for attribute in survey.attributes] == ["defect"]
    examples = examples_from(survey)
    assert [e.group for e in examples] == [f"lot{i % 6}" for i in range(24)]
    assert all(len({e.split for e in examples if e.group == group}) == 1 for group in {e.group for e in examples})
    with pytest.raises(UserError, match="did you mean 'defect'"):
        survey_folder(tmp_path, label_columns=["defects"])
    with pytest.raises(UserError, match="did you mean 'filename'"):
        survey_folder(tmp_path, table=tmp_path / "labels.csv", image_column="file_name")


def test_ordered_values_sort_as_numbers(tmp_path: Path) -> None:
    for i in range(12):
        _photo(tmp_path / f"{i}.png")
    rows = "".join(f"{i}.png,{(9, 10, 100)[i % 3]}\n" for i in range(12))
    (tmp_path / "t.csv").write_text("image,level\n" + rows)
    assert survey_folder(tmp_path).attributes[0].values == ("9", "10", "100")


def test_rows_that_cannot_be_used(tmp_path: Path) -> None:
    table = _with_table(tmp_path)
    _photo(tmp_path / "other" / "img00.png")
    (tmp_path / "secret.png").write_bytes(b"x")
    with table.open("a", encoding="utf-8") as file:
        file.write(
            "images/none.png,无,1,x,lot1\n../../etc/passwd,无,1,x,lot1\nimg00.png,无,1,x,lot1\nimages/img01.png\n"
        )
        file.write("images/img02.png,无,3,x,lot2\nimages/img03.png,无,3,other text,lot3\nother/img00.png,,,x,\n")
    survey = survey_folder(tmp_path)
    assert _odd(survey) == {
        "labels.csv:26": "'images/none.png' is no image file of the folder",
        "labels.csv:27": "'../../etc/passwd' is no image file of the folder",
        "labels.csv:28": "'img00.png' means 2 files",
        "labels.csv:29": "1 cells, expected 5",
        "images/img02.png": "stands in the table more than once, with different values",
        "other/img00.png": "has no label in the table (line 32)",
    }
    assert len(survey.photos) == 23  # img03 stands twice with the same labels: that is no contradiction


def test_missing_cells_leave_the_attribute_out(tmp_path: Path) -> None:
    table = _with_table(tmp_path)
    text = (
        table.read_text(encoding="utf-8")
        .replace("img00.png,无,0", "img00.png,无,")
        .replace("img01.png,裂纹,1", "img01.png,NA,1")
    )
    table.write_text(text, encoding="utf-8")
    survey = survey_folder(tmp_path, label_columns=["defect", "grade"])
    assert [photo.labels for photo in survey.photos[:3]] == [
        {"defect": "无"},
        {"grade": "1"},
        {"defect": "裂纹", "grade": "2"},
    ]
    assert "1 photographs have no grade" in survey.notes


def test_part_column(tmp_path: Path) -> None:
    lines = ["image,label,split"]
    for i in range(20):
        _photo(tmp_path / f"{i}.png")
        lines.append(f"{i}.png,{'ab'[i % 2]},{'Test' if i < 4 else 'train'}")
    (tmp_path / "t.csv").write_text("\n".join(lines))
    survey = survey_folder(tmp_path)
    assert [attribute.name for attribute in survey.attributes] == ["label"]
    examples = examples_from(survey)
    assert Counter(e.split for e in examples) == {"test": 4, "val": 2, "train": 14}
    assert {e.id for e in examples if e.split == "test"} == {f"{i}.png" for i in range(4)}


def test_two_tables(tmp_path: Path) -> None:
    _with_table(tmp_path)
    (tmp_path / "b.csv").write_text((tmp_path / "labels.csv").read_text(encoding="utf-8"), encoding="utf-8")
    with pytest.raises(UserError, match="b.csv, labels.csv name images, expected one.*which by table=.*b.csv"):
        survey_folder(tmp_path)
    with pytest.raises(UserError, match=r"b.csv is not in the current folder, expected table=/.*/b.csv"):
        survey_folder(tmp_path, table=Path("b.csv"))
    assert survey_folder(tmp_path, table=tmp_path / "b.csv").table == tmp_path / "b.csv"


def test_a_table_elsewhere(tmp_path: Path) -> None:
    table = _with_table(tmp_path / "photos")
    table.rename(tmp_path / "labels.csv")
    survey = survey_folder(tmp_path / "photos", table=tmp_path / "labels.csv")
    assert len(survey.photos) == 24


def test_a_table_that_is_none_does_not_hide_the_classes(tmp_path: Path) -> None:
    _classes(tmp_path, {"ok": 10, "ng": 10})
    (tmp_path / "log.csv").write_text("time,value\n1,2\n")
    (tmp_path / "broken.csv").write_bytes(b"\0\0")
    survey = survey_folder(tmp_path)
    assert survey.table is None
    assert "log.csv is not used: no column holds names of images: time, value" in survey.notes
    assert any(note.startswith("broken.csv is not used:") for note in survey.notes)


def test_a_table_without_labels(tmp_path: Path) -> None:
    for i in range(6):
        _photo(tmp_path / f"{i}.png")
    (tmp_path / "t.csv").write_text("image,id\n" + "".join(f"{i}.png,x{i}\n" for i in range(6)))
    with pytest.raises(
        UserError,
        match="no column of labels .*column 'id' is no label: it holds 6 different values.*label_columns=",
    ):
        survey_folder(tmp_path)
    (tmp_path / "t.csv").write_text("name,id\na,b\nc,d\n")
    with pytest.raises(UserError, match=r"no column holds names of images \(name, id\); say which by image_column="):
        survey_folder(tmp_path, table=tmp_path / "t.csv")
