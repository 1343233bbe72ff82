"""Proximal policy optimisation from a reward model, with policy, reference, value and reward on one backbone.

Schulman et al. 2017 as Ziegler et al. 2019 apply it to language models: the reward model's score at the end token, a
penalty on the KL to the reference at every token, generalised advantages, clipped policy and value losses. With
`ptx_coef`, cross-entropy on annotated conversations beside them (Ouyang et al. 2022, equation 2: PPO-ptx).
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from bessemer.algos.advantage import gae, kl_shaped_rewards
from bessemer.algos.kl import adaptive_kl_coef, k1, k3
from bessemer.algos.masked import Loss, masked_mean, whiten
from bessemer.algos.policy import clipped_surrogate, clipped_value_loss
from bessemer.config import Artifact
from bessemer.data.batches import TextBatch, pad_rows
from bessemer.data.dataset import Dataset
from bessemer.data.mixture import epoch_order
from bessemer.data.records import Conversation, Prompt
from bessemer.distributed import Mesh
from bessemer.errors import UserError
from bessemer.models.feed import Feed
from bessemer.models.heads import RewardHead, value_head
from bessemer.models.model import Model, load_model
from bessemer.models.precision import Precision
from bessemer.models.reward import load_reward
from bessemer.models.roles import Role, Roles
from bessemer.progress import Spans
from bessemer.rollout.collect import Answer, RolloutBatch, measure
from bessemer.rollout.sampler import Sampler, Sampling, sampler_for
from bessemer.stages.begin import begin, cache_directory
from bessemer.stages.rounds import Prompts, Reward, fresh_answers, means, policy_and_reference, rounds
from bessemer.training.conversations import ConversationBatches, answer_loss
from bessemer.training.fit import TrainState
from bessemer.training.optim import Group, adamw, learning_rate_at, set_learning_rate
from bessemer.training.step import optimiser_step

__all__ = ["Config", "Loop", "run"]

GAMMA = 1.0  # an answer is judged once, at its end: a discount would only prefer short ones
VALUE_RATE = 2.0  # the value follows the policy, so it learns faster
VALUE_WEIGHT = 0.1  # of the value loss; parameters apart and AdamW: it matters to the clipping of gradients alone
KL_HORIZON = 1000  # answers over which an adaptive coefficient adapts
WHOLE = sys.maxsize  # tokens of an annotated conversation: what is cut off would not be kept


@dataclass
class Config:
    model_name_or_path: Artifact = Artifact("sft")
    """Policy to improve; frozen, it is the reference too."""
    reward_model: Artifact = Artifact("reward")
    """Reward model: a reward stage on the same backbone."""
    dataset: Artifact = Artifact("import")
    """What the import stage wrote; ppo.jsonl and heldout.jsonl are read, with ptx_coef train.jsonl too."""
    total_steps: int = 30
    """Rounds of sampling and learning."""
    batch_size_prompts: int = 64
    """Prompts (one answer each) a round."""
    mini_batch_size: int = 32
    """Answers in one optimiser step."""
    per_device_train_batch_size: int = 8
    """Answers in one pass; an optimiser step gathers as many passes as it takes. Less needs less memory."""
    num_ppo_epochs: int = 2
    """Passes over a round's answers."""
    learning_rate: float = 1e-4
    """Peak learning rate of the policy's adapter; the value's head learns at twice that."""
    response_length: int = 48
    """Longest answer in tokens."""
    temperature: float = 1.0
    """Sampling temperature; every pass divides its logits by it."""
    kl_coef: float = 0.05
    """Price of one nat of KL to the reference, in units of the standardised reward."""
    ptx_coef: float = 0.0
    """Weight of the cross-entropy on the dataset's conversations, as many a step as answers, which keeps the policy at
    what it was taught; 0: none, and no pass for it."""
    kl_target: float = 0.0
    """Nats an answer that an adaptive coefficient aims at; 0: the coefficient stays."""
    cliprange: float = 0.2
    """Clip of the policy's ratio, and of the value's change."""
    lam: float = 0.95
    """GAE's lambda."""
    missing_eos_penalty: float = 1.0
    """Taken from the reward of an answer that was cut off."""
    early_stop_kl: float = 0.05
    """Leave a round when the KL (k3) from the sampling policy exceeds this; 0: never."""
    value_init: Literal["reward", "zero"] = "reward"
    """The value is a head on the reward model's states, which are there anyway. It starts as what the reward stage saw
    the reference's answers come to from such states, or at zero."""
    thresholds: dict[str, float] = field(default_factory=dict)
    """Principles that are a threshold (of the standardised score) instead of a summand, such as harmlessness: -0.5."""
    shuffle_rewards: bool = False
    """Control: give each answer another answer's reward; nothing should be gained. The value starts at zero then: what
    it saw of the true rewards would teach."""
    eval_steps: int = 5
    """Rounds between looks at held-out prompts."""
    eval_prompts: int = 64
    """Held-out prompts of such a look, scored by the gold rule."""
    dtype: Precision = "auto"
    """Type of frozen weights and activations: bf16, fp32, or auto: bf16 where the device multiplies it."""
    seed: int = 0
    """Seed of prompts, sampling and order."""
    output_dir: str = "runs/ppo"
    """Where to write."""

    @property
    def pass_size(self) -> int:
        """Answers in one pass."""
        return min(self.per_device_train_batch_size, self.mini_batch_size)

    def faults(self) -> dict[str, bool]:
        """What could be wrong with it in itself, and whether it is."""
        sizes = (
            f"mini_batch_size={self.mini_batch_size}, expected a multiple of "
            f"per_device_train_batch_size={self.per_device_train_batch_size}"
        )
        prices = f"kl_target={self.kl_target} with kl_coef={self.kl_coef}, expected a price above 0 to adapt"
        return {
            sizes: self.mini_batch_size % self.pass_size > 0,
            prices: self.kl_target > 0 and self.kl_coef <= 0,
            f"ptx_coef={self.ptx_coef}, expected 0 or more": self.ptx_coef < 0,
            f"temperature={self.temperature}, expected above 0: a policy that explores": self.temperature <= 0,
        }


