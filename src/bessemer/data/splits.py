"""Train, validation and test parts: by stratified chance (P1) or by whole groups (P2).

Validation is always carved out of what is left for training by the same rule, so thresholds and early
stopping never see the test part.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Hashable, Sequence
from itertools import groupby

from ..errors import UserError
from .mixture import permutation

__all__ = ["contiguous_blocks", "grouped_split", "hashed_part", "hashed_split", "stratified_split"]


def stratified_split(strata: Sequence[Hashable], seed: int, test: float = 0.25, val: float = 0.1) -> list[str]:
    """P1: a random split with the same share of every stratum on each side; items as they come, "train" |
    "val" | "test" each.

    `test` is a share of all, `val` of what remains; a share of 0 makes no such part. Totals are exact to
    rounding (2,624 at 0.25: 656) and never leave a part empty; remainders of the strata are settled by
    largest remainder, ties by the seed.

    Raises:
        UserError: fewer than three items, or a share that is not from 0 to below 1.
    """
    _check(len(strata), test, val)
    parts = ["train"] * len(strata)
    for part, share, kept in _shares(test, val):
        left = [i for i, current in enumerate(parts) if current == "train"]
        count = min(max(1, round(share * len(left))), len(left) - kept)
        for i in _stratified_draw([strata[i] for i in left], count, f"{part} {seed}"):
            parts[left[i]] = part
    return parts


def _stratified_draw(strata: Sequence[Hashable], count: int, key: str) -> list[int]:
    """Positions of `count` of the items, taken evenly from all strata."""
    members: dict[Hashable, list[int]] = defaultdict(list)
    for i in permutation(len(strata), "stratified", key):
        members[strata[i]].append(i)
    names = list(members)  # in the random order of first appearance, which settles ties
    takes = {name: count * len(members[name]) // len(strata) for name in names}
    by_remainder = sorted(names, key=lambda name: -(count * len(members[name]) % len(strata)))
    for name in by_remainder[: count - sum(takes.values())]:
        takes[name] += 1
    return [i for name in names for i in members[name][: takes[name]]]


def contiguous_blocks(kinds: Sequence[str], size: int = 60) -> list[int]:
    """Number of the block of every row: cuts where the kind changes and after every `size` rows.

    A remainder of less than half a block is joined to the block before it, so that a run of 72 stays whole.
    On ELPV's rows (module by module in the file, without a module id; 60 or 72 cells a module) this gives 44
    blocks, the published number of modules.
    """
    blocks: list[int] = []
    for _, run in groupby(kinds):
        length = len(list(run))
        count = max(1, length // size + (2 * (length % size) >= size))
        first = blocks[-1] + 1 if blocks else 0
        blocks.extend(first + min(row // size, count - 1) for row in range(length))
    return blocks


def grouped_split(
    groups: Sequence[Hashable], strata: Sequence[Hashable], seed: int, test: float = 0.25, val: float = 0.1
) -> list[str]:
    """P2: a split by whole groups, no group on two sides; items as they come, "train" | "val" | "test" each.

    Of many random choices of groups (1,000, fewer when there are over 50 groups) the one is taken whose size,
    and whose count of every stratum, come closest to the share (squared differences over the size of all), so
    parts are as balanced as whole groups allow.

    Raises:
        UserError: fewer than three groups, or a share that is not from 0 to below 1.
    """
    _check(len(groups), test, val)
    n_groups = len(set(groups))
    if n_groups < 3:
        raise UserError(f"{n_groups} group(s) of images, expected at least 3 for train, val and test by whole groups")
    part_of: dict[Hashable, str] = {}
    for part, share, kept in _shares(test, val):
        left = [i for i, group in enumerate(groups) if group not in part_of]
        chosen = _grouped_draw([groups[i] for i in left], [strata[i] for i in left], share, kept, f"{part} {seed}")
        part_of.update(dict.fromkeys(chosen, part))
    return [part_of.get(group, "train") for group in groups]


def _grouped_draw(
    groups: Sequence[Hashable], strata: Sequence[Hashable], share: float, kept: int, key: str
) -> list[Hashable]:
    """Groups that together hold about a `share` of the items: at least one, and `kept` at least are left."""
    counts: dict[Hashable, dict[Hashable, int]] = {}
    totals: dict[Hashable, int] = defaultdict(int)
    for group, stratum in zip(groups, strata, strict=True):
        inside = counts.setdefault(group, defaultdict(int))
        inside[stratum] += 1
        totals[stratum] += 1
    names = list(counts)
    best: tuple[float, list[Hashable]] = (float("inf"), [])
    for trial in range(max(10, min(1000, 50_000 // len(names)))):
        order = [names[i] for i in permutation(len(names), "grouped", key, trial)]
        taken: dict[Hashable, int] = defaultdict(int)
        for n_taken, name in enumerate(order[:-kept], start=1):
            for stratum, count in counts[name].items():
                taken[stratum] += count
            size = (sum(taken.values()) - share * len(groups)) ** 2 / len(groups)
            distance = size + sum((taken[s] - share * total) ** 2 / total for s, total in totals.items())
            if distance < best[0]:
                best = (distance, order[:n_taken])
            if sum(taken.values()) > 2 * share * len(groups):
                break
    return best[1]


def hashed_part(key: str, seed: int, test: float = 0.25, val: float = 0.1) -> str:
    """The part of one item by its own hash: the same whichever other items there are, today and later."""
    place = _hash_of(key, seed)
    return "test" if place < test else "val" if place < test + (1 - test) * val else "train"


def hashed_split(keys: Sequence[str], seed: int, test: float = 0.25, val: float = 0.1) -> list[str]:
    """A split for a set that grows: `hashed_part` of every key, so that what was tested on stays tested on.

    Where chance leaves a part empty (few items), the largest part gives it the item of its lowest hash.

    Raises:
        UserError: fewer than three items, or a share that is not from 0 to below 1.
    """
    _check(len(keys), test, val)
    parts = [hashed_part(key, seed, test, val) for key in keys]
    order = sorted(range(len(keys)), key=lambda i: _hash_of(keys[i], seed))
    for part in [name for name, _, _ in _shares(test, val)] + ["train"]:
        if part not in parts:
            largest = max(sorted(set(parts)), key=parts.count)
            parts[next(i for i in order if parts[i] == largest)] = part
    return parts


def _hash_of(key: str, seed: int) -> float:
    return int.from_bytes(hashlib.sha256(f"{seed}:{key}".encode()).digest()[:8]) / 2**64


def _shares(test: float, val: float) -> list[tuple[str, float, int]]:
    """The parts to take out: name, share of what is there by then, and how many items or groups must be
    left."""
    shares = [("test", test, 2 if val else 1), ("val", val, 1)]
    return [(part, share, kept) for part, share, kept in shares if share]


def _check(n: int, test: float, val: float) -> None:
    if not (0 <= test < 1 and 0 <= val < 1):
        raise UserError(f"shares test={test}, val={val}, expected numbers from 0 to below 1")
    if n < 3:
        raise UserError(f"{n} image(s), expected at least 3 to make train, val and test parts")
