"""Text out of tokens: nothing is given out that could still change."""

from __future__ import annotations

import random
from typing import Any

import pytest
from tokenizers import Tokenizer, decoders, models
from transformers import PreTrainedTokenizerFast

import tiny
from bessemer.rollout.text import AnswerText, answer_text

END = 2


def _pieces() -> PreTrainedTokenizerFast:
    """A tokenizer in the manner of Llama 2: words with a mark for the blank before them, single bytes for the rest."""
    words = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁the", "▁cell", "s", "▁", "裂"]
    base = Tokenizer(models.BPE({word: n for n, word in enumerate(words)}, [], unk_token="<unk>", byte_fallback=True))
    base.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return PreTrainedTokenizerFast(tokenizer_object=base, bos_token="<s>", eos_token="</s>", unk_token="<unk>")


def _bytes(words: Any, text: str) -> list[int]:
    ids: list[int] = words(text, add_special_tokens=False)["input_ids"]
    return ids


def _cut(text: str, stop: tuple[str, ...]) -> str:
    """Character by character: the first end of any of the texts; of several there the longest."""
    for end in range(len(text) + 1):
        found = [mark for mark in stop if text[:end].endswith(mark)]
        if found:
            return text[: end - max(map(len, found))]
    return text


@pytest.mark.parametrize("text", ["a bc", "裂纹 é 🔧.", " \n x \n", "🔧", "", "a\u0301"])
def test_pieces_make_the_whole(text: str) -> None:
    """Bytes as tokens: a character comes with its last byte, whole."""
    words = tiny.tokenizer()
    answer, parts = AnswerText(words), []
    for token in _bytes(words, text):
        parts.append(answer.push(token))
        assert "\ufffd" not in parts[-1] and text.strip().startswith("".join(parts))
    parts.append(answer.close())
    assert "".join(parts) == text.strip() == answer_text(words, _bytes(words, text))


def test_any_tokens_make_the_text_that_the_tokenizer_makes() -> None:
    """Random bytes, mostly of no text at all, and special tokens between them."""
    words = tiny.tokenizer()
    for seed in range(200):
        draw = random.Random(seed)
        ids = [draw.choice((0, 1, 2, draw.randrange(3, 259), *_bytes(words, draw.choice("裂é🔧 ")))) for _ in range(9)]
        whole = words.decode(ids, skip_special_tokens=True).strip()
        answer = AnswerText(words)
        parts = [answer.push(token) for token in ids]
        assert "".join([*parts, answer.close()]) == whole == answer_text(words, ids)


def test_blanks_of_a_sentencepiece_vocabulary() -> None:
    """The first blank of an answer goes, the others stay; bytes of a character wait for the last one."""
    words = _pieces()
    crack = list("裂".encode())
    ids = [259, 260, 261, 262, *(3 + byte for byte in "纹".encode()), 259, 263, 2]
    answer = AnswerText(words)
    parts = [answer.push(token) for token in ids]
    assert parts == ["the", " cell", "s", "", "", "", " 纹", " the", "裂", ""] and answer.close() == ""
    assert "".join(parts) == words.decode(ids, skip_special_tokens=True)
    assert answer_text(words, [3 + byte for byte in crack]) == "裂"


STOPS: list[tuple[str, ...]] = [
    ("\n",),
    ("END",),
    ("纹",),
    ("🔧。",),
    ("ab", "bcd", "abcd"),
    ("c", "abcd"),
    (" ",),
    ("aa", "aab"),
    ("x", "纹。"),
]


@pytest.mark.parametrize("stop", STOPS, ids=repr)
def test_a_text_is_cut_before_the_first_of_what_it_stops_at(stop: tuple[str, ...]) -> None:
    """Random texts of the parts of the marks, as single bytes and as pieces of any size; the plain search agrees."""
    words = tiny.tokenizer()
    alphabet = [*stop, *"".join(stop), "a", "b", " ", "裂", "E", "\n"]
    stopped = 0
    for seed in range(150):
        draw = random.Random(seed)
        text = "".join(draw.choice(alphabet) for _ in range(14))
        expected = _cut(text, stop)
        answer, said = AnswerText(words, stop), ""
        ids = _bytes(words, text)
        for token in ids:
            said += answer.push(token)
            assert expected.strip().startswith(said)
            if answer.stopped:
                break
        assert answer.stopped == (expected != text)
        assert said + answer.close() == expected.strip() == answer_text(words, ids, stop)
        stopped += answer.stopped
    assert stopped > 4


def test_it_stops_with_the_token_that_completes_the_text() -> None:
    words = tiny.tokenizer()
    ids = _bytes(words, "裂 STOP了")
    answer = AnswerText(words, ("STOP",))
    given = []
    for token in ids:
        given.append(answer.push(token))
        if answer.stopped:
            break
    # 3 bytes, a blank, four letters that are held back; nothing after
    assert given == ["", "", "裂", "", "", "", "", ""] and answer.close() == ""


def test_what_was_held_back_comes_when_it_turns_out_otherwise() -> None:
    words = tiny.tokenizer()
    answer = AnswerText(words, ("STOP", "TOAST"))
    assert [answer.push(token) for token in _bytes(words, "xSTOA")] == ["x", "", "", "", "S"]
    assert answer.close() == "TOA"


@pytest.mark.parametrize("stop", STOPS, ids=repr)
def test_how_a_text_is_cut_into_tokens_does_not_matter(stop: tuple[str, ...]) -> None:
    """Tokens of one to five characters, some of them with a whole mark inside."""

    class Chunks:
        def __init__(self, chunks: list[str]) -> None:
            self.chunks = chunks

        def decode(self, ids: list[int], skip_special_tokens: bool) -> str:
            return "".join(self.chunks[number] for number in ids)

    for seed in range(150):
        draw = random.Random(seed)
        text = "".join(draw.choice([*stop, *"".join(stop), "a", "d", " "]) for _ in range(10))
        cuts = sorted({0, len(text), *draw.sample(range(len(text)), 4)})
        chunks = Chunks([text[a:b] for a, b in zip(cuts, cuts[1:], strict=False)])
        assert answer_text(chunks, range(len(chunks.chunks)), stop) == _cut(text, stop).strip()
