"""What a reward model must beat: a preference for length, and a bag of words that never sees prompt or image."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression

__all__ = ["Margin", "bag_of_words_baseline", "length_baseline"]

Pair = tuple[str, str]
Margin = Callable[[str, str], float]


def length_baseline(pairs: Sequence[Pair], first_wins: Sequence[bool]) -> Margin:
    """Fit log-odds that the first answer wins on the difference of their lengths in characters."""
    return _fitted(pairs, first_wins, lambda texts: np.array([[len(text) / 100.0] for text in texts]))


def bag_of_words_baseline(pairs: Sequence[Pair], first_wins: Sequence[bool]) -> Margin:
    """Fit log-odds that the first answer wins on the difference of their word counts (Chinese: of characters)."""
    vectorizer = CountVectorizer(token_pattern=r"[一-鿿]|[^\W_]+|[^\w\s]")
    vectorizer.fit([*(text for pair in pairs for text in pair), "."])  # one word at least, if all said nothing
    # sparse: of thousands of words an answer has a dozen
    return _fitted(pairs, first_wins, lambda texts: vectorizer.transform(texts).astype(float))


def _fitted(pairs: Sequence[Pair], first_wins: Sequence[bool], features: Callable[[list[str]], Any]) -> Margin:
    if not pairs:
        return lambda first, second: 0.0
    one, other = [first for first, _ in pairs], [second for _, second in pairs]
    won = np.array(first_wins, dtype=bool)
    # each pair both ways round: the model has no intercept, and neither order may be favoured
    model = LogisticRegression(fit_intercept=False, C=1.0, max_iter=500)
    model.fit(features(one + other) - features(other + one), np.concatenate([won, ~won]))
    return lambda first, second: float(model.decision_function(features([first]) - features([second]))[0])
