"""What has to be reached, as comparisons.toml has it, and whether it was."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

__all__ = ["Goal", "Verdict", "judge", "read_goals"]

Kind = Literal["speed", "cost", "memory"]
MET, BARELY, MISSED, UNKNOWN = "met", "met by the median, not in every round", "**missed**", "not measured"


@dataclass(frozen=True)
class Goal:
    """One goal of a comparison against one side of it.

    kind: "speed", how many times as fast ours is, at least `limit`; "cost", our time by theirs, and "memory", our peak
    by theirs, at most `limit`.
    """

    comparison: str
    side: str
    kind: Kind
    limit: float

    @property
    def text(self) -> str:
        if self.kind == "speed":
            return f"≥ {self.limit:g}x as fast as {self.side}"
        return f"≤ {self.limit:g}x the {'time' if self.kind == 'cost' else 'peak memory'} of {self.side}"


@dataclass(frozen=True)
class Verdict:
    """reached: median, minimum and maximum over the rounds; None where nothing was measured."""

    goal: Goal
    reached: tuple[float, float, float] | None

    @property
    def state(self) -> str:
        if self.reached is None:
            return UNKNOWN
        median, minimum, maximum = self.reached
        above, limit = self.goal.kind == "speed", self.goal.limit
        if not (median >= limit if above else median <= limit):
            return MISSED
        return MET if (minimum >= limit if above else maximum <= limit) else BARELY


def read_goals(descriptions: Mapping[str, Mapping[str, Any]]) -> list[Goal]:
    """The goals of all comparisons, in the order of the file.

    Raises:
        ValueError: a goal against a side that the comparison does not have, or of no known kind.
    """
    goals = []
    for name, description in descriptions.items():
        for row in description.get("goals", []):
            ((kind, limit),) = [(key, value) for key, value in row.items() if key != "side"]
            if row["side"] not in description["sides"] or kind not in ("speed", "cost", "memory"):
                raise ValueError(f"{name}: goal {row}, expected a side of the comparison and speed, cost or memory")
            goals.append(Goal(name, row["side"], kind, float(limit)))
    return goals


def judge(goal: Goal, comparisons: Mapping[str, Mapping[str, Any]]) -> Verdict:
    """A goal beside what summary.json has of its comparison."""
    side = comparisons.get(goal.comparison, {}).get("sides", {}).get(goal.side)
    if side is None or not side["ratios"]:
        return Verdict(goal, None)
    if goal.kind == "memory":
        found = side["memory_ratio"]
        return Verdict(goal, (found["median"], found["minimum"], found["maximum"]))
    values: Sequence[float] = side["ratios"] if goal.kind == "speed" else [1 / ratio for ratio in side["ratios"]]
    return Verdict(goal, (statistics.median(values), min(values), max(values)))
