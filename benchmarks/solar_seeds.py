"""recipes/solar-full.yaml over seeds and both splits, as far as fine-tuning: the vision-language model beside its own
tower as a plain classifier and the linear probe.

    python benchmarks/solar_seeds.py [--seeds 0 1 2] [--splits p1 p2] [section.key=value ...]

Writes runs/solar-full-SPLIT-SEED and runs/solar-seeds (comparison.json, comparison.md). What is done is not repeated:
started again, it goes on where it was. Half an hour a run on two cores with bfloat16, or 44 minutes on one.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from bessemer.cli import main as bessemer

RECIPE = Path(__file__).parents[1] / "recipes" / "solar-full.yaml"
STAGES = "import, tower, align, sft"
ABSENT = ("base", "ppo", "student", "shuffled", "rank", "reward")  # rows of the report that need later stages


def ask(*words: str) -> None:
    """Run a command of bessemer; stop if it did not work."""
    if code := bessemer(list(words)):
        raise SystemExit(code)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--splits", nargs="+", default=["p1", "p2"], choices=["p1", "p2"])
    parser.add_argument("overrides", nargs="*", help="changes to the recipe, section.key=value")
    options = parser.parse_intermixed_args()
    reports = []
    for seed in options.seeds:
        for split in options.splits:
            name = f"solar-full-{split}-{seed}"
            absent = [f"evaluate.{row}=" for row in ABSENT]
            ask(
                "run", str(RECIPE), f"name={name}", f"seed={seed}", f"import.split={split}",
                f"stages=[{STAGES}, evaluate]", f"evaluate.lineage=[{STAGES}]", *absent, *options.overrides,
            )  # fmt: skip
            reports.append(f"runs/{name}/evaluate")
    ask("compare", *reports, "output_dir=runs/solar-seeds")


if __name__ == "__main__":
    main()
