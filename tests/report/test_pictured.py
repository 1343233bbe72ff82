"""Scores of answers about pictures, by hand and on generated scenes."""

from __future__ import annotations

import base64
import io
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from bessemer.config import Artifact
from bessemer.data.dataset import Dataset
from bessemer.report.build import build
from bessemer.report.gallery import SAID, TRUE, sample_cards
from bessemer.report.html import render
from bessemer.report.outputs import Context, Evaluation, ModelFacts, ModelOutputs, PromptAnswer
from bessemer.report.pictured import outlines, pictured_scores, true_outlines
from bessemer.report.saved import read_outputs, write_outputs
from bessemer.rollout.collect import Answer
from bessemer.stages.answers import _said
from bessemer.stages.importing import Config, run

NAMES = {"helmet": ["helmet", "helmets"], "fire": ["fire", "fires"]}


def row(kind: str, text: str, id: str = "p", **facts: Any) -> PromptAnswer:
    """An answer about a picture of 100 x 100, in which a coordinate of 1000 is 100 pixels."""
    visual = {"kind": kind, "picture": [100, 100, 1000], "names": NAMES, **facts}
    return PromptAnswer(id, "?", text, {}, kind, reference="a fire by a wall", visual=visual)


HELMET = {"label": "helmet", "box": [10, 10, 50, 50]}
SCENES = {"helmet": "personnel", "fire": "environment"}


def test_boxes_by_hand() -> None:
    """Two helmets, one found exactly, one with an overlap of 0.5 (so at 0.50 alone); a fire that is not there is wrong
    where it is asked for, and says nothing where it is not."""
    other = {"label": "helmet", "box": [60, 10, 80, 50]}
    text = "Helmet [100, 100, 500, 500]; helmet [600, 100, 800, 300]; fire [0, 0, 200, 200]."
    rows = [row("detect", text, classes=["helmet"], objects=[HELMET, other], scenes=SCENES)]
    found = pictured_scores(rows)["detect"]
    assert found["n"] == 1 and found["AP50"] == pytest.approx(1, abs=1e-9)
    assert found["AP75"] == pytest.approx(51 / 101 / 2) and found["AR100"] == pytest.approx((2 + 9) / 20)
    assert list(found["by_label"]) == ["helmet"] and list(found["by_scene"]) == ["personnel"]
    asked = replace(rows[0], id="q", visual={**rows[0].visual, "classes": ["helmet", "fire"]})
    both = pictured_scores([asked])["detect"]
    assert both["by_label"]["fire"]["AP50"] is None and both["AP50"] == pytest.approx(1)


def test_outlines_by_hand() -> None:
    """A square of 40 x 40 and the left half of it: 0.5; a large picture is compared on a smaller grid."""
    square = {"label": "fire", "rings": [[[10, 10], [50, 10], [50, 50], [10, 50]]]}
    text = "Fire [100, 100, 300, 100, 300, 500, 100, 500]."
    small = row("segment", text, classes=["fire"], objects=[square], scenes=SCENES)
    found = pictured_scores([small])["segment"]
    assert found["mask_iou"] == pytest.approx(0.5) and found["AP50"] == pytest.approx(1) and found["AP75"] == 0
    large = {"label": "fire", "rings": [[[100 * x, 100 * y] for x, y in square["rings"][0]]]}  # type: ignore[index]
    visual = {**small.visual, "picture": [10_000, 10_000, 1000], "objects": [large]}
    assert pictured_scores([replace(small, visual=visual)])["segment"]["mask_iou"] == pytest.approx(0.5, abs=0.01)


