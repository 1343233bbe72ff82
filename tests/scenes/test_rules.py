"""Rules on scenes put together by hand: a camera 2 m up, focal length 100 px, horizon at row 50."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from bessemer.annotation.shapes import AnnotatedImage, Annotation, Box
from bessemer.errors import UserError
from bessemer.scenes.camera import Camera
from bessemer.scenes.rules import Verdict, camera_of, judge_scene, rule_scene

CAMERA = Camera(200, 200, 100.0, 50.0, 2.0)
FACTS = {"width": 200, "height": 200, "focal": 100.0, "horizon": 50.0, "rise": 2.0}


def image(*annotations: Annotation, unseen: Sequence[str] = ()) -> AnnotatedImage:
    facts = {"camera": FACTS, "unseen": [{"id": f"{label}-9", "label": label} for label in unseen]}
    return AnnotatedImage("a.jpg", 200, 200, annotations=annotations, raw={"site": facts})


def person(x: float, depth: float, lift: float = 0.0, id: str = "p", **changes: Any) -> Annotation:
    """Somebody 1.7 m tall at (x, depth): head from 1.5 to 1.7 m, trunk from 0.85 to 1.5 m, 0.4 m wide."""

    def at(dx: float, up: float) -> list[float]:
        return list(CAMERA.project(x + dx, up + lift, depth))

    left, top = at(-0.1, 1.7)
    right, bottom = at(0.1, 1.5)
    facts: dict[str, Any] = {
        "head": [left, top, right - left, bottom - top], "foot": at(0, 0), "head_seen": 1.0, "torso_seen": 1.0,
        "foot_seen": True, "torso": [at(-0.2, 1.5), at(0.2, 1.5), at(0.2, 0.85), at(-0.2, 0.85)],
    }  # fmt: skip
    (x0, y0), (x1, y1) = at(-0.2, 1.7), at(0.2, 0)
    return Annotation(id, "person", Box(x0, y0, x1 - x0, y1 - y0), attributes=facts | changes)


def thing(label: str, box: tuple[float, float, float, float], **attributes: Any) -> Annotation:
    return Annotation(label, label, Box(*box), attributes=attributes)


def verdict(rule: str, *annotations: Annotation, unseen: Sequence[str] = ()) -> Verdict:
    return next(v for v in judge_scene(image(*annotations, unseen=unseen)) if v.rule == rule)


def head_of(someone: Annotation) -> tuple[float, float, float, float]:
    x, y, width, height = someone.attributes["head"]
    return x, y, width, height


def test_a_helmet_counts_on_the_head_alone() -> None:
    someone = person(0, 5)
    x, y, width, height = head_of(someone)
    on = thing("helmet", (x, y - height * 0.3, width, height * 0.6))
    held = thing("helmet", (x + 2 * width, y + 5 * height, width, height * 0.6))
    assert verdict("no helmet", someone).broken is True
    worn = verdict("no helmet", someone, on)
    assert worn.broken is False and worn.cases[0].involved == ("helmet",)
    above = thing("helmet", (x, y - 2 * height, width, height * 0.6))  # of somebody behind, say
    assert verdict("no helmet", someone, held).broken is True
    assert verdict("no helmet", someone, above).broken is True
    assert verdict("no helmet", person(0, 5, head_seen=0.2)).broken is None
    # a helmet on a head that is hidden, or beyond the edge, may be somebody else's
    assert verdict("no helmet", person(0, 5, head_seen=0.4), on).broken is None
    assert verdict("no helmet", person(0, 5, head_seen=0.2), person(1, 5, id="q")).broken is True
    assert verdict("no helmet").broken is False


def test_a_vest_must_cover_the_trunk() -> None:
    someone = person(0, 5)
    (x0, y0), _, (x1, y1), _ = someone.attributes["torso"]
    full = thing("vest", (x0, y0, x1 - x0, y1 - y0))
    strip = thing("vest", (x0, y0, x1 - x0, 0.2 * (y1 - y0)))  # a fifth, less than three tenths
    third = thing("vest", (x0, y0, x1 - x0, 0.35 * (y1 - y0)))
    beside = thing("vest", (x1 + 5, y0, x1 - x0, y1 - y0))
    found = [verdict("no vest", someone, other).broken for other in (full, strip, third, beside)]
    assert found == [False, True, False, True]
    assert verdict("no vest", person(0, 5, torso_seen=0.3)).broken is None


def test_feet_in_the_zone() -> None:
    outline = [list(CAMERA.project(x, 0, z)) for x, z in ((-1, 4), (1, 4), (1, 6), (-1, 6))]
    zone = thing("zone", (0, 80, 200, 40), outline=outline)
    assert verdict("in marked zone", zone, person(0.8, 5)).broken is True
    assert verdict("in marked zone", zone, person(1.2, 5)).broken is False
    assert verdict("in marked zone", zone, person(0, 6.8)).broken is False
    assert verdict("in marked zone", zone, person(0, 5, foot_seen=False)).broken is None
    assert verdict("in marked zone", person(0, 5)).cases == ()
    # high up above the zone, which is seen behind; the ladder is hidden
    assert verdict("in marked zone", zone, person(0, 3, lift=0.8)).broken is False
    assert verdict("in marked zone", person(0, 5), unseen=["zone"]).broken is None


@pytest.mark.parametrize(("off", "broken"), [(-3.5, True), (-2.5, None), (2.5, None), (3.5, False)])
def test_feet_within_three_pixels_of_the_line_are_not_judged(off: float, broken: bool | None) -> None:
    """At the right side of the zone, 5 m away, a metre is 20 px; the side slants and so is a little nearer."""
    outline = [list(CAMERA.project(x, 0, z)) for x, z in ((-1, 4), (1, 4), (1, 6), (-1, 6))]
    zone = thing("zone", (0, 80, 200, 40), outline=outline)
    (ax, ay), (bx, by) = outline[1], outline[2]
    slant = abs(ay - by) / ((ax - bx) ** 2 + (ay - by) ** 2) ** 0.5
    assert verdict("in marked zone", zone, person(1 + off / 20 / slant, 5)).broken is broken


@pytest.mark.parametrize(
    ("x", "near"), [(0.0, True), (2.7, True), (2.8, None), (2.9, None), (3.1, None), (3.2, None), (3.3, False)]
)
def test_distance_to_a_vehicle_is_measured_on_the_floor(x: float, near: bool | None) -> None:
    """The vehicle reaches from x = -1 to 1, so 2 m end at x = 3; all of it 8 to 12 m away."""
    footprint = [list(CAMERA.project(a, 0, z)) for a, z in ((-1, 8), (1, 8), (1, 12), (-1, 12))]
    vehicle = thing("vehicle", (80, 40, 30, 30), footprint=footprint)
    assert verdict("near vehicle", vehicle, person(x, 9)).broken is near
    assert verdict("near vehicle", vehicle, person(0, 5.7)).broken is False
    assert verdict("near vehicle", vehicle, person(0, 6.3)).broken is True
    assert verdict("near vehicle", person(0, 6.3), unseen=["vehicle"]).broken is None
    assert verdict("near vehicle", unseen=["vehicle"]).broken is False


def test_climbing_needs_a_rope_that_is_tied() -> None:
    outline = [list(CAMERA.project(x, up, 5)) for x, up in ((-0.25, 0), (0.25, 0), (0.25, 4), (-0.25, 4))]
    ladder = thing("ladder", (90, 20, 20, 70), outline=outline)
    climber = person(0, 5, lift=1.5)
    tied = thing("rope", (99, 0, 3, 40), ends=[climber.attributes["torso"][0], [100, 0]])
    loose = thing("rope", (120, 0, 3, 60), ends=[[121, 60], [121, 0]])
    assert verdict("climbing without rope", ladder, climber).broken is True
    assert verdict("climbing without rope", ladder, climber, tied).broken is False
    assert verdict("climbing without rope", ladder, climber, loose).broken is True
    assert verdict("climbing without rope", ladder, person(0, 5, lift=0.1)).cases == ()
    # on the floor behind it, where the feet are seen as high as those of somebody 0.9 m up
    behind = person(0, 5 * 2 / (2 - 0.9))
    assert verdict("climbing without rope", ladder, behind).cases == ()
    assert verdict("climbing without rope", ladder, climber, unseen=["rope"]).broken is None
    assert verdict("climbing without rope", ladder, climber, tied, unseen=["rope"]).broken is False


@pytest.mark.parametrize("depth", [3, 5, 12])
def test_who_is_high_up_on_a_hidden_ladder_may_be_climbing(depth: float) -> None:
    for lift in (0.8, 1.5, 2.5):
        climber = person(0, depth, lift)
        assert verdict("climbing without rope", climber).broken is None
        tied = thing("rope", (99, 0, 3, 40), ends=[climber.attributes["torso"][0], [100, 0]])
        assert verdict("climbing without rope", climber, tied).broken is False
    assert verdict("climbing without rope", person(0, depth)).cases == ()


def test_an_exit_is_blocked_by_a_crate_or_vehicle_close_before_it() -> None:
    door = [list(CAMERA.project(x, up, 10)) for x, up in ((-0.5, 0), (0.5, 0), (0.5, 2), (-0.5, 2))]
    leave = thing("exit", (95, 50, 10, 20), outline=door, hidden=0.4)

    def crate(x: float, far: float, label: str = "crate") -> Annotation:
        corners = ((x - 0.4, far - 0.8), (x + 0.4, far - 0.8), (x + 0.4, far), (x - 0.4, far))
        return thing(label, (90, 60, 9, 9), footprint=[list(CAMERA.project(a, 0, z)) for a, z in corners])

    cases = [((0.0, 9.5), True), ((0.0, 8.0), False), ((0.7, 9.5), False), ((0.6, 9.5), True), ((-2.0, 9.5), False)]
    assert [verdict("blocked exit", leave, crate(*place)).broken for place, _ in cases] == [b for _, b in cases]
    found = [verdict("blocked exit", leave, crate(*place, "vehicle")).broken for place, _ in cases]
    assert found == [b for _, b in cases]
    assert verdict("blocked exit", leave).broken is False
    covered = thing("exit", (95, 50, 10, 20), outline=door, hidden=0.6)
    assert verdict("blocked exit", covered).broken is None
    assert verdict("blocked exit", covered, crate(0, 8)).broken is None
    assert verdict("blocked exit", covered, crate(0, 9.5)).broken is True
    assert verdict("blocked exit", unseen=["exit"]).broken is None
    assert verdict("blocked exit", leave, unseen=["crate"]).broken is None
    assert verdict("blocked exit", unseen=["crate"]).broken is False


def test_a_missing_extinguisher_is_one_whose_place_is_seen_empty() -> None:
    place = [[100, 100], [120, 100], [120, 140], [100, 140]]
    sign = thing("extinguisher sign", (102, 80, 12, 12), place=place, place_seen=0.9)
    hidden = thing("extinguisher sign", (102, 80, 12, 12), place=place, place_seen=0.4)
    there, elsewhere = (thing("extinguisher", (x, 110, 8, 20)) for x in (106, 150))
    found = [verdict("missing extinguisher", *a).broken for a in ((sign,), (sign, there), (sign, elsewhere), (hidden,))]
    assert found == [True, False, True, None]
    assert verdict("missing extinguisher", unseen=["extinguisher sign"]).broken is None


def test_what_burns_is_there_or_not() -> None:
    for label in ("spill", "smoke", "fire"):
        assert verdict(label, thing(label, (1, 1, 20, 20))).broken is True
        assert verdict(label).broken is False
        assert verdict(label, unseen=[label]).broken is None
        assert verdict(label, thing(label, (1, 1, 20, 20)), unseen=[label]).broken is True


def test_rules_know_their_scene_and_need_a_camera() -> None:
    assert rule_scene("no vest") == "personnel" and rule_scene("blocked exit") == "environment"
    assert camera_of(image()) == CAMERA
    with pytest.raises(UserError, match="no camera recorded with 'b.jpg', expected a generated scene"):
        judge_scene(AnnotatedImage("b.jpg", 10, 10))
