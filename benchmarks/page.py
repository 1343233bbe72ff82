"""Write docs/performance.md and its plots from what was measured.

    python benchmarks/page.py [--results DIR] [--page FILE.md]

Reads summary.json (paired.py), roofline.json, scaling.json and tricks.toml of the directory, and the goals of
peers/comparisons.toml. What is not there is named as not measured; nothing is measured here. What was measured on
another machine lies in DIR/machines/NAME, and becomes a page FILE-NAME.md of nothing else.
"""

from __future__ import annotations

import argparse
import json
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from goals import UNKNOWN, Goal, judge, read_goals
from growth import growth, number
from paired import HERE, PEERS

__all__ = ["page"]

Found = Mapping[str, Any]
UNITS = {
    "tokens_per_second": "tokens/s",
    "samples_per_second": "samples/s",
    "seconds_per_step": "s a step",
}
HEAD = """# Performance

How fast bessemer is beside its peers on one machine, and how its cost grows. Made by `python benchmarks/page.py` from
`benchmarks/results`: not to be edited by hand. `make bench` measures what is missing there (remove runs.jsonl and
scaling.json to begin anew), `make bench QUICK=1` shows in tiny sizes that everything runs. Pages of other machines lie
beside this one.
"""
HOW = """Each side runs in a process of its own, in turn (A B A B ...), once a round; its first step is not counted. A
ratio is taken within a round; shown are medians, with minimum and maximum in brackets. Where a peer has a faster
setting it has two rows, its defaults and its best (`-best`). Ours is always the first row. A goal is judged by the
median; `at most` is what the arithmetic allows on this machine, the other's time by the least time of the work (below).
The commands are those of `benchmarks/paired.py`, of scripts in `benchmarks` and `benchmarks/peers`, each with a
`--json FILE` for its figures: `{trl}` stands for the Python of that peer's environment, `{own}` for ours, MODEL
for SmolLM2-135M-Instruct, qwen2-135m for a random model by `benchmarks/shapes.py`, alpaca.json
for what `benchmarks/peers/alpaca.py` writes. `ours.py` is `bessemer bench` in an environment with the PyTorch that most
peers have.
"""
ROOF = """The least time of a step is that of its operations or of the bytes it must read, whichever takes longer, at
the peak of this machine: {gflops:.0f} GFLOP/s in a bf16 product, {gbs:.1f} GB/s in a stream. Counted are linear layers,
attention (no upper half), the head on the rows that need it, and low-rank adapters (`benchmarks/arithmetic.py`);
nothing runs faster.
"""


def spread(figure: Found | Sequence[float]) -> str:
    """Median, with minimum and maximum."""
    values = [figure[name] for name in ("median", "minimum", "maximum")] if isinstance(figure, Mapping) else figure
    middle, low, high = (number(value) for value in values)
    return f"{middle} ({low} – {high})"


def rows(*lines: Sequence[str]) -> str:
    """A Markdown table whose first line is its heading."""
    cells = [[cell.replace("|", "\\|") for cell in line] for line in lines]
    return "\n".join(f"| {' | '.join(line)} |" for line in [cells[0], ["---"] * len(cells[0]), *cells[1:]])


def conditions(summary: Found, roofline: Found, scaling: Found) -> str:
    """What the figures hold for."""
    reports = [report for report in (summary, roofline, scaling) if report]
    if not reports:
        return "Nothing has been measured yet.\n"
    known = {name: sorted({str(r["machine"].get(name, "?")) for r in reports}) for name in ("processor", "cores")}
    memory = sorted({str(report["machine"].get("memory_gb", "?")) for report in reports})
    parts = [*summary.get("comparisons", {}).values(), *scaling.get("points", {}).values(), *filter(None, [roofline])]
    dates = sorted({part["date"] for part in parts if part.get("date")})
    commits = {name for part in parts for name in [*part.get("commits", []), part.get("commit", "")]} - {""}
    lines = [
        f"- machine: {', '.join(known['processor'])}, {', '.join(known['cores'])} cores, {', '.join(memory)} GB",
        f"- date: {' to '.join(dict.fromkeys([dates[0], dates[-1]])) if dates else 'not kept'}",
        f"- commit: {', '.join(sorted(commits)) or 'not kept'}",
        f"- versions: {', '.join(versions(summary)) or 'not kept'}",
    ]
    quick = any(part.get("quick") or "tiny" in part.get("shape", "") for part in parts)
    warning = ["", "**Tiny sizes: these figures only show that everything runs.**"] if quick else []
    return "\n".join([*lines, *warning]) + "\n"


