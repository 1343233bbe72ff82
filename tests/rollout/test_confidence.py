from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

import tiny
from bessemer.data.records import Message, Prompt
from bessemer.models.feed import Feed
from bessemer.models.model import load_model
from bessemer.rollout.collect import sample_answers
from bessemer.rollout.confidence import confidences
from bessemer.rollout.sampler import Sampling, sampler_for


def test_confidence_is_the_mean_probability_of_transformers(tmp_path: Path) -> None:
    model = load_model(str(tiny.language_model(tmp_path / "model")), "fp32")
    feed = Feed(model, tmp_path, tmp_path)
    prompts = [Prompt(str(n), (Message("user", text),)) for n, text in enumerate(("One?", "Two, or three?", "四?"))]
    answers = sample_answers(sampler_for(model), feed, prompts, Sampling(9, 0.0))
    found = confidences(model, feed, answers)
    plain = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    for answer, confidence in zip(answers, found, strict=True):
        ids = torch.tensor([[*answer.rendered.ids, *answer.ids]])
        with torch.no_grad():
            logprobs = plain(input_ids=ids).logits[0].log_softmax(-1)
        start = len(answer.rendered.ids)
        own = [float(logprobs[start + i - 1, token]) for i, token in enumerate(answer.ids)]
        assert confidence == pytest.approx(float(torch.tensor(own).mean().exp()), rel=1e-4)
    assert confidences(model, feed, []) == []
