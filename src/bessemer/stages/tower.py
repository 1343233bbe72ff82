"""Fine-tune the vision tower alone, as a plain classifier.

Two things come of it: a row of the report that every vision-language model must be measured against, and a tower that
already sees what matters in this domain, for `align` to start from. Soft labels and the raters' confidence are used
where the data has them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor

from bessemer.algos.classification import soft_cross_entropy
from bessemer.algos.masked import Loss
from bessemer.config import Artifact
from bessemer.data.dataset import Dataset, decoded_pixels, example_targets
from bessemer.data.mixture import epoch_order
from bessemer.distributed import Mesh
from bessemer.errors import UserError
from bessemer.models.classifier import Classifier
from bessemer.models.convert import obtain_model
from bessemer.models.features import flipped
from bessemer.models.vision import Tower
from bessemer.stages.begin import begin
from bessemer.tasks.wordings import Attribute, load_wordings
from bessemer.training.fit import fit
from bessemer.training.optim import Group

__all__ = ["Config", "run"]


@dataclass
class Config:
    dataset: Artifact = Artifact("import")
    """What the import stage wrote."""
    vision_tower: Artifact = Artifact("efficientnet_lite0")
    """Asset, timm-based directory or Hugging Face vision model to start from."""
    target: list[str] = field(default_factory=list)
    """Attributes to learn; empty: the first attribute of the wordings."""
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
    """Train on mirrored and upside-down views as well."""
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


@dataclass(frozen=True)
class _Batch:
    """pixels (b, 3, H, W) normalised; targets: attribute -> (b, K); weights (b,)."""

    pixels: Tensor
    targets: dict[str, Tensor]
    weights: Tensor


class _Batches:
    """The photographs, decoded once, as batches that are a pure function of the step. Final."""

    def __init__(self, config: Config, dataset: Dataset, classifier: Classifier, pixels: Path) -> None:
        examples = dataset.examples("train")
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
        batch = self.classifier.normalised(self.pixels[chosen].to(self.device))
        if self.config.flips:
            generator = torch.Generator().manual_seed(self.config.seed * 1_000_003 + step)
            views = torch.randint(0, 4, (len(chosen),), generator=generator).tolist()
            batch = torch.stack([flipped(image, view) for image, view in zip(batch, views, strict=True)])
        targets = {name: target[chosen].to(self.device) for name, target in self.targets.items()}
        batch = batch.contiguous(memory_format=torch.channels_last)
        return [_Batch(batch, targets, self.weights[chosen].to(self.device))]


def run(config: Config) -> Path:
    """Train the classifier and save tower and heads under model/."""
    run = begin(config, "tower")
    dataset = Dataset(Path(config.dataset))
    if not dataset.examples("train"):
        raise UserError(f"{config.dataset}: no training photographs, expected examples.jsonl with labels")
    device = Mesh.start().device
    classifier = _classifier(config, dataset).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    batches = _Batches(config, dataset, classifier, run.directory / "pixels.u8")

    def loss_of(batch: _Batch) -> Loss:
        with torch.autocast(device.type, dtype=torch.bfloat16):
            logits = classifier(batch.pixels)
        losses = {name: soft_cross_entropy(logits[name], batch.targets[name], batch.weights) for name in logits}
        metrics = {f"accuracy/{name}": loss.metrics["accuracy"] for name, loss in losses.items()}
        total = torch.stack([loss.sum for loss in losses.values()]).sum()
        return Loss(total, batch.weights.sum(), metrics)

    classifier.train()
    learnable = classifier.tower.learnable(config.frozen_blocks, config.depthwise)
    tower = {f"tower.{name}": p for name, p in learnable.items()}
    heads = {f"heads.{name}": p for name, p in classifier.heads.named_parameters()}
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


def _classifier(config: Config, dataset: Dataset) -> Classifier:
    """The tower with a fresh linear layer for each attribute that is to be learnt."""
    attributes = load_wordings(dataset.root / "wordings.yaml").attributes
    names = config.target or list(attributes)[:1]
    if unknown := sorted(set(names) - set(attributes)):
        raise UserError(f"target {unknown}, expected some of {list(attributes)}")
    tower = Tower.load(obtain_model(config.vision_tower))
    if config.image_size:
        tower.image_size = config.image_size
        tower.settings["image_size"] = config.image_size
    return Classifier(tower, {name: _values(attributes[name]) for name in names}, config.dropout)


def _values(attribute: Attribute) -> list[str]:
    """The positive value last: a soft label is the probability of that one."""
    return sorted(attribute.values, key=lambda value: value == attribute.positive)
