"""The answers of one call while they grow: whoever makes the logits, here they become tokens, and here answers end."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from bessemer.data.batches import Packed
from bessemer.rollout.sampling import Samples, Sampling, choose, uniforms
from bessemer.rollout.text import AnswerText

__all__ = ["Answers"]


class Answers:
    """`copies` answers to each prompt, those of one prompt side by side. Final.

    An answer ends with an end token, where a text to stop at is complete, or at its limit. Which uniform number draws
    a token depends on the answer's row and on its length so far alone, so that what a row says does not depend on which
    rows share its batch, nor on when it was its turn.
    """

    def __init__(self, prompts: Packed, copies: int, sampling: Sampling, end_id: int, tokenizer: Any) -> None:
        rows = len(prompts.lengths) * copies
        self.sampling = sampling
        self.ends = {end_id, *sampling.ends}
        self.ids: list[list[int]] = [[] for _ in range(rows)]
        self.open = torch.ones(rows, dtype=torch.bool)
        self._copies = copies
        self._limits: list[int] = sampling.lengths(rows).tolist()
        self._numbers = uniforms(rows, sampling.max_new_tokens, sampling.seed)
        self._texts = [AnswerText(tokenizer, sampling.stop) for _ in range(rows)] if sampling.stop else []
        self._prompts = self._without_images(prompts) if sampling.repetition_penalty != 1.0 else []
        self._said: dict[int, Tensor] = {}
        self._watched = list(sampling.watched)
        self._first = torch.zeros(rows, len(self._watched))

    def extend(self, rows: Tensor, logits: Tensor) -> Tensor:
        """Draw the next token of each of the given answers (n,) from its logits (n, V) -> tokens (n,), on the CPU.

        An answer that is not open any more may be among them: it gets a token that is not kept.
        """
        which: list[int] = rows.tolist()
        if self._watched and (begins := [i for i, row in enumerate(which) if not self.ids[row]]):
            self._first[rows[begins]] = logits[begins][:, self._watched].float().cpu()
        steps = torch.tensor([min(len(self.ids[row]), self._numbers.shape[1] - 1) for row in which])
        said = self._mask(which, logits) if self._prompts else None
        tokens = choose(logits, self._numbers[rows, steps].to(logits.device), self.sampling, said).cpu()
        for row, token in zip(which, tokens.tolist(), strict=True):
            if self.open[row]:
                self._append(row, token)
        return tokens

    def samples(self) -> Samples:
        """What was said."""
        ended = tuple(self._ended(row) for row in range(len(self.ids)))
        return Samples(tuple(map(tuple, self.ids)), ended, tuple(map(tuple, self._first.tolist())))

    def _append(self, row: int, token: int) -> None:
        self.ids[row].append(token)
        if row in self._said:
            self._said[row][token] = True
        if self._texts:
            self._texts[row].push(token)
        if self._ended(row) or len(self.ids[row]) >= self._limits[row]:
            self.open[row] = False
            self._said.pop(row, None)

    def _ended(self, row: int) -> bool:
        said_end = bool(self.ids[row]) and self.ids[row][-1] in self.ends
        return said_end or bool(self._texts and self._texts[row].stopped)

    def _mask(self, rows: list[int], logits: Tensor) -> Tensor:
        """Which tokens prompt and answer hold, (n, V); of an answer that is not open none."""
        nothing = torch.zeros(logits.shape[-1], dtype=torch.bool, device=logits.device)
        for row in rows:
            if row not in self._said and self.open[row]:
                mask = nothing.clone()
                mask[self._prompts[row // self._copies].to(logits.device)] = True
                self._said[row] = mask
        return torch.stack([self._said.get(row, nothing) for row in rows])

    @staticmethod
    def _without_images(prompts: Packed) -> list[Tensor]:
        """The text tokens of each prompt."""
        is_text = torch.ones(len(prompts.ids), dtype=torch.bool)
        is_text[prompts.image_rows] = False
        parts = zip(prompts.ids.split(prompts.lengths), is_text.split(prompts.lengths), strict=True)
        return [ids[text] for ids, text in parts]
