"""Which rows of a packed batch are computed, and who may attend to whom.

Sequences that begin alike (the same system message, the same photograph, the same prompt before K answers) share the
rows of what they have in common: a causal network would compute them alike, so they are computed once. Sorted as
texts are, each sequence shares with the one before it the longest beginning that they have in common, and adds rows
for the rest: a prefix tree in which nobody ever needs to see a node.

What is computed lies in one row of U tokens; attention gathers it into grids of sequences of similar length.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Grid", "Layout", "layout_of"]


@dataclass(frozen=True)
class Grid:
    """Attention of b sequences at once.

    queries (b, Tq): computed rows that look; keys (b, Tk): computed rows that may be looked at, a sequence from its
    first token on; both padded with a valid row. hidden (b, 1, 1, Tq, Tk): True = not seen, because it is later or
    padding. Padded queries are never read back.
    """

    queries: Tensor
    keys: Tensor
    hidden: Tensor


@dataclass(frozen=True)
class Layout:
    """U computed rows for the N rows of a packed batch of sequences.

    first (U,): the row of the batch that each computed row is; index (N,): the computed row of each row of the batch;
    positions (U,): place of each computed row within its sequence; grids: together they hold every computed row
    once as a query; source (U,): flat place, in the queries of all grids one behind the other, of each computed row;
    longest: tokens of the longest sequence.
    """

    first: Tensor
    index: Tensor
    positions: Tensor
    grids: tuple[Grid, ...]
    source: Tensor
    longest: int


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
    grids, source, offset = [], torch.empty(len(first), dtype=torch.int64), 0
    for group in _groups([len(chain) for chain in chains], own):
        grid, real, rows = _grid([chains[i] for i in group], [shared[i] for i in group])
        source[rows] = offset + real
        offset += grid.queries.numel()
        grids.append(Grid(grid.queries.to(device), grid.keys.to(device), grid.hidden.to(device)))
    index = torch.tensor([row for chain in chains for row in chain])
    return Layout(
        torch.tensor(first).to(device),
        index.to(device),
        torch.tensor(positions).to(device),
        tuple(grids),
        source.to(device),
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


def _grid(chains: Sequence[Sequence[int]], shared: Sequence[int]) -> tuple[Grid, Tensor, Tensor]:
    """The grid of these sequences, the flat places of its real queries, and the computed rows that they are."""
    lengths = torch.tensor([len(chain) for chain in chains])[:, None]
    begins = torch.tensor(shared)[:, None]
    widest, longest = int((lengths - begins).max()), int(lengths.max())
    keys = torch.zeros(len(chains), longest, dtype=torch.int64)
    steps = torch.arange(longest)
    keys[steps < lengths] = torch.tensor([row for chain in chains for row in chain])
    keys = torch.where(steps < lengths, keys, keys[:, :1])
    places = begins + torch.arange(widest)  # of each query within its sequence
    queries = keys.gather(1, places.clamp(max=longest - 1))
    hidden = steps > places[:, :, None]
    real = (places < lengths).flatten().nonzero()[:, 0]
    return Grid(queries, keys, hidden[:, None, None]), real, queries.flatten()[real]
