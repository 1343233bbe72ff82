"""Train a reward model: the fine-tuned model with its language-model head replaced by one linear output a principle.

Bradley-Terry with soft targets over all pairs of a prompt's ranked answers (Ouyang et al. 2022, equation 1), split by
photograph or question. Scores are standardised on the reference model's own answers, so that a reward of 0 is its
average answer; which score it can expect where an answer has got to is fitted to the same answers, for a critic.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from bessemer.algos.masked import Loss
from bessemer.algos.preference import soft_bradley_terry
from bessemer.algos.regression import Moments, ridge
from bessemer.config import Artifact
from bessemer.data.dataset import Dataset
from bessemer.data.records import Ranking, read_records
from bessemer.disk import write_atomic
from bessemer.distributed import Mesh
from bessemer.errors import UserError
from bessemer.models.feed import Feed
from bessemer.models.heads import RewardHead
from bessemer.models.model import ADAPTER, Model, load_model, save_model
from bessemer.models.precision import Precision
from bessemer.models.roles import Role, Roles
from bessemer.progress import Track
from bessemer.report.outputs import RewardPair
from bessemer.run import Run
from bessemer.stages.begin import begin, cache_directory
from bessemer.training.baselines import bag_of_words_baseline, length_baseline
from bessemer.training.fit import fit
from bessemer.training.optim import Group
from bessemer.training.rankings import RankedPrompt, RankingBatch, RankingBatches, ranked_prompts, split_by_subject

__all__ = ["Config", "run"]

LEAST_DEVIATION = 0.1  # of scores in logits of preference: below it a head was taught nothing


@dataclass
class Config:
    model_name_or_path: Artifact = Artifact("sft")
    """Model whose head is replaced; it is also the reference that scores are standardised on."""
    rankings: Artifact = Artifact("rank")
    """A rank stage, or a JSONL file of rankings."""
    dataset: Artifact = Artifact("import")
    """What the import stage wrote; relative image paths start there."""
    principles: list[str] = field(default_factory=list)
    """Principles to learn; empty: all that were ranked."""
    principle_weights: dict[str, float] = field(default_factory=dict)
    """Weight of each principle in the reward; 1 if not named, less where annotators disagree."""
    center_rewards_coefficient: float = 0.01
    """Price of scores far from 0, which the rankings leave free."""
    validation_share: float = 0.2
    """Share of the photographs, or of the questions without one, held back."""
    lora_rank: int = 16
    """Rank of the adapter, if the model has none to continue."""
    lora_alpha: float = 32.0
    """Scale of the adapter, if the model has none to continue."""
    cutoff_len: int = 512
    """Longest prompt with answer in tokens."""
    num_train_epochs: float = 2.0
    """Passes over the ranked prompts."""
    per_device_train_batch_size: int = 8
    """Prompts (with all their answers) in one optimiser step."""
    learning_rate: float = 2e-4
    """Peak learning rate of the adapter."""
    head_learning_rate: float = 1e-3
    """Peak learning rate of the head."""
    warmup_ratio: float = 0.1
    """Share of the steps over which the rate rises."""
    save_steps: int = 25
    """Steps between checkpoints."""
    dtype: Precision = "auto"
    """Type of frozen weights and activations: bf16, fp32, or auto: bf16 where the device multiplies it."""
    seed: int = 0
    """Seed of the split, the order and the head."""
    output_dir: str = "runs/reward"
    """Where to write."""


def run(config: Config) -> Path:
    """Train, standardise, save under model/; held-out pairs beside their baselines go to pairs.jsonl."""
    run = begin(config, "reward")
    dataset = Dataset(Path(config.dataset))
    rankings, agreement = _rankings(Path(config.rankings))
    principles = _principles(config, rankings)
    model = load_model(config.model_name_or_path, config.dtype, Mesh.start().device)
    feed = Feed(model, dataset.root, cache_directory())
    train, held = split_by_subject(ranked_prompts(rankings, principles), config.validation_share, config.seed)
    head = RewardHead(model.width, principles, config.seed).to(model.backbone.device)
    head.weights.copy_(_weights(config, train, principles, agreement))
    roles = _roles(model, head, config)
    batches = RankingBatches(feed, train, config.per_device_train_batch_size, config.cutoff_len, config.seed)
    cells = torch.tensor([agreement.get(name, 1.0) for name in principles])

    def loss_of(batch: RankingBatch) -> Loss:
        return soft_bradley_terry(
            batch.grid(roles.scores("reward", batch.packed).cpu()),
            batch.targets,
            center=config.center_rewards_coefficient,
            pair_weights=batch.pair_weights,
            cell_weights=cells.expand(len(batch.targets), -1),
            principles=principles,
        )

    trained = {f"adapter.{i}": p for i, p in enumerate(model.adapters().factors(ADAPTER).parameters())}
    fit(
        run,
        [
            Group(trained, config.learning_rate),
            Group({f"head.{name}": p for name, p in head.named_parameters()}, config.head_learning_rate),
        ],
        batches,
        loss_of,
        steps=max(1, round(config.num_train_epochs * batches.steps_per_epoch)),
        description="reward",
        warmup_ratio=config.warmup_ratio,
        save_steps=config.save_steps,
    )
    held_batches = RankingBatches(feed, held, config.per_device_train_batch_size, config.cutoff_len, config.seed)
    with run.track(len(train) + len(held), "scores") as bar:
        (scores, seen), (held_scores, unseen) = (_score_all(run, roles, part, bar) for part in (batches, held_batches))
    standardise(head, [score[item.usual] for item, score in zip(train, scores, strict=True)])
    explained = expect(head, seen, unseen)
    pairs = held_pairs(train, held, held_scores, principles)
    lines = [json.dumps(asdict(pair), ensure_ascii=False) for pair in pairs]
    write_atomic(run.directory / "pairs.jsonl", "".join(line + "\n" for line in lines).encode())
    model.reward = head
    save_model(model, run.model_directory, adapter=ADAPTER)
    return run.finish(train_prompts=len(train), heldout_prompts=len(held), **_accuracies(pairs), **explained)


def _rankings(path: Path) -> tuple[list[Ranking], dict[str, float]]:
    """The rankings and, from a rank stage, the weight that agreement gives each principle."""
    file = path / "rankings.jsonl" if path.is_dir() else path
    if not file.is_file():
        raise UserError(f"{file}: no such file, expected rankings; run the rank stage or name a JSONL file")
    weights: dict[str, float] = {}
    agreement = path / "agreement.json"
    if agreement.is_file():
        found = json.loads(agreement.read_text(encoding="utf-8"))
        weights = {name: float(entry["weight"]) for name, entry in found.items() if entry.get("weight") is not None}
    return read_records(file, Ranking), weights


def _principles(config: Config, rankings: Sequence[Ranking]) -> list[str]:
    ranked = list(dict.fromkeys(name for ranking in rankings for name in ranking.ranks))
    if rankings and (unknown := sorted(set(config.principles) - set(ranked))):
        raise UserError(f"principles names {unknown}, expected some of {ranked}, by which answers were ranked")
    return config.principles or ranked


def _weights(
    config: Config, train: Sequence[RankedPrompt], principles: Sequence[str], agreement: Mapping[str, float]
) -> Tensor:
    """Share of each principle in the reward, (P,); one whose ranks never differ taught nothing and weighs nothing."""
    if unknown := sorted(set(config.principle_weights) - set(principles)):
        raise UserError(f"principle_weights names {unknown}, expected some of {list(principles)}")
    weights = []
    for p, name in enumerate(principles):
        decided = any(bool(((item.targets[..., p] != 0.5) & ~item.targets[..., p].isnan()).any()) for item in train)
        if not decided:
            print(f"reward: the ranks by {name} never differ, so it has no weight", file=sys.stderr)
        weights.append(config.principle_weights.get(name, 1.0) * agreement.get(name, 1.0) * decided)
    if sum(weights) <= 0:
        raise UserError("no principle has a weight: ranks never differ or annotators disagree; look at the rankings")
    return torch.tensor(weights) / sum(weights)


def _roles(model: Model, head: RewardHead, config: Config) -> Roles:
    lora = model.adapters()
    if ADAPTER not in lora.adapters:
        lora.add(ADAPTER, config.lora_rank, config.lora_alpha, config.seed)
    return Roles(model, {"reward": Role(ADAPTER, head, trainable=True)})


@torch.no_grad()
def _score_all(run: Run, roles: Roles, batches: RankingBatches, bar: Track) -> tuple[list[Tensor], Moments]:
    """Raw scores (K, P) of every item's answers, in order; and how the states before each token of the model's usual
    answers go with the scores that those answers got in the end."""
    found: list[Tensor] = []
    moments = Moments(roles.model.width, batches.items[0].targets.shape[2])
    for start in range(0, len(batches.items), batches.batch_size):
        chosen = list(range(start, min(start + batches.batch_size, len(batches.items))))
        batch = batches.batch(chosen)
        hidden = roles.hidden("reward", batch.packed)
        scores = roles.scores_of("reward", hidden, batch.packed).cpu()
        usual = batch.usual.repeat_interleave(batch.lengths)
        moments.add(hidden[batch.rows[usual]], scores.repeat_interleave(batch.lengths, 0)[usual])
        grid = batch.grid(scores)
        found.extend(grid[row, : len(batches.answers[index])] for row, index in enumerate(chosen))
        bar.advance(len(chosen))
        run.raise_if_stopped()
    return found, moments


def standardise(head: RewardHead, scores: Sequence[Tensor]) -> None:
    """Set the head's mean and deviation of each principle to those of these answers, which are the model's own."""
    everything = torch.cat(list(scores))
    head.mean.copy_(everything.mean(0))
    deviations = everything.std(0) if len(everything) > 1 else torch.zeros_like(everything[0])
    # a head that hardly varies was taught little: its noise must not be blown up to the size of what the others know
    typical = deviations.square().mean().sqrt()
    head.std.copy_(deviations.clamp(min=max(LEAST_DEVIATION, float(typical) / 2)))


def expect(head: RewardHead, seen: Moments, unseen: Moments) -> dict[str, float]:
    """Fit what the head expects of an answer that has not ended; returns which share of the held-out answers' variance
    that explains, by principle; nothing is expected where no answer has a token."""
    if not seen.count:
        return {}
    weight, bias, explained = ridge(seen, unseen)
    head.expected_weight.copy_(weight)
    head.expected_bias.copy_(bias)
    shares = zip(head.principles, explained.tolist(), strict=True)
    return {f"expected/{name}": share for name, share in shares if math.isfinite(share)}


def held_pairs(
    train: Sequence[RankedPrompt], held: Sequence[RankedPrompt], scores: Sequence[Tensor], principles: Sequence[str]
) -> list[RewardPair]:
    """Every judged pair of the held-out prompts with its margin and those of the two baselines."""
    rows = []
    for p, name in enumerate(principles):
        decided = [
            ((item.responses[i], item.responses[j]), bool(item.targets[i, j, p] > 0.5))
            for item in train
            for i, j in _pairs(item, p)
            if item.targets[i, j, p] != 0.5
        ]
        texts, won = [pair for pair, _ in decided], [first for _, first in decided]
        length, bag = length_baseline(texts, won), bag_of_words_baseline(texts, won)
        for item, score in zip(held, scores, strict=True):
            for i, j in _pairs(item, p):
                first, second = item.responses[i], item.responses[j]
                margin, target = float(score[i, p] - score[j, p]), float(item.targets[i, j, p])
                others = (length(first, second), bag(first, second))
                rows.append(RewardPair(item.prompt.id, name, margin, target, *others, j >= item.own, item.subject))
    return rows


def _pairs(item: RankedPrompt, principle: int) -> list[tuple[int, int]]:
    count = len(item.responses)
    return [(i, j) for i in range(count) for j in range(i + 1, count) if not torch.isnan(item.targets[i, j, principle])]


def _accuracies(pairs: Sequence[RewardPair]) -> dict[str, float]:
    found: dict[str, list[float]] = {}
    for pair in pairs:
        if pair.target != 0.5:
            right = 0.5 if pair.margin == 0 else float((pair.margin > 0) == (pair.target > 0.5))
            found.setdefault(f"accuracy/{pair.principle}", []).append(right)
    return {name: sum(values) / len(values) for name, values in found.items()}
