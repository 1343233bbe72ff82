"""One turn of the active loop against a random choice of photographs at the same number of labels, on generated scenes.

    python benchmarks/active.py DIR [section.key=value ...] [--by sft] [--images 400] [--initial 80] [--budget 80]
                                    [--seeds 0 1 2]

Makes scenes of a site whose truth is known, and keeps a quarter of them for the test. For every seed a simulated
annotator labels `initial` of the others and a model learns from them. Then two go on from there: one has the first
`budget` photographs of that model's queue labelled, the other as many at random; each trains a new model on all it
has. All answer the same questions about the same test photographs. Prints, and writes to DIR/active.json, how many
verdicts are right and how well they order the photographs (AUC). Goes on where it was stopped. --by tower: the tower
alone is trained, queues and is asked, a matter of minutes.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from sklearn.metrics import roc_auc_score

from bessemer.algos.statistics import paired_difference_interval
from bessemer.annotation.codec import read_images
from bessemer.annotation.documents import save_all, save_labels
from bessemer.annotation.intake import add_folder
from bessemer.annotation.listing import ids_in_state, image, images_by_sha256
from bessemer.annotation.queue import queue
from bessemer.annotation.shapes import Label
from bessemer.annotation.snapshot import create_snapshot
from bessemer.annotation.store import create_project, open_project
from bessemer.cli import main as bessemer
from bessemer.data.mixture import permutation
from bessemer.data.splits import hashed_part
from bessemer.report.outputs import LabelledAnswer
from bessemer.report.saved import read_outputs

RECIPE = Path(__file__).parents[1] / "recipes" / "annotated.yaml"
TEST_SHARE = 0.25
ORDERS = ("queue", "random")


def ask(*words: str) -> None:
    """Run a command of bessemer; stop if it did not work."""
    if code := bessemer(list(words)):
        raise SystemExit(code)


def make_project(directory: Path, truth: Path, seed: int, initial: int) -> None:
    """A project of the scenes in which the test photographs and `initial` others are labelled."""
    labels = sorted({a.label for i in read_images(truth) for a in i.annotations if a.label and a.shape is not None})
    with create_project(directory, "site") as project:
        add_folder(project, truth.parent / "images")
        save_labels(project, 0, tuple(Label(name) for name in labels), "generator")
        ids = ids_in_state(project, "todo")
        test = {id for id in ids if hashed_part(image(project, id).sha256, seed, TEST_SHARE, 0) == "test"}
    others = [id for id in ids if id not in test]
    first = [others[i] for i in permutation(len(others), "initial", seed)[:initial]]
    label(directory, truth, [*test, *first])


def label(directory: Path, truth: Path, ids: Sequence[int]) -> None:
    """Let the simulated annotator copy the truth of these photographs."""
    known = {i.sha256: i.annotations for i in read_images(truth)}
    with open_project(directory) as project:
        named = {id: sha256 for sha256, some in images_by_sha256(project).items() for id in some}
        save_all(project, [(id, "simulated", 0, known[named[id]]) for id in ids], state="accepted")


def train(folder: Path, options: argparse.Namespace, seed: int) -> list[LabelledAnswer]:
    """A model of what is labelled in the folder's project, and its answers about the test photographs."""
    note = folder / "snapshot.json"
    if not note.is_file():
        with open_project(folder / "project") as project:
            note.write_text(json.dumps(str(create_snapshot(project).directory)))
    stages = "import, tower, align, sft" if options.by == "sft" else "import, tower"
    ask(
        "run", options.recipe, f"import.data={json.loads(note.read_text())}", f"import.test_share={TEST_SHARE}",
        "import.val_share=0", f"stages=[{stages}, evaluate]", f"evaluate.{options.by}={options.by}",
        f"seed={seed}", "name=run", f"output_dir={folder}", *options.overrides,
    )  # fmt: skip
    return list(read_outputs(folder / "run" / "evaluate" / "outputs" / "models" / options.by).answers)


def chosen(first: Path, order: str, options: argparse.Namespace, seed: int) -> list[int]:
    """The photographs that are labelled next, by the queue of the first model or at random."""
    with open_project(first / "project") as project:
        untouched = ids_in_state(project, "todo")
        if order == "random":
            return [untouched[i] for i in permutation(len(untouched), "random", seed)[: options.budget]]
        waits = [q.image for q in queue(project)]
    return [id for id in waits if id in set(untouched)][: options.budget]


