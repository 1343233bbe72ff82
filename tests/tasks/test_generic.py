from __future__ import annotations

from itertools import product
from pathlib import Path

import pytest

from bessemer.data.records import Example
from bessemer.errors import UserError
from bessemer.tasks.dump import dump_wordings
from bessemer.tasks.generic import default_wordings, good_value
from bessemer.tasks.judge import judge
from bessemer.tasks.parse import read_claims
from bessemer.tasks.questions import conversations, prompts
from bessemer.tasks.wordings import load_wordings
from tasks.task_samples import IMAGE

LABELS: list[tuple[dict[str, list[str]], tuple[str, ...]]] = [
    ({"class": ["crack", "ok", "scratch_deep"]}, ()),
    ({"class": ["crack", "good"]}, ()),
    ({"class": ["helmet", "no_helmet"]}, ()),
    ({"class": ["airplane", "automobile", "bird", "cat", "deer"]}, ()),
    ({"class": ["ankle_boot", "bag", "shirt", "sneaker", "t-shirt", "trousers"]}, ()),
    ({"class": [f"kind_{letter}" for letter in "abcdefghijklm"]}, ()),
    ({"crack_seen": ["no_crack", "crack"]}, ()),
    ({"crack_seen": ["crack", "scratch", "dent"]}, ()),
    ({"helmet": ["yes", "no"], "vest": ["0", "1"]}, ()),
    ({"no helmet": ["yes", "no"]}, ()),
    ({"grade": ["0", "1", "2", "3"], "class": ["unknown", "possible crack", "none"]}, ("grade",)),
    ({"Cell Type": ["mono", "poly"], "report": ["a1", "b2"]}, ()),
    ({"安全帽": ["佩戴", "未佩戴"]}, ()),
    ({"安全帽": ["是", "否"]}, ()),
    ({"缺陷": ["无缺陷", "裂纹", "划痕"], "等级": ["1", "2", "3"]}, ("等级",)),
    ({"defective?": ["yes", "no"], "crack (small)": ["yes", "no"]}, ()),
    ({"No. of cracks": ["one", "several"], "v1.2 kind": ["good", "bad"]}, ()),
    ({"class": ["-1", "1"]}, ()),
    ({"class": ["-0.5", "0", "0.5", "1e-05"]}, ("class",)),
    ({"class": ["crack (small)", "(old) crack", "crack", "ok"]}, ()),
    ({"state!": ["ok: fine", "bad, worn; old", "a.b.", "{x}"], "2: why?": ["<5", ">5"]}, ()),
    ({"sign": ["+", "-"]}, ()),
    ({"合格？": ["是", "否"], "裂纹（小）": ["-1", "1", "裂，开", "（旧）裂"]}, ()),
]


@pytest.mark.parametrize("language", [None, "en", "zh"])
@pytest.mark.parametrize(("labels", "ordered"), LABELS, ids=lambda value: str(value)[:40])
def test_any_labels_give_wordings_that_load_and_are_true(
    tmp_path: Path, labels: dict[str, list[str]], ordered: tuple[str, ...], language: str | None
) -> None:
    wordings = default_wordings(labels, "equipment", ordered, language)
    path = tmp_path / "w.yaml"
    path.write_text(dump_wordings(wordings), encoding="utf-8")
    assert load_wordings(path) == wordings
    examples = [
        Example(f"e{i}", IMAGE, dict(zip(labels, v, strict=True))) for i, v in enumerate(product(*labels.values()))
    ]
    assert len(conversations(wordings, examples, 0)) >= len(examples) * len(labels)
    for prompt in prompts(wordings, examples, "test", 0, rounds=2):
        assert "no no " not in prompt.facts["reference"]
        scores = judge(prompt, prompt.facts["reference"], True)
        assert scores["truthfulness"] == scores["harmlessness"] == scores["fluency"] == 1.0, (prompt, scores)
        assert (scores["clarity"] or 0) >= 0.8
        # a bare decline, without what could be done, is meant to score less
        assert (scores["helpfulness"] or 0) >= (0.6 if prompt.task == "unanswerable" else 0.99)


def test_questions_list_the_values_when_they_are_few() -> None:
    for name, first, second in (
        ("class", "Which class is this", "What is the class"),
        ("类别", "类别是哪一种", "图中的类别是什么"),
    ):
        few, many = ([f"kind {letter}" for letter in "abcdefghijklm"[:count]] for count in (12, 13))
        listed, bare = (default_wordings({name: values}).tasks[name].questions for values in (few, many))
        assert listed is not None and bare is not None
        comma, mark = (", ", "?") if name == "class" else ("，", "？")
        assert listed.bank[0] == f"{first}{comma}{', '.join(few)}{mark}"
        assert (bare.bank[0], bare.train[0]) == (f"{first}{mark}", f"{second}{mark}")
        assert [len(part) for part in (bare.train, bare.bank, bare.test)] == [4, 2, 2]


