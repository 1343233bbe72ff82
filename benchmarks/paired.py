"""bessemer beside its peers, in turn on one machine: A B C A B C ..., each in a process of its own.

    python benchmarks/paired.py --model DIR --data alpaca.json [--rounds 5] [--quick] [COMPARISON ...]

Comparisons are described in benchmarks/peers/comparisons.toml; a peer that is not installed (peers/install.py) is left
out and named. Each side runs once uncounted, then once a round. Runs are appended to RESULTS/runs.jsonl as they end;
started again, those that are there are not repeated. RESULTS/summary.json and the table on standard output give
medians, minimum and maximum, and the ratio of the first side to each other one, round by round.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import shlex
import shutil
import statistics
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

PEERS = Path(__file__).resolve().parent / "peers"
ENVIRONMENTS = Path.home() / ".cache" / "bessemer" / "peers"
WARM_UP = 0
"""The number of the round that is not counted."""


@dataclass(frozen=True)
class Side:
    """One command of a comparison, complete but for its --json."""

    comparison: str
    name: str
    command: tuple[str, ...]


@dataclass(frozen=True)
class Run:
    """One line of runs.jsonl: `result` is the JSON that the command wrote, or `error` the last that it said."""

    comparison: str
    side: str
    round: int
    command: list[str]
    began: str
    result: dict[str, Any] | None
    error: str | None


def read_sides(name: str, description: dict[str, Any], options: argparse.Namespace) -> list[Side]:
    """The sides of a comparison that can run here; the others are named on standard error."""
    shared = shlex.split(description["quick" if options.quick else "options"])
    shared += ["--model", str(options.model.resolve())]
    if description.get("data"):
        shared += ["--data", str(options.data.resolve())]
    sides = []
    for side, text in description["sides"].items():
        words = [located(word, options.peers) for word in shlex.split(text)]
        if shutil.which(words[0]) is None:
            print(f"{name}: {side} left out, {words[0]} is not there", file=sys.stderr, flush=True)
        else:
            sides.append(Side(name, side, (*words, *shared)))
    return sides


def located(word: str, environments: Path) -> str:
    """A word of a command with {NAME} and the runners' names made into paths."""
    if word.startswith("{"):
        return str(environments / word.strip("{}") / "bin" / "python")
    return str(PEERS / word) if (PEERS / word).is_file() else word


def machine() -> dict[str, Any]:
    """What the numbers hold for."""
    information = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    models = [line.split(":", 1)[1].strip() for line in information.splitlines() if line.startswith("model name")]
    return {
        "processor": models[0] if models else platform.processor(),
        "cores": os.cpu_count(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        "system": platform.platform(),
        "threads": os.environ.get("OMP_NUM_THREADS", "each library's own choice"),
    }


def commit() -> str:
    """That of the sources beside this file, with what was changed since; empty outside a repository."""
    command = ["git", "-C", str(PEERS), "describe", "--always", "--dirty"]
    return subprocess.run(command, capture_output=True, text=True).stdout.strip()


def execute(side: Side, round_: int) -> Run:
    """Run a side once, from start to end of its process."""
    began = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder, "result.json")
        done = subprocess.run([*side.command, "--json", str(target)], capture_output=True, text=True, errors="replace")
        result, error = None, None
        if done.returncode == 0 and target.is_file():
            result = json.loads(target.read_text(encoding="utf-8"))
        else:
            said = (done.stderr.strip() or done.stdout.strip() or "nothing").splitlines()
            error = f"exit status {done.returncode}: {said[-1]}"
    return Run(side.comparison, side.name, round_, list(side.command), began, result, error)


def read_runs(file: Path) -> list[Run]:
    """The runs that succeeded; those that failed are tried again."""
    lines = file.read_text(encoding="utf-8").splitlines() if file.is_file() else []
    return [run for run in (Run(**json.loads(line)) for line in lines) if run.result is not None]


def measure(sides: Sequence[Side], rounds: int, file: Path) -> Iterator[Run]:
    """Every run of a comparison, in turn; a side that fails in the warm-up is not tried again in this call."""
    known = {(run.comparison, run.side, run.round, tuple(run.command)): run for run in read_runs(file)}
    failed: set[str] = set()
    for round_ in range(WARM_UP, rounds + 1):
        for side in sides:
            run = known.get((side.comparison, side.name, round_, side.command))
            if run is None and side.name not in failed:
                run = execute(side, round_)
                with file.open("a", encoding="utf-8") as log:
                    log.write(json.dumps(asdict(run)) + "\n")
                said = run.error or "done"
                print(f"{side.comparison} {side.name} round {round_}: {said}", file=sys.stderr, flush=True)
            if run is None or run.result is None:
                failed.add(side.name)
            else:
                yield run


