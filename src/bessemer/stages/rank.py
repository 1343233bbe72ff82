"""Several answers to each question, ordered by each principle.

The answers are sampled from the fine-tuned model. Who orders them is the recipe's choice: rules from ground truth,
simulated annotators of stated noise, files made by people, or an AI judge; each is named for what it is wherever its
rankings appear. Agreement between annotators decides how much a principle weighs.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import islice
from pathlib import Path

from bessemer.config import Artifact
from bessemer.data.dataset import Dataset
from bessemer.data.records import Prompt, Ranking, read_records, write_records
from bessemer.disk import write_json
from bessemer.distributed import Mesh
from bessemer.errors import UserError
from bessemer.models.feed import Feed
from bessemer.models.model import ADAPTER, load_model
from bessemer.models.precision import Precision
from bessemer.rollout.collect import Answer, sample_answers
from bessemer.rollout.sampler import Sampler, Sampling, sampler_for
from bessemer.run import Run
from bessemer.stages.begin import begin, cache_directory
from bessemer.tasks.agreement import agreement_table, measure_agreement
from bessemer.tasks.ai_judge import AiJudge
from bessemer.tasks.graded import spoilt, worse_answers
from bessemer.tasks.judge import PRINCIPLES
from bessemer.tasks.questions import hashed
from bessemer.tasks.rankers import People, Ranker, Rules, Simulated

__all__ = ["Config", "run"]

Given = tuple[str, bool]  # an answer's text, and whether the model itself ended it
RANKERS = {"rules", "simulated", "people", "ai"}
PARTS = "parts"  # folder of the answers while they are sampled


@dataclass
class Config:
    model_name_or_path: Artifact = Artifact("sft")
    """Model that answers."""
    dataset: Artifact = Artifact("import")
    """What the import stage wrote; rank.jsonl is read."""
    answers: Artifact = Artifact("")
    """answers.jsonl of an earlier run of this stage, or its directory: these are ranked and none is sampled, so that
    what people ranked stays what they ranked; empty: the model answers."""
    num_generations: int = 4
    """Answers to each question (at least 2; 4 is usual)."""
    borrowed_answers: int = 0
    """Further answers to each question, which the model gave to others, in turn of the same task (sound in form and
    mostly wrong here: a reward model has to look at the photograph) and of another (it has to heed what was asked)."""
    flawed_answers: int = 0
    """Further answers to each question with a flaw that the model may not have yet, made by rule: in turn one of its
    own with its form spoilt (cut off, repeating itself, keywords, debris ...) and, where annotations tell what would be
    wrong (scenes, annotated photographs), the reference made worse; elsewhere another spoilt one."""
    max_prompts: int = 0
    """Only so many questions; 0: all."""
    rankers: list[str] = field(default_factory=lambda: ["rules"])
    """Who orders them: rules, simulated, people, ai; several may."""
    principles: list[str] = field(default_factory=lambda: list(PRINCIPLES))
    """What answers are ordered by."""
    simulated_noise: list[float] = field(default_factory=lambda: [0.02, 0.05])
    """Noise of each simulated annotator, in units of the score; it calls equal what differs by less than three times
    that."""
    people_files: list[Artifact] = field(default_factory=list)
    """Rankings by people: a snapshot of an annotation project, or a JSONL file: answers.jsonl of this stage, with their
    name and ranks filled in."""
    judge_url: str = ""
    """Base URL of an OpenAI-compatible server for the AI judge."""
    judge_model: str = ""
    """Its model."""
    judge_key_variable: str = ""
    """Environment variable that holds its key."""
    judge_images: bool = False
    """Send the AI judge the photographs; otherwise it is told the labels alone, where there are any."""
    agreement_alpha: float = 0.4
    """Principles with a Krippendorff alpha below this are flagged and weigh less."""
    response_length: int = 48
    """Longest answer in tokens."""
    temperatures: list[float] = field(default_factory=lambda: [1.0])
    """Sampling temperatures that the answers to a question take in turn; [1, 1, 1, 1.5] draws every fourth wilder, so
    that form differs too."""
    batch_size: int = 128
    """Answers sampled at once."""
    dtype: Precision = "auto"
    """Type of weights and activations: bf16, fp32, or auto: bf16 where the device multiplies it."""
    seed: int = 0
    """Seed of sampling and of simulated annotators."""
    output_dir: str = "runs/rank"
    """Where to write."""

    def faults(self) -> dict[str, bool]:
        """What could be wrong with it in itself, and whether it is."""
        unknown = sorted(set(self.rankers) - RANKERS)
        return {
            f"rankers names {unknown}, expected rules, simulated, people or ai": bool(unknown),
            f"num_generations={self.num_generations}, expected at least 2 answers to order": self.num_generations < 2,
            f"temperatures={self.temperatures}, expected numbers of at least 0": min(self.temperatures, default=-1) < 0,
            "rankers is empty, expected rules, simulated, people or ai": not self.rankers,
            "rankers names people, expected people_files with their rankings": "people" in self.rankers
            and not self.people_files,
            "rankers names ai, expected judge_url and judge_model": "ai" in self.rankers
            and not (self.judge_url and self.judge_model),
        }


def run(config: Config) -> Path:
    """Sample answers.jsonl, have them ranked into rankings.jsonl, and measure agreement.json."""
    run = begin(config, "rank")
    dataset = Dataset(Path(config.dataset))
    prompts = dataset.prompts("rank")[: config.max_prompts or None]
    rankers = _rankers(config, dataset)
    if config.answers:
        prompts, answers = _given(Path(config.answers), config.max_prompts)
    else:
        drawn = _answers(run, config, dataset, prompts)
        answers = with_borrowed(prompts, drawn, config.borrowed_answers, config.seed)
        answers = with_flawed(prompts, answers, config.num_generations, config.flawed_answers, config.seed)
        # with the prompt, which every ranking of it carries, whoever makes it
        drawn_at = {"temperatures": _temperatures(config)}
        prompts = [replace(prompt, provenance={**prompt.provenance, **drawn_at}) for prompt in prompts]
    write_records(run.directory / "answers.jsonl", _unranked(config, prompts, answers))
    rankings = _ranked(run, config, rankers, prompts, answers)
    if not rankings:
        raise UserError("nobody ranked anything; expected rankers that know these prompts")
    write_records(run.directory / "rankings.jsonl", rankings)
    agreement = measure_agreement(rankings, config.principles, config.agreement_alpha, seed=config.seed)
    found = {name: asdict(entry) for name, entry in agreement.items()}
    write_json(run.directory / "agreement.json", found)
    print(agreement_table(agreement))
    annotators = sorted({ranking.annotator for ranking in rankings})
    run.record(annotator=", ".join(annotators))
    shutil.rmtree(run.directory / PARTS, ignore_errors=True)  # answers.jsonl and rankings.jsonl hold them all
    return run.finish(prompts=len(prompts), answers=sum(map(len, answers)), rankings=len(rankings))


def _ranked(
    run: Run, config: Config, rankers: Sequence[Ranker], prompts: Sequence[Prompt], answers: Sequence[Sequence[Given]]
) -> list[Ranking]:
    """Everybody's rankings. What a model said is paid for: it is kept prompt by prompt until the stage is finished."""
    rankings: list[Ranking] = []
    with run.track(len(prompts), "rank") as bar:
        for index, (prompt, mine) in enumerate(zip(prompts, answers, strict=True)):
            kept = run.directory / PARTS / f"ranked-{index:08d}.jsonl"
            texts, ended = [text for text, _ in mine], [end for _, end in mine]
            if kept.is_file():
                made = list(read_records(kept, Ranking))
            else:
                made = [ranking for ranker in rankers for ranking in ranker.rank(prompt, texts, ended)]
                if "ai" in config.rankers and not any(ranking.provenance.get("missing") for ranking in made):
                    write_records(kept, made)
            rankings += made
            bar.advance(1)
            run.raise_if_stopped()
    if missing := sum(bool(ranking.provenance.get("missing")) for ranking in rankings):
        print(f"verdicts of the AI judge that were missing or unreadable: {missing} of {len(prompts)}", file=sys.stderr)
    known = {prompt.id for prompt in prompts}
    for ranker in rankers:
        if isinstance(ranker, People) and (strange := sorted(set(ranker.rankings) - known)):
            what = f"{len(strange)} prompts that are not among those asked here, such as {strange[0]}"
            print(f"{ranker.path}: passed over rankings of {what}", file=sys.stderr)
    return rankings


