"""Padding-free attention that any transformers model with a pluggable attention can run.

All tokens of a batch lie in one row of length N, one sequence behind the other; linear layers and norms never see
padding. Only here are the sequences told apart: those of similar length are gathered into a (B, T) grid, where causal
attention is two batched matrix products over grouped heads. The grid is padded on the right, so the causal mask alone
keeps real queries from padded keys, and padded queries are never read back.

transformers calls this function because it is registered under the name "packed"; the layout travels beside the
tensors as the keyword `segments`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface
from transformers.masking_utils import AttentionMaskInterface

__all__ = ["Segments", "grid_attention", "register", "segments_of"]


@dataclass(frozen=True)
class Segments:
    """Where each sequence of a packed batch lies.

    lengths: B sequence lengths, in order; positions (N,): position of each row within its sequence;
    grids: for each group of similar length a (B_g, T_g) grid of row numbers, padded with a valid row, and the
    flat places (in that grid) and rows (in the batch) of its real tokens.
    """

    lengths: tuple[int, ...]
    positions: Tensor
    grids: tuple[tuple[Tensor, Tensor, Tensor], ...]

    @property
    def last_rows(self) -> Tensor:
        """Row of the last token of each sequence, (B,)."""
        return torch.tensor(self.lengths).cumsum(0).to(self.positions.device) - 1


def segments_of(lengths: Sequence[int], device: torch.device | str = "cpu") -> Segments:
    """Lay out sequences of the given lengths one behind the other.

    Sequences are grouped so that no grid is padded beyond 1.25 times its shortest member plus 16 tokens:
    fewer grids mean fewer kernel calls, tighter grids mean less wasted attention.
    """
    if not lengths or min(lengths) < 1:
        raise ValueError(f"every sequence needs at least one token, got lengths {list(lengths)[:8]}")
    starts = [0]
    for length in lengths:
        starts.append(starts[-1] + length)
    positions = torch.cat([torch.arange(length) for length in lengths])
    order = sorted(range(len(lengths)), key=lambda index: lengths[index])
    groups: list[list[int]] = []
    for index in order:
        if groups and lengths[index] <= 1.25 * lengths[groups[-1][0]] + 16:
            groups[-1].append(index)
        else:
            groups.append([index])
    grids = []
    for group in groups:
        longest = lengths[group[-1]]
        steps = torch.arange(longest)
        start = torch.tensor([starts[index] for index in group])[:, None]
        real = steps < torch.tensor([lengths[index] for index in group])[:, None]
        rows = torch.where(real, start + steps, start)
        places = real.flatten().nonzero()[:, 0]
        grids.append((rows.to(device), places.to(device), rows.flatten()[places].to(device)))
    return Segments(tuple(lengths), positions.to(device), tuple(grids))


def grid_attention(query: Tensor, key: Tensor, value: Tensor, rows: Tensor, scaling: float) -> Tensor:
    """Causal attention of one grid: query (N, Hq, d), key and value (N, Hk, d), rows (B, T) -> (B * T, Hq, d)."""
    batch, longest = rows.shape
    heads, dim = query.shape[1:]
    kv_heads = key.shape[1]
    group = heads // kv_heads
    flat = rows.flatten()

    def gathered(tensor: Tensor, per_kv_head: int) -> Tensor:
        # (B, T, Hk, g, d) -> (B * Hk, g * T, d): the g query heads of a key head share its keys in one product
        grid = tensor.index_select(0, flat).view(batch, longest, kv_heads, per_kv_head, dim)
        return grid.permute(0, 2, 3, 1, 4).reshape(batch * kv_heads, per_kv_head * longest, dim)

    scores = torch.bmm(gathered(query, group) * scaling, gathered(key, 1).transpose(1, 2))
    future = torch.ones(longest, longest, dtype=torch.bool, device=rows.device).triu(1)
    scores = scores.view(-1, group, longest, longest).masked_fill(future, float("-inf"))
    weights = torch.softmax(scores, -1).view(-1, group * longest, longest)
    mixed = torch.bmm(weights, gathered(value, 1)).view(batch, kv_heads, group, longest, dim)
    return mixed.permute(0, 3, 1, 2, 4).reshape(batch * longest, heads, dim)


def packed_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    segments: Segments,
    scaling: float,
    sliding_window: int | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """Attend within each sequence of a packed batch: (1, H, N, d) tensors in, (1, N, H, d) out (transformers' form)."""
    longest = max(segments.lengths)
    if sliding_window is not None and longest > sliding_window:
        raise ValueError(f"a sequence of {longest} tokens exceeds the sliding window of {sliding_window}")
    q, k, v = (tensor[0].transpose(0, 1) for tensor in (query, key, value))
    if len(segments.grids) == 1:
        rows, places, targets = segments.grids[0]
        mixed = grid_attention(q, k, v, rows, scaling).index_select(0, places)
        if not _in_order(targets):
            mixed = torch.empty_like(mixed).index_copy(0, targets, mixed)
        return mixed[None], None
    parts, targets_all = [], []
    for rows, places, targets in segments.grids:
        parts.append(grid_attention(q, k, v, rows, scaling).index_select(0, places))
        targets_all.append(targets)
    mixed = torch.cat(parts)
    return torch.empty_like(mixed).index_copy(0, torch.cat(targets_all), mixed)[None], None


def _in_order(rows: Tensor) -> bool:
    return bool((rows[1:] > rows[:-1]).all())


def _no_mask(*_: Any, **__: Any) -> None:
    """The layout lives in `segments`: transformers need not build an N x N mask."""
    return None


def register() -> str:
    """Make the packed attention known to transformers and return its name."""
    AttentionInterface.register("packed", packed_attention)
    AttentionMaskInterface.register("packed", _no_mask)
    return "packed"
