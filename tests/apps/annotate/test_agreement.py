from __future__ import annotations

from pathlib import Path

import pytest

from bessemer.annotation.listing import AgreementItem, agreement_items
from bessemer.annotation.rankings import rankings
from bessemer.annotation.shapes import Annotation, Box, Mask, Point, Polygon
from bessemer.apps.annotate.agreement import class_agreement, lean, match_shapes, ranking_agreement
from bessemer.data.records import Message, Prompt, Ranking
from drawn_project import make_project, work_of_many


def box(id: str, label: str, x: float, y: float = 0, width: float = 10, height: float = 10) -> Annotation:
    return Annotation(id, label, Box(x, y, width, height))


def test_the_best_pair_is_matched_first() -> None:
    """By hand: 0-0 overlaps 9/11, 0-1 8/12, 1-1 nothing."""
    found = match_shapes([box("a", "x", 0), box("b", "x", 50)], [box("a", "x", 1), box("b", "x", 2)])
    assert [(i, j) for i, j, _ in found.matched] == [(0, 0)]
    assert found.matched[0][2] == pytest.approx(9 / 11)
    assert (found.first_alone, found.second_alone) == ((1,), (1,))


def test_of_equal_overlaps_the_same_label_goes_first() -> None:
    found = match_shapes([box("a", "x", 0), box("b", "y", 0)], [box("a", "y", 0), box("b", "x", 0)])
    assert sorted((i, j) for i, j, _ in found.matched) == [(0, 1), (1, 0)]


def test_kinds_are_compared_by_their_outlines_and_points_by_distance() -> None:
    corners = ((0.0, 0.0), (10.0, 0.0), (0.0, 10.0))
    triangle = Annotation("t", "x", Polygon(((corners,),)))
    assert match_shapes([triangle], [box("b", "x", 0)]).matched[0][2] == pytest.approx(0.5)
    assert match_shapes([triangle], [box("b", "x", 1)]).matched == ()
    one, other = Annotation("p", "x", Point(5, 5)), Annotation("p", "x", Point(8, 9))
    assert match_shapes([one], [other]).matched == ()
    assert match_shapes([one], [other], reach=20).matched[0][2] == pytest.approx(0.75)
    assert match_shapes([one], [other], reach=9).matched == ()
    empty = Annotation("m", "x", Mask((100,), 10, 10))
    assert match_shapes([empty], [box("b", "x", 0), one]).matched == ()
    assert match_shapes([], [one]).second_alone == (0,) and match_shapes([one], []).first_alone == (0,)


def test_class_agreement_by_hand() -> None:
    """Image 1: x agreed (2 of 2 said), y said once; image 2: x and y at one place, x agreed."""
    items = [
        AgreementItem(1, 100, 100, {"a": (box("1", "x", 0), box("2", "y", 50)), "b": (box("1", "x", 0),)}),
        AgreementItem(
            2, 100, 100, {"a": (box("1", "x", 0), box("2", "x", 50)), "b": (box("1", "y", 1), box("2", "x", 50))}
        ),
    ]  # fmt: skip
    found = class_agreement(items)
    rows = {row["label"]: row for row in found["classes"]}
    assert rows["x"]["share"] == pytest.approx(4 / 5) and rows["x"]["shapes"] == 5 and rows["x"]["iou"] == 1.0
    assert rows["y"]["share"] == 0 and rows["y"]["images"] == 2 and rows["y"]["iou"] is None
    assert rows["x"]["interval"][0] == pytest.approx(2 / 3) and rows["x"]["interval"][1] == pytest.approx(1.0)
    assert found["mistaken"] == [{"labels": ["x", "y"], "count": 1}] and found["scene"]["share"] is None


def ranking(
    id: str, order: tuple[int, ...], ranks: tuple[int | None, ...], texts: tuple[str, ...] = ("a", "bb", "ccc")
) -> Ranking:
    prompt = Prompt(id, (Message("user", "?"),))
    return Ranking(id, prompt, texts, (True,) * 3, {"clarity": ranks}, "ann", order)


def test_leaning_by_hand() -> None:
    """Shown c, b, a; ranked a 1, b 2, c 3: the earlier one lost all three pairs, so did the longer one."""
    found = lean([ranking("1", (2, 1, 0), (1, 2, 3))], "position")
    assert (found["share"], found["pairs"]) == (0.0, 3)
    assert lean([ranking("1", (2, 1, 0), (1, 2, 3))], "length")["share"] == 0.0
    one = [ranking("1", (0, 1, 2), (1, 2, 3)), ranking("2", (0, 1, 2), (3, 2, 1))]
    assert lean(one, "position")["share"] == 0.5 and lean(one, "position")["interval"] == [0.0, 1.0]
    assert lean([ranking("1", (0, 1, 2), (1, 1, None))], "position") == {"pairs": 0, "share": None, "interval": None}
    same = ranking("1", (0, 1, 2), (1, 2, 3), ("a", "b", "cc"))
    assert lean([same], "length")["pairs"] == 2


def test_a_projects_agreement(tmp_path: Path) -> None:
    with make_project(tmp_path / "p", tmp_path / "f") as project:
        work_of_many(project)
        shapes = class_agreement(agreement_items(project))
        assert shapes["images"] == 3  # one of image 6 is rejected
        rows = {row["label"]: row["share"] for row in shapes["classes"]}
        assert rows["inactive area"] == 1.0 and shapes["scene"] == {"pairs": 3, "share": 1.0}
        ranked = ranking_agreement(rankings(project))
    by_name = {row["name"]: row for row in ranked["principles"]}
    assert by_name["fluency"]["pair_agreement"] == 1.0 and by_name["fluency"]["alpha"] == pytest.approx(1.0)
    assert by_name["clarity"]["pairs"] == 18 and by_name["clarity"]["pair_agreement"] < 1
    assert [row["name"] for row in ranked["annotators"]] == ["bo", "chen"] and ranked["annotators"][0]["tasks"] == 3