def _given(path: Path, count: int) -> tuple[list[Prompt], list[list[Given]]]:
    """The prompts and answers of an earlier answers.jsonl, only the first `count` unless 0."""
    file = path / "answers.jsonl" if path.is_dir() else path
    if not file.is_file():
        raise UserError(f"{file}: no such file, expected answers.jsonl of a rank stage")
    found = list(read_records(file, Ranking))[: count or None]
    return [one.prompt for one in found], [list(zip(one.responses, one.ended, strict=True)) for one in found]


def _temperatures(config: Config) -> list[float]:
    """Of each of a model's own answers to a prompt."""
    return [config.temperatures[i % len(config.temperatures)] for i in range(config.num_generations)]


def _answers(run: Run, config: Config, dataset: Dataset, prompts: Sequence[Prompt]) -> list[list[Given]]:
    """The answers to every prompt, sampled once and kept in parts, so that a stopped run samples no part twice."""
    parts_folder = run.directory / PARTS
    per_part = max(1, config.batch_size // config.num_generations)
    model = load_model(config.model_name_or_path, config.dtype, Mesh.start().device)
    feed = Feed(model, dataset.root, cache_directory())
    feed.prepare([prompt.messages for prompt in prompts])
    sampler = sampler_for(model, ADAPTER if model.lora is not None else None)
    found: list[list[Given]] = []
    with run.track(len(prompts), "sample") as bar:
        for start in range(0, len(prompts), per_part):
            part = prompts[start : start + per_part]
            path = parts_folder / f"{start:08d}.json"
            if not path.is_file():
                drawn = _drawn(config, sampler, feed, part, config.seed * 7919 + start)
                path.parent.mkdir(parents=True, exist_ok=True)
                write_json(path, [[_plain(answer) for answer in mine] for mine in drawn])
            stored = json.loads(path.read_text(encoding="utf-8"))
            found.extend([(item["text"], item["ended"]) for item in mine] for mine in stored)
            bar.advance(len(part))
            run.raise_if_stopped()
    return found


def _drawn(config: Config, sampler: Sampler, feed: Feed, prompts: Sequence[Prompt], seed: int) -> list[list[Answer]]:
    """Answers to each prompt; the i-th of them at the i-th temperature, from the first again after the last."""
    wanted = _temperatures(config)
    drawn: list[dict[int, Answer]] = [{} for _ in prompts]
    for number, temperature in enumerate(dict.fromkeys(wanted)):
        places = [place for place, other in enumerate(wanted) if other == temperature]
        # by numbers of their own: the same ones give nearly the same answers at neighbouring temperatures
        sampling = Sampling(config.response_length, temperature, seed=seed + 1_000_003 * number)
        answers = sample_answers(sampler, feed, prompts, sampling, len(places), config.batch_size)
        for index, answer in enumerate(answers):
            drawn[index // len(places)][places[index % len(places)]] = answer
    return [[mine[place] for place in range(len(wanted))] for mine in drawn]


def with_borrowed(
    prompts: Sequence[Prompt], answers: Sequence[Sequence[Given]], count: int, seed: int
) -> list[list[Given]]:
    """The answers to each prompt with up to `count` more that were given to other prompts, in turn of the same task and
    of another, and are not among them yet: fewer where there are no others."""
    given: dict[str, list[tuple[int, Given]]] = {}
    for index, (prompt, mine) in enumerate(zip(prompts, answers, strict=True)):
        given.setdefault(prompt.task, []).extend((index, one) for one in mine)
    found = []
    for index, (prompt, mine) in enumerate(zip(prompts, answers, strict=True)):
        together = list(mine)
        others = [task for task in given if task != prompt.task]
        for number in range(count):
            drawn = hashed("borrowed", seed, prompt.id, number)
            if number % 2 and not others:
                continue
            # every other task as often as the next: a reward model has to see the few that decline, too
            pool = given[others[drawn % len(others)] if number % 2 else prompt.task]
            texts, start = {text for text, _ in together}, drawn // max(1, len(others))
            turned = (pool[(start + step) % len(pool)] for step in range(len(pool)))
            new = (answer for owner, answer in turned if owner != index and answer[0] not in texts)
            together += islice(new, 1)
        found.append(together)
    return found


def with_flawed(
    prompts: Sequence[Prompt], answers: Sequence[Sequence[Given]], own: int, count: int, seed: int
) -> list[list[Given]]:
    """The answers to each prompt, the first `own` of them the model's, with up to `count` more made worse by rule."""
    found = []
    for prompt, mine in zip(prompts, answers, strict=True):
        together = list(mine)
        for number in range(count):
            draw = hashed("flawed", seed, prompt.id, number)
            worse = worse_answers(prompt) if number % 2 else ()
            made = (worse[draw % len(worse)], True) if worse else spoilt(mine[draw % own][0], draw // own)
            if made is not None and made[0] not in {text for text, _ in together}:
                together.append(made)
        found.append(together)
    return found


def _unranked(config: Config, prompts: Sequence[Prompt], answers: Sequence[Sequence[Given]]) -> Iterator[Ranking]:
    """The answers as rankings that somebody has yet to fill in: null is "cannot judge"."""
    for prompt, mine in zip(prompts, answers, strict=True):
        texts, ended = zip(*mine, strict=True)
        nothing: dict[str, tuple[int | None, ...]] = {name: (None,) * len(mine) for name in config.principles}
        yield Ranking(prompt.id, prompt, texts, ended, nothing, "nobody yet", tuple(range(len(mine))))


def _plain(answer: Answer) -> dict[str, object]:
    # an answer of no word at all is still an answer: it ranks last
    return {"prompt": answer.prompt.id, "text": answer.text, "ended": answer.ended}


def _in_snapshot(path: Path) -> Path:
    """The rankings of a snapshot; any other path is a file of them."""
    return path / "rankings.jsonl" if path.is_dir() else path


def _rankers(config: Config, dataset: Dataset) -> list[Ranker]:
    made: list[Ranker] = []
    for name in config.rankers:
        if name == "rules":
            made.append(Rules(tuple(config.principles)))
        elif name == "simulated":
            made += [
                Simulated(
                    f"{index}-noise-{noise:g}",
                    noise,
                    config.seed,
                    principles=tuple(config.principles),
                    tolerance=max(0.02, 3 * noise),
                )
                for index, noise in enumerate(config.simulated_noise, start=1)
            ]
        elif name == "people":
            made += [People.read(_in_snapshot(Path(file))) for file in config.people_files]
        elif name == "ai":
            made.append(
                AiJudge(
                    config.judge_url,
                    config.judge_model,
                    key_variable=config.judge_key_variable,
                    principles=tuple(config.principles),
                    seed=config.seed,
                    show_images=config.judge_images,
                    root=dataset.root,
                )
            )
    return made
