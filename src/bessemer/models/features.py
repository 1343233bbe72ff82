"""Frozen visual features, computed once for each image and kept by content hash.

A store belongs to one tower and one pooling grid: its folder is named after a hash of both, so a tower that was trained
further never meets stale features. Features are float16 on disk, a file for each batch of images that was new.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from bessemer import interrupts
from bessemer.data.images import load_image, to_pixels
from bessemer.data.records import ImageRef
from bessemer.disk import fsync
from bessemer.errors import Stopped
from bessemer.models.precision import mixed
from bessemer.models.vision import Tower, pool, pooled
from bessemer.progress import track

__all__ = ["FeatureStore", "VIEWS", "flipped", "relit"]

log = logging.getLogger(__name__)

VIEWS = 4
CHUNK = 32  # images a forward pass: a kernel chosen for another batch size could give other last bits


def flipped(pixels: Tensor, view: int) -> Tensor:
    """One of four views of (..., H, W) pixels: as it is, mirrored, upside down, both."""
    axes = [axis for bit, axis in ((1, -1), (2, -2)) if view & bit]
    return pixels.flip(axes) if axes else pixels


def relit(pixels: Tensor, brightness: Tensor, contrast: Tensor) -> Tensor:
    """Pixels (b, 3, H, W) from 0 to 255, each (b,) brighter by a factor, then with another contrast; float32.

    Contrast is the distance from the photograph's mean grey (ITU-R 601), as torchvision's ColorJitter has it.
    """
    lit = (pixels.float() * brightness.view(-1, 1, 1, 1)).clamp_(0, 255)
    weights = torch.tensor([0.2989, 0.587, 0.114], device=lit.device).view(3, 1, 1)
    grey = (lit * weights).sum(1, keepdim=True).mean((2, 3), keepdim=True)
    return torch.lerp(grey, lit, contrast.view(-1, 1, 1, 1)).clamp_(0, 255)


class FeatureStore:
    """Pooled tower features of images and their views, in memory and on disk. Final.

    root: folder that relative image paths start from; cache: folder that holds every store.
    """

    def __init__(self, tower: Tower, grid: int, root: Path, cache: Path) -> None:
        self.tower = tower
        self.grid = grid
        self.root = root
        self.known: dict[str, Tensor] = {}
        self.folder = cache / "features" / _fingerprint(tower, grid)
        self.filed: dict[str, Path] = {}  # what lies on disk and was not read yet: one answer needs one photograph
        for path in sorted(self.folder.glob("*.safetensors")):
            self.filed.update(dict.fromkeys(self._keys(path), path))

    def prepare(self, images: Sequence[ImageRef], views: int = 1) -> int:
        """Compute what is missing for the first `views` views of these images; returns how many were new.

        Raises:
            Stopped: somebody asked to stop; what has been computed is kept.
        """
        wanted = {f"{image.sha256}/{view}": (image, view) for image in images for view in range(views)}
        if paths := {self.filed[key] for key in wanted if key in self.filed}:
            for path in sorted(paths):
                self._read(path)
            self.filed = {key: path for key, path in self.filed.items() if path not in paths}
        missing = sorted(set(wanted) - set(self.known))
        # a few are looked at in no time; of many one wants to know how long it takes
        with track(len(missing), "features") if len(missing) > CHUNK else nullcontext() as bar:
            for start in range(0, len(missing), CHUNK):
                keys = missing[start : start + CHUNK]
                features = self._compute([wanted[key] for key in keys], alone=len(wanted) == 1)
                if len(wanted) > 1:
                    self._write(keys, features)
                self.known.update(zip(keys, features, strict=True))
                if bar is not None:
                    bar.advance(len(keys))
                if interrupts.requested():
                    raise Stopped(f"stopped among the features of {len(missing)} images: run the same command again")
        return len(missing)

    def features(self, images: Sequence[ImageRef], view: int = 0) -> Tensor:
        """Features of the images, (I, pooled(grid), C) float16."""
        keys = [f"{image.sha256}/{view}" for image in images]
        if any(key not in self.known for key in keys):
            self.prepare(images, view + 1)
        return torch.stack([self.known[key] for key in keys])

    @torch.no_grad()
    def _compute(self, items: Sequence[tuple[ImageRef, int]], alone: bool) -> Tensor:
        tower = self.tower
        device = next(tower.parameters()).device
        pixels = torch.stack(
            [
                flipped(to_pixels(load_image(image, self.root), tower.image_size, tower.mean, tower.std), view)
                for image, view in items
            ]
        )
        if len(items) < CHUNK and not alone:
            pixels = torch.cat([pixels, pixels[:1].expand(CHUNK - len(items), -1, -1, -1)])
        pixels = pixels.to(device).contiguous(memory_format=torch.channels_last)
        with mixed(device):
            maps = tower(pixels)
        return pool(maps.float(), self.grid)[: len(items)].to("cpu", torch.float16)

    def _write(self, keys: Sequence[str], features: Tensor) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        name = hashlib.sha256("\n".join(keys).encode()).hexdigest()[:32]
        temporary = self.folder / f".{name}.{os.getpid()}.tmp"
        save_file({"features": features.contiguous()}, temporary, metadata={"keys": json.dumps(list(keys))})
        fsync(temporary)
        os.replace(temporary, self.folder / f"{name}.safetensors")

    def _keys(self, path: Path) -> list[str]:
        """What a file says that it holds; nothing of one that is damaged, which is removed."""
        try:
            with safe_open(path, framework="pt") as file:
                keys = json.loads(file.metadata()["keys"])
            if isinstance(keys, list) and all(isinstance(key, str) for key in keys):
                return keys
        except FileNotFoundError:  # removed by another process
            return []
        except (SafetensorError, KeyError, TypeError, ValueError):
            pass
        _remove(path)
        return []

    def _read(self, path: Path) -> None:
        try:
            self.known.update(zip(self._keys(path), load_file(path)["features"], strict=True))
        except FileNotFoundError:
            pass
        except (SafetensorError, KeyError, ValueError):
            _remove(path)


def _remove(path: Path) -> None:
    log.warning("%s is damaged and removed: what it held is computed again", path)
    path.unlink(missing_ok=True)


def _fingerprint(tower: Tower, grid: int) -> str:
    digest = hashlib.sha256(json.dumps([tower.settings, grid, pooled(grid)], sort_keys=True).encode())
    for name, tensor in sorted(tower.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:32]
