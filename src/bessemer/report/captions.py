"""Scores of captions against references: CIDEr-D (Vedantam et al. 2015), ROUGE-L and token F1.

CIDEr-D depends on the whole set of references, whose rarer words weigh more; compare it only on the same pictures.
Words are those of `tasks.prose`: a Chinese character is one.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

from bessemer.data.schema import need
from bessemer.tasks.prose import longest_common, token_f1, words

__all__ = ["caption_values", "cider_d"]

LONGEST, WIDTH = 4, 6.0  # n-grams up to four words; standard deviation of the length penalty
Gram = tuple[str, ...]


def _grams(text: str) -> Counter[Gram]:
    tokens = words(text)
    return Counter(tuple(tokens[i : i + n]) for n in range(1, LONGEST + 1) for i in range(len(tokens) - n + 1))


def cider_d(captions: Sequence[str], references: Sequence[Sequence[str]]) -> list[float]:
    """CIDEr-D of each caption, 0 to 10.

    references: of each picture at least one. Source: Vedantam et al. 2015, with clipped counts and the Gaussian
    length penalty of the coco-caption code; that a word's rarity is counted over all given references, as there.

    Raises:
        UserError: not as many captions as pictures, a picture without a reference.
    """
    need(len(captions) == len(references), f"{len(captions)} captions of {len(references)} pictures", "one each")
    need(all(references), "a picture without a reference", "at least one each")
    known = [[_grams(text) for text in texts] for texts in references]
    seen_in = Counter(gram for texts in known for gram in set().union(*texts))
    total = math.log(max(1, len(references)))

    def weighed(grams: Counter[Gram]) -> tuple[list[dict[Gram, float]], list[float], int]:
        vectors: list[dict[Gram, float]] = [{} for _ in range(LONGEST)]
        for gram, count in grams.items():
            vectors[len(gram) - 1][gram] = count * (total - math.log(max(1, seen_in[gram])))
        norms = [math.sqrt(sum(value**2 for value in vector.values())) for vector in vectors]
        # The length of coco-caption: the number of bigrams.
        return vectors, norms, sum(count for gram, count in grams.items() if len(gram) == 2)

    scores = []
    for caption, texts in zip(captions, known, strict=True):
        mine, my_norms, my_length = weighed(_grams(caption))
        score = 0.0
        for grams in texts:
            theirs, norms, length = weighed(grams)
            for n in range(LONGEST):
                common = sum(
                    min(value, theirs[n].get(gram, 0.0)) * theirs[n].get(gram, 0.0) for gram, value in mine[n].items()
                )
                if my_norms[n] and norms[n]:
                    score += common / (my_norms[n] * norms[n]) * math.exp(-((my_length - length) ** 2) / (2 * WIDTH**2))
        scores.append(10 * score / LONGEST / len(texts))
    return scores


def caption_values(captions: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, list[float]]:
    """{cider_d, rouge_l, token_f1} of each picture, of ROUGE-L and token F1 the best reference. Raises UserError as
    `cider_d`."""
    pairs = list(zip(captions, references, strict=True))
    return {
        "cider_d": cider_d(captions, references),
        "rouge_l": [max(longest_common(said, text) for text in texts) for said, texts in pairs],
        "token_f1": [max(token_f1(said, text)[2] for text in texts) for said, texts in pairs],
    }
