"""What several reports of one recipe say together: means and deviations over seeds, the gap between splits.

Only what was measured alike is put together: the same data set, split, scorer, main label and size of the test
set. A deviation over seeds says how far another run could move a number; the intervals in a report say how far
other photographs could.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any, Final

from bessemer.data.paths import shown
from bessemer.errors import UserError
from bessemer.report.schema import SCHEMA_VERSION, check_schema, validate

__all__ = ["DIFFERENCES", "MEASURES", "find_report", "read_report", "summarise", "validate_summary"]

Report = Mapping[str, Any]
MAX_BYTES: Final = 64 * 2**20  # a report of eight models on a thousand photographs has less than 2 MB
SIZE_TOLERANCE: Final = 0.1  # whole modules part unevenly: another seed tests on a few photographs more or fewer
MEASURES: Final = ("accuracy", "balanced_accuracy", "f1_defect", "auc", "parse_failure_rate", "score")
DIFFERENCES: Final = (
    "sft_minus_tower_accuracy",
    "ppo_minus_sft_score",
    "ppo_minus_sft_accuracy",
    "shuffled_minus_sft_score",
    "student_over_teacher_accuracy",
)
STATISTIC: dict[str, Any] = {
    "n": "count",
    "mean": "number?",
    "deviation": "number?",
    "low": "number?",
    "high": "number?",
    "by_seed": {"*": "number"},
}
GROUP: dict[str, Any] = {
    "dataset": "text",
    "split": "text",
    "scorer": "text",
    "main_attribute": "text?",
    "n_test": ["count"],
    "n_heldout": ["count"],
    "seeds": ["count"],
    "reports": ["text"],
    "models": [{"name": "text", "n": "count", **{measure: STATISTIC for measure in MEASURES}}],
    "differences": {name: STATISTIC for name in DIFFERENCES},
    "notes": ["text"],
}
GAP: dict[str, Any] = {
    "dataset": "text",
    "first": "text",
    "second": "text",
    "first_reports": ["text"],
    "second_reports": ["text"],
    "models": [{"name": "text", **{measure: "number?" for measure in MEASURES}}],
}
SUMMARY: dict[str, Any] = {"schema_version": "text", "groups": [GROUP], "gaps": [GAP]}


def validate_summary(summary: Any) -> None:
    """Raise UserError listing what keeps `summary` from being a comparison.json of this schema version."""
    check_schema(summary, SUMMARY, "comparison", "compare")


def find_report(place: Path) -> Path:
    """The report.json that is meant: the file itself, the one in a stage's directory, or the only one in a
    run's.

    Raises:
        UserError: there is none, or several.
    """
    if place.is_file():
        return place
    if (place / "report.json").is_file():
        return place / "report.json"
    found = sorted(path for path in place.glob("*/report.json") if ".old-" not in path.parent.name)
    if not found:
        raise UserError(f"{shown(place)}: no report.json there, expected a report, or the directory of a run with one")
    if len(found) > 1:
        names = ", ".join(shown(path.parent.name) for path in found)
        raise UserError(f"{shown(place)}: a report.json in each of {names}, expected one; name the directory")
    return found[0]


def read_report(path: Path) -> dict[str, Any]:
    """A report.json, checked against its schema.

    Raises:
        UserError: unreadable, above 64 MB, no JSON, or no report.
    """
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
        if len(raw) > MAX_BYTES:
            raise UserError(f"more than {MAX_BYTES} bytes, expected less")
        report: dict[str, Any] = json.loads(raw)
        validate(report)
    except (OSError, ValueError, RecursionError, UserError) as error:
        reason = shown("; ".join(str(error).splitlines()), 1000)
        raise UserError(f"{shown(path)}: no report.json that can be read: {reason}") from error
    return report


def summarise(reports: Mapping[str, Report]) -> dict[str, Any]:
    """The summary of reports by name, checked against its schema; the order in which they come does not
    matter.

    Raises:
        UserError: the same seed twice in one group.
    """
    groups = _grouped(reports)
    made = [_group(members) for members in groups]
    pairs = [
        (a, b)
        for (a, first), (b, second) in combinations(zip(made, groups, strict=True), 2)
        if _measured_alike(first, second) and a["split"] != b["split"]
    ]
    summary = {
        "schema_version": SCHEMA_VERSION,
        "groups": made,
        "gaps": [_gap(a, b) for a, b in pairs],
    }
    validate_summary(summary)
    return summary


def _grouped(reports: Mapping[str, Report]) -> list[dict[str, Report]]:
    """Reports that may be averaged, {name: report} by seed; groups by data set, split and size."""

    def place(item: tuple[str, Report]) -> tuple[Any, ...]:
        name, report = item
        return *_protocol(report), report["split"], report["n_test"], report["n_heldout"], report["seed"], name

    groups: list[dict[str, Report]] = []
    for name, report in sorted(reports.items(), key=place):
        fitting = (group for group in groups if _fits(report, next(iter(group.values()))))
        group = next(fitting, None)
        if group is None:
            groups.append({name: report})
            continue
        twin = next((other for other, there in group.items() if there["seed"] == report["seed"]), None)
        if twin is not None:
            what = f"both are {report['dataset']}, {report['split']}, seed {report['seed']}"
            raise UserError(
                f"{shown(twin, 200)} and {shown(name, 200)}: {shown(what, 200)}, expected one report a seed; "
                "compare the runs of one recipe"
            )
        group[name] = report
    return [dict(sorted(group.items(), key=lambda item: item[1]["seed"])) for group in groups]


def _protocol(report: Report) -> tuple[str, str, str, str]:
    """What must be the same for two numbers to measure the same thing."""
    main = next((a for a in report["attributes"] if a["name"] == report["main_attribute"]), None)
    label = json.dumps([main["name"], main["values"], main["positive"]] if main else None)
    return report["dataset"], report["scorer"], label, report["main_attribute"] or ""


def _fits(report: Report, other: Report) -> bool:
    sizes = ("n_test", "n_heldout")
    alike = all(abs(report[s] - other[s]) <= SIZE_TOLERANCE * max(report[s], other[s]) for s in sizes)
    return alike and report["split"] == other["split"] and _protocol(report) == _protocol(other)


def _measured_alike(first: Mapping[str, Report], second: Mapping[str, Report]) -> bool:
    return _protocol(next(iter(first.values()))) == _protocol(next(iter(second.values())))


def _group(members: Mapping[str, Report]) -> dict[str, Any]:
    reports = list(members.values())
    first = reports[0]
    names = list(dict.fromkeys(model["name"] for report in reports for model in report["models"]))
    models = []
    for name in names:
        rows = {report["seed"]: row for report in reports if (row := _model(report, name)) is not None}
        measured = {m: _statistic({seed: row[m] for seed, row in rows.items()}) for m in MEASURES}
        models.append({"name": name, "n": len(rows), **measured})
    return {
        **{key: first[key] for key in ("dataset", "split", "scorer", "main_attribute")},
        "n_test": sorted({report["n_test"] for report in reports}),
        "n_heldout": sorted({report["n_heldout"] for report in reports}),
        "seeds": [report["seed"] for report in reports],
        "reports": list(members),
        "models": models,
        "differences": _differences(reports),
        "notes": _notes(reports),
    }


def _model(report: Report, name: str) -> Mapping[str, Any] | None:
    return next((model for model in report["models"] if model["name"] == name), None)


def _statistic(by_seed: Mapping[int, float | None]) -> dict[str, Any]:
    """n, mean, standard deviation over seeds (n − 1; null for one seed), least and greatest of what was
    measured."""
    measured = {seed: float(value) for seed, value in by_seed.items() if value is not None}
    values = list(measured.values())
    return {
        "n": len(values),
        "mean": statistics.fmean(values) if values else None,
        "deviation": statistics.stdev(values) if len(values) > 1 else None,
        "low": min(values, default=None),
        "high": max(values, default=None),
        "by_seed": {str(seed): value for seed, value in measured.items()},
    }


def _minus(value: float | None, other: float | None) -> float | None:
    return None if value is None or other is None else value - other


def _differences(reports: Sequence[Report]) -> dict[str, Any]:
    """Each is taken within one report, so that both sides saw the same seed and the same photographs."""
    paired: dict[str, dict[int, float | None]] = {name: {} for name in DIFFERENCES}
    for report in reports:
        seed = report["seed"]
        sft, tower = _model(report, report["roles"]["sft"]), _model(report, "tower")
        paired["sft_minus_tower_accuracy"][seed] = _minus(
            sft["accuracy"] if sft else None, tower["accuracy"] if tower else None
        )
        paired["ppo_minus_sft_score"][seed] = report["ppo_minus_sft"]["score"]
        paired["ppo_minus_sft_accuracy"][seed] = report["ppo_minus_sft"]["accuracy"]
        paired["shuffled_minus_sft_score"][seed] = report["shuffled_control"]["score"]
        paired["student_over_teacher_accuracy"][seed] = report["student_over_teacher_accuracy"]
    return {name: _statistic(values) for name, values in paired.items()}


def _notes(reports: Sequence[Report]) -> list[str]:
    """What the deviation covers, and what else differs than the seed."""
    if len(reports) == 1:
        return ["one seed: nothing is known of the deviation"]
    notes = []
    parted = [stage["seed"] for report in reports for stage in report["lineage"] if stage["stage"] == "import"]
    if len(parted) == len(reports) and None not in parted:
        if len(set(parted)) == 1:
            notes.append("one split for all seeds: the deviation covers training alone")
        elif len(set(parted)) == len(parted):
            notes.append("each seed has a split of its own: the deviation covers the choice of the test cases too")
    commits = sorted({str(report["provenance"]["git_commit"] or "unknown") for report in reports})
    if len(commits) > 1:
        notes.append(f"made by different versions of the code: {', '.join(commits)}")
    return notes


def _gap(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Any]:
    """The mean of the one split minus that of the other, for every model that both have."""
    others = {model["name"]: model for model in second["models"]}
    models = []
    for model in first["models"]:
        if model["name"] in others:
            means = {m: (model[m]["mean"], others[model["name"]][m]["mean"]) for m in MEASURES}
            models.append({"name": model["name"], **{m: _minus(*pair) for m, pair in means.items()}})
    return {
        "dataset": first["dataset"],
        "first": first["split"],
        "second": second["split"],
        "first_reports": first["reports"],
        "second_reports": second["reports"],
        "models": models,
    }
