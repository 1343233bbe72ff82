"""What a model proposes for photographs that wait, and which of them a person should see first.

Every photograph that nobody has touched is asked about by the questions with a few possible answers; how unsure the
model is of them, weighted by how often it got them wrong in its last evaluation, is the photograph's `margin`. Of the
attributes that a tower was taught, its answers stand for the language model's: it learns from fewer photographs. What
two annotators see differently and what the model got wrong in the evaluation waits too, for a second look. Photographs
that are measured on wait for the last of these reasons alone. The first of the queue that nobody has touched get boxes,
a description and answers to accept, change or reject.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

import torch

from bessemer.algos.active import head_disagreement, margin_uncertainty, priorities
from bessemer.annotation.documents import label_set
from bessemer.annotation.listing import ids_in_state, image, image_file, images_by_sha256
from bessemer.annotation.predictions import import_predictions
from bessemer.annotation.queue import REASONS, Queued, annotator_disagreement, set_queue
from bessemer.annotation.shapes import Annotation
from bessemer.annotation.store import Project, open_project
from bessemer.config import Artifact
from bessemer.data.mixture import permutation
from bessemer.data.records import Example, ImageRef, Prompt
from bessemer.data.splits import hashed_part
from bessemer.disk import tree_hash
from bessemer.distributed import Mesh
from bessemer.errors import UserError
from bessemer.models.classifier import Classifier
from bessemer.models.feed import Feed
from bessemer.models.model import ADAPTER, Model, load_model
from bessemer.models.precision import Precision
from bessemer.models.reward import load_reward
from bessemer.models.roles import Role, Roles
from bessemer.progress import track
from bessemer.report.saved import read_outputs
from bessemer.rollout.collect import Answer, batch_of, sample_answers
from bessemer.rollout.confidence import confidences
from bessemer.rollout.sampler import Sampling, sampler_for
from bessemer.stages.answers import AT_ONCE, choice_probabilities, tower_probabilities
from bessemer.stages.begin import cache_directory
from bessemer.tasks.proposals import proposed_answer, proposed_caption, proposed_places
from bessemer.tasks.questions import attribute_prompts
from bessemer.tasks.visual import Pictured, caption_prompts, place_prompts
from bessemer.tasks.visual_wordings import default_visual_wordings
from bessemer.tasks.wordings import Wordings, load_wordings

__all__ = ["Config", "run", "waiting_pictures"]

K = TypeVar("K")
LEAST_ERRORS = 0.05  # a question that was never got wrong still counts a little


@dataclass
class Config:
    model: Artifact = Artifact("")
    """The model that proposes: a stage (runs/site/sft) or a directory of one; empty: the tower alone, which proposes
    answers."""
    tower: Artifact = Artifact("")
    """The tower stage (runs/site/tower), whose answers about the attributes it was taught stand for the model's: it
    learns from fewer photographs, and is asked in no time; empty: the model is asked about all."""
    dataset: Artifact = Artifact("import")
    """The import stage whose questions the model learned."""
    project: str = ""
    """The annotation project whose photographs wait."""
    evaluated: Artifact = Artifact("")
    """What the model said in its last evaluation (runs/site/evaluate/outputs/models/sft); empty: not known."""
    reward: Artifact = Artifact("")
    """The reward stage of this model, whose heads may disagree; empty: not asked."""
    budget: int = 50
    """So many photographs of the queue get boxes, a description and answers."""
    order: Literal["queue", "random"] = "queue"
    """What waits first: what teaches most, or (to compare with) anything."""
    test_share: float = 0.0
    """Photographs in this share, as the import stage splits them (its test_share and seed), are measured on: of these
    only what the model got wrong waits, for a second look; 0: all wait."""
    version: str = ""
    """Name of the model in the project; empty: its folder and the first digits of its hash."""
    language: Literal["en", "zh"] = "en"
    """Language of the questions."""
    response_length: int = 64
    """Longest answer in tokens."""
    dtype: Precision = "auto"
    """Type of weights and activations: bf16, fp32, or auto: bf16 where the device multiplies it."""
    seed: int = 0
    """Seed of the wordings, of the split, and of a random order."""


def run(config: Config) -> Path:
    """Propose and queue; returns the project's directory."""
    if not (config.model or config.tower) or not config.project:
        raise UserError(
            "expected a model (or a tower) and a project: bessemer preannotate model=runs/site/sft project=DIR"
        )
    if config.reward and not config.model:
        raise UserError("reward without a model, expected the model whose answers its heads may differ about")
    if config.budget < 1:
        raise UserError(f"budget={config.budget}, expected at least 1 photograph")
    directory = Path(config.project)
    wordings = load_wordings(Path(config.dataset) / "wordings.yaml")
    model = load_model(config.model, config.dtype, Mesh.start().device) if config.model else None
    asker = None if model is None else Asker(model, Feed(model, Path(config.dataset), cache_directory()))
    with open_project(directory) as project:
        waiting = waiting_pictures(project, config)
        if not waiting:
            raise UserError(f"{directory}: no photograph waits, expected some that nobody has touched; add photographs")
        asked = attribute_prompts(
            wordings, [_example(p, wordings) for p in waiting], list(wordings.attributes), config.seed
        )
        chances = _chances(asker, config, waiting, [prompt for prompt in asked if prompt.facts["choices"]])
        items = _queue(project, config, asker, waiting, chances)
        set_queue(project, items)
        by_id = {int(picture.id): picture for picture in waiting}
        first = [by_id[q.image] for q in items if q.image in by_id][: config.budget]
        version = config.version or _version(Path(config.tower) if model is None else model.source)
        proposals = _proposals(project, config, asker, first, chances)
        import_predictions(project, version, [(int(key), found) for key, found in proposals.items()])
        count = sum(map(len, proposals.values()))
    print(f"{len(items)} photographs wait in {directory}, {len(first)} of them with {count} proposals of {version}")
    return directory