def turn(root: Path, truth: Path, options: argparse.Namespace, seed: int) -> dict[str, list[LabelledAnswer]]:
    """Answers of the first model and of the two that go on from it."""
    first = root / f"first-{seed}"
    if not (first / "labelled").is_file():
        shutil.rmtree(first / "project", ignore_errors=True)
        make_project(first / "project", truth, seed, options.initial)
        (first / "labelled").touch()
    answers = {"first": train(first, options, seed)}
    stages = first / "run"
    if not (first / "queued.json").is_file():
        by = [f"tower={stages / 'tower'}", *([f"model={stages / 'sft'}"] if options.by == "sft" else [])]
        ask(
            "preannotate", *by, f"dataset={stages / 'import'}", f"project={first / 'project'}",
            f"evaluated={stages / 'evaluate' / 'outputs' / 'models' / options.by}", "budget=1", f"seed={seed}",
        )  # fmt: skip
        picked = {order: chosen(first, order, options, seed) for order in ORDERS}
        (first / "queued.json").write_text(json.dumps(picked))
    picked = json.loads((first / "queued.json").read_text())
    for order in ORDERS:
        folder = root / f"{order}-{seed}"
        if not (folder / "snapshot.json").is_file():
            shutil.rmtree(folder, ignore_errors=True)
            shutil.copytree(first / "project", folder / "project")
            label(folder / "project", truth, picked[order])
        answers[order] = train(folder, options, seed)
    return answers


def right(answer: LabelledAnswer) -> float:
    """1 for a right verdict; one that cannot be read is wrong."""
    return float(answer.parsed == answer.truth)


def mean_auc(answers: Sequence[LabelledAnswer]) -> float:
    """Mean area under the ROC curve over the attributes of which the test has both kinds."""
    by_name: dict[str, list[tuple[bool, float]]] = defaultdict(list)
    for answer in answers:
        if answer.probability is not None:
            by_name[answer.attribute].append((answer.truth == "yes", answer.probability))
    both = [rows for rows in by_name.values() if 0 < sum(truth for truth, _ in rows) < len(rows)]
    if not both:
        raise SystemExit("the test has one kind of everything, expected both of something; raise --images")
    return statistics.mean(float(roc_auc_score(*zip(*rows, strict=True))) for rows in both)


def trivial(answers: Sequence[LabelledAnswer]) -> float:
    """Right verdicts of whoever always says the commoner of the two."""
    said = defaultdict(list)
    for answer in answers:
        said[answer.attribute].append(answer.truth == "yes")
    return sum(max(sum(rows), len(rows) - sum(rows)) for rows in said.values()) / len(answers)


def difference(found: Sequence[dict[str, list[LabelledAnswer]]]) -> dict[str, Any]:
    """Share of right verdicts, queue minus random, over all seeds; photographs are resampled as a whole."""
    pairs = [
        (right(a), right(b), f"{seed} {a.image_sha256}")
        for seed, answers in enumerate(found)
        for a, b in zip(answers["queue"], answers["random"], strict=True)
    ]
    places = {name: place for place, name in enumerate(sorted({name for *_, name in pairs}))}
    one, other = (torch.tensor([pair[side] for pair in pairs]) for side in (0, 1))
    groups = torch.tensor([places[name] for *_, name in pairs])
    estimate, low, high = paired_difference_interval(one, other, groups=groups)
    return {"accuracy": estimate, "interval": [low, high], "verdicts": len(pairs), "photographs": len(places)}


def main() -> None:
    """Run what is missing, then say what came of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--by", default="sft", choices=("sft", "tower"), help="whose verdicts count (%(default)s)")
    parser.add_argument("--images", type=int, default=400)
    parser.add_argument("--initial", type=int, default=80)
    parser.add_argument("--budget", type=int, default=80)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--recipe", default=str(RECIPE))
    parser.add_argument("overrides", nargs="*", help="changes to the recipe, section.key=value")
    options = parser.parse_intermixed_args()
    root = options.directory.resolve()
    scenes = root / "scenes"
    ask("import", "source=site", f"images={options.images}", "general_documents=0", f"output_dir={scenes}")
    found = [turn(root, scenes / "annotations.jsonl", options, seed) for seed in options.seeds]
    rows = [
        {"seed": seed, "model": name, "accuracy": statistics.mean(map(right, some)), "auc": mean_auc(some)}
        for seed, answers in zip(options.seeds, found, strict=True)
        for name, some in answers.items()
    ]
    rows += [
        {"seed": seed, "model": "commoner answer", "accuracy": trivial(answers["first"]), "auc": 0.5}
        for seed, answers in zip(options.seeds, found, strict=True)
    ]
    gain = difference(found)
    steps = [mean_auc(answers["queue"]) - mean_auc(answers["random"]) for answers in found]
    whole = {"options": vars(options), "models": rows, "queue_minus_random": {**gain, "auc": steps}}
    (root / "active.json").write_text(json.dumps(whole, default=str, indent=1))
    for row in rows:
        print(f"seed {row['seed']} {row['model']:16}{100 * row['accuracy']:6.1f} % right, AUC {row['auc']:.3f}")
    low, high = (100 * end for end in gain["interval"])
    print(f"queue minus random: {100 * gain['accuracy']:+.1f} points ({low:+.1f} to {high:+.1f}), AUC by seed", end=" ")
    print(", ".join(f"{step:+.3f}" for step in steps))


if __name__ == "__main__":
    main()
