from __future__ import annotations

import math
from dataclasses import replace

import pytest

from bessemer.errors import UserError
from bessemer.report import metrics
from bessemer.report.metrics import (
    UNREADABLE,
    classification,
    cluster,
    confusion,
    correctness,
    detection,
    ordinal,
    paired_difference,
    principle_means,
    prompt_score,
    reward_accuracy,
    slices,
    token_f1,
)
from bessemer.report.outputs import Attribute, LabelledAnswer, PromptAnswer, RewardPair

DEFECT = Attribute("defect", ("fine", "broken"), positive="broken")
GRADE = Attribute("grade", ("none", "slight", "severe"), ordered=True)
KIND = Attribute("kind", ("a", "b", "c"))


def answers(attribute: Attribute, *rows: tuple, group: str | None = None) -> list[LabelledAnswer]:
    """One answer a row: (truth, parsed) or (truth, parsed, probability)."""
    return [
        LabelledAnswer(
            f"id{i}",
            attribute.name,
            row[0],
            row[1],
            probability=row[2] if len(row) > 2 else None,
            group=group,
        )
        for i, row in enumerate(rows)
    ]


FIVE = answers(DEFECT, ("broken", "broken"), ("broken", None), ("broken", "fine"), ("fine", "fine"), ("fine", None))


def test_binary_table_with_unreadable_answers_worked_by_hand() -> None:
    # Unreadable counts as the other value, so: 1 true positive, 2 missed, 1 false alarm, 1 true negative.
    found = classification(FIVE, DEFECT)
    assert found["n"] == 5
    assert found["accuracy"] == pytest.approx(2 / 5)
    assert found["balanced_accuracy"] == pytest.approx((1 / 3 + 1 / 2) / 2)
    assert found["macro_f1"] == pytest.approx((2 / 5 + 2 / 5) / 2)
    assert found["mcc"] == pytest.approx((1 * 1 - 1 * 2) / math.sqrt(2 * 3 * 2 * 3))
    assert found["parse_failure_rate"] == pytest.approx(2 / 5)
    assert detection(FIVE, DEFECT)["f1_defect"] == pytest.approx(2 / 5)


def test_unreadable_is_never_better_than_wrong() -> None:
    wrong = [(row.truth, row.parsed or ("fine" if row.truth == "broken" else "broken")) for row in FIVE]
    as_wrong = classification(answers(DEFECT, *wrong), DEFECT)
    unreadable = classification(FIVE, DEFECT)
    for name in ("accuracy", "balanced_accuracy", "macro_f1", "mcc"):
        assert unreadable[name] == as_wrong[name]
    assert as_wrong["parse_failure_rate"] == 0


def test_a_parsed_value_outside_the_vocabulary_is_unreadable() -> None:
    rows = answers(KIND, ("a", "zebra"), ("b", "b"))
    assert classification(rows, KIND)["parse_failure_rate"] == 0.5
    # Of three values without order it is a class of its own: neither b nor c is blamed for it.
    assert metrics.counted_prediction(rows[0], KIND) == UNREADABLE
    assert classification(rows, KIND)["macro_f1"] == pytest.approx((0 + 1) / 2)


@pytest.mark.parametrize(("truth", "counted"), [("none", "severe"), ("severe", "none"), ("slight", "none")])
def test_unreadable_counts_as_the_furthest_of_ordered_values(truth: str, counted: str) -> None:
    assert metrics.counted_prediction(answers(GRADE, (truth, None))[0], GRADE) == counted


def test_quadratic_kappa_by_its_definition() -> None:
    pairs = [
        ("none", "none"), ("none", "slight"), ("slight", "slight"), ("slight", "severe"),
        ("severe", "severe"), ("severe", "none"), ("none", None),
    ]  # fmt: skip
    counted = [(GRADE.values.index(a), 2 if b is None else GRADE.values.index(b)) for a, b in pairs]
    observed = sum((a - b) ** 2 for a, b in counted) / 7
    expected = sum((a - b) ** 2 for a, _ in counted for _, b in counted) / 49
    found = ordinal(answers(GRADE, *pairs), GRADE)
    assert found["kappa_severity"] == pytest.approx(1 - observed / expected)
    # none: 1 hit, 1 false, 2 missed; slight: 1, 1, 1; severe: 1 hit, 2 false (one unreadable), 1 missed.
    assert found["macro_f1_severity"] == pytest.approx((2 / 5 + 2 / 4 + 2 / 5) / 3)


