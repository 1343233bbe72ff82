"""The page: one file that refers to nothing outside of it and runs nothing, made from report.json and the
photographs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bessemer.report import sections
from bessemer.report.formats import decimal, duration, points, span
from bessemer.report.gallery import sample_cards, worst_cards
from bessemer.report.markup import Markup, Node, element, join
from bessemer.report.plots import METRIC_TITLES, charts, headline_metric
from bessemer.report.statements import headline, limits, method, verdict
from bessemer.report.theme import POLICY, STYLE_SHEET

__all__ = ["render"]

Report = Mapping[str, Any]
CAPTIONS = {
    "comparison": "Bars are 95 % intervals; a dashed line marks the trivial answer.",
    "principles": "Each principle on its own, so that a gain in one at the cost of another is seen.",
    "roc": "Found positives against false alarms, over all thresholds.",
    "precision_recall": "Share of alarms that are right against the share of positives found.",
    "calibration": "On the dotted line, what is said with 80\u00a0% is right in 80\u00a0% of cases.",
    "risk_coverage": "Accuracy when the model answers its most certain cases and hands the rest to a person.",
    "reward": "If the upper curve rises while the lower one falls, the policy games its reward.",
    "kl": "How far the policy moved from where it started, by three estimators.",
    "entropy": "Near zero, the policy says one thing whatever it is asked.",
    "length": "A longer answer is not a better one: read this beside the score.",
    "rates": "Answers that end by themselves, and updates that were cut off by the clip range.",
    "confusion_main_attribute": "Truth down, answer across; shaded by the share of each row.",
    "confusion_severity_attribute": "Truth down, answer across; near the diagonal is nearly right.",
    "reward_model": "Dashed: tossing a coin. Bars are 95 % intervals over whole prompts.",
}


def card(what: str, value: str, unit: str, more: str) -> Markup:
    """One figure in large type."""
    figure = element("div", [value, " ", element("small", unit)], {"class": "value"})
    parts = [element("div", what, {"class": "what"}), figure, element("div", more, {"class": "more"})]
    return element("div", parts, {"class": "card"})


def between(interval: Sequence[float] | None) -> str:
    """A difference's interval in words."""
    return f"{points(interval[0])} to {points(interval[1])}" if interval else "no interval: too few cases"


def cards(report: Report) -> list[Markup]:
    """The four figures a reader wants first; each is left out where it was not measured."""
    metric, roles, found = headline_metric(report), report["roles"], []
    model, student = (sections.model_named(report, roles[role]) for role in ("featured", "student"))
    if metric and model is not None and model[metric] is not None:
        name = METRIC_TITLES[metric]
        ends = f"95 % interval {span(model[f'{metric}_interval'])}" if model[f"{metric}_interval"] else ""
        found.append(card(f"{name}, {model['name']}", decimal(100 * model[metric], 1), "%", ends))
        step = model["minus_base"][metric]
        if step is not None:
            more = f"paired difference, {between(model['minus_base'][f'{metric}_interval'])}"
            found.append(card(f"Gained over {roles['base']}", points(step), "points", more))
    gain, control = report["ppo_minus_sft"], report["shuffled_control"]
    if gain["score"] is not None:
        more = f"principle score, {between(gain['interval'])}"
        more += f"; with shuffled rewards {points(control['score'])}" if control["score"] is not None else ""
        found.append(card("Gained by reinforcement", points(gain["score"]), "points", more))
    if student is not None and report["student_over_teacher_accuracy"] is not None:
        teacher = sections.model_named(report, roles["aligned"])
        sizes = [str(m["layers"]) for m in (student, teacher) if m is not None and m["layers"] is not None]
        more = "of the teacher's accuracy" + (f", with {sizes[0]} of {sizes[1]} layers" if len(sizes) == 2 else "")
        kept = decimal(100 * report["student_over_teacher_accuracy"], 1)
        found.append(card("Kept by the student", kept, "%", more))
    return found


def facts(report: Report) -> Markup:
    """What was measured, on what and by which command."""
    made = report["provenance"]
    shown = [
        ("Data", report["dataset"]),
        ("Split", report["split"]),
        ("Test cases", str(report["n_test"])),
        ("Held-out prompts", str(report["n_heldout"])),
        ("Seed", str(report["seed"])),
        ("Date", made["date"]),
        (
            "Machine",
            ", ".join(f"{key} {value}" for key, value in made["machine"].items() if value is not None),
        ),
        ("Version", made["version"]),
        ("Commit", made["git_commit"]),
        *made["assets"].items(),
    ]
    pairs = [element("div", [element("dt", k), element("dd", str(v))]) for k, v in shown if v not in (None, "")]
    if made["command"]:
        code = element("dd", element("code", made["command"]))
        pairs.append(element("div", [element("dt", "Command"), code], {"class": "wide"}))
    return element("dl", pairs, {"class": "facts"})


