from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from bessemer.errors import UserError
from bessemer.report.summary import DIFFERENCES, MEASURES, find_report, read_report, summarise, validate_summary

Report = dict[str, Any]


def changed(report: Report, seed: int, split: str = "p1", **accuracies: float | None) -> Report:
    """The report as that of another seed, with other accuracies of the models."""
    copied = copy.deepcopy(report)
    copied.update(seed=seed, split=split, dataset="cells", n_test=100, n_heldout=20)
    for stage in copied["lineage"]:
        stage["seed"] = seed
    for model in copied["models"]:
        if model["name"] in accuracies:
            model["accuracy"] = accuracies[model["name"]]
    return copied


def row(group: dict[str, Any], name: str) -> dict[str, Any]:
    return next(model for model in group["models"] if model["name"] == name)


def test_means_and_deviations_worked_by_hand(small_report: Report) -> None:
    reports = {
        "c": changed(small_report, 7, sft=0.90, tower=0.80),
        "a": changed(small_report, 0, sft=0.80, tower=0.80),
        "b": changed(small_report, 1, sft=0.85, tower=0.90),
    }
    (group,) = summarise(reports)["groups"]
    assert (group["seeds"], group["reports"]) == ([0, 1, 7], ["a", "b", "c"])
    # deviations from 0.85: −0.05, 0, 0.05; squares 0.0025 + 0.0025, over n − 1 = 2
    assert row(group, "sft")["accuracy"] == {
        "n": 3,
        "mean": pytest.approx(0.85),
        "deviation": pytest.approx(0.05),
        "low": 0.80,
        "high": 0.90,
        "by_seed": {"0": 0.80, "1": 0.85, "7": 0.90},
    }
    found = group["differences"]["sft_minus_tower_accuracy"]
    assert found["by_seed"] == pytest.approx({"0": 0.0, "1": -0.05, "7": 0.10})
    assert (found["mean"], found["low"], found["high"]) == pytest.approx((0.05 / 3, -0.05, 0.10))
    assert found["deviation"] == pytest.approx(((0.05**2 + 0.2**2 + 0.25**2) / 9 / 2) ** 0.5)
    assert summarise(dict(reversed(reports.items()))) == summarise(reports)


def test_paired_differences_are_those_of_the_reports(small_report: Report) -> None:
    reports = {str(seed): changed(small_report, seed) for seed in (0, 1)}
    for seed, report in enumerate(reports.values()):
        report["ppo_minus_sft"] |= {"score": 0.02 + 0.04 * seed, "accuracy": -0.01}
        report["shuffled_control"]["score"] = 0.01 * seed
        report["student_over_teacher_accuracy"] = [0.9, None][seed]
    found = summarise(reports)["groups"][0]["differences"]
    assert set(found) == set(DIFFERENCES)
    assert found["ppo_minus_sft_score"]["mean"] == pytest.approx(0.04)
    assert found["ppo_minus_sft_score"]["deviation"] == pytest.approx(0.04 / 2**0.5)
    assert found["ppo_minus_sft_accuracy"]["by_seed"] == {"0": -0.01, "1": -0.01}
    assert found["shuffled_minus_sft_score"]["high"] == 0.01
    ratio = found["student_over_teacher_accuracy"]
    assert (ratio["n"], ratio["mean"], ratio["deviation"]) == (1, 0.9, None)


def test_one_seed_has_no_deviation(small_report: Report) -> None:
    (group,) = summarise({"a": small_report})["groups"]
    for model in group["models"]:
        for measure in MEASURES:
            value = next(m for m in small_report["models"] if m["name"] == model["name"])[measure]
            assert model[measure]["deviation"] is None and model[measure]["mean"] == value
            assert model[measure]["n"] == (value is not None)
    assert group["notes"] == ["one seed: nothing is known of the deviation"]
    assert summarise({"a": small_report})["gaps"] == []


def test_a_model_that_some_seeds_lack_counts_where_it_is(small_report: Report) -> None:
    reports = {"a": changed(small_report, 0, tower=0.8), "b": changed(small_report, 1, tower=None)}
    reports["c"] = changed(small_report, 2)
    reports["c"]["models"] = [model for model in reports["c"]["models"] if model["name"] != "tower"]
    (group,) = summarise(reports)["groups"]
    tower = row(group, "tower")
    assert (tower["n"], tower["accuracy"]["n"], tower["accuracy"]["by_seed"]) == (2, 1, {"0": 0.8})
    assert group["differences"]["sft_minus_tower_accuracy"]["n"] == 1


def test_the_gap_between_splits_is_that_of_the_means(small_report: Report) -> None:
    reports = {
        "a": changed(small_report, 0, "p1", sft=0.90),
        "b": changed(small_report, 1, "p1", sft=0.80),
        "c": changed(small_report, 0, "p2", sft=0.70, tower=None),
    }
    summary = summarise(reports)
    assert [group["split"] for group in summary["groups"]] == ["p1", "p2"]
    (gap,) = summary["gaps"]
    assert (gap["first"], gap["second"]) == ("p1", "p2")
    assert (gap["first_reports"], gap["second_reports"]) == (["a", "b"], ["c"])
    assert row({"models": gap["models"]}, "sft")["accuracy"] == pytest.approx(0.15)
    assert row({"models": gap["models"]}, "tower")["accuracy"] is None


