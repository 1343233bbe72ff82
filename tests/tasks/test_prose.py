from __future__ import annotations

import pytest

from bessemer.tasks.prose import (
    bigram_share,
    broken_share,
    is_question,
    longest_common,
    normalised,
    repetition,
    sentence_form,
    sentences,
    token_f1,
    words,
)


def test_words_of_both_scripts() -> None:
    assert words("The I-V curve isn't 4.5 W.") == ["the", "i", "v", "curve", "isn't", "4.5", "w"]
    assert words("图中2人未佩戴PPE。") == ["图", "中", "2", "人", "未", "佩", "戴", "ppe"]
    assert words("call my_name or os.path, _x") == ["call", "my_name", "or", "os.path", "_x"]
    assert words("…！?") == []
    assert normalised("It’s  a\tnon–defective ＣＥＬＬ") == "it's a non-defective cell"


def test_sentences_keep_points_inside_words_and_numbers() -> None:
    assert sentences("It costs 4.5 W. Is it os.path? Yes!") == ["It costs 4.5 W.", "Is it os.path?", "Yes!"]
    assert sentences("有缺陷。请更换！") == ["有缺陷。", "请更换！"]
    assert sentences("") == []


@pytest.mark.parametrize(
    ("text", "asks"),
    [
        ("Is this cell defective?", True),
        ("is the cell defective", True),
        ("How severe is the damage", True),
        ("What do you recommend", True),
        ("他戴安全帽了吗", True),
        ("Have it tested soon.", False),
        ("Do not use it.", False),
        ("This cell is defective.", False),
        ("What a cell.", False),
    ],
)
def test_questions(text: str, asks: bool) -> None:
    assert is_question(text) is asks


def test_repetition_by_hand() -> None:
    assert repetition(["the", "cell", "is", "sound"]) == 0.0
    assert repetition(["cell"]) == 0.0
    assert repetition(["no"] * 3) == 1.0  # 2 of 2 neighbours alike
    assert repetition(["no"] * 5) == 0.75  # one of 4 is free
    assert repetition(["replace", "it", "it", "is", "worn"]) == 0.0
    # "a b" three times: bigrams ab ba ab ba ab: ab 3, ba 2; one return of each is free: 1 of 5
    assert repetition(["a", "b"] * 3) == pytest.approx(1 / 3)  # 4-grams abab baba abab: 1 of 3
    # one phrase of two words that comes back does not count
    assert repetition(["the", "cell", "is", "sound", "and", "the", "cell", "works"]) == 0.0


def test_broken_text() -> None:
    assert broken_share("Yes, this cell is defective.") == 0.0
    assert broken_share("是，图中人员已佩戴安全帽。") == 0.0
    assert broken_share("") == 1.0
    assert broken_share("cell \ufffd\ufffd") == pytest.approx(2 * 2 / 7)
    assert broken_share("sdfgh qwrtp zzxcv") == 1.0
    assert broken_share("yes @#$%^ no") > 0.5


def test_sentence_form_orders_texts() -> None:
    whole = sentence_form("This cell is defective and has severe damage.")
    assert whole == 1.0
    assert sentence_form("是，图中人员已佩戴安全帽。") == 1.0
    assert sentence_form("This cell is defective and has") == pytest.approx(0.6)
    assert sentence_form("this cell is defective and has severe damage.") == pytest.approx(0.85)
    assert sentence_form("Mono defective severe replace damage.") == pytest.approx(0.55)
    assert sentence_form("  ") == 0.0


def test_bigram_share() -> None:
    assert bigram_share("is this cell defective", "Is this cell defective?") == 1.0
    assert bigram_share("this cell works", "Is this cell defective?") == 0.5
    assert bigram_share("", "Is this?") == 0.0
    assert bigram_share("Cell", "This cell.") == 1.0


def test_overlap_by_hand() -> None:
    # 3 of 4 words common; 3 of 5 of the reference
    precision, recall, f1 = token_f1("return a new list", "Return a list of names")
    assert (precision, recall) == (0.75, 0.6)
    assert f1 == pytest.approx(2 * 0.75 * 0.6 / 1.35)
    assert token_f1("", "a") == token_f1("a", "b") == (0.0, 0.0, 0.0)
    # longest common subsequence "return a list": 2 * 3 / (4 + 5)
    assert longest_common("return a new list", "Return a list of names") == pytest.approx(6 / 9)
    assert longest_common("list a return", "return a list") == pytest.approx(2 * 1 / 6)
    assert longest_common("", "a") == 0.0