def spread(values: Sequence[float]) -> dict[str, float]:
    return {"median": statistics.median(values), "minimum": min(values), "maximum": max(values)}


def summarise(sides: Sequence[Side], runs: Sequence[Run], measure_: str) -> dict[str, Any]:
    """Per side its figures and, above 1 where the first side is the better one, its ratio in the rounds both have."""
    counted: dict[str, dict[int, dict[str, Any]]] = {side.name: {} for side in sides}
    for run in runs:
        if run.round != WARM_UP and run.result is not None:
            counted[run.side][run.round] = run.result
    first = counted[sides[0].name]
    summary: dict[str, Any] = {}
    for side in sides:
        mine = counted[side.name]
        if not mine:
            continue
        figures = {name: spread([mine[r][name] for r in mine]) for name in (measure_, "peak_rss_gb")}
        pairs = [(first[r][measure_], mine[r][measure_]) for r in mine if r in first]
        ratios = [theirs / ours if measure_.startswith("seconds") else ours / theirs for ours, theirs in pairs]
        last = mine[max(mine)]
        summary[side.name] = figures | {
            "rounds": len(mine),
            "ratio": spread(ratios) if ratios and side is not sides[0] else None,
            "ratios": ratios,
            "seconds": {name: statistics.median(mine[r]["seconds"][name] for r in mine) for name in last["seconds"]},
            "dtype": last["dtype"],
            "threads": last["threads"],
            "curve": last.get("loss") or last.get("reward"),
            "versions": last.get("versions"),
            "command": shlex.join(side.command),
        }
    return summary


def table(name: str, measure_: str, first: str, summary: dict[str, Any]) -> str:
    """A comparison in Markdown."""
    lines = [f"\n### {name}: {measure_.replace('_', ' ')}\n"]
    gain = f"{first} against it, 2 is twice as good"
    lines += [f"| side | median (min - max) | {gain} | peak GB | dtype |", "| --- | --- | --- | --- | --- |"]
    for side, found in summary.items():
        ratio = shown(found["ratio"]) if found["ratio"] else ""
        peak = found["peak_rss_gb"]["median"]
        lines.append(f"| {side} | {shown(found[measure_])} | {ratio} | {peak:.2f} | {found['dtype']} |")
    return "\n".join(lines)


def shown(figure: dict[str, float]) -> str:
    return f"{figure['median']:.3g} ({figure['minimum']:.3g} - {figure['maximum']:.3g})"


def parse(known: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("comparisons", nargs="*", metavar="COMPARISON", help=f"of {', '.join(known)} (all)")
    parser.add_argument("--model", type=Path, required=True, help="Hugging Face directory")
    parser.add_argument("--data", type=Path, required=True, help="alpaca JSON: peers/alpaca.py writes one")
    parser.add_argument("--rounds", type=int, default=5, help="counted rounds (%(default)s; 1 with --quick)")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, one round: shows that everything runs")
    parser.add_argument("--sides", nargs="+", metavar="SIDE", help="only these, in their order in the file")
    parser.add_argument("--peers", type=Path, default=ENVIRONMENTS, help="the environments (%(default)s)")
    parser.add_argument("--results", type=Path, default=Path("benchmark-results"), help="directory (%(default)s)")
    options = parser.parse_args()
    if unknown := set(options.comparisons) - set(known):
        parser.error(f"no comparison {', '.join(sorted(unknown))}, expected some of {', '.join(known)}")
    for path in (options.model, options.data):
        if not path.exists():
            parser.error(f"{path} is not there")
    return options


def main() -> int:
    descriptions = tomllib.loads((PEERS / "comparisons.toml").read_text(encoding="utf-8"))
    options = parse(list(descriptions))
    options.results.mkdir(parents=True, exist_ok=True)
    rounds = 1 if options.quick else options.rounds
    report: dict[str, Any] = {"machine": machine(), "date": datetime.date.today().isoformat(), "commit": commit()}
    print(json.dumps(report), flush=True)
    report["comparisons"] = {}
    complete = True
    for name in options.comparisons or descriptions:
        sides = read_sides(name, descriptions[name], options)
        sides = [side for side in sides if not options.sides or side.name in options.sides]
        if not sides:
            continue
        runs = list(measure(sides, rounds, options.results / "runs.jsonl"))
        complete &= len(runs) == len(sides) * (rounds + 1)
        summary = summarise(sides, runs, descriptions[name]["measure"])
        report["comparisons"][name] = summary
        print(table(name, descriptions[name]["measure"], sides[0].name, summary), flush=True)
        (options.results / "summary.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    return 0 if complete else 1


if __name__ == "__main__":
    sys.exit(main())
