"""Sampling behind a Protocol: who generates, and how, is of no concern to those who ask.

`sampler_for` picks the fast in-process decoder where it knows the architecture, and transformers with a cache
elsewhere; both leave it to `Answers` to draw the tokens, so that one sampler says what the other would have said.
"""

from __future__ import annotations

import functools
import inspect
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from bessemer.data.batches import Packed
from bessemer.errors import UserError
from bessemer.models.backbone import PackedBackbone, PaddedBackbone
from bessemer.models.model import Model
from bessemer.models.roles import speaking
from bessemer.models.trunk import llama_shaped
from bessemer.rollout.answers import Answers
from bessemer.rollout.decoder import Decoder
from bessemer.rollout.sampling import Samples, Sampling, choose
from bessemer.rollout.text import AnswerText

__all__ = ["Piece", "Sampler", "Samples", "Sampling", "Tell", "TransformersSampler", "choose", "sampler_for", "stream"]

log = logging.getLogger(__name__)

REFILL = 0.125  # prompts wait until this share of the rows has ended: to read several at once costs less a token
COMPACT = 0.25  # compacting copies the cache, so it waits until this share of the rows has ended


Tell = Callable[[int], None]


class Sampler(Protocol):
    """Generates answers to packed prompts."""

    model: Model

    def sample(
        self, prompts: Packed, sampling: Sampling, end_id: int, copies: int = 1, rows: int = 0, tell: Tell | None = None
    ) -> Samples:
        """Draw `copies` answers to each prompt, those of one prompt side by side.

        rows: most answers in flight, at least those of one prompt; 0: all of them. It changes no answer.
        tell: called with how many more answers have ended whenever some have; what it raises ends the sampling.
        """
        ...

    def decode(self, prompts: Packed, answers: Answers, copies: int = 1, rows: int = 0) -> Iterator[None]:
        """Read the prompts and extend their answers until none is open; pauses after each token of a row."""
        ...

    def refresh(self) -> None:
        """Give up what was copied of the weights: the next answers are drawn with those of then."""
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

    def sample(
        self, prompts: Packed, sampling: Sampling, end_id: int, copies: int = 1, rows: int = 0, tell: Tell | None = None
    ) -> Samples:
        """Draw answers; each copy reads the prompts again, because a foreign cache cannot be shared."""
        return _all(self, prompts, sampling, end_id, copies, rows, tell)

    @torch.no_grad()
    def decode(self, prompts: Packed, answers: Answers, copies: int = 1, rows: int = 0) -> Iterator[None]:
        """Extend a batch of answers to their ends, then the next; of a pretrained vision-language model prompts with
        images are one batch, whatever `rows`, because it alone knows which of its inputs belong to which image."""
        whole = bool(prompts.model_inputs) and not isinstance(self.model.backbone, PackedBackbone)
        with _attending(self.model), speaking(self.model, self.adapter):
            count = len(prompts.lengths)
            for first in range(0, count, size := min(rows, count) if rows and not whole else count):
                part = part_of(prompts, first, first + size)
                for copy in range(copies):
                    last = (first + len(part.lengths)) * copies
                    yield from self._once(part, answers, torch.arange(first * copies + copy, last, copies))

    def _once(self, prompts: Packed, answers: Answers, rows: Tensor) -> Iterator[None]:
        """One answer to each prompt: the given rows (B,)."""
        backbone = self.model.backbone
        given, mask = left_padded(backbone, prompts)
        positions = given.get("position_ids")
        # of a prompt the last logits alone are wanted: all of them can take gigabytes
        few = {"logits_to_keep": 1} if _takes(backbone.language, "logits_to_keep") else {}
        output = backbone.language(**given, use_cache=True, **few)
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


