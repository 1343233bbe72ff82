"""A wish that is easily taught and counted: answers that end with a vowel."""

from __future__ import annotations

import json
import random
from pathlib import Path

from bessemer.data.dataset import Dataset
from bessemer.data.records import Message, Prompt, Ranking, write_records
from bessemer.models.feed import Feed
from bessemer.models.model import ADAPTER, load_model
from bessemer.rollout.collect import sample_answers
from bessemer.rollout.sampler import Sampling, sampler_for
from bessemer.stages import reward


def make_vowels(texts: Path, folder: Path) -> Path:
    """A dataset of short questions, and a reward model that likes answers whose last letter is a vowel."""
    draw = random.Random(0)
    for name in ("ppo", "heldout"):
        asked = [Prompt(f"{name}{i}", (Message("user", f"{i}{'!' if name == 'ppo' else '.'}"),)) for i in range(10)]
        write_records(folder / f"{name}.jsonl", asked)
    ranked = []
    for index in range(48):
        prompt = Prompt(f"p{index}", (Message("user", f"{index}?"),))
        answers = tuple("".join(draw.choice("abcdefghijklmnopqrstuvwxyz ,.") for _ in range(6)) for _ in range(4))
        ranks = {"truthfulness": tuple(1 if answer[-1] in "aeiou" else 2 for answer in answers)}
        ranked.append(Ranking(prompt.id, prompt, answers, (False,) * 4, ranks, "made up", (0, 1, 2, 3)))
    write_records(folder / "rankings.jsonl", ranked)
    out = reward.run(
        reward.Config(
            model_name_or_path=str(texts / "sft"),  # type: ignore[arg-type]
            rankings=str(folder / "rankings.jsonl"),  # type: ignore[arg-type]
            dataset=str(folder),  # type: ignore[arg-type]
            dtype="fp32",
            num_train_epochs=4.0,
            learning_rate=1e-2,
            head_learning_rate=1e-2,
            lora_rank=4,
            output_dir=str(folder / "reward"),
        )
    )
    assert json.loads((out / "manifest.json").read_text())["summary"]["accuracy/truthfulness"] > 0.95
    return folder


def wanted_share(directory: Path, folder: Path) -> float:
    """Share of 120 answers of a model that end with a vowel."""
    model = load_model(str(directory), "fp32")
    prompts = Dataset(folder).prompts("heldout")
    sampler = sampler_for(model, ADAPTER if model.lora is not None else None)
    answers = sample_answers(sampler, Feed(model, folder, folder), prompts, Sampling(6, seed=9), 12, 120)
    return sum(answer.text[-1:] in list("aeiou") for answer in answers) / len(answers)


def metrics(out: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
