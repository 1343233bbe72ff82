"""The small operations of a decoding step by PyTorch: they run on every device; `Compiled` is held against them."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from bessemer.models.nodes import gated, rotate
from bessemer.rollout.cache import Cache

__all__ = ["Plain", "Shape"]


class Shape(NamedTuple):
    """What the blocks of a network have in common."""

    heads: int
    kv_heads: int
    head_dim: int
    scaling: float
    epsilon: float


class Plain:
    """Norms, rotation, attention and gate of rows of tokens. Final."""

    def __init__(self, shape: Shape) -> None:
        self.shape = shape
        self._spans: list[tuple[int, int, int]] = []
        self._masks: list[Tensor] = []

    def norm(self, x: Tensor, gain: Tensor) -> Tensor:
        """x / rms(x) * gain over the last axis."""
        return functional.rms_norm(x, x.shape[-1:], gain, self.shape.epsilon)

    def project(
        self, qkv: Tensor, cos: Tensor, sin: Tensor, query_gain: Tensor | None, key_gain: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Query (N, Hq, d), key and value (N, Hk, d) of N projected tokens, rotated by cos and sin (N, 1, d)."""
        heads, kv_heads = self.shape.heads, self.shape.kv_heads
        both, value = qkv.view(len(qkv), -1, self.shape.head_dim).split([heads + kv_heads, kv_heads], 1)
        if query_gain is not None and key_gain is not None:
            query, key = both.split([heads, kv_heads], 1)
            both = torch.cat([self.norm(query, query_gain), self.norm(key, key_gain)], 1)
        query, key = rotate(both, cos, sin).split([heads, kv_heads], 1)
        return query, key, value

    def begin(self, cache: Cache, cos: Tensor, sin: Tensor) -> None:
        """Prepare a step: every row gets one more token, rotated by its row of cos and sin (room, d).

        A row much longer than most is a span of its own, so that the others need not read as far as it does.
        """
        self._cos, self._sin = cos[cache.lengths][:, None], sin[cache.lengths][:, None]
        lengths: list[int] = cache.lengths.tolist()
        usual = 2 * sorted(lengths)[len(lengths) // 2] + 64
        cuts = sorted(
            {0, len(lengths)} | {edge for row, n in enumerate(lengths) if n > usual for edge in (row, row + 1)}
        )
        self._spans = [(a, b, max(lengths[a:b]) + 1) for a, b in zip(cuts, cuts[1:], strict=False)]
        if len(self._spans) == 1 and cache.block < cache.room:
            self._spans = [(0, len(lengths), cache.extent)]  # whole matrices: a slice of them would be copied
        self._masks = [self._mask(cache, *span) for span in self._spans]

    def _mask(self, cache: Cache, first: int, last: int, seen: int) -> Tensor:
        """0 where a row's token is, -inf where it has none yet, for every key head, (rows * Hk, 1, seen)."""
        hidden = torch.arange(seen, device=cache.lengths.device) > cache.lengths[first:last, None]
        mask = torch.zeros(hidden.shape, dtype=cache.dtype, device=hidden.device).masked_fill_(hidden, float("-inf"))
        return mask.repeat_interleave(self.shape.kv_heads, 0)[:, None]

    def add_norm(self, x: Tensor, delta: Tensor | None, gain: Tensor) -> tuple[Tensor, Tensor]:
        """x + delta, and its root-mean-square norm times gain: (N, D) each."""
        x = x if delta is None else x + delta
        return x, self.norm(x, gain)

    def attend(
        self, cache: Cache, layer: int, qkv: Tensor, query_gain: Tensor | None, key_gain: Tensor | None
    ) -> Tensor:
        """Append each row's token to the cache and look from it: (rows, (Hq + 2 Hk) d) -> (rows, Hq d)."""
        query, key, value = self.project(qkv, self._cos, self._sin, query_gain, key_gain)
        cache.append(layer, key, value)
        heads, keys, values = self.shape.kv_heads, cache.keys[layer], cache.values[layer]
        grouped = query.to(keys.dtype).reshape(len(keys), -1, query.shape[-1]).mul_(self.shape.scaling)
        parts = []
        for (first, last, seen), mask in zip(self._spans, self._masks, strict=True):
            rows = slice(first * heads, last * heads)
            scores = torch.bmm(grouped[rows], keys[rows, :seen].transpose(1, 2)).add_(mask)
            parts.append(torch.bmm(torch.softmax(scores, -1), values[rows, :seen]))
        mixed = parts[0] if len(parts) == 1 else torch.cat(parts)
        return mixed.view(len(qkv), -1).to(qkv.dtype)

    def gated(self, gate_up: Tensor) -> Tensor:
        """silu(gate) * up: (N, 2 F) -> (N, F)."""
        return gated(gate_up)
