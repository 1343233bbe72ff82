"""A LoRA training step: packed batches with the head on answer rows, beside transformers with padding and full logits.

Same model, adapters, conversations and tokens; run in turn A B A B; prints medians, their ratio and both losses.
32 sequences of 25 to 70 tokens, the last 10 of each trained on, bfloat16 base.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor

from bessemer.algos.head import linear_logprobs
from bessemer.data.batches import TextBatch, text_batch
from bessemer.data.render import Rendered
from bessemer.models.backbone import PaddedBackbone
from bessemer.models.convert import obtain_model
from bessemer.models.model import Model, load_model
from bessemer.models.tuning import tune_language

ROUNDS = 4


def batch_of(seed: int) -> TextBatch:
    """Random conversations, as long as those about a photograph."""
    generator = torch.Generator().manual_seed(seed)
    sequences = []
    for _ in range(32):
        length = int(torch.randint(25, 70, (1,), generator=generator))
        ids = torch.randint(3, 49152, (length,), generator=generator).tolist()
        sequences.append(Rendered(tuple(ids), (False,) * (length - 10) + (True,) * 10, (), ()))
    return text_batch(sequences)


def packed_loss(model: Model, batch: TextBatch) -> Tensor:
    """Ours."""
    hidden = model.backbone.hidden(batch.packed)[batch.rows]
    return -linear_logprobs(hidden, model.backbone.head, batch.targets)[0].mean()


def padded_loss(model: Model, batch: TextBatch) -> Tensor:
    """transformers as it is: right padding, logits of every position, labels of -100 elsewhere."""
    ids, mask = PaddedBackbone(model.backbone.language).padded(batch.packed)
    labels = torch.full((int(mask.sum()),), -100)
    labels[batch.rows + 1] = batch.targets
    grid = torch.full(ids.shape, -100)
    grid[mask] = labels
    loss: Tensor = model.backbone.language(input_ids=ids, attention_mask=mask.long(), labels=grid).loss
    return loss


def main() -> None:
    directory = str(obtain_model("smollm2"))
    ours, theirs = load_model(directory), load_model(directory)
    theirs.backbone.language.set_attn_implementation("sdpa")
    losses: dict[str, tuple[Callable[[Model, TextBatch], Tensor], Model]] = {
        "bessemer": (packed_loss, ours),
        "transformers": (padded_loss, theirs),
    }
    for _, model in losses.values():
        tune_language(model, "lora", lora_rank=16)
    times: dict[str, list[float]] = {name: [] for name in losses}
    found: dict[str, float] = {}
    tokens = 0
    for round_ in range(ROUNDS + 1):
        batch = batch_of(round_)
        for name, (loss_of, model) in losses.items():
            began = time.perf_counter()
            loss = loss_of(model, batch)
            loss.backward()  # type: ignore[no-untyped-call]
            if round_:  # the first round warms up
                times[name].append(time.perf_counter() - began)
            found[name] = float(loss.detach())
        tokens = len(batch.packed.ids)
    speeds = {name: tokens / statistics.median(values) for name, values in times.items()}
    shown = "  ".join(f"{name} {speed:.0f} tok/s (loss {found[name]:.3f})" for name, speed in speeds.items())
    print(f"{shown}  ratio {speeds['bessemer'] / speeds['transformers']:.2f}")


if __name__ == "__main__":
    main()
