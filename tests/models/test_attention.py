"""Attention over packed rows, beside a loop over single queries."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from bessemer.models.attention import grid_attention, packed_attention, segments_of

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
        nn.Identity(), *given, None, segments=segments_of(lengths), scaling=1 / math.sqrt(6)
    )
    assert weights is None
    assert_close(mixed[0].transpose(0, 1), _one_by_one(query, key, value, lengths), atol=1e-12, rtol=0)


def test_a_sequence_learns_nothing_from_its_neighbours() -> None:
    """The gradient of one sequence's outputs with respect to another's rows is exactly zero."""
    lengths = [4, 30, 6]
    leaves = [torch.randn(1, 2, 40, 6, requires_grad=True) for _ in range(3)]
    mixed, _ = packed_attention(nn.Identity(), *leaves, None, segments=segments_of(lengths), scaling=0.4)
    mixed[0, 4:34].sum().backward()
    for leaf in leaves:
        assert leaf.grad is not None
        assert float(leaf.grad[:, :, 4:34].abs().max()) > 0
        assert float(leaf.grad[:, :, :4].abs().max()) == float(leaf.grad[:, :, 34:].abs().max()) == 0


def test_segments_by_hand() -> None:
    segments = segments_of([2, 30, 3])
    assert segments.positions.tolist() == [0, 1, *range(30), 0, 1, 2]
    assert segments.last_rows.tolist() == [1, 31, 34]
    # 3 <= 1.25 * 2 + 16 share a grid; 30 does not
    (rows, places, targets), (long_rows, _, long_targets) = segments.grids
    assert rows.tolist() == [[0, 1, 0], [32, 33, 34]]
    assert places.tolist() == [0, 1, 3, 4, 5] and targets.tolist() == [0, 1, 32, 33, 34]
    assert long_rows.shape == (1, 30) and long_targets.tolist() == list(range(2, 32))


@pytest.mark.parametrize("lengths", [*MIXES, list(range(1, 200, 7))], ids=str)
def test_grids_hold_every_row_once_with_little_padding(lengths: list[int]) -> None:
    segments = segments_of(lengths)
    held = torch.cat([targets for _, _, targets in segments.grids])
    assert sorted(held.tolist()) == list(range(sum(lengths)))
    for rows, places, targets in segments.grids:
        assert torch.equal(rows.flatten()[places], targets)
        real = [int((places // rows.shape[1] == row).sum()) for row in range(len(rows))]
        assert max(real) == rows.shape[1] <= 1.25 * min(real) + 16


@pytest.mark.parametrize("lengths", [[], [3, 0]])
def test_an_empty_sequence_is_refused(lengths: list[int]) -> None:
    with pytest.raises(ValueError, match="every sequence needs at least one token"):
        segments_of(lengths)


def test_beyond_a_sliding_window_is_refused() -> None:
    tensor = torch.zeros(1, 2, 9, 4)
    attend = lambda window: packed_attention(  # noqa: E731
        nn.Identity(), tensor, tensor, tensor, None, segments=segments_of([9]), scaling=1.0, sliding_window=window
    )
    assert attend(9)[0].shape == (1, 9, 2, 4)
    with pytest.raises(ValueError, match="a sequence of 9 tokens exceeds the sliding window of 8"):
        attend(8)


def test_grid_attention_pads_by_any_row() -> None:
    """What stands in the padded places changes nothing that is real."""
    query, key, value = (torch.randn(7, 2, 4) for _ in range(3))
    rows = torch.tensor([[0, 1, 2, 3], [4, 5, 6, 4]])
    other = torch.tensor([[0, 1, 2, 3], [4, 5, 6, 0]])
    first, second = (grid_attention(query, key, value, grid, 0.5) for grid in (rows, other))
    assert torch.equal(first[:7], second[:7])