def test_counts_and_captions() -> None:
    rows = [
        row("count", "There are 3 helmets.", "a", classes=["helmet"], count=3, scenes=SCENES),
        row("count", "There are 3 fires.", "b", classes=["fire"], count=1),
        row("count", "Hm.", "c", classes=["fire"], count=1),
        row("describe", "a fire by a wall", "d", scenes={"fire": "environment"}),
        row("describe", "nothing that is there", "e", scenes=SCENES),
    ]
    found = pictured_scores(rows)
    low, high = found["count"]["exact_interval"]
    assert low == pytest.approx(0.0615, abs=1e-4) and high == pytest.approx(0.7923, abs=1e-4)  # Wilson's, 1 of 3
    assert found["count"] | {"by_scene": None, "exact_interval": None} == {
        "n": 3, "unread": 1, "exact": pytest.approx(1 / 3),
        "constant": pytest.approx(2 / 3), "mean_error": 1, "bias": 1,
        "by_scene": None, "exact_interval": None,
    }  # fmt: skip
    by_scene, every = found["describe"]["by_scene"], found["describe"]
    assert by_scene["environment"]["n"] == every["n"] == 2 and by_scene["personnel"]["n"] == 1
    assert by_scene["environment"]["rouge_l"] == pytest.approx(every["rouge_l"])
    assert by_scene["personnel"]["rouge_l"] < by_scene["environment"]["rouge_l"] < 1
    assert found["count"]["by_scene"]["environment"]["exact"] == 0
    assert found["count"]["by_scene"]["personnel"]["exact"] == 1
    assert found["detect"] is None and pictured_scores([]) == dict.fromkeys(("detect", "segment", "count", "describe"))


def test_what_is_drawn() -> None:
    said = row("detect", "Helmet [100, 100, 500, 500], dog [0, 0, 10].", classes=["helmet"], objects=[HELMET])
    corners = [[10, 10], [50, 10], [50, 50], [10, 50]]
    assert outlines(said) == true_outlines(said) == [{"label": "helmet", "points": corners}]
    assert outlines(PromptAnswer("x", "?", "[1, 2, 3, 4]", {})) == []
    verdict = row("attribute", "Yes.", where=[HELMET])
    assert true_outlines(verdict) == [{"label": "helmet", "points": corners}]


def test_what_was_said_is_drawn_beside_the_truth(tmp_path: Path) -> None:
    Image.new("RGB", (100, 100), "black").save(tmp_path / "a.png")
    said = row("detect", "Helmet [500, 500, 900, 900].", classes=["helmet"], objects=[HELMET])
    models = (ModelOutputs("sft", ModelFacts(), prompts=(replace(said, image="a.png"),)),)
    report = build(Evaluation(Context("d", "own", 0), models))
    (card,) = sample_cards(report, tmp_path)
    pictures = [
        np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB")).astype(int)
        for data in re.findall(r"data:image/jpeg;base64,([^\"]+)", card.text)
    ]
    assert len(pictures) == 2  # the truth alone, and with the answer

    def near(picture: Any, colour: str, x: int, y: int) -> bool:
        wanted = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
        part = picture[y - 2 : y + 3, x - 2 : x + 3].reshape(-1, 3)
        return bool((abs(part - wanted).max(axis=1) < 90).any())

    for picture in pictures:
        assert near(picture, TRUE, 50, 30) and not near(picture, TRUE, 30, 70)
    assert near(pictures[1], SAID, 90, 70) and not near(pictures[0], SAID, 90, 70)
    assert "what was said in orange" in render(report, tmp_path)


def test_true_answers_of_scenes_are_perfect(tmp_path: Path) -> None:
    """From the import to report.json and back from the disk: an answer that is the reference scores as high as rounding
    to thousandths and outlines of few corners let it."""
    config = Config(source="site", images=24, bank_prompts=4, ppo_prompts=4, general_documents=3, max_test=8)
    config.output_dir = Artifact(str(tmp_path / "out"))
    dataset = Dataset(run(config))
    rows = tuple(_said(Answer(p, None, (), p.facts["reference"], True)) for p in dataset.prompts("heldout"))  # type: ignore[arg-type]
    write_outputs(tmp_path, ModelOutputs("sft", ModelFacts(), prompts=rows))
    outputs = read_outputs(tmp_path / "sft")
    assert outputs.prompts == rows
    silent = ModelOutputs("base", ModelFacts(), prompts=tuple(replace(row, text="Hm.") for row in rows))
    report = build(Evaluation(Context("site", "own", 0), (silent, outputs)))
    nothing, best = (model["pictured"] for model in report["models"])
    assert best["detect"]["AP50"] == pytest.approx(1) and best["detect"]["AP"] > 0.9
    assert set(best["detect"]["by_scene"]) == {"environment", "personnel"}
    assert best["count"]["exact"] == 1 and best["describe"]["rouge_l"] == 1
    assert nothing["detect"]["AP"] == 0 and nothing["count"]["exact"] == 0
    assert "Places, counts, captions" in render(report, dataset.root)
