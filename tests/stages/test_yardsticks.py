"""What a reward model is measured beside is fitted where the model is, and its pairs say what they are about."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from bessemer.data.records import ImageRef, Message, Prompt, Ranking
from bessemer.stages import reward
from bessemer.stages.reward import held_pairs
from bessemer.training.rankings import RankedPrompt, ranked_prompts
from stages.test_reward import config, pairs, rankings

LONGER, SHORTER = "aa bb bb cc", "aa"


def ranked(name: str, ranks: tuple[int, int]) -> RankedPrompt:
    """A question about a photograph of its own with a longer answer and a shorter one."""
    prompt = Prompt(name, (Message("user", f"{name}?", (ImageRef(f"{name}.png", name * 32),)),))
    made = Ranking(name, prompt, (LONGER, SHORTER), (True, True), {"truthfulness": ranks}, "Li", (0, 1))
    (found,) = ranked_prompts([made], ["truthfulness"])
    return found


def test_baselines_are_fitted_on_what_the_reward_model_learned_from() -> None:
    """Where it learned the longer answer wins, and among the held-out pairs the shorter one."""
    train, held = [ranked(f"a{i}", (1, 2)) for i in range(4)], [ranked(f"b{i}", (2, 1)) for i in range(4)]
    rows = held_pairs(train, held, [torch.zeros(2, 1)] * 4, ["truthfulness"])
    assert len(rows) == 4 and all(row.target == 0 for row in rows)
    assert all((row.length_margin or 0) > 0 and (row.bag_of_words_margin or 0) > 0 for row in rows)


def test_a_held_out_pair_says_which_photograph_it_is_about() -> None:
    train, held = [ranked("a0", (1, 2))], [ranked("b0", (2, 1)), ranked("b1", (1, 2))]
    rows = held_pairs(train, held, [torch.zeros(2, 1)] * 2, ["truthfulness"])
    assert [row.prompt for row in rows] == ["b0", "b1"]
    assert [row.subject for row in rows] == [item.subject for item in held]
    assert not {row.subject for row in rows} & {row.prompt for row in rows}


def test_a_reward_model_is_trained_as_the_recipe_says(
    texts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a model without an adapter, of which it makes one."""
    warmups: list[float] = []
    monkeypatch.setattr(reward, "fit", lambda *_, warmup_ratio, **__: warmups.append(warmup_ratio))
    settings = {"validation_share": 0.4, "lora_rank": 3, "lora_alpha": 6.0, "warmup_ratio": 0.3}
    out = reward.run(config(texts, rankings(tmp_path / "rankings.jsonl"), tmp_path / "reward", **settings))
    assert warmups == [0.3] and len({row["prompt"] for row in pairs(out)}) == 8  # of 20
    adapter = json.loads((out / "model" / "adapter" / "adapter_config.json").read_text())
    assert (adapter["r"], adapter["lora_alpha"]) == (3, 6.0)
