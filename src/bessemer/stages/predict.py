"""Ask a model one question, with or without photographs."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from bessemer.config import Artifact
from bessemer.data.images import image_ref
from bessemer.data.records import Message, Prompt
from bessemer.distributed import Mesh
from bessemer.errors import UserError
from bessemer.models.feed import Feed
from bessemer.models.model import ADAPTER, load_model
from bessemer.models.precision import Precision, Weights, beside_eight_bits
from bessemer.rollout.collect import sample_answers, stream_answer
from bessemer.rollout.sampler import Sampling, sampler_for
from bessemer.stages.begin import cache_directory

__all__ = ["Config", "run"]


@dataclass
class Config:
    POSITIONAL: ClassVar[tuple[str, ...]] = ("question",)

    question: str = ""
    """What to ask."""
    model: Artifact = Artifact("")
    """Model directory, such as runs/solar/distill/model."""
    image: list[str] = field(default_factory=list)
    """Photograph, or several."""
    system_prompt: str | None = None
    """System message; none: the one the model was trained with."""
    response_length: int = 96
    """Longest answer in tokens."""
    temperature: float = 0.0
    """Sampling temperature; 0: the most likely answer."""
    top_k: int = 0
    """Draw from this many most likely tokens; 0: from all."""
    top_p: float = 1.0
    """Draw from the fewest most likely tokens that together have this probability; 1: from all."""
    min_p: float = 0.0
    """Draw from tokens with at least this fraction of the most likely one's probability; 0: from all."""
    repetition_penalty: float = 1.0
    """Above 1, tokens of question and answer become less likely to be said again; 1: no penalty."""
    stop: list[str] = field(default_factory=list)
    """Text, or several, before which the answer ends."""
    stream: bool | None = None
    """Print the answer while it is being made; null: where the output is a terminal."""
    dtype: Precision = "auto"
    """Type of weights and activations: bf16, fp32, or auto: bf16 where the device multiplies it."""
    weights: Weights = ""
    """Weights that make the answer: int8 (on a CPU, with bf16) is faster, and less true to the model; empty: those of
    dtype."""
    seed: int = 0
    """Seed of sampling."""


def run(config: Config) -> Path:
    """Print the answer; returns the model's directory."""
    if not config.model or not config.question:
        raise UserError(
            'expected --model DIR and a question: bessemer predict --model DIR --image FILE "What is wrong?"'
        )
    device, dtype = Mesh.start().device, config.dtype
    if config.weights == "int8":
        dtype = beside_eight_bits(dtype, device)
    if config.response_length < 1:
        raise UserError(f"response_length={config.response_length}, expected at least 1 token")
    sampling = Sampling(
        config.response_length,
        config.temperature,
        config.top_k,
        config.top_p,
        config.seed,
        min_p=config.min_p,
        repetition_penalty=config.repetition_penalty,
        stop=tuple(config.stop),
    )
    images = tuple(image_ref(Path(path)) for path in config.image)
    model = load_model(config.model, dtype, device)
    if images and model.facts.kind == "text":
        raise UserError("this model reads text only, expected no --image")
    feed = Feed(model, Path.cwd(), cache_directory(), config.system_prompt)
    prompt = Prompt("question", (Message("user", config.question, images),))
    sampler = sampler_for(model, ADAPTER if model.lora is not None else None, config.weights == "int8")
    if config.stream if config.stream is not None else sys.stdout.isatty():
        for text in stream_answer(sampler, feed, prompt, sampling):
            print(text, end="", flush=True)
        print()
    else:
        print(sample_answers(sampler, feed, [prompt], sampling)[0].text)
    return model.source