@dataclass(frozen=True)
class _Minibatch:
    """A rollout batch with what it is trained towards; grids (b, T) as in `RolloutBatch`."""

    rollout: RolloutBatch
    advantages: Tensor
    returns: Tensor


@dataclass(frozen=True)
class _Annotated:
    """Conversations that a step learns from beside its answers; weight: of the sum of their cross-entropy."""

    batch: TextBatch
    weight: float


class Loop:
    """What one PPO run holds; `round` is the algorithm on one page. Final.

    conversations: what `ptx_coef` is of; none are needed where it is 0.
    """

    def __init__(
        self,
        config: Config,
        roles: Roles,
        feed: Feed,
        sampler: Sampler,
        prompts: Sequence[Prompt],
        conversations: Sequence[Conversation] = (),
    ) -> None:
        self.config, self.roles, self.feed, self.sampler = config, roles, feed, sampler
        self.prompts = Prompts(prompts, config.batch_size_prompts, config.seed)
        self.annotated: ConversationBatches | None = None
        if config.ptx_coef:
            self.annotated = ConversationBatches(
                feed,
                conversations,
                cutoff=WHOLE,
                batch_size=config.pass_size,
                accumulation=config.mini_batch_size // config.pass_size,
                seed=config.seed,
            )
        head = roles.roles["reward"].head
        assert isinstance(head, RewardHead)
        self.reward = Reward(head, config.thresholds, config.missing_eos_penalty, config.shuffle_rewards, config.seed)
        policy = {f"policy.{i}": p for i, p in enumerate(roles.parameters("policy"))}
        value = {f"value.{i}": p for i, p in enumerate(roles.parameters("value"))}
        groups = [Group(policy, config.learning_rate), Group(value, VALUE_RATE * config.learning_rate)]
        self.spans = Spans()
        self.state = TrainState(policy | value, adamw(groups, eps=1e-6), numbers={"kl_coef": config.kl_coef})

    def round(self, step: int) -> dict[str, float]:
        """Sample, score, estimate advantages, learn; returns what to log."""
        config = self.config
        size = config.pass_size
        with self.spans("rollout"):
            sampling = Sampling(config.response_length, config.temperature, seed=config.seed * 100_003 + step)
            answers = fresh_answers(self.sampler, self.feed, self.prompts(step), sampling)
        parts = [answers[k : k + size] for k in range(0, len(answers), size)]
        rollouts = [measure(self.roles, self.feed, part, config.temperature, self.spans) for part in parts]
        rewards, metrics = self.reward(torch.cat([rollout.scores for rollout in rollouts]), answers, step)
        minibatches = self._advantages(rollouts, rewards)
        metrics |= _experience_metrics(rollouts, answers)
        with self.spans("train"):
            metrics |= self._learn(minibatches, step)
        if config.kl_target:
            coef = self.state.numbers["kl_coef"]
            self.state.numbers["kl_coef"] = float(
                adaptive_kl_coef(coef, metrics["kl/answer"], config.kl_target, KL_HORIZON, len(answers))
            )
        return metrics | {"kl_coef": self.state.numbers["kl_coef"]}

    def _advantages(self, rollouts: Sequence[RolloutBatch], rewards: Tensor) -> list[_Minibatch]:
        shaped = []
        parts = rewards.split([len(rollout.lengths) for rollout in rollouts])
        for part, rollout in zip(parts, rollouts, strict=True):
            kl = k1(rollout.logprobs, rollout.ref_logprobs)
            tokens = kl_shaped_rewards(part, kl, rollout.mask, self.state.numbers["kl_coef"])
            shaped.append(gae(tokens, rollout.values, rollout.mask, GAMMA, self.config.lam))
        # whitened over the whole round, after the returns were taken
        flat = torch.cat([advantage[r.mask] for (advantage, _), r in zip(shaped, rollouts, strict=True)])
        white = whiten(flat, torch.ones_like(flat, dtype=torch.bool))
        minibatches, start = [], 0
        for (_, returns), rollout in zip(shaped, rollouts, strict=True):
            count = int(rollout.lengths.sum())
            grid, _ = pad_rows(white[start : start + count], rollout.lengths)
            minibatches.append(_Minibatch(rollout, grid, returns))
            start += count
        return minibatches

    def _learn(self, minibatches: Sequence[_Minibatch], step: int) -> dict[str, float]:
        config, logged = self.config, []
        share = learning_rate_at(step, config.total_steps, 1, "linear")
        passes = config.mini_batch_size // config.pass_size
        steps = [minibatches[k : k + passes] for k in range(0, len(minibatches), passes)]
        set_learning_rate(self.state.optimiser, share)
        for epoch in range(config.num_ppo_epochs):
            for index in epoch_order(len(steps), config.seed * 31 + step, epoch):
                batches: list[_Minibatch | _Annotated] = [*steps[index]]
                batches += self._annotated(steps[index], (step * config.num_ppo_epochs + epoch) * len(steps) + index)
                result = optimiser_step(self.state.optimiser, self.state.parameters.values(), batches, self._loss, 1.0)
                self.state.note(result.applied)
                logged.append({"loss": result.loss, "gradient_norm": result.gradient_norm, **result.metrics})
                if config.early_stop_kl and result.metrics.get("approx_kl", 0.0) > config.early_stop_kl:
                    return means(logged) | {"updates": float(len(logged)), "early_stop": 1.0}
        return means(logged) | {"updates": float(len(logged)), "early_stop": 0.0}

    def _annotated(self, minibatches: Sequence[_Minibatch], step: int) -> list[_Annotated]:
        """The conversations of a step, weighted so that their mean counts `ptx_coef` in the mean over its answers."""
        if self.annotated is None:
            return []
        batches = self.annotated(step)
        tokens = sum(int(minibatch.rollout.lengths.sum()) for minibatch in minibatches)
        weight = self.config.ptx_coef * tokens / float(sum(batch.weights.sum() for batch in batches))
        return [_Annotated(batch, weight) for batch in batches]

    def _loss(self, batch: _Minibatch | _Annotated) -> Loss:
        return self._ptx_loss(batch) if isinstance(batch, _Annotated) else self._ppo_loss(batch)

    def _ptx_loss(self, batch: _Annotated) -> Loss:
        text = batch.batch
        logprobs, _ = self.roles.logprobs("policy", text.packed, text.rows, text.targets)
        loss = answer_loss(logprobs.cpu(), text, ())
        # counts nothing: the mean is over the tokens of the answers
        return Loss(batch.weight * loss.sum, 0 * loss.count, {"loss/ptx": (loss.sum.detach(), loss.count)})

    def _ppo_loss(self, batch: _Minibatch) -> Loss:
        config, rollout = self.config, batch.rollout
        new, _ = self.roles.logprobs("policy", rollout.packed, rollout.rows, rollout.targets, config.temperature)
        logprobs, mask = pad_rows(new.cpu(), rollout.lengths)
        policy = clipped_surrogate(logprobs, rollout.logprobs, batch.advantages, mask, config.cliprange)
        values, _ = pad_rows(self.roles.values_of("value", rollout.value_states).cpu(), rollout.lengths)
        value = clipped_value_loss(values, rollout.values, batch.returns, mask, config.cliprange)
        metrics = {"loss/policy": (policy.sum.detach(), policy.count), "loss/value": (value.sum.detach(), value.count)}
        return Loss(policy.sum + VALUE_WEIGHT * value.sum, policy.count, {**metrics, **policy.metrics, **value.metrics})


