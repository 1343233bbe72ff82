"""Logits are states times head, whatever else a network does to them."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.testing import assert_close
from transformers import AutoModelForCausalLM, CohereConfig, Gemma2Config, GraniteConfig, PhiConfig

import tiny
from bessemer.data.records import Message, Prompt
from bessemer.models.feed import Feed
from bessemer.models.model import ADAPTER, load_model
from bessemer.models.roles import Role, Roles
from bessemer.models.tuning import tune_language
from bessemer.rollout.collect import batch_of, sample_answers
from bessemer.rollout.sampler import Sampling, sampler_for

SHAPE: dict[str, Any] = {
    "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 128, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 2,
    "initializer_range": 0.2,
}  # fmt: skip
CONFIGS = {
    "granite": lambda size: GraniteConfig(**SHAPE, vocab_size=size, logits_scaling=8.0, embedding_multiplier=3.0),
    "cohere": lambda size: CohereConfig(**SHAPE, vocab_size=size, logit_scale=0.25),
    "phi": lambda size: PhiConfig(**SHAPE | {"num_key_value_heads": 4}, vocab_size=size),
}


def _prompt(number: int) -> Prompt:
    return Prompt(f"p{number}", (Message("user", f"Say {number}."),))


def _model(directory: Path, kind: str) -> Path:
    torch.manual_seed(0)
    words = tiny.tokenizer()
    network = AutoModelForCausalLM.from_config(CONFIGS[kind](len(words)), dtype=torch.float32)
    bias = getattr(network.get_output_embeddings(), "bias", None)
    if bias is not None:
        torch.nn.init.normal_(bias)
    network.save_pretrained(directory)
    words.save_pretrained(directory)
    return directory


@pytest.mark.parametrize("kind", CONFIGS)
def test_they_are_those_of_transformers(tmp_path: Path, kind: str) -> None:
    directory = _model(tmp_path / kind, kind)
    backbone = load_model(str(directory), "fp32").backbone
    theirs = AutoModelForCausalLM.from_pretrained(directory).eval()
    packed = tiny.packed([5, 9, 2])
    with torch.no_grad():
        ours = backbone.hidden(packed) @ backbone.head.T
        expected = torch.cat([theirs(ids[None]).logits[0] for ids in packed.ids.split(packed.lengths)])
    assert float(expected.std()) > 0.1
    assert_close(ours, expected, atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", CONFIGS)
def test_who_samples_is_who_learns(tmp_path: Path, kind: str) -> None:
    """The learner's mean log-probability of many sampled tokens is minus its entropy, up to chance."""
    model = load_model(str(_model(tmp_path / kind, kind)), "fp32")
    tune_language(model, "lora", lora_rank=2)
    feed = Feed(model, tmp_path, tmp_path)
    feed.renderer.end_id = -1
    prompt = [_prompt(number) for number in range(4)]
    answers = sample_answers(sampler_for(model, ADAPTER), feed, prompt, Sampling(24, 1.0, seed=1), copies=8)
    batch = batch_of(feed, answers)
    with torch.no_grad():
        logprobs, entropy = Roles(model, {"policy": Role(ADAPTER)}).logprobs(
            "policy", batch.packed, batch.rows, batch.targets
        )
    error = float(logprobs.std()) / len(logprobs) ** 0.5
    assert abs(float(logprobs.mean() + entropy.mean())) < 4 * error < 0.5


def test_what_cannot_be_followed_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    words = tiny.tokenizer()
    config = Gemma2Config(**SHAPE, vocab_size=len(words), head_dim=8, final_logit_softcapping=30.0)
    AutoModelForCausalLM.from_config(config, dtype=torch.float32).save_pretrained(tmp_path)
    words.save_pretrained(tmp_path)
    with caplog.at_level(logging.WARNING):
        model = load_model(str(tmp_path), "fp32")
    assert "caps its logits at 30" in caplog.text
    feed = Feed(model, tmp_path, tmp_path)  # and it speaks, though its attention is not the one that others have
    answers = sample_answers(sampler_for(model), feed, [_prompt(1)], Sampling(3, 0.0))
    assert len(answers) == 1 and len(answers[0].ids) <= 3
