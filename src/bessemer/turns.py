"""Turns of the loop between people and model: evaluate, queue, annotate, retrain, compare.

A turn takes a snapshot of what people have annotated, trains a model on it by a recipe, and sets it beside the model
of the turn before on the same test photographs. The new one takes its place only if it is better. Then the
photographs that teach most are queued, with what the model proposes for them, and the turn waits for people. The same
command goes on: where it was stopped, or with the next turn once enough of the queue is annotated.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

from bessemer import interrupts
from bessemer.annotation.codec import read_images
from bessemer.annotation.documents import save_all
from bessemer.annotation.listing import ids_in_state, images_by_sha256, progress
from bessemer.annotation.queue import queue
from bessemer.annotation.shapes import State
from bessemer.annotation.snapshot import create_snapshot
from bessemer.annotation.store import Project, open_project
from bessemer.config import Artifact, read_recipe, split_override
from bessemer.data.mixture import permutation
from bessemer.disk import write_json
from bessemer.errors import UserError
from bessemer.loop import Section, plan, run_section, single
from bessemer.stages.begin import faults_of
from bessemer.stages.preannotate import Config as Preannotate
from bessemer.stages.preannotate import run as preannotate
from bessemer.stages.preannotate import waiting_pictures

__all__ = ["Config", "run"]

TRAINED = ("distill", "ppo", "grpo", "sft")  # the last of these in a recipe made its model
SIMULATED = "simulated"
ASKED = (
    "main", "attributes", "max_test", "heldout_prompts", "heldout_answers", "response_length", "temperature", "title",
    "dtype",
)  # fmt: skip


@dataclass
class Config:
    POSITIONAL: ClassVar[tuple[str, ...]] = ("recipe", "project")

    recipe: str = ""
    """The recipe that makes a model: import (of annotations; the snapshot is filled in) to sft or further, and an
    evaluate section that says what is asked."""
    project: str = ""
    """The annotation project."""
    turns: int = 1
    """So many turns from here, if nobody has to be waited for."""
    budget: int = 50
    """So many photographs of the queue are annotated in a turn."""
    order: Literal["queue", "random"] = "queue"
    """What waits first: what teaches most, or (to compare with) anything."""
    states: list[str] = field(default_factory=lambda: ["accepted", "submitted"])
    """Documents in these states are learned from."""
    gate: Literal["score", "accuracy", "token_f1"] = "score"
    """What decides: the held-out answers' score by the principles, the accuracy of the main question, or the overlap
    with the references; each paired, photograph by photograph."""
    min_gain: float = 0.0
    """The new model has to be better by more than this."""
    sure: bool = False
    """Demand it of the lower end of the 95 % interval, not of the estimate."""
    simulate: Artifact = Artifact("")
    """Instead of people: a file of annotations (an import stage's annotations.jsonl), whose truth a simulated annotator
    copies; for trying things out."""
    initial: int = 0
    """With simulate: photographs that are annotated, at random, before the first turn."""
    seed: int = 0
    """Seed of the split, of training and of every random choice."""
    overrides: list[str] = field(default_factory=list)
    """Changes to the recipe, section.key=value."""
    output_dir: str = "runs/loop"
    """Where to write: turn-1, turn-2, ... and loop.json, which names the model that stands."""


def run(config: Config) -> Path:
    """Go on with the loop; returns its directory."""
    _check(config)
    root, owns = Path(config.output_dir), interrupts.catch()
    try:
        history = _history(root, Path(config.project).resolve())
        for _ in range(config.turns):
            if history and not _annotated(config, history[-1]):
                break
            if not _turn(config, root, history):
                break
    finally:
        if owns:
            interrupts.release()
    return root


def _check(config: Config) -> None:
    if not config.recipe or not config.project:
        raise UserError("expected a recipe and a project: bessemer loop recipes/annotated.yaml PROJECT")
    if config.turns < 1 or config.budget < 1:
        raise UserError(f"turns={config.turns}, budget={config.budget}, expected at least 1 of each")
    if config.initial and not config.simulate:
        raise UserError(
            "initial without simulate, expected people to annotate the first photographs: bessemer annotate"
        )


def _history(root: Path, project: Path) -> list[dict[str, Any]]:
    """The turns so far; those of another project are refused."""
    path = root / "loop.json"
    try:
        whole = json.loads(path.read_text(encoding="utf-8"))
        found: list[dict[str, Any]] = whole["turns"]
        other = whole.get("project", str(project))  # an older one does not say
    except FileNotFoundError:
        return []
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is damaged ({error!r}), expected what the turn before left; move it aside") from error
    if other != str(project):
        raise UserError(
            f"{root} holds the turns of {other}, expected those of {project}; set output_dir to another place "
            f"(or, if the project was moved, mend its name in {path})"
        )
    return found


def _write_history(config: Config, root: Path, history: list[dict[str, Any]]) -> None:
    project = str(Path(config.project).resolve())
    write_json(root / "loop.json", {"model": _standing(history), "project": project, "turns": history})


def _standing(history: Sequence[dict[str, Any]]) -> str:
    """The model that stands: of the last turn whose model passed the gate."""
    return next((str(turn["model"]) for turn in reversed(history) if turn["passed"]), "")


def _turn(config: Config, root: Path, history: list[dict[str, Any]]) -> bool:
    """Train, compare, queue; False where nothing was annotated or added since the turn before."""
    number = len(history) + 1
    folder = root / f"turn-{number}"
    before = _standing(history)
    with open_project(Path(config.project)) as project:
        _first_annotations(config, project)
        snapshot = _snapshot(config, project, folder)
    # By name, which is a hash of the contents: the project may be spelled otherwise this time, or have been moved.
    if history and Path(snapshot).name == Path(history[-1]["snapshot"]).name:
        return _queue_more(config, root, history)
    write_json(folder / "snapshot.json", {"snapshot": snapshot})
    _write_history(config, root, history)
    with _mendable(folder / "snapshot.json"):
        training, model, compare = _sections(config, folder, snapshot, before)
        for place, section in enumerate([*training, compare], 1):
            run_section(section, head=f"turn {number}: [{place}/{len(training) + 1}] {section.name}")
        gain, interval = _gain(compare.directory, config.gate)
        passed = _passes(config, before, gain, interval)
    _say(config, number, before, gain, interval, passed)
    turn = {"turn": number, "snapshot": snapshot, "model": model, "passed": passed, "gate": config.gate}
    turn |= {"gain": gain, "interval": interval, "report": str(folder / "report.html")}
    turn["queued"] = _queue(config, _proposing(config, training, compare, model if passed else before))
    history.append(turn)
    _write_history(config, root, history)
    return True


@contextmanager
def _mendable(note: Path) -> Iterator[None]:
    """Where what people annotated may be refused: they mend it, and the next try takes a snapshot of that."""
    try:
        yield
    except UserError:
        note.unlink(missing_ok=True)
        raise


def _sections(config: Config, folder: Path, snapshot: str, before: str) -> tuple[list[Section], str, Section]:
    """The sections of a turn that make its model, that model, and the section that compares it with the model
    before."""
    sections = plan(read_recipe(config.recipe), _overrides(config, folder, snapshot))
    training = [section for section in sections if section.stage != "evaluate"]
    trained = [section for section in training if section.stage in TRAINED]
    if not trained or training[0].stage != "import":
        raise UserError(f"{config.recipe}: expected sections from import to one of {', '.join(reversed(TRAINED))}")
    model = trained[-1].directory
    return training, str(model), _compare(config, folder, training[0].directory, before, model)


def _queue_more(config: Config, root: Path, history: list[dict[str, Any]]) -> bool:
    """Nothing is new to learn from, but photographs may have been added: let the standing model queue some of them;
    False where none wait."""
    last, before = history[-1], _standing(history[:-1])
    training, _, compare = _sections(config, root / f"turn-{last['turn']}", last["snapshot"], before)
    more = _queue(config, _proposing(config, training, compare, _standing(history)))
    if not more:
        print(f"nothing was annotated since turn {last['turn']}; add photographs or annotate more of them")
        return False
    last["queued"] += more
    _write_history(config, root, history)
    print(f"{len(more)} photographs that were added are queued; annotate them: bessemer annotate {config.project}")
    return True


def _queue(config: Config, proposing: Preannotate) -> list[int]:
    """Let the model propose; the first `budget` photographs of the queue that nobody has touched."""
    with open_project(Path(config.project)) as project:
        some = waiting_pictures(project, proposing)
    if not some:
        print(f"no photograph waits in {config.project}: add some, and the same command goes on")
        return []
    preannotate(proposing)
    with open_project(Path(config.project)) as project:
        untouched = set(ids_in_state(project, "todo"))
        return [q.image for q in queue(project) if q.image in untouched][: config.budget]


def _snapshot(config: Config, project: Project, folder: Path) -> str:
    """The snapshot of this turn: the one that it began with, if it was stopped."""
    note = folder / "snapshot.json"
    if note.is_file():
        return str(json.loads(note.read_text(encoding="utf-8"))["snapshot"])
    return str(create_snapshot(project, _states(config)).directory)


def _states(config: Config) -> list[State]:
    found: list[State] = [state for state in ("accepted", "submitted", "doing") if state in config.states]
    if not found:
        raise UserError(f"states={config.states}, expected accepted, submitted or doing")
    return found


def _overrides(config: Config, folder: Path, snapshot: str) -> list[str]:
    mine = ["import.source=annotations", f"import.data={snapshot}", f"seed={config.seed}"]
    mine += [f"output_dir={folder.parent}", f"name={folder.name}"]
    ours = {split_override(text)[0] for text in mine}
    own = [text for text in config.overrides if not text.startswith("evaluate.")]  # see _compare
    return [*(text for text in own if split_override(text)[0] not in ours), *mine]


def _compare(config: Config, folder: Path, dataset: Path, before: str, after: Path) -> Section:
    """The evaluate section of the recipe, with the model before as base and the new one as sft."""
    recipe = read_recipe(config.recipe)
    kept = {key: value for key, value in (recipe.get("evaluate") or {}).items() if key in ASKED}
    fixed = {"dataset": str(dataset), "base": before, "sft": str(after), "seed": config.seed}
    title = f"turn {folder.name.removeprefix('turn-')} beside the model before"
    evaluate = {"title": title, **kept, **fixed, "output_dir": str(folder / "compare")}
    own = [text.partition(".")[2] for text in config.overrides if text.startswith("evaluate.")]
    section = single("evaluate", {**recipe, "evaluate": evaluate}, own)
    section.config.base_answers = section.config.heldout_answers  # it is weighed, by as many draws as the new one
    if faults := faults_of(section.config):
        raise UserError("\n".join(f"evaluate.{fault}" for fault in faults))
    return section


def _gain(compare: Path, gate: str) -> tuple[float | None, list[float] | None]:
    """By how much the new model is better, and the 95 % interval; None where there was none before."""
    report = json.loads((compare / "report.json").read_text(encoding="utf-8"))
    row = next(model for model in report["models"] if model["name"] == "sft")["minus_base"]
    return row[gate], row[f"{gate}_interval"]


def _passes(config: Config, before: str, gain: float | None, interval: Sequence[float] | None) -> bool:
    if not before:
        return True
    if gain is None or (interval is None and config.sure):
        what = "too few to be sure of" if gain is not None else "none that can be asked about it"
        raise UserError(f"gate={config.gate}: of the test photographs {what}, expected more; annotate more of them")
    return (interval[0] if config.sure and interval else gain) > config.min_gain


def _say(
    config: Config, number: int, before: str, gain: float | None, interval: Sequence[float] | None, passed: bool
) -> None:
    if not before:
        print(f"turn {number}: the first model stands")
        return
    between = "too few for an interval" if interval is None else f"{interval[0]:+.4f} to {interval[1]:+.4f}"
    verdict = "the new model takes its place" if passed else f"{before} stays"
    print(f"turn {number}: {config.gate} {gain:+.4f} ({between}): {verdict}")


def _proposing(config: Config, training: Sequence[Section], compare: Section, standing: str) -> Preannotate:
    """How the standing model proposes: with its own tower, the split of the import stage, in the type of the
    comparison."""
    row, importing = "base" if standing == compare.config.base else "sft", training[0].config
    towers = [Path(standing).parent / section.name for section in training if section.stage == "tower"]
    tower = next((str(place) for place in towers if (place / "model").is_dir()), "")
    return Preannotate(
        model=Artifact(standing), tower=Artifact(tower), dataset=Artifact(compare.config.dataset),
        project=config.project,
        evaluated=Artifact(str(compare.directory / "outputs" / "models" / row)), budget=config.budget,
        order=config.order, seed=importing.seed, test_share=importing.test_share, language=importing.language,
        dtype=compare.config.dtype,
    )  # fmt: skip


def _annotated(config: Config, turn: dict[str, Any]) -> bool:
    """Whether the turn's queue is done; a simulated annotator does it at once."""
    with open_project(Path(config.project)) as project:
        if config.simulate:
            _copy_truth(project, config.simulate, turn["queued"])
        done = {id for state in _states(config) for id in ids_in_state(project, state)}
    left = [id for id in turn["queued"] if id not in done]
    if left:
        count = len(turn["queued"])
        print(
            f"turn {turn['turn']}: {count - len(left)} of {count} queued photographs are annotated; the others wait "
            f"under 'what teaches most first' in\n  bessemer annotate {config.project}\nthen the same command goes on"
        )
    return not left


def _first_annotations(config: Config, project: Project) -> None:
    """Of a project that nobody has touched the first photographs, by the simulated annotator."""
    untouched = ids_in_state(project, "todo")
    if config.simulate and config.initial and len(untouched) == progress(project).images:
        order = permutation(len(untouched), "initial", config.seed)
        _copy_truth(project, config.simulate, [untouched[i] for i in order[: config.initial]])


def _copy_truth(project: Project, file: str, ids: Sequence[int]) -> None:
    """Let the simulated annotator say what the file says of these photographs."""
    named = {id: sha256 for sha256, some in images_by_sha256(project).items() for id in some}
    truth = {image.sha256: image for image in read_images(Path(file))}
    missing = [id for id in ids if named[id] not in truth]
    if missing:
        raise UserError(f"{file} says nothing of photograph {missing[0]}, expected the truth of all that are queued")
    untouched = set(ids_in_state(project, "todo"))
    items = [(id, SIMULATED, 0, truth[named[id]].annotations) for id in ids if id in untouched]
    save_all(project, items, state="accepted")
    if items:
        print(f"{len(items)} photographs annotated by a simulated annotator, from {file}")
