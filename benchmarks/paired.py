"""bessemer beside its peers, in turn on one machine: A B C A B C ..., each in a process of its own.

    python benchmarks/paired.py --model DIR --data alpaca.json [--rounds 5] [--quick] [--plan] [COMPARISON ...]

Comparisons are described in benchmarks/peers/comparisons.toml; a peer that is not installed (peers/install.py) is left
out and named. The first step of a run is not counted. Runs are appended to RESULTS/runs.jsonl as they end; started
again, those that are there are not repeated. RESULTS/summary.json and the table on standard output give medians,
minimum and maximum, and the ratio of the first side to each other one, round by round; comparisons that are not named
keep what the summary has of them.
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

HERE = Path(__file__).resolve().parent
PEERS = HERE / "peers"
ENVIRONMENTS = Path.home() / ".cache" / "bessemer" / "peers"
SHAPES = Path.home() / ".cache" / "bessemer" / "shapes"
"""Random models of the comparisons that ask for a shape."""


@dataclass(frozen=True)
class Side:
    """One command of a comparison, complete but for its --json."""

    comparison: str
    name: str
    command: tuple[str, ...]


@dataclass(frozen=True)
class Run:
    """One line of runs.jsonl: `result` is the JSON that the command wrote, or `error` the last that it said; `seconds`
    of the whole process, `commit` of our sources then, `processor` of the machine."""

    comparison: str
    side: str
    round: int
    command: list[str]
    began: str
    result: dict[str, Any] | None
    error: str | None
    seconds: float = 0.0
    commit: str = ""
    processor: str = ""


def read_sides(name: str, description: dict[str, Any], options: argparse.Namespace) -> list[Side]:
    """The sides of a comparison that can run here; the others are named on standard error."""
    shared = shlex.split(description["quick" if options.quick else "options"])
    shared += ["--model", str(model_of(description, options))]
    if description.get("data"):
        shared += ["--data", str(options.data.resolve())]
    sides = []
    for side, text in description["sides"].items():
        words = [located(word, options.peers) for word in shlex.split(text)]
        if options.sides and side not in options.sides:
            continue
        expected = options.plan and not options.quick  # peers are installed between a plan and its runs
        if shutil.which(words[0]) is None and not expected:
            print(f"{name}: {side} left out, {words[0]} is not there", file=sys.stderr, flush=True)
        else:
            sides.append(Side(name, side, (*words, *shared)))
    return sides


def model_of(description: dict[str, Any], options: argparse.Namespace) -> Path:
    """The model of a comparison: the one that was named, or a random one of the comparison's shape (shapes.py)."""
    if "shape" not in description:
        return Path(options.model.resolve())
    return SHAPES / str(description["shape"])


def located(word: str, environments: Path) -> str:
    """A word of a command with {NAME} and the runners' names made into paths; {own} is this interpreter, and so is
    {bessemer} where it has no environment beside the peers'."""
    python = environments / word.strip("{}") / "bin" / "python"
    if word == "{own}" or word == "{bessemer}" and not python.is_file():
        return sys.executable
    if word.startswith("{"):
        return str(python)
    return next((str(folder / word) for folder in (PEERS, HERE) if (folder / word).is_file()), word)


def portable(description: dict[str, Any], side: str, quick: bool) -> str:
    """The command of a side as anyone would type it: names of files and environments instead of places."""
    words = [description["sides"][side], description["quick" if quick else "options"]]
    words.append(f"--model {description.get('shape', 'MODEL')}")
    return " ".join([*words, "--data alpaca.json"] if description.get("data") else words)


def machine() -> dict[str, Any]:
    """What the numbers hold for."""
    information = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    models = [line.split(":", 1)[1].strip() for line in information.splitlines() if line.startswith("model name")]
    return {
        "processor": models[0] if models else platform.processor(),
        "cores": os.cpu_count(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "threads": os.environ.get("OMP_NUM_THREADS", "each library's own choice"),
    }


def commit() -> str:
    """That of the sources beside this file, with what was changed since; empty outside a repository."""
    command = ["git", "-C", str(PEERS), "describe", "--always", "--dirty"]
    return subprocess.run(command, capture_output=True, text=True).stdout.strip()


def execute(side: Side, round_: int) -> Run:
    """Run a side once, from start to end of its process."""
    began = datetime.datetime.now(datetime.UTC)
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder, "result.json")
        done = subprocess.run([*side.command, "--json", str(target)], capture_output=True, text=True, errors="replace")
        result, error = None, None
        if done.returncode == 0 and target.is_file():
            result = json.loads(target.read_text(encoding="utf-8"))
        else:
            said = (done.stderr.strip() or done.stdout.strip() or "nothing").splitlines()
            error = f"exit status {done.returncode}: {said[-1]}"
    seconds = (datetime.datetime.now(datetime.UTC) - began).total_seconds()
    at = began.isoformat(timespec="seconds")
    here = machine()["processor"]
    return Run(side.comparison, side.name, round_, list(side.command), at, result, error, seconds, commit(), here)


def read_runs(file: Path) -> list[Run]:
    """The runs that succeeded; those that failed are tried again."""
    lines = file.read_text(encoding="utf-8").splitlines() if file.is_file() else []
    return [run for run in (Run(**json.loads(line)) for line in lines) if run.result is not None]


def known(sides: Sequence[Side], rounds: int, file: Path) -> dict[tuple[str, int], Run]:
    """The runs of these sides on such a machine, which need not be repeated, by side and round."""
    here = machine()["processor"]
    commands = {side.name: side for side in sides}
    return {
        (run.side, run.round): run
        for run in read_runs(file)
        if run.round <= rounds
        and run.processor == here
        and run.side in commands
        and commands[run.side].comparison == run.comparison
        and commands[run.side].command == tuple(run.command)
    }