def test_two_values_with_a_good_one_give_yes_or_no() -> None:
    wordings = default_wordings({"class": ["crack", "good"]})
    attribute, task = wordings.attributes["class"], wordings.tasks["class"]
    assert (attribute.values, attribute.positive, attribute.safe) == (("good", "crack"), "crack", ("good",))
    assert task.choices == {"good": "No", "crack": "Yes"}
    assert task.questions is not None and "Is anything wrong with the item?" in task.questions.train
    chinese = default_wordings({"安全帽": ["未佩戴", "佩戴"]})
    assert chinese.attributes["安全帽"].values == ("佩戴", "未佩戴")
    assert chinese.tasks["安全帽"].choices == {"佩戴": "否", "未佩戴": "是"}


def test_a_language_can_be_asked_for() -> None:
    for labels in ({"crate": ["no", "yes"]}, {"安全帽": ["no", "yes"]}):
        (name,) = labels
        chosen = {language: default_wordings(labels, language=language).tasks[name] for language in ("en", "zh")}
        assert chosen["en"].choices == {"no": "No", "yes": "Yes"} and chosen["zh"].choices == {"no": "否", "yes": "是"}
        assert default_wordings(labels).tasks[name] == chosen["en" if name.isascii() else "zh"]


@pytest.mark.parametrize("name", ["{a}", "a  b", "a\u200bb", "x" * 201])
def test_names_that_no_file_can_hold(name: str) -> None:
    with pytest.raises(UserError, match="the name .* expected up to 200 printable characters"):
        default_wordings({name: ["x", "y"]})


def test_yes_and_no_are_about_the_name() -> None:
    wordings = default_wordings({"helmet": ["yes", "no"]})
    attribute = wordings.attributes["helmet"]
    assert (attribute.values, attribute.positive, attribute.safe) == (("no", "yes"), "yes", ())
    assert attribute.says == {"yes": ("helmet",), "no": ("helmet is not present",)}


def test_anything_else_gives_a_choice() -> None:
    wordings = default_wordings({"class": ["crack", "ok", "scratch"]})
    assert wordings.tasks["class"].choices == {"crack": "Crack", "ok": "Ok", "scratch": "Scratch"}
    assert wordings.attributes["class"].safe == ("ok",) and wordings.attributes["class"].positive is None
    graded = default_wordings({"grade": ["1", "2", "3"]}, ordered=("grade",)).attributes["grade"]
    assert graded.ordered and graded.safe == ("1",)


def test_several_labels_give_a_dialogue() -> None:
    assert "dialogue" not in default_wordings({"a": ["x", "y"]}).tasks
    assert default_wordings({"a": ["x", "y"], "b": ["z", "w"]}).tasks["dialogue"].turns == ("a", "b")


@pytest.mark.parametrize(
    ("values", "good"),
    [
        (["ok", "crack"], "ok"),
        (["No_Defect", "crack"], "No_Defect"),
        (["a", "b"], None),
        (["ok", "good"], None),
        (["无缺陷", "裂纹"], "无缺陷"),
    ],
)
def test_good_value(values: list[str], good: str | None) -> None:
    assert good_value(values) == good


@pytest.mark.parametrize("names", [("no helmet", "missing_extinguisher", "helmet"), ("未戴安全帽", "无反光衣")])
def test_labels_that_say_no_themselves_are_read_as_they_are_written(tmp_path: Path, names: tuple[str, ...]) -> None:
    """A yes before "no helmet" is a yes; what the file holds is what its own reader takes for it."""
    path = tmp_path / "wordings.yaml"
    path.write_text(dump_wordings(default_wordings({name: ["no", "yes"] for name in names})), encoding="utf-8")
    wordings = load_wordings(path)
    for name in names:
        task = wordings.tasks[name]
        spec = {name: {"values": ["no", "yes"], "says": dict(wordings.attributes[name].says)}}
        for value, answers in task.answers.items():
            for answer in answers:
                assert read_claims(spec, answer, name, task.choices)[name].value == value, answer
        both = f"{task.choices['yes']}, {task.choices['no']}."
        assert read_claims(spec, both, name, task.choices)[name].problem == "contradictory"