def panels(drawn: Mapping[str, Markup], names: Sequence[str]) -> Markup | None:
    """The plots of these names that there are, side by side where there is room."""
    figures = [
        element(
            "figure",
            [drawn[name], *([element("figcaption", CAPTIONS[name])] if name in CAPTIONS else [])],
            {"class": "panel tall" if name == "reward" else "panel"},
        )
        for name in names
        if name in drawn
    ]
    return element("div", figures, {"class": "plots"}) if figures else None


def note(text: str) -> Markup:
    """A remark in smaller type."""
    return element("p", text, {"class": "note"})


def bullets(lines: Sequence[str]) -> Markup:
    """A list of remarks."""
    return element("ul", [element("li", line) for line in lines])


def worst(report: Report, image_root: Path) -> list[Markup]:
    """The worst errors with their photographs; nothing if the featured model made none."""
    positive = {a["name"]: a["positive"] for a in report["attributes"]}.get(report["main_attribute"])
    found = worst_cards(report["worst_errors"]["cases"], positive, image_root)
    if not found:
        return []
    model = report["worst_errors"]["model"]
    words = f"The test examples where {model} was most certain of something false, worst first."
    return [note(words), element("div", found, {"class": "errors"})]


def lineage(report: Report, drawn: Mapping[str, Markup]) -> list[Markup]:
    """How long each stage took, and what it read."""
    found = [part for part in (panels(drawn, ["stages"]), sections.lineage_table(report)) if part is not None]
    total = sum(seconds for seconds in report["seconds"].values() if seconds is not None)
    return [note(f"{duration(total)} in all."), element("div", found, {"class": "duo"})] if found else []


def render(report: Report, image_root: Path) -> str:
    """The page as text. image_root: what the image paths in `report` are relative to.

    Equal reports and photographs give equal bytes. The report is taken to be valid (`schema.validate`).
    """
    drawn = charts(report)
    curves = ["roc", "precision_recall", "calibration", "risk_coverage"]
    confusions = ["confusion_main_attribute", "confusion_severity_attribute"]
    rl = ["reward", "kl", "entropy", "length", "rates"]
    drawn_on = any(sample["frame"] for sample in report["samples"])
    bodies: dict[str, list[Markup | None]] = {
        "Result": [element("div", cards(report), {"class": "cards"}), facts(report)],
        "Models": [
            sections.models_table(report),
            panels(drawn, ["comparison", "principles"]),
            sections.tasks_table(report),
        ],
        "Detection": [
            panels(drawn, [*curves, *confusions]),
            sections.detection_table(report),
            sections.slices_table(report),
        ],
        "Places, counts, captions": [*sections.pictured_tables(report)],
        "Cost and forgetting": [sections.cost_table(report)],
        "Reinforcement learning": [
            *(element("p", sentence) for sentence in verdict(report)),
            panels(drawn, rl),
        ],
        "Reward model": [
            sections.reward_table(report),
            sections.agreement_table(report),
            panels(drawn, ["reward_model", "agreement"]),
        ],
        "Answers before and after": [
            note("On photographs: what is true in green, what was said in orange.") if drawn_on else None,
            *sample_cards(report, image_root),
        ],
        "Worst errors": [*worst(report, image_root)],
        "Lineage and time": [*lineage(report, drawn)],
        "Method": [bullets(method(report))],
        "Limits and licences": [bullets(limits(report))],
    }
    return _page(report, {name: [p for p in body if p is not None] for name, body in bodies.items()})


def _page(report: Report, bodies: Mapping[str, list[Markup]]) -> str:
    title = report["title"] or f"Evaluation on {report['dataset']}"
    shown = [(name.split()[0].lower(), name, body) for name, body in bodies.items() if body]
    head = [
        element("meta", (), {"charset": "utf-8"}),
        element("meta", (), {"http-equiv": "Content-Security-Policy", "content": POLICY}),
        element("meta", (), {"name": "viewport", "content": "width=device-width, initial-scale=1"}),
        element("title", title),
        element("style", Markup(STYLE_SHEET)),
    ]
    links = [element("a", name, {"href": f"#{key}"}) for key, name, _ in shown]
    top: list[Node] = [
        element("p", "bessemer · evaluation report", {"class": "brand"}),
        element("h1", title),
        element("p", headline(report), {"class": "lead"}),
        element("nav", links, {"aria-label": "sections"}),
    ]
    body = [element("section", [element("h2", name), *content], {"id": key}) for key, name, content in shown]
    made = f"Made by bessemer from report.json, schema {report['schema_version']}. No number was typed by hand."
    whole = [
        element("header", element("div", top)),
        element("main", body),
        element("footer", element("div", made)),
    ]
    page = element("html", [element("head", head), element("body", whole)], {"lang": "en"})
    return f"<!doctype html>\n{join([page]).text}\n"
