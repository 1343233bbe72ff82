"""Vehicles, ladders, scaffolds, exits, extinguishers and the clutter between them."""

from __future__ import annotations

from collections.abc import Sequence

from ..annotation.shapes import Pair
from .canvas import HIDES
from .chance import Chance, Colour
from .picture import Picture, Piece, lit

__all__ = [
    "BODIES", "VEHICLES", "draw_clutter", "draw_crate", "draw_exit", "draw_ladder", "draw_scaffold", "draw_station",
    "draw_vehicle", "rounded",
]  # fmt: skip

VEHICLES = {"forklift": (1.3, 2.2), "truck": (2.2, 5.0)}  # metres wide and long
BODIES: tuple[Colour, ...] = ((235, 175, 30), (225, 110, 30), (190, 45, 40), (60, 110, 160), (210, 210, 205))
WOOD: tuple[Colour, ...] = ((170, 125, 75), (150, 105, 60), (190, 150, 100))
DRUMS: tuple[Colour, ...] = ((40, 80, 150), (220, 95, 30), (60, 110, 70), (190, 40, 35), (235, 190, 40))
DARK: Colour = (32, 32, 36)
GREEN: Colour = (25, 140, 75)
RED: Colour = (200, 30, 30)


def rounded(points: Sequence[Pair]) -> list[list[float]]:
    """Points as JSON, to a hundredth of a pixel."""
    return [[round(x, 2), round(y, 2)] for x, y in points]


def _outline(points: Sequence[Pair]) -> list[list[float]]:
    """The upright rectangle around points, as four corners."""
    xs, ys = [x for x, _ in points], [y for _, y in points]
    return rounded([(min(xs), min(ys)), (max(xs), min(ys)), (max(xs), max(ys)), (min(xs), max(ys))])


def draw_vehicle(picture: Picture, kind: str, x: float, depth: float, colour: Colour) -> Piece:
    """A forklift (1.3 x 2.2 m) or a truck (2.2 x 5 m) whose front stands at `depth`; attribute `footprint`: the four
    corners of the floor under it, in pixels, the two nearest to the camera first."""
    wide, long = VEHICLES[kind]
    x0, x1, near, far = x - wide / 2, x + wide / 2, depth, depth + long
    picture.shadow(x, depth + 0.3, wide * 0.75, 0.8, 0.6)
    floor = picture.floor([(x0, near), (x1, near), (x1, far), (x0, far)])
    piece = picture.start("vehicle", kind, {"footprint": rounded(floor)})
    (_forklift if kind == "forklift" else _truck)(picture, (x0, x1), (near, far), colour)
    picture.finish(piece)
    return piece


def _wheels(picture: Picture, x: tuple[float, float], near: float, radius: float) -> None:
    scale = picture.camera.scale(near)
    for side in x:
        inner = side + (0.16 if side == x[0] else -0.16)
        centre = picture.camera.project(inner, radius, near)
        picture.canvas.ellipse(centre, 0.14 * scale, radius * scale, DARK)
        picture.canvas.ellipse(centre, 0.05 * scale, radius * 0.45 * scale, (120, 120, 120))


