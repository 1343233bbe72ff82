"""Scores by hand: two fires of 100 x 100 pixels in a picture of 1000 x 1000, so that numbers are pixels."""

from __future__ import annotations

from typing import Any

import pytest

from bessemer.data.records import Message, Prompt
from bessemer.tasks.judge import judge

FIRES = [{"label": "fire", "box": [0, 0, 100, 100]}, {"label": "fire", "box": [200, 0, 300, 100]}]


def score(answer: str, objects: list[dict[str, Any]] = FIRES) -> dict[str, float | None]:
    facts = {
        "rule": "objects", "kind": "detect", "task": "detect", "asked": [], "classes": ["fire"], "objects": objects,
        "picture": [1000, 1000, 1000], "names": {"fire": ["fire", "fires"], "smoke": ["smoke"]}, "length": [4, 30],
        "reference": "Fire [0, 0, 100, 100]; fire [200, 0, 300, 100].",
    }  # fmt: skip
    return judge(Prompt("p", (Message("user", "Detect every fire."),), facts=facts), answer, True)


def test_both_one_and_none() -> None:
    both = score("Fire [0, 0, 100, 100]; fire [200, 0, 300, 100].")
    assert both == dict.fromkeys(both, 1.0)
    one = score("Fire [0, 0, 100, 100].")
    assert one["truthfulness"] == pytest.approx(0.7 + 0.3 * 0.5) and one["helpfulness"] == pytest.approx(0.3 + 0.35)
    assert one["harmlessness"] == pytest.approx(0.3 + 0.35)
    none = score("There is no fire.")
    assert [none[name] for name in ("truthfulness", "helpfulness", "harmlessness")] == [0, 0, 0]


def test_overlap_counts_in_steps() -> None:
    """Moved by a fifth the overlap is 80 / 120; full marks are at 0.85 and none at 0.1."""
    found = score("Fire [20, 0, 120, 100]; fire [220, 0, 320, 100].")
    assert found["truthfulness"] == pytest.approx((2 / 3 - 0.1) / 0.75, abs=1e-6)
    assert found["harmlessness"] == 1.0


def test_false_alarms_and_other_names() -> None:
    more = score("Fire [0, 0, 100, 100]; fire [200, 0, 300, 100]; fire [500, 500, 600, 600].")
    assert more["truthfulness"] == pytest.approx(0.7 * 2 / 3 + 0.3)
    assert more["harmlessness"] == pytest.approx(0.9) and more["helpfulness"] == pytest.approx(0.9)
    other = score("Smoke [0, 0, 100, 100]; smoke [200, 0, 300, 100].")
    assert other["truthfulness"] == 0 and other["helpfulness"] == 0


def test_where_nothing_is() -> None:
    assert score("There is no fire.", [])["truthfulness"] == 1.0
    alarm = score("Fire [0, 0, 100, 100].", [])
    assert alarm["truthfulness"] == 0 and alarm["harmlessness"] == pytest.approx(0.7)
    assert score("Hm.", [])["truthfulness"] == 0.15


def test_malformed_lists_are_unclear() -> None:
    clean = score("Fire [0, 0, 100, 100]; fire [200, 0, 300, 100].")["clarity"]
    broken = score("Fire [0, 0, 100, 100]; fire [300, 0, 200, 100].")["clarity"]
    assert clean == 1.0 and broken == pytest.approx(0.5)
    assert score("")["clarity"] == 0 and score("")["harmlessness"] == 0.5