def measure(sides: Sequence[Side], rounds: int, file: Path) -> Iterator[Run]:
    """Every run of a comparison, in turn; a side that fails is not tried again in this call."""
    there = known(sides, rounds, file)
    if others := {run.commit for run in there.values()} - {commit()}:
        kept = f"runs of commit {', '.join(sorted(others)) or 'unknown'} are kept"
        print(f"{sides[0].comparison}: {kept}; delete {file} to measure all again", file=sys.stderr, flush=True)
    failed: set[str] = set()
    for round_ in range(1, rounds + 1):
        for side in sides:
            run = there.get((side.name, round_))
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
        if run.result is not None:
            counted[run.side][run.round] = run.result
    first = counted[sides[0].name]
    summary: dict[str, Any] = {}
    for side in sides:
        mine = counted[side.name]
        if not mine:
            continue
        figures = {
            name: spread([mine[r][name] for r in mine]) for name in (measure_, "seconds_per_step", "peak_rss_gb")
        }
        pairs = [(first[r], mine[r]) for r in mine if r in first]
        ratios = [better(ours[measure_], theirs[measure_], measure_) for ours, theirs in pairs]
        memory = [ours["peak_rss_gb"] / theirs["peak_rss_gb"] for ours, theirs in pairs]
        last = mine[max(mine)]
        summary[side.name] = figures | {
            "rounds": len(mine),
            "ratio": spread(ratios) if ratios and side is not sides[0] else None,
            "memory_ratio": spread(memory) if memory and side is not sides[0] else None,
            "ratios": ratios,
            "seconds": {name: statistics.median(mine[r]["seconds"][name] for r in mine) for name in last["seconds"]},
            "dtype": last["dtype"],
            "threads": last["threads"],
            "tokens": last["tokens"],
            "curve": last.get("loss") or last.get("reward"),
            "versions": last.get("versions"),
        }
    return summary


def better(ours: float, theirs: float, measure_: str) -> float:
    """How many times as good ours is: of seconds less is better, of everything per second more."""
    return theirs / ours if measure_.startswith("seconds") else ours / theirs


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
    parser.add_argument("--plan", action="store_true", help="only say what would be run, and about how long")
    parser.add_argument("--peers", type=Path, default=ENVIRONMENTS, help="the environments (%(default)s)")
    parser.add_argument("--results", type=Path, default=HERE / "results", help="directory (%(default)s)")
    options = parser.parse_args()
    if unknown := set(options.comparisons) - set(known):
        parser.error(f"no comparison {', '.join(sorted(unknown))}, expected some of {', '.join(known)}")
    for path in (options.model, options.data):
        if not path.exists() and not options.plan:
            parser.error(f"{path} is not there")
    return options


def plan(descriptions: dict[str, Any], names: Sequence[str], options: argparse.Namespace) -> None:
    """Say what is to be run and about how long that takes: as long as before, or as the description guesses."""
    file, total = options.results / "runs.jsonl", 0.0
    rounds = 1 if options.quick else options.rounds
    took = {(run.comparison, run.side): run.seconds for run in read_runs(file) if run.seconds}
    for name in names:
        sides = read_sides(name, descriptions[name], options)
        there = known(sides, rounds, file)
        missing = [side.name for side in sides for r in range(1, rounds + 1) if (side.name, r) not in there]
        about = 40.0 if options.quick else float(descriptions[name]["seconds"])
        seconds = sum(took.get((name, side), about) for side in missing)
        total += seconds
        of = len(sides) * rounds
        print(f"{name}: {', '.join(side.name for side in sides)}; {len(missing)} of {of} runs, {seconds / 60:.0f} min")
    print(f"paired: about {total / 60:.0f} minutes on two cores")


def stored(file: Path) -> dict[str, Any]:
    """What the summary has already, if it is of this machine."""
    report: dict[str, Any] = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    same = report.get("machine", {}).get("processor") == machine()["processor"]
    return dict(report["comparisons"]) if same else {}


def main() -> int:
    descriptions = tomllib.loads((PEERS / "comparisons.toml").read_text(encoding="utf-8"))
    options = parse(list(descriptions))
    names = options.comparisons or list(descriptions)
    options.results.mkdir(parents=True, exist_ok=True)
    if options.plan:
        plan(descriptions, names, options)
        return 0
    rounds = 1 if options.quick else options.rounds
    report: dict[str, Any] = {"machine": machine()}
    print(json.dumps(report), flush=True)
    report["comparisons"] = stored(options.results / "summary.json")
    complete = True
    for name in names:
        description = descriptions[name]
        sides = read_sides(name, description, options)
        if not sides:
            continue
        if "shape" in description:
            maker = [sys.executable, str(HERE / "shapes.py"), description["shape"], str(model_of(description, options))]
            subprocess.run(maker, check=True)
        runs = list(measure(sides, rounds, options.results / "runs.jsonl"))
        complete &= len(runs) == len(sides) * rounds
        summary = summarise(sides, runs, description["measure"])
        for side in summary:
            summary[side]["command"] = portable(description, side, options.quick)
        report["comparisons"][name] = {
            "date": max((run.began[:10] for run in runs), default=""),
            "commits": sorted({run.commit for run in runs}),
            "measure": description["measure"],
            "quick": options.quick,
            "first": sides[0].name,
            "sides": summary,
        }
        print(table(name, description["measure"], sides[0].name, summary), flush=True)
        (options.results / "summary.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    return 0 if complete else 1


if __name__ == "__main__":
    sys.exit(main())
