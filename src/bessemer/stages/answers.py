"""What each kind of model says about the test photographs and the held-out prompts; nothing is scored here."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from bessemer.algos.head import linear_logprobs
from bessemer.data.batches import Packed, pack, pack_answers, response_rows
from bessemer.data.dataset import Dataset
from bessemer.data.images import load_image, to_pixels
from bessemer.data.records import Document, Example, ImageRef, Prompt
from bessemer.data.render import Rendered
from bessemer.models.classifier import Classifier
from bessemer.models.features import FeatureStore
from bessemer.models.feed import Feed
from bessemer.models.model import ADAPTER, Model
from bessemer.models.precision import mixed
from bessemer.models.vision import Tower
from bessemer.report.outputs import LabelledAnswer, ModelFacts, ModelOutputs, PromptAnswer
from bessemer.rollout.collect import Answer, sample_answers
from bessemer.rollout.sampler import Sampler, Sampling, Tell, sampler_for
from bessemer.tasks.judge import judge
from bessemer.tasks.parse import parse_value

__all__ = [
    "AT_ONCE", "choice_probabilities", "classifier_outputs", "language_outputs", "probe_outputs", "tower_probabilities",
    "trivial_outputs",
]  # fmt: skip

AT_ONCE = 32  # photographs that the tower looks at together: more than twice as fast as one at a time
IN_FLIGHT = 128  # answers: held-out ones came 1.0 and 1.3 times as fast as with 64
_VISUAL = ("kind", "picture", "names", "classes", "scenes", "objects", "count", "where")  # facts, see `tasks.visual`


def language_outputs(
    name: str,
    model: Model,
    dataset: Dataset,
    cache: Path,
    questions: Sequence[Prompt],
    heldout: Sequence[Prompt],
    documents: Sequence[Document],
    *,
    main: str | None,
    response_length: int,
    temperature: float,
    copies: int,
    seed: int,
    tell: Tell | None = None,
) -> ModelOutputs:
    """Answers of a language or vision-language model.

    Questions about labels are answered greedily, in 24 tokens at most, or as many as a true answer takes; held-out
    prompts are sampled at `temperature`, each `copies` times, as the policy that RL optimises. Probabilities come from
    the log-odds of the choices' words. `tell` hears how many more answers there are, of len(questions) + copies
    len(heldout).
    """
    feed = Feed(model, dataset.root, cache)
    sampler = sampler_for(model, ADAPTER if model.lora is not None else None)
    feed.prepare([prompt.messages for prompt in [*questions, *heldout]])
    graded = [prompt for prompt in questions if _positive(prompt) is not None]
    watched = {prompt.id: found for prompt in graded if (found := _first_tokens(feed, prompt))}
    tokens = tuple(sorted({token for some in watched.values() for token in some.values()}))
    longest = min(response_length, _room(feed, questions))
    how = Sampling(longest, 0.0, watched=tokens)
    greedy = sample_answers(sampler, feed, questions, how, batch_size=IN_FLIGHT, tell=tell)
    # an answer's first logits tell the choices apart for nothing; where they begin alike their words are read
    odds = {
        answer.prompt.id: _share(watched[answer.prompt.id], dict(zip(tokens, answer.first, strict=True)), answer.prompt)
        for answer in greedy
        if answer.prompt.id in watched
    }
    alike = [prompt for prompt in graded if prompt.id not in watched and _asked(prompt) == main]
    for prompt, chances in zip(alike, choice_probabilities(model, feed, alike), strict=True):
        odds[prompt.id] = chances[str(_positive(prompt))]
    how = Sampling(response_length, temperature, seed=seed)
    sampled = sample_answers(sampler, feed, heldout, how, copies, IN_FLIGHT, tell)
    timed = list({_example_id(prompt): prompt for prompt in questions}.values())[:6]
    return ModelOutputs(
        name,
        _facts(sampler, feed, documents, timed, longest),
        tuple(_labelled(answer, odds.get(answer.prompt.id)) for answer in greedy),
        tuple(_said(answer) for answer in sampled),
    )


def _room(feed: Feed, questions: Sequence[Prompt]) -> int:
    """Tokens for an answer about a label: few, since a model that rambles costs time and says nothing more, but room
    for the longest true answer, which may be a sentence of a script that takes several tokens a character."""
    told = {str(prompt.facts["reference"]) for prompt in questions if prompt.facts.get("reference")}
    return max([24, *(len(feed.renderer.answer_ids(text)) for text in told)])


def _first_tokens(feed: Feed, prompt: Prompt) -> dict[str, int]:
    """Choice -> first token of its word; {} where two begin alike."""
    found = {value: feed.renderer.answer_ids(word, ended=False)[0] for value, word in prompt.facts["choices"].items()}
    return found if len(set(found.values())) == len(found) else {}


def _share(tokens: Mapping[str, int], logits: Mapping[int, float], prompt: Prompt) -> float:
    shares = torch.tensor([logits[token] for token in tokens.values()]).softmax(0)
    return float(shares[list(tokens).index(str(_positive(prompt)))])


def _labelled(answer: Answer, probability: float | None) -> LabelledAnswer:
    prompt = answer.prompt
    return LabelledAnswer(
        id=_example_id(prompt),
        attribute=_asked(prompt),
        truth=prompt.facts["expected"][_asked(prompt)],
        parsed=parse_value(prompt.facts, answer.text),
        text=answer.text,
        probability=probability,
        task=prompt.task,
        question=prompt.messages[-1].text,
        image=_image(prompt),
        image_sha256=_image(prompt, "sha256"),
        group=prompt.provenance.get("group"),
        labels=dict(prompt.facts.get("labels", {})),
        ended=answer.ended,
    )


def _said(answer: Answer) -> PromptAnswer:
    prompt = answer.prompt
    return PromptAnswer(
        id=prompt.id,
        question=prompt.messages[-1].text,
        text=answer.text,
        principles=judge(prompt, answer.text, answer.ended),
        task=prompt.task,
        image=_image(prompt),
        image_sha256=_image(prompt, "sha256"),
        group=prompt.provenance.get("group"),
        reference=prompt.facts.get("reference"),
        ended=answer.ended,
        visual={key: prompt.facts[key] for key in _VISUAL if key in prompt.facts} if "picture" in prompt.facts else {},
    )


@torch.no_grad()
def tower_probabilities(
    classifier: Classifier, images: Sequence[ImageRef], root: Path | None = None
) -> dict[str, Tensor]:
    """What the tower says of some photographs at once: attribute -> probability of each of its values (N, K), in their
    order."""
    tower = classifier.tower
    pixels = [to_pixels(load_image(image, root), tower.image_size, tower.mean, tower.std) for image in images]
    with mixed(next(classifier.parameters()).device):
        logits = classifier(torch.stack(pixels).contiguous(memory_format=torch.channels_last))
    return {name: rows.float().softmax(-1) for name, rows in logits.items()}


def classifier_outputs(
    classifier: Classifier,
    dataset: Dataset,
    examples: Sequence[Example],
    positives: Mapping[str, str | None],
    tell: Tell,
) -> ModelOutputs:
    """The fine-tuned tower's answers; positives: attribute -> its positive value, if it has one; `tell` hears how many
    more photographs there are. The first of them are looked at once more, one at a time: how long one takes."""
    images = [example.image for example in examples]
    found: dict[str, list[Tensor]] = {name: [] for name in classifier.attributes}
    for start in range(0, len(images), AT_ONCE):
        part = images[start : start + AT_ONCE]
        for name, chances in tower_probabilities(classifier, part, dataset.root).items():
            found[name].append(chances)
        tell(len(part))
    times = []
    for image in images[:AT_ONCE]:
        began = time.perf_counter()
        tower_probabilities(classifier, [image], dataset.root)
        times.append(1000 * (time.perf_counter() - began))
    rows = []
    for name, values in classifier.attributes.items():
        rows += _classified(examples, name, values, torch.cat(found[name]).numpy(), positives.get(name))
    size = sum(p.numel() for p in classifier.parameters())
    facts = ModelFacts(
        "the vision tower fine-tuned alone as a classifier",
        ms_per_image=statistics.median(times),
        megabytes=size * 4 / 1e6,
        parameters=size,
        active_parameters=size,
    )
    return ModelOutputs("tower", facts, tuple(rows))


def probe_outputs(
    tower: Tower,
    dataset: Dataset,
    cache: Path,
    train: Sequence[Example],
    examples: Sequence[Example],
    positives: Mapping[str, str | None],
) -> ModelOutputs:
    """A linear probe (logistic regression) on the untouched tower's averaged features."""
    store = FeatureStore(tower, 1, dataset.root, cache)
    store.prepare([example.image for example in [*train, *examples]])
    seen = store.features([example.image for example in train])[:, 0].float().numpy()
    test = store.features([example.image for example in examples])[:, 0].float().numpy()
    rows = []
    for name, positive in positives.items():
        labels = [example.labels.get(name) for example in train]
        known = [index for index, label in enumerate(labels) if label is not None]
        if len({labels[index] for index in known}) < 2:
            continue
        probe = make_pipeline(StandardScaler(), LogisticRegression(C=0.003, max_iter=2000))
        probe.fit(seen[known], [labels[index] for index in known])
        values = [str(value) for value in probe.classes_]
        rows += _classified(examples, name, values, probe.predict_proba(test), positive)
    size = sum(p.numel() for p in tower.parameters())
    facts = ModelFacts("logistic regression on the untouched tower", parameters=size, active_parameters=size)
    return ModelOutputs("probe", facts, tuple(rows))