def _forklift(picture: Picture, x: tuple[float, float], depth: tuple[float, float], colour: Colour) -> None:
    (x0, x1), (near, far) = x, depth
    canvas, scale = picture.canvas, picture.camera.scale(near)
    picture.block(x, (0.18, 1.05), (near + 0.35, far), colour)
    middle = (x0 + x1) / 2
    roof = picture.quad(x0 + 0.08, x1 - 0.08, 2.05, 2.15, near + 0.6)
    for side in (x0 + 0.1, x1 - 0.1):
        for back in (far - 0.4, near + 0.6):
            post = [picture.camera.project(side, up, back) for up in (1.0, 2.1)]
            canvas.line(post, 0.06 * scale, DARK)
    seat = picture.quad(middle - 0.25, middle + 0.25, 1.0, 1.55, far - 0.7)
    canvas.polygon(seat, (45, 45, 50))
    picture.block((x0 + 0.08, x1 - 0.08), (2.05, 2.15), (near + 0.5, far - 0.3), lit(colour, 0.8))
    canvas.polygon(roof, lit(colour, 0.7))
    for side in (middle - 0.3, middle + 0.3):
        canvas.line(picture.quad(side, side, 0.1, 2.5, near + 0.2)[1:3], 0.1 * scale, (60, 60, 64))
    for up in (0.9, 1.7, 2.4):
        canvas.line(picture.quad(middle - 0.3, middle + 0.3, up, up, near + 0.2)[:2], 0.06 * scale, (60, 60, 64))
    _wheels(picture, x, near + 0.3, 0.3)
    for side in (middle - 0.26, middle + 0.26):
        fork = [picture.camera.project(side, 0.12, near + 0.2), picture.camera.project(side, 0.08, near)]
        canvas.line(fork, 0.11 * scale, (85, 85, 90))


def _truck(picture: Picture, x: tuple[float, float], depth: tuple[float, float], colour: Colour) -> None:
    (x0, x1), (near, far) = x, depth
    canvas = picture.canvas
    picture.block(x, (0.5, 3.0), (near + 1.6, far), (205, 205, 200))
    picture.block((x0 + 0.08, x1 - 0.08), (0.35, 2.35), (near, near + 1.5), colour)
    canvas.polygon(picture.quad(x0 + 0.22, x1 - 0.22, 1.4, 2.15, near), (70, 95, 110))
    canvas.polygon(picture.quad(x0 + 0.3, x0 + 0.9, 1.5, 2.1, near), (105, 130, 145))
    canvas.polygon(picture.quad(x0 + 0.6, x1 - 0.6, 0.7, 1.1, near), lit(colour, 0.55))
    for side in (x0 + 0.32, x1 - 0.32):
        centre = picture.camera.project(side, 0.8, near)
        scale = picture.camera.scale(near)
        canvas.ellipse(centre, 0.13 * scale, 0.1 * scale, (250, 245, 210))
    canvas.polygon(picture.quad(x0 + 0.05, x1 - 0.05, 0.35, 0.5, near), DARK)
    _wheels(picture, x, near, 0.4)


def draw_ladder(picture: Picture, x: float, depth: float, high: float, colour: Colour) -> Piece:
    """A ladder 0.5 m wide; attribute `outline`: its four corners."""
    canvas, scale = picture.canvas, picture.camera.scale(depth)
    picture.shadow(x, depth, 0.35, 0.2)
    corners = picture.quad(x - 0.25, x + 0.25, 0.0, high, depth)
    piece = picture.start("ladder", "ladder", {"outline": rounded(corners)})
    for rung in range(1, round(high / 0.32)):
        ends = picture.quad(x - 0.25, x + 0.25, rung * 0.32, rung * 0.32, depth)[:2]
        canvas.line(ends, max(0.04 * scale, 0.8), lit(colour, 0.8))
    for side in (0, 1):
        canvas.line([corners[side], corners[3 - side]], max(0.07 * scale, 1.2), colour)
    picture.finish(piece)
    return piece


