"""The options that every runner takes and the JSON that every runner writes, as `bessemer bench` does.

Standard library alone, because each peer imports it inside its own environment.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

WARM_UP = 1
"""Batches or optimiser steps that are run first and not counted."""
SPANS = ("rollout", "reward", "reference", "train")


@dataclass(frozen=True)
class Options:
    """One run: what to measure, in which setting, on what, how much of it."""

    work: str
    variant: str
    model: Path
    data: Path | None
    teacher: Path | None
    batch: int
    prompt_tokens: int
    new_tokens: int
    mix: int
    steps: int
    group: int
    epochs: int
    kl: float
    json: Path


def parse(works: Sequence[str], about: str, variants: Sequence[str] = ("defaults", "best")) -> Options:
    """The options of the command line; `works` are those that this peer can do, `variants` its settings."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", choices=works)
    parser.add_argument("--variant", choices=variants, default="defaults", help="settings of the peer")
    parser.add_argument("--model", type=Path, required=True, help="Hugging Face directory")
    parser.add_argument("--data", type=Path, help="alpaca JSON; all but rollout need it")
    parser.add_argument("--teacher", type=Path, help="distill: Hugging Face directory (the model itself)")
    parser.add_argument("--batch", type=int, default=8, help="sequences; reward: prompts; grpo, ppo: answers a step")
    parser.add_argument("--prompt-tokens", type=int, default=64)
    parser.add_argument("--new-tokens", type=int, default=64)
    parser.add_argument("--mix", type=int, default=0, help="rollout: this many requests of 8 to 128 new tokens instead")
    parser.add_argument("--steps", type=int, default=3, help="batches or optimiser steps that are counted")
    parser.add_argument("--group", type=int, default=8, help="grpo: answers to a prompt; reward: ranked answers to one")
    parser.add_argument("--epochs", type=int, default=4, help="ppo: passes over the answers of a step")
    parser.add_argument("--kl", type=float, default=0.0, help="grpo: weight of the divergence from the start")
    parser.add_argument("--json", type=Path, required=True, help="file to write")
    options = Options(**vars(parser.parse_args()))
    if options.work != "rollout" and options.data is None:
        parser.error(f"{options.work} needs --data FILE.json (alpaca)")
    return options


@dataclass
class Spans:
    """Seconds spent inside the functions that were wrapped, by name."""

    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(SPANS, 0.0))

    def timed(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """`function`, with its time added to `name`; calls inside one another must have one name each."""

        def call(*arguments: Any, **named: Any) -> Any:
            began = time.perf_counter()
            try:
                return function(*arguments, **named)
            finally:
                self.seconds[name] += time.perf_counter() - began

        return call

    def restart(self) -> None:
        """Forget what the warm-up took."""
        self.seconds = dict.fromkeys(SPANS, 0.0)

    def fill_train(self, elapsed: float) -> None:
        """Training is what of `elapsed` the other spans leave."""
        self.seconds["train"] = max(0.0, elapsed - sum(self.seconds[name] for name in SPANS if name != "train"))


def usable_cores() -> int:
    """Threads for a library that does not read OMP_NUM_THREADS itself."""
    return int(os.environ.get("OMP_NUM_THREADS") or len(os.sched_getaffinity(0)))


def write(
    options: Options,
    packages: Sequence[str],
    dtype: str,
    threads: int,
    elapsed: float,
    samples: int,
    tokens: int,
    seconds: Mapping[str, float],
    curve: Mapping[str, Sequence[float]],
) -> None:
    """Write what was measured.

    Args:
        packages: distributions whose versions are reported.
        elapsed: seconds of all counted steps, without loading and warm-up.
        samples: samples, answers or requests in that time.
        tokens: rollouts and reinforcement: new tokens; training: those of the samples, padding left out.
        seconds: `elapsed` by span.
        curve: "loss" or "reward" of each counted step.
    """
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    result: dict[str, Any] = {
        "work": options.work,
        "variant": options.variant,
        "model": str(options.model),
        "dtype": dtype,
        "threads": threads,
        "batch": options.batch,
        "tokens": tokens,
        "tokens_per_second": tokens / elapsed,
        "samples_per_second": samples / elapsed,
        "seconds_per_step": elapsed / options.steps,
        "seconds": dict(seconds),
        "peak_rss_gb": peak,
        **{name: list(values) for name, values in curve.items()},
        "versions": {"python": platform.python_version(), **{name: metadata.version(name) for name in packages}},
    }
    options.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
