"""A pretrained vision-language model (a tiny random LLaVA) through the stages: sft, reward, ppo."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from PIL import Image

import tiny
from bessemer.data.images import image_ref
from bessemer.data.records import Conversation, ImageRef, Message, Prompt, Ranking, write_records
from bessemer.models.feed import Feed
from bessemer.models.model import load_model
from bessemer.stages import ppo, reward, sft


def _records(root: Path) -> Path:
    """Six noisy photographs; talks, prompts and rankings about them, one of each without a picture."""
    root.mkdir()
    images: list[ImageRef] = []
    for number in range(6):
        noise = torch.randint(0, 256, (9 + number, 12, 3), generator=torch.Generator().manual_seed(number))
        Image.fromarray(noise.to(torch.uint8).numpy()).save(root / f"{number}.png")
        images.append(image_ref(root / f"{number}.png", root))
    asked = [Message("user", f"有裂纹吗？ {n}", (image,)) for n, image in enumerate(images)]
    asked.append(Message("user", "No picture."))
    told = [(message, Message("assistant", "是。" if n % 2 else "no")) for n, message in enumerate(asked)]
    write_records(root / "train.jsonl", [Conversation(f"c{n}", turns, "defect") for n, turns in enumerate(told)])
    prompts = [Prompt(f"p{n}", (message,)) for n, message in enumerate(asked)]
    write_records(root / "ppo.jsonl", prompts)
    write_records(root / "heldout.jsonl", prompts[:2])
    answers = ("yes", "no, 没有", "I")
    write_records(
        root / "rankings.jsonl",
        [
            Ranking(
                f"r{n}",
                p,
                answers,
                (True, True, False),
                {"truthfulness": (1 + n % 2, 2 - n % 2, 3)},
                "rules",
                (0, 1, 2),
            )
            for n, p in enumerate(prompts)
        ],
    )
    return root


def _rows(directory: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]


def test_fine_tuned_rewarded_and_optimised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BESSEMER_CACHE", str(tmp_path / "cache"))
    base = tiny.vision_language_model(tmp_path / "llava")
    data = _records(tmp_path / "data")
    tuned = sft.run(
        sft.Config(
            model_name_or_path=str(base), dataset=str(data), max_steps=2, per_device_train_batch_size=4,
            dtype="fp32", output_dir=str(tmp_path / "sft"),
        )
    )  # fmt: skip
    first, second = _rows(tuned)
    assert 3 < first["loss"] < 8 and second["loss"] != first["loss"] and first["gradient_norm"] > 0
    model = load_model(str(tuned), "fp32")
    assert model.facts.kind == "vlm" and model.lora is not None
    # image and language alike: the adapter reaches both sides, and something was learned on each
    for side in ("vision_tower", "language_model"):
        ups = [up for name, up in zip(model.lora.shapes, model.lora.factors("sft").up, strict=True) if side in name]
        assert ups and any(float(up.abs().max()) > 0 for up in ups), side
    ranked = reward.run(
        reward.Config(
            model_name_or_path=str(tuned), rankings=str(data / "rankings.jsonl"), dataset=str(data),
            num_train_epochs=1.0, per_device_train_batch_size=3, dtype="fp32", output_dir=str(tmp_path / "reward"),
        )
    )  # fmt: skip
    assert len((ranked / "pairs.jsonl").read_text().splitlines()) == 3  # one prompt held back, three pairs
    better = ppo.run(
        ppo.Config(
            model_name_or_path=str(tuned), reward_model=str(ranked), dataset=str(data), total_steps=2,
            batch_size_prompts=7, mini_batch_size=4, num_ppo_epochs=1, response_length=6, eval_steps=2,
            dtype="fp32", output_dir=str(tmp_path / "ppo"),
        )
    )  # fmt: skip
    start, after = _rows(better)
    assert start["kl/k1"] == start["kl/k3"] == start["kl/exact"] == 0.0
    assert start["updates"] == 2 and start["ratio"] == pytest.approx(1.0, abs=0.2) and start["length"] > 1
    assert after["kl/exact"] > 0 and "gold/fluency" in start
    optimised = load_model(str(better), "fp32")
    feed = Feed(optimised, data, tmp_path / "cache")
    rendered = feed.renderer.prompt([Message("user", "有裂纹吗？", (image_ref(data / "0.png", data),))])
    with torch.no_grad():
        states = [m.backbone.hidden(feed.pack([rendered])) for m in (optimised, model)]
    assert float((states[0] - states[1]).abs().max()) > 1e-4


def test_trained_in_full_in_bfloat16(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BESSEMER_CACHE", str(tmp_path / "cache"))
    base = tiny.vision_language_model(tmp_path / "llava")
    tuned = sft.run(
        sft.Config(
            model_name_or_path=str(base), dataset=str(_records(tmp_path / "data")), finetuning_type="full",
            max_steps=1, per_device_train_batch_size=4, output_dir=str(tmp_path / "sft"),
        )
    )  # fmt: skip
    (row,) = _rows(tuned)
    assert 3 < row["loss"] < 8 and row["gradient_norm"] > 0
    before, after = load_model(str(base)), load_model(str(tuned))
    moved = [
        not torch.equal(a, b) for a, b in zip(before.backbone.parameters(), after.backbone.parameters(), strict=True)
    ]
    assert sum(moved) > len(moved) / 2
