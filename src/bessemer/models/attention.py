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
from torch.autograd.function import once_differentiable
from torch.nn import functional
from transformers import AttentionInterface
from transformers.masking_utils import AttentionMaskInterface

from bessemer.errors import UserError
from bessemer.kernels import kernels_for
from bessemer.models.layout import Cells, Grid, Layout

__all__ = ["attend", "register", "too_long"]


def attend(query: Tensor, key: Tensor, value: Tensor, layout: Layout, scaling: float) -> Tensor:
    """Each computed row attends to its own sequence up to itself: (U, H, d) in, (U, Hq, d) out."""
    if query.is_cuda:
        return _fused(query, key, value, layout, scaling)
    mixed: Tensor = _Attention.apply(query, key, value, layout, scaling)
    return mixed


class _Attention(torch.autograd.Function):
    """Attention of all grids in one node, each as two batched products.

    Heads are gathered from where they lie into their grids and back by one index each way, in both directions: a row
    asks once, so the gradient of a query is a gather too; only keys that several sequences see are added up.
    """

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, layout: Layout, scaling: float) -> Tensor:
        cells = layout.cells(query.shape[1], key.shape[1])
        q, k, v = (tensor.reshape(-1, tensor.shape[-1]) for tensor in (query, key, value))
        kept: list[Tensor] = []
        parts = []
        for number, grid in enumerate(layout.grids):
            pairs = len(grid.keys) * key.shape[1]  # of a sequence and a head of its keys
            asking = q.index_select(0, cells.queries[number]).view(pairs, -1, q.shape[1])
            seen, said = (t.index_select(0, cells.keys[number]).view(pairs, -1, q.shape[1]) for t in (k, v))
            shares = _shares(torch.bmm(asking.mul_(scaling), seen.transpose(1, 2)), grid)
            parts.append(torch.bmm(shares, said).view(-1, q.shape[1]))
            kept += [asking, seen, said, shares]
        ctx.save_for_backward(*kept)
        ctx.cells, ctx.scaling, ctx.shapes = cells, scaling, (query.shape, key.shape)
        return _joined(parts).index_select(0, cells.query_at).view(query.shape)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Any) -> tuple[Tensor, Tensor, Tensor, None, None]:
        cells: Cells = ctx.cells
        gradient = gradients[0].reshape(-1, gradients[0].shape[-1])
        of_queries, of_keys, of_values = [], [], []
        kept = ctx.saved_tensors
        for number, (rows, padded) in enumerate(zip(cells.queries, cells.padded, strict=True)):
            asking, seen, said, shares = kept[4 * number : 4 * number + 4]
            d_mixed = gradient.index_select(0, rows)
            if len(padded):
                d_mixed.index_fill_(0, padded, 0.0)
            d_mixed = d_mixed.view(asking.shape)
            d_shares = torch.bmm(d_mixed, said.transpose(1, 2))
            d_scores = _of_scores(d_shares, shares)
            of_values.append(torch.bmm(shares.transpose(1, 2), d_mixed).view(-1, gradient.shape[1]))
            of_keys.append(torch.bmm(d_scores.transpose(1, 2), asking).view(-1, gradient.shape[1]))
            of_queries.append(torch.bmm(d_scores, seen).mul_(ctx.scaling).view(-1, gradient.shape[1]))
        d_query = _joined(of_queries).index_select(0, cells.query_at)
        d_key, d_value = (_collected(_joined(parts), cells) for parts in (of_keys, of_values))
        asked, kept_shape = ctx.shapes
        return d_query.view(asked), d_key.view(kept_shape), d_value.view(kept_shape), None, None


def _shares(scores: Tensor, grid: Grid) -> Tensor:
    """The softmax of scores (b * Hk, g * Tq, Tk), which nobody needs any more, over the keys that a query sees."""
    by_query = scores.view(len(grid.keys), -1, *grid.hidden.shape[3:])
    kernels = kernels_for(scores.dtype, scores.device)
    if kernels is not None:
        kernels.soften(by_query, grid.seen)
        return scores
    by_query.masked_fill_(grid.hidden[:, 0], float("-inf"))
    return torch.softmax(scores, -1)


def _of_scores(gradient: Tensor, shares: Tensor) -> Tensor:
    """The gradient of the scores from that of their shares, which is not needed any more."""
    kernels = kernels_for(shares.dtype, shares.device)
    if kernels is None:
        return torch._softmax_backward_data(gradient, shares, -1, shares.dtype)
    kernels.soften_backward(shares, gradient)
    return gradient


def _joined(parts: list[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def _collected(gradients: Tensor, cells: Cells) -> Tensor:
    """The gradient of each head of the keys from those of its cells: its own sequence's and others'."""
    collected = gradients.index_select(0, cells.key_at)
    if len(cells.again):
        collected.index_add_(0, cells.again, gradients.index_select(0, cells.again_at))
    return collected


def _fused(query: Tensor, key: Tensor, value: Tensor, layout: Layout, scaling: float) -> Tensor:
    """The same by PyTorch's fused kernel: what a GPU runs."""
    cells = layout.cells(query.shape[1], key.shape[1])
    q, k, v = (tensor.reshape(-1, tensor.shape[-1]) for tensor in (query, key, value))
    parts = []
    for number, grid in enumerate(layout.grids):
        shape = (len(grid.keys), key.shape[1], -1, q.shape[1])
        asking = q.index_select(0, cells.queries[number]).view(shape)
        seen, said = (t.index_select(0, cells.keys[number]).view(shape) for t in (k, v))
        visible = ~grid.hidden[:, :, 0].repeat(1, 1, query.shape[1] // key.shape[1], 1)
        mixed = functional.scaled_dot_product_attention(asking, seen, said, attn_mask=visible, scale=scaling)
        parts.append(mixed.reshape(-1, q.shape[1]))
    return _joined(parts).index_select(0, cells.query_at).view(query.shape)


def too_long(length: int, window: int) -> UserError:
    """The refusal of a sequence that a sliding window would hide a part of."""
    return UserError(
        f"a sequence of {length} tokens exceeds this model's sliding window of {window}; lower cutoff_len (training) "
        "or response_length (sampling), or shorten the prompts"
    )


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
        raise too_long(layout.longest, sliding_window)
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
