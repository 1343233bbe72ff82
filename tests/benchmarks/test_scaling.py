"""Points are measured once, kept, and worked out beside their arithmetic."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import scaling
import steps
from arithmetic import Peak, Rows, passing, training
from scaling import QUICK, SWEEPS, Point, least, measure_all, values, wanted
from shapes import Shape, make_model

import tiny

SMALL = Shape("llama", layers=1, width=4, inner=8, heads=2, kv_heads=1, head_dim=2, vocabulary=10)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The keys of the points that were measured; those of length 32 fail until the list is emptied."""
    keys: list[str] = []

    def execute(point: Point, model: Path, steps: int, dtype: str) -> dict[str, Any]:
        keys.append(point.key)
        if point.length == 32 and len(keys) < 10:
            return {"error": "exit status -9: nothing"}
        return {"seconds": {"median": 1.0}, "ratio": 2.0}

    monkeypatch.setattr(scaling, "execute", execute)
    monkeypatch.setattr(scaling, "make_model", lambda shape, tokenizer, directory: directory)
    return keys


def test_what_is_there_is_not_measured_again(tmp_path: Path, asked: list[str]) -> None:
    points, file = wanted(QUICK), tmp_path / "new" / "scaling.json"
    assert measure_all(points[:4], file, tmp_path, 1, "fp32") == 0 and asked == [point.key for point in points[:4]]
    asked.clear()
    assert measure_all(points[:6], file, tmp_path, 1, "fp32") == 0 and asked == [point.key for point in points[4:6]]
    assert set(json.loads(file.read_text())["points"]) == {point.key for point in points[:6]}


def test_what_failed_is_kept_and_tried_again(tmp_path: Path, asked: list[str]) -> None:
    long, short = Point("train", "llama-tiny", 2, 32), Point("train", "llama-tiny", 2, 16)
    file = tmp_path / "scaling.json"
    assert measure_all([long, short], file, tmp_path, 1, "fp32") == 1
    assert json.loads(file.read_text())["points"][long.key]["error"] == "exit status -9: nothing"
    asked[:] = ["more"] * 10
    assert measure_all([long, short], file, tmp_path, 1, "fp32") == 0 and asked[10:] == [long.key]


def test_seconds_of_another_machine_are_refused(tmp_path: Path, asked: list[str]) -> None:
    file = tmp_path / "scaling.json"
    file.write_text(json.dumps({"machine": {"processor": "Abacus", "cores": 1}, "points": {}}))
    with pytest.raises(SystemExit, match="measured on .*Abacus.*, expected this machine"):
        measure_all(wanted(QUICK), file, tmp_path, 1, "fp32")


def test_seconds_in_another_type_are_refused(tmp_path: Path, asked: list[str]) -> None:
    """Of two processors of one name, one multiplies bf16 and one does not."""
    file = tmp_path / "scaling.json"
    assert measure_all(wanted(QUICK)[:1], file, tmp_path, 1, "bf16") == 0
    with pytest.raises(SystemExit, match="'dtype': 'bf16'.*, expected this machine, .*'dtype': 'fp32'"):
        measure_all(wanted(QUICK)[:2], file, tmp_path, 1, "fp32")
    assert json.loads(file.read_text())["dtype"] == "bf16" and len(asked) == 1


def test_the_sweeps_reach_from_end_to_end_and_no_point_stands_twice() -> None:
    ends = {name: (sweep[2][0], sweep[2][-1]) for name, sweep in SWEEPS.items()}
    assert ends == {"batch": (1, 128), "length": (64, 2048), "size": ("llama-30m", "llama-500m"), "roles": (1, 4)}
    points = wanted(SWEEPS)
    assert len({point.key for point in points}) == len(points)
    assert [point.batch for point in values(SWEEPS["batch"], "train")] == [1, 2, 4, 8, 16, 32, 64, 128]


def test_the_work_of_a_point() -> None:
    two = Rows(tokens=2 * 4, pairs=2 * 10, heads=2 * 2)  # two sequences of four tokens, predictions from half of them
    bare = replace(two, heads=0)
    assert least(Point("forward", batch=2, length=4), SMALL) == passing(SMALL, two, adapter=True)
    assert least(Point("train", batch=2, length=4, roles=4), SMALL) == (
        training(SMALL, two) + passing(SMALL, two) + passing(SMALL, bare, adapter=True) + passing(SMALL, bare, True)
    )
    # rows that have seen 4 tokens of the prompt and, in the middle of 16 steps, 8.5 more: 2 * 184 * 2 + 16 * 25
    assert least(Point("rollout", batch=2, length=4), SMALL).flop == 736 + 16 * 25


@pytest.mark.parametrize("work", scaling.WORKS)
def test_every_work_runs_with_all_roles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, work: str) -> None:
    monkeypatch.setattr(steps, "measured_peak", lambda dtype: Peak(1.0, 1.0))
    monkeypatch.setattr(steps, "keep_memory", lambda: True)
    tiny.tokenizer().save_pretrained(tmp_path / "words")
    shape = Shape("llama", 2, 32, 64, 4, 2, 8, vocabulary=259)
    directory = make_model(shape, tmp_path / "words", tmp_path / "model")
    times, peak = steps.measured(Point(work, batch=2, length=6, roles=4), directory, 2, 3, "fp32")
    assert len(times) == 2 and peak == Peak(1.0, 1.0)
    found = scaling.found([1.0, 4.0, 2.0], Point(work, batch=2, length=6), shape, peak, "fp32")
    assert found["bytes"] == 2 * scaling.found([1.0], Point(work, batch=2, length=6), shape, peak, "bf16")["bytes"]
    assert found["seconds"] == {"median": 2.0, "minimum": 1.0, "maximum": 4.0}
    assert found["ratio"] == pytest.approx(2.0 * 1e9 / max(found["flop"], found["bytes"]))


def test_a_decoding_step_is_what_is_left_of_the_whole() -> None:
    assert steps.differences([9.0, 5.0], 1.0, 4) == [2.0, 1.0]


def test_sequences_share_nothing_and_learn_their_second_half() -> None:
    batch = steps.random_batch(3, 5, 259)
    assert batch.packed.lengths == (5, 5, 5) and batch.packed.ids[::5].tolist() == [3, 4, 5]
    assert batch.rows.tolist() == [2, 3, 7, 8, 12, 13]  # each predicts the row behind it, of rows 3 and 4 of five
