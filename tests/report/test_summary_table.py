from __future__ import annotations

import copy
from typing import Any

import pytest

from bessemer.report.summary import summarise
from bessemer.report.summary_table import summary_markdown, summary_text
from report.test_table import cells, small


def report(seed: int, split: str = "p1", accuracy: float = 0.8, dataset: str = "盒子") -> dict[str, Any]:
    """The base model has 5 of 10 right, sft `accuracy`; nothing else is measured."""
    made = small(dataset=dataset, split=split)
    made["seed"] = seed
    for model in made["models"]:
        model.update(dict.fromkeys(("balanced_accuracy", "f1_defect", "auc", "score")))
    made["models"][1]["accuracy"] = accuracy
    made["ppo_minus_sft"]["score"] = 0.01 * (seed + 1)
    return made


def test_the_table_of_two_seeds_in_full() -> None:
    text = summary_text(summarise({"a": report(0), "b": report(1, accuracy=0.9)}))
    assert text.splitlines() == [
        "盒子; p1; 10 test cases, 0 held-out prompts; seeds 0, 1",
        "model  accuracy %   unread %",
        "----------------------------",
        "base   50.0 ± 0.0  0.0 ± 0.0",
        "        50.0–50.0    0.0–0.0",
        "sft    85.0 ± 7.1  0.0 ± 0.0",
        "        80.0–90.0    0.0–0.0",
        "ppo minus sft, principle score: +1.5 ± 0.7 points (+1.0 to +2.0, 2 seeds)",
    ]


def test_one_seed_shows_a_dash_for_the_deviation_and_no_range() -> None:
    lines = summary_text(summarise({"a": report(0)})).splitlines()
    assert lines[0].endswith("; seed 0")
    assert lines[4] == "sft      80.0 ± –   0.0 ± –"
    assert lines[5:] == [
        "ppo minus sft, principle score: +1.0 ± – points (1 seed)",
        "note: one seed: nothing is known of the deviation",
    ]


def test_gaps_stand_at_the_end() -> None:
    summary = summarise({"a": report(0), "b": report(0, "p2", accuracy=0.6)})
    lines = summary_text(summary).splitlines()
    assert lines[-5] == "盒子: p1 minus p2, points between the means of 1 and 1 seeds"
    assert [line.split() for line in lines[-2:]] == [["base", "±0.0", "±0.0"], ["sft", "+20.0", "±0.0"]]


def test_how_many_seeds_a_model_has_is_shown_where_it_differs() -> None:
    fewer = report(1)
    del fewer["models"][1]
    lines = summary_text(summarise({"a": report(0), "b": fewer})).splitlines()
    assert [lines[i].split()[:2] for i in (1, 3, 5)] == [["model", "seeds"], ["base", "2"], ["sft", "1"]]


@pytest.mark.parametrize("width", [40, 100])
def test_no_line_is_wider_than_the_terminal(small_report: dict[str, Any], width: int) -> None:
    second = copy.deepcopy(small_report) | {"seed": 1}
    summary = summarise({"a": small_report, "b": second, "c": second | {"split": "P9"}})
    text = summary_text(summary, width)
    assert max(map(cells, text.splitlines())) <= width
    if width == 100:
        head = next(line for line in text.splitlines() if line.startswith("model"))
        assert head.split() == ["model", "accuracy", "%", "balanced", "%", "F1", "AUC", "unread", "%", "score", "%"]


def test_control_characters_and_markup_are_harmless() -> None:
    summary = summarise({"a|b": report(0, dataset="x\x1b[2J"), "c<": report(0, dataset="x\x1b[2J", split="*p2*")})
    assert "\x1b" not in summary_text(summary)
    text = summary_markdown(summary)
    assert "\x1b" not in text and "a\\|b" in text and "c&lt;" in text and "\\*p2\\*" in text


def test_markdown_in_full() -> None:
    reports = {"runs/0/report.json": report(0), "runs/1/report.json": report(1, accuracy=0.9)}
    assert summary_markdown(summarise(reports)).splitlines() == [
        "Mean ± standard deviation over seeds (least to greatest).",
        "",
        "**盒子; p1; 10 test cases, 0 held-out prompts; seeds 0, 1**",
        "",
        "| model | seeds | accuracy % | unread % |",
        "| --- | ---: | ---: | ---: |",
        "| base | 2 | 50.0 ± 0.0 (50.0 to 50.0) | 0.0 ± 0.0 (0.0 to 0.0) |",
        "| sft | 2 | 85.0 ± 7.1 (80.0 to 90.0) | 0.0 ± 0.0 (0.0 to 0.0) |",
        "",
        "- ppo minus sft, principle score: +1.5 ± 0.7 points (+1.0 to +2.0, 2 seeds)",
        "- report: runs/0/report.json",
        "- report: runs/1/report.json",
    ]