def waiting_pictures(project: Project, config: Config) -> list[Pictured]:
    """Photographs without any document, those that are measured on left out."""
    found: list[Pictured] = []
    for id in ids_in_state(project, "todo"):
        facts = image(project, id)
        if not _measured_on(facts.sha256, config):
            found.append(Pictured(str(id), ImageRef(str(image_file(project, id)), facts.sha256), facts, {}))
    return found


def _measured_on(sha256: str, config: Config) -> bool:
    return hashed_part(sha256, config.seed, config.test_share, 0) == "test"


def _example(picture: Pictured, wordings: Wordings) -> Example:
    """Any label will do: only the question is used."""
    return Example(picture.id, picture.ref, {name: a.values[0] for name, a in wordings.attributes.items()})


Chances = Mapping[str, list[tuple[Prompt, dict[str, float]]]]  # photograph -> its questions and their answers' chances


@dataclass(frozen=True)
class Asker:
    """A language model that can be asked about photographs."""

    model: Model
    feed: Feed


def _chances(asker: Asker | None, config: Config, waiting: Sequence[Pictured], prompts: Sequence[Prompt]) -> Chances:
    """By the tower where it was taught, else by the model."""
    found: dict[str, list[tuple[Prompt, dict[str, float]]]] = defaultdict(list)
    seen = _seen(Path(config.tower), waiting) if config.tower else {}
    left = []
    for prompt in prompts:
        said = seen.get(prompt.provenance["example"], {}).get(prompt.facts["asked"][0])
        if said is not None and said.keys() == prompt.facts["choices"].keys():
            found[prompt.provenance["example"]].append((prompt, said))
        else:
            left.append(prompt)
    if asker is None:
        return found
    asker.feed.prepare([prompt.messages for prompt in left])
    with track(len(left), "how sure") as bar:
        for start in range(0, len(left), 64):
            part = left[start : start + 64]
            for prompt, chance in zip(part, choice_probabilities(asker.model, asker.feed, part), strict=True):
                found[prompt.provenance["example"]].append((prompt, chance))
            bar.advance(len(part))
    return found


def _seen(directory: Path, waiting: Sequence[Pictured]) -> dict[str, dict[str, dict[str, float]]]:
    """Photograph -> attribute -> the tower's probability of each value."""
    if not (directory / "model" / "classifier").is_dir():
        raise UserError(f"tower={directory}: no classifier is there, expected a finished tower stage")
    classifier = Classifier.load(directory / "model")
    found: dict[str, dict[str, dict[str, float]]] = {}
    with track(len(waiting), "what the tower sees") as bar:
        for start in range(0, len(waiting), AT_ONCE):
            part = waiting[start : start + AT_ONCE]
            for name, rows in tower_probabilities(classifier, [picture.ref for picture in part]).items():
                for picture, chances in zip(part, rows.tolist(), strict=True):
                    seen = found.setdefault(picture.id, {})
                    seen[name] = dict(zip(classifier.attributes[name], chances, strict=True))
            bar.advance(len(part))
    return found


def _queue(
    project: Project, config: Config, asker: Asker | None, waiting: Sequence[Pictured], chances: Chances
) -> list[Queued]:
    """Everything that waits, the most worth while first."""
    if config.order == "random":
        order = permutation(len(waiting), "queue", config.seed)
        return [Queued(int(waiting[i].id), 1 - n / len(waiting), {}) for n, i in enumerate(order)]
    errors, failed = _last_errors(project, config)
    reasons: dict[int, dict[str, float]] = defaultdict(dict)
    margins = {int(key): _margin(asked, errors) for key, asked in chances.items()}
    for name, found in (
        ("margin", margins),
        ("heads", _heads(config, asker, chances)),
        ("annotators", _differing(project, config)),
        ("failed", failed),  # all of them measured on: whose truth may be wrong, and what to collect more of
    ):
        for key, value in found.items():
            if value > 0:
                reasons[key][name] = value
    ids = sorted({*reasons, *(int(p.id) for p in waiting)})
    rows = [[reasons[id].get(name, float("nan")) for name in REASONS] for id in ids]
    worth = priorities(torch.tensor(rows, dtype=torch.float64)).tolist()
    items = [Queued(id, value, reasons[id]) for id, value in zip(ids, worth, strict=True)]
    return sorted(items, key=lambda q: (-q.priority, q.image))


