"""What the online stages have in common."""

from __future__ import annotations

import gc
import weakref
from pathlib import Path

import tiny
from bessemer.data.records import Message, Prompt
from bessemer.models.feed import Feed
from bessemer.rollout.decoder import Decoder
from bessemer.rollout.sampler import DecoderSampler, Sampling
from bessemer.stages.rounds import fresh_answers


def test_what_samples_makes_room_for_what_learns(tmp_path: Path) -> None:
    model = tiny.text_model(tmp_path)
    sampler = DecoderSampler(model, None)
    copy: weakref.ref[Decoder] = weakref.ref(sampler.decoder)
    prompts = [Prompt("a", (Message("user", "Who is there?"),))]
    answers = fresh_answers(sampler, Feed(model, tmp_path, tmp_path), prompts, Sampling(3, 0.0), copies=2)
    gc.collect()
    assert len(answers) == 2 and copy() is None
    assert sampler.__dict__["_decoder"] is None
