from __future__ import annotations

import random
import tracemalloc

from bessemer.training.baselines import bag_of_words_baseline, length_baseline

SHORT, LONG = "Yes.", "Yes, there is a long crack from the upper left corner to the middle of the cell."


def test_length_learns_that_longer_is_better_or_worse() -> None:
    pairs = [
        (SHORT, LONG),
        (LONG, SHORT),
        ("no", "no, not at all, I am quite sure"),
        ("a long answer indeed", "no"),
    ] * 5
    longer = [len(first) > len(second) for first, second in pairs]
    margin = length_baseline(pairs, longer)
    assert margin("x" * 50, "x") > 0 > margin("x", "x" * 50)
    assert margin("abc", "xyz") == 0
    worse = length_baseline(pairs, [not better for better in longer])
    assert worse("x" * 50, "x") < 0


def test_a_bag_of_words_learns_an_obvious_preference() -> None:
    generator = random.Random(0)
    nouns = ["cell", "crack", "corner", "edge", "busbar"]
    pairs, wins = [], []
    for _ in range(60):
        good = f"I cannot see the {generator.choice(nouns)}."
        bad = f"Surely the {generator.choice(nouns)} is fine."
        first_is_good = generator.random() < 0.5
        pairs.append((good, bad) if first_is_good else (bad, good))
        wins.append(first_is_good)
    margin = bag_of_words_baseline(pairs, wins)
    right = [(margin(first, second) > 0) == won for (first, second), won in zip(pairs, wins, strict=True)]
    assert all(right)
    assert margin("I cannot see the wire.", "Surely the wire is fine.") > 1
    length = length_baseline(pairs, wins)
    assert abs(length("I cannot see the wire.", "Surely the wire is fine.")) < 1


def test_the_order_of_a_pair_does_not_matter() -> None:
    """Swapped answers swap the sign exactly, whichever came first in training."""
    pairs, wins = [(LONG, SHORT), (LONG, "No."), (SHORT, LONG)], [True, True, False]
    swapped = [(second, first) for first, second in pairs]
    for baseline in (length_baseline, bag_of_words_baseline):
        margin, mirrored = baseline(pairs, wins), baseline(swapped, [not won for won in wins])
        assert margin(LONG, SHORT) == -margin(SHORT, LONG) > 0
        assert abs(margin(LONG, "No.") - mirrored(LONG, "No.")) < 1e-6


def test_chinese_is_read_by_characters() -> None:
    pairs = [("看不清裂纹", "一切正常"), ("没有裂纹吗？看不清", "正常"), ("正常正常", "看不清")] * 4
    margin = bag_of_words_baseline(pairs, [True, True, False] * 4)
    assert margin("图中看不清", "图中正常") > 0.5


def test_nothing_to_learn_from() -> None:
    for baseline in (length_baseline, bag_of_words_baseline):
        assert baseline([], [])("a", "bb") == 0.0
        assert baseline([("", "")], [True])("a", "b") == 0.0


def test_many_words_take_little_memory() -> None:
    """4,000 words of 1,000 pairs, both ways round, are 64 MB a table."""
    pairs = [(f"alpha{n} beta{n} good", f"gamma{n} delta{n} bad") for n in range(1000)]
    tracemalloc.start()
    margin = bag_of_words_baseline(pairs, [True] * 1000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20e6
    assert margin("good", "bad") > 1
