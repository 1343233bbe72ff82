from __future__ import annotations

import math

import pytest

from bessemer.errors import UserError
from bessemer.report.captions import caption_values, cider_d


def test_cider_of_the_reference_itself() -> None:
    """Of texts that share no word every cosine is 1, so the score is 10, however long they are."""
    texts = ["a man wears no helmet", "dark smoke rises over there", "箱子挡住了出口"]
    assert cider_d(texts, [[text] for text in texts]) == pytest.approx([10.0] * 3)


def test_cider_by_hand() -> None:
    """Two pictures. "a b c d" against "a b e f": the words a, b and the pair "a b" are shared, of four and three.

    Every n-gram stands in one picture's references alone or in none, so all weigh log 2 - log 1 = log 2 but for what
    no reference holds, which weighs the same (document frequency is at least 1). Cosines: 2/4, 1/3, 0, 0.
    """
    scores = cider_d(["a b c d", "x"], [["a b e f"], ["u v w"]])
    assert scores == pytest.approx([10 * (2 / 4 + 1 / 3) / 4, 0.0])


def test_longer_captions_are_punished_by_their_length() -> None:
    """Repeating the caption leaves clipped counts and cosines: 1/2 for words (four of two each), and exp(-d^2/72)."""
    (score, _) = cider_d(["a b c d a b c d", "x"], [["a b c d"], ["u v w"]])
    words = (4 * 1) / (math.sqrt(4 * 4) * math.sqrt(4))  # each word twice: norm 4 against 2
    pairs = 3 / (math.sqrt(3 * 4 + 1) * math.sqrt(3))
    threes = 2 / (math.sqrt(2 * 4 + 2) * math.sqrt(2))
    fours = 1 / math.sqrt(1 * 4 + 3)
    penalty = math.exp(-((7 - 3) ** 2) / 72)
    assert score == pytest.approx(10 * penalty * (words + pairs + threes + fours) / 4)


def test_words_that_stand_everywhere_weigh_nothing() -> None:
    assert cider_d(["the", "the"], [["the"], ["the"]]) == [0.0, 0.0]


def test_the_best_reference_counts_and_refusals() -> None:
    scores = caption_values(["a b", "c"], [["a b", "x y"], ["d"]])
    assert scores["rouge_l"] == scores["token_f1"] == [1.0, 0.0]
    assert caption_values([], []) == {"cider_d": [], "rouge_l": [], "token_f1": []}
    with pytest.raises(UserError, match="1 captions of 2 pictures"):
        cider_d(["a"], [["a"], ["b"]])
    with pytest.raises(UserError, match="a picture without a reference"):
        cider_d(["a"], [[]])