def run(config: Config) -> Path:
    """Optimise the policy and save it under model/."""
    run = begin(config, "ppo")
    dataset = Dataset(Path(config.dataset))
    model = load_model(config.model_name_or_path, config.dtype, Mesh.start().device)
    start = "zero" if config.shuffle_rewards else config.value_init
    roles = make_roles(model, Path(config.reward_model), start, config.seed, config.thresholds)
    feed = Feed(model, dataset.root, cache_directory())
    conversations = dataset.conversations("train") if config.ptx_coef else []
    loop = Loop(config, roles, feed, sampler_for(model, "policy"), dataset.prompts("ppo"), conversations)
    return rounds(run, loop, dataset, config, "ppo")


def make_roles(
    model: Model, reward_directory: Path, value_init: str, seed: int, thresholds: Collection[str] = ()
) -> Roles:
    """Policy (a copy of the SFT adapter), reference (that adapter, frozen), reward and value on one backbone."""
    reference = policy_and_reference(model, seed)
    reward = load_reward(model, reward_directory, "reward")
    if value_init == "reward" and not bool(reward.expected_weight.any()):
        raise UserError(
            f"{reward_directory}: its reward head says nothing of answers that have not ended (an older version made "
            "it); train it again (bessemer run RECIPE --force reward), or start with value_init=zero"
        )
    value = value_head(model.width, reward if value_init == "reward" else None, thresholds).to(model.backbone.device)
    model.freeze()
    return Roles(
        model,
        {
            "policy": Role("policy", trainable=True),
            "reference": Role(reference),
            "reward": Role("reward", reward),
            "value": Role("reward", value, trainable=True, frozen_trunk=True),
        },
    )


def _experience_metrics(rollouts: Sequence[RolloutBatch], answers: Sequence[Answer]) -> dict[str, float]:
    counts = [float(rollout.mask.sum()) for rollout in rollouts]
    tokens = sum(counts)

    def mean(of: Callable[[RolloutBatch], float]) -> float:
        """Over the tokens of the round, of what is a mean over those of a pass."""
        return sum(of(rollout) * count for rollout, count in zip(rollouts, counts, strict=True)) / tokens

    k1_mean = mean(lambda r: float(masked_mean(k1(r.logprobs, r.ref_logprobs), r.mask)))
    return {
        "kl/k1": k1_mean,
        "kl/k3": mean(lambda r: float(masked_mean(k3(r.logprobs, r.ref_logprobs), r.mask))),
        "kl/exact": mean(lambda r: r.exact_kl),
        "kl/answer": k1_mean * tokens / len(answers),
        "entropy": mean(lambda r: r.entropy),
        "length": tokens / len(answers),
        "eos_rate": sum(answer.ended for answer in answers) / len(answers),
    }
