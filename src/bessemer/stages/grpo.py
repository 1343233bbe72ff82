"""Group-relative policy optimisation: several answers to each prompt, each measured against the others; no critic.

Shao et al. 2024 (DeepSeekMath, section 4.1). The reward of an answer, less what it costs in KL to the reference, is
compared with the mean of its group; tokens are averaged over the whole optimiser step (Yu et al. 2025, DAPO), so that
long answers are neither favoured nor spared. A prompt is read once for all of its answers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from bessemer.algos.advantage import group_relative, missing_eos
from bessemer.algos.kl import k1, k3
from bessemer.algos.masked import Loss, masked_mean
from bessemer.algos.policy import clipped_surrogate
from bessemer.config import Artifact
from bessemer.data.batches import pad_rows
from bessemer.data.dataset import Dataset
from bessemer.data.mixture import epoch_order
from bessemer.data.records import Prompt
from bessemer.distributed import Mesh
from bessemer.models.feed import Feed
from bessemer.models.heads import RewardHead
from bessemer.models.model import Model, load_model
from bessemer.models.precision import Precision
from bessemer.models.reward import load_reward
from bessemer.models.roles import Role, Roles
from bessemer.progress import Spans
from bessemer.rollout.collect import Answer, AnswerBatch, batch_of
from bessemer.rollout.sampler import Sampler, Sampling, sampler_for
from bessemer.stages.begin import begin, cache_directory
from bessemer.stages.rounds import (
    Prompts,
    Reward,
    fresh_answers,
    means,
    policy_and_reference,
    reward_of_rules,
    rounds,
    shuffled,
)
from bessemer.training.fit import TrainState
from bessemer.training.optim import Group, adamw, learning_rate_at, set_learning_rate
from bessemer.training.step import optimiser_step

__all__ = ["Config", "Loop", "run"]


@dataclass
class Config:
    model_name_or_path: Artifact = Artifact("sft")
    """Policy to improve; frozen, it is the reference too."""
    reward_model: Artifact = Artifact("reward")
    """Reward model: a reward stage on the same backbone; empty: the rules that judge answers are the reward (for
    tasks whose answers can be checked)."""
    dataset: Artifact = Artifact("import")
    """What the import stage wrote; ppo.jsonl and heldout.jsonl are read."""
    total_steps: int = 30
    """Rounds of sampling and learning."""
    batch_size_prompts: int = 8
    """Prompts a round."""
    num_generations: int = 8
    """Answers to each prompt, its group."""
    mini_batch_size: int = 0
    """Answers in one optimiser step, whole groups; 0: all of a round, which is then learnt from as it was sampled."""
    per_device_train_batch_size: int = 0
    """Answers forwarded at once, whole groups; 0: those of one prompt. More needs more memory and changes nothing
    else."""
    num_iterations: int = 1
    """Passes over a round's answers."""
    learning_rate: float = 1e-4
    """Peak learning rate of the policy's adapter."""
    response_length: int = 48
    """Longest answer in tokens."""
    temperature: float = 1.0
    """Sampling temperature; every pass divides its logits by it."""
    beta: float = 0.05
    """Price of one nat of KL to the reference, taken from the reward; 0: no reference, and no pass for it."""
    scale_rewards: Literal["group", "none"] = "none"
    """Divide advantages by the deviation within the group (as in the paper), which favours prompts that are nearly
    always or never answered well, or leave them (Dr. GRPO)."""
    epsilon: float = 0.2
    """Clip of the policy's ratio."""
    missing_eos_penalty: float = 1.0
    """Taken from the reward of an answer that was cut off."""
    thresholds: dict[str, float] = field(default_factory=dict)
    """Principles that are a threshold (in standard deviations) instead of a summand, such as harmlessness: -0.5."""
    shuffle_rewards: bool = False
    """Control: give each answer another answer's reward; nothing should be gained."""
    eval_steps: int = 5
    """Rounds between looks at held-out prompts."""
    eval_prompts: int = 64
    """Held-out prompts of such a look, scored by the gold rule."""
    dtype: Precision = "auto"
    """Type of frozen weights and activations: bf16, fp32, or auto: bf16 where the device multiplies it."""
    seed: int = 0
    """Seed of prompts, sampling and order."""
    output_dir: str = "runs/grpo"
    """Where to write."""

    @property
    def step_size(self) -> int:
        """Answers in an optimiser step."""
        return self.mini_batch_size or self.batch_size_prompts * self.num_generations

    @property
    def pass_size(self) -> int:
        """Answers in one pass."""
        return min(self.per_device_train_batch_size or self.num_generations, self.step_size)

    def faults(self) -> dict[str, bool]:
        """What could be wrong with it in itself, and whether it is."""
        group, total = self.num_generations, self.batch_size_prompts * self.num_generations
        if group < 2:  # nothing can be divided by 0
            return {f"num_generations={group}, expected at least 2: an answer is measured against the others": True}
        sizes = (
            f"{total} answers a round, mini_batch_size={self.step_size}, per_device_train_batch_size={self.pass_size}, "
            f"expected each to divide the one before and to be a multiple of num_generations={group}"
        )
        bounds = f"thresholds={self.thresholds} without reward_model, expected the model whose scores they bound"
        return {
            sizes: self.pass_size % group > 0 or self.step_size % self.pass_size > 0 or total % self.step_size > 0,
            bounds: bool(self.thresholds) and not self.reward_model,
            f"temperature={self.temperature}, expected above 0: a policy that explores": self.temperature <= 0,
        }