def draw_scaffold(picture: Picture, x: float, depth: float, floors: int, colour: Colour) -> Piece:
    """A scaffold 2.4 m wide whose platforms are 1.9 m apart; attribute `outline`: its four corners."""
    canvas, scale = picture.canvas, picture.camera.scale(depth)
    picture.shadow(x, depth, 1.4, 0.3)
    high = 1.9 * floors + 1.0
    corners = picture.quad(x - 1.2, x + 1.2, 0.0, high, depth)
    piece = picture.start("ladder", "scaffold", {"outline": rounded(corners)})
    for back, light in ((depth + 0.9, 0.6), (depth, 1.0)):
        for side in (-1.2, 0.0, 1.2):
            post = [picture.camera.project(x + side, up, back) for up in (0.0, high)]
            canvas.line(post, max(0.06 * scale, 1.0), lit(colour, light))
    for number in range(1, floors + 1):
        up = 1.9 * number
        picture.block((x - 1.25, x + 1.25), (up - 0.08, up), (depth, depth + 0.9), (150, 115, 70))
        rail = picture.quad(x - 1.2, x + 1.2, up + 0.9, up + 0.9, depth)[:2]
        canvas.line(rail, max(0.04 * scale, 0.8), lit(colour, 0.9))
        low = up - 1.9
        brace = [picture.camera.project(x - 1.2, low, depth), picture.camera.project(x, up, depth)]
        canvas.line(brace, max(0.04 * scale, 0.8), lit(colour, 0.8))
    picture.finish(piece)
    return piece


def draw_exit(picture: Picture, x: float, depth: float, chance: Chance) -> Piece:
    """A door in the back wall with a green sign above it; attribute `outline`: the door's four corners."""
    canvas = picture.canvas
    door = picture.quad(x - 0.55, x + 0.55, 0.0, 2.1, depth)
    piece = picture.start("exit", "emergency exit", {"outline": rounded(door)})
    colour = chance.tint(chance.pick(((120, 130, 125), (165, 160, 150), (70, 110, 95), (150, 75, 60))), 15)
    canvas.polygon(picture.quad(x - 0.65, x + 0.65, 0.0, 2.2, depth), lit(colour, 0.6))
    canvas.polygon(door, colour)
    canvas.polygon(picture.quad(x - 0.25, x + 0.25, 1.35, 1.9, depth), lit(colour, 1.3))
    scale = picture.camera.scale(depth)
    canvas.line(picture.quad(x - 0.4, x + 0.4, 1.05, 1.05, depth)[:2], 0.06 * scale, (190, 190, 185))
    canvas.polygon(picture.quad(x - 0.5, x + 0.5, 2.3, 2.65, depth), GREEN)
    canvas.polygon(picture.quad(x - 0.42, x - 0.08, 2.37, 2.58, depth), (235, 245, 235))
    arrow = [picture.camera.project(x + side, up, depth) for side, up in ((0.05, 2.36), (0.4, 2.475), (0.05, 2.6))]
    canvas.polygon(arrow, (235, 245, 235))
    picture.finish(piece)
    return piece


def draw_station(picture: Picture, x: float, depth: float, present: bool, lookalike: str) -> None:
    """The sign of a fire extinguisher on the wall, and below it the extinguisher, nothing, or something else that is
    red; attribute `place` of the sign: where the extinguisher belongs, four corners."""
    canvas, chance = picture.canvas, picture.chance
    place = picture.quad(x - 0.3, x + 0.3, 0.25, 1.45, depth)
    sign = picture.start("extinguisher sign", "extinguisher sign", {"place": rounded(place)})
    canvas.polygon(picture.quad(x - 0.22, x + 0.22, 1.7, 2.14, depth), RED)
    canvas.polygon(picture.quad(x - 0.12, x - 0.0, 1.76, 2.0, depth), (240, 235, 235))
    canvas.polygon(picture.quad(x + 0.05, x + 0.14, 1.86, 2.06, depth), (240, 235, 235))
    picture.finish(sign)
    if present:
        piece = picture.start("extinguisher", "extinguisher")
        scale = picture.camera.scale(depth)
        red = chance.tint(RED, 14)
        canvas.polygon(picture.quad(x - 0.13, x + 0.13, 0.5, 1.08, depth), red)
        canvas.polygon(picture.quad(x - 0.13, x - 0.06, 0.5, 1.08, depth), lit(red, 1.25))
        canvas.ellipse(picture.camera.project(x, 1.08, depth), 0.13 * scale, 0.08 * scale, red)
        canvas.polygon(picture.quad(x - 0.05, x + 0.05, 1.12, 1.26, depth), DARK)
        hose = ((0.04, 1.2), (0.2, 1.12), (0.19, 0.72))
        points = [picture.camera.project(x + side, up, depth) for side, up in hose]
        canvas.line(points, 0.045 * scale, DARK)
        canvas.polygon(picture.quad(x - 0.1, x + 0.1, 0.72, 0.9, depth), (230, 225, 215))
        picture.finish(piece)
    elif lookalike == "bucket":
        piece = picture.start("", "red fire bucket")
        corners = ((-0.17, 0.9), (0.17, 0.9), (0.12, 0.58), (-0.12, 0.58))
        canvas.polygon([picture.camera.project(x + side, up, depth) for side, up in corners], chance.tint(RED, 14))
        picture.finish(piece)
    elif lookalike == "pipe":
        piece = picture.start("", "red pipe")
        canvas.polygon(picture.quad(x + 0.2, x + 0.3, 0.0, 3.2, depth), chance.tint(RED, 14))
        picture.finish(piece)