def test_a_value_that_is_answered_but_never_true() -> None:
    found = classification(answers(KIND, ("a", "a"), ("a", "b")), KIND)
    # Recall is defined for a alone; F1 of a is 2/3 and that of b, which was said in vain, 0; c plays no part.
    assert found["balanced_accuracy"] == 0.5
    assert found["macro_f1"] == pytest.approx((2 / 3 + 0) / 2)


def test_kappa_is_none_where_nothing_varies() -> None:
    assert ordinal(answers(GRADE, ("none", "none"), ("none", "none")), GRADE)["kappa_severity"] is None


SCORED = answers(
    DEFECT,
    ("broken", "broken", 0.9),
    ("fine", "broken", 0.8),
    ("broken", "broken", 0.7),
    ("fine", "fine", 0.3),
    ("broken", "fine", 0.3),
    ("fine", "fine", 0.1),
)


def test_auc_is_the_share_of_pairs_in_order() -> None:
    positive, negative = [0.9, 0.7, 0.3], [0.8, 0.3, 0.1]
    wins = [1.0 if p > n else 0.5 if p == n else 0.0 for p in positive for n in negative]
    assert detection(SCORED, DEFECT)["auc"] == pytest.approx(sum(wins) / 9)


def test_average_precision_brier_and_recall_at_few_false_alarms_by_hand() -> None:
    found = detection(SCORED, DEFECT)
    # Thresholds 0.9, 0.8, 0.7, 0.3, 0.1: precision 1, 1/2, 2/3, 3/5, 1/2; recall grows at 1st, 3rd, 4th.
    assert found["average_precision"] == pytest.approx((1 + 2 / 3 + 3 / 5) / 3)
    assert found["brier"] == pytest.approx((0.01 + 0.64 + 0.09 + 0.09 + 0.49 + 0.01) / 6)
    # One false alarm in three is more than 5 %, so only what lies above 0.8 is found.
    assert found["recall_at_5_false_alarms"] == pytest.approx(1 / 3)


def test_one_false_alarm_in_twenty_is_few_enough() -> None:
    """By falling probability: one found, a false alarm, one more found, another false alarm, the last one found."""
    order = [("broken", 0.9), ("fine", 0.8), ("broken", 0.7), ("fine", 0.6), ("broken", 0.5)]
    rows = [*((truth, "fine", share) for truth, share in order), *[("fine", "fine", 0.1)] * 18]
    assert detection(answers(DEFECT, *rows), DEFECT)["recall_at_5_false_alarms"] == pytest.approx(2 / 3)


def test_risk_coverage_answers_the_most_certain_first() -> None:
    rows = answers(
        DEFECT,
        ("fine", "fine", 0.45),
        ("broken", "broken", 0.6),
        ("fine", "fine", 0.1),
        ("fine", "broken", 0.95),
    )
    # By certainty: 0.95 (wrong), 0.1 (right), 0.6 (right), 0.45 (right).
    points = detection(rows, DEFECT)["curves"]["risk_coverage"]
    assert points == [[0.25, 0.0], [0.5, 0.5], [0.75, pytest.approx(2 / 3, abs=1e-4)], [1.0, 0.75]]


def test_curves_start_and_end_where_they_must() -> None:
    curves = detection(SCORED, DEFECT)["curves"]
    assert curves["roc"][0] == [0, 0] and curves["roc"][-1] == [1, 1]
    assert curves["precision_recall"][-1] == [0, 1]
    assert sum(point["count"] for point in curves["calibration"]) == 6


def test_one_missing_probability_leaves_only_what_answers_alone_tell() -> None:
    found = detection([*SCORED, LabelledAnswer("x", "defect", "fine", "fine")], DEFECT)
    assert found["f1_defect"] == pytest.approx(2 * 2 / (2 * 2 + 1 + 1))
    assert {name for name, value in found.items() if value is None} == {
        "auc", "average_precision", "recall_at_5_false_alarms", "brier", "calibration_error", "curves",
    }  # fmt: skip


