"""Sampling behind a Protocol: who generates, and how, is of no concern to those who ask.

`sampler_for` picks the fast in-process decoder where it knows the architecture, and transformers with a cache
elsewhere; both draw with one uniform number a row and step against the cumulative softmax, so that what a row says
does not depend on which rows share its batch.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from bessemer.data.batches import Packed
from bessemer.models.backbone import PackedBackbone, PaddedBackbone
from bessemer.models.model import Model
from bessemer.models.roles import speaking
from bessemer.rollout.decoder import Decoder, decodes

__all__ = ["Sampler", "Samples", "Sampling", "TransformersSampler", "choose", "sampler_for"]


@dataclass(frozen=True)
class Sampling:
    """How to draw. temperature 0 is greedy; top_k 0 and top_p 1 leave the distribution whole, as RL needs it.

    limits: most tokens of each answer, where they differ; none of them above max_new_tokens.
    """

    max_new_tokens: int = 48
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    seed: int = 0
    limits: tuple[int, ...] = ()

    def lengths(self, rows: int) -> Tensor:
        """Most tokens of each of `rows` answers, (rows,)."""
        if self.limits and (len(self.limits) != rows or not 1 <= min(self.limits) <= max(self.limits)):
            raise ValueError(f"{len(self.limits)} limits for {rows} answers, expected one above 0 each")
        return torch.tensor(self.limits or [self.max_new_tokens] * rows).clamp(max=self.max_new_tokens)


@dataclass(frozen=True)
class Samples:
    """answers: token ids of each answer, its end token included if it ended; ended: whether it did."""

    answers: tuple[tuple[int, ...], ...]
    ended: tuple[bool, ...]


class Sampler(Protocol):
    """Generates answers to packed prompts."""

    def sample(self, prompts: Packed, sampling: Sampling, end_id: int, copies: int = 1) -> Samples:
        """Draw `copies` answers to each prompt, those of one prompt side by side."""
        ...

    def refresh(self) -> None:
        """Take over the model's current weights."""
        ...


def choose(logits: Tensor, uniform: Tensor, sampling: Sampling) -> Tensor:
    """Draw one token a row: logits (B, V), uniform (B,) in [0, 1) -> ids (B,)."""
    if sampling.temperature == 0:
        return logits.argmax(-1)
    logits = logits.float() / sampling.temperature
    if sampling.top_k:
        kth = logits.topk(min(sampling.top_k, logits.shape[-1])).values[:, -1:]
        logits = logits.masked_fill(logits < kth, float("-inf"))
    if sampling.top_p < 1.0:
        ordered, places = logits.sort(descending=True)
        before = ordered.softmax(-1).cumsum(-1) - ordered.softmax(-1)
        dropped = (before >= sampling.top_p).scatter(-1, places, before >= sampling.top_p)
        logits = logits.masked_fill(dropped, float("-inf"))
    cumulative = torch.softmax(logits, -1).cumsum(-1)
    # scaled by the last entry: rounding may leave it just under 1
    drawn = torch.searchsorted(cumulative, uniform[:, None] * cumulative[:, -1:], right=True)[:, 0]
    return drawn.clamp_(max=logits.shape[-1] - 1)


def uniforms(rows: int, steps: int, seed: int) -> Tensor:
    """The random numbers of a call, (rows, steps): fixed by the seed, whatever the rows' fate."""
    return torch.rand(rows, steps, generator=torch.Generator().manual_seed(seed))


class TransformersSampler:
    """Any transformers model, padded on the left, with its own cache; `adapter` names who speaks. Final."""

    def __init__(self, model: Model, adapter: str | None = None) -> None:
        self.model = model
        self.adapter = adapter

    def refresh(self) -> None:
        """Nothing is copied, so nothing is stale."""

    @torch.no_grad()
    def sample(self, prompts: Packed, sampling: Sampling, end_id: int, copies: int = 1) -> Samples:
        """Draw answers; each copy reads the prompts again, because a foreign cache cannot be shared."""
        language = self.model.backbone.language
        rows = len(prompts.lengths) * copies
        numbers = uniforms(rows, sampling.max_new_tokens, sampling.seed)
        lengths = sampling.lengths(rows)
        answers: list[list[int]] = [[] for _ in range(rows)]
        attention = language.config._attn_implementation
        language.set_attn_implementation("sdpa")
        try:
            with speaking(self.model, self.adapter):
                for copy in range(copies):
                    mine = slice(copy, None, copies)
                    answers[mine] = self._once(prompts, sampling, end_id, numbers[mine], lengths[mine])
        finally:
            language.set_attn_implementation(attention)
        return finish(answers, end_id)

    def _once(
        self, prompts: Packed, sampling: Sampling, end_id: int, numbers: Tensor, lengths: Tensor
    ) -> list[list[int]]:
        """One answer of at most `lengths` (B,) tokens to each prompt, drawn with the numbers (B, steps)."""
        backbone = self.model.backbone
        given, mask = left_padded(backbone, prompts)
        positions = given.get("position_ids")
        answers: list[list[int]] = [[] for _ in prompts.lengths]
        alive = torch.ones(len(answers), dtype=torch.bool)
        output = backbone.language(**given, use_cache=True)
        cache = _cache_name(backbone.language)
        # some networks count an image as fewer places than its tokens, and remember by how many
        shift = getattr(backbone.body, "rope_deltas", None) if positions is None else None
        for step in range(sampling.max_new_tokens):
            token = choose(output.logits[:, -1].float().cpu(), numbers[:, step], sampling)
            for row in alive.nonzero()[:, 0].tolist():
                answers[row].append(int(token[row]))
            alive &= (token != end_id) & (step + 1 < lengths)
            if not bool(alive.any()):
                break
            mask = torch.cat([mask, torch.ones_like(mask[:, :1])], 1)
            following = {}
            if positions is not None:
                following["position_ids"] = positions[:, -1:] + step + 1
            elif shift is not None:
                following["position_ids"] = mask.sum(1, keepdim=True) - 1 + shift
            output = backbone.language(
                input_ids=token[:, None].to(mask.device),
                attention_mask=mask.long(),
                use_cache=True,
                **{cache: getattr(output, cache)},
                **following,
            )
        return answers


