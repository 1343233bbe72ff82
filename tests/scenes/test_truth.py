"""What is to be seen, read from pictures put together by hand: a camera 2.5 m up, 8 m before a wall."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from bessemer.annotation.shapes import Annotation
from bessemer.scenes.camera import Camera
from bessemer.scenes.chance import Chance
from bessemer.scenes.matter import draw_fire, draw_smoke, draw_spill, draw_steam
from bessemer.scenes.people import Person, draw_person, random_look
from bessemer.scenes.picture import Picture
from bessemer.scenes.things import draw_clutter, draw_crate, draw_exit
from bessemer.scenes.truth import read_annotations


def picture(grey: int = 150, size: int = 384) -> Picture:
    made = Picture(Camera(size, size, float(size), 0.3 * size, 2.5), Chance("truth"))
    made.canvas.polygon([(0, 0), (size, 0), (size, size), (0, size)], (grey, grey, grey))
    return made


def read(made: Picture, light: float = 1.0) -> tuple[dict[str | None, Annotation], list[str]]:
    small, owners = made.canvas.small()
    found, unseen = read_annotations(made.pieces, owners, np.full(small.size, light, dtype=np.float32))
    return {annotation.label: annotation for annotation in found}, [thing["label"] for thing in unseen]


def somebody(made: Picture, depth: float, x: float = 0.0, **changes: Any) -> None:
    look = {**random_look(Chance("look"), 0.0), "headwear": "hair", "vest": False}
    given = {"x": x, "depth": depth, "lift": 0.0, "posture": "stand", **look, **changes}
    draw_person(made, Person(**given))


def wall(made: Picture, box: tuple[float, float, float, float]) -> None:
    """Something without a label over x from, x to, up from, up to, 2 m before the camera."""
    piece = made.start("", "board")
    made.canvas.polygon(made.quad(*box, 2.0), (90, 60, 40))
    made.finish(piece)


def smoke(made: Picture) -> None:
    draw_smoke(made, 0.0, 7.0, 0.0, 2.0)


DRAWN: dict[str, Callable[[Picture], object]] = {
    "spill": lambda made: draw_spill(made, 0.0, 6.0, 0.8),
    "fire": lambda made: draw_fire(made, 0.0, 6.0, 0.0, 1.2),
    "smoke": smoke,
}


@pytest.mark.parametrize("label", list(DRAWN))
def test_a_hazard_that_nobody_can_make_out_has_no_region(label: str) -> None:
    """Mostly hidden, or in a light in which nothing stands out."""
    open_ = picture(200)
    DRAWN[label](open_)
    found, unseen = read(open_)
    assert label in found and unseen == []
    found, unseen = read(open_, light=0.04)
    assert found == {} and unseen == [label]
    pixels = np.argwhere(np.asarray(open_.canvas.owners) == 1)
    (top, left), (bottom, right) = pixels.min(axis=0) / 2, pixels.max(axis=0) / 2
    for share, seen in ((0.3, True), (0.75, False)):
        hidden = picture(200)
        DRAWN[label](hidden)
        board = hidden.start("", "board")
        edge = left + share * (right - left)
        hidden.canvas.polygon([(left, top), (edge, top), (edge, bottom + 1), (left, bottom + 1)], (9, 9, 9))
        hidden.finish(board)
        found, unseen = read(hidden)
        assert (label in found, unseen == [label]) == (seen, not seen), share


def test_smoke_before_a_wall_as_dark_as_itself_cannot_be_seen() -> None:
    lost = []
    for grey in range(30, 210, 10):
        made = picture(grey)
        smoke(made)
        lost += [grey] if read(made)[1] == ["smoke"] else []
    assert lost and max(lost) - min(lost) < 50


def test_what_is_beyond_the_edge_is_not_there_at_all() -> None:
    made = picture()
    draw_fire(made, 50.0, 6.0, 0.0, 1.2)
    assert read(made) == ({}, [])


def test_what_is_hidden_is_named_as_unseen() -> None:
    made = picture()
    draw_exit(made, 0.0, 8.0, made.chance)
    draw_crate(made, 0.0, 7.0, 0.8, 0.8)
    wall(made, (-1.0, 1.0, 0.0, 3.0))
    assert read(made) == ({}, ["exit", "crate"])


@pytest.mark.parametrize("headwear", ["hair", "helmet", "hood"])
def test_the_head_is_seen_where_a_helmet_would_be(headwear: str) -> None:
    made = picture()
    somebody(made, 6.0, headwear=headwear)
    assert read(made)[0]["person"].attributes["head_seen"] == 1.0
    x, y, width, height = read(made)[0]["person"].attributes["head"]
    for above, seen in ((0.1, False), (-0.3, True)):  # of the face all is seen, of the place above it none or all
        capped = picture()
        somebody(capped, 6.0, headwear=headwear)
        board = capped.start("helmet", "worn helmet")
        low = y + above * height + 0.2 * height
        capped.canvas.polygon([(x - width, 0), (x + 2 * width, 0), (x + 2 * width, low), (x - width, low)], (9, 9, 9))
        capped.finish(board)
        assert (read(capped)[0]["person"].attributes["head_seen"] >= 0.5) is seen


def test_a_head_cut_by_the_edge_is_hardly_seen() -> None:
    made = picture()
    somebody(made, 3.0, tall=1.9, lift=0.5)
    x, y, width, height = made.pieces[0].attributes["head"]
    top = Picture(Camera(384, 384, 384.0, 0.3 * 384 - y - 0.2 * height, 2.5), Chance("truth"))
    somebody(top, 3.0, tall=1.9, lift=0.5)  # all of the face below the edge, a part of the place of the helmet above it
    assert read(made)[0]["person"].attributes["head_seen"] == 1.0
    assert read(top)[0]["person"].attributes["head_seen"] < 0.5


@pytest.mark.parametrize("size", [192, 384, 768])
@pytest.mark.parametrize("depth", [4.0, 6.0, 12.0])
def test_feet_are_looked_for_by_the_size_of_the_person(size: int, depth: float) -> None:
    for posture in ("stand", "walk", "bend", "crouch"):
        made = picture(size=size)
        somebody(made, depth, posture=posture)
        assert read(made)[0]["person"].attributes["foot_seen"], posture
        wall(made, (-2.0, 2.0, -3.0, 2.5 - (2.5 - 0.3) * 2.0 / depth))  # up to 0.3 m above the floor
        assert not read(made)[0]["person"].attributes["foot_seen"], posture


def test_dense_steam_hides() -> None:
    made = picture()
    draw_exit(made, 0.0, 8.0, made.chance)
    assert read(made)[0]["exit"].attributes["hidden"] == 0.0
    for _ in range(3):
        draw_steam(made, 0.0, 7.0, 0.4, 2.4)
    assert read(made)[0]["exit"].attributes["hidden"] > 0.05


def test_the_glow_of_a_lamp_hides() -> None:
    made = picture()
    somebody(made, 7.0)
    assert read(made)[0]["person"].attributes["head_seen"] == 1.0
    draw_clutter(made, "lamp", 0.0, 6.0)
    assert read(made)[0]["person"].attributes["head_seen"] < 0.5
