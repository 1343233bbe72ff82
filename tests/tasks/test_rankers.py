from __future__ import annotations

from pathlib import Path

import pytest

from bessemer.data.records import Ranking, write_records
from bessemer.errors import UserError
from bessemer.tasks.judge import PRINCIPLES, judge
from bessemer.tasks.rankers import People, Rules, Simulated, ranks_of
from tasks.task_samples import solar_prompt

PROMPT = solar_prompt("severe-mono", "defect")
ANSWERS = (
    "Yes, this cell is defective. Replace it.",
    "Yes, this cell is defective.",
    "No, this cell is functional.",
    "",
)
ENDED = (True, True, True, False)


@pytest.mark.parametrize(
    ("scores", "tolerance", "ranks"),
    [
        ([0.9, 0.5, 0.7], 0.0, (1, 3, 2)),
        ([0.5, 0.5, 0.7], 0.0, (2, 2, 1)),
        ([0.5, 0.7, 0.5, 0.1], 0.0, (2, 1, 2, 4)),
        ([0.50, 0.52, 0.51], 0.02, (1, 1, 1)),
        # steps of 0.02 do not chain: 0.54 and 0.52 tie, 0.50 begins a new rank
        ([0.50, 0.52, 0.54], 0.02, (3, 1, 1)),
        ([None, 0.2, 0.4], 0.0, (None, 2, 1)),
        ([None, None], 0.1, (None, None)),
        ([0.0, 0.0], 0.0, (1, 1)),
        ([], 0.1, ()),
    ],
)
def test_ranks(scores: list[float | None], tolerance: float, ranks: tuple[int | None, ...]) -> None:
    assert ranks_of(scores, tolerance) == ranks


def test_rules_rank_by_the_judge() -> None:
    (ranking,) = Rules().rank(PROMPT, ANSWERS, ENDED)
    assert ranking.annotator == "rules" and ranking.id == PROMPT.id
    assert ranking.responses == ANSWERS and ranking.ended == ENDED
    assert ranking.shown_order == (0, 1, 2, 3)
    assert ranking.ranks["truthfulness"] == (1, 1, 3, 3)
    assert ranking.ranks["helpfulness"] == (1, 2, 3, 4)
    assert ranking.ranks["harmlessness"] == (
        1,
        1,
        4,
        3,
    )  # saying nothing is better than calling a danger safe
    assert ranking.provenance["scores"]["fluency"] == [
        judge(PROMPT, a, e)["fluency"] for a, e in zip(ANSWERS, ENDED, strict=True)
    ]


def test_rules_rank_by_the_principles_that_are_asked_for() -> None:
    (ranking,) = Rules(("clarity", "politeness")).rank(PROMPT, ANSWERS, ENDED)
    assert list(ranking.ranks) == ["clarity", "politeness"]
    assert ranking.ranks["politeness"] == (None,) * 4


def test_simulated_annotators_are_named_and_reproducible() -> None:
    first = Simulated("a", 0.3, seed=1).rank(PROMPT, ANSWERS, ENDED)
    assert first == Simulated("a", 0.3, seed=1).rank(PROMPT, ANSWERS, ENDED)
    assert first[0].annotator == "simulated-a" and first[0].provenance["noise"] == 0.3
    other = [Simulated(name, 0.3, seed=1).rank(PROMPT, ANSWERS, ENDED)[0] for name in "bcdefgh"]
    assert any(ranking.ranks != first[0].ranks for ranking in other)
    assert any(ranking.shown_order != first[0].shown_order for ranking in other)


def test_a_simulated_annotator_of_another_seed_sees_otherwise() -> None:
    ranks = [Simulated("a", 0.3, seed=seed).rank(PROMPT, ANSWERS, ENDED)[0].ranks for seed in range(8)]
    assert any(some != ranks[0] for some in ranks)


def test_simulated_without_noise_are_the_rules() -> None:
    (quiet,) = Simulated("q", 0.0).rank(PROMPT, ANSWERS, ENDED)
    assert quiet.ranks == Rules().rank(PROMPT, ANSWERS, ENDED)[0].ranks


def test_more_noise_agrees_less() -> None:
    truth = Rules().rank(PROMPT, ANSWERS, ENDED)[0].ranks["helpfulness"]

    def agreeing(noise: float) -> int:
        made = (Simulated(f"x{i}", noise, seed=i).rank(PROMPT, ANSWERS, ENDED)[0] for i in range(40))
        return sum(ranking.ranks["helpfulness"] == truth for ranking in made)

    assert agreeing(0.05) > agreeing(0.3) > agreeing(3.0)


def test_missing_judgements_of_simulated_annotators() -> None:
    ranks = [
        Simulated(f"m{i}", 0.1, missing=0.5).rank(PROMPT, ANSWERS, ENDED)[0].ranks[p]
        for i in range(20)
        for p in PRINCIPLES
    ]
    share = sum(rank is None for row in ranks for rank in row) / (20 * 5 * 4)
    assert 0.4 < share < 0.6  # five standard deviations of a fair coin


def ranking_by(
    annotator: str, responses: tuple[str, ...], ranks: tuple[int | None, ...], order: tuple[int, ...]
) -> Ranking:
    ended = (True,) * len(responses)
    return Ranking(PROMPT.id, PROMPT, responses, ended, {"clarity": ranks}, annotator, order)


def test_people_are_read_in_the_order_of_the_answers(tmp_path: Path) -> None:
    path = tmp_path / "people.jsonl"
    shuffled = (ANSWERS[2], ANSWERS[0], ANSWERS[3], ANSWERS[1])
    write_records(
        path,
        [
            ranking_by("王工", shuffled, (3, 1, None, 2), (2, 0, 1, 3)),
            ranking_by("Li", ANSWERS, (1, 1, 3, 4), (0, 1, 2, 3)),
        ],
    )
    wang, li = People.read(path).rank(PROMPT, ANSWERS, ENDED)
    assert (wang.annotator, wang.ranks["clarity"]) == ("王工", (1, 2, 3, None))
    # shown first was shuffled[2], the empty answer, which is the fourth one here
    assert wang.shown_order == (3, 2, 0, 1)
    assert wang.responses == ANSWERS and wang.ended == ENDED
    assert li.ranks["clarity"] == (1, 1, 3, 4)


def test_people_who_did_not_rank_a_prompt(tmp_path: Path) -> None:
    path = tmp_path / "people.jsonl"
    write_records(path, [ranking_by("Li", ANSWERS, (1, 2, 3, 4), (0, 1, 2, 3))])
    other = solar_prompt("none-mono", "defect")
    assert People.read(path).rank(other, ANSWERS, ENDED) == []


def test_rankings_of_other_answers_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "people.jsonl"
    write_records(path, [ranking_by("Li", ("a", "b", "c", "d"), (1, 2, 3, 4), (0, 1, 2, 3))])
    with pytest.raises(UserError, match=r"people.jsonl: ranking .* by 'Li': the answers differ"):
        People.read(path).rank(PROMPT, ANSWERS, ENDED)


def test_equal_answers_keep_their_own_ranks(tmp_path: Path) -> None:
    path = tmp_path / "people.jsonl"
    write_records(path, [ranking_by("Li", ("a", "a", "b"), (2, 3, 1), (0, 1, 2))])
    (ranking,) = People.read(path).rank(PROMPT, ("b", "a", "a"), (True,) * 3)
    assert ranking.ranks["clarity"] == (1, 2, 3)
