"""Distil a teacher into a student: T^2 KL(teacher, student) + cross-entropy on the annotation (Hinton et al. 2015).

Two uses. (a) The teacher is the RL model, the student a part of its layers or another, smaller model: what was learnt
becomes small enough to deploy. (b) The teacher is the initial model and the student the fine-tuned one, on general
text: a guard against forgetting. Offline the student reads the annotations and the teacher's own answers; on-policy it
reads what it said itself.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from bessemer.algos.distillation import distillation_loss, reverse_kl
from bessemer.algos.head import linear_loss
from bessemer.algos.masked import Loss
from bessemer.config import Artifact
from bessemer.data.batches import TextBatch, text_batch
from bessemer.data.dataset import Dataset
from bessemer.data.records import Conversation, Message, Prompt
from bessemer.data.render import Rendered
from bessemer.disk import write_atomic
from bessemer.distributed import Mesh
from bessemer.errors import UserError
from bessemer.models.feed import Feed
from bessemer.models.known import KnownStates, answering
from bessemer.models.model import ADAPTER, Model, attach_vision, load_model, save_model
from bessemer.models.precision import Precision
from bessemer.models.prune import evenly, keep_layers, merge_adapter
from bessemer.models.tuning import tune_language, tune_projector
from bessemer.rollout.collect import sample_answers
from bessemer.rollout.sampler import Sampling, sampler_for
from bessemer.run import Run
from bessemer.stages.begin import begin, cache_directory
from bessemer.training.conversations import ConversationBatches
from bessemer.training.fit import fit
from bessemer.training.optim import Group

__all__ = ["Config", "run"]


@dataclass
class Config:
    teacher: Artifact = Artifact("ppo")
    """Model to learn from."""
    student: Artifact = Artifact("")
    """Model that learns; empty: the teacher's own weights with `student_layers` of its layers."""
    student_layers: int = 15
    """Layers kept when the student is made of the teacher."""
    dataset: Artifact = Artifact("import")
    """What the import stage wrote."""
    general_share: float = 0.0
    """Batches of general text for each batch of the domain (guard against forgetting), such as 0.5."""
    teacher_answers: int = 0
    """Answers of the teacher to prompts of ppo.jsonl, learnt beside the annotations."""
    on_policy_share: float = 0.0
    """Share of the batches in which the student learns from its own samples, by reverse KL."""
    distill_temperature: float = 2.0
    """T: softens both distributions."""
    alpha: float = 0.5
    """Weight of T^2 KL on conversations, where the cross-entropy weighs 1 - alpha; general text has KL alone."""
    finetuning_type: str = "full"
    """How the student learns: full, lora or freeze."""
    cache_teacher: bool = False
    """Compute the teacher's states once and keep them beside the checkpoints: pays from the second epoch on."""
    augment_views: int = 1
    """Views of each image to train on."""
    response_length: int = 48
    """Longest sampled answer in tokens."""
    cutoff_len: int = 512
    """Longest conversation in tokens."""
    num_train_epochs: float = 2.0
    """Passes over the conversations."""
    max_steps: int = 0
    """Stop after so many steps; 0: by epochs."""
    per_device_train_batch_size: int = 32
    """Conversations in one optimiser step."""
    learning_rate: float = 2e-4
    """Peak learning rate."""
    warmup_ratio: float = 0.05
    """Share of the steps over which the rate rises."""
    save_steps: int = 50
    """Steps between checkpoints."""
    dtype: Precision = "auto"
    """Type of frozen weights and activations: bf16, fp32, or auto: bf16 where the device multiplies it."""
    seed: int = 0
    """Seed of the order and of sampling."""
    output_dir: str = "runs/distill"
    """Where to write."""

    def faults(self) -> dict[str, bool]:
        """What could be wrong with it in itself, and whether it is."""
        return {
            f"alpha={self.alpha}, expected a weight from 0 to 1": not 0 <= self.alpha <= 1,
            f"distill_temperature={self.distill_temperature}, expected above 0": self.distill_temperature <= 0,
            f"on_policy_share={self.on_policy_share}, expected from 0 to 1": not 0 <= self.on_policy_share <= 1,
            f"general_share={self.general_share}, expected 0 or more": self.general_share < 0,
        }


@dataclass(frozen=True)
class _Item:
    """A batch for teacher and student. own: the student's own samples, learnt by reverse KL; alpha: weight of the KL
    to the teacher, the rest is the annotation's."""

    batch: TextBatch
    alpha: float
    own: bool = False