@dataclass(frozen=True)
class _Part:
    """Whole groups that are forwarded together; old_logprobs (b, T) when the answers were sampled, None: as they are
    now; advantages (b,)."""

    batch: AnswerBatch
    old_logprobs: Tensor | None
    advantages: Tensor


class Loop:
    """What one GRPO run holds; `round` is the algorithm on one page. Final."""

    def __init__(self, config: Config, roles: Roles, feed: Feed, sampler: Sampler, prompts: Sequence[Prompt]) -> None:
        self.config, self.roles, self.feed, self.sampler = config, roles, feed, sampler
        self.prompts = Prompts(prompts, config.batch_size_prompts, config.seed)
        self.reward: Reward | None = None
        if "reward" in roles.roles:
            head = roles.roles["reward"].head
            assert isinstance(head, RewardHead)
            penalty = config.missing_eos_penalty
            self.reward = Reward(head, config.thresholds, penalty, config.shuffle_rewards, config.seed)
        self.rule: Callable[[Sequence[Answer]], Tensor] = reward_of_rules
        self.spans = Spans()
        policy = {f"policy.{i}": p for i, p in enumerate(roles.parameters("policy"))}
        self.state = TrainState(policy, adamw([Group(policy, config.learning_rate)], eps=1e-6))

    def round(self, step: int) -> dict[str, float]:
        """Sample groups, score, compare within each group, learn; returns what to log."""
        config = self.config
        with self.spans("rollout"):
            sampling = Sampling(config.response_length, config.temperature, seed=config.seed * 100_003 + step)
            answers = fresh_answers(self.sampler, self.feed, self.prompts(step), sampling, config.num_generations)
        size = self.config.pass_size
        batches = [batch_of(self.feed, answers[k : k + size]) for k in range(0, len(answers), size)]
        with self.spans("reward"):
            rewards, metrics = self._rewards(batches, answers, step)
        with self.spans("reference"):
            old, kl, kl_metrics = self._before(batches)
        groups = (rewards - config.beta * kl).view(-1, config.num_generations)
        advantages = group_relative(groups, scale=config.scale_rewards == "group").flatten()
        parts = [
            _Part(batch, logprobs, advantage)
            for batch, logprobs, advantage in zip(batches, old, advantages.split(self.config.pass_size), strict=True)
        ]
        metrics |= {
            "length": sum(len(answer.ids) for answer in answers) / len(answers),
            "eos_rate": sum(answer.ended for answer in answers) / len(answers),
            "equal_groups": float((groups.std(1) < 1e-6).float().mean()),
            **kl_metrics,
        }
        with self.spans("train"):
            return metrics | self._learn(parts, step)

    @torch.no_grad()
    def _rewards(
        self, batches: Sequence[AnswerBatch], answers: Sequence[Answer], step: int
    ) -> tuple[Tensor, dict[str, float]]:
        """Reward of each answer (B,) and what to log of them."""
        config = self.config
        if self.reward is not None:
            scores = torch.cat([self.roles.scores("reward", batch.packed).cpu() for batch in batches])
            return self.reward(scores, answers, step)
        ended = torch.tensor([answer.ended for answer in answers])
        rewards = missing_eos(self.rule(answers), ended, config.missing_eos_penalty)
        metrics = {"reward": float(rewards.mean())}
        return (shuffled(rewards, config.seed, step) if config.shuffle_rewards else rewards), metrics

    @torch.no_grad()
    def _before(self, batches: Sequence[AnswerBatch]) -> tuple[list[Tensor | None], Tensor, dict[str, float]]:
        """Old log-probabilities of each part, where learning will need them; KL of each answer in nats (B,); what to
        log of it."""
        count = sum(len(batch.lengths) for batch in batches)
        on_policy = self.config.step_size >= count and self.config.num_iterations == 1
        if on_policy and not self.config.beta:
            return [None] * len(batches), torch.zeros(count), {}
        old = [self._logprobs("policy", batch) for batch in batches]
        if not self.config.beta:
            return list(old), torch.zeros(count), {}
        kls, totals = [], torch.zeros(2)
        for batch, mine in zip(batches, old, strict=True):
            theirs = self._logprobs("reference", batch)
            kls.append((k1(mine, theirs) * batch.mask).sum(1))
            size = batch.mask.sum()
            totals += torch.stack([masked_mean(estimate(mine, theirs), batch.mask) * size for estimate in (k1, k3)])
        tokens = sum(int(batch.lengths.sum()) for batch in batches)
        kl = torch.cat(kls)
        logged = {"kl/k1": float(totals[0]) / tokens, "kl/k3": float(totals[1]) / tokens, "kl/answer": float(kl.mean())}
        return [None] * len(batches) if on_policy else list(old), kl, logged

    def _logprobs(self, name: str, batch: AnswerBatch) -> Tensor:
        """Log-probabilities (b, T) of the answers' tokens."""
        found, _ = self.roles.logprobs(name, batch.packed, batch.rows, batch.targets, self.config.temperature)
        return pad_rows(found.cpu(), batch.lengths)[0]

    def _learn(self, parts: Sequence[_Part], step: int) -> dict[str, float]:
        config, logged = self.config, []
        set_learning_rate(self.state.optimiser, learning_rate_at(step, config.total_steps, 1, "linear"))
        per_step = max(1, self.config.step_size // self.config.pass_size)
        steps = [parts[k : k + per_step] for k in range(0, len(parts), per_step)]
        for iteration in range(config.num_iterations):
            for index in epoch_order(len(steps), config.seed * 31 + step, iteration):
                parameters = self.state.parameters.values()
                result = optimiser_step(self.state.optimiser, parameters, steps[index], self._loss, 1.0)
                self.state.note(result.applied)
                logged.append({"loss": result.loss, "gradient_norm": result.gradient_norm, **result.metrics})
        return means(logged)

    def _loss(self, part: _Part) -> Loss:
        batch = part.batch
        logprobs = self._logprobs("policy", batch)
        old = logprobs.detach() if part.old_logprobs is None else part.old_logprobs
        advantages = part.advantages[:, None].expand_as(logprobs)
        return clipped_surrogate(logprobs, old, advantages, batch.mask, self.config.epsilon)


def run(config: Config) -> Path:
    """Optimise the policy and save it under model/."""
    run = begin(config, "grpo")
    dataset = Dataset(Path(config.dataset))
    model = load_model(config.model_name_or_path, config.dtype, Mesh.start().device)
    roles = make_roles(model, config.reward_model, config.seed)
    feed = Feed(model, dataset.root, cache_directory())
    loop = Loop(config, roles, feed, sampler_for(model, "policy"), dataset.prompts("ppo"))
    return rounds(run, loop, dataset, config, "grpo")


def make_roles(model: Model, reward_directory: str, seed: int) -> Roles:
    """Policy (a copy of the SFT adapter), reference (that adapter, frozen) and, if there is one, reward on one
    backbone."""
    reference = policy_and_reference(model, seed)
    reward = load_reward(model, Path(reward_directory), "reward") if reward_directory else None
    model.freeze()
    roles = {"policy": Role("policy", trainable=True), "reference": Role(reference)}
    return Roles(model, roles | ({"reward": Role("reward", reward)} if reward is not None else {}))
