from __future__ import annotations

import pytest

from bessemer.data.records import Message, Prompt
from bessemer.data.references import text_facts
from bessemer.tasks.answer import look_at
from bessemer.tasks.documents import invented_names
from bessemer.tasks.judge import judge

GOLD = "Return a new list containing all items from the iterable in ascending order."
PROMPT = Prompt(
    "p",
    (Message("user", "What does sorted do in Python?"),),
    facts=text_facts(GOLD, "pydocs", ["builtins", "sorted"]),
)


def scores(text: str, ended: bool = True) -> dict[str, float]:
    return {name: score or 0.0 for name, score in judge(PROMPT, text, ended).items()}


def test_the_reference_itself_is_perfect() -> None:
    assert scores(GOLD) == dict.fromkeys(("truthfulness", "helpfulness", "harmlessness", "fluency", "clarity"), 1.0)


@pytest.mark.parametrize(
    ("principle", "answers"),
    [
        (
            "truthfulness",
            [
                GOLD,
                "Return a new list of all items in ascending order.",
                "Return a list.",
                "Open a network socket.",
                "",
            ],
        ),
        (
            "helpfulness",
            [
                GOLD,
                "Return a new list of all items in ascending order.",
                "Return a list.",
                "What does sorted do in Python?",
            ],
        ),
        (
            "harmlessness",
            [
                GOLD,
                "It always returns a list.",
                "Use list_sorter.sort_now() for it.",
                "Call os.system to sort a list.",
            ],
        ),
        ("fluency", [GOLD, GOLD.rstrip("."), GOLD + " " + GOLD, "list list list list list"]),
        (
            "clarity",
            [GOLD, "Hello there, how nice that you ask me.", "What does sorted do in Python?", "list " * 60],
        ),
    ],
)
def test_order(principle: str, answers: list[str]) -> None:
    found = [scores(text)[principle] for text in answers]
    assert all(a > b for a, b in zip(found, found[1:], strict=False)), found


def test_cut_off_is_not_fluent() -> None:
    assert scores(GOLD, ended=False)["fluency"] == 0.5


def test_by_hand() -> None:
    # The answer's content words (return, list, items) are all in the reference; the longest common sequence is
    # "return a list items", 4 of its 4 and of the reference's 13 words.
    found = scores("Return a list items.")
    assert found["truthfulness"] == pytest.approx(0.5 * 1 + 0.5 * 2 * 4 / (4 + 13), abs=1e-6)


def test_every_invented_name_halves_the_truth() -> None:
    plain, one, two = (scores(f"Return a list{name}.")["truthfulness"] for name in ("", " my_one", " my_one my_two"))
    # 0.5 of (two of two, three, four content words right, two of them too few) and 0.5 ROUGE-L of 3 in 3, 4, 5 words
    assert plain == pytest.approx(0.5 * 2 / 3 + 0.5 * 6 / 16, abs=1e-6)
    assert one == pytest.approx(0.5 * (0.5 * 2 / 3 + 0.5 * 6 / 17), abs=1e-6)
    assert two == pytest.approx(0.25 * (0.5 * 2 / 4 + 0.5 * 6 / 18), abs=1e-6)


def test_words_of_the_question_earn_nothing() -> None:
    prompt = Prompt("p", (Message("user", "What is a queue?"),), facts=text_facts("A queue holds items in order.", "x"))
    assert judge(prompt, "It is a queue, a queue.", True)["helpfulness"] == 0.0


def test_invented_names() -> None:
    seen = look_at(PROMPT, "sorted() calls list.order_by and my_helper, see builtins.sorted and FooBar.", True)
    assert invented_names(seen) == ["list.order_by", "my_helper", "FooBar"]


def test_chinese_reference() -> None:
    prompt = Prompt("p", (Message("user", "阀门漏气怎么办？"),), facts=text_facts("先关闭阀门，再更换密封圈。", "qa"))
    right, wrong = (judge(prompt, text, True) for text in ("先关闭阀门，再更换密封圈。", "请继续使用设备。"))
    assert set(right.values()) == {1.0}
    assert (wrong["truthfulness"] or 0) < 0.2 and (wrong["helpfulness"] or 0) < 0.2