def draw_crate(picture: Picture, x: float, depth: float, wide: float, high: float) -> Piece:
    """A wooden crate; attribute `footprint` as of a vehicle."""
    picture.shadow(x, depth + 0.1, wide * 0.7, 0.4, 0.5)
    x0, x1, far = x - wide / 2, x + wide / 2, depth + 0.8 * wide
    floor = picture.floor([(x0, depth), (x1, depth), (x1, far), (x0, far)])
    piece = picture.start("crate", "crate", {"footprint": rounded(floor)})
    colour = picture.chance.tint(picture.chance.pick(WOOD), 14)
    picture.block((x0, x1), (0.0, high), (depth, far), colour)
    scale = picture.camera.scale(depth)
    for up in (0.06, 0.5, 0.94):
        canvas_line = picture.quad(x0, x1, up * high, up * high, depth)[:2]
        picture.canvas.line(canvas_line, 0.06 * scale, lit(colour, 0.7))
    cross = [picture.camera.project(x0, 0.06 * high, depth), picture.camera.project(x1, 0.94 * high, depth)]
    picture.canvas.line(cross, 0.06 * scale, lit(colour, 0.75))
    picture.finish(piece)
    return piece


def draw_clutter(picture: Picture, kind: str, x: float, depth: float) -> None:
    """One of: cone, barrel, bucket, orange sign, shelf, cabinet, pillar, pallet, lamp. None has a label."""
    canvas, chance, camera = picture.canvas, picture.chance, picture.camera
    scale = camera.scale(depth)
    picture.shadow(x, depth, 0.35 if kind not in ("shelf", "pallet") else 0.9, 0.25)
    piece = picture.start("", kind)
    if kind == "cone":
        points = [
            camera.project(x + side, up, depth) for side, up in ((-0.2, 0.0), (0.2, 0.0), (0.04, 0.7), (-0.04, 0.7))
        ]
        canvas.polygon(points, (235, 95, 25))
        for low, high, half in ((0.22, 0.36, 0.13), (0.46, 0.56, 0.08)):
            canvas.polygon(picture.quad(x - half, x + half, low, high, depth), (235, 235, 230))
    elif kind == "barrel":
        colour = chance.tint(chance.pick(DRUMS), 14)
        canvas.polygon(picture.quad(x - 0.29, x + 0.29, 0.04, 0.88, depth), colour)
        canvas.polygon(picture.quad(x - 0.29, x - 0.12, 0.04, 0.88, depth), lit(colour, 1.2))
        canvas.polygon(picture.quad(x + 0.16, x + 0.29, 0.04, 0.88, depth), lit(colour, 0.72))
        flat = 0.29 * scale * min(1.0, camera.rise / depth)
        canvas.ellipse(camera.project(x, 0.04, depth), 0.29 * scale, flat * 0.5, lit(colour, 0.8))
        canvas.ellipse(camera.project(x, 0.88, depth), 0.29 * scale, flat * 0.5, lit(colour, 1.3))
    elif kind == "bucket":
        colour = chance.tint(chance.pick(((240, 200, 40), (235, 235, 225), (50, 90, 180), (230, 110, 30))), 14)
        corners = ((-0.13, 0.0), (0.13, 0.0), (0.17, 0.3), (-0.17, 0.3))
        canvas.polygon([camera.project(x + side, up, depth) for side, up in corners], colour)
        canvas.ellipse(camera.project(x, 0.3, depth), 0.17 * scale, 0.05 * scale, lit(colour, 0.6))
    elif kind == "orange sign":
        canvas.line(picture.quad(x, x, 0.0, 1.3, depth)[1:3], 0.06 * scale, (90, 90, 90))
        canvas.polygon(picture.quad(x - 0.32, x + 0.32, 1.0, 1.62, depth), chance.tint((245, 120, 30), 12))
        canvas.polygon(picture.quad(x - 0.2, x + 0.2, 1.18, 1.26, depth), DARK)
        canvas.polygon(picture.quad(x - 0.2, x + 0.2, 1.36, 1.44, depth), DARK)
    elif kind == "lamp":
        canvas.line(picture.quad(x, x, 0.0, 1.5, depth)[1:3], 0.05 * scale, DARK)
        canvas.soft_ellipse(camera.project(x, 1.6, depth), 0.75 * scale, 0.75 * scale, (255, 190, 80), 0.75, HIDES)
        canvas.ellipse(camera.project(x, 1.6, depth), 0.17 * scale, 0.13 * scale, (255, 235, 170))
    else:
        _block_clutter(picture, kind, x, depth)
    picture.finish(piece)


