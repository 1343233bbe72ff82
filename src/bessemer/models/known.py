"""A frozen model's states of batches that come again: computed once, kept on disk, looked up afterwards.

A hidden state is a hundredth of the logits that follow from it, and nothing of the distribution is lost.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from bessemer.data.batches import TextBatch
from bessemer.errors import UserError
from bessemer.models.model import Model

__all__ = ["KnownStates", "answering"]


def answering(model: Model, batch: TextBatch) -> Tensor:
    """The hidden states that predict the targets of a batch, (M, D)."""
    return model.backbone.hidden(batch.packed)[batch.rows.to(model.backbone.device)]


class KnownStates:
    """The states of one frozen model, by the content of each sequence. Final.

    path: safetensors file; what it holds already is not computed again.
    """

    def __init__(self, model: Model, path: Path) -> None:
        self.model, self.path = model, path
        self.states: dict[str, Tensor] = load_file(path) if path.is_file() else {}

    @torch.no_grad()
    def prepare(self, batch: TextBatch) -> None:
        """Compute what is missing.

        A sequence keeps the states of the first batch that holds it: so what is learnt from them does not depend on
        where a run was stopped, if everything is prepared in order before anything is learnt.
        """
        keys, counts = _keys(batch)
        if all(key in self.states for key in keys):
            return
        for key, part in zip(keys, answering(self.model, batch).cpu().split(counts), strict=True):
            self.states.setdefault(key, part.clone())

    def save(self) -> None:
        """Write the file, whole or not at all."""
        temporary = self.path.with_name(f".{self.path.name}.{os.getpid()}.tmp")
        save_file(self.states, temporary)
        os.replace(temporary, self.path)

    def __call__(self, batch: TextBatch) -> Tensor:
        """The states that predict the targets of a prepared batch, (M, D)."""
        keys, _ = _keys(batch)
        return torch.cat([self.states[key] for key in keys]).to(self.model.backbone.device)


def _keys(batch: TextBatch) -> tuple[list[str], list[int]]:
    """A name for the content of each sequence, and how many of the batch's rows are its own.

    Raises:
        UserError: images that are not given one by one, equally long.
    """
    packed = batch.packed
    ends = torch.tensor(packed.lengths).cumsum(0)
    starts = ends - torch.tensor(packed.lengths)
    owner = torch.searchsorted(ends, batch.rows, right=True)
    counts = torch.bincount(owner, minlength=len(ends)).tolist()
    given = packed.model_inputs.values() if len(packed.image_rows) else ()
    if len({len(part) for part in given}) > 1 or any(len(packed.image_rows) % len(part) for part in given):
        raise UserError(
            "cache_teacher=true: this model cuts an image into parts of its own, which cannot be told apart by image; "
            "expected cache_teacher=false with it"
        )
    images = list(zip(*given, strict=True))
    width = len(packed.image_rows) // max(1, len(images))
    first_rows = packed.image_rows[::width].contiguous() if images else packed.image_rows
    image_owner = torch.searchsorted(ends, first_rows, right=True)
    keys = []
    for index, (ids, rows) in enumerate(zip(packed.ids.split(packed.lengths), batch.rows.split(counts), strict=True)):
        digest = hashlib.sha256(ids.numpy().tobytes())
        digest.update((rows - starts[index]).numpy().tobytes())
        for image in (image_owner == index).nonzero()[:, 0].tolist():
            for part in images[image]:
                digest.update(part.contiguous().view(torch.uint8).numpy().tobytes())
        keys.append(digest.hexdigest())
    return keys, counts
