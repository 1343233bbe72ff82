"""Sides in turn, runs that are not repeated, ratios by hand."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import pytest
from paired import (
    HERE,
    PEERS,
    SHAPES,
    Run,
    Side,
    better,
    known,
    located,
    measure,
    plan,
    portable,
    read_sides,
    summarise,
    table,
)

COUNT = """
import json, pathlib, sys
log = pathlib.Path(sys.argv[1])
log.write_text((log.read_text() if log.exists() else "") + sys.argv[2])
pathlib.Path(sys.argv[-1]).write_text(json.dumps({"n": len(log.read_text())}))
"""


def options(tmp_path: Path, **changed: Any) -> argparse.Namespace:
    given = {"model": tmp_path, "data": tmp_path / "d.json", "peers": tmp_path / "peers", "results": tmp_path}
    return argparse.Namespace(**(given | {"quick": False, "plan": False, "rounds": 1, "sides": None} | changed))


def sides(tmp_path: Path) -> list[Side]:
    log = str(tmp_path / "log")
    return [Side("sft", name, (sys.executable, "-c", COUNT, log, name)) for name in "ab"]


def test_sides_run_in_turn_and_only_once(tmp_path: Path) -> None:
    two, file = sides(tmp_path), tmp_path / "runs.jsonl"
    assert len(list(measure(two, 2, file))) == 4 and (tmp_path / "log").read_text() == "abab"
    assert len(list(measure(two, 3, file))) == 6 and (tmp_path / "log").read_text() == "ababab"
    assert len(list(measure(two, 2, file))) == 4 and (tmp_path / "log").read_text() == "ababab"
    assert set(known(two, 2, file)) == {("a", 1), ("b", 1), ("a", 2), ("b", 2)}


def test_another_command_is_another_run(tmp_path: Path) -> None:
    two, file = sides(tmp_path), tmp_path / "runs.jsonl"
    list(measure(two, 1, file))
    changed = [two[0], Side("sft", "b", (*two[1].command, "--more"))]
    assert set(known(changed, 5, file)) == {("a", 1)}
    assert not known([Side("ppo", side.name, side.command) for side in two], 5, file)


def test_a_run_on_another_processor_is_another_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    two, file = sides(tmp_path), tmp_path / "runs.jsonl"
    list(measure(two, 1, file))
    monkeypatch.setattr("paired.machine", lambda: {"processor": "Abacus"})
    assert not known(two, 1, file)
    list(measure(two, 1, file))
    assert len(known(two, 1, file)) == 2 and (tmp_path / "log").read_text() == "abab"


def test_a_side_that_fails_is_tried_again_in_the_next_call(tmp_path: Path) -> None:
    bad = Side("sft", "bad", (sys.executable, "-c", "raise SystemExit('no such thing')"))
    file = tmp_path / "runs.jsonl"
    assert list(measure([bad], 3, file)) == []
    (line,) = file.read_text().splitlines()
    assert json.loads(line)["error"] == "exit status 1: no such thing"
    assert not known([bad], 3, file)


def result(speed: float, peak: float) -> dict[str, Any]:
    return {
        "samples_per_second": speed, "peak_rss_gb": peak, "seconds_per_step": 1 / speed, "seconds": {"train": 1.0},
        "dtype": "bf16", "threads": 2, "tokens": 10,
    }  # fmt: skip


def test_ratios_are_taken_round_by_round() -> None:
    speeds = {"a": [(4.0, 1.0), (6.0, 1.0), (9.0, 2.0)], "b": [(2.0, 4.0), (2.0, 5.0)]}
    runs = [
        Run("sft", name, round_, [], "", result(*figures), None)
        for name, rounds in speeds.items()
        for round_, figures in enumerate(rounds, 1)
    ]
    found = summarise([Side("sft", "a", ()), Side("sft", "b", ())], runs, "samples_per_second")
    assert found["b"]["ratios"] == [2.0, 3.0] and found["b"]["ratio"]["median"] == 2.5  # the third round is a's alone
    assert found["b"]["memory_ratio"] == {"median": pytest.approx(0.225), "minimum": 0.2, "maximum": 0.25}
    assert found["a"]["ratio"] is None and found["a"]["samples_per_second"]["median"] == 6.0


def test_steps_are_compared_and_shown_as_speeds_are() -> None:
    runs = [Run("ppo", name, 1, [], "", result(speed, 1.0), None) for name, speed in (("a", 4.0), ("b", 1.0))]
    found = summarise([Side("ppo", "a", ()), Side("ppo", "b", ())], runs, "seconds_per_step")
    assert found["b"]["seconds_per_step"] == {"median": 1.0, "minimum": 1.0, "maximum": 1.0}
    assert found["b"]["ratios"] == [4.0]
    shown = table("ppo", "seconds_per_step", "a", found)
    assert "| b | 1 (1 - 1) | 4 (4 - 4) | 1.00 | bf16 |" in shown


def test_of_seconds_less_is_better() -> None:
    assert better(2.0, 8.0, "seconds_per_step") == 4.0 and better(8.0, 2.0, "tokens_per_second") == 4.0


def test_words_of_a_command(tmp_path: Path) -> None:
    assert located("{own}", tmp_path) == sys.executable
    assert located("{trl}", tmp_path) == str(tmp_path / "trl" / "bin" / "python")
    assert located("{bessemer}", tmp_path) == sys.executable  # until it has an environment with the peers' PyTorch
    (tmp_path / "bessemer" / "bin").mkdir(parents=True)
    (tmp_path / "bessemer" / "bin" / "python").touch()
    assert located("{bessemer}", tmp_path) == str(tmp_path / "bessemer" / "bin" / "python")
    assert located("peer_trl.py", tmp_path) == str(PEERS / "peer_trl.py")
    assert located("vision.py", tmp_path) == str(HERE / "vision.py")
    assert located("sft", tmp_path) == "sft"


DESCRIPTION = {
    "seconds": 90, "data": True, "options": "--batch 8", "quick": "--batch 1",
    "sides": {"own": "{own} vision.py", "trl": "{trl} peer_trl.py sft"},
}  # fmt: skip


def test_a_command_on_the_page_has_no_paths() -> None:
    assert portable(DESCRIPTION, "trl", False) == "{trl} peer_trl.py sft --batch 8 --model MODEL --data alpaca.json"
    shaped = {"options": "", "quick": "--batch 1", "shape": "qwen2-135m", "sides": {"a": "bessemer bench sft"}}
    assert portable(shaped, "a", True) == "bessemer bench sft --batch 1 --model qwen2-135m"


def test_a_peer_that_is_not_there_is_left_out_but_planned(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert [side.name for side in read_sides("sft", DESCRIPTION, options(tmp_path))] == ["own"]
    assert "sft: trl left out" in capsys.readouterr().err
    plan({"sft": DESCRIPTION}, ["sft"], options(tmp_path, plan=True))
    said = capsys.readouterr().out  # two sides, 90 s each
    assert "sft: own, trl; 2 of 2 runs, 3 min" in said and "about 3 minutes" in said
    plan({"sft": DESCRIPTION}, ["sft"], options(tmp_path, plan=True, quick=True))
    assert "sft: own; 1 of 1 runs" in capsys.readouterr().out  # quick runs what is installed


def test_a_comparison_of_a_shape_takes_a_model_of_its_own(tmp_path: Path) -> None:
    (side,) = read_sides("x", DESCRIPTION | {"shape": "qwen2-135m"}, options(tmp_path))
    assert side.command[-4:-2] == ("--model", str(SHAPES / "qwen2-135m"))
