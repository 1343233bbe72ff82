"""What an image costs in fine-tuning: conversations about photographs, or the same number of tokens of text alone.

    python benchmarks/vision.py images|text --model DIR --json FILE [--tower DIR] [--batch N] [--steps N]

The tower is frozen and the features of its images are computed before anything is timed, as the stage `sft` does once
for all epochs; adapters learn in both cases, the projector where there is an image. `text` has the very sequences of
`images` with a word in the place of each visual token.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from arithmetic import LORA_RANK
from PIL import Image

from bessemer.algos.head import linear_logprobs
from bessemer.algos.masked import Loss
from bessemer.data.batches import TextBatch, text_batch
from bessemer.data.images import image_ref
from bessemer.data.records import Message
from bessemer.data.render import Rendered
from bessemer.distributed import Mesh
from bessemer.memory import keep_memory
from bessemer.models.convert import obtain_model
from bessemer.models.feed import Feed
from bessemer.models.model import Model, attach_vision, load_model
from bessemer.models.tuning import tune_language, tune_projector
from bessemer.models.vision import Tower
from bessemer.training.conversations import answer_loss
from bessemer.training.optim import Group, adamw
from bessemer.training.step import optimiser_step

CUTOFF, LORA_ALPHA, LEARNING_RATE, GRID = 512, 32.0, 2e-4, 2
FIRST_TOKEN = 3
QUESTION = "Look at this photograph. What is to be seen in it, and is anything there that has to be repaired?"
ANSWER = "A plain surface of one colour, about {0} of 255 bright in its red, without a crack and without a break. "
REPEATS = 2
"""Sentences of an answer: with SmolLM2 a sample then has about as many tokens as one of alpaca.py."""


def photographs(folder: Path, count: int) -> list[Path]:
    """Pictures of which no two are equal."""
    draw = random.Random(0)
    made = []
    for number in range(count):
        path = folder / f"{number}.png"
        Image.new("RGB", (64, 64), (number % 256, draw.randrange(256), draw.randrange(256))).save(path)
        made.append(path)
    return made


def conversations(feed: Feed, pictures: Sequence[Path]) -> list[Rendered]:
    """One question about each picture, with its answer; the pictures' features are computed here."""
    turns = []
    for number, path in enumerate(pictures):
        asked = Message("user", QUESTION, (image_ref(path, feed.root),))
        turns.append((asked, Message("assistant", ANSWER.format(number % 256) * REPEATS)))
    feed.prepare(turns)
    return [feed.renderer.conversation(messages, CUTOFF) for messages in turns]


def as_text(rendered: Rendered, vocabulary: int, seed: int) -> Rendered:
    """The same sequence with words in the places of its visual tokens."""
    draw, ids = random.Random(seed), list(rendered.ids)
    for place in rendered.image_places:
        ids[place] = draw.randrange(FIRST_TOKEN, vocabulary)
    return replace(rendered, ids=tuple(ids), image_places=(), images=())


def batches(model: Model, feed: Feed, options: argparse.Namespace) -> list[TextBatch]:
    """Batches of one step each, the uncounted first one among them."""
    count = options.batch * (1 + options.steps)
    sequences = conversations(feed, photographs(feed.root, count))
    if options.work == "text":
        vocabulary = model.backbone.head.shape[0]
        sequences = [as_text(rendered, vocabulary, seed) for seed, rendered in enumerate(sequences)]
    parts = [sequences[k : k + options.batch] for k in range(0, count, options.batch)]
    return [text_batch(part, feed.inputs(part)) for part in parts]


def train(model: Model, steps: Sequence[TextBatch], learns: dict[str, torch.nn.Parameter]) -> tuple[float, list[float]]:
    """Seconds of all steps but the first, and their losses."""
    optimiser = adamw([Group(learns, LEARNING_RATE)])

    def loss_of(batch: TextBatch) -> Loss:
        hidden = model.backbone.hidden(batch.packed)[batch.rows]
        return answer_loss(linear_logprobs(hidden, model.backbone.head, batch.targets)[0], batch, [""])

    began, curve = 0.0, []
    for step, batch in enumerate(steps):
        began = time.perf_counter() if step == 1 else began
        curve.append(optimiser_step(optimiser, learns.values(), [batch], loss_of, 1.0).loss)
    return time.perf_counter() - began, curve[1:]


def measure(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Measure one of the two works; the JSON is that of `bessemer bench`, with the seconds of the features beside."""
    model = load_model(str(options.model), options.dtype, Mesh.start().device)
    attach_vision(model, Tower.load(obtain_model(options.tower)).eval(), GRID)
    feed = Feed(model, folder, folder)
    began = time.perf_counter()
    steps = batches(model, feed, options)
    before = time.perf_counter() - began
    learns = tune_language(model, "lora", lora_rank=LORA_RANK, lora_alpha=LORA_ALPHA)
    if options.work == "images":
        learns |= tune_projector(model)
    elapsed, curve = train(model, steps, learns)
    tokens = sum(len(batch.packed.ids) for batch in steps[1:])
    samples = options.steps * options.batch
    return {
        "work": f"vision {options.work}",
        "model": str(options.model),
        "dtype": options.dtype,
        "threads": torch.get_num_threads(),
        "batch": options.batch,
        "tokens": tokens,
        "tokens_per_second": tokens / elapsed,
        "samples_per_second": samples / elapsed,
        "seconds_per_step": elapsed / options.steps,
        "seconds": {"rollout": 0.0, "reward": 0.0, "reference": 0.0, "train": elapsed},
        "features_seconds": before if options.work == "images" else 0.0,
        "peak_rss_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9,
        "loss": curve,
        "versions": {"torch": torch.__version__},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", choices=("images", "text"))
    parser.add_argument("--model", type=Path, required=True, help="Hugging Face directory of a language model")
    parser.add_argument("--tower", default="efficientnet_lite0", help="vision tower (%(default)s)")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--steps", type=int, default=10, help="optimiser steps that are counted (%(default)s)")
    parser.add_argument("--dtype", default="bf16", choices=("bf16", "fp32"))
    parser.add_argument("--json", type=Path, required=True, help="file to write")
    options = parser.parse_args()
    keep_memory()
    with tempfile.TemporaryDirectory() as folder:
        result = measure(options, Path(folder))
    options.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