def _differing(project: Project, config: Config) -> dict[int, float]:
    """How far annotators are apart about each photograph that is not measured on."""
    tested = {id for sha256, ids in images_by_sha256(project).items() if _measured_on(sha256, config) for id in ids}
    return {id: value for id, value in annotator_disagreement(project).items() if id not in tested}


def _margin(asked: Sequence[tuple[Prompt, Mapping[str, float]]], errors: Mapping[str, float]) -> float:
    """Mean uncertainty of the questions, each weighted by how often its attribute was got wrong."""
    weights = [max(LEAST_ERRORS, errors.get(prompt.facts["asked"][0], 1.0)) for prompt, _ in asked]
    unsure = [float(margin_uncertainty(torch.tensor(list(chance.values())))) for _, chance in asked]
    return min(1.0, max(0.0, sum(w * u for w, u in zip(weights, unsure, strict=True)) / sum(weights)))


def _last_errors(project: Project, config: Config) -> tuple[dict[str, float], dict[int, float]]:
    """Of the last evaluation: attribute -> share of wrong answers, and photograph -> share of wrong answers."""
    if not config.evaluated:
        return {}, {}
    ids = images_by_sha256(project)
    by_name: dict[str, list[bool]] = defaultdict(list)
    by_image: dict[int, list[bool]] = defaultdict(list)
    for answer in read_outputs(Path(config.evaluated)).answers:
        wrong = answer.parsed != answer.truth
        by_name[answer.attribute].append(wrong)
        for id in ids.get(answer.image_sha256 or "", []):
            by_image[id].append(wrong)
    return _shares(by_name), _shares(by_image)


def _shares(wrong: Mapping[K, Sequence[bool]]) -> dict[K, float]:
    return {key: sum(found) / len(found) for key, found in wrong.items()}


@torch.no_grad()
def _heads(config: Config, asker: Asker | None, chances: Chances) -> dict[int, float]:
    """How far the reward model's heads are apart about the answer to each photograph's least certain question; as a
    share of the largest."""
    if not config.reward or asker is None:
        return {}
    model, feed = asker.model, asker.feed
    asked = [max(some, key=lambda item: _margin([item], {}))[0] for some in chances.values()]
    sampler = sampler_for(model, ADAPTER if model.lora is not None else None)
    answers = sample_answers(sampler, feed, asked, Sampling(config.response_length, 0.0))
    roles = Roles(model, {"reward": Role("reward", load_reward(model, Path(config.reward), "reward"))})
    scores = [
        roles.scores("reward", batch_of(feed, answers[start : start + 32]).packed).float().cpu()
        for start in range(0, len(answers), 32)
    ]
    apart = head_disagreement(torch.cat(scores))
    apart = apart / apart.max().clamp(min=1e-12)
    return {int(a.prompt.provenance["example"]): float(v) for a, v in zip(answers, apart, strict=True)}


def _proposals(
    project: Project, config: Config, asker: Asker | None, pictures: Sequence[Pictured], chances: Chances
) -> dict[str, list[Annotation]]:
    """Photograph -> boxes of every label and a description, where a model can give them, and the likeliest answers."""
    visual = default_visual_wordings(config.language)
    labels = [label.name for label in label_set(project).labels]
    places = place_prompts(visual, pictures, labels, config.seed)
    captions = caption_prompts(visual, pictures, config.seed)
    answers = _answers(config, asker, [*places, *captions]) if asker is not None else []
    found: dict[str, list[Annotation]] = {picture.id: [] for picture in pictures}
    sure = confidences(asker.model, asker.feed, answers) if asker is not None else []
    for answer, score in zip(answers, sure, strict=True):
        propose = proposed_places if answer.prompt.task == "detect" else proposed_caption
        found[answer.prompt.provenance["example"]] += propose(answer.prompt, answer.text, score)
    for picture in pictures:
        for prompt, chance in chances.get(picture.id, []):
            found[picture.id] += proposed_answer(prompt, chance)
    return found


def _answers(config: Config, asker: Asker, prompts: Sequence[Prompt]) -> list[Answer]:
    model, feed = asker.model, asker.feed
    feed.prepare([prompt.messages for prompt in prompts])
    sampler = sampler_for(model, ADAPTER if model.lora is not None else None)
    made: list[Answer] = []
    with track(len(prompts), "proposals") as bar:
        for start in range(0, len(prompts), 128):
            part = prompts[start : start + 128]
            made += sample_answers(sampler, feed, part, Sampling(config.response_length, 0.0), batch_size=64)
            bar.advance(len(part))
    return made


def _version(source: Path) -> str:
    folder = source.parent if source.name == "model" else source
    return f"{folder.parent.name}/{folder.name} {tree_hash(source)[:8]}"
