"""Every model beside its baselines, with intervals: answers first, saved; then scores; then the report.

report.json is the source of truth, report.html shows it, and what was said is kept beside them, so that a scoring rule
can be changed and the report made again without asking any model.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

from bessemer import __version__
from bessemer.config import Artifact
from bessemer.data.dataset import Dataset
from bessemer.data.records import Prompt
from bessemer.disk import write_atomic, write_json
from bessemer.distributed import Mesh
from bessemer.errors import UserError
from bessemer.manifest import read_manifest
from bessemer.models.classifier import Classifier
from bessemer.models.convert import obtain_model
from bessemer.models.model import load_model
from bessemer.models.precision import Precision, dtype_of, short_name
from bessemer.models.vision import Tower
from bessemer.report.build import build
from bessemer.report.html import render
from bessemer.report.outputs import (
    Agreement,
    Attribute,
    Context,
    Evaluation,
    ModelOutputs,
    RewardPair,
)
from bessemer.report.provenance import git_commit, machine_facts, read_lineage
from bessemer.report.saved import read_metrics, read_outputs, write_evaluation, write_outputs
from bessemer.report.table import terminal_table
from bessemer.run import Run
from bessemer.stages.answers import classifier_outputs, language_outputs, probe_outputs, trivial_outputs
from bessemer.stages.begin import begin, cache_directory
from bessemer.stages.imported import limited
from bessemer.tasks.questions import attribute_prompts
from bessemer.tasks.wordings import Wordings, load_wordings

__all__ = ["Config", "run"]

_SECTIONS = ("evaluate", "compare")  # of a recipe, and of a turn of the loop (`turns`)


@dataclass
class Config:
    dataset: Artifact = Artifact("import")
    """What the import stage wrote."""
    base: Artifact = Artifact("")
    """Model before the domain: the align stage, or the language model of a text-only run; empty: no such row."""
    sft: Artifact = Artifact("")
    """Fine-tuned model; empty: no such row (the same for those below)."""
    ppo: Artifact = Artifact("")
    """Model after reinforcement learning."""
    student: Artifact = Artifact("")
    """Distilled model."""
    shuffled: Artifact = Artifact("")
    """Control: a ppo run with shuffled rewards."""
    tower: Artifact = Artifact("")
    """The tower stage: the classifier as a row."""
    probe: Artifact = Artifact("")
    """The untouched tower: a linear probe as a row."""
    rank: Artifact = Artifact("")
    """The rank stage: agreement between annotators."""
    reward: Artifact = Artifact("")
    """The reward stage: held-out pairs."""
    lineage: list[Artifact] = field(default_factory=list)
    """Stages whose times and parents the report lists."""
    main: str = ""
    """Attribute that accuracy is about, one of those that are asked about; empty: the first of them."""
    attributes: list[str] = field(default_factory=list)
    """Attributes that every model is asked about; empty: all that have labels of their own."""
    max_test: int = 0
    """Only so many test photographs, a random choice; 0: all."""
    heldout_prompts: int = 0
    """Only so many held-out prompts; 0: all."""
    heldout_answers: int = 1
    """Answers drawn to each of them, whose mean counts: more of them, less of the luck of a draw in every figure."""
    base_answers: int = 1
    """The same for the base model, which rambles: nobody weighs it by the point."""
    response_length: int = 48
    """Longest answer in tokens."""
    temperature: float = 1.0
    """Sampling temperature for the held-out prompts; questions about labels are answered greedily."""
    title: str = ""
    """Title of the report."""
    dtype: Precision = "auto"
    """Type of weights and activations: bf16, fp32, or auto: bf16 where the device multiplies it."""
    seed: int = 0
    """Seed of sampling."""
    output_dir: str = "runs/evaluate"
    """Where to write; of a directory named evaluate, as a recipe's section is, a copy of the report goes beside it."""

    def faults(self) -> dict[str, bool]:
        """What could be wrong with it in itself, and whether it is."""
        drawn = {"heldout_answers": self.heldout_answers, "base_answers": self.base_answers}
        expected = "expected 1, or a temperature above 0"
        return {
            f"{name}={count} at temperature=0, where all are the same; {expected}": count > 1 and self.temperature == 0
            for name, count in drawn.items()
        }


