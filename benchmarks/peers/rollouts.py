"""The two rollouts, for any engine that can sample: whole batches of one length, and a mix of lengths."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from measurement import WARM_UP, Options, Spans, write
from workload import mixed_lengths, random_prompts

Generate = Callable[[list[list[int]], list[int]], None]
"""Samples at temperature 1 from the whole vocabulary: prompts, then for each how many tokens, none fewer."""


def measure(
    options: Options, generate: Generate, vocabulary: int, dtype: str, threads: int, packages: Sequence[str]
) -> None:
    """Run a rollout `--steps` times after the warm-up and write its JSON; reading the prompts counts as time."""
    lengths = mixed_lengths(options.mix) if options.mix else [options.new_tokens] * options.batch
    spans, began = Spans(), 0.0
    for step in range(WARM_UP + options.steps):
        if step == WARM_UP:
            began = time.perf_counter()
        generate(random_prompts(len(lengths), options.prompt_tokens, vocabulary, seed=step), lengths)
    elapsed = time.perf_counter() - began
    spans.seconds["rollout"] = elapsed
    samples, tokens = options.steps * len(lengths), options.steps * sum(lengths)
    write(options, packages, dtype, threads, elapsed, samples, tokens, spans.seconds, {})
