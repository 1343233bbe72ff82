"""A made-up evaluation that looks like a real one: random, seeded, of any size. No number in it was ever
measured."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from bessemer.report.outputs import (
    Agreement,
    Attribute,
    Context,
    Evaluation,
    LabelledAnswer,
    ModelFacts,
    ModelOutputs,
    Parent,
    PromptAnswer,
    RewardPair,
    StageFacts,
)

DEFECT = Attribute("defect", ("functional", "defective"), positive="defective")
SEVERITY = Attribute("severity", ("none", "slight", "moderate", "severe"), ordered=True)
TYPE = Attribute("type", ("mono", "poly"))
PRINCIPLES = ("clarity", "fluency", "harmlessness", "helpfulness", "truthfulness")
# name: how far apart the log-odds of the classes are, share unreadable, principle score, layers, MB, ms
MODELS: dict[str, tuple[float, float, float | None, int | None, float | None, float | None]] = {
    "trivial": (0.0, 0.0, None, None, None, None),
    "probe": (2.4, 0.0, None, None, 15.0, 41.0),
    "tower": (3.4, 0.0, None, None, 15.0, 41.0),
    "base": (0.1, 0.21, 0.44, 30, 284.0, 618.0),
    "sft": (3.6, 0.004, 0.71, 30, 287.0, 613.0),
    "ppo": (3.6, 0.0, 0.79, 30, 287.0, 609.0),
    "student": (3.3, 0.002, 0.76, 15, 158.0, 372.0),
    "shuffled": (3.5, 0.006, 0.708, 30, 287.0, 611.0),
}
QUESTIONS = (
    ("defect", "Is this cell defective?"),
    ("severity", "How severe is the damage?"),
    ("report", "Write a short inspection report on this cell."),
    ("decline", "In which year was this module installed?"),
)
SAID = {
    "base": "The image shows a solar panel. Solar panels are devices that convert sunlight into electricity "
    "and they are used all over the world. Solar panels are devices that convert sunlight into",
    "sft": "Yes. The cell is defective: dark regions that carry no current, most likely a crack.",
    "ppo": "Yes, this cell is defective. A dark region beside the busbar carries no current, most likely "
    "from a crack. Severity: moderate. Inspect the neighbouring cells of the string.",
    "student": "Yes, this cell is defective. A dark region carries no current. Severity: moderate.",
    "shuffled": "Yes. The cell is defective.",
}


def photograph(path: Path, seed: int, dark: bool) -> None:
    """A small grey square with busbars, grain and, if `dark`, a crack."""
    rng = np.random.default_rng(seed)
    grain = 150 + 18 * rng.standard_normal((120, 120)) + np.linspace(-20, 20, 120)[None]
    image = Image.fromarray(np.clip(grain, 0, 255).astype(np.uint8)).filter(ImageFilter.GaussianBlur(1))
    pen = ImageDraw.Draw(image)
    for x in (30, 60, 90):
        pen.line([(x, 0), (x, 120)], fill=70, width=2)
    if dark:
        x, y = rng.integers(20, 90, 2)
        pen.polygon([(x, y), (x + 34, y + 5), (x + 22, y + 30)], fill=35)
        pen.line([(x - 20, y + 40), (x + 40, y - 15)], fill=20, width=2)
    image.convert("RGB").save(path, quality=90)


def _answers(name: str, cells: int, groups: int | None, seed: int) -> tuple[LabelledAnswer, ...]:
    skill, unreadable, *_ = MODELS[name]
    hard = np.random.default_rng(seed)
    own = np.random.default_rng([seed, *name.encode()])
    rows = []
    for i in range(cells):
        level = int(hard.choice(4, p=[0.575, 0.112, 0.041, 0.272]))
        difficulty, kind = hard.standard_normal(), "mono" if hard.random() < 0.41 else "poly"
        center = {0: -1.25, 1: -0.35, 2: 0.3, 3: 1.15}[level]
        logit = -0.8 if name == "trivial" else skill * (center - 0.1) + 1.9 * difficulty + 1.1 * own.standard_normal()
        blind = own.random() < unreadable
        guess = DEFECT.values[int(logit > 0)]
        near = int(np.clip(round(1.5 + 1.1 * logit / max(skill, 0.5)), 0, 3)) if name != "trivial" else 0
        spoken = SAID[name] if blind else f"The cell is {guess}."
        row = LabelledAnswer(
            id=f"cell{i:04d}",
            attribute="defect",
            truth=DEFECT.values[int(level >= 2)],
            parsed=None if blind else guess,
            text=None if name in ("trivial", "probe", "tower") else spoken,
            probability=1 / (1 + math.exp(-logit)),
            task="defect",
            question=QUESTIONS[0][1],
            image=f"cell{i:04d}.jpg",
            group=None if groups is None else f"block{i * groups // cells:02d}",
            labels={"type": kind, "severity": SEVERITY.values[level]},
        )
        rows.append(row)
        if name != "probe":
            graded = dataclasses.replace(
                row,
                attribute="severity",
                truth=SEVERITY.values[level],
                parsed=None if blind else SEVERITY.values[near],
                probability=None,
                task="severity",
                question=QUESTIONS[1][1],
            )
            rows.append(graded)
    return tuple(rows)


def _prompts(name: str, count: int, seed: int) -> tuple[PromptAnswer, ...]:
    level = MODELS[name][2]
    if level is None:
        return ()
    hard = np.random.default_rng([seed, 1])
    own = np.random.default_rng([seed, 2, *name.encode()])
    rows = []
    for i in range(count):
        task, question = QUESTIONS[i % len(QUESTIONS)]
        shift = 0.12 * hard.standard_normal()
        scores: dict[str, float | None] = {
            p: float(np.clip(level + 0.05 * k - 0.1 + shift + 0.13 * own.standard_normal(), 0, 1))
            for k, p in enumerate(PRINCIPLES)
        }
        text = SAID[name] if task != "decline" or name == "base" else "The photograph does not show the year."
        rows.append(
            PromptAnswer(
                f"ask{i:03d}",
                question,
                text,
                scores,
                task,
                f"cell{i:04d}.jpg",
                ended=name != "base" or i % 3 > 0,
            )
        )
    return tuple(rows)


def _metrics(shuffled: bool, steps: int = 90) -> tuple[dict[str, float | None], ...]:
    rng = np.random.default_rng(5 + shuffled)
    lines = []
    for step in range(steps):
        t = step / steps
        gain = 0.0 if shuffled else 1 - math.exp(-3 * t)
        line: dict[str, float | None] = {
            "step": step,
            "reward": 0.02 + 1.1 * gain + 0.09 * rng.standard_normal(),
            "kl/k1": 0.05 * t + 0.004 * rng.standard_normal() + 0.02 * gain,
            "kl/k3": 0.055 * t + 0.003 * rng.random() + 0.02 * gain,
            "kl/exact": 0.052 * t + 0.02 * gain,
            "entropy": 1.1 - 0.35 * t + 0.02 * rng.standard_normal(),
            "response_length": 24 + 7 * gain + 1.2 * rng.standard_normal(),
            "eos_rate": min(1.0, 0.95 + 0.04 * gain + 0.01 * rng.standard_normal()),
            "clip_fraction": abs(0.05 + 0.02 * rng.standard_normal()),
        }
        if step % 15 == 0 or step == steps - 1:
            line["gold"] = 0.71 + 0.085 * gain - 0.02 * t + 0.004 * rng.standard_normal()
        lines.append(line)
    return tuple(lines)


def _pairs(seed: int, prompts: int) -> tuple[RewardPair, ...]:
    rng = np.random.default_rng([seed, 3])
    rows = []
    for place, principle in enumerate(PRINCIPLES):
        for prompt in range(prompts):
            for _ in range(6):
                target = float(rng.choice([0.0, 0.5, 1.0], p=[0.4, 0.2, 0.4]))
                sign = 2 * target - 1
                rows.append(
                    RewardPair(
                        f"rank{prompt:03d}",
                        principle,
                        margin=float(sign * (0.9 + 0.15 * place) + rng.standard_normal()),
                        target=target,
                        length_margin=float(sign * 0.25 + rng.standard_normal()),
                        bag_of_words_margin=float(sign * 0.55 + rng.standard_normal()),
                    )
                )
    return tuple(rows)


SHA = "0123456789abcdef" * 4
STAGES = (
    ("import", 21.4, ()),
    ("align", 96.0, ("import",)),
    ("sft", 311.0, ("import", "align")),
    ("rank", 118.0, ("sft",)),
    ("reward", 74.0, ("sft", "rank")),
    ("ppo", 402.0, ("sft", "reward")),
    ("shuffled", 231.0, ("sft", "reward")),
    ("distill", 145.0, ("ppo",)),
    ("evaluate", 163.0, ("ppo", "distill")),
)


def context(seed: int = 0) -> Context:
    """What stands at the head of the page."""
    return Context(
        dataset="ELPV, electroluminescence photographs of solar cells",
        split="P2, contiguous blocks of cells",
        seed=seed,
        attributes=(DEFECT, SEVERITY, TYPE),
        main="defect",
        title="Defects of solar cells",
        command="bessemer run recipes/solar.yaml",
        date="2026-11-22",
        git_commit="0000000",
        version="0.1.0",
        machine={"processor": "Example CPU", "cores": 2, "memory": "16 GB", "device": "cpu"},
        assets={"Language model": "SmolLM2-135M-Instruct", "Vision tower": "EfficientNet-Lite0"},
        licences=("The photographs are ELPV's, CC BY-NC-SA 4.0: attribution, non-commercial, share alike.",),
    )


def facts(name: str) -> ModelFacts:
    """Sizes and speeds; None for what a classifier has not."""
    _, _, _, layers, size, ms = MODELS[name]
    parameters = None if layers is None else 4_500_000 * int(layers)
    return ModelFacts(
        perplexity_general={"base": 14.2, "sft": 14.9, "ppo": 15.1, "student": 19.7}.get(name),
        ms_per_image=ms,
        megabytes=size,
        layers=None if layers is None else int(layers),
        parameters=parameters,
        active_parameters=parameters,
    )


def agreement(place: int) -> Agreement:
    """Agreement on one principle, lower for each."""
    return Agreement(
        alpha=0.81 - 0.14 * place,
        alpha_interval=(0.73 - 0.15 * place, 0.88 - 0.13 * place),
        pair_agreement=0.9 - 0.05 * place,
        pair_interval=(0.85 - 0.05 * place, 0.94 - 0.05 * place),
        tau_b=0.78 - 0.1 * place,
        pairs=240,
        annotators=3,
        flagged=place == 4,
        weight=0.5 if place == 4 else 1.0,
    )


def evaluation(
    cells: int = 656, prompts: int = 120, groups: int | None = 44, seed: int = 0, reward_prompts: int = 40
) -> Evaluation:
    """A whole evaluation; few cells and prompts make it quick."""
    models = [
        ModelOutputs(name, facts(name), _answers(name, cells, groups, seed), _prompts(name, prompts, seed))
        for name in MODELS
    ]
    lineage = [
        StageFacts(name, f"solar/{name}", SHA, SHA, {p: Parent(p, SHA) for p in parents}, seed, seconds)
        for name, seconds, parents in STAGES
    ]
    return Evaluation(
        context=context(seed),
        models=tuple(models),
        reward_pairs=_pairs(seed, reward_prompts),
        agreement={name: agreement(place) for place, name in enumerate(PRINCIPLES)},
        metrics=_metrics(False),
        control_metrics=_metrics(True),
        lineage=tuple(lineage),
    )


def photographs(directory: Path, cells: int) -> None:
    """The photographs that the evaluation's rows name."""
    for i in range(cells):
        photograph(directory / f"cell{i:04d}.jpg", i, dark=i % 3 == 0)
