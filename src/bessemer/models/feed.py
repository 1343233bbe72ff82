"""What a given model is fed: records in, packed batches out.

The one place that knows both how a model's text is rendered and how its images become inputs, so that stages handle
records and batches and nothing between them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from PIL.Image import Transpose
from torch import Tensor

from bessemer.data.batches import Packed, pack
from bessemer.data.images import load_image, to_pixels
from bessemer.data.records import ImageRef, Message
from bessemer.data.render import Rendered, Renderer
from bessemer.models.features import FeatureStore, flipped
from bessemer.models.model import Model
from bessemer.models.vision import Tower, pooled

__all__ = ["Feed"]

EXPANDED = 32  # photographs of a pretrained vision-language model whose pixels stay in memory


class Feed:
    """Renders messages for one model and makes the inputs of their images. Final.

    root: folder that relative image paths start from; cache: folder of the feature store; ends: tokens that end an
    answer beside the renderer's `end_id`.
    """

    def __init__(self, model: Model, root: Path, cache: Path, system_prompt: str | None = None) -> None:
        self.model = model
        self.root = root
        self.store: FeatureStore | None = None
        if system_prompt is not None:
            model.facts.system_prompt = system_prompt
        # the tiles of one photograph may take 50 MB: ids are kept of all, pixels of those that a batch needs
        self._ids: dict[str, list[int]] = {}
        self._expand = lru_cache(maxsize=EXPANDED)(self._processed)
        image_ids: Callable[[ImageRef], Sequence[int]] | None = None
        image_token: str | None = None
        if model.facts.kind == "composed":
            assert model.tower is not None
            self.store = FeatureStore(model.tower, model.facts.image_grid, root, cache)
            image_ids = self._slots
        elif model.facts.kind == "vlm":
            image_ids = self._own_ids
            image_token = model.processor.image_token
        self.renderer = Renderer(model.tokenizer, image_ids, model.facts.system_prompt, image_token)
        # networks name further tokens that end what they say, such as the end of a text beside that of a turn; one that
        # is text here is a default of the architecture, of another vocabulary
        others = set(model.declared_ends) & self.renderer.special - {self.renderer.end_id}
        self.ends = tuple(sorted(others))

    def use_pixels(self) -> None:
        """Feed pixels instead of cached features: for a tower that learns."""
        self.store = None

    def prepare(self, messages: Sequence[Sequence[Message]], views: int = 1) -> None:
        """Compute the features of all images in these messages ahead of time."""
        if self.store is not None:
            unique = {image.sha256: image for turns in messages for message in turns for image in message.images}
            self.store.prepare(list(unique.values()), views)

    def inputs(self, sequences: Sequence[Rendered], views: Sequence[int] | None = None) -> dict[str, Tensor]:
        """Model inputs of the sequences' images, in order; views: one view a sequence (default the first)."""
        chosen = views if views is not None else [0] * len(sequences)
        pairs = [(image, view) for sequence, view in zip(sequences, chosen, strict=True) for image in sequence.images]
        if not pairs:
            return {}
        if self.store is not None:
            return {"features": torch.cat([self.store.features([image], view) for image, view in pairs])}
        tower = self.model.tower
        if tower is not None:
            return {"pixels": torch.stack([flipped(self._pixels(image, tower), view) for image, view in pairs])}
        parts = [self._expand(image, view)[1] for image, view in pairs]
        return {name: _joined([part[name] for part in parts]) for name in parts[0]}

    def pack(self, sequences: Sequence[Rendered], views: Sequence[int] | None = None) -> Packed:
        """Pack rendered sequences together with the inputs of their images."""
        return pack(sequences, self.inputs(sequences, views))

    def _pixels(self, image: ImageRef, tower: Tower) -> Tensor:
        return to_pixels(load_image(image, self.root), tower.image_size, tower.mean, tower.std)

    def _slots(self, _: ImageRef) -> list[int]:
        """Ids that are never looked at: visual tokens take their rows."""
        return [0] * pooled(self.model.facts.image_grid)

    def _own_ids(self, image: ImageRef) -> list[int]:
        if image.sha256 not in self._ids:
            self._ids[image.sha256] = self._expand(image, 0)[0]
        return self._ids[image.sha256]

    def _processed(self, image: ImageRef, view: int) -> tuple[list[int], dict[str, Tensor]]:
        """Token ids and inputs of one view of an image, made by a pretrained vision-language model's own processor."""
        processor: Any = self.model.processor
        picture = load_image(image, self.root)
        for bit, turn in ((1, Transpose.FLIP_LEFT_RIGHT), (2, Transpose.FLIP_TOP_BOTTOM)):  # as `flipped`
            picture = picture.transpose(turn) if view & bit else picture
        made = dict(
            processor(text=processor.image_token, images=[picture], return_tensors="pt", add_special_tokens=False)
        )
        ids = made.pop("input_ids")[0].tolist()
        for about_tokens in ("attention_mask", "token_type_ids", "mm_token_type_ids"):
            made.pop(about_tokens, None)
        return ids, made


def _joined(values: Sequence[Tensor]) -> Tensor:
    """One input of all images; where they were cut into different numbers of tiles, zeros fill up the missing ones."""
    if values[0].ndim < 2 or len({value.shape[1:] for value in values}) == 1:
        return torch.cat(list(values))
    sizes = [max(sizes) for sizes in zip(*(value.shape for value in values), strict=True)]
    grown = []
    for value in values:
        larger = value.new_zeros(len(value), *sizes[1:])
        larger[tuple(slice(0, size) for size in value.shape)] = value
        grown.append(larger)
    return torch.cat(grown)
