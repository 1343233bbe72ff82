"""Measures of plain text that know no task: words, sentences, repetition, sentence form, overlap. English and
Chinese.

A Chinese (or Japanese, Korean) character counts as one word; everything else is split at what is not a letter
or digit.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence

__all__ = [
    "CJK",
    "FUNCTION_WORDS",
    "bigram_share",
    "broken_share",
    "is_question",
    "longest_common",
    "normalised",
    "repetition",
    "sentence_form",
    "sentences",
    "token_f1",
    "words",
]

CJK = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff"
_WORD = re.compile(rf"[{CJK}]|(?:(?![{CJK}])\w)+(?:['.](?:(?![{CJK}])\w)+)*")
_SENTENCE = re.compile(r"[^.!?。！？;；\n]*(?:\.(?=\w)[^.!?。！？;；\n]*)*[.!?。！？;；\n]*")
_CLOSED = re.compile(r"[.!?。！？…][\"'”’」』)）]*$")
_VERB = "is|are|was|were|does|did|do|has|had|can|could|should|would|will|must"
_INTERROGATIVE = re.compile(
    rf"^(?:{_VERB}) (?:it|this|that|the|these|those|there|you|we|i|they|he|she|any|anything|a|an)\b"
    r"|^have (?:you|we|they|i)\b"  # "Have it tested" is an order
    rf"|^(?:what|which|who|whose|how|why|when|where)\b(?: \w+){{0,3}}? (?:{_VERB})\b"
)
# Words that almost every English sentence of some length needs: their absence tells a list of keywords from a
# sentence.
FUNCTION_WORDS = frozenset((
    "a", "an", "and", "any", "are", "as", "at", "be", "been", "but", "by", "can", "cannot", "could", "did",
    "do", "does", "for", "from", "had", "has", "have", "here", "how", "i", "if", "in", "is", "it", "its",
    "may", "might", "must", "no", "none", "not", "nothing", "of", "on", "or", "should", "so", "than",
    "that", "the", "there", "these", "they", "this", "those", "to", "was", "we", "were", "what", "when",
    "where", "which", "who", "will", "with", "without", "would", "you",
))  # fmt: skip


def normalised(text: str) -> str:
    """Text in NFKC and lower case with plain apostrophes, hyphens and single spaces, so that spellings
    compare equal."""
    plain = unicodedata.normalize("NFKC", text).casefold().replace("’", "'").replace("‘", "'")
    return re.sub(r"\s+", " ", re.sub("[\u2010-\u2015\u2212]", "-", plain)).strip()


def words(text: str) -> list[str]:
    """The words of a text in order, normalised; punctuation is left out."""
    return _WORD.findall(normalised(text))


def sentences(text: str) -> list[str]:
    """The sentences of a text with their end marks; a point inside a word or a number ends nothing."""
    return [found.group().strip() for found in _SENTENCE.finditer(text) if found.group().strip()]


def is_question(sentence: str) -> bool:
    """Whether a sentence asks: it ends with a question mark or 吗/呢, or begins as English questions do."""
    plain = normalised(sentence)
    return plain.rstrip("\"' )").endswith(("?", "吗", "呢")) or bool(_INTERROGATIVE.match(plain))


def repetition(tokens: Sequence[str]) -> float:
    """How much of a text says again what it said: 0 = nothing repeats, towards 1 = nothing but repetition.

    The largest of: the share of neighbours that are the same word, and the share of 2-, 3- and 4-grams that
    were seen before. What correct sentences do is not counted: one word twice across a comma ("Replace it, it
    is worn"), and a bigram or trigram that comes back once ("the cell ... the cell").
    """
    if len(tokens) < 2:
        return 0.0
    alike = sum(a == b for a, b in zip(tokens, tokens[1:], strict=False)) - (len(tokens) >= 5)
    shares = [max(0, alike) / (len(tokens) - 1)]
    for n, free in ((2, 1), (3, 1), (4, 0)):
        grams = Counter(tuple(tokens[i : i + n]) for i in range(len(tokens) - n + 1))
        total = sum(grams.values())
        if total:
            shares.append(sum(max(0, count - 1 - free) for count in grams.values()) / total)
    return max(shares)


def broken_share(text: str) -> float:
    """The share of characters that no healthy text holds, plus that of words no one could pronounce; 0 to 1.

    Counted are replacement, control, private and unassigned characters, symbols in a row, and Latin words of
    five letters and more without a vowel or with five consonants in a row.
    """
    if not text.strip():
        return 1.0
    bad = sum(c == "\ufffd" or unicodedata.category(c) in ("Cc", "Co", "Cn", "Cs") and c not in "\n\t" for c in text)
    bad += sum(len(run) for run in re.findall(r"[^\w\s]{3,}", text) if run != "...")
    share = bad / len(text)
    latin = [word for word in words(text) if re.fullmatch(r"[a-z]{5,}", word)]
    odd = [
        w for w in latin if not re.search("[aeiouy]", w) or re.search("[^aeiouy]{5,}", w) or re.search(r"(.)\1\1", w)
    ]
    return min(1.0, 2 * share + len(odd) / max(1, len(words(text))))


def sentence_form(text: str) -> float:
    """How much a text has the form of sentences, 0 to 1: begins as one, is closed, is more than a list of
    keywords."""
    text = text.strip()
    tokens = words(text)
    if not tokens:
        return 0.0
    score = 1.0
    if not _CLOSED.search(text):
        score -= 0.4
    first = next((c for c in text if c.isalnum()), "")
    if first.islower():
        score -= 0.15
    latin = [word for word in tokens if word.isascii() and word.isalpha()]
    if len(latin) >= 5 and len(latin) > len(tokens) / 2:
        share = sum(word in FUNCTION_WORDS for word in latin) / len(latin)
        score -= 0.45 * max(0.0, 1 - share / 0.12)
    return max(0.0, score)


def bigram_share(text: str, other: str) -> float:
    """The share of the text's bigrams of words that the other text holds too; 1 for a copy of it, 0 for an
    empty text."""
    tokens, known = words(text), words(other)
    grams = list(zip(tokens, tokens[1:], strict=False))
    if not grams:
        return float(bool(tokens) and tokens[0] in known)
    theirs = set(zip(known, known[1:], strict=False))
    return sum(gram in theirs for gram in grams) / len(grams)


def token_f1(answer: str, reference: str) -> tuple[float, float, float]:
    """Precision, recall and F1 of the answer's words against the reference's, as bags of words; zeros when
    either is empty.

    Source: Rajpurkar et al. 2016 (SQuAD), without its dropping of articles.
    """
    mine, theirs = Counter(words(answer)), Counter(words(reference))
    common = sum((mine & theirs).values())
    if not common:
        return 0.0, 0.0, 0.0
    precision, recall = common / sum(mine.values()), common / sum(theirs.values())
    return precision, recall, 2 * precision * recall / (precision + recall)


def longest_common(answer: str, reference: str) -> float:
    """ROUGE-L's F1: of the longest common subsequence of words; 0 when either is empty. Source: Lin 2004."""
    mine, theirs = words(answer), words(reference)
    if not mine or not theirs:
        return 0.0
    row = [0] * (len(theirs) + 1)
    for word in mine:
        diagonal = 0
        for j, other in enumerate(theirs, start=1):
            above = row[j]
            row[j] = diagonal + 1 if word == other else max(above, row[j - 1])
            diagonal = above
    return 2 * row[-1] / (len(mine) + len(theirs))
