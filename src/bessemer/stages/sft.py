"""Supervised fine-tuning on a mixture of tasks, by LoRA, in full, or of the last blocks; loss on answers only."""

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
from bessemer.models.feed import Feed
from bessemer.models.model import ADAPTER, Model, load_model, save_model
from bessemer.models.precision import Precision
from bessemer.models.tuning import tune_language, tune_projector, tune_tower
from bessemer.stages.begin import begin, cache_directory
from bessemer.training.conversations import ConversationBatches, answer_loss
from bessemer.training.fit import fit
from bessemer.training.optim import Group

__all__ = ["Config", "run"]


@dataclass
class Config:
    model_name_or_path: Artifact = Artifact("align")
    """Model to tune: a stage, a Hugging Face directory or hub id (text or image-text-to-text)."""
    dataset: Artifact = Artifact("import")
    """What the import stage wrote."""
    task_weights: dict[str, float] = field(default_factory=dict)
    """How often a task is seen in an epoch: 2 twice, 0.5 every second epoch; 1 if not named."""
    finetuning_type: str = "lora"
    """How the language model learns: lora, full, freeze (its last blocks), or none."""
    lora_rank: int = 16
    """Rank of the adapter, if the model has none to continue."""
    lora_alpha: float = 32.0
    """Scale of the adapter, if the model has none to continue: its update counts alpha / rank."""
    lora_target: str = "all"
    """Linear layers to adapt, if the model has no adapter to continue: all, or the last part of one name: q_proj."""
    trainable_blocks: int = 2
    """Blocks that learn when finetuning_type is freeze."""
    freeze_multi_modal_projector: bool = False
    """Keep the projector as it is."""
    freeze_vision_tower: bool = True
    """Keep the tower as it is; its features are then computed once. Of a pretrained vision-language model it
    learns with the rest."""
    tower_blocks: int = 0
    """Last blocks of the tower that learn when it is not frozen; 0: all."""
    system_prompt: str | None = None
    """System message of every conversation; none: the model's own."""
    augment_views: int = 1
    """Views of each image to train on: 1 as it is, 2 mirrored too, 4 upside down too."""
    cutoff_len: int = 512
    """Longest conversation in tokens."""
    num_train_epochs: float = 2.0
    """Passes over the mixture."""
    max_steps: int = 0
    """Stop after so many steps; 0: by epochs."""
    per_device_train_batch_size: int = 32
    """Conversations in one batch."""
    gradient_accumulation_steps: int = 1
    """Batches in one optimiser step."""
    learning_rate: float = 5e-4
    """Peak learning rate (for full tuning rather 5e-5); projector and tower learn at the same rate."""
    warmup_ratio: float = 0.05
    """Share of the steps over which the rate rises."""
    save_steps: int = 50
    """Steps between checkpoints."""
    dtype: Precision = "auto"
    """Type of frozen weights and activations: bf16, fp32, or auto: bf16 where the device multiplies it."""
    seed: int = 0
    """Seed of the order and of the new adapter."""
    output_dir: str = "runs/sft"
    """Where to write."""


def run(config: Config) -> Path:
    """Fine-tune and save the model under model/."""
    run = begin(config, "sft")
    dataset = Dataset(Path(config.dataset))
    model = load_model(config.model_name_or_path, config.dtype, Mesh.start().device)
    groups = _groups(model, config)
    feed = Feed(model, dataset.root, cache_directory(), config.system_prompt)
    if not config.freeze_vision_tower:
        feed.use_pixels()
    batches = ConversationBatches(
        feed,
        dataset.conversations("train"),
        cutoff=config.cutoff_len,
        batch_size=config.per_device_train_batch_size,
        accumulation=config.gradient_accumulation_steps,
        task_weights=config.task_weights,
        views=config.augment_views,
        seed=config.seed,
    )
    run.record(template_hash=feed.renderer.template_hash)

    def loss_of(batch: TextBatch) -> Loss:
        hidden = model.backbone.hidden(batch.packed)[batch.rows.to(model.backbone.device)]
        logprobs, _ = linear_logprobs(hidden, model.backbone.head, batch.targets)
        return answer_loss(logprobs, batch, batches.tasks)

    fit(
        run,
        groups,
        batches,
        loss_of,
        steps=config.max_steps or max(1, round(config.num_train_epochs * batches.steps_per_epoch)),
        description="sft",
        warmup_ratio=config.warmup_ratio,
        save_steps=config.save_steps,
    )
    save_model(model, run.model_directory, adapter=ADAPTER if model.lora is not None else None)
    return run.finish()


def _groups(model: Model, config: Config) -> list[Group]:
    rate = config.learning_rate
    groups = []
    if config.finetuning_type != "none":
        language = tune_language(
            model,
            config.finetuning_type,
            lora_rank=config.lora_rank,
            lora_alpha=config.lora_alpha,
            lora_target=config.lora_target,
            trainable_blocks=config.trainable_blocks,
            seed=config.seed,
        )
        groups.append(Group(language, rate))
    if not config.freeze_multi_modal_projector:
        projector = tune_projector(model)
        groups.extend([Group(projector, rate)] if projector else [])
    if not config.freeze_vision_tower:
        groups.append(Group(tune_tower(model, config.tower_blocks), rate))
    if not groups:
        raise UserError("nothing to train: language model, projector and tower are frozen, expected one that learns")
    return groups
