"""What the online stages have in common."""

from __future__ import annotations

import gc
import weakref
from pathlib import Path
from typing import Any

import pytest
import torch

import tiny
from bessemer.data.records import Message, Prompt
from bessemer.models.feed import Feed
from bessemer.rollout.decoder import Decoder
from bessemer.rollout.sampler import DecoderSampler, Sampling
from bessemer.stages import grpo, ppo
from bessemer.stages.rounds import Prompts, fresh_answers, shuffled


def test_what_samples_makes_room_for_what_learns(tmp_path: Path) -> None:
    model = tiny.text_model(tmp_path)
    sampler = DecoderSampler(model, None)
    copy: weakref.ref[Decoder] = weakref.ref(sampler.decoder)
    prompts = [Prompt("a", (Message("user", "Who is there?"),))]
    answers = fresh_answers(sampler, Feed(model, tmp_path, tmp_path), prompts, Sampling(3, 0.0), copies=2)
    gc.collect()
    assert len(answers) == 2 and copy() is None
    assert sampler.__dict__["_decoder"] is None


def test_every_prompt_comes_once_before_any_comes_twice() -> None:
    """7 prompts, 3 a round: seven rounds are three passes, each in an order of its own, asked in any order."""
    asked = [Prompt(str(n), (Message("user", "?"),)) for n in range(7)]
    rounds = Prompts(asked, 3, 0)
    seen = [prompt.id for step in range(7) for prompt in rounds(step)]
    passes = [seen[start : start + 7] for start in (0, 7, 14)]
    assert [sorted(one) for one in passes] == [[prompt.id for prompt in asked]] * 3
    assert len({tuple(one) for one in [*passes, [prompt.id for prompt in asked]]}) == 4
    assert [prompt.id for prompt in Prompts(asked, 3, 0)(4)] == seen[12:15]
    assert [prompt.id for step in range(7) for prompt in Prompts(asked, 3, 1)(step)] != seen


def test_shuffled_rewards_are_the_same_rewards_in_another_order_each_round() -> None:
    rewards = torch.linspace(-3, 3, 40)
    found = [tuple(shuffled(rewards, seed, step).tolist()) for seed, step in ((0, 0), (0, 1), (1, 0))]
    assert all(sorted(one) == rewards.tolist() for one in found)
    assert len({*found, tuple(rewards.tolist())}) == 4
    assert tuple(shuffled(rewards, 0, 1).tolist()) == found[1]


@pytest.mark.parametrize("stage", [ppo, grpo], ids=["ppo", "grpo"])
def test_every_round_draws_numbers_of_its_own_at_a_rate_that_falls(
    stage: Any, shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One round of four to rise to the peak, then down to a third of it; the critic learns twice as fast."""
    seeds, rates = [], []
    sample, step = stage.fresh_answers, stage.optimiser_step

    def sampled(sampler: Any, feed: Any, prompts: Any, sampling: Sampling, *rest: Any) -> Any:
        seeds.append(sampling.seed)
        return sample(sampler, feed, prompts, sampling, *rest)

    def stepped(optimiser: torch.optim.Optimizer, *rest: Any) -> Any:
        rates.append([group["lr"] for group in optimiser.param_groups])
        return step(optimiser, *rest)

    monkeypatch.setattr(stage, "fresh_answers", sampled)
    monkeypatch.setattr(stage, "optimiser_step", stepped)
    of = {"num_ppo_epochs": 1, "mini_batch_size": 2} if stage is ppo else {"num_generations": 2}
    given = {"model_name_or_path": "sft", "reward_model": "reward", "dataset": "import"}
    paths = {name: str(shop / folder) for name, folder in given.items()}
    size = {"total_steps": 4, "batch_size_prompts": 2, "response_length": 3, "eval_steps": 0, "eval_prompts": 0}
    for seed in (0, 1):
        out = str(tmp_path / str(seed))
        stage.run(stage.Config(**paths, **size, **of, learning_rate=0.03, dtype="fp32", seed=seed, output_dir=out))
    assert len(seeds) == len(set(seeds)) == 8
    falling = [0.015, 0.03, 0.02, 0.01]
    assert [rate[0] for rate in rates] == pytest.approx(falling * 2)
    if stage is ppo:
        assert [rate[-1] for rate in rates] == pytest.approx([2 * rate for rate in falling] * 2)