def test_one_class_alone_has_no_auc_and_warns_of_nothing() -> None:
    rows = answers(DEFECT, ("fine", "fine", 0.2), ("fine", "fine", 0.1))
    found = detection(rows, DEFECT)
    assert found["auc"] is None and found["average_precision"] is None and found["f1_defect"] is None
    assert found["brier"] == pytest.approx((0.04 + 0.01) / 2)
    assert classification(rows, DEFECT)["mcc"] is None


def test_no_rows_give_none_and_never_nan() -> None:
    found = {**classification([], DEFECT), **ordinal([], GRADE), **detection([], DEFECT)}
    assert found.pop("n") == 0 and found.pop("interval_method") == "wilson"
    assert set(found.values()) == {None}
    assert confusion([], DEFECT) is None


def test_a_label_outside_its_values_is_an_error_that_names_the_example() -> None:
    with pytest.raises(UserError, match=r"id0: defect is 'cracked'.*fine, broken"):
        classification(answers(DEFECT, ("cracked", "fine")), DEFECT)


def test_an_example_without_the_label_does_not_count() -> None:
    assert classification(answers(DEFECT, (None, "fine"), ("fine", "fine")), DEFECT)["n"] == 1


def test_wilson_interval_of_eight_in_ten() -> None:
    rows = answers(DEFECT, *[("fine", "fine")] * 8, *[("fine", "broken")] * 2)
    found = classification(rows, DEFECT)
    # As tabulated for 8 of 10 at 95 %.
    assert found["accuracy_interval"] == pytest.approx([0.4902, 0.9433], abs=1e-4)
    assert found["interval_method"] == "wilson"


def test_rows_of_one_group_are_not_independent() -> None:
    # 20 groups of 10 equal rows are worth 20 rows: the standard error is sqrt(0.25 / 20), not of 200.
    rows = [
        LabelledAnswer(f"id{g}-{i}", "defect", "fine", "fine" if g % 2 else "broken", group=f"g{g}")
        for g in range(20)
        for i in range(10)
    ]
    found = classification(rows, DEFECT)
    low, high = found["accuracy_interval"]
    assert found["interval_method"] == "cluster bootstrap"
    assert high - low == pytest.approx(2 * 1.96 * math.sqrt(0.25 / 20), rel=0.15)


def test_several_questions_on_one_example_are_one_cluster() -> None:
    rows = [LabelledAnswer(f"id{i}", "defect", "fine", parsed) for i in range(4) for parsed in ("fine", "broken")]
    assert classification(rows, DEFECT)["interval_method"] == "cluster bootstrap"
    # Every cluster is half right, so no resample of clusters differs.
    assert classification(rows, DEFECT)["accuracy_interval"] == [0.5, 0.5]


def test_no_group_is_no_group_of_all() -> None:
    """Photographs of an annotation project have none: "" as well as None."""
    rows = answers(DEFECT, *[("fine", "fine" if i % 3 else "broken") for i in range(30)], group="")
    found = classification(rows, DEFECT)
    assert found == classification([replace(row, group=None) for row in rows], DEFECT)
    low, high = found["accuracy_interval"]
    assert found["interval_method"] == "wilson" and low < found["accuracy"] < high


def test_questions_on_one_photograph_are_one_cluster() -> None:
    prompts = [
        PromptAnswer(f"p{i}-{k}", "?", "!", {"clarity": float(k)}, image_sha256=f"photo{i}")
        for i in range(6)
        for k in range(2)
    ]
    assert len({cluster(prompt) for prompt in prompts}) == 6
    assert len({cluster(replace(prompt, image_sha256=None)) for prompt in prompts}) == 12
    assert {cluster(replace(prompt, group="module")) for prompt in prompts} == {"group module"}


