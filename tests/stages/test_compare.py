from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bessemer.cli import main
from bessemer.report.summary import validate_summary
from report.test_summary_table import report


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two runs as the loop leaves them, one of them with a comma in its name."""
    monkeypatch.chdir(tmp_path)
    made: dict[str, dict[str, Any]] = {"first": report(0), "a, [b]": report(1, accuracy=0.9)}
    for name, value in made.items():
        (tmp_path / name / "evaluate").mkdir(parents=True)
        (tmp_path / name / "evaluate" / "report.json").write_text(json.dumps(value), encoding="utf-8")
    return tmp_path


def test_runs_and_files_are_compared_and_nothing_is_written(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = sorted(runs.rglob("*"))
    assert main(["compare", "first", "a, [b]/evaluate/report.json"]) == 0
    captured = capsys.readouterr()
    assert captured.out.startswith("盒子; p1; 10 test cases, 0 held-out prompts; seeds 0, 1\n") and captured.err == ""
    assert "sft    85.0 ± 7.1" in captured.out
    assert sorted(runs.rglob("*")) == before


def test_the_summary_is_written_where_asked(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", "first", "output_dir=new/out", "a, [b]"]) == 0
    assert capsys.readouterr().out.endswith("wrote new/out/comparison.json and new/out/comparison.md\n")
    summary = json.loads(Path("new/out/comparison.json").read_bytes())
    validate_summary(summary)
    assert summary["groups"][0]["reports"] == ["first/evaluate/report.json", "a, [b]/evaluate/report.json"]
    assert "| sft | 2 | 85.0 ± 7.1" in Path("new/out/comparison.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "which reports? expected: bessemer compare"),
        (["first", "first/evaluate"], "first/evaluate/report.json is given twice"),
        (["first", "nowhere"], "nowhere: no report.json there"),
        (["first", "outputs_dir=x"], "compare has no field 'outputs_dir'"),
        (["first", "output_dir=first/evaluate/report.json/x"], "could not be written"),
    ],
)
def test_refusals(runs: Path, capsys: pytest.CaptureFixture[str], words: list[str], message: str) -> None:
    assert main(["compare", *words]) == 2
    assert message in capsys.readouterr().err


def test_the_help_shows_that_it_takes_several(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", "--help"]) == 0
    assert capsys.readouterr().out.startswith("usage: bessemer compare [RECIPE] [reports ...] [key=value")