def trivial_outputs(
    train: Sequence[Example], examples: Sequence[Example], positives: Mapping[str, str | None]
) -> ModelOutputs:
    """The most frequent value of the training photographs, whatever is shown."""
    rows = []
    for name, positive in positives.items():
        values = sorted({e.labels[name] for e in train if name in e.labels})
        if not values:
            continue
        shares = np.array([sum(e.labels.get(name) == value for e in train) for value in values], dtype=float)
        rows += _classified(examples, name, values, np.tile(shares / shares.sum(), (len(examples), 1)), positive)
    return ModelOutputs("trivial", ModelFacts("the most frequent answer", parameters=0), tuple(rows))


def _classified(
    examples: Sequence[Example], name: str, values: Sequence[str], probabilities: np.ndarray, positive: str | None
) -> list[LabelledAnswer]:
    """`probabilities` (n, K) of the values; a positive value that training never showed has probability 0."""
    column = values.index(positive) if positive in values else None
    return [
        LabelledAnswer(
            id=example.id,
            attribute=name,
            truth=example.labels.get(name),
            parsed=values[int(row.argmax())],
            probability=None if positive is None else 0.0 if column is None else float(row[column]),
            image=example.image.path,
            image_sha256=example.image.sha256,
            group=example.group,
            labels=dict(example.labels),
        )
        for example, row in zip(examples, probabilities, strict=True)
        if name in example.labels
    ]


