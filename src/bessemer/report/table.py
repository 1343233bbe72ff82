"""The table of models as text: for the end of a run, and for README."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Mapping, Sequence
from textwrap import wrap
from typing import Any

from bessemer.data.paths import shown
from bessemer.report.formats import DASH, decimal, percent, points, short, span

__all__ = ["markdown_cell", "markdown_grid", "markdown_table", "terminal_grid", "terminal_table"]

Report = Mapping[str, Any]
Column = tuple[str, Callable[[Mapping[str, Any]], str]]
NAME_WIDTH = 18


def _columns(report: Report) -> list[Column]:
    """The most telling first; those that no model has a value for are left out."""
    base = report["roles"]["base"]
    columns: list[Column] = [
        ("accuracy", lambda m: percent(m["accuracy"])),
        ("95 % interval", lambda m: span(m["accuracy_interval"])),
        (f"minus {short(base, 8)}", lambda m: points(m["minus_base"]["accuracy"])),
        ("F1", lambda m: decimal(m["f1_defect"])),
        ("AUC", lambda m: decimal(m["auc"])),
        ("unread", lambda m: percent(m["parse_failure_rate"])),
        ("token F1", lambda m: percent(m["token_f1"])),
        ("score", lambda m: percent(m["score"])),
        ("ppl", lambda m: decimal(m["perplexity_general"], 1)),
        ("ms", lambda m: decimal(m["ms_per_image"], 0)),
        ("MB", lambda m: decimal(m["megabytes"], 0)),
        ("layers", lambda m: DASH if m["layers"] is None else str(m["layers"])),
    ]
    return [(head, show) for head, show in columns if any(show(m) != DASH for m in report["models"])]


def _width(text: str) -> int:
    """Terminal cells: a Chinese character takes two."""
    return sum(2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def _summary(report: Report) -> list[str]:
    gain, control, roles = report["ppo_minus_sft"], report["shuffled_control"], report["roles"]
    lines = []
    if gain["score"] is not None:
        ends = f" ({points(gain['interval'][0])} to {points(gain['interval'][1])})" if gain["interval"] else ""
        lines.append(f"{roles['aligned']} minus {roles['sft']}, principle score: {points(gain['score'])} points{ends}")
    if control["score"] is not None:
        ends = f" ({points(control['interval'][0])} to {points(control['interval'][1])})" if control["interval"] else ""
        lines.append(f"the same with shuffled rewards: {points(control['score'])} points{ends}")
    if report["student_over_teacher_accuracy"] is not None:
        lines.append(f"{roles['student']} keeps {percent(report['student_over_teacher_accuracy'])} of the accuracy")
    return [shown(line, 400) for line in lines]


def terminal_table(report: Report, width: int = 100) -> str:
    """The models, one a line, in at most `width` cells; columns that do not fit are dropped from the right.

    Beneath it what reinforcement learning gained, the control, and what the student kept. Control characters
    in names are shown, not sent to the terminal.
    """
    names = [model["name"] for model in report["models"]]
    columns = [(head, [show(model) for model in report["models"]]) for head, show in _columns(report)]
    size = f"{report['n_test']} test cases, {report['n_heldout']} held-out prompts"
    titles = [short(shown(text, 400), width) for text in (f"{report['dataset']}; {report['split']}", size)]
    beneath = [part for line in _summary(report) for part in wrap(line, width)]
    return "\n".join([*titles, *terminal_grid(names, columns, width), *beneath]) + "\n"


def terminal_grid(names: Sequence[str], columns: Sequence[tuple[str, Sequence[str]]], width: int) -> list[str]:
    """Lines of at most `width` cells: heads, a rule, a row a name; columns that do not fit are dropped from
    the right."""
    names = [short(shown(name), NAME_WIDTH) for name in names]
    first = max([len("model"), *map(_width, names)])
    chosen: list[tuple[str, Sequence[str], int]] = []
    room = width - first
    for head, cells in columns:
        own = max(map(_width, [head, *cells]))
        if own + 2 > room:
            break
        room -= own + 2
        chosen.append((head, cells, own))

    def line(name: str, cells: Sequence[str]) -> str:
        padded = [" " * (2 + own - _width(cell)) + cell for cell, (_, _, own) in zip(cells, chosen, strict=True)]
        return (name + " " * (first - _width(name)) + "".join(padded)).rstrip()

    head = line("model", [head for head, _, _ in chosen])
    return [head, "-" * _width(head), *(line(name, [c[i] for _, c, _ in chosen]) for i, name in enumerate(names))]


def markdown_table(report: Report) -> str:
    """The models as a Markdown table with intervals, and the line that says on what."""
    base = report["roles"]["base"]

    def accuracy(model: Mapping[str, Any]) -> str:
        ends = f" ({span(model['accuracy_interval'])})" if model["accuracy_interval"] else ""
        return percent(model["accuracy"]) + ends

    def difference(model: Mapping[str, Any]) -> str:
        gain, ends = model["minus_base"]["accuracy"], model["minus_base"]["accuracy_interval"]
        return points(gain) + (f" ({points(ends[0])} to {points(ends[1])})" if ends else "")

    def score(model: Mapping[str, Any]) -> str:
        return percent(model["score"]) + (f" ({span(model['score_interval'])})" if model["score_interval"] else "")

    detailed: dict[str, Column] = {
        "accuracy": ("accuracy (95 % interval)", accuracy),
        f"minus {short(base, 8)}": (f"minus {base}, points", difference),
        "score": ("principle score", score),
    }
    columns = [detailed.get(head, (head, show)) for head, show in _columns(report) if head != "95 % interval"]
    heads = ["model", *(markdown_cell(head) for head, _ in columns)]
    rows = [[markdown_cell(m["name"]), *(show(m) for _, show in columns)] for m in report["models"]]
    made = report["provenance"]
    told = [report["dataset"], report["split"], f"{report['n_test']} test cases", f"seed {report['seed']}"]
    told += [
        made["command"],
        ", ".join(str(v) for v in made["machine"].values() if v is not None),
        made["date"],
    ]
    return markdown_grid(heads, rows) + "\n" + markdown_cell("; ".join(part for part in told if part)) + "\n"


def markdown_cell(text: str) -> str:
    """`text` so that nothing in it is Markdown."""
    escaped = shown(text, 200).replace("\\", "\\\\").replace("|", "\\|").replace("`", "\\`")
    return escaped.replace("<", "&lt;").replace("[", "\\[").replace("*", "\\*").replace("_", "\\_")


def markdown_grid(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table of cells that are escaped already, the first column to the left."""
    lines = [heads, ["---", *["---:"] * (len(heads) - 1)], *rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)
