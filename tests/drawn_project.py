"""An annotation project with photographs, predictions, questions and several people's work, for tests of the page."""

from __future__ import annotations

import math
import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFilter

from bessemer.annotation.documents import review, save, save_labels, submit
from bessemer.annotation.intake import add_folder
from bessemer.annotation.predictions import import_predictions
from bessemer.annotation.rankings import RankingTask, add_ranking_tasks, ranking_turn, save_ranking
from bessemer.annotation.shapes import Annotation, AttributeDefinition, Box, Label, Point, Polygon, RotatedBox
from bessemer.annotation.store import Project, create_project
from bessemer.data.images import image_ref
from bessemer.data.records import Message, Prompt

DEPTH = AttributeDefinition("depth", "select", ("shallow", "deep"))
LABELS = (
    Label("crack", attributes=(DEPTH, AttributeDefinition("sure", "checkbox"))),
    Label("inactive area"), Label("finger interruption"), Label("材料缺陷"), Label("busbar"),
)  # fmt: skip
PRINCIPLES = ("truthfulness", "helpfulness", "harmlessness", "fluency", "clarity")
ANSWERS = (
    "A crack runs from the upper left busbar to the lower edge; the area beside it is dark, so it no longer carries "
    "current. Take the module out of the string and plan its replacement.",
    "A crack runs from the upper left busbar to the centre. The cell still works; look again in a year.",
    "The cell is fine. There are no defects, no cracks and no inactive areas, and nothing has to be done about it at "
    "all, neither today nor in the coming years.",
    "There is crack in cell, dark area is there also, module replace.",
)


def features(seed: int) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """The points of the crack and the corners of the dark area of a cell."""
    draw_of = random.Random(seed)
    points = [(draw_of.randint(60, 160), draw_of.randint(30, 120))]
    while points[-1][1] < 520 and len(points) < 14:
        points.append((points[-1][0] + draw_of.randint(-5, 32), points[-1][1] + draw_of.randint(24, 52)))
    left = 340 + draw_of.randint(0, 80)
    return points, [(left, 212), (left + 160, 178), (left + 186, 328), (left + 30, 350)]


def cell(seed: int, size: int = 640) -> Image.Image:
    """Something like an electroluminescence photograph of a solar cell."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:size, 0:size] / size
    light = 150 + 55 * np.sin(2.4 * x + seed) * np.cos(1.7 * y) + rng.normal(0, 9, (size, size))
    image = Image.fromarray(np.clip(light, 0, 255).astype(np.uint8))
    draw = ImageDraw.Draw(image)
    for k in range(1, 4):
        draw.rectangle([0, k * size // 4 - 5, size, k * size // 4 + 5], fill=58)
    for k in range(0, size, 13):
        draw.line([k, 0, k, size], fill=int(118 + 30 * np.sin(k / 60)), width=1)
    crack, dark = features(seed)
    draw.line(crack, fill=25, width=4)
    draw.polygon(dark, fill=46)
    return image.filter(ImageFilter.GaussianBlur(1.1)).convert("RGB")


def polygon(*points: tuple[float, float]) -> Polygon:
    return Polygon(((tuple(points),),))


def around_crack(seed: int, wide: float) -> RotatedBox:
    """A rotated box along the crack of a cell."""
    (x0, y0), (x1, y1) = features(seed)[0][0], features(seed)[0][-1]
    long, angle = math.hypot(x1 - x0, y1 - y0), math.degrees(math.atan2(y1 - y0, x1 - x0))
    return RotatedBox((x0 + x1) / 2, (y0 + y1) / 2, long + 24, wide, angle)


def shapes_of(shift: float, image: int = 1) -> list[Annotation]:
    """What a careful person draws on an image of the project, moved by some pixels."""
    s, dark = shift, features(image - 1)[1]
    crack = around_crack(image - 1, 62 + s / 2)
    return [
        Annotation("a", "crack", replace(crack, cx=crack.cx + s), attributes={"depth": "deep"}),
        Annotation("b", "inactive area", polygon(*((x + s, y) for x, y in dark))),
        Annotation("c", "busbar", Box(2, 152 + s, 630, 16)),
        Annotation("d", "材料缺陷", Point(90 + s, 590)),
        Annotation("e", text="A crack from the upper left; a dark area that carries no current. 裂纹。"),
        Annotation("f", scene="equipment"),
    ]


def make_photographs(folder: Path, count: int = 8) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        cell(number).save(folder / f"cell-{number + 1:03d}.png")


def make_project(directory: Path, folder: Path, count: int = 8) -> Project:
    """An open project: images 1 to `count`, predictions on 1, 2 and 4, three questions."""
    make_photographs(folder, count)
    project = create_project(directory, "roof-east")
    add_folder(project, folder)
    save_labels(project, 0, LABELS, "ann")
    for image in (1, 2, 4):
        dark = features(image - 1)[1]
        proposed = [
            Annotation("p", "crack", around_crack(image - 1, 48), score=0.91),
            Annotation("q", "inactive area", polygon(*((x + 5, y - 4) for x, y in dark)), score=0.58),
            Annotation("r", "finger interruption", Box(300, 420, 90, 44), score=0.34),
        ]
        import_predictions(project, "detector-3", [(image, proposed)])
    ask = "What is wrong with this cell, and what should be done?"
    tasks = []
    for number in (1, 2, 3):
        reference = image_ref(folder / f"cell-{number:03d}.png", folder)
        prompt = Prompt(f"roof-east/{number}", (Message("user", ask, (reference,)),))
        tasks.append(RankingTask(prompt.id, prompt, ANSWERS, (True,) * 4, PRINCIPLES))
    add_ranking_tasks(project, tasks)
    return project


def work_of_many(project: Project) -> None:
    """Finished work of two more people on images 5 to 8, one review, rankings of two people."""
    for image in (5, 6, 7, 8):
        for person, shift in (("bo", 0.0), ("chen", 4.0 * (image - 4))):
            drawn = shapes_of(shift, image)
            if person == "chen" and image == 6:
                drawn[1] = Annotation("b", "finger interruption", drawn[1].shape)
            save(project, image, person, 0, drawn)
            submit(project, image, person, 1)
    review(project, 5, "bo", 1, "dora", "accepted", "good")
    review(project, 6, "chen", 1, "dora", "rejected", "the dark area is one region, not an interruption")
    for number, (one, other) in enumerate(
        [((1, 2, 4, 3), (1, 2, 4, 3)), ((1, 2, 4, 4), (2, 1, 4, 3)), ((1, 3, 4, 2), (1, 2, 4, 3))]
    ):
        for person, ranks in (("bo", one), ("chen", other)):
            task = f"roof-east/{number + 1}"
            turn = ranking_turn(project, task, person)
            every = dict.fromkeys(PRINCIPLES, ranks) | {"fluency": (1, 1, 2, 4)}
            save_ranking(project, task, person, 0, every, turn.shown_order)


def assert_box(shape: object, x: float, y: float, width: float, height: float) -> None:
    assert isinstance(shape, Box)
    assert (shape.x, shape.y, shape.width, shape.height) == pytest.approx((x, y, width, height), abs=2)
