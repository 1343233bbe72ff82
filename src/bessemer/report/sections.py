"""The tables and statements of the page, each from report.json alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from bessemer.report.formats import DASH, count, decimal, duration, percent, points, span
from bessemer.report.markup import Markup, Node, element, table

__all__ = [
    "agreement_table",
    "cost_table",
    "detection_table",
    "gain",
    "lineage_table",
    "model_named",
    "models_table",
    "pictured_tables",
    "reward_table",
    "slices_table",
    "tasks_table",
]

Report = Mapping[str, Any]
Model = Mapping[str, Any]
Column = tuple[str, Callable[[Model], Node | None]]


def model_named(report: Report, name: str | None) -> Model | None:
    """The row of the model of that name, or None."""
    return next((model for model in report["models"] if model["name"] == name), None)


def sub(text: str) -> Markup:
    """A second, smaller line in a cell."""
    return element("span", text, {"class": "sub"})


def gain(value: float | None, interval: Sequence[float] | None) -> Node | None:
    """A difference in points, coloured when its interval excludes 0; the sign says it too, for those who
    see no colour."""
    if value is None:
        return None
    clear = interval is not None and (interval[0] > 0 or interval[1] < 0)
    kind = ("up" if value > 0 else "down") if clear else "flat"
    shown: list[Node] = [element("span", points(value), {"class": kind})]
    if interval is not None:
        shown.append(sub(f"{points(interval[0])} to {points(interval[1])}"))
    return element("span", shown)


def rate(value: float | None, interval: Sequence[float] | None = None) -> Node | None:
    """A share as percent, its interval beneath."""
    if value is None:
        return None
    return element("span", [percent(value), sub(span(interval))]) if interval else percent(value)


def number(value: float | None, digits: int, interval: Sequence[float] | None = None) -> Node | None:
    """A number, its interval beneath; None so that a column without any is left out."""
    if value is None or interval is None:
        return None if value is None else decimal(value, digits)
    ends = f"{decimal(interval[0], digits)} to {decimal(interval[1], digits)}"
    return element("span", [decimal(value, digits), sub(ends)])


def described(report: Report, model: Model) -> str:
    """What a model is: its own description, else what the part it plays says of it."""
    roles = report["roles"]
    parts = {
        roles["trivial"]: "always the commonest value",
        "probe": "linear classifier on the frozen tower",
        "tower": "vision tower fine-tuned alone",
        roles["base"]: "before any training",
        roles["sft"]: "supervised fine-tuning",
        roles["aligned"]: "reinforcement learning from feedback",
        roles["student"]: f"distilled from {roles['aligned']}",
    }
    return str(model["description"] or parts.get(model["name"], ""))


def filled(report: Report, columns: Sequence[Column], describe: bool = False) -> Markup | None:
    """A table of models with the columns that any model has something for; None if there is no such
    column."""
    models = report["models"]
    cells = [(head, [show(model) for model in models]) for head, show in columns]
    cells = [(head, column) for head, column in cells if any(cell is not None for cell in column)]
    if not cells:
        return None
    rows: list[list[Node]] = []
    strong = None
    for place, model in enumerate(models):
        own = [column[place] for _, column in cells]
        if all(cell is None for cell in own):
            continue
        if model["name"] == report["roles"]["featured"]:
            strong = len(rows)
        words = described(report, model) if describe else ""
        blank = element("span", DASH, {"class": "flat"})
        name = element("span", [model["name"], *([sub(words)] if words else [])])
        rows.append([name, *(blank if cell is None else cell for cell in own)])
    return table(["model", *(head for head, _ in cells)], rows, strong=strong)


def models_table(report: Report) -> Markup | None:
    """How good every model is, with intervals, beside the trivial answer and the difference to the base
    model."""
    base = report["roles"]["base"]
    columns: list[Column] = [
        ("accuracy", lambda m: rate(m["accuracy"], m["accuracy_interval"])),
        (f"minus {base}", lambda m: gain(m["minus_base"]["accuracy"], m["minus_base"]["accuracy_interval"])),
        ("balanced accuracy", lambda m: rate(m["balanced_accuracy"])),
        ("F1 of the positive", lambda m: number(m["f1_defect"], 3)),
        ("AUC", lambda m: number(m["auc"], 3)),
        ("answers unreadable", lambda m: rate(m["parse_failure_rate"])),
        ("token F1", lambda m: rate(m["token_f1"], m["token_f1_interval"])),
        ("principle score", lambda m: rate(m["score"], m["score_interval"])),
        (f"minus {base}", lambda m: gain(m["minus_base"]["score"], m["minus_base"]["score_interval"])),
    ]
    return filled(report, columns, describe=True)


def detection_table(report: Report) -> Markup | None:
    """The finer measures of finding the positive value and of grading."""
    severity = report["severity_attribute"] or "severity"
    columns: list[Column] = [
        ("macro F1", lambda m: number(m["macro_f1"], 3)),
        ("MCC", lambda m: number(m["mcc"], 3)),
        ("average precision", lambda m: number(m["average_precision"], 3)),
        ("found at 5 % false alarms", lambda m: rate(m["recall_at_5_false_alarms"])),
        ("calibration error", lambda m: number(m["calibration_error"], 3)),
        ("Brier score", lambda m: number(m["brier"], 3)),
        (f"{severity}: macro F1", lambda m: number(m["macro_f1_severity"], 3)),
        (f"{severity}: quadratic kappa", lambda m: number(m["kappa_severity"], 3)),
    ]
    return filled(report, columns)


def pictured_tables(report: Report) -> list[Markup]:
    """Questions where things are, how many, and what is to be seen: of all, and of each scene."""

    def part(model: Model, kind: str, *keys: str) -> Any:
        value: Any = model["pictured"][kind]
        for key in keys:
            value = value and value.get(key)
        return value

    def ranged(model: Model, kind: str, name: str, digits: int = 3) -> Node | None:
        return number(part(model, kind, name), digits, part(model, kind, f"{name}_interval"))

    columns: list[Column] = [
        ("boxes: AP", lambda m: ranged(m, "detect", "AP")),
        ("boxes: AP50", lambda m: ranged(m, "detect", "AP50")),
        ("boxes: AR", lambda m: number(part(m, "detect", "AR100"), 3)),
        ("outlines: AP50", lambda m: ranged(m, "segment", "AP50")),
        ("outlines: mask IoU", lambda m: ranged(m, "segment", "mask_iou")),
        ("counts: exact", lambda m: rate(part(m, "count", "exact"), part(m, "count", "exact_interval"))),
        ("counts: always the commonest", lambda m: rate(part(m, "count", "constant"))),
        ("counts: unread", lambda m: number(part(m, "count", "unread"), 0)),
        ("counts: mean error", lambda m: number(part(m, "count", "mean_error"), 2)),
        ("captions: CIDEr-D", lambda m: ranged(m, "describe", "cider_d", 2)),
        ("captions: ROUGE-L", lambda m: ranged(m, "describe", "rouge_l")),
    ]
    kinds = (
        *(("detect", "boxes", "AP50"), ("segment", "outlines", "AP50")),
        *(("count", "counts", "exact"), ("describe", "captions", "rouge_l")),
    )
    scenes: list[Column] = []
    for kind, what, key in kinds:
        names = sorted({name for m in report["models"] for name in part(m, kind, "by_scene") or ()})
        scenes += [
            (f"{name}, {what}: {key}", lambda m, k=kind, n=name, v=key: number(part(m, k, "by_scene", n, v), 3))  # type: ignore[misc]
            for name in names
        ]
    return [table for table in (filled(report, columns), filled(report, scenes)) if table is not None]


def cost_table(report: Report) -> Markup | None:
    """What every model costs to run, and what it forgot of general language."""
    columns: list[Column] = [
        ("ms per image", lambda m: number(m["ms_per_image"], 0 if (m["ms_per_image"] or 0) >= 10 else 1)),
        ("megabytes", lambda m: number(m["megabytes"], 0 if (m["megabytes"] or 0) >= 10 else 1)),
        ("layers", lambda m: None if m["layers"] is None else str(m["layers"])),
        ("parameters", lambda m: None if m["parameters"] is None else count(m["parameters"])),
        ("active", lambda m: None if m["active_parameters"] is None else count(m["active_parameters"])),
        ("perplexity, general text", lambda m: number(m["perplexity_general"], 2)),
        ("times the base model's", lambda m: number(m["perplexity_over_base"], 3)),
        ("answers ended by itself", lambda m: rate(m["ended_rate"])),
    ]
    return filled(report, columns)


def slices_table(report: Report) -> Markup | None:
    """Accuracy of every model within each value of the other labels: where a model is weak."""
    models = [model for model in report["models"] if model["slices"]]
    rows: list[list[Node]] = []
    for attribute in report["attributes"]:
        for value in attribute["values"]:
            found = [model["slices"].get(attribute["name"], {}).get(value) for model in models]
            size = max((cell["n"] for cell in found if cell), default=0)
            shares = [rate(cell["accuracy"], cell["accuracy_interval"]) if cell else None for cell in found]
            if size:
                head = element("span", [f"{attribute['name']}: {value}", sub(f"n = {size}")])
                rows.append([head, *(DASH if share is None else share for share in shares)])
    return table(["accuracy among", *(model["name"] for model in models)], rows) if rows else None


def tasks_table(report: Report) -> Markup | None:
    """The score of every model on each kind of held-out question; None where there is but one kind."""
    models = [model for model in report["models"] if model["by_task"]]
    tasks = list(dict.fromkeys(task for model in models for task in model["by_task"]))
    rows: list[list[Node]] = []
    for task in tasks:
        found = [model["by_task"].get(task) for model in models]
        shares = [rate(cell["score"], cell["score_interval"]) if cell else None for cell in found]
        head = element("span", [task or DASH, sub(f"n = {max(cell['n'] for cell in found if cell)}")])
        rows.append([head, *(DASH if share is None else share for share in shares)])
    return table(["score on questions of", *(model["name"] for model in models)], rows) if len(tasks) > 1 else None


def by_principle(report: Report, columns: Sequence[Column]) -> Markup | None:
    """A table of principles with the columns that any principle has something for; None if there is none."""
    principles = report["reward"]["principles"]
    cells = [(head, [show(found) for found in principles.values()]) for head, show in columns]
    cells = [(head, column) for head, column in cells if any(cell is not None for cell in column)]
    rows: list[list[Node]] = []
    for place, (name, found) in enumerate(principles.items()):
        flag = [sub("low agreement, weighed down")] if found["agreement"]["flagged"] else []
        own = [column[place] for _, column in cells]
        rows.append([element("span", [name, *flag]), *(DASH if cell is None else cell for cell in own)])
    return table(["principle", *(head for head, _ in cells)], rows) if cells else None


def reward_table(report: Report) -> Markup | None:
    """The reward model on held-out pairs, per principle, beside its baselines."""
    columns: list[Column] = [
        ("accuracy", lambda p: rate(p["accuracy"], p["interval"])),
        ("length alone", lambda p: rate(p["length_baseline"])),
        ("gain over length", lambda p: gain(p["minus_length"]["accuracy"], p["minus_length"]["interval"])),
        ("bag of words", lambda p: rate(p["bag_of_words_baseline"])),
        (
            "gain over words",
            lambda p: gain(p["minus_bag_of_words"]["accuracy"], p["minus_bag_of_words"]["interval"]),
        ),
        ("calibration error", lambda p: number(p["calibration_error"], 3)),
        (
            "among its own answers",
            lambda p: rate(p["own"]["accuracy"], p["own"]["interval"]) if p["own"]["pairs"] != p["pairs"] else None,
        ),
        ("pairs", lambda p: str(p["pairs"]) if p["pairs"] or p["ties"] else None),
        ("ties", lambda p: str(p["ties"]) if p["pairs"] or p["ties"] else None),
    ]
    return by_principle(report, columns)


def agreement_table(report: Report) -> Markup | None:
    """How far the annotators agree on each principle, where there were several."""
    found = {
        name: {"agreement": p["agreement"], **p["agreement"]} for name, p in report["reward"]["principles"].items()
    }
    columns: list[Column] = [
        ("annotators", lambda a: None if a["annotators"] is None else str(a["annotators"])),
        ("Krippendorff's alpha", lambda a: alpha(a["alpha"], a["alpha_interval"])),
        ("pairs ordered alike", lambda a: rate(a["pair_agreement"], a["pair_interval"])),
        ("Kendall's tau-b", lambda a: number(a["tau_b"], 2)),
        ("pairs", lambda a: None if a["pairs"] is None else str(a["pairs"])),
        ("weight in the reward", lambda a: number(a["weight"], 2)),
    ]
    return by_principle({"reward": {"principles": found}}, columns)


def alpha(value: float | None, interval: Sequence[float] | None) -> Node | None:
    """Alpha with its interval beneath."""
    if value is None or interval is None:
        return number(value, 2)
    return element("span", [decimal(value, 2), sub(f"{decimal(interval[0], 2)} to {decimal(interval[1], 2)}")])


def lineage_table(report: Report) -> Markup | None:
    """Which run read which, by hash, so that every number can be traced to its inputs."""
    rows: list[list[Node]] = []
    for stage in report["lineage"]:
        parents = ", ".join(f"{parent['name']} {parent['sha256'][:10]}" for parent in stage["parents"].values()) or DASH
        rows.append(
            [
                element("span", [stage["stage"], sub(stage["directory"])]),
                element("code", (stage["sha256"] or DASH)[:10]),
                element("code", parents),
                duration(stage["seconds"]),
            ]
        )
    return table(["stage", "model made (sha256)", "read (name, sha256)", "time"], rows) if rows else None
