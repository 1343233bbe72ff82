"""People at work: postures, clothes, helmets, vests, and what only looks like them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ..annotation.shapes import Pair
from .chance import Chance, Colour
from .picture import Picture, Piece, lit

__all__ = ["HEAD", "HEADWEAR", "Person", "draw_person", "helmet_place", "random_look"]

HEAD = 0.25  # metres from chin to crown
HEADWEAR = ("helmet", "cap", "hair", "hood", "held")  # held: bareheaded, the helmet in a hand
HELMETS: tuple[Colour, ...] = (
    (245, 200, 30), (240, 240, 235), (40, 90, 190), (210, 45, 35), (240, 120, 20), (40, 150, 80),
)  # fmt: skip
VESTS: tuple[Colour, ...] = ((245, 115, 25), (205, 235, 40), (250, 90, 40))
CLOTH: tuple[Colour, ...] = (
    (40, 55, 95), (70, 75, 80), (110, 60, 50), (35, 70, 60), (150, 150, 150), (60, 45, 75), (190, 185, 170),
)  # fmt: skip
LOUD: tuple[Colour, ...] = ((235, 110, 35), (215, 200, 45), (200, 40, 40), (190, 215, 50))  # shirts like vests
SKIN: tuple[Colour, ...] = ((233, 190, 160), (200, 145, 110), (150, 100, 70), (95, 62, 45))
SILVER: Colour = (215, 218, 220)


@dataclass(frozen=True)
class Person:
    """Somebody in the scene. x, depth, lift: where the feet are, in metres; tall: body height in metres.

    posture: stand, walk, bend, crouch, climb; facing: 1 right, -1 left. vest: worn or not; shirt: colour beneath.
    rope: a rope runs from the back up to an anchor `anchor` metres above the floor (climbers alone).
    """

    x: float
    depth: float
    lift: float
    tall: float
    posture: str
    facing: int
    headwear: str
    helmet: Colour
    vest: bool
    vest_colour: Colour
    shirt: Colour
    trousers: Colour
    skin: Colour
    hair: Colour
    bucket: bool = False
    rope: bool = False
    anchor: float = 0.0


def random_look(chance: Chance, difficulty: float) -> dict[str, Colour | float | int]:
    """Body height, facing and colours; the harder, the more shirts that look like vests."""
    loud = chance.flag(0.15 + 0.45 * difficulty)
    return {
        "tall": chance.between(1.55, 1.95), "facing": chance.pick((-1, 1)),
        "helmet": chance.tint(chance.pick(HELMETS), 18), "vest_colour": chance.tint(chance.pick(VESTS), 18),
        "shirt": chance.tint(chance.pick(LOUD if loud else CLOTH), 16),
        "trousers": chance.tint(chance.pick(CLOTH), 14), "skin": chance.tint(chance.pick(SKIN), 10),
        "hair": chance.tint(chance.pick(((35, 25, 20), (90, 60, 30), (20, 20, 22), (130, 125, 120))), 10),
    }  # fmt: skip


@dataclass(frozen=True)
class _Body:
    """The joints in local metres (to the front of the person, up from the feet's floor), and how they become pixels."""

    person: Person
    picture: Picture
    hip: Pair
    lean: float  # of the trunk, radians to the front

    def pixel(self, front: float, up: float) -> Pair:
        person = self.person
        return self.picture.camera.project(person.x + person.facing * front, person.lift + up, person.depth)

    def trunk(self, along: float, across: float) -> Pair:
        """A point of the trunk in pixels: `along` its axis from the hip, `across` to the front of it."""
        sin, cos = math.sin(self.lean), math.cos(self.lean)
        return self.pixel(self.hip[0] + along * sin + across * cos, self.hip[1] + along * cos - across * sin)


_STANCES = {  # posture: height of the hip, lean, front of the two feet, of the two hands (front, up from the hip)
    "stand": (0.50, 0.03, (-0.07, 0.08), ((-0.16, 0.02), (0.2, 0.02))),
    "walk": (0.48, 0.10, (-0.24, 0.26), ((-0.22, 0.06), (0.28, 0.1))),
    "bend": (0.49, 0.95, (-0.12, 0.14), ((0.42, -0.28), (0.5, -0.2))),
    "crouch": (0.27, 0.40, (-0.12, 0.16), ((0.35, -0.08), (0.42, 0.02))),
    "climb": (0.48, 0.06, (-0.06, 0.16), ((0.2, 0.52), (0.24, 0.38))),
}


def draw_person(picture: Picture, person: Person) -> Piece:
    """Draw somebody with helmet, vest and rope as pieces of their own; the piece of the person.

    Its attributes hold the body as it is before anything hides it, in pixels: `head` [x, y, width, height], `torso`
    four corners, `foot` [x, y].
    """
    size = person.tall
    high, lean, feet, hands = _STANCES[person.posture]
    body = _Body(person, picture, (0.0 if person.posture != "bend" else -0.1, high * size), lean)
    scale = picture.camera.scale(person.depth)
    if person.lift == 0:
        picture.shadow(person.x, person.depth, 0.38, 0.32, 0.5)
    piece = picture.start("person", "person")
    _legs(body, feet, scale)
    _arm(body, hands[0], scale, 0.85)
    _torso(body, piece, scale)
    vest = _vest(body, piece, scale) if person.vest else None
    picture.resume(piece)
    _head(body, piece, scale)
    helmet = _helmet(body, piece) if person.headwear == "helmet" else None
    picture.resume(piece)
    _arm(body, hands[1], scale, 1.0)
    hand = body.pixel(body.hip[0] + hands[1][0], body.hip[1] + hands[1][1] * size)
    if person.headwear == "held":
        helmet = picture.start("helmet", "held helmet", whole=0)
        _dome(picture, (hand[0], hand[1] + 0.1 * scale), 0.17 * scale, 0.15 * scale, 0.0, person)
        picture.finish(helmet)
    elif helmet is not None:
        helmet.total = picture.canvas.count(helmet.owner)
    if person.bucket:
        _bucket(picture, (hand[0], hand[1] + 0.04 * scale), scale, person.helmet)
    if vest is not None:
        vest.total = picture.canvas.count(vest.owner)
    foot = picture.camera.project(person.x, person.lift, person.depth)
    piece.attributes["foot"] = [round(foot[0], 2), round(foot[1], 2)]
    picture.finish(piece)
    if person.rope:
        _rope(body, piece, scale)
    return piece


def _legs(body: _Body, feet: tuple[float, float], scale: float) -> None:
    canvas, person = body.picture.canvas, body.person
    size = person.tall
    for number, front in enumerate(feet):
        colour = lit(person.trousers, 0.82 if number == 0 else 1.0)
        up = 0.22 * size if person.posture == "climb" and number else 0.05
        knee = (front * 0.75 + 0.08, body.hip[1] * 0.52 + up / 2)
        hip = body.pixel(body.hip[0] + (0.05 if number else -0.05), body.hip[1])
        canvas.line([hip, body.pixel(*knee), body.pixel(front, up)], 0.15 * scale, colour)
        canvas.ellipse(body.pixel(front + 0.05, up - 0.01), 0.13 * scale, 0.06 * scale, (38, 32, 28))


def _arm(body: _Body, hand: Pair, scale: float, light: float) -> None:
    canvas, person = body.picture.canvas, body.person
    shoulder = body.trunk(0.31 * person.tall, 0.13 if light == 1.0 else -0.13)
    end = body.pixel(body.hip[0] + hand[0], body.hip[1] + hand[1] * person.tall)
    bent = 0.05 * scale * person.facing
    elbow = ((shoulder[0] + end[0]) / 2 - bent, (shoulder[1] + end[1]) / 2 + 0.04 * scale)
    canvas.line([shoulder, elbow, end], 0.105 * scale, lit(person.shirt, light * 0.92))
    canvas.ellipse(end, 0.06 * scale, 0.06 * scale, lit(person.skin, light))


def _torso(body: _Body, piece: Piece, scale: float) -> None:
    size = body.person.tall
    corners = [
        body.trunk(0.345 * size, -0.2), body.trunk(0.345 * size, 0.2),
        body.trunk(-0.03, 0.17), body.trunk(-0.03, -0.17),
    ]  # fmt: skip
    body.picture.canvas.polygon(corners, body.person.shirt)
    body.picture.canvas.line([corners[0], corners[1]], 0.08 * scale, body.person.shirt)
    piece.attributes["torso"] = [[round(x, 2), round(y, 2)] for x, y in corners]


def _vest(body: _Body, piece: Piece, scale: float) -> Piece:
    """The vest: two panels of a loud colour over the shirt with bands that shine."""
    picture, person = body.picture, body.person
    size = person.tall
    vest = picture.start("vest", "vest", whole=piece.owner)
    picture.canvas.polygon(
        [
            body.trunk(0.35 * size, -0.19), body.trunk(0.36 * size, -0.06), body.trunk(0.29 * size, 0.02),
            body.trunk(0.36 * size, 0.1), body.trunk(0.35 * size, 0.19), body.trunk(0.01, 0.185),
            body.trunk(0.01, -0.185),
        ],
        person.vest_colour,
    )  # fmt: skip
    for along in (0.09, 0.2):
        ends = [body.trunk(along * size, -0.185), body.trunk(along * size, 0.185)]
        picture.canvas.line(ends, 0.055 * scale, SILVER)
    for across in (-0.12, 0.13):
        ends = [body.trunk(0.2 * size, across), body.trunk(0.34 * size, across)]
        picture.canvas.line(ends, 0.045 * scale, SILVER)
    return vest


def _head(body: _Body, piece: Piece, scale: float) -> None:
    canvas, person = body.picture.canvas, body.person
    along = 0.345 * person.tall + 0.17
    neck, centre = body.trunk(0.345 * person.tall, 0.02), body.trunk(along, 0.03)
    across, down = 0.095 * scale, HEAD / 2 * scale
    canvas.line([neck, centre], 0.09 * scale, lit(person.skin, 0.85))
    canvas.ellipse(centre, across, down, person.skin)
    box = [centre[0] - across, centre[1] - down, 2 * across, 2 * down]
    piece.attributes["head"] = [round(value, 2) for value in box]
    if person.headwear == "helmet":
        return
    if person.headwear == "cap":
        top = (centre[0], centre[1] - 0.35 * down)
        canvas.polygon(_arc(top, across * 1.05, down * 0.72), person.helmet)
        visor = (centre[0] + person.facing * 1.15 * across, centre[1] - 0.36 * down)
        canvas.ellipse(visor, 0.6 * across, 0.1 * down, lit(person.helmet, 0.8))
        return
    colour = person.hair if person.headwear != "hood" else lit(person.shirt, 0.8)
    canvas.polygon(
        _arc((centre[0] - person.facing * 0.12 * across, centre[1] - 0.1 * down), across * 1.08, down), colour
    )
    if person.headwear == "hood":
        back = (centre[0] - person.facing * 0.55 * across, centre[1] + 0.15 * down)
        canvas.ellipse(back, 0.62 * across, 0.95 * down, colour)


def _arc(centre: Pair, across: float, high: float) -> list[Pair]:
    """The upper half of an ellipse."""
    steps = [math.pi * step / 12 for step in range(13)]
    return [(centre[0] - across * math.cos(turn), centre[1] - high * math.sin(turn)) for turn in steps]


def _helmet(body: _Body, piece: Piece) -> Piece:
    helmet = body.picture.start("helmet", "worn helmet", whole=piece.owner)
    _dome(body.picture, *_on_head(piece.attributes["head"]), 0.5, body.person)
    return helmet


def _on_head(head: Sequence[float]) -> tuple[Pair, float, float]:
    """The centre, half width and height of the dome of a helmet on a head [x, y, width, height]."""
    x, y, width, height = head
    return (x + width / 2, y + 0.36 * height), 0.72 * width, 0.56 * height


def helmet_place(head: Sequence[float]) -> tuple[list[Pair], list[Pair]]:
    """The outline of where a helmet on a head would be, and of the head below it, which closes it."""
    centre, across, high = _on_head(head)
    x, y, width, height = head
    turns = [math.pi * step / 12 for step in range(13)]
    low = y + height - centre[1]
    return _arc(centre, across, high), [
        (centre[0] + 0.5 * width * math.cos(turn), centre[1] + low * math.sin(turn)) for turn in turns
    ]


def _dome(picture: Picture, centre: Pair, across: float, high: float, lean: float, person: Person) -> None:
    """A helmet: dome, ridge, brim."""
    colour = person.helmet
    picture.canvas.polygon(_arc(centre, across, high), colour)
    shine = (centre[0] - 0.2 * across, centre[1] - 0.2 * high)
    picture.canvas.polygon(_arc(shine, 0.32 * across, 0.62 * high), lit(colour, 1.14))
    brim = (centre[0] + person.facing * lean * 0.45 * across, centre[1] + 0.02 * high)
    picture.canvas.ellipse(brim, 1.16 * across, 0.17 * high, lit(colour, 0.86))


def _bucket(picture: Picture, hand: Pair, scale: float, colour: Colour) -> None:
    """A bucket in the colour of a helmet, carried by its handle."""
    piece = picture.start("", "bucket")
    x, y = hand
    top, low, deep = 0.13 * scale, 0.1 * scale, 0.26 * scale
    picture.canvas.line([(x - top, y + 0.12 * scale), hand, (x + top, y + 0.12 * scale)], 0.02 * scale, (90, 90, 90))
    y += 0.12 * scale
    picture.canvas.polygon([(x - top, y), (x + top, y), (x + low, y + deep), (x - low, y + deep)], colour)
    picture.canvas.ellipse((x, y), top, 0.035 * scale, lit(colour, 0.55))
    picture.finish(piece)


def _rope(body: _Body, piece: Piece, scale: float) -> None:
    """The lifeline: from the harness at the back to the anchor."""
    picture, person = body.picture, body.person
    tie = body.trunk(0.26 * person.tall, -0.1)
    anchor = picture.camera.project(person.x - person.facing * 0.25, person.anchor, person.depth)
    rope = picture.start("rope", "lifeline")
    sag = ((tie[0] + anchor[0]) / 2 - person.facing * 0.1 * scale, (tie[1] + anchor[1]) / 2)
    picture.canvas.line([tie, sag, anchor], max(0.05 * scale, 1.2), (225, 215, 60))
    rope.attributes["ends"] = [[round(value, 2) for value in point] for point in (tie, anchor)]
    picture.finish(rope)
    picture.resume(piece)
    corners = [body.trunk(0.34 * person.tall, -0.14), body.trunk(0.05, 0.14)]
    other = [body.trunk(0.34 * person.tall, 0.14), body.trunk(0.05, -0.14)]
    picture.canvas.line(corners, max(0.045 * scale, 1), (30, 30, 30))
    picture.canvas.line(other, max(0.045 * scale, 1), (30, 30, 30))
    picture.canvas.owner = 0
