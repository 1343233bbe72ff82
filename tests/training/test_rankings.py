"""Rankings as batches."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

import tiny
from bessemer.algos.preference import soft_bradley_terry
from bessemer.data.records import ImageRef, Message, Prompt, Ranking
from bessemer.errors import UserError
from bessemer.models.feed import Feed
from bessemer.training.rankings import RankedPrompt, RankingBatches, ranked_prompts, split_by_subject

NAN = float("nan")
Ranks = tuple[int | None, ...]


def _ranking(prompt: str, answers: tuple[str, ...], annotator: str = "a", **ranks: Ranks) -> Ranking:
    asked = Prompt(prompt, (Message("user", f"about {prompt}?"),))
    order = tuple(range(len(answers)))
    return Ranking(f"{prompt}-{annotator}", asked, answers, (True,) * len(answers), ranks, annotator, order)


def _equal(tensor: Tensor, expected: list[list[float]]) -> bool:
    return torch.allclose(tensor, torch.tensor(expected, dtype=tensor.dtype), equal_nan=True)


def test_targets_of_three_annotators_by_hand() -> None:
    """Of a, b, c: one says a > b > c, one b > a = c, one cannot judge c."""
    answers = ("A", "B", "C")
    rankings = [
        _ranking("p", answers, "one", truth=(1, 2, 3), clarity=(1, 1, 1)),
        _ranking("p", answers, "two", truth=(2, 1, 2)),
        _ranking("p", answers, "three", truth=(1, 2, None)),
    ]
    (item,) = ranked_prompts(rankings, ["truth", "clarity", "fluency"])
    assert item.targets.shape == item.pair_weights.shape == (3, 3, 3)
    truth, clarity, fluency = item.targets.unbind(-1)
    assert _equal(truth, [[NAN, 2 / 3, 0.75], [1 / 3, NAN, 1.0], [0.25, 0.0, NAN]])
    assert _equal(item.pair_weights[..., 0], [[0, 3, 2], [3, 0, 2], [2, 2, 0]])
    assert _equal(clarity, [[NAN, 0.5, 0.5], [0.5, NAN, 0.5], [0.5, 0.5, NAN]])
    assert bool(fluency.isnan().all()) and float(item.pair_weights[..., 2].sum()) == 0
    assert item.responses == answers and item.prompt.id == "p"


def test_other_answers_to_the_same_prompt_are_another_item() -> None:
    found = ranked_prompts(
        [
            _ranking("p", ("A", "B"), "x", t=(1, 2)),
            _ranking("p", ("C", "D"), "y", t=(2, 1)),
            _ranking("q", ("A", "B"), "z", t=(1, 2)),
        ],
        ["t"],
    )
    assert [(item.prompt.id, item.responses) for item in found] == [
        ("p", ("A", "B")),
        ("p", ("C", "D")),
        ("q", ("A", "B")),
    ]
    assert float(found[1].targets[0, 1, 0]) == 0.0
    with pytest.raises(UserError, match="no rankings, expected at least one"):
        ranked_prompts([], ["t"])


def _items(count: int, each: int = 2) -> list[RankedPrompt]:
    return ranked_prompts(
        [_ranking(f"p{n}", (f"A{k}", "B"), f"a{k}", t=(1, 2)) for n in range(count) for k in range(each)], ["t"]
    )


@pytest.mark.parametrize("seed", range(5))
def test_a_prompt_is_on_one_side_with_all_its_rankings(seed: int) -> None:
    items = _items(17, 3)
    train, held = split_by_subject(items, 0.25, seed)
    ids = {item.prompt.id for item in train}, {item.prompt.id for item in held}
    assert not ids[0] & ids[1] and len(ids[0]) == 13 and len(ids[1]) == 4
    assert len(train) == 39 and len(held) == 12


def test_the_split_depends_on_the_seed_and_the_prompts_alone() -> None:
    items = _items(17)
    held = [item.prompt.id for item in split_by_subject(items, 0.25, 1)[1]]
    assert sorted(i.prompt.id for i in split_by_subject(list(reversed(items)), 0.25, 1)[1]) == sorted(held)
    assert [item.prompt.id for item in split_by_subject(items, 0.25, 2)[1]] != held
    assert len(split_by_subject(_items(2), 0.01, 0)[1]) == 2  # never nothing: one prompt, two items
    with pytest.raises(
        UserError, match="rankings of 1 photographs or questions, expected enough to train on and to hold some back"
    ):
        split_by_subject(_items(1), 0.2, 0)


def test_a_photograph_is_on_one_side_whatever_was_asked_about_it() -> None:
    """And one question in other letters is one question."""
    shown = [ImageRef(f"{n}.png", f"{n:064x}") for n in range(8)]
    asked = [Prompt(f"{n}:{k}", (Message("user", f"{k}?", (shown[n],)),)) for n in range(8) for k in range(3)]
    asked += [Prompt(f"t{n}:{k}", (Message("user", f" {'Ww'[k]}hy  {n}?"),)) for n in range(8) for k in range(2)]
    made = [Ranking(one.id, one, ("A", "B"), (True, True), {"t": (1, 2)}, "a", (0, 1)) for one in asked]
    train, held = split_by_subject(ranked_prompts(made, ["t"]), 0.5, 0)
    sides = [{item.prompt.id.split(":")[0] for item in side} for side in (train, held)]
    assert not sides[0] & sides[1] and len(sides[0]) == len(sides[1]) == 8


def test_a_prompt_that_nobody_judged_teaches_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    rankings = [_ranking("p", ("A", "B"), t=(1, 2)), _ranking("q", ("A", "B"), t=(1, None)), _ranking("r", ("A", "B"))]
    assert [item.prompt.id for item in ranked_prompts(rankings, ["t"])] == ["p"]
    assert "2 of 3 prompts have no judged pair" in capsys.readouterr().err
    with pytest.raises(UserError, match="no rankings"):
        ranked_prompts(rankings[1:], ["t"])


def test_what_a_prompt_says_of_its_answers() -> None:
    """Those drawn as the policy draws are the first temperature's; without a word all are its own and alike."""
    ranking = _ranking("p", ("A", "B", "C", "D"), t=(1, 2, 3, 4))
    (plain,) = ranked_prompts([ranking], ["t"])
    assert (plain.own, plain.usual) == (4, [0, 1, 2, 3])
    noted = replace(ranking, prompt=replace(ranking.prompt, provenance={"temperatures": [1.0, 1.5, 1]}))
    (item,) = ranked_prompts([noted], ["t"])
    assert (item.own, item.usual) == (3, [0, 2])


