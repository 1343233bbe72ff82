"""What every online reinforcement-learning stage shares: roles on one backbone, rewards, and the loop of rounds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from bessemer.data.dataset import Dataset
from bessemer.data.mixture import epoch_order
from bessemer.data.records import Prompt
from bessemer.errors import UserError
from bessemer.models.feed import Feed
from bessemer.models.heads import RewardHead
from bessemer.models.model import ADAPTER, Model, save_model
from bessemer.rollout.collect import Answer, gold_means, gold_scores, rewards_of, sample_answers
from bessemer.rollout.sampler import Sampler, Sampling
from bessemer.run import Run
from bessemer.tasks.judge import judge
from bessemer.training.fit import TrainState

__all__ = [
    "Method",
    "Prompts",
    "Reward",
    "Settings",
    "fresh_answers",
    "means",
    "policy_and_reference",
    "reward_of_rules",
    "rounds",
    "shuffled",
]


class Settings(Protocol):
    """What the configuration of every such stage has."""

    total_steps: int
    response_length: int
    temperature: float
    eval_steps: int
    eval_prompts: int


class Method(Protocol):
    """One algorithm at work."""

    state: TrainState
    sampler: Sampler
    feed: Feed

    def round(self, step: int) -> dict[str, float]:
        """Sample, score and learn; returns what to log, "reward" among it."""
        ...


class Prompts:
    """The prompts of every round, a pure function of the round: each once before any comes twice. Final."""

    def __init__(self, prompts: Sequence[Prompt], per_round: int, seed: int) -> None:
        self.prompts, self.per_round = list(prompts), per_round
        self.order = lru_cache(maxsize=2)(lambda epoch: epoch_order(len(self.prompts), seed, epoch))

    def __call__(self, step: int) -> list[Prompt]:
        """The prompts of round `step`."""
        places = range(step * self.per_round, (step + 1) * self.per_round)
        count = len(self.prompts)
        return [self.prompts[self.order(place // count)[place % count]] for place in places]


class Reward:
    """From raw scores of the principles to one reward an answer, as the recipe wants it. Final.

    thresholds: principles that are a threshold in standard deviations instead of a summand; missing_eos_penalty:
    taken from an answer that was cut off; shuffle: give each answer another answer's reward, as a control.
    """

    def __init__(
        self, head: RewardHead, thresholds: Mapping[str, float], missing_eos_penalty: float, shuffle: bool, seed: int
    ) -> None:
        if unknown := sorted(set(thresholds) - set(head.principles)):
            raise UserError(f"thresholds names {unknown}, expected some of {list(head.principles)}")
        weights = zip(head.principles, head.weights.tolist(), strict=True)
        if not any(weight > 0 and name not in thresholds for name, weight in weights):
            raise UserError("every principle with a weight is a threshold, expected one to be raised")
        self.principles = head.principles
        self.mean, self.std, self.weights = head.mean.cpu(), head.std.cpu(), head.weights.cpu()
        limits = [thresholds.get(name, float("nan")) for name in head.principles]
        self.limits = torch.tensor(limits) if thresholds else None
        self.missing_eos_penalty, self.shuffle, self.seed = missing_eos_penalty, shuffle, seed

    def __call__(self, scores: Tensor, answers: Sequence[Answer], step: int) -> tuple[Tensor, dict[str, float]]:
        """Reward of each answer (B,) from its raw scores (B, P), and what to log of them."""
        ended = [answer.ended for answer in answers]
        rewards = rewards_of(scores, ended, self.mean, self.std, self.weights, self.limits, self.missing_eos_penalty)
        standardised = ((scores - self.mean) / self.std).mean(0)
        metrics = {f"reward/{name}": float(s) for name, s in zip(self.principles, standardised, strict=True)}
        metrics["reward"] = float(rewards.mean())
        return (shuffled(rewards, self.seed, step) if self.shuffle else rewards), metrics


def means(rows: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Mean of each figure of the first row over all rows."""
    return {name: sum(row.get(name, 0.0) for row in rows) / len(rows) for name in rows[0]}


def shuffled(rewards: Tensor, seed: int, step: int) -> Tensor:
    """Each answer with another answer's reward: the control of every reward."""
    return rewards[torch.randperm(len(rewards), generator=torch.Generator().manual_seed(seed * 7919 + step))]


def reward_of_rules(answers: Sequence[Answer]) -> Tensor:
    """Reward of each answer (B,) by the gold rule itself: the mean of the principles that it can judge, else 0."""
    judged = [[score for score in row.values() if score is not None] for row in gold_scores(judge, answers)]
    return torch.tensor([sum(scores) / len(scores) if scores else 0.0 for scores in judged])


def fresh_answers(
    sampler: Sampler, feed: Feed, prompts: Sequence[Prompt], sampling: Sampling, copies: int = 1
) -> list[Answer]:
    """`sample_answers` with the weights of now, whose copy makes room afterwards for what learns."""
    sampler.refresh()
    try:
        return sample_answers(sampler, feed, prompts, sampling, copies)
    finally:
        sampler.refresh()


def policy_and_reference(model: Model, seed: int) -> str | None:
    """Put the adapter "policy" (a copy of the fine-tuned one, else fresh) on the model; returns the reference's
    adapter: the fine-tuned one, frozen; None: the bare backbone."""
    lora = model.adapters()
    reference = ADAPTER if ADAPTER in lora.adapters else None
    if reference is None:
        lora.add("policy", rank=16, alpha=32.0, seed=seed)
    else:
        lora.copy(reference, "policy")
    return reference


def rounds(run: Run, method: Method, dataset: Dataset, settings: Settings, description: str) -> Path:
    """Play every round from the newest checkpoint on, look at held-out prompts by the gold rule, save the policy.

    Every round leaves a checkpoint.
    """
    state, sampler, feed, total = method.state, method.sampler, method.feed, settings.total_steps
    heldout = dataset.prompts("heldout")[: settings.eval_prompts] if settings.eval_prompts else []
    feed.prepare([prompt.messages for prompt in [*dataset.prompts("ppo"), *heldout]])

    def gold() -> dict[str, float]:
        sampling = Sampling(settings.response_length, settings.temperature, seed=1)
        return gold_means(judge, fresh_answers(sampler, feed, heldout, sampling)) if heldout else {}

    start = state.resume(run)
    with run.track(total, description, start=start) as bar:
        for step in range(start, total):
            metrics = gold() if settings.eval_steps and step % settings.eval_steps == 0 else {}
            metrics |= method.round(step)
            run.log(step + 1, metrics)
            bar.advance(1, reward=metrics["reward"])
            state.save(run, step + 1)  # a round takes far longer than this
            run.raise_if_stopped()
    final = gold()
    feed.model.reward = None
    save_model(feed.model, run.model_directory, adapter="policy")
    return run.finish(**final)
