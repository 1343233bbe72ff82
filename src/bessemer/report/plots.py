"""The plots of a report, each drawn from report.json alone; one that has nothing to show is None."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes

from bessemer.report.figure import ACCENT, INK, MUTED, ON_ACCENT, SERIES, draw, style, to_svg
from bessemer.report.formats import decimal, duration, percent
from bessemer.report.markup import Markup

__all__ = ["METRIC_TITLES", "charts", "headline_metric"]

Report = Mapping[str, Any]
Points = Sequence[Sequence[float]]

METRIC_TITLES = {
    "accuracy": "Accuracy",
    "token_f1": "Token F1 against the reference",
    "score": "Principle score",
}


def colors(report: Report) -> dict[str, str]:
    """The colour of every model, by the part it plays; rivals and extras take what is left."""
    roles = report["roles"]
    known = {
        roles["aligned"]: SERIES[0],
        roles["sft"]: SERIES[1],
        roles["student"]: SERIES[3],
        roles["base"]: SERIES[4],
        "tower": SERIES[2],
        "probe": SERIES[5],
        roles["trivial"]: MUTED,
    }
    return {model["name"]: known.get(model["name"], SERIES[6]) for model in report["models"]}


def headline_metric(report: Report) -> str | None:
    """What models are compared by: accuracy; for text alone token-F1 or the principle score, whichever was
    measured."""
    for name in METRIC_TITLES:
        if any(model[name] is not None for model in report["models"]):
            return name
    return None


def comparison(report: Report) -> Markup | None:
    """Every model's headline metric with its interval, and a line at the trivial answer."""
    name = headline_metric(report)
    models = [model for model in report["models"] if name and model[name] is not None]
    if not models:
        return None
    drawing = draw(380, 60 + 32 * len(models))
    (axes,), hue = drawing.axes, colors(report)
    for row, model in enumerate(models):
        value, interval = model[name], model[f"{name}_interval"]
        if interval:
            axes.plot([100 * end for end in interval], [row, row], color=hue[model["name"]], linewidth=3, alpha=0.45)
        axes.plot([100 * value], [row], "o", color=hue[model["name"]], markersize=7)
        axes.annotate(
            decimal(100 * value, 1),
            (100 * value, row),
            (0, 6),
            textcoords="offset points",
            ha="center",
            fontsize=9,
        )
        if model["name"] == report["roles"]["trivial"]:
            axes.plot([100 * value] * 2, [row + 0.3, len(models)], color=MUTED, linestyle=(0, (3, 3)), linewidth=1)
    axes.set_yticks(range(len(models)), [drawing.word(model["name"], 16) for model in models], color=INK)
    axes.set_ylim(len(models) - 0.5, -0.7)
    axes.grid(axis="y", visible=False)
    axes.set_xlabel("percent, with 95 % interval")
    axes.set_title(METRIC_TITLES[str(name)])
    return to_svg(drawing, "comparison", f"{METRIC_TITLES[str(name)]} of every model with its 95 % interval")


def by_principle(report: Report) -> Markup | None:
    """Each principle's score for every model, so that a gain in one at the cost of another is seen."""
    models = [model for model in report["models"] if any(v is not None for v in model["principles"].values())]
    names = sorted({name for model in models for name in model["principles"]})
    if not names:
        return None
    drawing = draw(380, 90 + 34 * len(names))
    (axes,), hue = drawing.axes, colors(report)
    for place, model in enumerate(models):
        offset = 0.16 * (place - (len(models) - 1) / 2)
        found = [(row, model["principles"].get(name)) for row, name in enumerate(names)]
        shown = [(row + offset, value) for row, value in found if value is not None]
        axes.plot(
            [value for _, value in shown],
            [row for row, _ in shown],
            "o",
            color=hue[model["name"]],
            markersize=6,
            label=drawing.word(model["name"], 16),
        )
    axes.set_yticks(range(len(names)), [drawing.word(name) for name in names], color=INK)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_xlim(0, 1.02)
    axes.set_xlabel("mean score")
    axes.set_title("Principles on held-out prompts")
    drawing.figure.legend(loc="outside lower center", ncols=min(4, len(models)))
    return to_svg(drawing, "principles", "Mean score of each principle for every model")