@pytest.fixture
def feed(tmp_path: Path) -> Feed:
    return Feed(tiny.text_model(tmp_path), tmp_path, tmp_path / "cache")


def test_answers_have_their_places_in_the_grid(feed: Feed) -> None:
    items = ranked_prompts(
        [
            _ranking("p", ("A", "BB"), t=(1, 2), u=(2, 1)),
            _ranking("q", ("C", "DD", "EEE"), t=(3, 1, 2), u=(1, None, 1)),
        ],
        ["t", "u"],
    )
    batches = RankingBatches(feed, items, 2, 200, 0)
    batch = batches.batch([1, 0])
    assert batch.places.tolist() == [[0, 0], [0, 1], [0, 2], [1, 0], [1, 1]]
    texts = [feed.renderer.decode(ids) for ids in batch.packed.ids.split(batch.packed.lengths)]
    assert [text.split("\n")[-1] for text in texts] == ["C", "DD", "EEE", "A", "BB"]
    assert all(int(ids[-1]) == feed.renderer.end_id for ids in batch.packed.ids.split(batch.packed.lengths))
    scores = torch.tensor([[1.0, -1.0], [2.0, -2.0], [3.0, -3.0], [4.0, -4.0], [5.0, -5.0]])
    grid = batch.grid(scores)
    assert grid[..., 0].tolist() == [[1, 2, 3], [4, 5, 0]] and grid[..., 1].tolist() == [[-1, -2, -3], [-4, -5, 0]]
    assert _equal(batch.targets[1, :, :, 0], [[NAN, 1, NAN], [0, NAN, NAN], [NAN, NAN, NAN]])
    assert _equal(batch.targets[0, :, :, 1], [[NAN, NAN, 0.5], [NAN, NAN, NAN], [0.5, NAN, NAN]])
    assert float(batch.pair_weights[1, :2, :2, 0].sum()) == 2


def test_the_loss_of_a_grid_by_hand(feed: Feed) -> None:
    """A prompt of two answers beside one of three: log(1 + e^-margin) of each pair, each prompt's mean."""
    items = ranked_prompts([_ranking("p", ("A", "B"), t=(1, 2)), _ranking("q", ("C", "D", "E"), t=(3, 1, 2))], ["t"])
    batch = RankingBatches(feed, items, 2, 200, 0).batch([0, 1])
    scores = torch.tensor([[0.3], [1.0], [0.5], [2.0], [-1.0]], requires_grad=True)
    loss = soft_bradley_terry(batch.grid(scores), batch.targets, pair_weights=batch.pair_weights)

    def lost(winner: float, loser: float) -> float:
        return math.log1p(math.exp(loser - winner))

    three = (lost(2.0, 0.5) + lost(2.0, -1.0) + lost(-1.0, 0.5)) / 3
    assert loss.sum.item() == pytest.approx(lost(0.3, 1.0) + three, abs=1e-6) and float(loss.count) == 2
    loss.sum.backward()
    assert scores.grad is not None and float(scores.grad.abs().min()) > 0


def test_every_prompt_once_an_epoch(feed: Feed) -> None:
    items = _items(6, 1)
    batches = RankingBatches(feed, items, 2, 200, 3)
    assert batches.steps_per_epoch == 3

    def prompts(step: int) -> list[str]:
        (batch,) = batches(step)
        texts = [feed.renderer.decode(ids) for ids in batch.packed.ids.split(batch.packed.lengths)]
        return sorted({text.split("about ")[1].split("?")[0] for text in texts})

    first = [prompts(step) for step in range(3)]
    assert sorted(sum(first, [])) == [f"p{n}" for n in range(6)]
    assert [prompts(step) for step in range(3, 6)] != first and [prompts(step) for step in range(3)] == first
    uneven = RankingBatches(feed, _items(7, 1), 2, 200, 3)
    assert uneven.steps_per_epoch == 3  # what does not fill a batch waits for another epoch
    assert {len(uneven(step)[0].targets) for step in range(9)} == {2}


def test_answers_that_were_cut_or_empty(feed: Feed) -> None:
    asked = Prompt("p", (Message("user", "?"),))
    ranking = Ranking("r", asked, ("", "x" * 400, "ok"), (False, True, True), {"t": (3, 2, 1)}, "a", (0, 1, 2))
    length = len(feed.renderer.prompt(asked.messages).ids)
    batch = RankingBatches(feed, ranked_prompts([ranking], ["t"]), 1, length + 10, 0).batch([0])
    assert batch.packed.lengths == (length, length + 10, length + 3)
    ends = [int(ids[-1]) == feed.renderer.end_id for ids in batch.packed.ids.split(batch.packed.lengths)]
    assert ends == [False, False, True]
    with pytest.raises(UserError, match=f"prompt p: {length} tokens, expected under cutoff_len={length + 1}"):
        RankingBatches(feed, ranked_prompts([ranking], ["t"]), 1, length + 1, 0)
