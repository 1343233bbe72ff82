"""The page of a small measurement, to the letter; what was not measured is said so; plots are XML."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest
from growth import faster_than_predicted, growth
from page import main, page, read
from scaling import SWEEPS, WORKS, values
from shapes import SHAPES

EXPECTED = Path(__file__).with_name("expected.md")
DESCRIPTIONS: dict[str, Any] = {
    "sft": {
        "title": "Fine-tuning",
        "measure": "samples_per_second",
        "options": "--batch 8",
        "goals": [{"side": "trl", "speed": 3.5}, {"side": "trl", "memory": 0.25}, {"side": "lf", "speed": 4}],
        "sides": {"bessemer": "bessemer bench sft", "trl": "{trl} peer_trl.py sft", "lf": "{lf} peer_lf.py sft"},
    },
    "ppo": {
        "title": "PPO",
        "measure": "seconds_per_step",
        "options": "--batch 32",
        "goals": [{"side": "trl", "speed": 4}],
        "sides": {"bessemer": "bessemer bench ppo", "trl": "{trl} peer_trl_ppo.py ppo"},
    },
}
REMARKS: dict[str, Any] = {
    "remarks": {},
    "trick": [
        {
            "name": "Heads | chunks",
            "paid": True,
            "ratio": "2",
            "command": "make x",
            "date": "2026-01-02",
            "source": "h",
        },
        {"name": "Compiling", "paid": False, "ratio": "", "command": "", "date": "", "source": "d"},
    ],
}


def spread(median: float, minimum: float, maximum: float) -> dict[str, float]:
    return {"median": median, "minimum": minimum, "maximum": maximum}


def side(speed: dict[str, float], peak: float, **more: Any) -> dict[str, Any]:
    figures = {
        "samples_per_second": speed,
        "peak_rss_gb": spread(peak, peak, peak),
        "seconds_per_step": spread(2, 1, 3),
    }
    return {**figures, "rounds": 3, "dtype": "bf16", "ratio": None, "memory_ratio": None, "ratios": [], **more}


@pytest.fixture
def results() -> dict[str, Any]:
    ours = side(spread(4, 3.9, 4.1), 1, versions={"torch": "2.0"}, command="bessemer bench sft --batch 8")
    trl = side(
        spread(1, 0.9, 1.2), 5, versions={"torch": "2.1", "trl": "1.0"}, command="{trl} peer_trl.py sft --batch 8",
        ratio=spread(4, 3.25, 4.5), ratios=[3.25, 4, 4.5], memory_ratio=spread(0.3, 0.2, 0.4),
        seconds_per_step=spread(10, 9, 11),
    )  # fmt: skip
    measured = {
        "date": "2026-01-02", "commits": ["abc"], "measure": "samples_per_second", "quick": False,
        "first": "bessemer", "sides": {"bessemer": ours, "trl": trl},
    }  # fmt: skip
    machine = {"processor": "Abacus", "cores": 2, "memory_gb": 24.0}
    roofline = {
        "machine": machine, "date": "2026-01-03", "commit": "def", "peak": {"gflops": 700.4, "gbs": 39.04},
        "least_seconds_per_step": {"sft": 0.8, "ppo": 5.0},
    }  # fmt: skip
    return {"summary": {"machine": machine, "comparisons": {"sft": measured}}, "roofline": roofline, "scaling": {}}


def point(median: float, predicted: float, shape: str) -> dict[str, Any]:
    return {
        "seconds": spread(median, median * 0.9, median * 1.5), "predicted": predicted, "ratio": median / predicted,
        "parameters": SHAPES[shape].parameters, "shape": shape, "date": "2026-01-02", "commit": "abc",
        "peak": {"gflops": 167.4, "gbs": 20.0}, "flop": predicted * 167.4e9, "bytes": 0.0,
    }  # fmt: skip


def scaling(sweep: str) -> dict[str, Any]:
    """Every point of a sweep; scoring ends 1.3 times further from its line than it began."""
    points = {}
    for work in WORKS:
        chosen = values(SWEEPS[sweep], work)
        for number, one in enumerate(chosen, 1):
            far = 2.6 if work == "forward" and number == len(chosen) else 2.0
            points[one.key] = point(far * 0.01 * number, 0.01 * number, one.shape)
    return {"machine": {"processor": "Abacus", "cores": 2, "memory_gb": 24.0}, "points": points}


def test_the_page_to_the_letter(results: dict[str, Any]) -> None:
    text, plots = page(DESCRIPTIONS, results, REMARKS)
    assert text == EXPECTED.read_text(encoding="utf-8") and not plots


def test_a_page_of_what_was_measured_alone(results: dict[str, Any]) -> None:
    text, _ = page(DESCRIPTIONS, results, None)
    assert "## What" not in text and "## How cost grows" not in text
    grown, plots = page(DESCRIPTIONS, {**results, "scaling": scaling("batch")}, None, "elsewhere")
    assert "(elsewhere/batch.svg)" in grown and list(plots) == ["batch.svg"]


def test_a_page_of_nothing_says_so() -> None:
    text, plots = page(DESCRIPTIONS, {"summary": {}, "roofline": {}, "scaling": {}}, {})
    assert "Nothing has been measured yet." in text and not plots
    assert text.count("| not measured |") == 4  # the goals
    assert "Not measured: `bessemer bench ppo --batch 32`." in text and text.count("None is recorded.") == 2


def test_other_machines_have_pages_of_their_own(
    results: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "machines" / "abacus"
    other.mkdir(parents=True)
    (other / "summary.json").write_text(json.dumps(results["summary"]))
    monkeypatch.setattr("sys.argv", ["page.py", "--results", str(tmp_path), "--page", str(tmp_path / "written.md")])
    main()
    here, there = ((tmp_path / name).read_text() for name in ("written.md", "written-abacus.md"))
    assert "Nothing has been measured yet." in here and "### PPO, equal epochs\n\nNot measured" in here
    assert "| trl | 1 (0.9" in there and "PPO" not in there and "## What paid" in here and "## What paid" not in there


def test_tiny_sizes_are_called_so(results: dict[str, Any]) -> None:
    warning = "**Tiny sizes: these figures only show that everything runs.**"
    assert warning not in page(DESCRIPTIONS, results, REMARKS)[0]
    results["summary"]["comparisons"]["sft"]["quick"] = True
    assert warning in page(DESCRIPTIONS, results, REMARKS)[0]


def test_files_that_are_not_there_are_empty(tmp_path: Path) -> None:
    (tmp_path / "roofline.json").write_text('{"peak": 1}')
    assert read(tmp_path) == {"summary": {}, "roofline": {"peak": 1}, "scaling": {}}


@pytest.mark.parametrize("sweep", SWEEPS)
def test_a_sweep_has_a_plot_a_table_and_the_rows_that_grow_too_fast(sweep: str) -> None:
    text, plots = growth(scaling(sweep), {}, "performance")
    assert list(plots) == [f"{sweep}.svg"] and f"(performance/{sweep}.svg)" in text
    # 20 ms with 18 to 30 beside the least of 10
    assert "| 20 (18 – 30) | 10 | 2 | 20 (18 – 30) | 10 | 2 |" in text
    last = {
        "batch": "128 sequences in the batch",
        "length": "2048 tokens of a sequence",
        "size": "501.2 millions",
        "roles": "4 roles on",
    }
    named = [line for line in text.splitlines() if "grows faster than the arithmetic" in line]
    assert len(named) == 1 and last[sweep] in named[0] and named[0].startswith("Scoring")
    assert named[0].endswith("the reason has not been found yet.")
    reasoned, _ = growth(scaling(sweep), {f"{sweep} forward": "it pages."}, "performance")
    assert "it pages." in reasoned and "not been found" not in reasoned


@pytest.mark.parametrize("sweep", SWEEPS)
def test_a_plot_is_well_formed_and_stands_alone(sweep: str) -> None:
    svg = growth(scaling(sweep), {}, "performance")[1][f"{sweep}.svg"]
    root = ET.fromstring(svg)
    assert root.tag == "{http://www.w3.org/2000/svg}svg" and root.attrib["viewBox"] == "0 0 620 400"
    said = {text for element in root.iter("{http://www.w3.org/2000/svg}text") if (text := "".join(element.itertext()))}
    assert {"a decoding step", "scoring", "a training step", "least time by the arithmetic"} <= said
    assert {"time of one step", "10 ms"} <= said
    used = {name.split(")")[0] for name in svg.split("var(")[1:]}
    assert used and all(f"{name}:" in svg for name in used)  # every colour is defined in the file
    assert "http://" not in svg.replace("http://www.w3.org", "") and "<script" not in svg


def test_a_point_that_failed_is_not_measured() -> None:
    report = scaling("batch")
    failed = values(SWEEPS["batch"], "train")[-1].key
    report["points"][failed] = {"error": "exit status -9: nothing"}
    text, plots = growth(report, {}, "performance")
    row = next(line for line in text.splitlines() if line.startswith("| 128 |"))  # of the batch, which comes first
    assert row.endswith("| not measured |  |  |") and plots
    assert "models in bf16;" in text and "\n2026-01-02; the peak was 167 GFLOP/s (167 to 167).\n" in text
    assert "models in fp32;" in growth({**report, "dtype": "fp32"}, {}, "performance")[0]


def test_every_point_is_held_against_the_same_peak() -> None:
    """One process met a tenth of the peak of the others: its step did not take less work for that."""
    report = scaling("batch")
    slow = report["points"][values(SWEEPS["batch"], "forward")[0].key]
    slow["peak"] = {"gflops": 16.74, "gbs": 2.0}
    slow["predicted"], slow["ratio"] = 0.1, 0.2
    text, _ = growth(report, {}, "performance")
    assert "| 1 | 20 (18 – 30) | 10 | 2 | 20 (18 – 30) | 10 | 2 |" in text and "(17 to 167)" in text
    slow["flop"], slow["bytes"] = 0.0, 0.02 * 20e9
    assert "| 20 (18 – 30) | 20 | 1 |" in growth(report, {}, "performance")[0]


def test_growth_is_compared_with_every_smaller_place() -> None:
    def curve(*ratios: float) -> list[tuple[float, dict[str, float]]]:
        return [(2.0**i, {"ratio": ratio}) for i, ratio in enumerate(ratios)]

    assert faster_than_predicted(curve(5, 3, 2, 2.4)) == []  # 2.4 is within a quarter of 2
    assert faster_than_predicted(curve(5, 2, 2.4, 2.6)) == [8.0]
    assert faster_than_predicted(curve(1, 1.3, 1.2, 3)) == [2.0, 8.0]
    assert faster_than_predicted(curve(4)) == []
