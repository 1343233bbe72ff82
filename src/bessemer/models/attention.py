"""Padding-free attention that any transformers model with a pluggable attention can run.

All tokens of a batch lie in one row, one sequence behind the other; linear layers and norms never see padding. Only
here are the sequences told apart: those of similar length are gathered into a grid, where causal attention is two
batched matrix products over grouped heads.

transformers calls this function because it is registered under the name "packed"; the layout travels beside the
tensors as the keyword `layout`.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import AttentionInterface
from transformers.masking_utils import AttentionMaskInterface

from bessemer.models.layout import Grid, Layout

__all__ = ["attend", "grid_attention", "register"]


def grid_attention(query: Tensor, key: Tensor, value: Tensor, grid: Grid, scaling: float) -> Tensor:
    """Causal attention of one grid: query (U, Hq, d), key and value (U, Hk, d) -> (b * Tq, Hq, d)."""
    batch, asking = grid.queries.shape
    heads, dim = query.shape[1:]
    kv_heads = key.shape[1]
    group = heads // kv_heads

    def gathered(tensor: Tensor, rows: Tensor, per_kv_head: int) -> Tensor:
        # (b, T, Hk, g, d) -> (b * Hk, g * T, d): the g query heads of a key head share its keys in one product
        cells = tensor.index_select(0, rows.flatten()).view(batch, rows.shape[1], kv_heads, per_kv_head, dim)
        return cells.permute(0, 2, 3, 1, 4).reshape(batch * kv_heads, per_kv_head * rows.shape[1], dim)

    q = gathered(query, grid.queries, group)
    k, v = gathered(key, grid.keys, 1), gathered(value, grid.keys, 1)
    mixed = (fused if query.is_cuda else by_products)(q, k, v, grid.hidden, group, scaling)
    mixed = mixed.view(batch, kv_heads, group, asking, dim)
    return mixed.permute(0, 3, 1, 2, 4).reshape(batch * asking, heads, dim)


def by_products(q: Tensor, k: Tensor, v: Tensor, hidden: Tensor, group: int, scaling: float) -> Tensor:
    """Two batched products: q (b * Hk, g * Tq, d), k and v (b * Hk, Tk, d), hidden (b, 1, 1, Tq, Tk) -> as q."""
    scores = torch.bmm(q * scaling, k.transpose(1, 2))
    cells = scores.view(len(hidden), -1, group, *hidden.shape[3:]).masked_fill_(hidden, float("-inf"))
    return torch.bmm(torch.softmax(cells, -1).view(scores.shape), v)


def fused(q: Tensor, k: Tensor, v: Tensor, hidden: Tensor, group: int, scaling: float) -> Tensor:
    """The same by PyTorch's fused kernel: what a GPU runs."""
    visible = ~hidden[:, :, 0].repeat(1, 1, group, 1)
    query, key, value = (tensor.view(len(hidden), -1, *tensor.shape[1:]) for tensor in (q, k, v))
    mixed = functional.scaled_dot_product_attention(query, key, value, attn_mask=visible, scale=scaling)
    return mixed.view(q.shape)


def attend(query: Tensor, key: Tensor, value: Tensor, layout: Layout, scaling: float) -> Tensor:
    """Each computed row attends to its own sequence up to itself: (U, H, d) in, (U, Hq, d) out."""
    parts = [grid_attention(query, key, value, grid, scaling) for grid in layout.grids]
    return (parts[0] if len(parts) == 1 else torch.cat(parts)).index_select(0, layout.source)


def packed_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    layout: Layout,
    scaling: float,
    sliding_window: int | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """Attend within each sequence of a packed batch: (1, H, U, d) tensors in, (1, U, H, d) out (transformers' form)."""
    if sliding_window is not None and layout.longest > sliding_window:
        raise ValueError(f"a sequence of {layout.longest} tokens exceeds the sliding window of {sliding_window}")
    q, k, v = (tensor[0].transpose(0, 1) for tensor in (query, key, value))
    return attend(q, k, v, layout, scaling)[None], None


def _no_mask(*_: Any, **__: Any) -> None:
    """The layout says who sees whom: transformers need not build an N x N mask."""
    return None


def register() -> str:
    """Make the packed attention known to transformers and return its name."""
    AttentionInterface.register("packed", packed_attention)
    AttentionMaskInterface.register("packed", _no_mask)
    return "packed"