def _asked(prompt: Prompt) -> str:
    return str(prompt.facts["asked"][0])


def _positive(prompt: Prompt) -> str | None:
    """The positive value of what is asked, if it has one and there are words whose log-odds can be taken."""
    positive: str | None = prompt.facts["attributes"][_asked(prompt)]["positive"]
    return positive if positive in prompt.facts["choices"] else None


def _example_id(prompt: Prompt) -> str:
    return str(prompt.provenance.get("example", prompt.id))


def _image(prompt: Prompt, key: str = "path") -> str | None:
    for message in prompt.messages:
        for image in message.images:
            return image.path if key == "path" else image.sha256
    return None


@torch.no_grad()
def choice_probabilities(model: Model, feed: Feed, prompts: Sequence[Prompt]) -> list[dict[str, float]]:
    """Probability of each choice of each prompt (its facts' `choices`), from the log-probabilities of their words."""
    found: list[dict[str, float]] = []
    for start in range(0, len(prompts), 32):
        part = prompts[start : start + 32]
        rendered = [feed.renderer.prompt(prompt.messages) for prompt in part]
        firsts = [list(_first_tokens(feed, prompt).values()) for prompt in part]
        if all(firsts):  # they tell the choices apart: one pass over the prompts alone is enough
            scores = _first_token_scores(model, feed.pack(rendered), firsts)
        else:
            scores = _word_scores(model, feed, part, rendered)
        for prompt, values in zip(part, scores, strict=True):
            shares = torch.tensor(values).softmax(0).tolist()
            found.append(dict(zip(prompt.facts["choices"], shares, strict=True)))
    return found


