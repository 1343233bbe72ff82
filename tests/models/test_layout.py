"""Layouts of packed batches: every distinct beginning once, every row asked for once."""

from __future__ import annotations

import random

import pytest
import torch

from bessemer.models.layout import Layout, layout_of

MIXES = [[1], [5], [3, 3, 3], [1, 9, 2, 4], [40, 3, 41, 1, 90, 2], [7] * 5 + [100, 1]]


def _texts(seed: int, count: int, letters: int, longest: int) -> list[tuple[int, ...]]:
    """Texts over few letters, so that many begin alike, some are beginnings of others and some stand twice."""
    draw = random.Random(seed)
    texts = [tuple(draw.randrange(letters) for _ in range(draw.randint(1, longest))) for _ in range(count)]
    return [*texts, texts[0], texts[-1][:1], texts[count // 2] + (0,)]


def _layout(texts: list[tuple[int, ...]]) -> Layout:
    return layout_of([len(text) for text in texts], [token for text in texts for token in text])


def _check(layout: Layout, texts: list[tuple[int, ...]]) -> None:
    """Every row stands for its own beginning; every computed row asks once, and sees just what comes before it."""
    flat = [text[: place + 1] for text in texts for place in range(len(text))]
    beginnings = [flat[row] for row in layout.first.tolist()]
    assert [beginnings[row] for row in layout.index.tolist()] == flat
    assert [len(beginning) - 1 for beginning in beginnings] == layout.positions.tolist()
    cells = layout.cells(1, 1)
    queries, keys = (torch.cat(rows) for rows in (cells.queries, cells.keys))
    everyone = list(range(len(beginnings)))
    assert queries[cells.query_at].tolist() == keys[cells.key_at].tolist() == everyone
    assert keys[cells.again_at].tolist() == cells.again.tolist()
    once = torch.cat([cells.key_at, cells.again_at])
    real = sum(int((grid.own | grid.others).sum()) for grid in layout.grids)
    assert len(set(once.tolist())) == len(once) == real
    seen: list[list[tuple[int, ...]]] = []
    for grid in layout.grids:
        for keys, hidden in zip(grid.keys, grid.hidden[:, 0, 0], strict=True):
            seen += [[beginnings[k] for k in keys[~row].tolist()] for row in hidden]
    for row, place in enumerate(cells.query_at.tolist()):
        own = beginnings[row]
        assert seen[place] == [own[:k] for k in range(1, len(own) + 1)]


@pytest.mark.parametrize("seed", range(12))
def test_each_distinct_beginning_is_computed_once(seed: int) -> None:
    texts = _texts(seed, count=2 + 3 * seed, letters=1 + seed % 4, longest=5 + 4 * seed)
    layout = _layout(texts)
    _check(layout, texts)
    assert len(layout.first) == len({text[:k] for text in texts for k in range(1, len(text) + 1)})


@pytest.mark.parametrize("lengths", [*MIXES, list(range(1, 200, 7))], ids=str)
def test_what_has_nothing_in_common_keeps_its_order(lengths: list[int]) -> None:
    layout = layout_of(lengths, list(range(sum(lengths))))
    assert layout.first.tolist() == layout.index.tolist() == list(range(sum(lengths)))
    assert layout.positions.tolist() == [place for length in lengths for place in range(length)]
    for grid in layout.grids:
        assert grid.queries.shape == grid.keys.shape
        assert torch.equal(grid.queries, grid.keys)
        shortest = int((grid.queries[:, 1:] > grid.queries[:, :-1]).sum(1).min()) + 1
        assert grid.queries.shape[1] <= 1.25 * shortest + 16


def test_by_hand() -> None:
    # in order: 1 2, 1 2 3 (both from the third text's rows or before), 1 4, 5
    texts = [(1, 2, 3), (5,), (1, 2), (1, 4), (5,)]
    layout = _layout(texts)
    assert layout.longest == 3
    # sorted: (1 2) computes rows 0 1 of itself, (1 2 3) adds 3, (1 4) adds 4, the first (5) adds itself
    assert layout.first.tolist() == [4, 5, 2, 7, 3]
    assert layout.index.tolist() == [0, 1, 2, 4, 0, 1, 0, 3, 4]
    assert layout.positions.tolist() == [0, 1, 2, 1, 0]
    (grid,) = layout.grids
    assert sorted(map(tuple, grid.keys.tolist())) == [(0, 1, 0), (0, 1, 2), (0, 3, 0), (4, 4, 4)]


def test_long_and_short_go_apart() -> None:
    layout = layout_of([2, 30, 3], list(range(35)))
    # 3 <= 1.25 * 2 + 16 share a grid; 30 does not
    short, long = layout.grids
    assert short.queries.tolist() == [[0, 1, 0], [32, 33, 34]] and long.queries.shape == (1, 30)


def test_many_answers_to_a_long_prompt_ask_for_their_own_rows_alone() -> None:
    prompt = tuple(range(100, 160))
    texts = [(*prompt, k, k + 1, k + 2) for k in range(6)]
    layout = _layout(texts)
    _check(layout, texts)
    assert len(layout.first) == 60 + 6 * 3
    sizes = sorted((tuple(grid.queries.shape), grid.keys.shape[1]) for grid in layout.grids)
    assert sizes == [((1, 63), 63), ((5, 3), 63)]


def test_heads_lie_flat_in_rows_and_by_head_in_grids() -> None:
    texts = [(1, 2, 3), (1, 4), (5,)]
    layout = _layout(texts)
    cells, alone = layout.cells(4, 2), layout.cells(1, 1)
    assert layout.cells(4, 2) is cells
    (grid,), batch = layout.grids, 3
    queries = cells.queries[0].view(batch, 2, 2, -1)
    for head in range(4):
        assert torch.equal(queries[:, head // 2, head % 2], grid.queries * 4 + head)
    assert torch.equal(cells.keys[0].view(batch, 2, -1)[:, 1], grid.keys * 2 + 1)
    assert torch.equal(cells.queries[0][cells.query_at], torch.arange(len(layout.first) * 4))
    assert torch.equal(cells.keys[0][cells.key_at], torch.arange(len(layout.first) * 2))
    assert len(cells.padded[0]) == 4 * len(alone.padded[0]) == 4 * int((~grid.asked).sum())


@pytest.mark.parametrize("lengths", [[], [3, 0]])
def test_an_empty_sequence_is_refused(lengths: list[int]) -> None:
    with pytest.raises(ValueError, match="every sequence needs at least one token"):
        layout_of(lengths, [1, 1, 1])