def versions(summary: Found) -> list[str]:
    """Every package that took part, with all its versions: peers differ in theirs."""
    found: dict[str, set[str]] = {}
    for comparison in summary.get("comparisons", {}).values():
        for side in comparison["sides"].values():
            for package, version in (side["versions"] or {}).items():
                found.setdefault(package, set()).add(version)
    return [f"{package} {' and '.join(sorted(found[package]))}" for package in sorted(found)]


def goals(descriptions: Found, comparisons: Found, roofline: Found) -> str:
    """Every goal beside what was reached, and what could be."""
    verdicts = [judge(goal, comparisons) for goal in read_goals(descriptions)]
    counts = {state: sum(verdict.state == state for verdict in verdicts) for state in {v.state for v in verdicts}}
    said = "; ".join(f"{count} {state.strip('*')}" for state, count in sorted(counts.items()))
    lines = [
        (
            descriptions[verdict.goal.comparison]["title"],
            verdict.goal.text,
            spread(verdict.reached) + "x" if verdict.reached else "–",
            at_most(verdict.goal, comparisons, roofline),
            verdict.state,
        )
        for verdict in verdicts
    ]
    return f"Of {len(verdicts)} goals: {said}.\n\n" + rows(("work", "goal", "reached", "at most", ""), *lines)


def at_most(goal: Goal, comparisons: Found, roofline: Found) -> str:
    """How many times as fast as a side anything can be here: its time by the least time of the work."""
    least = roofline.get("least_seconds_per_step", {}).get(goal.comparison)
    side = comparisons.get(goal.comparison, {}).get("sides", {}).get(goal.side)
    if goal.kind != "speed" or not least or not side:
        return "–"
    return f"{number(side['seconds_per_step']['median'] / least)}x"


def comparison(name: str, description: Found, found: Found | None) -> str:
    """One comparison: its table and the commands that made it."""
    head = f"### {description['title']}\n\n"
    if found is None or not found["sides"]:
        return f"{head}Not measured: `{' '.join([description['sides'][first(description)], description['options']])}`."
    measure, sides = found["measure"], found["sides"]
    unit = UNITS[measure]
    lines = [
        (
            side,
            spread(one[measure]),
            spread(one["ratio"]) + "x" if one["ratio"] else "",
            number(one["peak_rss_gb"]["median"]),
            one["dtype"],
        )
        for side, one in sides.items()
    ]
    missing = [side for side in description["sides"] if side not in sides]
    table = rows(("side", unit, "ours against it", "peak GB", "type"), *lines)
    rounds = sorted({one["rounds"] for one in sides.values()})
    counted = f"{' and '.join(map(str, rounds))} round{'s' * (rounds[-1] > 1)}"
    commands = "\n".join(f"{side}: {one['command']}" for side, one in sides.items())
    absent = f"Not measured: {', '.join(missing)}.\n\n" if missing else ""
    return f"{head}{table}\n\n{absent}{found['date']}, {counted}.\n\n```\n{commands}\n```"


def first(description: Found) -> str:
    """The side that the others are divided by."""
    return next(iter(description["sides"]))


