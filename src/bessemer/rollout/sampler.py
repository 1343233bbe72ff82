"""Sampling behind a Protocol: who generates, and how, is of no concern to those who ask.

`sampler_for` picks the fast in-process decoder where it knows the architecture, and transformers with a cache
elsewhere; both leave it to `Answers` to draw the tokens, so that one sampler says what the other would have said.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from bessemer.data.batches import Packed
from bessemer.models.backbone import PackedBackbone, PaddedBackbone
from bessemer.models.model import Model
from bessemer.models.roles import speaking
from bessemer.rollout.answers import Answers
from bessemer.rollout.decoder import Decoder, decodes
from bessemer.rollout.sampling import Samples, Sampling, choose
from bessemer.rollout.text import AnswerText

__all__ = ["Piece", "Sampler", "Samples", "Sampling", "TransformersSampler", "choose", "sampler_for", "stream"]


class Sampler(Protocol):
    """Generates answers to packed prompts."""

    model: Model

    def sample(self, prompts: Packed, sampling: Sampling, end_id: int, copies: int = 1) -> Samples:
        """Draw `copies` answers to each prompt, those of one prompt side by side."""
        ...

    def decode(self, prompts: Packed, answers: Answers, copies: int = 1) -> Iterator[None]:
        """Read the prompts and extend their answers until none is open; pauses after each token of a row."""
        ...

    def refresh(self) -> None:
        """Take over the model's current weights."""
        ...


class Piece(NamedTuple):
    """One token of an answer, and the text that has become certain by it ("" where a later token decides)."""

    token: int
    text: str


def stream(sampler: Sampler, prompts: Packed, sampling: Sampling, end_id: int) -> Iterator[Piece]:
    """The answer to one prompt, token by token: those that `sample` draws, and together the text of its answer."""
    if len(prompts.lengths) != 1:
        raise ValueError(f"{len(prompts.lengths)} prompts, expected one")
    tokenizer = sampler.model.tokenizer
    answers = Answers(prompts, 1, sampling, end_id, tokenizer)
    text = AnswerText(tokenizer, sampling.stop)
    for _ in sampler.decode(prompts, answers):
        token = answers.ids[0][-1]
        said = text.push(token)
        yield Piece(token, said if answers.open[0] else said + text.close())


class TransformersSampler:
    """Any transformers model, padded on the left, with its own cache; `adapter` names who speaks. Final."""

    def __init__(self, model: Model, adapter: str | None = None) -> None:
        self.model = model
        self.adapter = adapter

    def refresh(self) -> None:
        """Nothing is copied, so nothing is stale."""

    def sample(self, prompts: Packed, sampling: Sampling, end_id: int, copies: int = 1) -> Samples:
        """Draw answers; each copy reads the prompts again, because a foreign cache cannot be shared."""
        return _all(self, prompts, sampling, end_id, copies)

    @torch.no_grad()
    def decode(self, prompts: Packed, answers: Answers, copies: int = 1) -> Iterator[None]:
        """Extend the first copy of every answer to its end, then the next; for one token the batch stays whole."""
        language = self.model.backbone.language
        attention = language.config._attn_implementation
        language.set_attn_implementation("sdpa")
        try:
            with speaking(self.model, self.adapter):
                for copy in range(copies):
                    yield from self._once(prompts, answers, torch.arange(copy, len(answers.ids), copies))
        finally:
            language.set_attn_implementation(attention)

    def _once(self, prompts: Packed, answers: Answers, rows: Tensor) -> Iterator[None]:
        """One answer to each prompt: the given rows (B,)."""
        backbone = self.model.backbone
        given, mask = left_padded(backbone, prompts)
        positions = given.get("position_ids")
        output = backbone.language(**given, use_cache=True)
        cache = _cache_name(backbone.language)
        # some networks count an image as fewer places than its tokens, and remember by how many
        shift = getattr(backbone.body, "rope_deltas", None) if positions is None else None
        while True:
            token = answers.extend(rows, output.logits[:, -1].float().cpu())
            yield
            if not bool(answers.open[rows].any()):
                return
            mask = torch.cat([mask, torch.ones_like(mask[:, :1])], 1)
            following = {}
            if positions is not None:
                positions = positions[:, -1:] + 1
                following["position_ids"] = positions
            elif shift is not None:
                following["position_ids"] = mask.sum(1, keepdim=True) - 1 + shift
            output = backbone.language(
                input_ids=token[:, None].to(mask.device),
                attention_mask=mask.long(),
                use_cache=True,
                **{cache: getattr(output, cache)},
                **following,
            )


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


def _all(sampler: Sampler, prompts: Packed, sampling: Sampling, end_id: int, copies: int) -> Samples:
    """Every answer of a call, whole."""
    answers = Answers(prompts, copies, sampling, end_id, sampler.model.tokenizer)
    for _ in sampler.decode(prompts, answers, copies):
        pass
    return answers.samples()


class DecoderSampler:
    """The fast decoder over a merged copy of the weights; `adapter` names what is merged. Final."""

    def __init__(self, model: Model, adapter: str | None) -> None:
        self.model = model
        self.adapter = adapter
        self.refresh()

    def refresh(self) -> None:
        """Merge the adapter's current weights into a new decode copy."""
        self.decoder = Decoder(self.model, self.adapter)

    def sample(self, prompts: Packed, sampling: Sampling, end_id: int, copies: int = 1) -> Samples:
        """Prefill each prompt once, then decode; rows that ended leave the batch."""
        return _all(self, prompts, sampling, end_id, copies)

    @torch.no_grad()
    def decode(self, prompts: Packed, answers: Answers, copies: int = 1) -> Iterator[None]:
        """One token to every open answer at a time."""
        rows = torch.arange(len(answers.ids))  # which answer each row of the cache writes
        logits = self.decoder.prefill(prompts, copies, answers.sampling.max_new_tokens)
        while True:
            token = answers.extend(rows, logits)
            yield
            is_open = answers.open[rows]
            if not bool(is_open.any()):
                return
            # compacting copies the cache, so it waits until a quarter of the rows has ended;
            # until then ended rows ride along, and what they say is not kept
            if int(is_open.sum()) <= 0.75 * len(rows):
                self.decoder.keep(is_open.nonzero()[:, 0])
                rows, token = rows[is_open], token[is_open]
            logits = self.decoder.step(token)


def sampler_for(model: Model, adapter: str | None = None) -> Sampler:
    """The fastest sampler that knows this model, speaking with the given adapter."""
    if isinstance(model.backbone, PackedBackbone) and decodes(model.backbone.language.config):
        return DecoderSampler(model, adapter)
    return TransformersSampler(model, adapter)
