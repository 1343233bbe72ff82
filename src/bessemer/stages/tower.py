"""Fine-tune the vision tower alone, as a plain classifier.

Two things come of it: a row of the report that every vision-language model must be measured against, and a tower that
already sees what matters in this domain, for `align` to start from. Soft labels and the raters' confidence are used
where the data has them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from bessemer.algos.classification import cell_loss, soft_cross_entropy
from bessemer.algos.masked import Loss
from bessemer.annotation.cells import Cells, flipped_cells, stacked_cells
from bessemer.annotation.codec import read_images
from bessemer.annotation.shapes import AnnotatedImage
from bessemer.config import Artifact
from bessemer.data.dataset import Dataset, decoded_pixels, example_targets
from bessemer.data.mixture import epoch_order
from bessemer.distributed import Mesh
from bessemer.errors import UserError
from bessemer.models.classifier import Classifier
from bessemer.models.convert import obtain_model
from bessemer.models.features import flipped, relit
from bessemer.models.precision import mixed
from bessemer.models.vision import Tower
from bessemer.stages.begin import begin
from bessemer.stages.pictured import ANNOTATIONS
from bessemer.tasks.wordings import Attribute, load_wordings
from bessemer.training.fit import fit
from bessemer.training.optim import Group

__all__ = ["Config", "run"]


Drawn = Mapping[str, AnnotatedImage]  # by SHA-256


@dataclass
class Config:
    dataset: Artifact = Artifact("import")
    """What the import stage wrote."""
    vision_tower: Artifact = Artifact("efficientnet_lite0")
    """Asset, timm-based directory or Hugging Face vision model to start from."""
    target: list[str] = field(default_factory=list)
    """Attributes to learn; empty: the first attribute of the wordings; all: every one that has labels of its own."""
    image_size: int = 0
    """Side of the square image in pixels; 0: the tower's own."""
    num_train_epochs: float = 8.0
    """Passes over the training photographs."""
    per_device_train_batch_size: int = 32
    """Photographs in one optimiser step."""
    learning_rate: float = 1e-3
    """Peak learning rate of the classifier's layer; the tower learns at `tower_rate` times that."""
    tower_rate: float = 0.5
    """The tower's learning rate as a share of the classifier's."""
    weight_decay: float = 0.02
    """AdamW's decay of matrices."""
    warmup_ratio: float = 0.1
    """Share of the steps over which the rate rises."""
    frozen_blocks: int = 0
    """First blocks of the tower, with its stem, that stay as they are: they see edges and textures."""
    depthwise: bool = False
    """Let depthwise convolutions learn too; on a CPU a step then takes 1.6 times as long."""
    flips: bool = True
    """Train on mirrored views as well, and on views upside down."""
    upside_down: bool = True
    """With flips: upside down too; false where the world has an up."""
    color_jitter: float = 0.0
    """Train in other lights: brightness and contrast times 1 more or less up to this; 0: as photographed."""
    places_weight: float = 1.0
    """Weight of learning, cell by cell, where things are that somebody drew (or a generator did); 0: labels alone."""
    dropout: float = 0.2
    """Dropout before the classifier."""
    label_smoothing: float = 0.0
    """Share of each target spread evenly over all values."""
    save_steps: int = 60
    """Steps between checkpoints."""
    seed: int = 0
    """Seed of the order, the views and the new layer."""
    output_dir: str = "runs/tower"
    """Where to write."""

    def faults(self) -> dict[str, bool]:
        """What could be wrong with it in itself, and whether it is."""
        return {
            f"{name}={share}, expected a share from 0 to below 1": not 0 <= share < 1
            for name, share in (
                ("color_jitter", self.color_jitter),
                ("dropout", self.dropout),
                ("label_smoothing", self.label_smoothing),
            )
        }


