"""Measure this machine: sampling, fine-tuning, reward models, GRPO, PPO and distillation, each in under two minutes.

The work is stated exactly (tokens, batch, adapters), so that another tool can be set beside it: benchmarks/paired.py
does. What is measured are the functions that the stages run; nothing is trained that anybody would use.
"""

from __future__ import annotations

import json
import math
import random
import resource
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from bessemer.algos.distillation import distillation_loss
from bessemer.algos.head import linear_logprobs, linear_loss
from bessemer.algos.masked import Loss
from bessemer.algos.preference import soft_bradley_terry
from bessemer.config import Artifact
from bessemer.data.batches import TextBatch, pack, text_batch
from bessemer.data.pydocs import read_pydocs
from bessemer.data.readers import read_any
from bessemer.data.records import Conversation, Message, Prompt, Ranking
from bessemer.data.render import Rendered
from bessemer.disk import write_json
from bessemer.distributed import Mesh
from bessemer.errors import UserError
from bessemer.models.convert import obtain_model
from bessemer.models.feed import Feed
from bessemer.models.heads import RewardHead, value_head
from bessemer.models.known import KnownStates, answering
from bessemer.models.model import Model, load_model
from bessemer.models.precision import Precision, Weights, beside_eight_bits, dtype_of, short_name
from bessemer.models.roles import Role, Roles
from bessemer.models.tuning import tune_language
from bessemer.progress import Spans
from bessemer.rollout.linear import NARROW_ROWS
from bessemer.rollout.sampler import Sampling, sampler_for
from bessemer.stages import grpo, ppo
from bessemer.training.conversations import answer_loss
from bessemer.training.optim import Group, adamw
from bessemer.training.rankings import RankingBatches, ranked_prompts
from bessemer.training.step import optimiser_step

__all__ = ["Config", "run"]

CUTOFF, LORA_RANK, LORA_ALPHA, LEARNING_RATE = 512, 16, 32.0, 2e-4
SPANS = ("rollout", "reward", "reference", "train")
FIRST_TOKEN = 3  # below are the tokens that begin and end texts
NO_TOKEN = -1  # an end token that is never drawn: every answer has the length that was asked for


@dataclass
class Config:
    POSITIONAL: ClassVar[tuple[str, ...]] = ("work",)

    work: Literal["", "rollout", "sft", "reward", "grpo", "ppo", "distill"] = ""
    """What to measure."""
    model: Artifact = Artifact("smollm2")
    """Language model: an asset, a Hugging Face directory or hub id."""
    data: str = ""
    """Conversations to train on, such as an alpaca JSON file; empty: Python's own documentation."""
    batch: int = 8
    """Sequences at once; reward: prompts in a step; grpo, ppo: answers in a step."""
    prompt_tokens: int = 64
    """Tokens of a prompt (rollout, grpo, ppo)."""
    new_tokens: int = 64
    """Tokens of an answer (rollout, grpo, ppo)."""
    mix: int = 0
    """rollout: this many requests, whose answers have 8 to 128 tokens; `batch` of them are in flight."""
    steps: int = 3
    """Batches or optimiser steps that are counted, after one that is not."""
    group: int = 8
    """grpo: answers to a prompt; reward: ranked answers to a prompt."""
    epochs: int = 4
    """ppo: passes over the answers of a step."""
    kl: float = 0.0
    """grpo: price of the divergence from the start; 0: no reference."""
    cached: bool = False
    """distill: the teacher's states are computed beforehand, as cache_teacher does."""
    json: str = ""
    """File to write the figures to; empty: only print them."""
    dtype: Precision = "auto"
    """Type of frozen weights and activations: bf16, fp32, or auto: bf16 where the device multiplies it."""
    weights: Weights = ""
    """rollout: int8 makes answers by weights of 8 bits (a CPU, bf16, one or two at once); empty: those of dtype."""
    seed: int = 0
    """Seed of adapters and sampling."""


@dataclass
class _Measured:
    """What the counted steps came to. curve: name and values of what is watched."""

    elapsed: float
    samples: int
    tokens: int
    seconds: dict[str, float]
    curve: tuple[str, list[float]] | None = None


