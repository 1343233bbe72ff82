"""Timing of a transformers Trainer from outside: when each optimiser step ended, what it logged and how much it saw."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from measurement import WARM_UP, Options, Spans, write
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments


class StepClock(TrainerCallback):
    """A callback that keeps the counted steps apart from the warm-up; loading the next batch belongs to a step."""

    def __init__(self, logged: str) -> None:
        """`logged` is the name under which the trainer logs the loss or the reward of a step."""
        self.spans = Spans()
        self.logged = logged
        self.ends: list[float] = []
        self.seen: list[int] = []
        self.curve: list[float] = []

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        self.ends.append(time.perf_counter())
        self.seen.append(int(getattr(state, "num_input_tokens_seen", 0)))
        if len(self.ends) == WARM_UP:
            self.spans.restart()

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        logs = kwargs["logs"]
        if self.logged in logs:
            self.curve.append(float(logs[self.logged]))

    def write(
        self, options: Options, packages: Sequence[str], dtype: str, threads: int, samples: int, tokens: int | None
    ) -> None:
        """Write the JSON.

        Args:
            samples: of one step.
            tokens: of one step; None for what the trainer counted itself.
        """
        if len(self.ends) != WARM_UP + options.steps:
            raise SystemExit(f"the trainer made {len(self.ends)} steps, expected {WARM_UP + options.steps}")
        elapsed = self.ends[-1] - self.ends[WARM_UP - 1]
        self.spans.fill_train(elapsed)
        counted = self.seen[-1] - self.seen[WARM_UP - 1] if tokens is None else tokens * options.steps
        name = "loss" if self.logged == "loss" else "reward"
        curve = {name: self.curve[WARM_UP : WARM_UP + options.steps]}
        write(options, packages, dtype, threads, elapsed, samples * options.steps, counted, self.spans.seconds, curve)
