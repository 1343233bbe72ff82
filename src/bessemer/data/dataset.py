"""The folder that the import stage writes and every later stage reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from bessemer.data.images import load_image
from bessemer.data.records import Conversation, Document, Example, ImageRef, Prompt, read_records
from bessemer.errors import UserError

__all__ = ["Dataset", "decoded_pixels", "example_targets"]


@dataclass(frozen=True)
class Dataset:
    """Records by their file's name; `root` is where relative image paths start."""

    root: Path

    def __post_init__(self) -> None:
        if not self.root.is_dir():
            raise UserError(
                f"{self.root}: no such folder, expected what the import stage wrote; run it first, "
                "or name a recipe, or what it wrote elsewhere: dataset=runs/NAME/import"
            )

    def examples(self, split: str | None = None) -> list[Example]:
        """Labelled photographs, of one split or all; none for a text-only dataset."""
        path = self.root / "examples.jsonl"
        found = read_records(path, Example) if path.is_file() else []
        return [example for example in found if split in (None, example.split)]

    def conversations(self, split: str) -> list[Conversation]:
        """Conversations of "train", "val" or "test"."""
        return read_records(self._file(split), Conversation)

    def prompts(self, name: str) -> list[Prompt]:
        """Prompts of "rank", "ppo" or "heldout"."""
        return read_records(self._file(name), Prompt)

    def documents(self, part: str) -> list[Document]:
        """General text: every third document may be trained on ("train"), the others measure forgetting ("test")."""
        path = self.root / "general.jsonl"
        found = read_records(path, Document) if path.is_file() else []
        return [document for index, document in enumerate(found) if (index % 3 == 0) == (part == "train")]

    def _file(self, name: str) -> Path:
        path = self.root / f"{name}.jsonl"
        if not path.is_file():
            raise UserError(f"{path}: no such file, expected records of the import stage")
        return path


def decoded_pixels(images: Sequence[ImageRef], root: Path, size: int, path: Path) -> Tensor:
    """Decode and resize every image once; returns (n, 3, size, size) uint8, backed by the file `path`.

    The file is used again if it is complete, so that a resumed run decodes nothing.
    """
    shape = (len(images), 3, size, size)
    done = path.with_suffix(".done")
    if not (done.is_file() and path.is_file() and path.stat().st_size == int(np.prod(shape))):
        path.parent.mkdir(parents=True, exist_ok=True)
        array = np.memmap(path, dtype=np.uint8, mode="w+", shape=shape)
        for index, image in enumerate(images):
            resized = load_image(image, root).resize((size, size), resample=3)  # 3: bicubic, as `to_pixels`
            array[index] = np.asarray(resized).transpose(2, 0, 1)
        array.flush()
        done.touch()
    return torch.from_numpy(np.memmap(path, dtype=np.uint8, mode="r+", shape=shape))


def example_targets(examples: Sequence[Example], attribute: str, values: Sequence[str]) -> Tensor:
    """Target distribution of each example over the attribute's values, (n, K).

    A two-valued attribute with a soft label p of its second value gives (1 - p, p); any other a one-hot row; an
    example without the attribute a row of zeros, which counts for nothing.
    """
    targets = torch.zeros(len(examples), len(values))
    for row, example in enumerate(examples):
        value = example.labels.get(attribute)
        if attribute in example.soft and len(values) == 2:
            targets[row, 1] = example.soft[attribute]
            targets[row, 0] = 1.0 - example.soft[attribute]
        elif value is not None:
            targets[row, values.index(value)] = 1.0
    return targets