def _block_clutter(picture: Picture, kind: str, x: float, depth: float) -> None:
    chance = picture.chance
    if kind == "pillar":
        colour = chance.tint((150, 150, 145), 20)
        picture.block((x - 0.25, x + 0.25), (0.0, 5.0), (depth, depth + 0.5), colour)
        for number in range(4):
            band = (235, 190, 30) if number % 2 else DARK
            low = 0.2 + 0.25 * number
            picture.canvas.polygon(picture.quad(x - 0.25, x + 0.25, low, low + 0.25, depth), band)
    elif kind == "cabinet":
        picture.block((x - 0.5, x + 0.5), (0.0, 1.9), (depth, depth + 0.5), chance.tint((110, 125, 135), 25))
    elif kind == "pallet":
        wide = chance.between(0.9, 1.2)
        picture.block((x - wide / 2, x + wide / 2), (0.0, 0.16), (depth, depth + 1.0), chance.tint(WOOD[1], 15))
        for number in range(chance.whole(1, 5)):
            low, side = 0.16 + 0.22 * (number // 2), (number % 2 - 0.5) * wide / 2
            sacks = chance.tint((200, 190, 170), 14)
            picture.block((x + side - 0.24, x + side + 0.24), (low, low + 0.2), (depth + 0.1, depth + 0.8), sacks)
    else:
        post = chance.tint((50, 90, 150), 20)
        for up in (0.1, 1.0, 1.9):
            picture.block((x - 1.1, x + 1.1), (up, up + 0.08), (depth, depth + 0.7), (220, 120, 40))
            place = x - 1.0
            while place < x + 0.8:
                wide, high = chance.between(0.25, 0.5), chance.between(0.25, 0.7)
                colour = chance.tint(chance.pick((*WOOD, *DRUMS, (200, 195, 185))), 16)
                picture.block((place, place + wide), (up + 0.08, up + 0.08 + high), (depth + 0.1, depth + 0.5), colour)
                place += wide + chance.between(0.02, 0.3)
        for side in (-1.1, 1.1):
            line = picture.quad(x + side, x + side, 0.0, 2.8, depth)[1:3]
            picture.canvas.line(line, 0.08 * picture.camera.scale(depth), post)
