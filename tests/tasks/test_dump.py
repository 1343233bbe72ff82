from __future__ import annotations

from pathlib import Path

from bessemer.tasks.dump import dump_wordings
from bessemer.tasks.wordings import load_wordings
from tasks.task_samples import HELMETS, SOLAR


def test_round_trip(tmp_path: Path) -> None:
    original = tmp_path / "h.yaml"
    original.write_text(HELMETS, encoding="utf-8")
    for source in (SOLAR, original):
        wordings = load_wordings(source)
        for comments in (True, False):
            copy = tmp_path / "copy.yaml"
            copy.write_text(dump_wordings(wordings, comments), encoding="utf-8")
            assert load_wordings(copy) == wordings
            assert ("# The labels." in copy.read_text(encoding="utf-8")) is comments


def test_chinese_stays_readable(tmp_path: Path) -> None:
    path = tmp_path / "h.yaml"
    path.write_text(HELMETS, encoding="utf-8")
    assert "安全帽" in dump_wordings(load_wordings(path)) and "\\u" not in dump_wordings(load_wordings(path))
