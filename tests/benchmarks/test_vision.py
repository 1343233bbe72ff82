"""Images against text: the same tokens, the same targets; a step of each, and the work of the roofline."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest
import torch
import vision
from arithmetic import Peak, Rows, Work
from roofline import computed, numbers, reinforcing, sampling
from shapes import Shape

import tiny
from bessemer.data.batches import TextBatch
from bessemer.models.feed import Feed
from bessemer.models.model import Model
from bessemer.models.tuning import tune_language

SMALL = Shape("llama", layers=1, width=4, inner=8, heads=2, kv_heads=1, head_dim=2, vocabulary=10)
SLOW = Peak(gflops=1e-9, gbs=1e9)  # a second an operation


def batches(model: Model, folder: Path, work: str) -> list[TextBatch]:
    options = argparse.Namespace(work=work, batch=2, steps=1)
    return vision.batches(model, Feed(model, folder, folder), options)


def test_text_has_the_tokens_and_targets_of_images(tmp_path: Path) -> None:
    model = tiny.composed_model(tmp_path)
    images, text = batches(model, tmp_path, "images"), batches(model, tmp_path, "text")
    assert len(images) == len(text) == 2
    for seen, told in zip(images, text, strict=True):
        assert seen.packed.lengths == told.packed.lengths
        assert torch.equal(seen.rows, told.rows) and torch.equal(seen.targets, told.targets)
        assert len(seen.packed.image_rows) == 2 * 5 and not len(told.packed.image_rows)
        assert "features" in seen.packed.model_inputs and not told.packed.model_inputs  # no pixels: the cache
        changed = (seen.packed.ids != told.packed.ids).nonzero()[:, 0].tolist()
        assert set(changed) <= set(seen.packed.image_rows.tolist())
        # no beginning is shared that the other does not share, too
        assert computed(seen.packed, 0).tokens == computed(told.packed, 0).tokens


@pytest.mark.parametrize("work", ["images", "text"])
def test_a_step_learns(tmp_path: Path, work: str) -> None:
    model = tiny.composed_model(tmp_path)
    elapsed, curve = vision.train(model, batches(model, tmp_path, work), tune_language(model, "lora"))
    assert elapsed > 0 and len(curve) == 1 and curve[0] > 0


def test_what_sequences_begin_with_is_counted_once() -> None:
    packed = tiny.packed([4, 4])
    packed.ids[4:6] = packed.ids[:2]  # two tokens in common, then two of each
    packed.ids[6] = (packed.ids[2] - 3 + 1) % 200 + 3
    assert computed(packed, 5) == Rows(tokens=6, pairs=1 + 2 + 3 + 4 + 3 + 4, heads=5)


def test_options_of_a_comparison() -> None:
    assert numbers("--batch 8 --new-tokens 64") == {"batch": 8, "new-tokens": 64}


def test_the_least_of_sampling_by_hand() -> None:
    # two prompts of one token: (2 * 144 + 16 + 80) each; then a step of two rows that see two: 2 * 184 * 2 + 16 * 4
    asked = {"batch": 2, "prompt-tokens": 1, "new-tokens": 2}
    assert sampling(SMALL, asked, SLOW) == pytest.approx(2 * 384 + 736 + 64)


def test_the_least_of_a_round_by_hand() -> None:
    asked = {"batch": 2, "prompt-tokens": 1, "new-tokens": 2}
    rolled = sampling(SMALL, asked, SLOW)
    # GRPO: one prompt for both; it is read once (384), and trained on once: 3 tokens, pairs 1 + 2 + 2, 4 predictions
    shared = 384 + 736 + 64 + (576 + 6144) * 3 + 4 * 40 * 4 + 3 * 16 * 5
    assert reinforcing(SMALL, asked | {"group": 2}, SLOW) == pytest.approx(shared)
    # PPO: two prompts, 4 tokens and pairs 2 * (1 + 2); the reference predicts 4, the reward model reads 6 tokens
    epoch = (576 + 6144) * 4 + 4 * 40 * 4 + 3 * 16 * 6
    reference, reward = 288 * 4 + 80 * 4 + 16 * 6, (288 + 2048) * 6 + 16 * 12
    assert reinforcing(SMALL, asked | {"epochs": 3}, SLOW) == pytest.approx(rolled + 3 * epoch + reference + reward)
    assert Work(1, 2) + Work(3, 4) == Work(4, 6)
