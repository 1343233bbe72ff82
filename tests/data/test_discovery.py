"""Which part, group and spelling the photographs of a folder have."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from bessemer import interrupts
from bessemer.data.folders import examples_from, survey_folder
from bessemer.errors import Stopped, UserError
from data.test_folders import _classes, _photo, _with_table


def test_parts_that_are_there_need_no_groups_to_split_by(tmp_path: Path) -> None:
    """Two batches to train on, one to validate, two to test: nothing is left to split."""
    for part, batches in {"train": 2, "val": 1, "test": 2}.items():
        for label in ("ok", "ng"):
            _classes(tmp_path / part / label, {f"{part}{number}": 3 for number in range(batches)})
    survey = survey_folder(tmp_path)
    assert Counter(e.split for e in examples_from(survey)) == {"train": 12, "val": 6, "test": 12}
    assert len({photo.group for photo in survey.photos}) == 5


def test_groups_are_counted_where_they_are_split(tmp_path: Path) -> None:
    """Three batches to test on do not help to take a validation part out of two."""
    for part, batches in {"train": 2, "test": 3}.items():
        for label in ("ok", "ng"):
            _classes(tmp_path / part / label, {f"{part}{number}": 5 for number in range(batches)})
    survey = survey_folder(tmp_path)
    assert any("folders below the classes are not used" in note for note in survey.notes)
    assert Counter(e.split for e in examples_from(survey)) == {"train": 18, "val": 2, "test": 30}


def test_a_table_may_write_names_and_values_in_another_case(tmp_path: Path) -> None:
    rows = ["file,state"]
    for number in range(24):
        _photo(tmp_path / f"IMG_{number}.PNG", (40 + number, 40))
        rows.append(f"img_{number}.png,{('ok', 'ok', 'Crack', 'crack')[number % 4]}")
    (tmp_path / "labels.csv").write_text("\n".join(rows))
    survey = survey_folder(tmp_path)
    assert [a.counts for a in survey.attributes] == [{"Crack": 12, "ok": 12}] and len(survey.photos) == 24
    assert "crack of state is read as Crack" in survey.notes
    (tmp_path / "img_3.png").write_bytes((tmp_path / "IMG_3.PNG").read_bytes())  # then only the one that is meant
    assert {photo.name for photo in survey_folder(tmp_path).photos} >= {"img_3.png", "IMG_4.PNG"}


def test_folders_without_photographs_are_named(tmp_path: Path) -> None:
    _classes(tmp_path, {"ok": 2, "ng": 2})
    (tmp_path / "crack" / "old").mkdir(parents=True)
    (tmp_path / "crack" / "old" / "a.HEIC").write_bytes(b"x")
    (tmp_path / "dent").mkdir()
    notes = survey_folder(tmp_path).notes
    assert "folder 'crack' holds no photographs (.heic 1)" in notes
    assert "folder 'dent' holds no photographs (it is empty)" in notes


def test_one_class_is_refused_with_what_else_was_there(tmp_path: Path) -> None:
    _classes(tmp_path, {"ok": 2})
    (tmp_path / "crack").mkdir()
    (tmp_path / "labels.xlsx").write_bytes(b"x")
    (tmp_path / "labels.csv").write_text('image,state\n00.png,"ok\n')
    with pytest.raises(UserError, match="one class folder, 'ok'") as caught:
        survey_folder(tmp_path)
    for why in ("labels.xlsx is not used: it is a spreadsheet; save it as CSV",
                "labels.csv:2: unexpected end of data", "folder 'crack' holds no photographs"):  # fmt: skip
        assert why in str(caught.value)


def test_several_labels_in_a_cell_are_remarked(tmp_path: Path) -> None:
    rows = ["image,defects,size"]
    for i in range(12):
        _photo(tmp_path / f"{i}.png")
        rows.append(f"{i}.png,{('scratch', 'dent', 'scratch; dent')[i % 3]},{('a/b', 'c')[i % 2]}")
    (tmp_path / "labels.csv").write_text("\n".join(rows) + "\n")
    notes = [note for note in survey_folder(tmp_path).notes if "one value" in note]
    assert len(notes) == 1 and notes[0].startswith("defects 'scratch; dent' is one value and not 'scratch' and 'dent'")


def test_a_column_that_is_not_there_is_named(tmp_path: Path) -> None:
    _with_table(tmp_path)
    with pytest.raises(UserError, match="is not used: no column 'nme' among "):
        survey_folder(tmp_path, image_column="nme")


def test_who_looks_at_photographs_can_be_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _classes(tmp_path, {"crack": 3, "ok": 3})
    monkeypatch.setattr(interrupts, "requested", lambda: True)
    with pytest.raises(Stopped, match="stopped among the photographs"):
        survey_folder(tmp_path)
