"""The summary of several reports as text: for a terminal, and as Markdown."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from textwrap import wrap
from typing import Any

from bessemer.data.paths import shown
from bessemer.report.formats import DASH, decimal, points
from bessemer.report.summary import MEASURES
from bessemer.report.table import markdown_cell, markdown_grid, terminal_grid

__all__ = ["summary_markdown", "summary_text"]

Summary = Mapping[str, Any]
Show = Callable[[float | None], str]


def _share(value: float | None) -> str:
    return decimal(None if value is None else 100 * value, 1)


_HEADS: dict[str, tuple[str, Show]] = {
    "accuracy": ("accuracy %", _share),
    "balanced_accuracy": ("balanced %", _share),
    "f1_defect": ("F1", decimal),
    "auc": ("AUC", decimal),
    "parse_failure_rate": ("unread %", _share),
    "score": ("score %", _share),
}
_DIFFERENCES: dict[str, tuple[str, Show, str]] = {
    "sft_minus_tower_accuracy": ("sft minus tower, accuracy", points, "points"),
    "ppo_minus_sft_score": ("ppo minus sft, principle score", points, "points"),
    "ppo_minus_sft_accuracy": ("ppo minus sft, accuracy", points, "points"),
    "shuffled_minus_sft_score": ("shuffled rewards minus sft, principle score", points, "points"),
    "student_over_teacher_accuracy": ("accuracy that the student keeps of its teacher's", _share, "%"),
}


def _measured(models: Sequence[Mapping[str, Any]], mean: Callable[[Any], float | None]) -> list[str]:
    """The measures that at least one model has a value for."""
    return [measure for measure in MEASURES if any(mean(model[measure]) is not None for model in models)]


def _spread(statistic: Mapping[str, Any], show: Show) -> str:
    """The mean and its deviation over seeds; a dash for what is not known."""
    if statistic["mean"] is None:
        return DASH
    # The deviation has no sign, whatever the way of showing the mean.
    deviation = _share(statistic["deviation"]) if show is points else show(statistic["deviation"])
    return f"{show(statistic['mean'])} ± {deviation}"


def _range(statistic: Mapping[str, Any], show: Show, between: str) -> str:
    return "" if statistic["n"] < 2 else f"{show(statistic['low'])}{between}{show(statistic['high'])}"


def _ends(numbers: Sequence[int]) -> str:
    return " to ".join(map(str, dict.fromkeys([numbers[0], numbers[-1]])))


def _title(group: Mapping[str, Any]) -> str:
    sizes = [_ends(group[size]) for size in ("n_test", "n_heldout")]
    seeds = f"{'seed' if len(group['seeds']) == 1 else 'seeds'} {', '.join(map(str, group['seeds']))}"
    return f"{group['dataset']}; {group['split']}; {sizes[0]} test cases, {sizes[1]} held-out prompts; {seeds}"


def _differences(group: Mapping[str, Any]) -> list[str]:
    lines = []
    for name, (words, show, unit) in _DIFFERENCES.items():
        found = group["differences"][name]
        if found["n"]:
            span = _range(found, show, " to ")
            seeds = "1 seed" if found["n"] == 1 else f"{found['n']} seeds"
            lines.append(f"{words}: {_spread(found, show)} {unit} ({span}{', ' if span else ''}{seeds})")
    return lines


def _gap_title(gap: Mapping[str, Any]) -> str:
    seeds = " and ".join(str(len(gap[f"{side}_reports"])) for side in ("first", "second"))
    return f"{gap['dataset']}: {gap['first']} minus {gap['second']}, points between the means of {seeds} seeds"


def _gap_columns(gap: Mapping[str, Any]) -> list[tuple[str, list[str]]]:
    kept = _measured(gap["models"], lambda value: value)
    return [(_HEADS[m][0].removesuffix(" %"), [points(model[m]) for model in gap["models"]]) for m in kept]


def _columns(group: Mapping[str, Any], each: int) -> list[tuple[str, list[str]]]:
    """(head, cells): `each` cells a model, mean ± deviation above, the range beneath; how many seeds where models
    differ in that."""
    models = group["models"]
    columns = []
    if any(model["n"] != len(group["seeds"]) for model in models):
        columns.append(("seeds", [text for model in models for text in (str(model["n"]), "")[:each]]))
    for measure in _measured(models, lambda found: found["mean"]):
        head, show = _HEADS[measure]
        cells = [(_spread(model[measure], show), _range(model[measure], show, "–")) for model in models]
        columns.append((head, [text for pair in cells for text in pair[:each]]))
    return columns


def summary_text(summary: Summary, width: int = 100) -> str:
    """Every group as a table of at most `width` cells, a model in two lines: mean ± deviation, and least–greatest
    where there are several seeds. Beneath it paired differences and notes; at the end the gaps between
    splits."""
    lines: list[str] = []
    for group in summary["groups"]:
        each = 1 if len(group["seeds"]) == 1 else 2
        names = [text for model in group["models"] for text in (model["name"], "")[:each]]
        title, *beneath = [
            wrap(shown(line, 400), width)
            for line in [_title(group), *_differences(group), *(f"note: {note}" for note in group["notes"])]
        ]
        grid = terminal_grid(names, _columns(group, each), width)
        lines += [*title, *grid, *(part for line in beneath for part in line), ""]
    for gap in summary["gaps"]:
        names = [model["name"] for model in gap["models"]]
        grid = terminal_grid(names, _gap_columns(gap), width)
        lines += [*wrap(shown(_gap_title(gap), 400), width), *grid, ""]
    return "\n".join(lines[:-1]) + "\n"


def summary_markdown(summary: Summary) -> str:
    """The same as Markdown: mean ± deviation (least to greatest), and the reports that it was made of."""
    blocks: list[str] = []
    for group in summary["groups"]:
        models = group["models"]
        kept = _measured(models, lambda found: found["mean"])

        def cell(model: Mapping[str, Any], measure: str) -> str:
            show, found = _HEADS[measure][1], model[measure]
            ends = _range(found, show, " to ")
            return _spread(found, show) + (f" ({ends})" if ends else "")

        heads = ["model", "seeds", *(_HEADS[measure][0] for measure in kept)]
        rows = [[markdown_cell(m["name"]), str(m["n"]), *(cell(m, measure) for measure in kept)] for m in models]
        listed = [*_differences(group), *group["notes"], *(f"report: {name}" for name in group["reports"])]
        blocks += [f"**{markdown_cell(_title(group))}**\n", markdown_grid(heads, rows)]
        blocks.append("".join(f"- {markdown_cell(line)}\n" for line in listed))
    for gap in summary["gaps"]:
        columns = _gap_columns(gap)
        rows = [[markdown_cell(m["name"]), *(c[i] for _, c in columns)] for i, m in enumerate(gap["models"])]
        blocks += [f"**{markdown_cell(_gap_title(gap))}**\n", markdown_grid(["model", *(h for h, _ in columns)], rows)]
    return "Mean ± standard deviation over seeds (least to greatest).\n\n" + "\n".join(blocks)
