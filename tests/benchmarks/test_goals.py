"""Whether a goal was met, by numbers worked by hand."""

from __future__ import annotations

import tomllib
from typing import Any

import pytest
from goals import Goal, Kind, judge, read_goals
from paired import PEERS


def summary(ratios: list[float], memory: tuple[float, float, float] = (0.2, 0.1, 0.3)) -> dict[str, Any]:
    spread = dict(zip(("median", "minimum", "maximum"), memory, strict=True))
    return {"sft": {"sides": {"trl": {"ratios": ratios, "memory_ratio": spread}}}}


@pytest.mark.parametrize(
    ("ratios", "limit", "state"),
    [
        ([3.5, 3.5, 4.0], 3.5, "met"),  # all at the limit or above
        ([3.4, 3.6, 4.0], 3.5, "met by the median, not in every round"),
        ([3.4, 3.4, 9.0], 3.5, "**missed**"),  # the median, not the mean of 5.3
    ],
)
def test_speed_is_at_least(ratios: list[float], limit: float, state: str) -> None:
    verdict = judge(Goal("sft", "trl", "speed", limit), summary(ratios))
    assert verdict.state == state
    assert verdict.reached == (sorted(ratios)[1], min(ratios), max(ratios))


@pytest.mark.parametrize(
    ("ratios", "state"),
    [
        ([1.0, 1.25, 0.95], "met"),  # costs 1, 0.8 and 1.053
        ([0.8, 1.0, 0.95], "met by the median, not in every round"),  # 1.25 in one round
        ([0.8, 0.9, 1.0], "**missed**"),  # 1.111
    ],
)
def test_cost_is_our_time_by_theirs_and_at_most(ratios: list[float], state: str) -> None:
    assert judge(Goal("sft", "trl", "cost", 1.1), summary(ratios)).state == state


def test_cost_by_hand() -> None:
    reached = judge(Goal("sft", "trl", "cost", 1.1), summary([0.8, 1.0, 2.0])).reached
    assert reached == (1.0, 0.5, 1.25)


@pytest.mark.parametrize(
    ("memory", "state"),
    [
        ((0.2, 0.1, 0.25), "met"),
        ((0.2, 0.1, 0.3), "met by the median, not in every round"),
        ((0.26, 0.1, 0.3), "**missed**"),
    ],
)
def test_memory_is_at_most(memory: tuple[float, float, float], state: str) -> None:
    assert judge(Goal("sft", "trl", "memory", 0.25), summary([1.0], memory)).state == state


@pytest.mark.parametrize("kind", ["speed", "cost", "memory"])
def test_what_is_not_there_was_not_measured(kind: Kind) -> None:
    assert judge(Goal("ppo", "trl", kind, 4), summary([5.0])).state == "not measured"
    assert judge(Goal("sft", "llamafactory", kind, 4), summary([5.0])).state == "not measured"
    assert judge(Goal("sft", "trl", kind, 4), summary([])).state == "not measured"


def test_a_goal_against_nobody_is_refused() -> None:
    sides = {"bessemer": "", "trl": ""}
    with pytest.raises(ValueError, match="sft: goal .*tlr.*, expected a side of the comparison"):
        read_goals({"sft": {"sides": sides, "goals": [{"side": "tlr", "speed": 4}]}})
    with pytest.raises(ValueError, match="expected a side of the comparison and speed, cost or memory"):
        read_goals({"sft": {"sides": sides, "goals": [{"side": "trl", "sped": 4}]}})


def test_every_row_of_the_goals_is_a_comparison() -> None:
    goals = read_goals(tomllib.loads((PEERS / "comparisons.toml").read_text(encoding="utf-8")))
    wanted: set[tuple[str, str, str, float]] = {
        ("rollout-32", "transformers", "speed", 6), ("rollout-32", "vllm", "speed", 2.5),
        ("rollout-8", "transformers", "speed", 3.5), ("rollout-8", "vllm", "speed", 2),
        ("rollout-1-int8", "transformers", "speed", 3), ("rollout-1-int8", "llama-cpp-q8", "speed", 1),
        ("rollout-1", "transformers", "speed", 3), ("rollout-1", "llama-cpp", "speed", 1),
        ("rollout-mix", "vllm", "speed", 1.5), ("sft", "llamafactory", "speed", 4), ("sft", "trl-best", "speed", 3.5),
        ("reward", "trl", "speed", 3), ("grpo", "trl", "speed", 4), ("ppo", "trl", "speed", 4),
        ("ppo", "trl", "memory", 0.25), ("distill", "bessemer-sft", "cost", 1.1),
        ("vision", "bessemer-text", "cost", 1.1),
        *((f"rollout-32-{kind}", "vllm", "speed", 2.5) for kind in ("qwen2", "qwen3")),
        *((f"sft-{kind}", "llamafactory", "speed", 4) for kind in ("qwen2", "qwen3")),
    }  # fmt: skip
    found = {(goal.comparison, goal.side, goal.kind, goal.limit) for goal in goals}
    assert wanted <= found