def part_of(prompts: Packed, first: int, last: int) -> Packed:
    """The prompts from `first` up to before `last`; every image has as many rows as any other (or there is none)."""
    if first == 0 and last >= len(prompts.lengths):
        return prompts
    start, end = sum(prompts.lengths[:first]), sum(prompts.lengths[:last])
    rows = prompts.image_rows
    before, until = int((rows < start).sum()), int((rows < end).sum())
    images = max((len(value) for value in prompts.model_inputs.values()), default=0)
    inputs = {
        name: value[before * images // len(rows) : until * images // len(rows)]
        for name, value in prompts.model_inputs.items()
    }
    return Packed(prompts.ids[start:end], prompts.lengths[first:last], rows[before:until] - start, inputs)


def _cache_name(network: Any) -> str:
    """What transformers calls the cache, given and returned: `past_key_values` up to 5.23, `cache` from 5.24 on."""
    return "cache" if _takes(network, "cache") else "past_key_values"


def _takes(network: Any, name: str) -> bool:
    return name in inspect.signature(network.forward).parameters


@contextmanager
def _attending(model: Model) -> Iterator[None]:
    """Our own attention knows packed batches alone; a network that runs padded keeps the one that it was made with."""
    if not isinstance(model.backbone, PackedBackbone):
        yield
        return
    language = model.backbone.language
    ours = language.config._attn_implementation
    language.set_attn_implementation("sdpa")
    try:
        yield
    finally:
        language.set_attn_implementation(ours)


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


def _all(
    sampler: Sampler, prompts: Packed, sampling: Sampling, end_id: int, copies: int, rows: int, tell: Tell | None
) -> Samples:
    """Every answer of a call, whole."""
    answers = Answers(prompts, copies, sampling, end_id, sampler.model.tokenizer)
    ended = 0
    for _ in sampler.decode(prompts, answers, copies, rows):
        if tell is not None and (now := int((~answers.open).sum())) > ended:
            tell(now - ended)
            ended = now
    return answers.samples()


class DecoderSampler:
    """The fast decoder over a merged copy of the weights; `adapter` names what is merged. Final.

    int8: as `Decoder` has it. Not for reinforcement learning: who samples must be who learns.
    """

    def __init__(self, model: Model, adapter: str | None, int8: bool = False) -> None:
        self.model = model
        self.adapter = adapter
        self.int8 = int8
        self._decoder: Decoder | None = None

    @property
    def decoder(self) -> Decoder:
        """The adapter merged into a copy of the weights, made when it is first asked for after a `refresh`."""
        if self._decoder is None:
            self._decoder = Decoder(self.model, self.adapter, self.int8)
        return self._decoder

    def refresh(self) -> None:
        """Give up the copy with its cache."""
        self._decoder = None

    def sample(
        self, prompts: Packed, sampling: Sampling, end_id: int, copies: int = 1, rows: int = 0, tell: Tell | None = None
    ) -> Samples:
        """Prefill each prompt once, then decode; rows that ended are given to prompts that wait, or leave the batch."""
        return _all(self, prompts, sampling, end_id, copies, rows, tell)

    @torch.no_grad()
    def decode(self, prompts: Packed, answers: Answers, copies: int = 1, rows: int = 0) -> Iterator[None]:
        """One token to every open answer in flight at a time."""
        total, decoder = len(answers.ids), self.decoder
        begun = min(total, max(1, rows // copies) * copies) if rows else total  # the answers from here on wait
        held = torch.arange(begun)  # which answer each row of the cache writes
        decoder.allocate(begun, max(prompts.lengths) + answers.sampling.max_new_tokens)
        logits = decoder.read(part_of(prompts, 0, begun // copies), copies, held)
        while True:
            tokens = answers.extend(held, logits)
            yield
            is_open = answers.open[held]
            ended = (~is_open).nonzero()[:, 0]
            if len(ended) == len(held) and begun == total:
                return
            decoder.cache.park(ended)  # until they leave or are read into, ended rows ride along as the shortest
            if begun < total and len(ended) >= max(copies, REFILL * len(held)):
                free = ended[: min(len(ended) // copies * copies, total - begun)]
                held[free] = torch.arange(begun, begun + len(free))
                part = part_of(prompts, begun // copies, (begun + len(free)) // copies)
                tokens[free] = answers.extend(held[free], decoder.read(part, copies, free))
                begun += len(free)
            elif begun == total and len(ended) >= COMPACT * len(held):
                decoder.keep(is_open.nonzero()[:, 0])
                held, tokens = held[is_open], tokens[is_open]
            logits = decoder.step(tokens)


def sampler_for(model: Model, adapter: str | None = None, int8: bool = False) -> Sampler:
    """The fastest sampler that knows this model, speaking with the given adapter.

    Where only transformers knows it, one log line a process and architecture says so.

    Raises:
        UserError: int8 was asked for, and only transformers knows the model.
    """
    settings = model.backbone.language.config
    if isinstance(model.backbone, PackedBackbone) and llama_shaped(settings):
        return DecoderSampler(model, adapter, int8)
    if int8:
        raise UserError(f"weights=int8: the fast decoder does not know this {settings.model_type}; leave weights empty")
    if isinstance(model.backbone, PackedBackbone):
        _slower(settings.model_type)  # of a network that runs padded it was said when it was loaded
    return TransformersSampler(model, adapter)


@functools.cache
def _slower(architecture: str) -> None:
    log.warning("the fast decoder does not know this %s: sampling through transformers, slower", architecture)