@pytest.mark.parametrize(
    "other",
    [
        {"dataset": "leaves"},
        {"n_test": 80},
        {"n_heldout": 200},
        {"scorer": "people"},
        {"main_attribute": "type"},
        {"attributes": [{"name": "defect", "values": ["no", "yes"], "ordered": False, "positive": "yes"}]},
    ],
)
def test_what_was_measured_otherwise_is_never_averaged(small_report: Report, other: dict[str, Any]) -> None:
    first, second = changed(small_report, 0), changed(small_report, 1) | other
    summary = summarise({"a": first, "b": second})
    assert [group["seeds"] for group in summary["groups"]] in ([[0], [1]], [[1], [0]])
    assert all(model["accuracy"]["n"] <= 1 for group in summary["groups"] for model in group["models"])
    assert summary["gaps"] == []


def test_no_gap_between_data_sets(small_report: Report) -> None:
    other = changed(small_report, 0, "p2") | {"dataset": "leaves"}
    assert summarise({"a": changed(small_report, 0), "b": other})["gaps"] == []


def test_test_sets_of_whole_modules_may_differ_a_little(small_report: Report) -> None:
    reports = {"a": changed(small_report, 0), "b": changed(small_report, 1) | {"n_test": 91}}
    (group,) = summarise(reports)["groups"]
    assert group["n_test"] == [91, 100]


def test_the_same_seed_twice_is_refused(small_report: Report) -> None:
    with pytest.raises(UserError, match=r"a and b: both are cells, p1, seed 3, expected one report a seed"):
        summarise({"b": changed(small_report, 3), "a": changed(small_report, 3)})


def test_notes_say_what_the_deviation_covers(small_report: Report) -> None:
    anew = {str(seed): changed(small_report, seed) for seed in (0, 1)}
    assert "a split of its own" in summarise(anew)["groups"][0]["notes"][0]
    same = copy.deepcopy(anew)
    for report in same.values():
        report["lineage"][0]["seed"] = 5
    same["1"]["provenance"]["git_commit"] = "1111111"
    notes = summarise(same)["groups"][0]["notes"]
    assert notes == [
        "one split for all seeds: the deviation covers training alone",
        "made by different versions of the code: 0000000, 1111111",
    ]


def test_a_spoilt_summary_is_refused(small_report: Report) -> None:
    summary = summarise({"a": small_report})
    validate_summary(json.loads(json.dumps(summary)))
    del summary["groups"][0]["models"][0]["auc"]["mean"]
    with pytest.raises(UserError, match=r"comparison\.groups\[0\]\.models\[0\]\.auc\.mean: missing"):
        validate_summary(summary)
    with pytest.raises(UserError, match=r"comparison\.schema_version: '9', expected '1.1'; run compare again"):
        validate_summary(summary | {"schema_version": "9"})


def test_where_a_report_is_looked_for(tmp_path: Path) -> None:
    run = tmp_path / "run"
    for name in ("evaluate", "evaluate.old-1", "sft"):
        (run / name).mkdir(parents=True)
    with pytest.raises(UserError, match="no report.json there"):
        find_report(run)
    for name in ("evaluate", "evaluate.old-1"):
        (run / name / "report.json").write_text("{}")
    for place in (run, run / "evaluate", run / "evaluate" / "report.json"):
        assert find_report(place) == run / "evaluate" / "report.json"
    (run / "sft" / "report.json").write_text("{}")
    with pytest.raises(UserError, match="in each of evaluate, sft, expected one"):
        find_report(run)


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b'"\xff"', "codec"),
        (b"{", "Expecting"),
        (b"[]", "list, expected an object"),
        (b"[" * 100_000, "recursion"),
        (b'{"schema_version": "0.9"}', "schema_version: '0.9'"),
        (b'{"n": ' + b"9" * 5000 + b"}", "digits"),
    ],
)
def test_a_file_that_is_no_report_is_named(tmp_path: Path, raw: bytes, message: str) -> None:
    path = tmp_path / "report.json"
    path.write_bytes(raw)
    with pytest.raises(UserError, match=rf"report\.json: no report\.json that can be read: .*{message}"):
        read_report(path)


def test_a_report_is_read_as_it_was_written(small_report: Report, tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    path.write_text(json.dumps(small_report), encoding="utf-8")
    assert read_report(path) == small_report
    path.write_text(json.dumps(small_report | {"n_test": 10**400}), encoding="utf-8")
    with pytest.raises(UserError, match=r"report\.n_test: '1000.*expected a whole number"):
        read_report(path)


def test_a_file_beyond_all_measure_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    with path.open("wb") as file:
        file.truncate(64 * 2**20 + 1)
    with pytest.raises(UserError, match="more than 67108864 bytes"):
        read_report(path)