def run(config: Config) -> Path:
    """Measure, print and write the figures; returns where."""
    if not config.work:
        raise UserError("expected what to measure: bessemer bench rollout (or sft, reward, grpo, ppo, distill)")
    if config.steps < 1 or config.batch < 1:
        raise UserError(f"steps={config.steps}, batch={config.batch}, expected at least 1 of each")
    works: dict[str, Callable[[Config, Model], _Measured]] = {
        "rollout": _rollout, "sft": _sft, "reward": _reward, "grpo": _grpo, "ppo": _ppo, "distill": _distill,
    }  # fmt: skip
    dtype, device = config.dtype, Mesh.start().device
    if config.weights:
        dtype = _eight_bits(config, device)
    directory = obtain_model(config.model)
    found = works[config.work](config, load_model(str(directory), dtype, device))
    result: dict[str, Any] = {
        "work": config.work,
        "model": str(directory),
        "dtype": short_name(dtype_of(dtype, device)),
        "weights": config.weights,
        "threads": torch.get_num_threads(),
        "batch": config.batch,
        "tokens": found.tokens,
        "tokens_per_second": found.tokens / found.elapsed,
        "samples_per_second": found.samples / found.elapsed,
        "seconds_per_step": found.elapsed / config.steps,
        "seconds": {name: found.seconds.get(name, 0.0) for name in SPANS},
        "peak_rss_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9,
        **({found.curve[0]: found.curve[1]} if found.curve else {}),
        "versions": {"torch": torch.__version__},
    }
    print(json.dumps({name: value for name, value in result.items() if name not in ("loss", "reward")}, indent=1))
    if config.json:
        write_json(Path(config.json), result)
    return directory


def _eight_bits(config: Config, device: torch.device) -> Precision:
    """The type beside weights of 8 bits, where they are used at all: others would be measured under their name."""
    count = config.mix or config.batch
    if config.work != "rollout" or min(count, config.batch) > NARROW_ROWS:
        raise UserError(
            f"weights={config.weights} with {config.work} of batch={config.batch}, expected rollout of at most "
            f"{NARROW_ROWS} at once: larger batches and training read whole weights"
        )
    return beside_eight_bits(config.dtype, device)


