from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence

import pytest

from bessemer.data.splits import contiguous_blocks, grouped_split, hashed_part, hashed_split, stratified_split
from bessemer.errors import UserError

# ELPV: images by (defect probability in thirds, cell type), from the paper; and its runs of rows of one type.
ELPV = {(0, "mono"): 588, (1, "mono"): 117, (2, "mono"): 56, (3, "mono"): 313,
        (0, "poly"): 920, (1, "poly"): 178, (2, "poly"): 50, (3, "poly"): 402}  # fmt: skip
RUNS = [("mono", 60), ("poly", 300), ("mono", 180), ("poly", 360), ("mono", 714), ("poly", 530), ("mono", 72),
        ("poly", 180), ("mono", 48), ("poly", 180)]  # fmt: skip


def test_stratified_on_elpvs_table() -> None:
    strata = [stratum for stratum, count in ELPV.items() for _ in range(count)]
    parts = stratified_split(strata, seed=0)
    assert Counter(parts) == {"train": 1771, "val": 197, "test": 656}  # 2,624 / 4; a tenth of 1,968
    inside = Counter(zip(strata, parts, strict=True))
    for stratum, count in ELPV.items():
        assert abs(inside[stratum, "test"] - count / 4) < 1
        assert abs(inside[stratum, "val"] - (count - inside[stratum, "test"]) / 10) < 1


def test_stratified_is_exact_where_shares_are_whole() -> None:
    strata = ["a"] * 40 + ["b"] * 8
    inside = Counter(zip(strata, stratified_split(strata, 3, test=0.25, val=1 / 6), strict=True))
    assert inside == {("a", "test"): 10, ("a", "val"): 5, ("a", "train"): 25,
                      ("b", "test"): 2, ("b", "val"): 1, ("b", "train"): 5}  # fmt: skip


def test_seeds_differ_and_repeat() -> None:
    strata = ["a", "b"] * 30
    assert stratified_split(strata, 1) == stratified_split(strata, 1)
    assert stratified_split(strata, 1) != stratified_split(strata, 2)
    groups = [i // 5 for i in range(60)]
    assert grouped_split(groups, strata, 1) == grouped_split(groups, strata, 1)
    assert len({tuple(grouped_split(groups, strata, seed)) for seed in range(5)}) > 2


def test_every_item_can_come_into_every_part() -> None:
    # ties between strata of one item each are settled by the seed: none is always tested
    seen = [Counter(column) for column in zip(*(stratified_split(list("abcdefgh"), s) for s in range(60)), strict=True)]
    assert all(set(counts) == {"train", "val", "test"} for counts in seen)


@pytest.mark.parametrize("n", [3, 4, 5, 9])
def test_no_part_is_empty(n: int) -> None:
    assert set(stratified_split(["a"] * n, 0)) == {"train", "val", "test"}
    assert set(stratified_split(["a"] * n, 0, test=0.9, val=0.9)) == {"train", "val", "test"}
    assert set(grouped_split(list(range(n)), ["a"] * n, 0)) == {"train", "val", "test"}
    assert set(grouped_split(list(range(n)), ["a"] * n, 0, test=0.9, val=0.9)) == {"train", "val", "test"}


def test_share_zero_makes_no_such_part() -> None:
    strata = ["a"] * 20
    assert Counter(stratified_split(strata, 0, test=0)) == {"train": 18, "val": 2}
    assert Counter(stratified_split(strata, 0, val=0)) == {"train": 15, "test": 5}
    assert Counter(grouped_split(list(range(20)), strata, 0, test=0)) == {"train": 18, "val": 2}


def _runs(pairs: Sequence[tuple[str, int]]) -> list[str]:
    return [kind for kind, length in pairs for _ in range(length)]


def test_blocks_by_hand() -> None:
    # 7 rows in blocks of 3: the remainder of 1 joins; 8 rows: that of 2 stands alone; a change of kind cuts
    kinds = _runs([("a", 7), ("b", 8), ("a", 1)])
    assert contiguous_blocks(kinds, 3) == [0, 0, 0, 1, 1, 1, 1] + [2, 2, 2, 3, 3, 3, 4, 4] + [5]


def test_blocks_of_elpv() -> None:
    kinds = _runs(RUNS)
    blocks = contiguous_blocks(kinds)
    assert len(kinds) == 2624
    sizes = Counter(blocks)
    # by hand: 1 + 5 + 3 + 6 + (11 of 60 and 54) + (8 of 60 and 50) + 72 + 3 + 48 + 3
    assert len(sizes) == 44
    assert Counter(sizes.values()) == {60: 40, 54: 1, 50: 1, 72: 1, 48: 1}
    assert blocks == sorted(blocks)
    assert all(len({kinds[row] for row, b in enumerate(blocks) if b == block}) == 1 for block in sizes)


def test_no_group_on_two_sides_and_balanced() -> None:
    rng = random.Random(1)
    for seed in range(3):
        groups = [g for g in range(40) for _ in range(rng.randint(20, 40))]
        bad = {g: rng.random() for g in range(40)}  # groups differ greatly in their share of "yes"
        strata = ["yes" if rng.random() < bad[g] else "no" for g in groups]
        parts = grouped_split(groups, strata, seed)
        assert all(len({p for p, g in zip(parts, groups, strict=True) if g == group}) == 1 for group in range(40))
        inside = Counter(zip(parts, strata, strict=True))
        for stratum in ("yes", "no"):
            assert inside["test", stratum] == pytest.approx(strata.count(stratum) / 4, rel=0.15)
        left = len(parts) - parts.count("test")
        assert parts.count("val") == pytest.approx(left / 10, rel=0.35)


def test_a_group_that_is_too_large_is_kept_out_of_test() -> None:
    groups = ["big"] * 80 + [f"small{i}" for i in range(40)]
    parts = grouped_split(groups, ["a"] * 120, 0)
    assert parts[0] == "train"
    assert parts.count("test") == 30  # a quarter of 120, to be had exactly from groups of one


def test_refusals() -> None:
    with pytest.raises(UserError, match="2 group"):
        grouped_split(["a", "a", "b"], ["x"] * 3, 0)
    with pytest.raises(UserError, match="2 image"):
        stratified_split(["x"] * 2, 0)
    with pytest.raises(UserError, match="from 0 to below 1"):
        stratified_split(["x"] * 9, 0, test=1.0)
    with pytest.raises(UserError, match="from 0 to below 1"):
        grouped_split(list(range(9)), ["x"] * 9, 0, val=-0.1)


def test_a_small_share_is_one_item() -> None:
    assert Counter(stratified_split(["x"] * 20, 0, test=0.01, val=0.01)) == {"train": 18, "val": 1, "test": 1}


def test_a_hashed_split_stays_when_others_join() -> None:
    keys = [f"{n:064x}" for n in range(2_000)]
    all_parts = hashed_split(keys, seed=3)
    assert hashed_split(keys[:500], seed=3) == all_parts[:500]
    assert all_parts == [hashed_part(key, 3) for key in keys] and all_parts != hashed_split(keys, seed=4)
    shares = {part: all_parts.count(part) / 2_000 for part in ("test", "val", "train")}
    assert abs(shares["test"] - 0.25) < 0.03 and abs(shares["val"] - 0.075) < 0.02
    assert set(hashed_split(keys, 0, test=0.0, val=0.0)) == {"train"}


@pytest.mark.parametrize("seed", range(30))
def test_a_hashed_split_of_three_has_every_part(seed: int) -> None:
    assert sorted(hashed_split(["a", "b", "c"], seed)) == ["test", "train", "val"]
