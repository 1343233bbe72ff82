"""The rules of a site, decided from annotations and the camera alone: who or what breaks each, who cannot be judged.

    no helmet             no helmet whose centre is on or just above the head (a helmet in the hand is none)
    no vest               vests cover less than 30 % of the trunk
    in marked zone        the feet are inside the outline of a zone
    near vehicle          the feet are less than 2 m, on the floor, from what a vehicle stands on
    climbing without rope the feet are more than 0.7 m up a ladder or scaffold and no rope ends at the trunk (up it, not
                          behind it: at its distance from the camera the trunk is long enough for a grown person's)
    spill, smoke, fire    there is one
    blocked exit          a crate or vehicle stands less than 1.5 m before an exit and takes more than 25 % of its width
    missing extinguisher  no extinguisher has its centre in the place below its sign

A case that the picture does not show well enough (a head, an exit or a place less than half seen, feet or a ladder that
are hidden, a fire that nobody can make out) or that is too near to a limit to tell is not judged: True, False or None.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from ..annotation.geometry import area, bounding_box, iou
from ..annotation.shapes import AnnotatedImage, Annotation, Box, Pair, Polygon
from ..data.schema import Scene, need
from .camera import Camera

__all__ = ["RULES", "Case", "Verdict", "camera_of", "judge_scene", "rule_scene"]

NEAR_VEHICLE, NEAR_EXIT, CLIMBED, TRUNK = 2.0, 1.5, 0.7, 0.53  # metres
LONGEST_TRUNK = 0.72  # metres: nobody's is longer, so that who seems to have a longer one is above the floor
COVERED, HEAD_SEEN, TORSO_SEEN, EXIT_SEEN, PLACE_SEEN, ACROSS = 0.3, 0.5, 0.5, 0.5, 0.6, 0.25  # shares
VEHICLE_MARGIN, ZONE_MARGIN = 0.25, 3.0  # metres from the limit, pixels from the line: nobody can tell by looking


@dataclass(frozen=True)
class Case:
    """One person or thing that a rule is about. involved: ids of the other annotations that decide it."""

    id: str
    broken: bool | None
    involved: tuple[str, ...] = ()


@dataclass(frozen=True)
class Verdict:
    """A rule over the whole picture: True where any case is broken, else None where any cannot be judged, else
    False."""

    rule: str
    broken: bool | None
    cases: tuple[Case, ...]


def camera_of(image: AnnotatedImage) -> Camera:
    """The camera that the generator recorded with a scene."""
    facts = image.raw.get("site", {}).get("camera")
    need(facts, f"no camera recorded with {image.name!r}", "a generated scene")
    return Camera(**facts)


def judge_scene(image: AnnotatedImage) -> tuple[Verdict, ...]:
    """The verdict of every rule, in the order of `RULES`. Where something is there but cannot be seen (`unseen` in the
    recorded facts, {id, label}), what depends on it cannot be judged."""
    camera = camera_of(image)
    unseen = image.raw["site"].get("unseen", ())
    found: dict[str, list[Annotation]] = {"unseen": [Annotation(u["id"], u["label"]) for u in unseen]}
    for annotation in image.annotations:
        if annotation.label is not None and annotation.shape is not None:
            found.setdefault(annotation.label, []).append(annotation)
    verdicts = []
    for name, (_, rule) in _RULES.items():
        cases = tuple(rule(found, camera))
        broken = True if any(c.broken for c in cases) else None if any(c.broken is None for c in cases) else False
        verdicts.append(Verdict(name, broken, cases))
    return tuple(verdicts)


def rule_scene(rule: str) -> Scene:
    """Whether a rule is about the environment or about personnel."""
    return _RULES[rule][0]


_Found = Mapping[str, Sequence[Annotation]]


def _unseen(found: _Found, *labels: str) -> list[Case]:
    """Things that are there but cannot be seen, as cases that cannot be judged."""
    return [Case(thing.id, None) for thing in found.get("unseen", ()) if thing.label in labels]


def _box(annotation: Annotation) -> Box:
    assert annotation.shape is not None
    return bounding_box(annotation.shape)


def _ring(annotation: Annotation, name: str) -> list[Pair]:
    return [(float(x), float(y)) for x, y in annotation.attributes[name]]


def _centre(box: Box) -> Pair:
    return box.x + box.width / 2, box.y + box.height / 2


def _inside(point: Pair, ring: Sequence[Pair]) -> bool:
    """Whether a ray to the right crosses the ring an odd number of times."""
    x, y = point
    odd = False
    for (ax, ay), (bx, by) in zip(ring, [*ring[1:], ring[0]], strict=True):
        if (ay > y) != (by > y) and x < ax + (bx - ax) * (y - ay) / (by - ay):
            odd = not odd
    return odd


def _no_helmet(found: _Found, camera: Camera) -> list[Case]:
    cases = []
    for person in found.get("person", ()):
        x, y, width, height = person.attributes["head"]
        worn = [
            helmet.id
            for helmet in found.get("helmet", ())
            for a, b in [_centre(_box(helmet))]
            if x - 0.3 * width <= a <= x + 1.3 * width and y - 0.5 * height <= b <= y + 0.6 * height
        ]
        seen = person.attributes["head_seen"] >= HEAD_SEEN
        cases.append(Case(person.id, not worn if seen else None, tuple(worn) if seen else ()))
    return cases


def _no_vest(found: _Found, camera: Camera) -> list[Case]:
    cases = []
    for person in found.get("person", ()):
        torso = Polygon(((tuple(_ring(person, "torso")),),))
        size, worn, covered = area(torso), [], 0.0
        for vest in found.get("vest", ()):
            assert vest.shape is not None
            if iou(_box(vest), bounding_box(torso)) == 0:
                continue
            overlap = iou(vest.shape, torso)
            common = overlap * (area(vest.shape) + size) / (1 + overlap)
            if common > 0.1 * size:
                worn.append(vest.id)
                covered += common
        seen = person.attributes["torso_seen"]
        if covered >= COVERED * size * max(seen, 0.3):
            cases.append(Case(person.id, False, tuple(worn)))
        else:
            cases.append(Case(person.id, True if seen >= TORSO_SEEN else None))
    return cases


def _feet(person: Annotation) -> Pair:
    x, y = person.attributes["foot"]
    return float(x), float(y)


def _climbed(person: Annotation, found: _Found, camera: Camera) -> str | None:
    """The ladder or scaffold that the person is on. Somebody on the floor behind it may be seen at the same height,
    but is further away and so looks smaller than anybody on it could be."""
    x, y = _feet(person)
    trunk = _trunk(person)
    for ladder in found.get("ladder", ()):
        ring = _ring(ladder, "outline")
        left, right = min(a for a, _ in ring), max(a for a, _ in ring)
        top, foot = min(b for _, b in ring), max(b for _, b in ring)
        metre = camera.scale(camera.ground(0.0, foot)[1])
        up = left - 0.1 * metre <= x <= right + 0.1 * metre and top <= y < foot - CLIMBED * metre
        if up and trunk >= TRUNK * metre:
            return ladder.id
    return None


def _trunk(person: Annotation) -> float:
    """How long the trunk is in pixels."""
    a, b, c, d = _ring(person, "torso")
    return (math.dist(a, d) + math.dist(b, c)) / 2


def _aloft(person: Annotation, camera: Camera) -> bool:
    """Whether somebody is above the floor, by the trunk alone: too long for where the feet would stand."""
    _, depth = camera.ground(*_feet(person))
    return _trunk(person) > LONGEST_TRUNK * camera.scale(depth)


def _in_zone(found: _Found, camera: Camera) -> list[Case]:
    cases = []
    zones, hidden = found.get("zone", ()), bool(_unseen(found, "zone"))
    for person in found.get("person", ()) if zones or hidden else ():
        if _climbed(person, found, camera) or _aloft(person, camera):
            cases.append(Case(person.id, False))
            continue
        feet, outlines = _feet(person), {zone.id: _ring(zone, "outline") for zone in zones}
        within = {id: _inside(feet, ring) for id, ring in outlines.items()}
        unsure = {id for id, ring in outlines.items() if _to_border(feet, ring) < ZONE_MARGIN}
        cases.append(_case(person, [id for id in within if within[id] and id not in unsure], bool(unsure) or hidden))
    return cases


def _case(person: Annotation, sure: Sequence[str], unsure: bool) -> Case:
    """The case of somebody who breaks the rule with these; nobody can tell where the feet are hidden or, unless one is
    sure, any is unsure."""
    if not person.attributes["foot_seen"] or (unsure and not sure):
        return Case(person.id, None)
    return Case(person.id, bool(sure), tuple(sure))


def _near_vehicle(found: _Found, camera: Camera) -> list[Case]:
    cases = []
    vehicles, hidden = found.get("vehicle", ()), bool(_unseen(found, "vehicle"))
    for person in found.get("person", ()) if vehicles or hidden else ():
        if _climbed(person, found, camera) or _aloft(person, camera):
            cases.append(Case(person.id, False))
            continue
        stands, away = camera.ground(*_feet(person)), {}
        for vehicle in vehicles:
            floor = [camera.ground(*corner) for corner in _ring(vehicle, "footprint")]
            away[vehicle.id] = 0.0 if _inside(stands, floor) else _to_border(stands, floor)
        near = [id for id, metres in away.items() if metres < NEAR_VEHICLE - VEHICLE_MARGIN]
        unsure = hidden or any(metres < NEAR_VEHICLE + VEHICLE_MARGIN for metres in away.values())
        cases.append(_case(person, near, unsure))
    return cases


def _to_border(point: Pair, ring: Sequence[Pair]) -> float:
    """From a point to the nearest side of a ring."""
    least = math.inf
    for (ax, ay), (bx, by) in zip(ring, [*ring[1:], ring[0]], strict=True):
        dx, dy = bx - ax, by - ay
        along = ((point[0] - ax) * dx + (point[1] - ay) * dy) / max(dx * dx + dy * dy, 1e-12)
        along = min(1.0, max(0.0, along))
        least = min(least, math.hypot(point[0] - ax - along * dx, point[1] - ay - along * dy))
    return least


def _no_rope(found: _Found, camera: Camera) -> list[Case]:
    cases = []
    for person in found.get("person", ()):
        ladder = _climbed(person, found, camera)
        if ladder is None and not _aloft(person, camera):
            continue
        torso = _ring(person, "torso")
        x, y = sum(a for a, _ in torso) / len(torso), sum(b for _, b in torso) / len(torso)
        wide = [(x + 1.2 * (a - x), y + 1.2 * (b - y)) for a, b in torso]
        tied = [r.id for r in found.get("rope", ()) if any(_inside(end, wide) for end in _ring(r, "ends"))]
        seen = person.attributes["torso_seen"] >= TORSO_SEEN and ladder is not None and not _unseen(found, "rope")
        involved = (*tied,) if ladder is None else (ladder, *tied)  # without it nobody can tell what somebody is up on
        cases.append(Case(person.id, False if tied else True if seen else None, involved))
    return cases


def _present(label: str) -> Callable[[_Found, Camera], list[Case]]:
    return lambda found, _: [*(Case(thing.id, True) for thing in found.get(label, ())), *_unseen(found, label)]


def _blocked_exit(found: _Found, camera: Camera) -> list[Case]:
    cases = _unseen(found, "exit")
    hidden = bool(_unseen(found, "crate", "vehicle"))
    for exit in found.get("exit", ()):
        door = _ring(exit, "outline")
        left, right = min(x for x, _ in door), max(x for x, _ in door)
        depth = camera.ground(0.0, max(y for _, y in door))[1]
        blocking = []
        for thing in (*found.get("crate", ()), *found.get("vehicle", ())):
            corners = _ring(thing, "footprint")
            far = max(camera.ground(x, y)[1] for x, y in corners)
            # The far edge of the thing is compared with the door as it would stand in the wall.
            at = [(camera.ground(x, y)[0] * camera.scale(depth) + camera.width / 2) for x, y in corners]
            across = min(right, max(at)) - max(left, min(at))
            if depth - far < NEAR_EXIT and across > ACROSS * (right - left):
                blocking.append(thing.id)
        seen = 1 - exit.attributes["hidden"] >= EXIT_SEEN and not hidden
        cases.append(Case(exit.id, True if blocking else False if seen else None, tuple(blocking)))
    return cases


def _missing_extinguisher(found: _Found, camera: Camera) -> list[Case]:
    cases = _unseen(found, "extinguisher sign")
    for sign in found.get("extinguisher sign", ()):
        place = _ring(sign, "place")
        there = [e.id for e in found.get("extinguisher", ()) if _inside(_centre(_box(e)), place)]
        seen = sign.attributes["place_seen"] >= PLACE_SEEN
        cases.append(Case(sign.id, False if there else True if seen else None, tuple(there)))
    return cases


_RULES: dict[str, tuple[Scene, Callable[[_Found, Camera], list[Case]]]] = {
    "no helmet": ("personnel", _no_helmet),
    "no vest": ("personnel", _no_vest),
    "in marked zone": ("personnel", _in_zone),
    "near vehicle": ("personnel", _near_vehicle),
    "climbing without rope": ("personnel", _no_rope),
    "spill": ("environment", _present("spill")),
    "smoke": ("environment", _present("smoke")),
    "fire": ("environment", _present("fire")),
    "blocked exit": ("environment", _blocked_exit),
    "missing extinguisher": ("environment", _missing_extinguisher),
}
RULES = tuple(_RULES)