def series(report: Report, *keys: str) -> tuple[Points, Points]:
    """The points of a PPO metric and of the shuffled control; '/', '.' and '_' in names are the same."""
    found: list[Points] = []
    for curves in (report["ppo"]["curves"], report["ppo"]["control_curves"]):
        plain = {name.replace("/", "_").replace(".", "_"): points for name, points in curves.items()}
        found.append(next((plain[key] for key in keys if key in plain), []))
    return found[0], found[1]


def line(axes: Axes, points: Points, color: str, label: str | None = None, dashed: bool = False) -> None:
    """One curve; markers where there are few points, so that a single measurement is seen."""
    marker = "o" if len(points) <= 12 else None
    dashes = (0, (3, 2)) if dashed else "-"
    axes.plot(*zip(*points, strict=True), color=color, label=label, linestyle=dashes, marker=marker, markersize=4)


def reward_curves(report: Report) -> Markup | None:
    """Predicted reward above, the rules' score below, over the same steps: where they part, the reward is
    gamed."""
    rows = [
        ("Reward predicted by the reward model", series(report, "reward", "reward_mean")),
        ("Score of held-out answers", series(report, "gold", "gold_mean")),
    ]
    rows = [(title, pair) for title, pair in rows if any(pair)]
    if not rows:
        return None
    drawing = draw(340, 50 + 180 * len(rows), rows=len(rows), share_x=True)
    for axes, (title, (own, control)) in zip(drawing.axes, rows, strict=True):
        if own:
            line(axes, own, ACCENT, "PPO")
        if control:
            line(axes, control, MUTED, "shuffled rewards", dashed=True)
        axes.set_title(title)
        axes.margins(x=0.02, y=0.15)
        if own and control:
            axes.legend(loc="best")
    drawing.axes[-1].set_xlabel("PPO step")
    return to_svg(drawing, "reward", "Predicted reward and held-out score over the steps of PPO")


def training_curves(report: Report) -> dict[str, Markup]:
    """KL, entropy, length and rates over the steps of PPO: one small plot each."""
    panels: dict[str, tuple[str, dict[str, tuple[str, ...]]]] = {
        "kl": (
            "KL to the SFT model, nats a token",
            {"k1": ("kl_k1",), "k3": ("kl_k3",), "exact": ("kl_exact",)},
        ),
        "entropy": ("Entropy of the policy, nats a token", {"entropy": ("entropy",)}),
        "length": ("Answer length, tokens", {"length": ("response_length", "length")}),
        "rates": ("Shares", {"ended by itself": ("eos_rate",), "clipped": ("clip_fraction",)}),
    }
    found = {}
    for key, (title, wanted) in panels.items():
        present = {label: series(report, *names) for label, names in wanted.items() if any(series(report, *names))}
        if not present:
            continue
        drawing = draw(340, 200)
        (axes,) = drawing.axes
        for number, (label, (own, control)) in enumerate(present.items()):
            if own:
                line(axes, own, SERIES[number], label)
            if control and len(present) == 1:
                line(axes, control, MUTED, "shuffled rewards", dashed=True)
        axes.set_title(title)
        axes.set_xlabel("PPO step")
        if len(axes.lines) > 1:
            axes.legend(loc="best")
        found[key] = to_svg(drawing, key, f"{title}, over the steps of PPO")
    return found