def _word_scores(
    model: Model, feed: Feed, prompts: Sequence[Prompt], rendered: Sequence[Rendered]
) -> list[list[float]]:
    """Log-probability of the whole word of each choice."""
    counts = [len(prompt.facts["choices"]) for prompt in prompts]
    repeated = [one for one, count in zip(rendered, counts, strict=True) for _ in range(count)]
    words = [
        feed.renderer.answer_ids(word, ended=False) for prompt in prompts for word in prompt.facts["choices"].values()
    ]
    packed, prompt_length, lengths = pack_answers(repeated, words, feed.inputs(repeated))
    rows = response_rows(packed, prompt_length, lengths)
    logprobs, _ = linear_logprobs(model.backbone.hidden(packed)[rows], model.backbone.head, packed.ids[rows + 1])
    sums = torch.stack([piece.sum() for piece in logprobs.split(lengths.tolist())])
    return [part.tolist() for part in sums.split(counts)]


def _first_token_scores(model: Model, packed: Packed, tokens: Sequence[Sequence[int]]) -> list[list[float]]:
    last = torch.tensor(packed.lengths).cumsum(0) - 1
    logits = (model.backbone.hidden(packed)[last] @ model.backbone.head.T).float()
    return [[float(row[token]) for token in some] for row, some in zip(logits, tokens, strict=True)]


@torch.no_grad()
def perplexity(model: Model, feed: Feed, documents: Sequence[Document], cutoff: int = 512) -> float | None:
    """exp of the mean negative log-likelihood a token of general text."""
    total, count = 0.0, 0
    rendered = [feed.renderer.document_ids(document.text, cutoff) for document in documents]
    told = [Rendered(tuple(ids), (True,) * len(ids), (), ()) for ids in rendered if len(ids) > 1]
    for start in range(0, len(told), 8):
        packed = pack(told[start : start + 8])
        rows = torch.cat([torch.arange(s, s + n - 1) for s, n in zip(packed.starts(), packed.lengths, strict=True)])
        logprobs, _ = linear_logprobs(model.backbone.hidden(packed)[rows], model.backbone.head, packed.ids[rows + 1])
        total, count = total - float(logprobs.double().sum()), count + len(rows)
    return float(np.exp(total / count)) if count else None


def _facts(
    sampler: Sampler, feed: Feed, documents: Sequence[Document], questions: Sequence[Prompt], longest: int
) -> ModelFacts:
    model, language = sampler.model, sampler.model.backbone.language
    parts = [language, model.lora, getattr(model.backbone, "projector", None), getattr(model.backbone, "tower", None)]
    parameters = sum(p.numel() for part in parts if part is not None for p in part.parameters())
    return ModelFacts(
        perplexity_general=perplexity(model, feed, documents),
        ms_per_image=_milliseconds(sampler, feed, questions, longest),
        megabytes=sum(p.numel() * p.element_size() for part in parts if part is not None for p in part.parameters())
        / 1e6,
        layers=language.config.get_text_config().num_hidden_layers,
        parameters=parameters,
        active_parameters=parameters,
    )


@torch.no_grad()
def _milliseconds(sampler: Sampler, feed: Feed, questions: Sequence[Prompt], longest: int) -> float | None:
    """Median time of one question about one photograph, from file to an answer of up to `longest` tokens, one at a
    time."""
    model, times = sampler.model, []
    for prompt in questions:
        began = time.perf_counter()
        if model.tower is not None and prompt.messages[-1].images:
            tower = model.tower
            image = load_image(prompt.messages[-1].images[0], feed.root)
            tower(to_pixels(image, tower.image_size, tower.mean, tower.std)[None].to(model.backbone.device))
        sample_answers(sampler, feed, [prompt], Sampling(longest, 0.0))
        times.append(1000 * (time.perf_counter() - began))
    return statistics.median(times) if times else None