@dataclass(frozen=True)
class _Batch:
    """pixels (b, 3, H, W) normalised; targets: attribute -> (b, K); weights (b,); places, where they are learnt: what
    is there (b, N, L), and edges (b, N, L, 4)."""

    pixels: Tensor
    targets: dict[str, Tensor]
    weights: Tensor
    places: tuple[Tensor, Tensor] | None


class _Batches:
    """The photographs, decoded once, as batches that are a pure function of the step. Final."""

    def __init__(self, config: Config, dataset: Dataset, classifier: Classifier, pixels: Path, drawn: Drawn) -> None:
        examples = dataset.examples("train")
        self.cells = _cells(classifier, [drawn.get(example.image.sha256) for example in examples])
        self.config, self.classifier = config, classifier
        self.device = next(classifier.parameters()).device
        images = [example.image for example in examples]
        self.pixels = decoded_pixels(images, dataset.root, classifier.tower.image_size, pixels)
        smooth = config.label_smoothing
        self.targets: dict[str, Tensor] = {}
        for name, values in classifier.attributes.items():
            target = example_targets(examples, name, values)
            self.targets[name] = (1 - smooth) * target + smooth * target.sum(-1, keepdim=True) / len(values)
        self.weights = torch.tensor([example.weight for example in examples])
        self.size = min(config.per_device_train_batch_size, len(examples))
        self.per_epoch = len(examples) // self.size
        self.order = lru_cache(maxsize=2)(lambda epoch: epoch_order(len(examples), config.seed, epoch))

    def __call__(self, step: int) -> list[_Batch]:
        """The one microbatch of a step."""
        epoch, place = divmod(step, self.per_epoch)
        chosen = self.order(epoch)[place * self.size : (place + 1) * self.size]
        generator = torch.Generator().manual_seed(self.config.seed * 1_000_003 + step)
        allowed = (1 | 2 * self.config.upside_down) if self.config.flips else 0
        views = [view & allowed for view in torch.randint(0, 4, (len(chosen),), generator=generator).tolist()]
        pixels = self.pixels[chosen].to(self.device)
        if self.config.color_jitter:
            factors = 1 + self.config.color_jitter * (2 * torch.rand(len(chosen), 2, generator=generator) - 1)
            pixels = relit(pixels, *factors.to(self.device).unbind(1))
        batch = self.classifier.normalised(pixels)
        batch = torch.stack([flipped(image, view) for image, view in zip(batch, views, strict=True)])
        places = None
        if self.cells is not None:
            places = self._places(self.cells, chosen, views)
        targets = {name: target[chosen].to(self.device) for name, target in self.targets.items()}
        batch = batch.contiguous(memory_format=torch.channels_last)
        return [_Batch(batch, targets, self.weights[chosen].to(self.device), places)]

    def _places(self, cells: Cells, chosen: Sequence[int], views: Sequence[int]) -> tuple[Tensor, Tensor]:
        """The cells of views of photographs, row by row: there (b, N, L), edges (b, N, L, 4)."""
        there, edges = cells
        turned = [
            flipped_cells((there[i], edges[i]), bool(view & 1), bool(view & 2))
            for i, view in zip(chosen, views, strict=True)
        ]
        there, edges = (np.stack(parts) for parts in zip(*turned, strict=True))
        return (
            torch.from_numpy(there).flatten(1, 2).to(self.device),
            torch.from_numpy(edges).flatten(1, 2).to(self.device),
        )


