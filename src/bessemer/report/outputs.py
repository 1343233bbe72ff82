"""What the evaluate stage hands over: every answer of every model, unscored, and the facts beside it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

__all__ = [
    "Agreement",
    "Attribute",
    "Context",
    "Evaluation",
    "LabelledAnswer",
    "ModelFacts",
    "ModelOutputs",
    "Parent",
    "PromptAnswer",
    "RewardPair",
    "StageFacts",
]


@dataclass(frozen=True)
class Attribute:
    """A label of the photographs: its values (in order when `ordered`) and the one that counts as
    positive."""

    name: str
    values: tuple[str, ...]
    ordered: bool = False
    positive: str | None = None


@dataclass(frozen=True)
class LabelledAnswer:
    """One model's answer to one question about one labelled test example.

    `truth` and `parsed` are values of `attribute`, as strings; `parsed` None means that the answer could not
    be read (it counts as wrong). `text` is None for a classifier. `probability` is that of the attribute's
    positive value, from the answer's log-odds. `group` names what must be resampled together (the module, the
    block); None when independent.
    """

    id: str
    attribute: str
    truth: str | None
    parsed: str | None
    text: str | None = None
    probability: float | None = None
    task: str = ""
    question: str = ""
    image: str | None = None
    image_sha256: str | None = None
    group: str | None = None
    labels: dict[str, str | int | float | bool | None] = field(default_factory=dict)
    ended: bool | None = None


@dataclass(frozen=True)
class PromptAnswer:
    """One model's answer to one held-out prompt, with the rules' score of each principle in [0, 1] (None:
    cannot judge).

    `reference` is the answer a person or a document gave; token-F1 is measured against it where it is not
    None. `visual` holds the facts of a question about a picture whose annotations are known, as `tasks.visual`
    lists them: kind, picture, names, classes, scenes, and objects, count or where.
    """

    id: str
    question: str
    text: str
    principles: dict[str, float | None]
    task: str = ""
    image: str | None = None
    image_sha256: str | None = None
    group: str | None = None
    reference: str | None = None
    ended: bool | None = None
    visual: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ModelFacts:
    """What is known of a model apart from its answers; None is "not measured"."""

    description: str = ""
    perplexity_general: float | None = None
    ms_per_image: float | None = None
    megabytes: float | None = None
    layers: int | None = None
    parameters: int | None = None
    active_parameters: int | None = None


@dataclass(frozen=True)
class ModelOutputs:
    """Everything one model said: `answers` on the labelled test examples, `prompts` on the held-out
    prompts."""

    name: str
    facts: ModelFacts = ModelFacts()
    answers: tuple[LabelledAnswer, ...] = ()
    prompts: tuple[PromptAnswer, ...] = ()


@dataclass(frozen=True)
class RewardPair:
    """Two answers of one held-out prompt under one principle: the reward of the first minus that of the
    second.

    `target` is the share of annotators who prefer the first (1, 0, or 0.5 for a tie). The two other margins
    are those of the baselines fitted on the training rankings: answer length alone, and a bag of words. `borrowed`:
    the model did not give both to this prompt. `subject`: what stands for the photograph or question; pairs of one
    depend on one another ("": the prompt).
    """

    prompt: str
    principle: str
    margin: float
    target: float
    length_margin: float | None = None
    bag_of_words_margin: float | None = None
    borrowed: bool = False
    subject: str = ""


@dataclass(frozen=True)
class Agreement:
    """How far annotators agree on one principle; everything is None when there was one annotator."""

    alpha: float | None = None
    alpha_interval: tuple[float, float] | None = None
    pair_agreement: float | None = None
    pair_interval: tuple[float, float] | None = None
    tau_b: float | None = None
    pairs: int | None = None
    annotators: int | None = None
    flagged: bool | None = None
    weight: float | None = None


@dataclass(frozen=True)
class Parent:
    """An input of a stage: the name of its directory or asset, and the hash of its contents."""

    name: str
    sha256: str


@dataclass(frozen=True)
class StageFacts:
    """One stage's line in the lineage: what it read, by field, the hash of the model it made, how long it
    took."""

    stage: str
    directory: str
    fingerprint: str | None = None
    sha256: str | None = None
    parents: dict[str, Parent] = field(default_factory=dict)
    seed: int | None = None
    seconds: float | None = None


@dataclass(frozen=True)
class Context:
    """What the page says above its first number; `main` names the attribute that "accuracy" is about (None:
    text only).

    `annotator` is who ranked for the reward model (empty: nothing was ranked), `scorer` who scored the
    held-out answers; both may be "rules". The six model names say which rows of the table play which part; a
    part that was not run is simply absent. `date`, `machine` and `git_commit` are given by the caller, so
    that the same inputs give the same bytes.
    """

    dataset: str
    split: str
    seed: int
    attributes: tuple[Attribute, ...] = ()
    main: str | None = None
    title: str = ""
    annotator: str = "rules"
    scorer: str = "rules"
    trivial: str = "trivial"
    base: str = "base"
    sft: str = "sft"
    aligned: str = "ppo"
    student: str = "student"
    control: str = "shuffled"
    featured: str | None = None
    command: str | None = None
    date: str | None = None
    git_commit: str | None = None
    version: str | None = None
    machine: dict[str, str | int | float | None] = field(default_factory=dict)
    assets: dict[str, str] = field(default_factory=dict)
    licences: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Evaluation:
    """All that a report is made of; `metrics` and `control_metrics` are the lines of the two runs'
    metrics.jsonl."""

    context: Context
    models: tuple[ModelOutputs, ...] = ()
    reward_pairs: tuple[RewardPair, ...] = ()
    agreement: dict[str, Agreement] = field(default_factory=dict)
    metrics: tuple[dict[str, float | None], ...] = ()
    control_metrics: tuple[dict[str, float | None], ...] = ()
    lineage: tuple[StageFacts, ...] = ()

    def model(self, name: str) -> ModelOutputs | None:
        """The outputs of the model of that name, or None."""
        return next((model for model in self.models if model.name == name), None)
