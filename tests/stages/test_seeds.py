"""Seeds and options of annotators count: another seed draws other numbers, and what is asked for is what is done."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bessemer.data.records import Ranking, write_records
from bessemer.report.saved import read_outputs
from bessemer.rollout.collect import Answer, sample_answers
from bessemer.stages import evaluate, rank
from stages import test_evaluate
from stages.test_rank import config, rankings


def test_another_seed_draws_other_answers_to_the_held_out_prompts(texts: Path, tmp_path: Path) -> None:
    said = []
    for seed, folder in ((0, "a"), (1, "b"), (1, "c")):
        evaluate.run(test_evaluate.config(texts, tmp_path / folder, sft=str(texts / "sft"), seed=seed))
        found = read_outputs(tmp_path / folder / "evaluate" / "outputs" / "models" / "sft")
        said.append([(answer.id, answer.text) for answer in found.prompts])
    assert said[0] != said[1] == said[2]
    assert [one for one, _ in said[0]] == [one for one, _ in said[1]]


def test_another_seed_draws_other_answers_to_rank(shop: Path, tmp_path: Path) -> None:
    said = []
    for seed, folder in ((0, "a"), (1, "b"), (1, "c")):
        out = rank.run(config(shop, tmp_path / folder, seed=seed))
        said.append([one.responses for one in rankings(out, "answers.jsonl")])
    assert said[0] != said[1] == said[2]


@pytest.mark.parametrize("kind", ["borrowed_answers", "flawed_answers"])
def test_another_seed_adds_other_answers(
    kind: str, shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To answers that are the same whatever the seed."""

    def sampled(*arguments: Any) -> list[Answer]:
        answers = sample_answers(*arguments)
        return [replace(one, text=f"Answer {i} to {one.prompt.id}, all of it.") for i, one in enumerate(answers)]

    monkeypatch.setattr(rank, "sample_answers", sampled)
    own: list[Sequence[tuple[str, ...]]] = []
    added: list[Sequence[tuple[str, ...]]] = []
    for seed in (0, 1):
        found = rankings(rank.run(config(shop, tmp_path / str(seed), seed=seed, **{kind: 1})), "answers.jsonl")
        own.append([one.responses[:3] for one in found])
        added.append([one.responses[3:] for one in found])
    assert own[0] == own[1] and added[0] != added[1] and any(added[0])


def test_simulated_annotators_have_the_noise_and_the_seed_of_the_recipe(shop: Path, tmp_path: Path) -> None:
    """Without noise it ranks as the rules do; another seed gives other noise, and what it hides is called equal."""
    simulated = {"rankers": ["rules", "simulated"], "simulated_noise": [0.0, 3.0], "response_length": 12}
    first = rank.run(config(shop, tmp_path / "first", **simulated))
    given = {"answers": str(first), "seed": 1}  # the same answers again
    found = [rankings(first), rankings(rank.run(config(shop, tmp_path / "second", **simulated, **given)))]
    ranks = [{one.annotator: [] for one in some} for some in found]
    for made, some in zip(ranks, found, strict=True):
        for one in some:
            made[one.annotator].append(one.ranks)
    rules, quiet, loud = ranks[0].values()
    assert rules == quiet != loud and list(ranks[0])[1:] == ["simulated-1-noise-0", "simulated-2-noise-3"]
    assert ranks[0]["rules"] == ranks[1]["rules"] and loud != ranks[1]["simulated-2-noise-3"]
    places = [row for one in loud for row in one.values()]
    assert sum(set(row) == {1} for row in places) > len(places) / 2  # less than three times its noise apart
    assert {one.provenance["noise"] for one in found[0] if one.annotator != "rules"} == {0.0, 3.0}


def test_the_recipe_says_which_agreement_is_enough(shop: Path, tmp_path: Path) -> None:
    """Two people who are of opposite minds about one of eight prompts."""
    first = rank.run(config(shop, tmp_path / "first"))
    blank = rankings(first, "answers.jsonl")
    for name in ("a", "b"):
        write_records(tmp_path / f"{name}.jsonl", [filled(one, name, i == 0) for i, one in enumerate(blank)])
    files = [str(tmp_path / "a.jsonl"), str(tmp_path / "b.jsonl")]
    found = []
    for least in (0.4, 0.95):
        people = {"rankers": ["people"], "people_files": files, "agreement_alpha": least, "answers": str(first)}
        out = rank.run(config(shop, tmp_path / str(least), **people))
        found.append(json.loads((out / "agreement.json").read_text())["clarity"])
    enough, less = found
    assert 0.4 < enough["alpha"] == less["alpha"] < 0.95
    assert (enough["flagged"], enough["weight"]) == (False, 1.0)
    assert (less["flagged"], less["weight"]) == (True, pytest.approx(less["alpha"] / 0.95))


def filled(blank: Ranking, name: str, differing: bool) -> Ranking:
    ranks = (3, 2, 1) if differing and name == "b" else (1, 2, 3)
    return replace(blank, annotator=name, ranks={"clarity": ranks})