def _rollout(config: Config, model: Model) -> _Measured:
    """Random prompts; every answer has exactly the tokens that were asked for; reading the prompts counts."""
    sampler = sampler_for(model, int8=config.weights == "int8")
    vocabulary = model.backbone.head.shape[0]
    count = config.mix or config.batch
    limits = [8 + 120 * (37 * i % 64) // 63 for i in range(count)] if config.mix else [config.new_tokens] * count
    began = 0.0
    for step in range(1 + config.steps):
        began = time.perf_counter() if step == 1 else began
        draw = random.Random(step)
        prompts = [[draw.randrange(FIRST_TOKEN, vocabulary) for _ in range(config.prompt_tokens)] for _ in range(count)]
        packed = pack([Rendered(tuple(ids), (False,) * len(ids), (), ()) for ids in prompts])
        sampling = Sampling(max(limits), 1.0, seed=config.seed + step, limits=tuple(limits))
        sampler.sample(packed, sampling, NO_TOKEN, rows=config.batch if config.mix else 0)
    elapsed = time.perf_counter() - began
    return _Measured(elapsed, config.steps * count, config.steps * sum(limits), {"rollout": elapsed})


def _sft(config: Config, model: Model) -> _Measured:
    """LoRA on every linear layer, loss on answers, conversations in the order of the file."""
    batches = _text_batches(config, model)
    return _train(config, model, batches, lambda batch: _answers(model, batch))


def _distill(config: Config, model: Model) -> _Measured:
    """The same batches, learnt from a teacher's whole distribution (the model itself, without the adapter)."""
    batches = _text_batches(config, model)
    teacher = load_model(str(model.source), config.dtype, model.backbone.device)
    spans = Spans()
    known = KnownStates(teacher, Path(tempfile.gettempdir()) / "none")
    for batch in batches if config.cached else []:
        known.prepare(batch)

    def loss_of(batch: TextBatch) -> Loss:
        with torch.no_grad(), spans("reference"):
            theirs = known(batch) if config.cached else answering(teacher, batch)

        def of_rows(logits: Tensor, part: slice) -> Loss:
            expected = theirs[part] @ teacher.backbone.head.T
            return distillation_loss(logits, expected, batch.targets[part], batch.weights[part], 2.0, 0.5)

        return linear_loss(answering(model, batch), model.backbone.head, of_rows)

    return _train(config, model, batches, loss_of, spans)


def _reward(config: Config, model: Model) -> _Measured:
    """Ranked answers to each prompt: a record's own before those of the records behind it; all pairs."""
    records = _records(config)
    feed = _feed(model)
    answers = [record.messages[-1].text for record in records]
    rankings = [
        Ranking(
            f"r{i}",
            Prompt(f"p{i}", records[i % len(records)].messages[:-1]),
            tuple(answers[(i + k) % len(records)] for k in range(config.group)),
            (True,) * config.group,
            {"preference": tuple(range(1, config.group + 1))},
            "order",
            tuple(range(config.group)),
        )
        for i in range(config.batch * (1 + config.steps))
    ]
    items = ranked_prompts(rankings, ["preference"])
    batches = RankingBatches(feed, items, config.batch, CUTOFF, config.seed)
    head = RewardHead(model.width, ["preference"], config.seed)
    model.adapters().add("reward", LORA_RANK, LORA_ALPHA, config.seed)
    roles = Roles(model, {"reward": Role("reward", head, trainable=True)})
    optimiser = adamw([Group({f"{i}": p for i, p in enumerate(roles.parameters("reward"))}, LEARNING_RATE)])
    began, tokens, curve = 0.0, 0, []
    for step in range(1 + config.steps):
        began = time.perf_counter() if step == 1 else began
        batch = batches.batch(range(step * config.batch, (step + 1) * config.batch))

        def loss_of(part: Any) -> Loss:
            return soft_bradley_terry(part.grid(roles.scores("reward", part.packed)), part.targets)

        result = optimiser_step(optimiser, roles.parameters("reward"), [batch], loss_of, 1.0)
        if step:
            tokens += len(batch.packed.ids)
            curve.append(result.loss)
    elapsed = time.perf_counter() - began
    count = config.steps * config.batch * config.group
    return _Measured(elapsed, count, tokens, {"train": elapsed}, ("loss", curve))


def _grpo(config: Config, model: Model) -> _Measured:
    """One pass over the answers of each step; the reward is the share of lower-case letters."""
    if config.batch % config.group:
        raise UserError(f"batch={config.batch} answers, expected a multiple of group={config.group}")
    prompts, feed = _passages(config, model, config.batch // config.group)
    settings = grpo.Config(
        total_steps=1 + config.steps,
        batch_size_prompts=config.batch // config.group,
        num_generations=config.group,
        per_device_train_batch_size=config.group,  # as fast as all at once, in less memory
        response_length=config.new_tokens,
        beta=config.kl,
        missing_eos_penalty=0.0,
        learning_rate=LEARNING_RATE,
        seed=config.seed,
    )
    roles = grpo.make_roles(model, "", config.seed)
    loop = grpo.Loop(settings, roles, feed, sampler_for(model, "policy"), prompts)
    loop.rule = lambda answers: torch.tensor(
        [sum(map(str.islower, answer.text)) / max(1, len(answer.text)) for answer in answers]
    )
    return _rounds(config, loop.round, loop.spans)


def _ppo(config: Config, model: Model) -> _Measured:
    """Policy, reference, reward and value on one backbone; answers of exactly the length asked for."""
    prompts, feed = _passages(config, model, config.batch)
    feed.renderer.end_id, feed.ends = NO_TOKEN, ()
    settings = ppo.Config(
        total_steps=1 + config.steps,
        batch_size_prompts=config.batch,
        mini_batch_size=config.batch,
        per_device_train_batch_size=math.gcd(4, config.batch),  # 3 % slower than 8, 0.7 GB less
        num_ppo_epochs=config.epochs,
        response_length=config.new_tokens,
        learning_rate=LEARNING_RATE,
        early_stop_kl=0.0,
        seed=config.seed,
    )
    lora = model.adapters()
    for name in ("policy", "reward"):
        lora.add(name, LORA_RANK, LORA_ALPHA, config.seed)
    reward, value = RewardHead(model.width, ["preference"], config.seed), value_head(model.width)
    model.freeze()
    roles = Roles(
        model,
        {
            "policy": Role("policy", trainable=True),
            "reference": Role(None),
            "reward": Role("reward", reward),
            "value": Role("reward", value, trainable=True, frozen_trunk=True),
        },
    )
    loop = ppo.Loop(settings, roles, feed, sampler_for(model, "policy"), prompts)
    return _rounds(config, loop.round, loop.spans)


def _rounds(config: Config, play: Callable[[int], dict[str, float]], spans: Spans) -> _Measured:
    began, tokens, curve = 0.0, 0.0, []
    for step in range(1 + config.steps):
        if step == 1:
            began = time.perf_counter()
            spans.seconds.clear()
        metrics = play(step)
        if step:
            tokens += metrics["length"] * config.batch
            curve.append(metrics["reward"])
    elapsed = time.perf_counter() - began
    return _Measured(elapsed, config.steps * config.batch, round(tokens), spans.seconds, ("reward", curve))


def _train(
    config: Config,
    model: Model,
    batches: Sequence[TextBatch],
    loss_of: Callable[[TextBatch], Loss],
    spans: Spans | None = None,
) -> _Measured:
    parameters = tune_language(model, "lora", lora_rank=LORA_RANK, lora_alpha=LORA_ALPHA, seed=config.seed)
    optimiser = adamw([Group(parameters, LEARNING_RATE)])
    spans = spans or Spans()
    began, tokens, curve = 0.0, 0, []
    for step, batch in enumerate(batches):
        if step == 1:
            began = time.perf_counter()
            spans.seconds.clear()
        result = optimiser_step(optimiser, parameters.values(), [batch], loss_of, 1.0)
        if step:
            tokens += len(batch.packed.ids)
            curve.append(result.loss)
    elapsed = time.perf_counter() - began
    seconds = {**spans.seconds, "train": elapsed - sum(spans.seconds.values())}
    return _Measured(elapsed, config.steps * config.batch, tokens, seconds, ("loss", curve))


def _answers(model: Model, batch: TextBatch) -> Loss:
    hidden = model.backbone.hidden(batch.packed)[batch.rows]
    logprobs, _ = linear_logprobs(hidden, model.backbone.head, batch.targets)
    return answer_loss(logprobs, batch, [""])


def _text_batches(config: Config, model: Model) -> list[TextBatch]:
    feed, records = _feed(model), _records(config)
    rendered = [feed.renderer.conversation(record.messages, CUTOFF) for record in records]
    count = config.batch * (1 + config.steps)
    chosen = [rendered[i % len(rendered)] for i in range(count)]
    return [text_batch(chosen[k : k + config.batch]) for k in range(0, count, config.batch)]


def _records(config: Config) -> list[Conversation]:
    if not config.data:
        return read_pydocs(config.seed).conversations("train", config.seed)
    found = read_any(Path(config.data)).records
    records = [record for record in found if isinstance(record, Conversation)]
    if not records:
        raise UserError(f"{config.data}: no conversations, expected questions with answers such as alpaca JSON")
    return records


def _feed(model: Model) -> Feed:
    return Feed(model, Path.cwd(), Path(tempfile.gettempdir()))


def _passages(config: Config, model: Model, per_step: int) -> tuple[list[Prompt], Feed]:
    """Prompts of `prompt_tokens` tokens of running text, without any template, and a feed that takes them so."""
    feed, texts = _feed(model), [record.messages[-1].text for record in _records(config)]
    ids_of = {}
    for start in range(per_step * (1 + config.steps)):
        ids: list[int] = []
        place = start
        while len(ids) < config.prompt_tokens:
            ids += feed.renderer.answer_ids(texts[place % len(texts)] + "\n", False)
            place += 1
        ids_of[f"passage {start}"] = tuple(ids[: config.prompt_tokens])
    plain = {name: Rendered(ids, (False,) * len(ids), (), ()) for name, ids in ids_of.items()}
    feed.renderer.prompt = lambda messages: plain[messages[-1].text]  # type: ignore[method-assign]
    return [Prompt(name, (Message("user", name),)) for name in ids_of], feed
