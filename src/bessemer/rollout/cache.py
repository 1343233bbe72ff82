"""What a decoder remembers of the rows it decodes: keys and values of every layer, allocated once.

Keys lie transposed, so that both products of attention read the cache in place: a slice of a batch of matrices is a
batch of matrices, where a slice of a four-dimensional tensor would first be copied, every step, in every layer.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["Cache"]

FEW_ROWS = 6  # up to here float32 products cost a CPU less than bfloat16 ones, whose set-up exceeds their arithmetic


class Cache:
    """Room for `rows` rows of up to `room` tokens. Final.

    keys (layers, rows * Hk, d, room), values (layers, rows * Hk, room, d); lengths (rows,): tokens each row holds.
    """

    def __init__(
        self, layers: int, rows: int, kv_heads: int, head_dim: int, room: int, dtype: torch.dtype, device: torch.device
    ) -> None:
        if device.type == "cpu" and rows <= FEW_ROWS:
            dtype = torch.float32
        self.kv_heads, self.room = kv_heads, room
        self.keys = torch.zeros(layers, rows * kv_heads, head_dim, room, dtype=dtype, device=device)
        self.values = torch.zeros(layers, rows * kv_heads, room, head_dim, dtype=dtype, device=device)
        self.lengths = torch.zeros(rows, dtype=torch.int64, device=device)
        self._rows = torch.arange(rows, device=device)
        self._spans: list[tuple[int, int, int]] = []
        self._masks: list[Tensor] = []

    def fill(self, layer: int, key: Tensor, value: Tensor, owner: Tensor, places: Tensor) -> None:
        """Write N tokens (N, Hk, d) into their rows (N,) at their places (N,)."""
        keys, values = self._by_row(layer)
        keys[owner, :, :, places] = key.to(keys.dtype)
        values[owner, :, places] = value.to(values.dtype)

    def begin(self) -> None:
        """Prepare a step: every row gets one more token.

        A row much longer than most is a span of its own, so that the others need not read as far as it does.
        """
        lengths: list[int] = self.lengths.tolist()
        usual = 2 * sorted(lengths)[len(lengths) // 2] + 64
        cuts = sorted(
            {0, len(lengths)} | {edge for row, n in enumerate(lengths) if n > usual for edge in (row, row + 1)}
        )
        self._spans = [(a, b, max(lengths[a:b]) + 1) for a, b in zip(cuts, cuts[1:], strict=False)]
        self._masks = [self._mask(first, last, seen) for first, last, seen in self._spans]

    def _mask(self, first: int, last: int, seen: int) -> Tensor:
        """0 where a row's token is, -inf where it has none yet, for every key head, (rows * Hk, 1, seen)."""
        hidden = torch.arange(seen, device=self.lengths.device) > self.lengths[first:last, None]
        mask = torch.zeros(hidden.shape, dtype=self.keys.dtype, device=hidden.device).masked_fill_(
            hidden, float("-inf")
        )
        return mask.repeat_interleave(self.kv_heads, 0)[:, None]

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scaling: float) -> Tensor:
        """Append each row's token, key and value (rows, Hk, d), and look from it: query (rows, Hq, d) -> the same."""
        keys, values = self._by_row(layer)
        keys[self._rows, :, :, self.lengths] = key.to(keys.dtype)
        values[self._rows, :, self.lengths] = value.to(values.dtype)
        heads, keys, values = self.kv_heads, self.keys[layer], self.values[layer]
        grouped = query.to(keys.dtype).reshape(len(keys), -1, query.shape[-1])
        parts = []
        for (first, last, seen), mask in zip(self._spans, self._masks, strict=True):
            rows = slice(first * heads, last * heads)
            scores = torch.baddbmm(mask, grouped[rows], keys[rows, :, :seen], alpha=scaling)
            parts.append(torch.bmm(torch.softmax(scores, -1), values[rows, :seen]))
        mixed = parts[0] if len(parts) == 1 else torch.cat(parts)
        return mixed.view(query.shape).to(query.dtype)

    def end(self) -> None:
        """The step is done. A row that is not read any more stays within its room."""
        self.lengths.add_(1).clamp_(max=self.room - 1)

    def park(self, rows: Tensor) -> None:
        """Forget what the given rows held: nobody reads them, so the others should not wait for them."""
        self.lengths[rows.to(self.lengths.device)] = 0

    def keep(self, rows: Tensor) -> None:
        """Keep only the given rows."""
        rows = rows.to(self.lengths.device)
        heads = (rows[:, None] * self.kv_heads + torch.arange(self.kv_heads, device=rows.device)).flatten()
        self.keys, self.values = self.keys[:, heads], self.values[:, heads]
        self.lengths = self.lengths[rows]
        self._rows = self._rows[: len(rows)]

    def _by_row(self, layer: int) -> tuple[Tensor, Tensor]:
        """Keys (rows, Hk, d, room) and values (rows, Hk, room, d) of a layer, as views."""
        shape = (-1, self.kv_heads)
        return self.keys[layer].unflatten(0, shape), self.values[layer].unflatten(0, shape)
