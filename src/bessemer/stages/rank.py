"""Several answers to each question, ordered by each principle.

The answers are sampled from the fine-tuned model. Who orders them is the recipe's choice: rules from ground truth,
simulated annotators of stated noise, files made by people, or an AI judge; each is named for what it is wherever its
rankings appear. Agreement between annotators decides how much a principle weighs.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bessemer.config import Artifact
from bessemer.data.dataset import Dataset
from bessemer.data.records import Prompt, Ranking, write_records
from bessemer.disk import write_json
from bessemer.distributed import Mesh
from bessemer.errors import UserError
from bessemer.models.feed import Feed
from bessemer.models.model import ADAPTER, load_model
from bessemer.rollout.collect import Answer, sample_answers
from bessemer.rollout.sampler import Sampling, sampler_for
from bessemer.run import Run
from bessemer.stages.begin import begin, cache_directory
from bessemer.tasks.agreement import agreement_table, measure_agreement
from bessemer.tasks.ai_judge import AiJudge
from bessemer.tasks.judge import PRINCIPLES
from bessemer.tasks.rankers import People, Ranker, Rules, Simulated

__all__ = ["Config", "run"]

PARTS = "parts"  # folder of the answers while they are sampled


@dataclass
class Config:
    model_name_or_path: Artifact = Artifact("sft")
    """Model that answers."""
    dataset: Artifact = Artifact("import")
    """What the import stage wrote; rank.jsonl is read."""
    num_generations: int = 4
    """Answers to each question (at least 2; 4 is usual)."""
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
    """JSONL files of rankings by people: answers.jsonl of this stage, with their name and ranks filled in."""
    judge_url: str = ""
    """Base URL of an OpenAI-compatible server for the AI judge."""
    judge_model: str = ""
    """Its model."""
    judge_key_variable: str = ""
    """Environment variable that holds its key."""
    agreement_alpha: float = 0.4
    """Principles with a Krippendorff alpha below this are flagged and weigh less."""
    response_length: int = 48
    """Longest answer in tokens."""
    temperature: float = 1.0
    """Sampling temperature."""
    batch_size: int = 128
    """Answers sampled at once."""
    dtype: str = "bf16"
    """Type of weights and activations: bf16 or fp32."""
    seed: int = 0
    """Seed of sampling and of simulated annotators."""
    output_dir: str = "runs/rank"
    """Where to write."""


def run(config: Config) -> Path:
    """Sample answers.jsonl, have them ranked into rankings.jsonl, and measure agreement.json."""
    run = begin(config, "rank")
    if config.num_generations < 2:
        raise UserError(f"num_generations={config.num_generations}, expected at least 2 answers to order")
    dataset = Dataset(Path(config.dataset))
    prompts = dataset.prompts("rank")[: config.max_prompts or None]
    rankers = _rankers(config, dataset)
    answers = _answers(run, config, dataset, prompts)
    write_records(run.directory / "answers.jsonl", _unranked(config, prompts, answers))
    rankings: list[Ranking] = []
    with run.track(len(prompts), "rank") as bar:
        for index, prompt in enumerate(prompts):
            mine = answers[index * config.num_generations : (index + 1) * config.num_generations]
            texts, ended = [text for text, _ in mine], [end for _, end in mine]
            for ranker in rankers:
                rankings.extend(ranker.rank(prompt, texts, ended))
            bar.advance(1)
    if not rankings:
        raise UserError("nobody ranked anything; expected rankers that know these prompts")
    write_records(run.directory / "rankings.jsonl", rankings)
    agreement = measure_agreement(rankings, config.principles, config.agreement_alpha, seed=config.seed)
    found = {name: dataclasses.asdict(entry) for name, entry in agreement.items()}
    write_json(run.directory / "agreement.json", found)
    print(agreement_table(agreement))
    annotators = sorted({ranking.annotator for ranking in rankings})
    run.record(annotator=", ".join(annotators))
    shutil.rmtree(run.directory / PARTS)  # answers.jsonl holds them all
    return run.finish(prompts=len(prompts), answers=len(answers), rankings=len(rankings))


def _answers(run: Run, config: Config, dataset: Dataset, prompts: Sequence[Prompt]) -> list[tuple[str, bool]]:
    """Text and end of every answer, sampled once and kept in parts, so that a stopped run samples no part twice."""
    parts_folder = run.directory / PARTS
    per_part = max(1, config.batch_size // config.num_generations)
    model = load_model(config.model_name_or_path, config.dtype, Mesh.start().device)
    feed = Feed(model, dataset.root, cache_directory())
    feed.prepare([prompt.messages for prompt in prompts])
    sampler = sampler_for(model, ADAPTER if model.lora is not None else None)
    found: list[tuple[str, bool]] = []
    with run.track(len(prompts), "sample") as bar:
        for start in range(0, len(prompts), per_part):
            part = prompts[start : start + per_part]
            path = parts_folder / f"{start:08d}.json"
            if not path.is_file():
                sampling = Sampling(config.response_length, config.temperature, seed=config.seed * 7919 + start)
                drawn = sample_answers(sampler, feed, part, sampling, config.num_generations, config.batch_size)
                path.parent.mkdir(parents=True, exist_ok=True)
                write_json(path, [_plain(answer) for answer in drawn])
            stored = json.loads(path.read_text(encoding="utf-8"))
            found.extend((item["text"], item["ended"]) for item in stored)
            bar.advance(len(part))
            run.raise_if_stopped()
    return found


def _unranked(config: Config, prompts: Sequence[Prompt], answers: Sequence[tuple[str, bool]]) -> Iterator[Ranking]:
    """The answers as rankings that somebody has yet to fill in: null is "cannot judge"."""
    count = config.num_generations
    nothing: dict[str, tuple[int | None, ...]] = {name: (None,) * count for name in config.principles}
    for index, prompt in enumerate(prompts):
        texts, ended = zip(*answers[index * count : (index + 1) * count], strict=True)
        yield Ranking(prompt.id, prompt, texts, ended, nothing, "nobody yet", tuple(range(count)))


def _plain(answer: Answer) -> dict[str, object]:
    # an answer of no word at all is still an answer: it ranks last
    return {"prompt": answer.prompt.id, "text": answer.text, "ended": answer.ended}


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
            if not config.people_files:
                raise UserError("rankers names people, expected people_files with their rankings")
            made += [People.read(Path(file)) for file in config.people_files]
        elif name == "ai":
            if not (config.judge_url and config.judge_model):
                raise UserError("rankers names ai, expected judge_url and judge_model")
            made.append(
                AiJudge(
                    config.judge_url,
                    config.judge_model,
                    key_variable=config.judge_key_variable,
                    principles=tuple(config.principles),
                    seed=config.seed,
                    root=dataset.root,
                )
            )
        else:
            raise UserError(f"ranker {name!r}, expected rules, simulated, people or ai")
    return made