def test_all_right_in_few_groups_is_not_certainty() -> None:
    rows = [LabelledAnswer(f"id{i}", "defect", "fine", "fine", group=f"g{i % 5}") for i in range(50)]
    low, high = classification(rows, DEFECT)["accuracy_interval"]
    z2 = 1.959964**2
    assert (low, high) == (pytest.approx(5 / (5 + z2), abs=1e-5), 1.0)


def test_one_group_gives_no_interval() -> None:
    rows = answers(DEFECT, ("fine", "fine"), ("fine", "broken"), group="only")
    found = classification(rows, DEFECT)
    assert found["accuracy"] == 0.5 and found["accuracy_interval"] is None


def test_confusion_has_a_column_for_unreadable_answers() -> None:
    assert confusion(FIVE, DEFECT) == {
        "values": ["fine", "broken"],
        "columns": ["fine", "broken", UNREADABLE],
        "counts": [[1, 0, 1], [1, 1, 1]],
    }


def test_slices_count_within_each_value() -> None:
    rows = [
        LabelledAnswer("1", "defect", "fine", "fine", labels={"kind": "a", "defect": "fine"}),
        LabelledAnswer("2", "defect", "fine", "broken", labels={"kind": "a", "defect": "fine"}),
        LabelledAnswer("3", "defect", "broken", "broken", labels={"kind": "b"}),
    ]
    found = slices(rows, DEFECT, [DEFECT, KIND])
    assert list(found) == ["kind"] and list(found["kind"]) == ["a", "b"]
    assert [(cell["n"], cell["accuracy"]) for cell in found["kind"].values()] == [(2, 0.5), (1, 1.0)]


def test_correctness_averages_the_questions_on_one_example() -> None:
    rows = [
        LabelledAnswer("1", "defect", "fine", "fine"),
        LabelledAnswer("1", "defect", "fine", "broken"),
        LabelledAnswer("2", "defect", "fine", "fine", group="g"),
    ]
    assert correctness(rows, DEFECT) == {"1": (0.5, "1"), "2": (1.0, "group g")}


def test_paired_difference_uses_only_what_both_answered() -> None:
    new = {"a": (1.0, "a"), "b": (0.5, "b"), "only new": (0.0, "x")}
    old = {"a": (0.5, "a"), "b": (0.0, "b"), "only old": (1.0, "y")}
    # Both cases differ by exactly one half, so every resample does.
    assert paired_difference(new, old) == (0.5, [0.5, 0.5], 2)
    assert paired_difference(new, {}) == (None, None, 0)
    assert paired_difference({"a": (1.0, "a")}, {"a": (0.0, "a")}) == (1.0, None, 1)


def test_pairing_takes_out_what_both_find_hard() -> None:
    old = {f"c{i}": (float(i % 2), f"c{i}") for i in range(200)}
    new = {key: (value + (0.1 if i % 10 else -0.1), group) for i, (key, (value, group)) in enumerate(old.items())}
    gain, interval, cases = paired_difference(new, old)
    assert gain == pytest.approx(0.08) and cases == 200
    assert interval is not None
    # The differences are 0.1 (nine tenths) and -0.1: their standard deviation is 0.06.
    assert interval[1] - interval[0] == pytest.approx(2 * 1.96 * 0.06 / math.sqrt(200), rel=0.15)


def test_scores_skip_principles_that_could_not_be_judged() -> None:
    first = PromptAnswer("1", "q", "a", {"truth": 1.0, "form": None})
    second = PromptAnswer("2", "q", "a", {"truth": 0.5, "form": 0.0})
    third = PromptAnswer("3", "q", "a", {"truth": None, "form": None})
    assert [prompt_score(row) for row in (first, second, third)] == [1.0, 0.25, None]
    assert principle_means([first, second, third]) == {"form": 0.0, "truth": 0.75}
    assert principle_means([third]) == {"form": None, "truth": None}


