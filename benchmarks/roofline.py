"""The least time of one step of every comparison: its arithmetic at the peak that this machine reaches.

    python benchmarks/roofline.py --model DIR --data alpaca.json [--results FILE.json]

The work is counted from the very batches: what sequences begin with alike is counted once, answers to one prompt share
it, old log-probabilities fall out of decoding, the reward model's pass serves the value too.
"""

from __future__ import annotations

import argparse
import datetime
import json
import shlex
import tempfile
import tomllib
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import vision
from arithmetic import Peak, Rows, passing, rollout, training, triangle
from paired import PEERS, commit, machine
from peak import measured_peak
from shapes import SHAPES, Shape, read_shape

from bessemer.data.batches import Packed, pack, text_batch
from bessemer.data.readers import read_any
from bessemer.data.records import Conversation, Message
from bessemer.models.convert import obtain_model
from bessemer.models.feed import Feed
from bessemer.models.layout import layout_of
from bessemer.models.model import attach_vision, load_model
from bessemer.models.vision import Tower

__all__ = ["computed", "reinforcing", "sampling"]

RESULTS = Path(__file__).resolve().parent / "results" / "roofline.json"
CUTOFF = 512


def computed(packed: Packed, heads: int) -> Rows:
    """What a packed batch comes to, beginnings that sequences have in common counted once."""
    layout = layout_of(packed.lengths, packed.identities())
    return Rows(len(layout.first), int((layout.positions + 1).sum()), heads)


def numbers(options: str) -> dict[str, int]:
    """The options of a comparison by name: all of them are numbers."""
    words = shlex.split(options)
    return {name.strip("-"): int(value) for name, value in zip(words[::2], words[1::2], strict=True)}


def sampling(shape: Shape, asked: dict[str, int], peak: Peak) -> float:
    """Least seconds of one batch of answers; of a mix, of all requests at once."""
    count = asked.get("mix") or asked["batch"]
    limits = (
        [8 + 120 * (37 * i % 64) // 63 for i in range(count)] if asked.get("mix") else [asked["new-tokens"]] * count
    )
    return rollout(shape, [asked["prompt-tokens"]] * count, 1, limits, peak)


def reinforcing(shape: Shape, asked: dict[str, int], peak: Peak) -> float:
    """Least seconds of one round of GRPO (with "group", one pass) or PPO (with "epochs").

    The last token of an answer predicts nothing, but the reward model reads it.
    """
    prompt, new, copies = asked["prompt-tokens"], asked["new-tokens"], asked.get("group", 1)
    prompts = asked["batch"] // copies
    total = rollout(shape, [prompt] * prompts, copies, [new] * asked["batch"], peak)

    def rows(answer: int, heads: int) -> Rows:
        pairs = prompts * (triangle(prompt) + copies * triangle(answer, prompt))
        return Rows(prompts * (prompt + copies * answer), pairs, heads)

    predicting = rows(new - 1, asked["batch"] * new)
    total += asked.get("epochs", 1) * training(shape, predicting).seconds(peak)
    if "epochs" in asked:
        total += passing(shape, predicting).seconds(peak)
        total += passing(shape, rows(new, 0), adapter=True).seconds(peak)
    return total


class Counted:
    """The batches of the works that learn from data, counted. Final."""

    def __init__(self, model: Path, data: Path, folder: Path) -> None:
        self.model = load_model(str(model))
        self.folder = folder
        self.feed = Feed(self.model, folder, folder)
        self.records = [record for record in read_any(data).records if isinstance(record, Conversation)]

    def conversations(self, asked: dict[str, int]) -> list[Rows]:
        """The counted steps of sft and distill."""
        rendered = [self.feed.renderer.conversation(record.messages, CUTOFF) for record in self.records]
        size, found = asked["batch"], []
        for first in range(size, size * (1 + asked["steps"]), size):
            batch = text_batch([rendered[i % len(rendered)] for i in range(first, first + size)])
            found.append(computed(batch.packed, len(batch.rows)))
        return found

    def rankings(self, asked: dict[str, int]) -> list[Rows]:
        """Steps of the reward model; their order differs from the measured one, their mean hardly does."""
        size, group, found = asked["batch"], asked["group"], []
        answers = [record.messages[-1].text for record in self.records]
        for first in range(size, size * (1 + asked["steps"]), size):
            sequences = []
            for i in range(first, first + size):
                for k in range(group):
                    answer = Message("assistant", answers[(i + k) % len(answers)])
                    turns = (*self.records[i % len(answers)].messages[:-1], answer)
                    sequences.append(self.feed.renderer.conversation(turns, CUTOFF))
            found.append(computed(pack(sequences), 0))
        return found

    def images(self, asked: dict[str, int]) -> list[Rows]:
        """Steps of vision.py."""
        attach_vision(self.model, Tower.load(obtain_model("efficientnet_lite0")).eval(), vision.GRID)
        options = argparse.Namespace(work="images", **asked)
        steps = vision.batches(self.model, Feed(self.model, self.folder, self.folder), options)[1:]
        return [computed(batch.packed, len(batch.rows)) for batch in steps]


def least(name: str, description: dict[str, Any], shape: Shape, counted: Counted, peak: Peak) -> float:
    """Least seconds of one step of a comparison's first side."""
    asked = numbers(description["options"])
    work = name.split("-")[0]
    if work == "rollout":
        return sampling(shape, asked, peak)
    if work in ("grpo", "ppo"):
        return reinforcing(shape, asked, peak)
    counting = {"reward": counted.rankings, "vision": counted.images}.get(work, counted.conversations)
    steps: Sequence[Rows] = counting(asked)
    logits = 2 if work == "distill" else 1
    return sum(training(shape, rows, logits).seconds(peak) for rows in steps) / len(steps)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="Hugging Face directory")
    parser.add_argument("--data", type=Path, required=True, help="alpaca JSON")
    parser.add_argument("--results", type=Path, default=RESULTS, help="file (%(default)s)")
    parser.add_argument("--quick", action="store_true", help="of the tiny sizes")
    options = parser.parse_args()
    descriptions = tomllib.loads((PEERS / "comparisons.toml").read_text(encoding="utf-8"))
    peak = measured_peak(repeats=15)
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        counted = Counted(options.model, options.data, Path(folder))
        for name, description in descriptions.items():
            shape = SHAPES[description["shape"]] if "shape" in description else read_shape(options.model)
            if options.quick:
                description = description | {"options": description["quick"]}
            found[name] = least(name, description, shape, counted, peak)
    report = {"machine": machine(), "date": datetime.date.today().isoformat(), "commit": commit()}
    report |= {"peak": asdict(peak), "least_seconds_per_step": found}
    options.results.parent.mkdir(parents=True, exist_ok=True)
    options.results.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
