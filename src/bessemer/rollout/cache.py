"""What a decoder remembers of the rows it decodes: keys and values of every layer."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["Cache"]


class Cache:
    """Room for `rows` rows of up to `room` tokens, taken `block` tokens at a time. Final.

    keys, values: of each layer (rows * Hk, extent, d), zero where nothing was written; lengths (rows,): tokens each row
    holds.
    """

    def __init__(
        self,
        layers: int,
        rows: int,
        kv_heads: int,
        head_dim: int,
        room: int,
        dtype: torch.dtype,
        device: torch.device,
        block: int = 0,
    ) -> None:
        self.kv_heads, self.room, self.dtype = kv_heads, room, dtype
        self.block = min(block or room, room)
        shape = rows * kv_heads, 0, head_dim
        self.keys = [torch.zeros(shape, dtype=dtype, device=device) for _ in range(layers)]
        self.values = [torch.zeros(shape, dtype=dtype, device=device) for _ in range(layers)]
        self.lengths = torch.zeros(rows, dtype=torch.int64, device=device)
        self._place()

    @property
    def extent(self) -> int:
        """Tokens that a row has memory for now."""
        return self.keys[0].shape[1]

    def fill(self, layer: int, key: Tensor, value: Tensor, owner: Tensor, places: Tensor) -> None:
        """Write N tokens (N, Hk, d) into their rows (N,) at their places (N,), below what `reach` was asked for."""
        for bank, given in ((self.keys, key), (self.values, value)):
            by_row = bank[layer].unflatten(0, (-1, self.kv_heads))
            by_row[owner, :, places] = given.to(self.dtype)

    def append(self, layer: int, key: Tensor, value: Tensor) -> None:
        """Write a token of every row, key and value (rows, Hk, d), behind what it holds."""
        at = self._heads, self.lengths[:, None]
        self.keys[layer][at] = key.to(self.dtype)
        self.values[layer][at] = value.to(self.dtype)

    def reach(self, tokens: int) -> None:
        """Have memory for rows of that many tokens. Raises ValueError beyond `room`."""
        if tokens > self.room:
            raise ValueError(f"{tokens} tokens exceed the room of {self.room}")
        extent = self.extent
        if tokens <= extent:
            return
        grown = min(self.room, -(-tokens // self.block) * self.block)
        for bank in (self.keys, self.values):
            for layer, old in enumerate(bank):  # one at a time: no second cache beside the first
                bank[layer] = old.new_zeros(old.shape[0], grown, old.shape[2])
                bank[layer][:, :extent] = old

    def begin(self) -> None:
        """Every row gets one more token."""
        self.reach(int(self.lengths.max()) + 1)

    def end(self) -> None:
        """The step is done. A row that is not read any more stays within its room."""
        self.lengths.add_(1).clamp_(max=self.room - 1)

    def park(self, rows: Tensor) -> None:
        """Forget what the given rows held: nobody reads them, so the others should not wait for them."""
        self.lengths[rows.to(self.lengths.device)] = 0

    def keep(self, rows: Tensor) -> None:
        """Keep only the given rows."""
        rows = rows.to(self.lengths.device)
        heads = self._heads[rows].flatten()
        for bank in (self.keys, self.values):
            for layer, old in enumerate(bank):
                bank[layer] = old[heads]
        self.lengths = self.lengths[rows]
        self._place()

    def _place(self) -> None:
        """Which of the matrices belong to which row, (rows, Hk)."""
        self._heads = torch.arange(len(self.keys[0]), device=self.lengths.device).view(-1, self.kv_heads)
