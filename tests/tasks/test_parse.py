from __future__ import annotations

import pytest

from bessemer.tasks.parse import bare_value, leading_choice, parse_value, read_claims
from tasks.task_samples import solar_prompt

DEFECT = solar_prompt("severe-mono", "defect").facts
SEVERITY = solar_prompt("severe-mono", "severity").facts
REPORT = solar_prompt("severe-mono", "report").facts


@pytest.mark.parametrize(
    ("answer", "value"),
    [
        ("Yes, this cell is defective.", "yes"),
        ("Yes.", "yes"),
        ("yes", "yes"),
        ("No, the cell is functional.", "no"),
        ("The cell is not defective.", "no"),
        ("The cell isn't defective.", "no"),
        ("The cell is non-defective.", "no"),
        ("It is free of defects.", "no"),
        ("Without any defects.", "no"),
        ("Nothing is defective.", "no"),
        ("Nobody found a defect.", "no"),
        ("The cell is no longer functional.", "yes"),
        ("This cell is not functional.", "yes"),
        ("Defective: no.", "no"),
        ("A defect is not visible.", "no"),
        ("Defects are absent, so it is functional.", "no"),
        ("It is functional, not defective.", "no"),
        ("Not only old but defective.", "yes"),
        # No value: contradictory, hedged, silent, asking, or about something else.
        ("No, this cell is defective.", None),
        ("Yes, it is not defective.", None),
        ("Yes and no.", None),
        ("Yes/No", None),
        ("It is functional but defective.", None),
        ("It may be defective.", None),
        ("It is defective and might be functional.", None),
        ("It is defective, but it might be functional.", None),
        ("It is defective. It might be defective in two places.", "yes"),
        ("It is not only defective.", "yes"),
        ("It may or may not be defective.", None),
        ("I cannot tell whether it is defective.", None),
        ("I cannot see whether it is defective.", None),
        ("I cannot see any defect.", "no"),
        ("No, I can't see a defect.", "no"),
        ("Possibly faulty.", None),
        ("Is this cell defective?", None),
        ("Is this cell defective", None),
        ("The weather is nice.", None),
        ("", None),
        ("Nowhere.", None),
        ("Yesterday.", None),
    ],
)
def test_yes_or_no(answer: str, value: str | None) -> None:
    assert parse_value(DEFECT, answer) == value


@pytest.mark.parametrize(
    ("answer", "value"),
    [
        ("Severe, the cell is badly damaged.", "severe"),
        ("None, no damage is visible.", "none"),
        ("Slight damage is visible.", "slight"),
        ("The damage is moderate.", "moderate"),
        ("Not severe, moderate.", "moderate"),
        ("Moderate to severe.", None),
        ("It is not severe.", None),  # what it is not leaves three
        ("Not slight, not moderate, undamaged it is not.", "severe"),
        ("None slight moderate severe.", None),
        ("Severe or slight.", None),
    ],
)
def test_one_of_four(answer: str, value: str | None) -> None:
    assert parse_value(SEVERITY, answer) == value


def test_phrases_end_where_words_end_in_any_script() -> None:
    attributes = {"x": {"values": ["a", "b"], "says": {"a": ["PPE"], "b": ["crack"]}}}
    assert read_claims(attributes, "他佩戴PPE作业。")["x"].value == "a"
    assert read_claims(attributes, "Two cracks.")["x"].value == "b"
    assert read_claims(attributes, "Cracked PPEs2 and firecracker.") == {}


def test_as_soon_as_possible_is_no_doubt() -> None:
    assert parse_value(DEFECT, "Replace it as soon as possible.", "action") == "replace"
    assert parse_value(DEFECT, "Possibly replace it.", "action") is None


def test_a_report_claims_everything_it_says() -> None:
    text = "The polycrystalline cell is functional. It shows severe damage. Take it out of service."
    found = {name: claim.value for name, claim in read_claims(REPORT["attributes"], text).items()}
    assert found == {"cell_type": "poly", "defect": "no", "severity": "severe", "action": "replace"}


def test_a_no_of_one_phrase_denies_no_other() -> None:
    text = "It has no damage and is functional."
    found = {name: claim.value for name, claim in read_claims(REPORT["attributes"], text).items()}
    assert found == {"severity": "none", "defect": "no"}


def test_wrong_remarks_are_found_though_not_asked() -> None:
    claims = read_claims(
        DEFECT["attributes"], "Yes, this monocrystalline cell is defective.", "defect", DEFECT["choices"]
    )
    assert claims["cell_type"].value == "mono"
    assert claims["defect"].place == 0
    assert claims["cell_type"].place == 2