def curve_comparison(
    report: Report, curve: str, title: str, labels: tuple[str, str], chance: bool, metric: str | None
) -> Markup | None:
    """One curve of every model that has it, on equal axes from 0 to 1."""
    models = [model for model in report["models"] if model["curves"].get(curve)]
    models = [model for model in models if model["name"] != report["roles"]["trivial"]]
    if not models:
        return None
    drawing = draw(340, 330)
    (axes,), hue = drawing.axes, colors(report)
    if chance:
        axes.plot([0, 1], [0, 1], color=MUTED, linestyle=(0, (2, 3)), linewidth=1)
    for model in models:
        points = model["curves"][curve]
        own = drawing.word(model["name"], 12)
        label = own if metric is None or model[metric] is None else f"{own}  {decimal(model[metric])}"
        if curve == "calibration":
            points = [(point["probability"], point["outcome"]) for point in points]
            axes.plot(*zip(*points, strict=True), "o-", color=hue[model["name"]], markersize=4, label=label)
        else:
            axes.plot(*zip(*points, strict=True), color=hue[model["name"]], label=label)
    axes.set_title(title)
    axes.set_xlabel(labels[0])
    axes.set_ylabel(labels[1])
    if curve != "risk_coverage":
        axes.set_xlim(-0.02, 1.02)
        axes.set_ylim(-0.02, 1.02)
    drawing.figure.legend(loc="outside lower center", ncols=2)
    return to_svg(drawing, curve, f"{title} of every model")


def confusion_matrix(report: Report, attribute: str) -> Markup | None:
    """Counts of the featured model, truth down and answer across, shaded by the share of the truth's row."""
    featured = report["roles"]["featured"]
    model = next((model for model in report["models"] if model["name"] == featured), None)
    table = model["confusion"].get(attribute) if model else None
    if table is None or len(table["values"]) > 12:
        return None
    columns, counts = table["columns"], table["counts"]
    if not any(row[-1] for row in counts):
        columns, counts = columns[:-1], [row[:-1] for row in counts]
    drawing = draw(340, max(250, 100 + 50 * len(counts)))
    (axes,) = drawing.axes
    for y, row in enumerate(counts):
        for x, n in enumerate(row):
            share = n / sum(row) if sum(row) else 0.0
            axes.fill(
                [x, x + 1, x + 1, x],
                [y, y, y + 1, y + 1],
                color=ACCENT,
                alpha=0.04 + 0.9 * share,
                linewidth=0,
            )
            axes.text(
                x + 0.5,
                y + 0.5,
                f"{n}\n{percent(share, 0)}",
                ha="center",
                va="center",
                fontsize=9,
                color=ON_ACCENT if share > 0.6 else INK,
            )
    limit = 40 // len(columns)
    axes.set_xticks([x + 0.5 for x in range(len(columns))], [drawing.word(c, max(6, limit)) for c in columns])
    axes.set_yticks([y + 0.5 for y in range(len(counts))], [drawing.word(v, 16) for v in table["values"]])
    axes.tick_params(length=0, labelcolor=INK)
    axes.set_xlim(0, len(columns))
    axes.set_ylim(len(counts), 0)
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    axes.set_xlabel("answer")
    axes.set_ylabel("truth")
    axes.set_title(drawing.word(f"{attribute}, {featured}", 40))
    return to_svg(drawing, f"confusion-{attribute}", f"Confusion matrix of {attribute}")


def reward_model(report: Report) -> Markup | None:
    """The reward model's accuracy on held-out pairs with its interval, beside the two baselines, per
    principle."""
    principles = {k: v for k, v in report["reward"]["principles"].items() if v["accuracy"] is not None}
    if not principles:
        return None
    drawing = draw(380, 90 + 34 * len(principles))
    (axes,) = drawing.axes
    marks = (
        ("length_baseline", "v", SERIES[4], "length"),
        ("bag_of_words_baseline", "s", SERIES[2], "bag of words"),
    )
    for row, found in enumerate(principles.values()):
        if found["interval"]:
            axes.plot(found["interval"], [row, row], color=ACCENT, linewidth=3, alpha=0.45)
        axes.plot([found["accuracy"]], [row], "o", color=ACCENT, markersize=7, label="" if row else "reward model")
        for key, marker, color, label in marks:
            if found[key] is not None:
                axes.plot(
                    [found[key]],
                    [row],
                    marker,
                    color=color,
                    markersize=6,
                    alpha=0.8,
                    label="" if row else label,
                )
    axes.axvline(0.5, color=MUTED, linestyle=(0, (3, 3)), linewidth=1)
    axes.set_yticks(range(len(principles)), [drawing.word(name) for name in principles], color=INK)
    axes.set_ylim(len(principles) - 0.5, -0.5)
    axes.grid(axis="y", visible=False)
    axes.set_xlabel("share of held-out pairs ordered as the annotator did")
    axes.set_title("Reward model against its baselines")
    drawing.figure.legend(loc="outside lower center", ncols=3)
    return to_svg(drawing, "reward-model", "Accuracy of the reward model and of its baselines for each principle")