def run(config: Config) -> Path:
    """Distil and save the student under model/."""
    run = begin(config, "distill")
    dataset = Dataset(Path(config.dataset))
    device = Mesh.start().device
    teacher = load_model(config.teacher, config.dtype, device)
    if teacher.lora is not None:
        merge_adapter(teacher, ADAPTER)  # it is only read, and reads faster without
    student = _student(config, teacher, device)
    _check_vocabulary(teacher, student)
    _check_sight(teacher, student)
    feed = Feed(student, dataset.root, cache_directory(), teacher.facts.system_prompt)
    parameters = tune_language(student, config.finetuning_type, seed=config.seed) | tune_projector(student)
    conversations = dataset.conversations("train")
    if config.teacher_answers:
        prompts = dataset.prompts("ppo")[: config.teacher_answers]
        conversations = [*conversations, *_teacher_answers(run, teacher, dataset, prompts, config)]
    batches = ConversationBatches(
        feed,
        conversations,
        cutoff=config.cutoff_len,
        batch_size=config.per_device_train_batch_size,
        views=config.augment_views,
        seed=config.seed,
    )
    source = _Source(config, batches, feed, student, dataset)

    steps = config.max_steps or max(1, round(config.num_train_epochs * batches.steps_per_epoch))
    known = _known(run, teacher, source, steps) if config.cache_teacher else None

    def loss_of(item: _Item) -> Loss:
        with torch.no_grad():
            # what the student says itself is new at every step
            theirs = answering(teacher, item.batch) if known is None or item.own else known(item.batch)
        return _loss(config, item, answering(student, item.batch), student, theirs, teacher)

    fit(
        run,
        [Group(parameters, config.learning_rate, 0.01)],
        source,
        loss_of,
        steps=steps,
        description="distill",
        warmup_ratio=config.warmup_ratio,
        save_steps=config.save_steps,
    )
    save_model(student, run.model_directory, adapter=ADAPTER if student.lora is not None else None)
    return run.finish()


class _Source:
    """Chooses for every step what it learns from: annotations or the student's samples, and general text beside them.

    Each of the three is counted by its own turns, so that none of its records is passed over for another's sake.
    """

    def __init__(
        self, config: Config, batches: ConversationBatches, feed: Feed, student: Model, dataset: Dataset
    ) -> None:
        self.config, self.batches, self.feed, self.student = config, batches, feed, student
        self.prompts = dataset.prompts("ppo") if config.on_policy_share else []
        self.general = self._general(dataset) if config.general_share else []

    def __call__(self, step: int) -> list[_Item]:
        """The microbatches of a step."""
        return [
            *(_Item(self._sampled(turn), 1.0, own=True) for turn in _turns(step, self.config.on_policy_share)),
            *self.given(step),
        ]

    def given(self, step: int) -> list[_Item]:
        """Those microbatches of a step that are the same whatever the student has learnt."""
        own, beside = _turns(step, self.config.on_policy_share), _turns(step, self.config.general_share)
        annotated = [] if own else [_Item(batch, self.config.alpha) for batch in self.batches(step - own.start)]
        # nobody annotated general text: what counts there is to stay with the teacher
        return annotated + [_Item(self.general[turn % len(self.general)], 1.0) for turn in beside]

    def _general(self, dataset: Dataset) -> list[TextBatch]:
        """Batches of 4 general documents in which every token is a target."""
        documents = dataset.documents("train")
        if not documents:
            raise UserError("general_share needs general text to train on, expected documents in general.jsonl")
        rendered = []
        for document in documents:
            ids = self.feed.renderer.document_ids(document.text, self.config.cutoff_len)
            if len(ids) > 1:  # nothing follows from one token
                rendered.append(Rendered(tuple(ids), (True,) * len(ids), (), ()))
        if not rendered:
            raise UserError("general_share: no general document has two tokens, expected running text in general.jsonl")
        return [text_batch(rendered[k : k + 4]) for k in range(0, len(rendered), 4)]

    def _sampled(self, turn: int) -> TextBatch:
        """The student's own answers to the prompts of this turn, each of their tokens a target."""
        config, size = self.config, self.batches.batch_size
        chosen = [self.prompts[(turn * size + k) % len(self.prompts)] for k in range(size)]
        adapter = ADAPTER if self.student.lora is not None else None
        sampler = sampler_for(self.student, adapter)
        sampling = Sampling(config.response_length, 1.0, seed=config.seed * 100_003 + turn)
        answers = sample_answers(sampler, self.feed, chosen, sampling)
        sequences = [
            Rendered(
                (*a.rendered.ids, *a.ids),
                (*([False] * len(a.rendered.ids)), *([True] * len(a.ids))),
                a.rendered.image_places,
                a.rendered.images,
            )
            for a in answers
        ]
        return text_batch(sequences, self.feed.inputs(sequences))