def test_problems_are_named() -> None:
    claim = read_claims(DEFECT["attributes"], "It might be defective.")["defect"]
    assert (claim.value, claim.problem) == (None, "hedged")
    claim = read_claims(DEFECT["attributes"], "It is defective. It is functional.")["defect"]
    assert (claim.value, claim.problem) == (None, "contradictory")


def test_a_label_that_sounds_like_a_hedge_is_no_hedge() -> None:
    attributes = {
        "class": {
            "values": ["unknown", "possible crack"],
            "says": {"unknown": ["unknown"], "possible crack": ["possible crack"]},
        }
    }
    assert read_claims(attributes, "The class is unknown.")["class"].value == "unknown"
    assert read_claims(attributes, "The class is possible crack.")["class"].value == "possible crack"


@pytest.mark.parametrize(
    ("answer", "value"),
    [
        ("是，图中人员已佩戴安全帽。", "佩戴"),
        ("图中人员未佩戴安全帽。", "未佩戴"),
        ("他没有佩戴安全帽。", "未佩戴"),
        ("他不是没戴。", "佩戴"),
        ("他非常规范地佩戴安全帽。", "佩戴"),
        ("无法判断是否佩戴安全帽。", None),
        ("可能佩戴安全帽。", None),
        ("他佩戴安全帽吗？", None),
        ("是，但未佩戴。", None),
        ("合格PPE已佩戴OK。", "佩戴"),
    ],
)
def test_chinese(answer: str, value: str | None) -> None:
    spec = {
        "values": ["佩戴", "未佩戴"],
        "says": {"佩戴": ["佩戴安全帽", "戴了安全帽", "已佩戴"], "未佩戴": ["未佩戴", "没戴"]},
    }
    facts = {"attributes": {"安全帽": spec}, "asked": ["安全帽"], "choices": {"佩戴": "是", "未佩戴": "否"}}
    assert parse_value(facts, answer) == value


@pytest.mark.parametrize(
    ("answer", "value"),
    [
        ("未发现裂纹。", "no"),
        ("没有发现裂纹。", "no"),
        ("没有任何裂纹。", "no"),
        ("未见裂纹。", "no"),
        ("无明显裂纹。", "no"),
        ("未发现任何明显的裂纹。", "no"),
        ("不存在裂纹。", "no"),
        ("不含裂纹。", "no"),
        ("图中未检测到裂纹。", "no"),
        ("图中未能发现裂纹。", "no"),
        ("看不到裂纹。", "no"),
        ("裂纹不存在。", "no"),
        ("否，未发现裂纹。", "no"),
        ("发现裂纹。", "yes"),
        ("有明显裂纹。", "yes"),
        ("有不明显的裂纹。", "yes"),
        ("未来会出现裂纹。", "yes"),
        ("未清洗，有裂纹。", "yes"),
        ("有未修复的裂纹。", "yes"),
        ("是，未发现裂纹。", None),
        ("不能排除裂纹。", None),
        ("不排除有裂纹。", None),
        ("无法看到裂纹。", None),
    ],
)
def test_what_chinese_reports_deny(answer: str, value: str | None) -> None:
    """Between the negator and what it negates stands a verb as often as not."""
    spec = {"values": ["no", "yes"], "says": {"yes": ["裂纹"], "no": []}}
    facts = {"attributes": {"裂纹": spec}, "asked": ["裂纹"], "choices": {"yes": "是", "no": "否"}}
    assert parse_value(facts, answer) == value


def test_values_that_are_only_denied_are_told() -> None:
    claim = read_claims(SEVERITY["attributes"], "It is not severe.")["severity"]
    assert (claim.value, claim.problem, claim.excluded) == (None, "hedged", {"severe"})
    assert not read_claims(SEVERITY["attributes"], "It is not severe, perhaps slight.")["severity"].excluded


def test_leading_choice_takes_whole_words_and_the_longest() -> None:
    choices = {"a": "Crack", "b": "Crack large"}
    assert leading_choice("Crack large, it is.", choices) == "b"
    assert leading_choice("cracked", choices) is None
    assert leading_choice('"Crack"', choices) == "a"
    assert leading_choice("是的", {"y": "是"}) == "y"


def test_bare_values() -> None:
    assert all(map(bare_value, ("yes", "No", "3", "无", "none")))
    assert not any(map(bare_value, ("ok", "no damage", "无缺陷")))


def test_hostile_text_is_read_in_reasonable_steps() -> None:
    answer = "not so " * 10_000 + "defective. " + "no,:;" * 5_000
    assert parse_value(DEFECT, answer) == "no"