def agreement(report: Report) -> Markup | None:
    """Krippendorff's alpha of each principle with its interval, where several annotators ranked."""
    found = {k: v["agreement"] for k, v in report["reward"]["principles"].items()}
    found = {name: value for name, value in found.items() if value["alpha"] is not None}
    if not found:
        return None
    drawing = draw(380, 70 + 30 * len(found))
    (axes,) = drawing.axes
    for row, value in enumerate(found.values()):
        color = SERIES[5] if value["flagged"] else ACCENT
        if value["alpha_interval"]:
            axes.plot(value["alpha_interval"], [row, row], color=color, linewidth=3, alpha=0.45)
        axes.plot([value["alpha"]], [row], "o", color=color, markersize=7)
    axes.axvline(0, color=MUTED, linestyle=(0, (3, 3)), linewidth=1)
    axes.set_yticks(range(len(found)), [drawing.word(name) for name in found], color=INK)
    axes.set_ylim(len(found) - 0.5, -0.5)
    axes.set_xlim(right=1.02)
    axes.grid(axis="y", visible=False)
    axes.set_xlabel("Krippendorff's alpha: 1 is full agreement, 0 is chance")
    axes.set_title("Agreement between annotators")
    return to_svg(drawing, "agreement", "Agreement between annotators for each principle")


def stage_times(report: Report) -> Markup | None:
    """Where the time went."""
    stages = [(name, seconds) for name, seconds in report["seconds"].items() if seconds is not None]
    if not stages:
        return None
    drawing = draw(340, 50 + 36 * len(stages))
    (axes,) = drawing.axes
    longest = max(seconds for _, seconds in stages) or 1.0
    for row, (_, seconds) in enumerate(stages):
        axes.barh(row, seconds, height=0.62, color=ACCENT, alpha=0.75)
        axes.text(seconds + 0.015 * longest, row, duration(seconds), va="center", fontsize=9)
    axes.set_yticks(range(len(stages)), [drawing.word(name) for name, _ in stages], color=INK)
    axes.set_ylim(len(stages) - 0.4, -0.6)
    axes.set_xlim(0, 1.3 * longest)
    axes.set_xticks([])
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    axes.set_title("Time of each stage")
    return to_svg(drawing, "stages", "Wall-clock time of each stage")


def charts(report: Report) -> dict[str, Markup]:
    """Every plot that this report has something for, by name."""
    simple: dict[str, Callable[[Report], Markup | None]] = {
        "comparison": comparison,
        "principles": by_principle,
        "reward": reward_curves,
        "reward_model": reward_model,
        "agreement": agreement,
        "stages": stage_times,
    }
    curves: dict[str, tuple[str, tuple[str, str], bool, str | None]] = {
        "roc": ("ROC (area)", ("false alarms", "found"), True, "auc"),
        "precision_recall": (
            "Precision and recall (average)",
            ("recall", "precision"),
            False,
            "average_precision",
        ),
        "calibration": (
            "Calibration (error)",
            ("probability stated", "share true"),
            True,
            "calibration_error",
        ),
        "risk_coverage": ("Leaving doubtful cases to people", ("share answered", "accuracy"), False, None),
    }
    with style():
        found = {name: chart(report) for name, chart in simple.items()}
        found |= {name: curve_comparison(report, name, *arguments) for name, arguments in curves.items()}
        for key in ("main_attribute", "severity_attribute"):
            if report[key] is not None:
                found[f"confusion_{key}"] = confusion_matrix(report, report[key])
        if report["severity_attribute"] == report["main_attribute"]:
            found.pop("confusion_severity_attribute", None)
        return {name: chart for name, chart in found.items() if chart is not None} | training_curves(report)