def _turns(step: int, share: float) -> range:
    """The turns that fall on this step: those whole numbers that the running total of `share` passes."""
    return range(int(step * share), int((step + 1) * share))


def _student(config: Config, teacher: Model, device: torch.device) -> Model:
    if not config.student:
        student = load_model(config.teacher, config.dtype, device)
        if student.lora is not None:
            merge_adapter(student, ADAPTER)
        layers = student.backbone.language.config.get_text_config().num_hidden_layers
        keep_layers(student, evenly(layers, config.student_layers))
        return student
    student = load_model(config.student, config.dtype, device)
    if teacher.facts.kind == "composed" and student.facts.kind == "text":
        assert teacher.tower is not None
        attach_vision(student, teacher.tower, teacher.facts.image_grid)
    return student


def _check_vocabulary(teacher: Model, student: Model) -> None:
    """Distributions can only be compared token by token: same vocabulary, same ids."""
    theirs, ours = teacher.tokenizer.get_vocab(), student.tokenizer.get_vocab()
    if theirs == ours and teacher.backbone.head.shape[0] == student.backbone.head.shape[0]:
        return
    if theirs == ours:
        sizes = [model.backbone.head.shape[0] for model in (teacher, student)]
        raise UserError(
            f"teacher and student have heads of {sizes[0]} and {sizes[1]} rows for one vocabulary; expected as many: "
            "resize the larger one"
        )
    differing = next((token for token in theirs if ours.get(token) != theirs[token]), None)
    raise UserError(
        f"teacher and student have different vocabularies ({len(theirs)} and {len(ours)} tokens, first difference at "
        f"{differing!r}); expected a student of the same tokenizer"
    )


def _check_sight(teacher: Model, student: Model) -> None:
    """Both read the same features: one tower, pooled alike."""
    if student.tower is None:
        return
    same = teacher.facts.image_grid == student.facts.image_grid
    if teacher.tower is None:
        same = False
    elif same and student.tower is not teacher.tower:
        theirs, ours = teacher.tower.state_dict(), student.tower.state_dict()
        same = theirs.keys() == ours.keys() and all(torch.equal(theirs[name], ours[name]) for name in ours)
    if not same:
        raise UserError("teacher and student see through different towers or grids, expected one tower; align from it")


def _known(run: Run, teacher: Model, source: _Source, steps: int) -> KnownStates:
    """The teacher's states of everything that will be read, but for the student's own samples."""
    known = KnownStates(teacher, run.directory / "teacher.safetensors")
    with run.track(steps, "teacher") as bar:
        for step in range(steps):
            for item in source.given(step):
                known.prepare(item.batch)
            bar.advance(1)
            if run.stop_requested:
                known.save()
            run.raise_if_stopped()
    known.save()
    return known


def _loss(config: Config, item: _Item, ours: Tensor, student: Model, theirs: Tensor, teacher: Model) -> Loss:
    """Of the student's states beside the teacher's, by chunks: two whole tables of logits need gigabytes."""
    weights, targets = item.batch.weights.to(ours.device), item.batch.targets.to(ours.device)
    head = teacher.backbone.head.to(theirs.dtype)

    def loss_of(logits: Tensor, part: slice) -> Loss:
        expected = nn.functional.linear(theirs[part], head)
        if item.own:
            return reverse_kl(logits, expected, weights[part])
        return distillation_loss(logits, expected, targets[part], weights[part], config.distill_temperature, item.alpha)

    return linear_loss(ours, student.backbone.head, loss_of)


def _teacher_answers(
    run: Run, teacher: Model, dataset: Dataset, prompts: Sequence[Prompt], config: Config
) -> list[Conversation]:
    """The teacher's own answers as conversations; kept on disk, so that a resumed run learns from the same."""
    path = run.directory / "teacher_answers.json"
    if not path.is_file():
        feed = Feed(teacher, dataset.root, cache_directory())
        sampling = Sampling(config.response_length, 1.0, seed=config.seed)
        answers = sample_answers(sampler_for(teacher), feed, prompts, sampling)
        texts = [answer.text if answer.ended else "" for answer in answers]
        write_atomic(path, json.dumps(texts, ensure_ascii=False).encode())
    texts = json.loads(path.read_text(encoding="utf-8"))
    return [
        Conversation(
            id=f"teacher-{prompt.id}",
            messages=(*prompt.messages, Message("assistant", text)),
            task=prompt.task,
            scene=prompt.scene,
        )
        for prompt, text in zip(prompts, texts, strict=True)
        if text.strip()
    ]
