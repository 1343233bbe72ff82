"""Align a vision tower with a language model: a projector learns to put images where the model can read them.

Tower and language model stay frozen; only the projector learns, from conversations about images. The tower's features
are computed once, so a step costs as much as one of text.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from bessemer.algos.head import linear_logprobs
from bessemer.algos.masked import Loss
from bessemer.config import Artifact
from bessemer.data.batches import TextBatch
from bessemer.data.dataset import Dataset
from bessemer.distributed import Mesh
from bessemer.errors import UserError
from bessemer.models.convert import obtain_model
from bessemer.models.feed import Feed
from bessemer.models.model import attach_vision, load_model, save_model
from bessemer.models.precision import Precision
from bessemer.models.tuning import tune_projector
from bessemer.models.vision import Tower
from bessemer.stages.begin import begin, cache_directory
from bessemer.training.conversations import ConversationBatches, answer_loss
from bessemer.training.fit import fit
from bessemer.training.optim import Group

__all__ = ["Config", "run"]


@dataclass
class Config:
    model_name_or_path: Artifact = Artifact("smollm2")
    """Language model: asset, Hugging Face directory or hub id."""
    vision_tower: Artifact = Artifact("tower")
    """Vision tower: a tower stage, an asset, or a Hugging Face vision model."""
    dataset: Artifact = Artifact("import")
    """What the import stage wrote."""
    tasks: list[str] = field(default_factory=list)
    """Tasks to align on; empty: all that have images."""
    image_grid: int = 2
    """Features are pooled to image_grid x image_grid visual tokens; if above 1, one of the whole image goes before."""
    projector_width: int = 0
    """Hidden width of the projector; 0: twice the language model's."""
    system_prompt: str | None = None
    """System message of every conversation; none: the template's own default."""
    augment_views: int = 1
    """Views of each image to train on: 1 as it is, 2 mirrored too, 4 upside down too."""
    cutoff_len: int = 512
    """Longest conversation in tokens."""
    num_train_epochs: float = 1.0
    """Passes over the conversations."""
    max_steps: int = 0
    """Stop after so many steps; 0: by epochs."""
    per_device_train_batch_size: int = 32
    """Conversations in one batch."""
    gradient_accumulation_steps: int = 1
    """Batches in one optimiser step."""
    learning_rate: float = 2e-3
    """Peak learning rate of the projector."""
    warmup_ratio: float = 0.05
    """Share of the steps over which the rate rises."""
    save_steps: int = 50
    """Steps between checkpoints."""
    dtype: Precision = "auto"
    """Type of frozen weights and activations: bf16, fp32, or auto: bf16 where the device multiplies it."""
    seed: int = 0
    """Seed of the order and of the new projector."""
    output_dir: str = "runs/align"
    """Where to write."""


def run(config: Config) -> Path:
    """Train the projector and save the composed model under model/."""
    run = begin(config, "align")
    dataset = Dataset(Path(config.dataset))
    model = load_model(config.model_name_or_path, config.dtype, Mesh.start().device)
    attach_vision(model, _tower(config.vision_tower), config.image_grid, config.projector_width)
    feed = Feed(model, dataset.root, cache_directory(), config.system_prompt)
    conversations = [
        conversation
        for conversation in dataset.conversations("train")
        if any(message.images for message in conversation.messages)
    ]
    if config.tasks:
        tasks = {conversation.task for conversation in conversations}
        if unknown := sorted(set(config.tasks) - tasks):
            raise UserError(f"tasks names {unknown}, expected some of {sorted(tasks)}, which have images")
        conversations = [conversation for conversation in conversations if conversation.task in config.tasks]
    batches = ConversationBatches(
        feed,
        conversations,
        cutoff=config.cutoff_len,
        batch_size=config.per_device_train_batch_size,
        accumulation=config.gradient_accumulation_steps,
        views=config.augment_views,
        seed=config.seed,
    )
    run.record(template_hash=feed.renderer.template_hash)

    def loss_of(batch: TextBatch) -> Loss:
        hidden = model.backbone.hidden(batch.packed)[batch.rows]
        logprobs, _ = linear_logprobs(hidden, model.backbone.head, batch.targets)
        return answer_loss(logprobs, batch, batches.tasks)

    fit(
        run,
        [Group(tune_projector(model), config.learning_rate, 0.01)],
        batches,
        loss_of,
        steps=config.max_steps or max(1, round(config.num_train_epochs * batches.steps_per_epoch)),
        description="align",
        warmup_ratio=config.warmup_ratio,
        save_steps=config.save_steps,
    )
    save_model(model, run.model_directory)
    return run.finish()


def _tower(name: str) -> Tower:
    directory = obtain_model(name)
    return Tower.load(directory / "model" if (directory / "model").is_dir() else directory).eval()
