"""Attention over packed rows, beside a loop over single queries."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from bessemer.errors import UserError
from bessemer.models.attention import _fused, attend, packed_attention
from bessemer.models.layout import Layout, layout_of

pytestmark = pytest.mark.usefixtures("operations")

MIXES = [[1], [5], [3, 3, 3], [1, 9, 2, 4], [40, 3, 41, 1, 90, 2], [7] * 5 + [100, 1]]


def _one_by_one(query: Tensor, key: Tensor, value: Tensor, lengths: list[int]) -> Tensor:
    """For each query head and row: softmax over the keys of its own sequence up to itself. (H, N, d) in and out."""
    group = query.shape[0] // key.shape[0]
    mixed = torch.zeros_like(query)
    for head in range(query.shape[0]):
        start = 0
        for length in lengths:
            for row in range(start, start + length):
                keys = key[head // group, start : row + 1]
                shares = torch.softmax(keys @ query[head, row] / math.sqrt(query.shape[-1]), 0)
                mixed[head, row] = shares @ value[head // group, start : row + 1]
            start += length
    return mixed


@pytest.mark.parametrize("lengths", MIXES, ids=str)
def test_packed_attention_is_attention_within_each_sequence(lengths: list[int]) -> None:
    generator = torch.Generator().manual_seed(0)
    rows = sum(lengths)
    query = torch.randn(4, rows, 6, generator=generator, dtype=torch.float64)
    key, value = (torch.randn(2, rows, 6, generator=generator, dtype=torch.float64) for _ in range(2))
    given = [tensor[None] for tensor in (query, key, value)]
    mixed, weights = packed_attention(
        nn.Identity(), *given, None, layout=layout_of(lengths, list(range(sum(lengths)))), scaling=1 / math.sqrt(6)
    )
    assert weights is None
    assert_close(mixed[0].transpose(0, 1), _one_by_one(query, key, value, lengths), atol=1e-12, rtol=0)


def test_a_sequence_learns_nothing_from_its_neighbours() -> None:
    """The gradient of one sequence's outputs with respect to another's rows is exactly zero."""
    lengths = [4, 30, 6]
    leaves = [torch.randn(1, 2, 40, 6, requires_grad=True) for _ in range(3)]
    mixed, _ = packed_attention(
        nn.Identity(), *leaves, None, layout=layout_of(lengths, list(range(sum(lengths)))), scaling=0.4
    )
    mixed[0, 4:34].sum().backward()
    for leaf in leaves:
        assert leaf.grad is not None
        assert float(leaf.grad[:, :, 4:34].abs().max()) > 0
        assert float(leaf.grad[:, :, :4].abs().max()) == float(leaf.grad[:, :, 34:].abs().max()) == 0


def test_beyond_a_sliding_window_is_refused() -> None:
    tensor = torch.zeros(1, 2, 9, 4)
    attend = lambda window: packed_attention(  # noqa: E731
        nn.Identity(),
        tensor,
        tensor,
        tensor,
        None,
        layout=layout_of([9], list(range(9))),
        scaling=1.0,
        sliding_window=window,
    )
    assert attend(9)[0].shape == (1, 9, 2, 4)
    with pytest.raises(UserError, match="a sequence of 9 tokens exceeds this model's sliding window of 8; lower"):
        attend(8)


def test_what_is_shared_is_attended_to_by_all() -> None:
    """Rows computed once give each sequence what it would have alone, and collect the gradients of all."""
    texts = [[7, 8, 9, 1, 1], [7, 8, 9, 2], [7, 8, 9, 1, 3, 4], [5, 8]]
    layout = layout_of([len(text) for text in texts], [token for text in texts for token in text])
    generator = torch.Generator().manual_seed(0)
    query, key, value = (
        torch.randn(h, len(layout.first), 6, generator=generator, dtype=torch.float64, requires_grad=True)
        for h in (4, 2, 2)
    )
    given = [tensor[None] for tensor in (query, key, value)]
    mixed, _ = packed_attention(nn.Identity(), *given, None, layout=layout, scaling=1 / math.sqrt(6))
    spread = [tensor[:, layout.index] for tensor in (query, key, value)]
    expected = _one_by_one(*spread, [len(text) for text in texts])
    assert_close(mixed[0].transpose(0, 1)[:, layout.index], expected, atol=1e-12, rtol=0)
    weight = torch.randn(expected.shape, generator=generator, dtype=torch.float64)
    ours = torch.autograd.grad((mixed[0].transpose(0, 1)[:, layout.index] * weight).sum(), (query, key, value))
    # the loop writes into its result in place: its gradient is that of the same sum, taken by hand
    for leaf, found in zip((query, key, value), ours, strict=True):
        step = torch.randn(leaf.shape, generator=generator, dtype=torch.float64)
        moved = [t + 1e-5 * step if t is leaf else t for t in (query, key, value)]
        back = [t - 1e-5 * step if t is leaf else t for t in (query, key, value)]
        lengths = [len(text) for text in texts]
        with torch.no_grad():
            up, down = (
                (_one_by_one(*(t[:, layout.index] for t in ts), lengths) * weight).sum() for ts in (moved, back)
            )
        assert_close((found * step).sum(), (up - down) / 2e-5, atol=1e-6, rtol=1e-6)


def _shared() -> Layout:
    texts = [[7, 8, 9, 1, 1], [7, 8, 9, 2], [7, 8, 9, 1, 3, 4], [5, 8], list(range(40))]
    return layout_of([len(text) for text in texts], [token for text in texts for token in text])


def _leaves(layout: Layout) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    sizes = [(len(layout.first), heads, 4) for heads in (6, 2, 2)]
    return [torch.randn(size, generator=generator, dtype=torch.float64, requires_grad=True) for size in sizes]


def test_the_gradient_by_hand_is_that_of_differences() -> None:
    layout = _shared()
    assert len(layout.grids) > 1 and any(len(padded) for padded in layout.cells(6, 2).padded)
    leaves = _leaves(layout)
    assert torch.autograd.gradcheck(lambda *given: attend(*given, layout, 0.4), leaves, fast_mode=True)


def test_the_fused_kernel_is_the_two_products() -> None:
    """What a GPU runs, on the CPU: grids with padding, shared beginnings and grouped heads; values and gradients."""
    layout = _shared()
    leaves = _leaves(layout)
    ours, theirs = (kernel(*leaves, layout, 0.4) for kernel in (attend, _fused))
    assert_close(ours, theirs, atol=1e-12, rtol=0)
    weight = torch.randn(ours.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    pairs = [torch.autograd.grad((mixed * weight).sum(), leaves) for mixed in (ours, theirs)]
    for one, other in zip(*pairs, strict=True):
        assert_close(one, other, atol=1e-12, rtol=0)