def rooflines(descriptions: Found, comparisons: Found, roofline: Found) -> str:
    """How far every work is from the fastest possible."""
    if not roofline:
        return "Not measured."
    lines = []
    for name, description in descriptions.items():
        least = roofline["least_seconds_per_step"].get(name)
        side = comparisons.get(name, {}).get("sides", {}).get(first(description))
        taken = side["seconds_per_step"]["median"] if side else None
        lines.append(
            (
                description["title"],
                number(least) if least else UNKNOWN,
                number(taken) if taken else UNKNOWN,
                f"{number(taken / least)}x" if taken and least else "–",
            )
        )
    table = rows(("work", "least s a step", "ours, s a step", "times the least"), *lines)
    return ROOF.format(**roofline["peak"]) + "\n" + table


def tricks(described: Sequence[Found], paid: bool) -> str:
    """What paid, or what did not."""
    lines = [
        (
            trick["name"],
            trick["ratio"] or UNKNOWN,
            f"`{trick['command']}`" if trick["command"] else "not kept" if trick["ratio"] else "–",
            trick["date"] or "–",
            trick["source"],
        )
        for trick in described
        if trick["paid"] is paid
    ]
    return rows(("trick", "times as fast", "command", "date", "stated in"), *lines) if lines else "None is recorded."


def page(
    descriptions: Found, results: Found, remarks: Found | None, folder: str = "performance"
) -> tuple[str, dict[str, str]]:
    """The page in Markdown, and its plots (SVG) by file name.

    descriptions: of comparisons.toml; results: summary, roofline and scaling, {} where a file is not there; remarks:
    tricks.toml, None for a page of what was measured alone; folder: where the page looks for its plots.
    """
    summary, scaling = results["summary"], results["scaling"]
    comparisons = summary.get("comparisons", {})
    grown, plots = growth(scaling, (remarks or {}).get("remarks", {}), folder)
    parts = [
        HEAD,
        conditions(summary, results["roofline"], scaling),
        "## Goals\n\n" + HOW,
        goals(descriptions, comparisons, results["roofline"]),
        "## How far from the fastest possible\n",
        rooflines(descriptions, comparisons, results["roofline"]),
        "## Side by side\n",
        "\n\n".join(comparison(name, about, comparisons.get(name)) for name, about in descriptions.items()),
    ]
    if scaling or remarks is not None:
        parts += ["## How cost grows\n", grown]
    if remarks is not None:
        parts += ["## What paid\n", tricks(remarks.get("trick", []), True)]
        parts += ["## What did not pay\n", tricks(remarks.get("trick", []), False)]
    return "\n".join(part if part.endswith("\n") else part + "\n" for part in parts), plots


def read(directory: Path) -> dict[str, Any]:
    """The results by name, {} for a file that is not there."""
    found = {}
    for name in ("summary", "roofline", "scaling"):
        file = directory / f"{name}.json"
        found[name] = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=HERE / "results", help="directory (%(default)s)")
    parser.add_argument("--page", type=Path, default=HERE.parent / "docs" / "performance.md", help="(%(default)s)")
    options = parser.parse_args()
    descriptions = tomllib.loads((PEERS / "comparisons.toml").read_text(encoding="utf-8"))
    told = options.results / "tricks.toml"
    remarks = tomllib.loads(told.read_text(encoding="utf-8")) if told.is_file() else {}
    write(descriptions, read(options.results), remarks, options.page)
    for summary in sorted(options.results.glob("machines/*/summary.json")):
        results = read(summary.parent)
        there = {name: about for name, about in descriptions.items() if name in results["summary"]["comparisons"]}
        write(there, results, None, options.page.with_stem(f"{options.page.stem}-{summary.parent.name}"))


def write(descriptions: Found, results: Found, remarks: Found | None, file: Path) -> None:
    """A page, and its plots in a folder of its name."""
    folder = file.with_suffix("")
    text, plots = page(descriptions, results, remarks, folder.name)
    file.write_text(text, encoding="utf-8")
    for name, svg in plots.items():
        folder.mkdir(exist_ok=True)
        (folder / name).write_text(svg, encoding="utf-8")


if __name__ == "__main__":
    main()
