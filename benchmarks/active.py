"""One turn of the active loop against a random choice of photographs at the same number of labels, on generated scenes.

    python benchmarks/active.py DIR [section.key=value ...] [--images 400] [--initial 120] [--budget 60] [--seeds 0 1 2]

Makes scenes of a site whose truth is known; for every seed and both orders (what teaches most, random) a simulated
annotator labels the first `initial` photographs, a model learns from them, the annotator labels the first `budget` of
the queue, and a model learns from all. Prints, and writes to DIR/active.json, how well both second models do on the
same test photographs. Goes on where it was stopped.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
from pathlib import Path
from typing import Any

from bessemer.annotation.codec import read_images
from bessemer.annotation.documents import save_labels
from bessemer.annotation.intake import add_folder
from bessemer.annotation.shapes import Label
from bessemer.annotation.store import create_project
from bessemer.cli import main as bessemer

RECIPE = Path(__file__).parents[1] / "recipes" / "annotated.yaml"
ORDERS = ("queue", "random")
FIGURES = ("accuracy", "score", "token_f1")


def make_project(directory: Path, scenes: Path) -> None:
    """An annotation project of the scenes that nobody has touched, with the labels that they need."""
    truth = read_images(scenes / "annotations.jsonl")
    names = sorted({a.label for image in truth for a in image.annotations if a.label and a.shape is not None})
    with create_project(directory, "site") as project:
        add_folder(project, scenes / "images")
        save_labels(project, 0, tuple(Label(name) for name in names), "generator")


def figures(report: Path) -> dict[str, Any]:
    """What the second model of a run did, and what people would ask next."""
    found = json.loads(report.read_text(encoding="utf-8"))
    row = next(model for model in found["models"] if model["name"] == "sft")
    return {name: row[name] for name in FIGURES} | {"n": row["n"], "pictured": row.get("pictured")}


def ask(*words: str) -> None:
    """Run a command of bessemer; stop if it did not work."""
    if code := bessemer(list(words)):
        raise SystemExit(code)


def main() -> None:
    """Run what is missing, then say what came of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--images", type=int, default=400)
    parser.add_argument("--initial", type=int, default=120)
    parser.add_argument("--budget", type=int, default=60)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--recipe", default=str(RECIPE))
    parser.add_argument("overrides", nargs="*", help="changes to the recipe, section.key=value")
    options = parser.parse_intermixed_args()
    root = options.directory.resolve()
    scenes, clean = root / "scenes", root / "project"
    ask("import", "source=site", f"images={options.images}", "general_documents=0", f"output_dir={scenes}")
    if not clean.is_dir():
        make_project(clean, scenes)
    results: dict[str, dict[str, Any]] = {}
    for seed in options.seeds:
        for order in ORDERS:
            folder = root / f"{order}-{seed}"
            if not (folder / "project").is_dir():
                shutil.copytree(clean, folder / "project")
            done = folder / "loop" / "turn-2" / "report.json"
            if not done.is_file():
                ask(
                    "loop", options.recipe, str(folder / "project"), "turns=2", f"order={order}", f"seed={seed}",
                    f"simulate={scenes / 'annotations.jsonl'}", f"initial={options.initial}", "gate=accuracy",
                    f"budget={options.budget}", f"output_dir={folder / 'loop'}",
                    f"overrides=[{', '.join(options.overrides)}]",
                )  # fmt: skip
            results[f"{order}-{seed}"] = figures(done)
    (root / "active.json").write_text(json.dumps({"options": vars(options), "runs": results}, default=str, indent=1))
    print(f"{'':10}" + "".join(f"{name:>12}" for name in FIGURES))
    for name, found in results.items():
        print(f"{name:10}" + "".join(f"{100 * found[figure]:11.1f} %" for figure in FIGURES))
    for figure in FIGURES:
        steps = [results[f"queue-{s}"][figure] - results[f"random-{s}"][figure] for s in options.seeds]
        shown = ", ".join(f"{100 * step:+.1f}" for step in steps)
        print(f"{figure}: queue minus random {100 * statistics.mean(steps):+.1f} points ({shown})")


if __name__ == "__main__":
    main()