def run(config: Config) -> Path:
    """Ask every model, then write report.json and report.html here and, for a recipe's section evaluate, a copy beside
    the stages."""
    run = begin(config, "evaluate")
    dataset = Dataset(Path(config.dataset))
    path = dataset.root / "wordings.yaml"
    wordings = load_wordings(path) if path.is_file() else None
    names, main = _asked(config, wordings)
    makers = _makers(run, config, dataset, wordings, names, main)
    outputs: list[ModelOutputs] = []
    with run.track(len(makers), "evaluate") as bar:
        for name, make in makers.items():
            saved = run.directory / "outputs" / "models" / name
            if not (saved / "facts.json").is_file():
                write_outputs(run.directory / "outputs" / "models", make())
            outputs.append(read_outputs(saved))
            bar.advance(1)
            run.raise_if_stopped()
    evaluation = Evaluation(
        context=_context(config, dataset, wordings, main),
        models=tuple(outputs),
        reward_pairs=_pairs(config.reward),
        agreement=_agreement(config.rank),
        metrics=_metrics(config.ppo),
        control_metrics=_metrics(config.shuffled),
        lineage=read_lineage(Path(directory) for directory in config.lineage),
    )
    write_evaluation(run.directory / "outputs", evaluation)
    report = build(evaluation)
    page = render(report, dataset.root).encode("utf-8")
    # beside the stages too: runs/NAME/report.html is what one opens; another evaluation must not replace it
    folders = [run.directory] + ([run.directory.parent] if run.directory.name in _SECTIONS else [])
    for folder in folders:
        write_json(folder / "report.json", report)
        write_atomic(folder / "report.html", page)
    print(terminal_table(report))
    print(f"report: {folders[-1] / 'report.html'}")
    return run.finish()


def _asked(config: Config, wordings: Wordings | None) -> tuple[list[str], str | None]:
    """The attributes that every model is asked about, and the one of them that accuracy is about."""
    known = wordings.attributes if wordings else {}
    if unknown := sorted({*config.attributes, *([config.main] if config.main else [])} - set(known)):
        raise UserError(f"main or attributes name {unknown}, expected some of {list(known)}")
    own = [name for name, attribute in known.items() if attribute.source is None]
    names = config.attributes or own
    usable = [name for name in names if name in own]
    if names and not usable:
        raise UserError(f"attributes {names} follow from others, expected one with labels of its own among {own}")
    if config.main and config.main not in usable:
        raise UserError(
            f"main {config.main!r} is not asked about or follows from another, expected one of {usable}; "
            "set attributes or main"
        )
    return names, config.main or next(iter(usable), None)


@contextmanager
def _heard(run: Run, total: int, who: str) -> Iterator[Callable[[int], None]]:
    """Something to tell how many more answers of a model there are: it shows them, and hears whoever stops the run."""
    with run.track(total, f"answers of {who}") as bar:

        def tell(count: int) -> None:
            bar.advance(count)
            run.raise_if_stopped()

        yield tell


