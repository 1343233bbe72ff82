"""From prompts to experience: sample, score, and take every log-probability that PPO needs.

Sequences stay in the minibatches they were measured in. A minibatch is forwarded by the same kernels on the same
shapes whenever it is seen, so that before the first update the ratio is exactly 1 and, with policy and reference
alike, the KL exactly 0: no rounding difference passes for a change of the policy.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from bessemer.algos.advantage import missing_eos
from bessemer.algos.kl import exact_kl
from bessemer.algos.principles import aggregate, normalise
from bessemer.data.batches import Packed, pack_answers, pad_rows, response_rows
from bessemer.data.records import Prompt
from bessemer.data.render import Rendered
from bessemer.models.feed import Feed
from bessemer.models.roles import Roles
from bessemer.progress import Spans
from bessemer.rollout.sampler import Sampler, Sampling, Tell, stream
from bessemer.rollout.text import answer_text

__all__ = [
    "Answer",
    "AnswerBatch",
    "Judge",
    "RolloutBatch",
    "batch_of",
    "gold_means",
    "gold_scores",
    "measure",
    "rewards_of",
    "sample_answers",
    "stream_answer",
]


@dataclass(frozen=True)
class Answer:
    """One sampled answer: its prompt, its tokens (end token included if it ended) and its text; first: the logits of
    the tokens that `Sampling.watched` names, at its first token."""

    prompt: Prompt
    rendered: Rendered
    ids: tuple[int, ...]
    text: str
    ended: bool
    first: tuple[float, ...] = ()


@dataclass(frozen=True)
class AnswerBatch:
    """b answers that are forwarded together.

    packed: prompts with answers; rows, targets (M,): the rows that predict each answer token, and those tokens;
    lengths (b,): tokens of each answer, summing to M; mask (b, T): True = an answer token, the end token included.
    """

    packed: Packed
    rows: Tensor
    targets: Tensor
    lengths: Tensor
    mask: Tensor


@dataclass(frozen=True)
class RolloutBatch:
    """Answers with what the roles make of them.

    packed, rows, targets, lengths, mask: as in `AnswerBatch`; logprobs, ref_logprobs, values (b, T): of policy,
    reference and value when the answers were sampled; scores (b, P): raw ones of the role "reward"; value_states
    (M, D): what the value was read from; entropy, exact_kl: means over the answer tokens, in nats.
    """

    packed: Packed
    rows: Tensor
    targets: Tensor
    lengths: Tensor
    mask: Tensor
    logprobs: Tensor
    ref_logprobs: Tensor
    values: Tensor
    scores: Tensor
    value_states: Tensor
    entropy: float
    exact_kl: float


def sample_answers(
    sampler: Sampler,
    feed: Feed,
    prompts: Sequence[Prompt],
    sampling: Sampling,
    copies: int = 1,
    batch_size: int = 64,
    tell: Tell | None = None,
) -> list[Answer]:
    """Sample `copies` answers to each prompt, those of one prompt side by side, with `batch_size` of them in flight;
    `tell` hears how many more have ended whenever some have.

    Where images come as pixels, a batch ends before the next one begins: the pixels of all would not fit into memory.
    """
    answers: list[Answer] = []
    rendered = [feed.renderer.prompt(prompt.messages) for prompt in prompts]
    pixels = feed.store is None and any(one.images for one in rendered)
    window = max(1, batch_size // copies) if pixels else len(prompts)
    for start in range(0, len(prompts), window or 1):
        part = rendered[start : start + window]
        seeded = _of_call(feed, sampling, start)
        samples = sampler.sample(feed.pack(part), seeded, feed.renderer.end_id, copies, batch_size, tell)
        for index, (ids, ended, first) in enumerate(zip(samples.answers, samples.ended, samples.first, strict=True)):
            prompt = prompts[start + index // copies]
            answers.append(Answer(prompt, part[index // copies], ids, _text(feed, ids, sampling), ended, first))
    return answers


def _text(feed: Feed, ids: Sequence[int], sampling: Sampling) -> str:
    return answer_text(feed.renderer.tokenizer, ids, sampling.stop) if sampling.stop else feed.renderer.decode(ids)


def stream_answer(sampler: Sampler, feed: Feed, prompt: Prompt, sampling: Sampling) -> Iterator[str]:
    """The text of one answer as it arrives: the one that `sample_answers` draws for the prompt alone."""
    packed = feed.pack([feed.renderer.prompt(prompt.messages)])
    for piece in stream(sampler, packed, _of_call(feed, sampling, 0), feed.renderer.end_id):
        if piece.text:
            yield piece.text


def _of_call(feed: Feed, sampling: Sampling, start: int) -> Sampling:
    """The same options, drawing other numbers for each batch of a call and ending where the network says it ends."""
    return replace(sampling, seed=(sampling.seed * 65_537 + start) % 2**63, ends=feed.ends)


def rewards_of(
    scores: Tensor,
    ended: Sequence[bool],
    mean: Tensor,
    std: Tensor,
    weights: Tensor,
    thresholds: Tensor | None,
    missing_eos_penalty: float,
    clip: float = 5.0,
) -> Tensor:
    """One reward an answer (B,): standardised scores (B, P), aggregated, less a penalty where the end is missing."""
    total = aggregate(normalise(scores, mean, std, clip), weights, thresholds)
    return missing_eos(total, torch.tensor(list(ended)), missing_eos_penalty)


def batch_of(feed: Feed, answers: Sequence[Answer]) -> AnswerBatch:
    """Answers behind their prompts, packed."""
    prompts = [answer.rendered for answer in answers]
    packed, prompt_length, lengths = pack_answers(prompts, [answer.ids for answer in answers], feed.inputs(prompts))
    rows = response_rows(packed, prompt_length, lengths)
    mask = torch.arange(int(lengths.max())) < lengths[:, None]
    return AnswerBatch(packed, rows, packed.ids[rows + 1], lengths, mask)


@torch.no_grad()
def measure(
    roles: Roles, feed: Feed, answers: Sequence[Answer], temperature: float, spans: Spans | None = None
) -> RolloutBatch:
    """Forward a minibatch of answers as policy, reference, reward and value; roles of one trunk share its pass."""
    batch = batch_of(feed, answers)
    packed, rows, targets, lengths = batch.packed, batch.rows, batch.targets, batch.lengths
    hidden: dict[str | None, Tensor] = {}
    for name in ("policy", "reference", "reward", "value"):
        if (adapter := roles.roles[name].adapter) not in hidden:
            with (spans or Spans())("reward" if name == "reward" else "reference"):
                hidden[adapter] = roles.hidden(name, packed)
    trunk = {name: hidden[role.adapter] for name, role in roles.roles.items()}
    states = {name: trunk[name][rows] for name in ("policy", "reference", "value")}
    policy, entropy = roles.logprobs_of(states["policy"], targets, temperature)
    reference, _ = roles.logprobs_of(states["reference"], targets, temperature)
    values = roles.values_of("value", states["value"])
    some = slice(None, None, max(1, len(rows) // 64))  # the exact KL needs whole rows of logits: an even sample
    logits, ref_logits = (roles.logits_of(states[name][some]) for name in ("policy", "reference"))
    exact = exact_kl(logits, ref_logits, temperature)
    return RolloutBatch(
        packed,
        rows,
        targets,
        lengths,
        batch.mask,
        pad_rows(policy.cpu(), lengths)[0],
        pad_rows(reference.cpu(), lengths)[0],
        pad_rows(values.cpu(), lengths)[0],
        roles.scores_of("reward", trunk["reward"], packed).cpu(),
        states["value"],
        float(entropy.mean()),
        float(exact.mean()),
    )


Judge = Callable[[Prompt, str, bool], dict[str, float | None]]


def gold_scores(judge: Judge, answers: Sequence[Answer]) -> list[dict[str, float | None]]:
    """The gold rule's score of every principle of each answer; used to watch training, never to train."""
    return [judge(answer.prompt, answer.text, answer.ended) for answer in answers]


def gold_means(judge: Judge, answers: Sequence[Answer]) -> dict[str, float]:
    """Mean gold-rule score over the principles ("gold") and of each ("gold/NAME"); {} without answers."""
    found: dict[str, list[float]] = {}
    for scores in gold_scores(judge, answers):
        for name, score in scores.items():
            if score is not None:
                found.setdefault(name, []).append(score)
    means = {f"gold/{name}": sum(scores) / len(scores) for name, scores in found.items()}
    return {"gold": sum(means.values()) / len(means), **means} if means else {}