def _cache_name(network: Any) -> str:
    """What transformers calls the cache, given and returned: `past_key_values` up to 5.23, `cache` from 5.24 on."""
    return "cache" if "cache" in inspect.signature(network.forward).parameters else "past_key_values"


def left_padded(backbone: PackedBackbone | PaddedBackbone, prompts: Packed) -> tuple[dict[str, Tensor], Tensor]:
    """What transformers' own forward is called with, padded on the left, and the mask (B, T), True = a real token."""
    size = torch.tensor(prompts.lengths)
    mask = (torch.arange(int(size.max())) < size[:, None]).flip(1).to(backbone.device)
    if isinstance(backbone, PaddedBackbone):
        ids = torch.zeros(mask.shape, dtype=torch.int64, device=mask.device)
        ids[mask] = prompts.ids.to(mask.device)
        return backbone.arguments(ids, mask, prompts.model_inputs), mask
    embedded = backbone.embed(prompts).to(backbone.language.dtype)
    grid = torch.zeros(*mask.shape, embedded.shape[-1], dtype=embedded.dtype, device=mask.device)
    grid[mask] = embedded
    positions = (mask.long().cumsum(-1) - 1).clamp(min=0)
    return {"inputs_embeds": grid, "attention_mask": mask.long(), "position_ids": positions}, mask


def finish(answers: Sequence[Sequence[int]], end_id: int) -> Samples:
    """Close a call: an answer ended if and only if its last token is the end token."""
    return Samples(
        tuple(tuple(answer) for answer in answers), tuple(bool(answer) and answer[-1] == end_id for answer in answers)
    )


class DecoderSampler:
    """The fast decoder over a merged copy of the weights; `adapter` names what is merged. Final."""

    def __init__(self, model: Model, adapter: str | None) -> None:
        self.model = model
        self.adapter = adapter
        self.refresh()

    def refresh(self) -> None:
        """Merge the adapter's current weights into a new decode copy."""
        self.decoder = Decoder(self.model, self.adapter)

    @torch.no_grad()
    def sample(self, prompts: Packed, sampling: Sampling, end_id: int, copies: int = 1) -> Samples:
        """Prefill each prompt once, then decode; rows that ended leave the batch."""
        rows = len(prompts.lengths) * copies
        steps = uniforms(rows, sampling.max_new_tokens, sampling.seed)
        lengths = sampling.lengths(rows)
        answers: list[list[int]] = [[] for _ in range(rows)]
        logits = self.decoder.prefill(prompts, copies, sampling.max_new_tokens)
        row_of = torch.arange(rows)  # which answer each row of the cache writes
        open_rows = torch.ones(rows, dtype=torch.bool)
        for step in range(sampling.max_new_tokens):
            token = choose(logits, steps[row_of, step].to(logits.device), sampling).cpu()
            for row, value in zip(row_of.tolist(), token.tolist(), strict=True):
                answers[row].append(value)
            open_rows &= (token != end_id) & (step + 1 < lengths[row_of])
            if not bool(open_rows.any()):
                break
            # compacting copies the cache, so it waits until a quarter of the rows has ended;
            # until then ended rows ride along, and `_until` cuts what they say
            if int(open_rows.sum()) <= 0.75 * len(open_rows):
                self.decoder.keep(open_rows.nonzero()[:, 0])
                row_of, token, open_rows = row_of[open_rows], token[open_rows], open_rows[open_rows]
            logits = self.decoder.step(token)
        cut = [answer[:limit] for answer, limit in zip(answers, lengths.tolist(), strict=True)]
        return finish([_until(answer, end_id) for answer in cut], end_id)


def _until(answer: Sequence[int], end_id: int) -> list[int]:
    """The answer up to and including its first end token."""
    kept = list(answer)
    return kept[: kept.index(end_id) + 1] if end_id in kept else kept


def sampler_for(model: Model, adapter: str | None = None) -> Sampler:
    """The fastest sampler that knows this model, speaking with the given adapter."""
    if isinstance(model.backbone, PackedBackbone) and decodes(model.backbone.language.config):
        return DecoderSampler(model, adapter)
    return TransformersSampler(model, adapter)
