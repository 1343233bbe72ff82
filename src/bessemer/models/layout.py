"""Which rows of a packed batch are computed, and who may attend to whom.

Sequences that begin alike (the same system message, the same photograph, the same prompt before K answers) share the
rows of what they have in common: a causal network would compute them alike, so they are computed once. Sorted as
texts are, each sequence shares with the one before it the longest beginning that they have in common, and adds rows
for the rest: a prefix tree in which nobody ever needs to see a node.

What is computed lies in one row of U tokens; attention gathers it into grids of sequences of similar length, a head
at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

__all__ = ["Cells", "Grid", "Layout", "layout_of"]


@dataclass(frozen=True)
class Grid:
    """Attention of b sequences at once.

    queries (b, Tq): computed rows that look; keys (b, Tk): computed rows that may be looked at, a sequence from its
    first token on; both padded with a valid row. asked (b, Tq): True = not padding. own (b, Tk): True = a row that this
    sequence itself computes; others (b, Tk): True = one that another computes. hidden (b, 1, 1, Tq, Tk): True = not
    seen, because it is later or padding; seen (b, Tq): how many keys are, from the first one on.
    """

    queries: Tensor
    keys: Tensor
    asked: Tensor
    own: Tensor
    others: Tensor
    hidden: Tensor
    seen: Tensor


@dataclass(frozen=True)
class Cells:
    """Where each head of the computed rows stands in the grids, for Hq query heads that share Hk keys and values.

    Heads lie flat: row u, head h is u * H + h; in the grids (b, Hk, Hq / Hk, Tq), or (b, Hk, Tk), one behind the other.
    queries, keys: of each grid, the head of each of its cells; padded: of each grid, the cells that nobody asked for.
    query_at (U * Hq,), key_at (U * Hk,): the cell of each head, of a key the one in the sequence that computes it;
    again, again_at: the heads of keys that other sequences see too, and the cells where they do.
    """

    queries: tuple[Tensor, ...]
    keys: tuple[Tensor, ...]
    padded: tuple[Tensor, ...]
    query_at: Tensor
    key_at: Tensor
    again: Tensor
    again_at: Tensor


@dataclass(frozen=True)
class Layout:
    """U computed rows for the N rows of a packed batch of sequences.

    first (U,): the row of the batch that each computed row is; index (N,): the computed row of each row of the batch;
    positions (U,): place of each computed row within its sequence; grids: together they hold every computed row
    once as a query, and once as a key of its own sequence; longest: tokens of the longest sequence.
    """

    first: Tensor
    index: Tensor
    positions: Tensor
    grids: tuple[Grid, ...]
    longest: int
    _cells: dict[tuple[int, int], Cells] = field(default_factory=dict)

    def cells(self, heads: int, kv_heads: int) -> Cells:
        """Where `heads` query heads stand that share the keys and values of `kv_heads`."""
        if (heads, kv_heads) not in self._cells:
            self._cells[heads, kv_heads] = _cells(self, heads, kv_heads)
        return self._cells[heads, kv_heads]


def layout_of(lengths: Sequence[int], identities: list[int], device: torch.device | str = "cpu") -> Layout:
    """Lay out sequences of the given lengths, which lie one behind the other.

    identities: N numbers, equal where two rows hold equal inputs (token ids, say). Sequences are grouped so that no
    grid is padded beyond 1.25 times its shortest member plus 16 tokens: fewer grids mean fewer kernel calls, tighter
    grids mean less wasted attention.
    """
    if not lengths or min(lengths) < 1:
        raise ValueError(f"every sequence needs at least one token, got lengths {list(lengths)[:8]}")
    chains, shared, first, positions = _chains(lengths, identities)
    own = [len(chain) - held for chain, held in zip(chains, shared, strict=True)]
    grids = [
        _grid([chains[i] for i in group], [shared[i] for i in group], device)
        for group in _groups([len(chain) for chain in chains], own)
    ]
    index = torch.tensor([row for chain in chains for row in chain])
    return Layout(
        torch.tensor(first).to(device),
        index.to(device),
        torch.tensor(positions).to(device),
        tuple(grids),
        max(lengths),
    )


def _chains(lengths: Sequence[int], identities: list[int]) -> tuple[list[list[int]], list[int], list[int], list[int]]:
    """Computed rows of each sequence; how many of them an earlier one computes; `first` and `positions` of the rows."""
    starts = [0]
    for length in lengths:
        starts.append(starts[-1] + length)
    texts = [identities[start : start + length] for start, length in zip(starts, lengths, strict=False)]
    chains: list[list[int]] = [[] for _ in lengths]
    shared = [0] * len(lengths)
    first: list[int] = []
    positions: list[int] = []
    text: list[int] = []
    chain: list[int] = []
    for i in sorted(range(len(lengths)), key=lambda i: texts[i]):
        common = _common(text, texts[i])
        text, chain = texts[i], [*chain[:common], *range(len(first), len(first) + lengths[i] - common)]
        first.extend(range(starts[i] + common, starts[i] + lengths[i]))
        positions.extend(range(common, lengths[i]))
        chains[i], shared[i] = chain, common
    return chains, shared, first, positions


def _common(one: Sequence[int], other: Sequence[int]) -> int:
    """How many numbers two sequences have in common at their beginnings."""
    shorter = min(len(one), len(other))
    return next((place for place in range(shorter) if one[place] != other[place]), shorter)


def _groups(lengths: Sequence[int], own: Sequence[int]) -> list[list[int]]:
    """Sequences of similar length and similar number of own rows; one that adds no row of its own is left out."""
    groups: list[list[int]] = []
    for i in sorted((i for i in range(len(lengths)) if own[i]), key=lambda i: (own[i], lengths[i])):
        if groups:
            head = groups[-1][0]
            seen = [lengths[j] for j in (*groups[-1], i)]
            if own[i] <= 1.25 * own[head] + 16 and max(seen) <= 1.25 * min(seen) + 16:
                groups[-1].append(i)
                continue
        groups.append([i])
    return groups


def _grid(chains: Sequence[Sequence[int]], shared: Sequence[int], device: torch.device | str) -> Grid:
    """The grid of these sequences."""
    lengths = torch.tensor([len(chain) for chain in chains])[:, None]
    begins = torch.tensor(shared)[:, None]
    widest, longest = int((lengths - begins).max()), int(lengths.max())
    keys = torch.zeros(len(chains), longest, dtype=torch.int64)
    steps = torch.arange(longest)
    keys[steps < lengths] = torch.tensor([row for chain in chains for row in chain])
    keys = torch.where(steps < lengths, keys, keys[:, :1])
    places = begins + torch.arange(widest)  # of each query within its sequence
    queries = keys.gather(1, places.clamp(max=longest - 1))
    hidden = (steps > places[:, :, None])[:, None, None]
    own, others = (steps >= begins) & (steps < lengths), steps < begins
    parts = (queries, keys, places < lengths, own, others, hidden, (places + 1).clamp(max=longest))
    return Grid(*(part.to(device) for part in parts))


def _cells(layout: Layout, heads: int, kv_heads: int) -> Cells:
    rows, device, group = len(layout.first), layout.first.device, heads // kv_heads
    query_at = torch.empty(rows * heads, dtype=torch.int64, device=device)
    key_at = torch.empty(rows * kv_heads, dtype=torch.int64, device=device)
    queries, keys, padded, again, again_at = [], [], [], [], []
    asked_before = seen_before = 0
    for grid in layout.grids:
        asking = _by_head(grid.queries * heads, torch.arange(heads, device=device).view(kv_heads, group, 1))
        seen = _by_head(grid.keys * kv_heads, torch.arange(kv_heads, device=device).view(kv_heads, 1, 1))
        asked = _by_head(grid.asked, torch.ones(kv_heads, group, 1, dtype=torch.bool, device=device), together=True)
        own, others = (
            _by_head(mask, torch.ones(kv_heads, 1, 1, dtype=torch.bool, device=device), together=True).nonzero()[:, 0]
            for mask in (grid.own, grid.others)
        )
        real = asked.nonzero()[:, 0]
        query_at[asking[real]] = asked_before + real
        key_at[seen[own]] = seen_before + own
        again.append(seen[others])
        again_at.append(seen_before + others)
        queries.append(asking)
        keys.append(seen)
        padded.append((~asked).nonzero()[:, 0])
        asked_before += len(asking)
        seen_before += len(seen)
    return Cells(tuple(queries), tuple(keys), tuple(padded), query_at, key_at, torch.cat(again), torch.cat(again_at))


def _by_head(cells: Tensor, heads: Tensor, together: bool = False) -> Tensor:
    """What is known of cells (b, T) for each of their heads (Hk, g, 1): the sum of both, or both, flat."""
    spread = cells[:, None, None]
    return ((spread & heads) if together else (spread + heads)).flatten()
