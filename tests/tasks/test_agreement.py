from __future__ import annotations

import math

import pytest
import torch

from bessemer.data.mixture import permutation
from bessemer.data.records import Message, Prompt, Ranking
from bessemer.errors import UserError
from bessemer.tasks.agreement import agreement_table, measure_agreement, principle_weights, rank_tensor
from bessemer.tasks.questions import prompts
from bessemer.tasks.rankers import Rules, Simulated
from tasks.task_samples import cells, solar


def ranking(prompt: str, annotator: str, ranks: tuple[int | None, ...], responses: tuple[str, ...] = ()) -> Ranking:
    responses = responses or tuple("abcdefgh"[: len(ranks)])
    k = len(responses)
    return Ranking(
        prompt,
        Prompt(prompt, (Message("user", "?"),)),
        responses,
        (True,) * k,
        {"clarity": ranks},
        annotator,
        tuple(range(k)),
    )


def test_rank_tensor() -> None:
    made = rank_tensor(
        [ranking("p", "B", (1, 2, None)), ranking("p", "A", (2, 1, 3)), ranking("q", "A", (1, 2))], "clarity"
    )
    nan = math.nan
    expected = torch.tensor([[[2, 1, 3], [1, 2, nan]], [[1, 2, nan], [nan, nan, nan]]])
    assert torch.equal(made.isnan(), expected.isnan()) and torch.equal(made.nan_to_num(), expected.nan_to_num())
    assert bool(rank_tensor([ranking("p", "A", (1, 2))], "fluency").isnan().all())


def test_other_answers_or_two_rankings_are_refused() -> None:
    with pytest.raises(UserError, match="by 'B': other answers"):
        rank_tensor([ranking("p", "A", (1, 2)), ranking("p", "B", (1, 2), ("x", "y"))], "clarity")
    with pytest.raises(UserError, match="a second one"):
        rank_tensor([ranking("p", "A", (1, 2)), ranking("p", "A", (2, 1))], "clarity")


def test_full_agreement() -> None:
    found = measure_agreement([ranking(p, a, (1, 2, 3)) for p in "pqrs" for a in "AB"], ["clarity"])["clarity"]
    assert (found.alpha, found.pair_agreement, found.tau_b) == (1.0, 1.0, 1.0)
    assert (found.pairs, found.annotators, found.flagged, found.weight) == (12, 2, False, 1.0)


def test_by_hand() -> None:
    # p: A 1 2 3, B 1 3 2: of 3 pairs 2 alike, tau 1/3; q: A and B alike
    rankings = [
        ranking("p", "A", (1, 2, 3)),
        ranking("p", "B", (1, 3, 2)),
        ranking("q", "A", (1, 2, 3)),
        ranking("q", "B", (1, 2, 3)),
    ]
    found = measure_agreement(rankings, ["clarity"])["clarity"]
    assert found.pair_agreement == pytest.approx(5 / 6)
    assert found.tau_b == pytest.approx((1 / 3 + 1) / 2)
    # Ordinal alpha by hand: 12 ratings, four of each rank; distances 4^2 of neighbours, 8^2 of 1 and 3.
    # Observed: the two units (2,3) and (3,2) put 4 ratings' worth of neighbours: (2 + 2) * 16 / 12.
    # Expected: 2 (4*4*16 + 4*4*16 + 4*4*64) / (12 * 11).
    assert found.alpha == pytest.approx(1 - (4 * 16 / 12) / (2 * 16 * (16 + 16 + 64) / (12 * 11)))
    assert found.alpha_interval is not None and found.alpha_interval[0] <= found.alpha <= found.alpha_interval[1]


def test_the_seed_decides_what_the_intervals_draw() -> None:
    rankings = [ranking(p, a, tuple(1 + place for place in permutation(5, p, a))) for p in "pqrstuvw" for a in "AB"]
    first, again, other = (
        measure_agreement(rankings, ["clarity"], samples=50, seed=seed)["clarity"] for seed in (3, 3, 4)
    )
    assert first == again
    assert (first.alpha, first.pair_agreement) == (other.alpha, other.pair_agreement)
    assert first.alpha_interval != other.alpha_interval and first.pair_interval != other.pair_interval


def test_reversed_annotators_are_flagged_and_weigh_nothing() -> None:
    rankings = [ranking(p, a, (1, 2, 3) if a == "A" else (3, 2, 1)) for p in "pqrs" for a in "AB"]
    found = measure_agreement(rankings, ["clarity"])
    assert found["clarity"].flagged is True and found["clarity"].weight == 0.0
    with pytest.raises(UserError, match="agree on no principle"):
        principle_weights(found)


def test_one_annotator_says_nothing_about_agreement() -> None:
    found = measure_agreement([ranking(p, "A", (1, 2)) for p in "pq"], ["clarity"])["clarity"]
    assert (found.alpha, found.pair_agreement, found.tau_b, found.flagged, found.pairs) == (
        None,
        None,
        None,
        None,
        0,
    )
    assert found.weight == 1.0


def test_nobody_varies() -> None:
    found = measure_agreement([ranking(p, a, (1, 1)) for p in "pq" for a in "AB"], ["clarity"])["clarity"]
    assert found.alpha is None and found.tau_b is None and found.flagged is None and found.pair_agreement == 1.0


def test_annotators_who_share_no_pair() -> None:
    rankings = [ranking("p", "A", (1, 2, None)), ranking("p", "B", (None, 1, 2))]
    found = measure_agreement(rankings, ["clarity"])["clarity"]
    assert found.pairs == 0 and found.alpha is None


def test_weights_fall_in_proportion() -> None:
    rankings = [
        ranking("p", "A", (1, 2, 3)),
        ranking("p", "B", (1, 3, 2)),
        ranking("q", "A", (1, 2, 3)),
        ranking("q", "B", (1, 2, 3)),
    ]
    found = measure_agreement(rankings, ["clarity"], flag_below=0.99)
    alpha = found["clarity"].alpha
    assert alpha is not None and found["clarity"].flagged
    assert principle_weights(found, {"clarity": 2.0}) == {"clarity": pytest.approx(2 * alpha / 0.99)}
    assert "flagged" in agreement_table(found)


def test_noisier_annotators_agree_less() -> None:
    made = prompts(solar(), cells(), "bank", 0, limit=24)
    answers = (
        "Yes, this cell is defective. Replace it.",
        "No, this cell is functional.",
        "It may be.",
        "The image cannot show that.",
    )

    def alpha(noise: float) -> float:
        rankers = [Rules(), Simulated("a", noise), Simulated("b", noise)]
        rankings = [r for prompt in made for ranker in rankers for r in ranker.rank(prompt, answers, (True,) * 4)]
        found = measure_agreement(rankings, ["truthfulness"], samples=20)["truthfulness"].alpha
        assert found is not None
        return found

    assert alpha(0.02) > alpha(0.3) > alpha(3.0)
    assert abs(alpha(50.0)) < 0.4


def test_table_names_every_principle() -> None:
    found = measure_agreement([ranking(p, a, (1, 2, 3)) for p in "pqrs" for a in "AB"], ["clarity", "fluency"])
    lines = agreement_table(found).splitlines()
    assert [line.split()[0] for line in lines] == ["principle", "clarity", "fluency"]
    assert lines[1].split()[1:5] == ["12", "1.00", "1.00", "1.00"]
    assert lines[2].split()[1:5] == ["0", "-", "-", "-"]
