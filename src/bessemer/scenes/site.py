"""Scenes of a site with known truth: a seed and a difficulty become a picture, annotations, verdicts and captions.

Nobody photographed these pictures; reports say so. The same seed gives the same bytes in every process.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable
from dataclasses import dataclass, replace

from PIL import Image

from ..annotation.shapes import AnnotatedImage, Annotation
from ..data.schema import need
from .captions import captions
from .chance import Chance, Colour
from .matter import draw_fire, draw_smoke, draw_spill, draw_steam, draw_wet_floor
from .people import Person, draw_person, random_look
from .picture import Picture
from .places import PLACES, draw_place, draw_walkway, draw_zone, finish_light, random_camera
from .rules import Verdict, judge_scene, rule_scene
from .things import (
    BODIES,
    VEHICLES,
    draw_clutter,
    draw_crate,
    draw_exit,
    draw_ladder,
    draw_scaffold,
    draw_station,
    draw_vehicle,
)  # fmt: skip
from .truth import read_annotations, read_clutter

__all__ = ["SIZE", "SiteScene", "generate_scene"]

SIZE = 384
CLUTTER = ("cone", "barrel", "bucket", "orange sign", "shelf", "cabinet", "pillar", "pallet", "lamp")
ZONE_COLOURS: tuple[tuple[Colour, Colour], ...] = (
    ((235, 195, 35), (35, 35, 35)), ((205, 45, 40), (235, 235, 230)), ((230, 110, 30), (240, 240, 235)),
)  # fmt: skip


@dataclass(frozen=True)
class SiteScene:
    """A generated scene. annotated: name, size, SHA-256 of `encoded`, annotations; its `raw["site"]` holds seed,
    difficulty, place, camera, `clutter`, which is what is there without a label, and `unseen` [{id, label}], which is
    what has one but cannot be seen. encoded: the JPEG file."""

    image: Image.Image
    encoded: bytes
    annotated: AnnotatedImage
    verdicts: tuple[Verdict, ...]


def generate_scene(seed: int, difficulty: float = 0.5, size: int = SIZE) -> SiteScene:
    """The scene of a seed, `size` x `size` pixels.

    difficulty: 0 (few things, good light, hardly anything hidden) to 1 (many, small, dark, hidden, with look-alikes).

    Raises:
        UserError: a difficulty outside [0, 1], a size outside 96 to 2,048.
    """
    need(0 <= difficulty <= 1, f"difficulty {difficulty!r}", "0 to 1")
    need(96 <= size <= 2048, f"size {size!r}", "96 to 2048 pixels")
    chance = Chance("site", seed, difficulty, size)
    picture = Picture(random_camera(chance, size, size), chance)
    place = chance.pick(PLACES)
    _draw(picture, place, difficulty)
    small, owners = picture.canvas.small()
    image, light = finish_light(small, chance, difficulty)
    file = io.BytesIO()
    image.save(file, "JPEG", quality=90, subsampling=0)
    encoded = file.getvalue()
    camera = picture.camera
    found, unseen = read_annotations(picture.pieces, owners, light)
    facts = {
        "generated": True, "seed": seed, "difficulty": difficulty, "place": place,
        "camera": {name: getattr(camera, name) for name in ("width", "height", "focal", "horizon", "rise")},
        "clutter": read_clutter(picture.pieces, owners), "unseen": unseen,
    }  # fmt: skip
    name = f"site-{seed:06d}.jpg"
    bare = AnnotatedImage(name, size, size, hashlib.sha256(encoded).hexdigest(), 1, found, {"site": facts})
    verdicts = judge_scene(bare)
    said = _said(verdicts) + captions(bare, verdicts, place)
    return SiteScene(image, encoded, replace(bare, annotations=found + said), verdicts)


def _said(verdicts: tuple[Verdict, ...]) -> tuple[Annotation, ...]:
    """The verdicts as annotations of the whole picture: label the rule, attributes `verdict` yes | no | unknown, and
    `cases`: {id, broken, involved}."""
    words = {True: "yes", False: "no", None: "unknown"}
    return tuple(
        Annotation(
            f"rule-{verdict.rule.replace(' ', '-')}", verdict.rule, scene=rule_scene(verdict.rule), source="generated",
            attributes={
                "verdict": words[verdict.broken],
                "cases": [
                    {"id": c.id, "broken": words[c.broken], "involved": list(c.involved)} for c in verdict.cases
                ],
            },
        )
        for verdict in verdicts
    )  # fmt: skip


_Drawn = list[tuple[float, Callable[[], object]]]
_Footprint = tuple[float, float, float, float]  # left, right, near and far end on the floor, in metres
HALF_BODY = 0.35  # metres from the middle of somebody to the outside
BEFORE_WALL = 2.6  # metres: what is at most 1 m deep and starts further from the wall stands 1.5 m before an exit


def _draw(picture: Picture, place: str, difficulty: float) -> None:
    """Everything from the back to the front."""
    chance, camera = picture.chance, picture.camera
    wall = chance.between(9.0, 15.0)
    near = camera.ground(0, camera.height)[1] + 0.4
    draw_place(picture, place, wall)
    drawn: _Drawn = []
    if chance.flag(0.3):
        draw_walkway(picture, chance.between(-2, 2), near, wall, chance.pick(((60, 140, 80), (225, 225, 220))))
    zone = _plan_zone(picture, near, wall)
    exit, taken = _plan_wall(picture, wall, drawn, difficulty)
    _plan_floor(picture, near, wall, difficulty)
    vehicle = _plan_vehicle(picture, near, wall, drawn)
    _plan_climber(picture, (near, wall), drawn, difficulty, (exit, vehicle))
    _plan_people(picture, (near, wall), drawn, difficulty, (zone, vehicle))
    _plan_hazards(picture, near, wall, drawn, difficulty)
    _plan_clutter(picture, (near, wall), drawn, difficulty, taken)
    for _, draw in sorted(drawn, key=lambda item: -item[0]):
        draw()


def _spot(picture: Picture, depth: float, margin: float = 0.85) -> float:
    """Somewhere across the picture at a depth."""
    return picture.chance.between(-margin, margin) * picture.camera.reach(depth)


def _plan_zone(picture: Picture, near: float, wall: float) -> tuple[float, float] | None:
    """A marked zone on the floor; its middle."""
    chance = picture.chance
    if not chance.flag(0.5):
        return None
    depth = chance.between(near + 1.5, max(near + 1.6, min(wall - 2.5, near + 5)))
    x = _spot(picture, depth, 0.5)
    wide, long = chance.between(1.2, 2.2), chance.between(0.9, 1.8)
    slant = chance.between(-0.5, 0.5)
    corners = [
        (x + a * wide + b * slant, max(near * 0.6, depth + b * long + a * slant * 0.4))
        for a, b in ((-1, -1), (1, -1), (1, 1), (-1, 1))
    ]
    draw_zone(picture, corners, chance.pick(ZONE_COLOURS))
    return x, depth


def _plan_wall(picture: Picture, wall: float, drawn: _Drawn, difficulty: float) -> tuple[float | None, list[float]]:
    """Exit and extinguisher station in the wall, crates before the exit; where the exit is, and all that is taken."""
    chance = picture.chance
    reach = picture.camera.reach(wall)
    exit: float | None = None
    taken: list[float] = []
    if chance.flag(0.55):
        exit = x = chance.between(-0.75, 0.75) * reach
        taken.append(x)
        draw_exit(picture, x, wall - 0.01, chance)
        if chance.flag(0.6):
            blocks = chance.flag(0.65)
            for _ in range(chance.whole(1, 3)):
                side = chance.between(-0.45, 0.45) if blocks else chance.pick((-1, 1)) * chance.between(1.4, 2.2)
                wide, high = chance.between(0.6, 1.0), chance.between(0.5, 1.2)
                depth = wall - chance.between(0.2, 0.9) - 0.8 * wide
                drawn.append((depth, _later(draw_crate, picture, x + side, depth, wide, high)))
    if chance.flag(0.55):
        x = chance.between(-0.85, 0.85) * reach
        if all(abs(x - other) > 1.3 for other in taken):
            taken.append(x)
            lookalike = chance.pick(("", "bucket", "pipe")) if chance.flag(0.3 + 0.5 * difficulty) else ""
            draw_station(picture, x, wall - 0.01, chance.flag(0.5), lookalike)
    return exit, taken


def _later(draw: Callable[..., object], *arguments: object) -> Callable[[], object]:
    return lambda: draw(*arguments)


def _plan_floor(picture: Picture, near: float, wall: float, difficulty: float) -> None:
    """Spills, and wet floor that looks like them."""
    chance = picture.chance
    if chance.flag(0.3):
        depth = chance.between(near + 0.4, min(wall - 1, near + 5))
        draw_spill(picture, _spot(picture, depth, 0.7), depth, chance.between(0.35, 0.95))
    if chance.flag(0.2 + 0.4 * difficulty):
        depth = chance.between(near + 0.4, min(wall - 1, near + 5))
        draw_wet_floor(picture, _spot(picture, depth, 0.7), depth, chance.between(0.4, 1.1))


def _plan_vehicle(picture: Picture, near: float, wall: float, drawn: _Drawn) -> _Footprint | None:
    """A vehicle; the floor that it stands on."""
    chance = picture.chance
    if not chance.flag(0.45):
        return None
    kind = chance.pick(("forklift", "forklift", "truck"))
    depth = chance.between(near + 1.2, max(near + 1.3, wall - (3 if kind == "forklift" else 5.5)))
    x = _spot(picture, depth, 0.7)
    drawn.append((depth + 0.3, _later(draw_vehicle, picture, kind, x, depth, chance.tint(chance.pick(BODIES), 16))))
    wide, long = VEHICLES[kind]
    return x - wide / 2, x + wide / 2, depth, depth + long


def _within(floor: _Footprint | None, x: float, depth: float, margin: float) -> bool:
    """Whether a place is on the floor under a vehicle, or closer to it than the margin."""
    if floor is None:
        return False
    left, right, near, far = floor
    return left - margin < x < right + margin and near - margin < depth < far + margin


def _beside(chance: Chance, floor: _Footprint) -> tuple[float, float]:
    """A place before a vehicle or beside its front, mostly too close to it."""
    left, right, near, _ = floor
    if chance.flag(0.5):
        return chance.between(left - 0.3, right + 0.3), near - chance.between(0.4, 1.6)
    out = chance.between(0.4, 1.6)
    return (left - out if chance.flag(0.5) else right + out), near + chance.between(-0.8, 0.3)


def _look(picture: Picture, difficulty: float, careful: bool) -> dict[str, object]:
    chance = picture.chance
    helmet, vest = (0.95, 0.95) if careful else (0.45, 0.5)
    bare = chance.pick(("cap", "cap", "hair", "hood", "held") if chance.flag(difficulty) else ("hair", "cap"))
    return {
        **random_look(chance, difficulty), "headwear": "helmet" if chance.flag(helmet) else bare,
        "vest": chance.flag(vest), "bucket": chance.flag(0.06 + 0.14 * difficulty),
    }  # fmt: skip


def _plan_climber(
    picture: Picture,
    reach: tuple[float, float],
    drawn: _Drawn,
    difficulty: float,
    others: tuple[float | None, _Footprint | None],
) -> None:
    """A ladder or scaffold, mostly with somebody on it, neither before the exit nor in the vehicle; a rope that hangs
    there unused looks like a lifeline."""
    chance, (near, wall), (exit, vehicle) = picture.chance, reach, others
    if not chance.flag(0.45):
        return
    depth = chance.between(near + 2.0, max(near + 2.1, wall - 1.2))
    x = _spot(picture, depth, 0.7)
    scaffold = chance.flag(0.4)
    if exit is not None and abs(x - exit) < 1.9:
        depth = min(depth, wall - BEFORE_WALL)
    if _within(vehicle, x, depth, 1.3 if scaffold else HALF_BODY):
        return
    colour = chance.tint(chance.pick(((185, 190, 195), (220, 160, 40), (150, 110, 60))), 15)
    high = chance.between(3.0, 4.4)
    if scaffold:
        drawn.append((depth + 0.95, _later(draw_scaffold, picture, x, depth, chance.whole(1, 2), colour)))
    else:
        drawn.append((depth + 0.02, _later(draw_ladder, picture, x, depth, high, colour)))
    if not chance.flag(0.8):
        return
    lift = 1.9 if scaffold else chance.between(0.8, high - 1.7)
    offset = chance.between(-0.8, 0.8) if scaffold else 0.0
    posture = chance.pick(("stand", "bend", "walk")) if scaffold else "climb"
    rope = chance.flag(0.5)
    look = _look(picture, difficulty, chance.flag(0.6))
    person = Person(
        x=x + offset, depth=depth + (0.3 if scaffold else 0.0), lift=lift, posture=posture, rope=rope,
        anchor=lift + chance.between(2.4, 3.4), **{**look, "bucket": False},  # type: ignore[arg-type]
    )  # fmt: skip
    drawn.append((depth, _later(draw_person, picture, person)))
    if not rope and chance.flag(0.3 + 0.4 * difficulty):
        drawn.append((depth - 0.01, _later(_loose_rope, picture, x + chance.pick((-1, 1)) * 0.75, depth)))


def _loose_rope(picture: Picture, x: float, depth: float) -> None:
    """A rope that hangs from above and holds nobody."""
    rope = picture.start("rope", "loose rope")
    ends = [picture.camera.project(x, up, depth) for up in (picture.chance.between(0.1, 0.6), 5.0)]
    picture.canvas.line(ends, max(0.05 * picture.camera.scale(depth), 1.2), (225, 215, 60))
    rope.attributes["ends"] = [[round(value, 2) for value in end] for end in ends]
    picture.finish(rope)


def _plan_people(
    picture: Picture,
    reach: tuple[float, float],
    drawn: _Drawn,
    difficulty: float,
    goals: tuple[tuple[float, float] | None, _Footprint | None],
) -> None:
    """One to five people, some of them where they must not be, nobody inside a vehicle."""
    chance, (near, wall), (zone, vehicle) = picture.chance, reach, goals
    careful = chance.flag(0.45)
    places: list[tuple[float, float]] = []
    if zone is not None and chance.flag(0.45):
        places.append((zone[0] + chance.between(-1.3, 1.3), zone[1] + chance.between(-1.0, 0.5)))
    if vehicle is not None and chance.flag(0.5):
        places.append(_beside(chance, vehicle))
    most = chance.whole(0 if difficulty < 0.3 else 1, 2 + round(3 * difficulty))
    for _ in range(most - len(places)):
        depth = near + 0.6 + (wall - near - 1.5) * chance.share() ** 1.4
        places.append((_spot(picture, depth), depth))
    kept: list[tuple[float, float]] = []
    for x, depth in places:
        apart = (0.75 - 0.35 * difficulty) * picture.camera.scale(6.0)  # pixels; the harder, the closer together
        column = picture.camera.project(x, 0, depth)[0]
        crowded = any(abs(column - picture.camera.project(a, 0, b)[0]) < apart for a, b in kept)
        if depth <= near + 0.3 or _within(vehicle, x, depth, HALF_BODY) or crowded:
            continue
        kept.append((x, depth))
        look = _look(picture, difficulty, careful)
        posture = chance.pick(("stand", "stand", "walk", "walk", "bend", "crouch"))
        person = Person(x=x, depth=depth, lift=0.0, posture=posture, **look)  # type: ignore[arg-type]
        drawn.append((depth, _later(draw_person, picture, person)))


def _plan_hazards(picture: Picture, near: float, wall: float, drawn: _Drawn, difficulty: float) -> None:
    """Fire and smoke, and steam that looks like it."""
    chance = picture.chance
    if chance.flag(0.38):
        depth = chance.between(near + 1.5, wall - 0.5)
        x, high = _spot(picture, depth, 0.8), chance.between(0.5, 1.5)
        drawn.append((depth, _later(draw_fire, picture, x, depth, 0.0, high)))
        if chance.flag(0.5):
            tall = chance.between(2.0, 4.0)
            drawn.append((depth + 0.05, _later(draw_smoke, picture, x, depth + 0.05, 0.5 * high, tall)))
    elif chance.flag(0.3):
        depth = chance.between(near + 1.5, wall - 0.3)
        x, tall = _spot(picture, depth, 0.8), chance.between(1.6, 4.0)
        drawn.append((depth, _later(draw_smoke, picture, x, depth, chance.between(0.0, 1.2), tall)))
    if chance.flag(0.12 + 0.3 * difficulty):
        depth = chance.between(near + 2, wall - 0.2)
        place = (_spot(picture, depth, 0.8), depth, chance.between(0.4, 1.6), chance.between(1.0, 2.6))
        drawn.append((depth, _later(draw_steam, picture, *place)))


def _plan_clutter(
    picture: Picture, reach: tuple[float, float], drawn: _Drawn, difficulty: float, taken: list[float]
) -> None:
    """Things without a label; the harder, the more, and the nearer to the camera, where they hide others. None stands
    close before what is in the wall: no rule could know of it."""
    chance, (near, wall) = picture.chance, reach
    for _ in range(chance.whole(1, 3 + round(7 * difficulty))):
        kind = chance.pick(CLUTTER)
        depth = near + 0.5 + (wall - near - 1.0) * chance.share() ** (1.0 if difficulty > 0.5 else 0.6)
        x = _spot(picture, depth, 0.95)
        if kind in ("shelf", "cabinet", "pallet", "pillar") and depth < near + 3 and not chance.flag(difficulty * 0.5):
            depth = wall - chance.between(0.8, 2.0)
        before = kind in ("shelf", "cabinet") or depth > wall - BEFORE_WALL
        if not before or all(abs(x - other) >= 1.8 for other in taken):
            drawn.append((depth, _later(draw_clutter, picture, kind, x, depth)))
    if chance.flag(0.25):
        depth = chance.between(near + 1, wall - 1)
        wide, high = chance.between(0.5, 1.0), chance.between(0.5, 1.1)
        drawn.append((depth, _later(draw_crate, picture, _spot(picture, depth), depth, wide, high)))
