"""How answers are drawn: the options, and the one function that turns a row of logits into a token by them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from bessemer.algos.masked import widen
from bessemer.algos.sampling import draw, filter_logits, penalise_repetition
from bessemer.errors import UserError

__all__ = ["Samples", "Sampling", "choose", "uniforms"]


@dataclass(frozen=True)
class Sampling:
    """How to draw. temperature 0 is greedy; the defaults leave the distribution whole, as RL needs it.

    top_k, top_p, min_p: as `filter_logits` has them; limits: most tokens of each answer, where they differ, none of
    them above max_new_tokens; repetition_penalty: 1 is none, above 1 what prompt and answer hold already becomes less
    likely (also when greedy); stop: an answer ends where one of these texts is complete, and its text is cut before it;
    watched: tokens whose logits are kept where an answer begins, before any option changes them; ends: tokens that end
    an answer beside the one that closes its turn.

    Raises UserError where an option has no meaning.
    """

    max_new_tokens: int = 48
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    seed: int = 0
    limits: tuple[int, ...] = ()
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    stop: tuple[str, ...] = ()
    watched: tuple[int, ...] = ()
    ends: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        for name, holds, expected in (
            ("max_new_tokens", self.max_new_tokens >= 1, "a whole number of tokens, at least 1"),
            ("temperature", 0.0 <= self.temperature < math.inf, "a number of at least 0 (0: the most likely token)"),
            ("top_k", self.top_k >= 0, "a whole number of at least 0 (0: all tokens)"),
            ("top_p", 0.0 < self.top_p <= 1.0, "a number above 0 and up to 1 (1: all tokens)"),
            ("min_p", 0.0 <= self.min_p <= 1.0, "a number from 0 (all tokens) to 1"),
            ("repetition_penalty", 0.0 < self.repetition_penalty < math.inf, "a number above 0 (1: no penalty)"),
            ("stop", all(self.stop), "texts of at least one character"),
        ):
            if not holds:
                raise UserError(f"{name}={getattr(self, name)!r}, expected {expected}")

    def lengths(self, rows: int) -> Tensor:
        """Most tokens of each of `rows` answers, (rows,)."""
        if self.limits and (len(self.limits) != rows or not 1 <= min(self.limits) <= max(self.limits)):
            raise ValueError(f"{len(self.limits)} limits for {rows} answers, expected one above 0 each")
        return torch.tensor(self.limits or [self.max_new_tokens] * rows).clamp(max=self.max_new_tokens)


@dataclass(frozen=True)
class Samples:
    """answers: token ids of each answer, its end token included if it ended; ended: whether it did, by its end token
    or by a text that it was told to stop at; first (rows, watched): logits of the watched tokens at each answer's first
    token, float32."""

    answers: tuple[tuple[int, ...], ...]
    ended: tuple[bool, ...]
    first: tuple[tuple[float, ...], ...]


def choose(logits: Tensor, uniform: Tensor, sampling: Sampling, said: Tensor | None = None) -> Tensor:
    """Draw one token a row: logits (B, V), uniform (B,) in [0, 1) -> ids (B,).

    said (B, V), needed for a repetition penalty alone: True = a token of the prompt or of the answer so far.
    """
    if said is not None:
        logits = penalise_repetition(widen(logits), said, sampling.repetition_penalty)
    if sampling.temperature == 0:
        return logits.argmax(-1)
    if not sampling.top_k and sampling.top_p == 1.0 and not sampling.min_p:
        return draw(logits, uniform, sampling.temperature)
    return draw(filter_logits(logits, sampling.temperature, sampling.top_k, sampling.top_p, sampling.min_p), uniform)


def uniforms(rows: int, steps: int, seed: int) -> Tensor:
    """The random numbers of a call, (rows, steps): fixed by the seed, whatever the rows' fate."""
    return torch.rand(rows, steps, generator=torch.Generator().manual_seed(seed))
