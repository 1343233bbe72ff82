"""What is measured on is not learned from, and what one model did is not shown as another's."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from bessemer.data.dataset import Dataset
from bessemer.models.model import Model
from bessemer.report.outputs import ModelOutputs
from bessemer.report.saved import read_outputs
from bessemer.rollout.collect import Answer
from bessemer.stages import evaluate, grpo, ppo, rounds
from stages.test_evaluate import config, report_of

MODELS = ("base", "sft", "ppo", "student", "shuffled")


def outputs(out: Path, name: str) -> ModelOutputs:
    return read_outputs(out / "evaluate" / "outputs" / "models" / name)


def test_the_held_out_prompts_are_what_is_evaluated(shop: Path, tmp_path: Path) -> None:
    evaluate.run(config(shop, tmp_path, sft=str(shop / "sft"), max_test=1, response_length=2))
    ids = [prompt.id for prompt in Dataset(shop / "import").prompts("heldout")]
    assert [answer.id for answer in outputs(tmp_path, "sft").prompts] == ids[:3]


def test_a_probe_learns_nothing_of_the_labels_that_it_is_tested_on(shop: Path, tmp_path: Path) -> None:
    """With the labels of every test photograph turned round it says what it said."""
    shutil.copytree(shop / "import", tmp_path / "turned")
    path = tmp_path / "turned" / "examples.jsonl"
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    other = {"good": "scratched", "scratched": "good"}
    for row in rows:
        if row["split"] == "test":
            row["labels"] = {name: other[value] for name, value in row["labels"].items()}
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    found = []
    for dataset in (shop / "import", tmp_path / "turned"):
        settled = {"dataset": str(dataset), "probe": str(shop / "tiny-tower"), "max_test": 0}
        evaluate.run(config(shop, tmp_path / dataset.name, **settled))
        found.append(outputs(tmp_path / dataset.name, "probe").answers)
    assert [one.truth for one in found[0]] == [other[str(one.truth)] for one in found[1]] and len(found[0]) > 4
    assert [(one.id, one.probability) for one in found[0]] == [(one.id, one.probability) for one in found[1]]


@pytest.mark.parametrize("stage", [ppo, grpo], ids=["ppo", "grpo"])
def test_a_policy_learns_from_its_own_prompts_and_is_watched_on_the_held_out_ones(
    stage: Any, shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A round with room for every prompt of both files."""
    learned: list[str] = []
    watched: list[str] = []
    sample, gold = stage.fresh_answers, rounds.gold_means

    def sampled(sampler: Any, feed: Any, prompts: Any, *rest: Any) -> list[Answer]:
        learned.extend(prompt.id for prompt in prompts)
        answers: list[Answer] = sample(sampler, feed, prompts, *rest)
        return answers

    def judged(judge: Any, answers: Sequence[Answer]) -> dict[str, float]:
        watched.extend(answer.prompt.id for answer in answers)
        return gold(judge, answers)

    monkeypatch.setattr(stage, "fresh_answers", sampled)
    monkeypatch.setattr(rounds, "gold_means", judged)
    own, heldout = ([prompt.id for prompt in Dataset(shop / "import").prompts(name)] for name in ("ppo", "heldout"))
    given = {"model_name_or_path": "sft", "reward_model": "reward", "dataset": "import"}
    paths = {name: str(shop / folder) for name, folder in given.items()}
    size = {"total_steps": 1, "batch_size_prompts": len(own) + len(heldout), "response_length": 2, "eval_steps": 1}
    of = {"num_ppo_epochs": 1} if stage is ppo else {"num_generations": 2}
    stage.run(stage.Config(**paths, **size, **of, dtype="fp32", output_dir=str(tmp_path / "out")))
    assert set(learned) == set(own) and len(learned) > len(own)
    assert watched == 2 * heldout and not set(own) & set(heldout)  # before the round and behind the last


def test_every_row_and_every_curve_is_of_its_own_model(
    shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Five models in folders of their own, each with a reward of its own."""
    asked: dict[str, Path] = {}

    def told(name: str, model: Model, *_: Any, **__: Any) -> ModelOutputs:
        asked[name] = model.source
        return ModelOutputs(name)

    for index, name in enumerate(MODELS):
        shutil.copytree(shop / "sft" / "model", tmp_path / name / "model")
        (tmp_path / name / "metrics.jsonl").write_text(json.dumps({"step": 1, "reward": index}) + "\n")
    monkeypatch.setattr(evaluate, "language_outputs", told)
    evaluate.run(config(shop, tmp_path, **{name: str(tmp_path / name) for name in MODELS}))
    assert asked == {name: tmp_path / name / "model" for name in MODELS}
    curves = report_of(tmp_path)["ppo"]
    assert (curves["curves"]["reward"], curves["control_curves"]["reward"]) == ([[1, 2]], [[1, 4]])