def _makers(
    run: Run, config: Config, dataset: Dataset, wordings: Wordings | None, names: list[str], main: str | None
) -> dict[str, Callable[[], ModelOutputs]]:
    """For each row of the table a function that makes its outputs, cheapest first."""
    cache, device = cache_directory(), Mesh.start().device
    train = dataset.examples("train")
    # the same ones whatever the seed: seeds are compared with one another
    examples = limited(dataset.examples("test"), {"test": config.max_test}, 0)
    heldout = dataset.prompts("heldout")[: config.heldout_prompts or None]
    questions: list[Prompt] = []
    if wordings is not None:
        questions = attribute_prompts(wordings, examples, names, config.seed)
    positives = {name: wordings.attributes[name].positive for name in names} if wordings else {}
    makers: dict[str, Callable[[], ModelOutputs]] = {}
    if examples:
        makers["trivial"] = lambda: trivial_outputs(train, examples, positives)
    if config.probe and examples:
        makers["probe"] = lambda: probe_outputs(
            Tower.load(obtain_model(config.probe)).eval(), dataset, cache, train, examples, positives
        )

    def classified() -> ModelOutputs:
        classifier = Classifier.load(Path(config.tower) / "model")
        with _heard(run, len(examples), "tower") as tell:
            return classifier_outputs(classifier, dataset, examples, positives, tell)

    if config.tower and examples:
        makers["tower"] = classified
    models = {"base": config.base, "sft": config.sft, "ppo": config.ppo, "student": config.student}
    models["shuffled"] = config.shuffled

    def asked(name: str, directory: str) -> ModelOutputs:
        model, mine = load_model(directory, config.dtype, device), questions if name != "shuffled" else []
        copies = config.heldout_answers if name != "base" else config.base_answers
        with _heard(run, len(mine) + copies * len(heldout), name) as tell:
            return language_outputs(
                name,
                model,
                dataset,
                cache,
                mine,
                heldout,
                dataset.documents("test"),
                main=main,
                response_length=config.response_length,
                temperature=config.temperature,
                copies=copies,
                seed=config.seed + 1,
                tell=tell,
            )

    makers |= {name: partial(asked, name, directory) for name, directory in models.items() if directory}
    return makers


def _context(config: Config, dataset: Dataset, wordings: Wordings | None, main: str | None) -> Context:
    manifest, device = read_manifest(dataset.root) or {}, Mesh.start().device
    facts = manifest.get("facts", {})
    attributes = [
        Attribute(name, tuple(a.values), a.ordered, a.positive)
        for name, a in (wordings.attributes if wordings else {}).items()
        if a.source is None
    ]
    return Context(
        dataset=str(facts.get("dataset", dataset.root.parent.name)),
        split=str(facts.get("split", "")),
        seed=config.seed,
        attributes=tuple(attributes),
        main=main,
        title=config.title or str(dataset.root.parent.name),
        annotator=str((read_manifest(Path(config.rank)) or {}).get("facts", {}).get("annotator", "rules"))
        if config.rank
        else "",
        command=f"bessemer evaluate --from {config.output_dir}",
        date=date.today().isoformat(),
        git_commit=git_commit(Path(__file__).parent),
        version=__version__,
        machine={**machine_facts(device.type), "dtype": short_name(dtype_of(config.dtype, device))},
        licences=tuple(facts.get("licences", ())),
    )


def _pairs(reward: str) -> tuple[RewardPair, ...]:
    path = Path(reward) / "pairs.jsonl"
    if not reward or not path.is_file():
        return ()
    return tuple(RewardPair(**json.loads(line)) for line in _lines(path))


def _agreement(rank: str) -> dict[str, Agreement]:
    path = Path(rank) / "agreement.json"
    if not rank or not path.is_file():
        return {}
    found = json.loads(path.read_text(encoding="utf-8"))
    known = {field.name for field in dataclasses.fields(Agreement)}
    made = {}
    for name, entry in found.items():
        values: dict[str, Any] = {
            key: tuple(v) if isinstance(v, list) else v for key, v in entry.items() if key in known
        }
        made[name] = Agreement(**values)
    return made


def _metrics(directory: str) -> tuple[dict[str, float | None], ...]:
    path = Path(directory) / "metrics.jsonl"
    return read_metrics(path) if directory and path.is_file() else ()


def _lines(path: str | Path) -> list[str]:
    try:
        return Path(path).read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