def run(config: Config) -> Path:
    """Train the classifier and save tower and heads under model/."""
    run = begin(config, "tower")
    dataset = Dataset(Path(config.dataset))
    if not dataset.examples("train"):
        raise UserError(f"{config.dataset}: no training photographs, expected examples.jsonl with labels")
    device = Mesh.start().device
    drawn = _drawn(dataset) if config.places_weight > 0 else {}
    classifier = _classifier(config, dataset, drawn).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    batches = _Batches(config, dataset, classifier, run.directory / "pixels.u8", drawn)

    def loss_of(batch: _Batch) -> Loss:
        placed: Loss | None = None
        with mixed(device):
            if batch.places is None:
                logits = classifier(batch.pixels)
            else:
                logits, there, edges = classifier.judged_and_placed(batch.pixels)
                placed = cell_loss(there, batch.places[0], edges, batch.places[1])
        losses = {name: soft_cross_entropy(logits[name], batch.targets[name], batch.weights) for name in logits}
        metrics = {f"accuracy/{name}": loss.metrics["accuracy"] for name, loss in losses.items()}
        total = torch.stack([loss.sum for loss in losses.values()]).sum()
        if placed is not None:
            total = total + config.places_weight * placed.sum
            metrics |= placed.metrics
        return Loss(total, batch.weights.sum(), metrics)

    classifier.train()
    learnable = classifier.tower.learnable(config.frozen_blocks, config.depthwise)
    tower = {f"tower.{name}": p for name, p in learnable.items()}
    heads = {f"heads.{name}": p for name, p in classifier.heads.named_parameters()}
    if classifier.cells is not None:
        heads |= {f"cells.{name}": p for name, p in classifier.cells.named_parameters()}
    rate, decay = config.learning_rate, config.weight_decay
    fit(
        run,
        [Group(tower, rate * config.tower_rate, decay), Group(heads, rate, decay)],
        batches,
        loss_of,
        steps=max(1, round(config.num_train_epochs * batches.per_epoch)),
        description="tower",
        warmup_ratio=config.warmup_ratio,
        save_steps=config.save_steps,
        buffers=dict(classifier.named_buffers()),
    )
    classifier.eval().save(run.model_directory)
    (run.directory / "pixels.u8").unlink(missing_ok=True)
    (run.directory / "pixels.done").unlink(missing_ok=True)
    return run.finish()


def _drawn(dataset: Dataset) -> Drawn:
    """{sha256: picture} of the training photographs on which somebody drew, where the import kept that."""
    wanted = {example.image.sha256 for example in dataset.examples("train")}
    path = dataset.root / ANNOTATIONS
    pictures = read_images(path) if path.is_file() else []
    return {p.sha256: p for p in pictures if p.sha256 in wanted and any(a.shape is not None for a in p.annotations)}


def _cells(classifier: Classifier, drawn: Sequence[AnnotatedImage | None]) -> Cells | None:
    """What each cell of the tower's map shows of each photograph; None where places are not learnt."""
    if classifier.cells is None:
        return None
    tower = classifier.tower
    device = next(tower.parameters()).device
    with torch.no_grad():
        side = tower.eval()(torch.zeros(1, 3, tower.image_size, tower.image_size, device=device)).shape[-1]
    return stacked_cells(drawn, classifier.places, side)


def _classifier(config: Config, dataset: Dataset, drawn: Drawn) -> Classifier:
    """The tower with a fresh linear layer for each attribute that is to be learnt, and one for places."""
    known = load_wordings(dataset.root / "wordings.yaml").attributes
    # one that follows from another has no labels of its own: the tower would learn nothing, and not say so
    attributes = {name: attribute for name, attribute in known.items() if attribute.source is None}
    names = config.target or list(attributes)[:1]
    if names == ["all"] and "all" not in attributes:
        names = list(attributes)
    if unknown := sorted(set(names) - set(attributes)):
        raise UserError(f"target {unknown}, expected some of {list(attributes)}, which have labels of their own")
    tower = Tower.load(obtain_model(config.vision_tower))
    if config.image_size:
        tower.image_size = config.image_size
        tower.settings["image_size"] = config.image_size
    shapes = (a for picture in drawn.values() for a in picture.annotations if a.shape is not None)
    places = sorted({a.label for a in shapes if a.label})
    return Classifier(tower, {name: _values(attributes[name]) for name in names}, config.dropout, places)


def _values(attribute: Attribute) -> list[str]:
    """The positive value last: a soft label is the probability of that one."""
    return sorted(attribute.values, key=lambda value: value == attribute.positive)