@pytest.mark.parametrize(
    ("answer", "reference", "expected"),
    [
        ("The cat sat.", "the CAT sat", 1.0),
        ("a b c d", "a b", 2 * (2 / 4) * 1 / (2 / 4 + 1)),
        ("a a a", "a", 2 * (1 / 3) * 1 / (1 / 3 + 1)),
        ("a a b", "a a c", 2 / 3),
        ("电池有缺陷", "电池无缺陷", 4 / 5),
        ("电池 OK", "OK。", 2 * (1 / 3) * 1 / (1 / 3 + 1)),
        ("", "a", 0.0),
        ("...", "...", 0.0),
        ("x", "y", 0.0),
    ],
)
def test_token_f1_by_hand(answer: str, reference: str, expected: float) -> None:
    assert token_f1(answer, reference) == pytest.approx(expected)


def pair(margin: float, target: float, prompt: str = "p", length: float | None = None) -> RewardPair:
    return RewardPair(prompt, "truth", margin, target, length, None)


def test_reward_accuracy_by_hand() -> None:
    pairs = [
        pair(1.0, 1.0, "p1", 1.0),
        pair(-1.0, 1.0, "p1", 1.0),
        pair(-0.5, 0.0, "p2", 2.0),
        pair(0.0, 0.0, "p2", 0.0),
        pair(3.0, 0.5, "p2", 1.0),
    ]
    found = reward_accuracy(pairs)
    assert found["pairs"] == 4 and found["ties"] == 1
    assert found["accuracy"] == pytest.approx((1 + 0 + 1 + 0.5) / 4)
    assert found["length_baseline"] == pytest.approx((1 + 1 + 0 + 0.5) / 4)
    assert found["minus_length"]["accuracy"] == pytest.approx(0)
    assert found["bag_of_words_baseline"] is None and found["minus_bag_of_words"]["accuracy"] is None
    # Whole prompts are drawn: the only means are those of p1 (1/2), p2 (3/4) and both.
    assert found["interval"] == [0.5, 0.75]


def test_pairs_with_a_borrowed_answer_are_told_apart() -> None:
    rows = [pair(1.0, 1.0, "p1"), pair(-1.0, 1.0, "p2"), pair(1.0, 0.5, "p2")]
    found = reward_accuracy([*rows, *(replace(row, borrowed=True) for row in (rows[0], rows[0]))])
    assert found["accuracy"] == pytest.approx(3 / 4) and found["pairs"] == 4
    assert found["own"] == {"accuracy": 0.5, "interval": [0.0, 1.0], "pairs": 2}
    assert reward_accuracy([replace(rows[0], borrowed=True)])["own"] == {"accuracy": None, "interval": None, "pairs": 0}


def test_reward_calibration_does_not_depend_on_which_answer_is_first() -> None:
    margin = math.log(0.8 / 0.2)
    one_way = [pair(margin, 1.0), pair(margin, 1.0), pair(margin, 1.0), pair(margin, 0.0)]
    other = [pair(-row.margin, 1 - row.target) if i % 2 else row for i, row in enumerate(one_way)]
    # 0.8 is said and 0.75 holds.
    assert reward_accuracy(one_way)["calibration_error"] == pytest.approx(0.05)
    assert reward_accuracy(other)["calibration_error"] == pytest.approx(0.05)


def test_a_principle_on_which_all_tie_has_no_accuracy() -> None:
    found = reward_accuracy([pair(1.0, 0.5), pair(0.2, 0.5)])
    assert found["accuracy"] is None and found["interval"] is None and found["length_baseline"] is None
    assert found["pairs"] == 0 and found["ties"] == 2
    assert reward_accuracy([])["calibration_error"] is None


def test_a_reward_that_beats_a_baseline_has_gained() -> None:
    """Always right where length and words are always wrong."""
    found = reward_accuracy([RewardPair("p", "truth", 1.0, 1.0, -1.0, -1.0, subject="s")] * 4)
    assert found["minus_length"]["accuracy"] == found["minus_bag_of_words"]["accuracy"] == 1.0


def test_questions_about_one_photograph_depend_on_one_another() -> None:
    """Of four prompts about one there is no interval; about two there is."""
    rows = [replace(pair(1.0 if i else -1.0, 1.0, f"p{i}"), subject="s") for i in range(4)]
    found = reward_accuracy(rows)
    assert found["accuracy"] == 0.75 and found["interval"] is None
    assert reward_accuracy([*rows[:3], replace(rows[3], subject="t")])["interval"] is not None
