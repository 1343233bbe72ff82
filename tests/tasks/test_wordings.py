from __future__ import annotations

from pathlib import Path

import pytest

from bessemer.errors import UserError
from bessemer.tasks.judge import judge
from bessemer.tasks.prose import words
from bessemer.tasks.questions import conversations, prompts
from bessemer.tasks.wordings import Wordings, check_wordings, load_wordings
from tasks.task_samples import HELMETS, SOLAR, cells, solar

SMALL = """\
attributes:
  class:
    values: [ok, crack]
    positive: crack
tasks:
  class:
    kind: attribute
    attribute: class
    questions: {train: ["Is it cracked?"], bank: ["Any crack?"], test: ["Is there a crack?"]}
    answers: {ok: ["No, it is ok."], crack: ["Yes, a crack."]}
    choices: {ok: "No", crack: "Yes"}
"""


def load(tmp_path: Path, text: str) -> Wordings:
    path = tmp_path / "w.yaml"
    path.write_text(text, encoding="utf-8")
    return load_wordings(path)


def test_small_file(tmp_path: Path) -> None:
    wordings = load(tmp_path, SMALL)
    attribute = wordings.attributes["class"]
    assert (attribute.values, attribute.positive, attribute.safe) == (("ok", "crack"), "crack", ("ok",))
    assert attribute.says == {"ok": ("ok",), "crack": ("crack",)}
    task = wordings.tasks["class"]
    assert (task.kind, task.weight, task.attributes) == ("attribute", 1.0, ("class",))
    assert task.questions is not None and task.questions.of("bank") == ("Any crack?",)
    assert task.choices == {"ok": "No", "crack": "Yes"}


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            'bank: ["Any crack?"]',
            'bank: [" is it CRACKED "]',
            r"w.yaml:9: .*questions.bank: .*stands in .*train too",
        ),
        (
            '["Yes, a crack."]',
            '["Yes, it broke.", "It broke."]',
            r"w.yaml:10: .*'It broke.' reads as nothing .*expected 'crack'",
        ),
        (
            '["No, it is ok."]',
            '["Yes, it is ok."]',
            r"w.yaml:10: .*a contradictory claim for attribute 'class', expected 'ok'",
        ),
        (
            'crack: ["Yes, a crack."]',
            'crak: ["Yes, a crack."]',
            r"w.yaml:10: .*crak: unknown key, expected one of ok, crack",
        ),
        (', crack: ["Yes, a crack."]', "", r"w.yaml:10: .*answers: key 'crack' is missing"),
        (
            "attribute: class",
            "attribute: klass",
            r"w.yaml:8: tasks.class.attribute: 'klass', expected one of class",
        ),
        (
            "kind: attribute",
            "kind: atribute",
            r"w.yaml:7: tasks.class.kind: 'atribute', expected one of attribute",
        ),
        ('crack: "Yes"', 'crack: "no"', r"w.yaml:11: .*choices: expected a different word"),
        ("positive: crack", "positive: cracked", r"w.yaml:4: .*'cracked', expected one of ok, crack"),
        ("[ok, crack]", "[ok]", r"w.yaml:3: .*values: 1 items, expected 2"),
        ('"Yes, a crack."', '"Yes, a crack. {size}"', r"w.yaml:10: .*\{size\} in .*expected one of class"),
        ('"Yes, a crack."', '"Yes, a crack. {class"', r"w.yaml:10: .*broken braces"),
        (
            "  class:\n    kind",
            "  class:\n    weight: -1\n    kind",
            r"w.yaml:7: .*weight: '-1', expected a number from 0",
        ),
        (
            "attributes:\n",
            "scene: office\nattributes:\n",
            r"w.yaml:1: scene: 'office', expected one of equipment",
        ),
        ("  class:\n    kind", '  "a{b":\n    kind', r"w.yaml:7: .*the name 'a{b', expected .* without braces"),
        ("  class:\n    values", '  "{b}":\n    values', r"the name '{b}', expected .* without braces"),
        ("  class:\n    values", f"  {'n' * 201}:\n    values", r"the name 'nnn.*expected up to 200 printable"),
    ],
)
def test_errors_name_file_line_and_key(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert old in SMALL
    with pytest.raises(UserError, match=message):
        load(tmp_path, SMALL.replace(old, new, 1))


@pytest.mark.parametrize(
    "name", ["defective?", "crack (small)", "-1", "1st: kind", "缺陷？", "C++ / C#", "🔥 #1", "No. of cracks"]
)
def test_a_name_is_what_people_call_things(tmp_path: Path, name: str) -> None:
    text = SMALL.replace("  class:\n", f'  "{name}":\n').replace("attribute: class", f'attribute: "{name}"')
    wordings = load(tmp_path, text.replace('"Yes, a crack."', f'"Yes, a crack. {{{name}}}."'))
    assert list(wordings.attributes) == list(wordings.tasks) == [name]
    assert wordings.slots(wordings.tasks[name].answers["crack"][0]) == (name,)


def test_a_text_is_checked_before_it_is_written() -> None:
    assert list(check_wordings(SMALL, "w.yaml").tasks) == ["class"]
    with pytest.raises(UserError, match=r"^w.yaml:4: .*'cracked', expected one of ok, crack"):
        check_wordings(SMALL.replace("positive: crack", "positive: cracked"), "w.yaml")
    with pytest.raises(UserError, match="^w.yaml: larger than 200000 bytes"):
        check_wordings(SMALL + "#" * 200_000, "w.yaml")


def test_labels_that_follow_from_others(tmp_path: Path) -> None:
    derived = "  action:\n    values: [keep, repair]\n    from: class\n    map: {ok: keep, crack: repair}\ntasks:\n"
    wordings = load(tmp_path, SMALL.replace("tasks:\n", derived))
    assert wordings.complete({"class": "crack", "other": "x"}) == {"class": "crack", "action": "repair"}
    assert wordings.complete({"other": "x"}) == {}
    with pytest.raises(UserError, match="map: expected one entry for each of ok, crack"):
        load(tmp_path, SMALL.replace("tasks:\n", derived.replace(", crack: repair", "")))
    with pytest.raises(UserError, match="from: 'klass', expected an attribute"):
        load(tmp_path, SMALL.replace("tasks:\n", derived.replace("from: class", "from: klass")))


def test_unanswerable_answers_must_decline(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds none of the phrases in `declines`"):
        load(tmp_path, HELMETS.replace("从图中看不出姓名，请询问现场。", "他叫张三。"))


def test_dialogues_are_of_attribute_tasks(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="'report', expected names of tasks of kind attribute"):
        load(tmp_path, SMALL + "  talk: {kind: dialogue, turns: [class, report]}\n")


def test_the_shipped_questions_stand_in_one_part_only() -> None:
    parts: dict[str, set[str]] = {"train": set(), "bank": set(), "test": set()}
    for task in solar().tasks.values():
        asked = [task.questions, *(topic.questions for topic in task.topics.values())]
        for questions in filter(None, asked):
            for part, texts in parts.items():
                texts.update(" ".join(words(text)) for text in questions.of(part))
    assert min(map(len, parts.values())) > 25
    assert not (parts["train"] & parts["bank"] or parts["train"] & parts["test"] or parts["bank"] & parts["test"])


def test_the_shipped_answers_are_short_and_varied() -> None:
    wordings = solar()
    for name, task in wordings.tasks.items():
        for value, answers in task.answers.items():
            assert len(answers) >= 2, (name, value)
            assert all(len(words(answer)) <= 12 for answer in answers)
            word = task.choices.get(value, "")
            assert all(answer.startswith(word) for answer in answers)
    for conversation in conversations(wordings, cells(), 1):
        for message in conversation.messages[1::2]:
            assert len(words(message.text)) <= 22, message.text
            assert message.text[0].isupper() and message.text.endswith(".") and "{" not in message.text


def test_the_shipped_answers_are_true_of_every_cell() -> None:
    """Every wording for every combination of labels, judged: nothing false or harmful is taught."""
    wordings, seen = solar(), set()
    for seed in range(12):
        for prompt in prompts(wordings, cells(), "bank", seed):
            answer = prompt.facts["reference"]
            seen.add(answer)
            scores = judge(prompt, answer, True)
            complete = all(name in answer_names(prompt.facts, answer) for name in prompt.facts["asked"])
            assert scores["truthfulness"] == 1.0 or not complete, (prompt.id, answer, scores)
            assert (scores["truthfulness"] or 0) >= 0.85 and (scores["fluency"] or 0) >= 0.9, (answer, scores)
            assert (scores["harmlessness"] or 0) >= 0.8 and (scores["clarity"] or 0) >= 0.8, (answer, scores)
    assert len(seen) > 100


def answer_names(facts: dict, answer: str) -> set[str]:
    from bessemer.tasks.parse import read_claims

    return set(read_claims(facts["attributes"], answer, (facts["asked"] or [None])[0], facts["choices"]))


def test_chinese(tmp_path: Path) -> None:
    wordings = load(tmp_path, HELMETS)
    assert wordings.scene == "personnel"
    assert wordings.attributes["安全帽"].safe == ("佩戴",)
    assert wordings.tasks["安全帽"].choices["未佩戴"] == "否"


def test_the_shipped_file_is_data_of_the_package() -> None:
    assert SOLAR.name == "solar.yaml" and SOLAR.parent.name == "tasks"
