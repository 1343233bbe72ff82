from __future__ import annotations

import pytest

from bessemer.data.definitions import Definition, Definitions, define, first_sentences
from bessemer.errors import UserError

QUESTIONS = {
    "thing": {
        "train": ("What is {name}?", "Explain {name}."),
        "bank": ("Say {name}.", "Tell {name}."),
        "test": ("{name}?",),
    }
}
FOUND = [Definition(f"thing{i}", "thing", f"The thing with number {i}.", ("part",)) for i in range(100)]


def made(seed: int = 3) -> Definitions:
    return define("things", FOUND, QUESTIONS, seed, test=0.2, bank=0.3, val=0.1)


def test_each_thing_is_in_one_part_only() -> None:
    entries = made().entries
    assert [entry.name for entry in entries] == [one.name for one in FOUND]
    sizes = {part: sum(entry.part == part for entry in entries) for part in ("train", "val", "bank", "test")}
    assert sizes == {"train": 40, "val": 10, "bank": 30, "test": 20}
    assert made() == made() and [e.part for e in entries] != [e.part for e in made(4).entries]


def test_of_a_name_or_an_answer_that_stands_twice_the_first_is_kept() -> None:
    found = [
        Definition("a", "thing", "One."),
        Definition("b", "thing", "ONE."),
        Definition("a", "thing", "Two."),
        Definition("c", "thing", "Two."),
    ]
    entries = define("things", found, QUESTIONS, 0, 0, 0, 0).entries
    assert [(entry.name, entry.answer, entry.part) for entry in entries] == [
        ("a", "One.", "train"),
        ("c", "Two.", "train"),
    ]


def test_conversations_and_prompts_share_neither_thing_nor_wording() -> None:
    things = made()
    learned = things.conversations("train", system="Be brief.")
    bank, test = things.prompts("bank", rounds=2), things.prompts("test")
    objects = [{record.provenance["object"] for record in records} for records in (learned, bank, test)]
    assert [len(names) for names in objects] == [40, 30, 20]
    assert not (objects[0] & objects[1] or objects[0] & objects[2] or objects[1] & objects[2])
    texts = {prompt.messages[-1].text for prompt in bank}
    assert texts == {f"{verb} {name}." for verb in ("Say", "Tell") for name in objects[1]}
    assert [message.role for message in learned[0].messages] == ["system", "user", "assistant"]
    assert learned[0].messages[1].text in {
        wording.format(name=learned[0].provenance["object"]) for wording in QUESTIONS["thing"]["train"]
    }
    assert len({prompt.id for prompt in bank}) == len(bank) == 60
    assert things.prompts("bank", limit=5, rounds=2) == bank[:5]


def test_facts() -> None:
    prompt = made().prompts("test")[0]
    name = prompt.provenance["object"]
    assert prompt.facts["rule"] == "text" and prompt.facts["reference"] == f"The thing with number {name[5:]}."
    assert (prompt.facts["names"], prompt.facts["task"], prompt.task) == (["part"], "things", "things")


def test_braces_in_a_name_stay() -> None:
    things = define("things", [Definition("{0} {name}", "thing", "A.")], QUESTIONS, 0, 0, 0, 0)
    assert "{0} {name}" in things.conversations("train")[0].messages[0].text


@pytest.mark.parametrize("shares", [(0.5, 0.5, 0.1), (-0.1, 0.2, 0.1), (1.0, 0.0, 0.0)])
def test_shares_that_leave_nothing(shares: tuple[float, float, float]) -> None:
    with pytest.raises(UserError, match="less than 1 in all"):
        define("things", FOUND, QUESTIONS, 0, *shares)


@pytest.mark.parametrize(
    ("paragraph", "answer"),
    [
        ("Do it now and well. See also x.", "Do it now and well. See also x."),
        ("Do it now and well. " + "See " * 21 + "x.", "Do it now and well."),
        ("Use e.g. a list of things", "Use e.g. a list of things."),
        ("Word " + "word " * 60 + ".", None),
        ("too low in case and long enough.", None),
        ("Too short.", None),
        ("A bell \x07 that rings for you.", None),
        ("", None),
    ],
)
def test_first_sentences(paragraph: str, answer: str | None) -> None:
    assert first_sentences(paragraph) == answer
