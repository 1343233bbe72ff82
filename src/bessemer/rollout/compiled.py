"""The small operations of a decoding step, each one call of a compiled function: `Plain` says what they do."""

from __future__ import annotations

import torch
from torch import Tensor

from bessemer.kernels import Kernels
from bessemer.rollout.cache import Cache
from bessemer.rollout.operations import Shape

__all__ = ["Compiled"]


class Compiled:
    """`Plain`'s operations of a step: rows of one type on a CPU, contiguous. Final."""

    def __init__(self, kernels: Kernels, shape: Shape) -> None:
        self.kernels, self.shape = kernels, shape
        self._shares = torch.empty(0, dtype=torch.float32, device="cpu")

    def begin(self, cache: Cache, cos: Tensor, sin: Tensor) -> None:
        """Prepare a step: every row gets one more token, rotated by its row of cos and sin (room, d)."""
        shape, rows, room = self.shape, len(cache.lengths), cache.extent
        self._cos, self._sin = cos, sin
        self._sizes = rows, shape.heads, shape.kv_heads, shape.head_dim, room, torch.get_num_threads()
        if self._shares.numel() < rows * shape.kv_heads * room:
            self._shares = torch.empty(rows * shape.kv_heads * room, dtype=torch.float32, device="cpu")

    def add_norm(self, x: Tensor, delta: Tensor | None, gain: Tensor) -> tuple[Tensor, Tensor]:
        """x + delta in x's place, and its root-mean-square norm times gain: (N, D) each."""
        return x, self.kernels.add_norm(x, delta, gain, self.shape.epsilon)

    def attend(
        self, cache: Cache, layer: int, qkv: Tensor, query_gain: Tensor | None, key_gain: Tensor | None
    ) -> Tensor:
        """Append each row's token to the cache and look from it: (rows, (Hq + 2 Hk) d) -> (rows, Hq d)."""
        if qkv.dtype != cache.dtype or len(qkv) != len(cache.lengths):
            raise ValueError(f"{len(qkv)} rows of {qkv.dtype}, expected {len(cache.lengths)} of {cache.dtype}")
        mixed = qkv.new_empty(len(qkv), self.shape.heads * self.shape.head_dim)
        gains = (None if gain is None else gain.data_ptr() for gain in (query_gain, key_gain))
        self.kernels.attend(
            qkv.data_ptr(), cache.keys[layer].data_ptr(), cache.values[layer].data_ptr(), self._cos.data_ptr(),
            self._sin.data_ptr(), *gains, cache.lengths.data_ptr(), self._shares.data_ptr(), mixed.data_ptr(),
            sizes=self._sizes, scaling=self.shape.scaling, epsilon=self.shape.epsilon,
        )  # fmt: skip
        return mixed

    def gated(self, gate_up: Tensor) -> Tensor:
        """silu(gate) * up: (N, 2 F) -> (N, F)."""
        return self.kernels.gated(gate_up)
