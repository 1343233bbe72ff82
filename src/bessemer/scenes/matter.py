"""What has no firm outline: spilt liquid, wet floor, fire, smoke, steam."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from .canvas import HIDES, SCALE, smooth_noise
from .chance import Chance, Colour
from .picture import Picture, Piece, lit

__all__ = ["draw_fire", "draw_smoke", "draw_spill", "draw_steam", "draw_wet_floor"]

LIQUIDS: tuple[Colour, ...] = ((28, 24, 22), (58, 40, 24), (70, 92, 30), (95, 30, 28), (40, 60, 95))


def _blot(chance: Chance, x: float, depth: float, radius: float) -> list[tuple[float, float]]:
    """An uneven closed curve on the floor around (x, depth), in metres."""
    waves = [(chance.between(0.05, 0.28) / k, chance.between(0, 2 * math.pi), k) for k in (1, 2, 3, 4, 5, 7)]
    points = []
    for step in range(48):
        turn = 2 * math.pi * step / 48
        reach = radius * (1 + sum(size * math.sin(k * turn + phase) for size, phase, k in waves))
        points.append((x + reach * math.cos(turn), max(depth + reach * math.sin(turn), 1.0)))
    return points


def draw_spill(picture: Picture, x: float, depth: float, radius: float) -> Piece:
    """A pool of opaque liquid with a bright rim and some gloss."""
    chance, canvas = picture.chance, picture.canvas
    colour = chance.tint(chance.pick(LIQUIDS), 10)
    piece, before = picture.start("spill", "spill"), canvas.image.copy()
    outer = _blot(chance, x, depth, radius)
    canvas.polygon(picture.floor(outer), lit(colour, 1.45))
    inner = [(x + 0.95 * (a - x), depth + 0.93 * (b - depth)) for a, b in outer]
    canvas.polygon(picture.floor(inner), colour)
    for _ in range(chance.whole(0, 3)):
        a, b = x + chance.between(-1.6, 1.6) * radius, depth + chance.between(-1.3, 1.3) * radius
        drop = _blot(chance, a, max(b, 1.5), radius * chance.between(0.06, 0.16))
        canvas.polygon(picture.floor(drop), colour)
    for _ in range(chance.whole(1, 3)):
        a, b = x + chance.between(-0.5, 0.5) * radius, depth + chance.between(-0.5, 0.5) * radius
        gloss = picture.floor(_blot(chance, a, max(b, 1.5), radius * chance.between(0.1, 0.25)))
        canvas.shade(gloss, (235, 240, 245), chance.between(0.15, 0.4))
    picture.finish(piece)
    piece.change = canvas.changed(before)
    return piece


def draw_wet_floor(picture: Picture, x: float, depth: float, radius: float) -> None:
    """A film of water: the floor is seen through it, lights and dark things stand in it upside down."""
    chance, canvas = picture.chance, picture.canvas
    piece = picture.start("", "wet floor")
    outline = picture.floor(_blot(chance, x, depth, radius))
    canvas.shade(outline, (30, 36, 44), chance.between(0.3, 0.5))
    for _ in range(chance.whole(2, 5)):
        a, b = x + chance.between(-0.6, 0.6) * radius, max(depth + chance.between(-0.6, 0.4) * radius, 1.5)
        column, row = picture.camera.project(a, 0.0, b)
        wide, high = picture.camera.scale(b) * 0.07, picture.camera.scale(b) * chance.between(0.2, 0.5)
        canvas.soft_ellipse((column, row), wide, high / 2, (225, 232, 240), chance.between(0.3, 0.7))
    _claim_as_clutter(picture, piece, [x for x, _ in outline], [y for _, y in outline])


def _claim_as_clutter(picture: Picture, piece: Piece, xs: list[float], ys: list[float]) -> None:
    """See-through things own nothing, or only where they are thick; where all of them is, is kept apart."""
    box = [min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)]
    piece.attributes["box"] = [round(value, 2) for value in box]
    picture.finish(piece)


def draw_fire(picture: Picture, x: float, depth: float, up: float, high: float) -> Piece:
    """Flames `high` metres high with a glow around them."""
    chance, canvas, camera = picture.chance, picture.canvas, picture.camera
    scale = camera.scale(depth)
    wide = high * chance.between(0.55, 1.0)
    column, row = camera.project(x, up, depth)
    canvas.soft_ellipse(
        (column, row - 0.4 * high * scale), 1.7 * wide * scale, 1.3 * high * scale, (255, 130, 30), 0.35
    )
    piece, before = picture.start("fire", "fire"), canvas.image.copy()
    rows, columns = max(12, round(SCALE * high * scale)), max(10, round(SCALE * wide * scale))
    y = np.linspace(0, 1, rows, dtype=np.float32)[:, None]  # 0 the tip, 1 the foot
    sway = (smooth_noise(chance, 5, 2, rows, columns)[:, :1] - 0.5) * 0.5 * (1 - y)
    across = np.linspace(-1, 1, columns, dtype=np.float32)[None, :] + sway
    tongues = smooth_noise(chance, 3, 7, rows, columns) * 0.9 + smooth_noise(chance, 6, 12, rows, columns) * 0.5
    heat = 1.45 * y**0.8 - np.abs(across) ** 1.6 * (0.55 + 0.75 * (1 - y)) - 0.9 * tongues * (1 - 0.55 * y) + 0.22
    heat -= np.clip(y - 0.93, 0, 1) * 4
    stops = np.array([0.0, 0.25, 0.5, 0.75, 1.0], dtype=np.float32)
    ramp = np.array([[170, 35, 10], [235, 85, 15], [252, 150, 30], [255, 215, 90], [255, 250, 215]], np.float32)
    colours = np.stack([np.interp(heat, stops, ramp[:, c]) for c in range(3)], axis=-1).astype(np.uint8)
    alpha = np.clip(heat * 5, 0, 1).astype(np.float32)
    canvas.cloud((column - wide * scale / 2, row - high * scale), colours, alpha, 0.5)
    picture.finish(piece)
    piece.change = canvas.changed(before)
    return piece


def draw_smoke(picture: Picture, x: float, depth: float, up: float, high: float) -> Piece:
    """A dark plume that widens and drifts."""
    grey = picture.chance.whole(28, 95)
    piece, before = picture.start("smoke", "smoke"), picture.canvas.image.copy()
    _plume(picture, (x, depth, up, high), (grey + 8, grey + 3, grey), (1.0, 0.55), 0.42)
    picture.finish(piece)
    piece.change = picture.canvas.changed(before)
    return piece


def draw_steam(picture: Picture, x: float, depth: float, up: float, high: float) -> None:
    """White steam from a vent: it is thin and gone soon."""
    piece = picture.start("", "steam")
    picture.canvas.polygon(picture.quad(x - 0.12, x + 0.12, max(0.0, up - 0.5), up, depth), (105, 108, 110))
    _plume(picture, (x, depth, up, high), (232, 236, 238), (0.72, 0.8), HIDES)
    column, row = picture.camera.project(x, up, depth)
    half, tall = 0.35 * high * picture.camera.scale(depth), high * picture.camera.scale(depth)
    _claim_as_clutter(picture, piece, [column - half, column + half], [row - tall, row])


def _plume(
    picture: Picture,
    at: tuple[float, float, float, float],
    colour: Colour,
    density: tuple[float, float],
    threshold: float,
) -> None:
    """Puffs along a rising path, their union as one texture; thick parts belong to the owner. density: at the foot, and
    the share of it that is lost on the way up."""
    chance, camera, (dense, lost) = picture.chance, picture.camera, density
    x, depth, up, high = at
    scale = camera.scale(depth) * SCALE
    drift = chance.between(-0.5, 0.5)
    rows, columns = max(16, round(high * scale * 1.35)), max(16, round((0.9 + abs(drift)) * high * scale * 1.1))
    step = max(1, round(max(rows, columns) / 160))  # soft things need no fine grid
    y, xs = np.mgrid[0:rows:step, 0:columns:step].astype(np.float32)
    alpha: NDArray[np.float32] = np.zeros(y.shape, dtype=np.float32)
    for puff in range(16):
        share = puff / 15
        cy = rows * 0.97 - (0.85 * share + chance.normal(0.02)) * high * scale
        cx = columns * (0.5 + drift * (share - 0.5) * 0.8) + chance.normal(0.05) * columns * share
        radius = high * scale * (0.06 + 0.2 * share) * chance.between(0.75, 1.25)
        blob = np.clip(1.15 - ((y - cy) ** 2 + (xs - cx) ** 2) / radius**2, 0, 1)
        alpha = 1 - (1 - alpha) * (1 - blob * (1 - lost * share) * 0.75)
    small_rows, small_columns = alpha.shape
    grain = smooth_noise(chance, max(4, small_rows // 14), max(4, small_columns // 14), small_rows, small_columns)
    alpha = np.clip(alpha * dense * (0.55 + 0.7 * grain), 0, 0.97)
    light = (0.75 + 0.5 * smooth_noise(chance, 6, 6, small_rows, small_columns))[..., None]
    colours = np.clip(np.array(colour, dtype=np.float32) * light, 0, 255)
    alpha = alpha.repeat(step, 0).repeat(step, 1)
    whole = colours.repeat(step, 0).repeat(step, 1).astype(np.uint8)
    column, row = camera.project(x, up, depth)
    start = column - columns / SCALE * (0.5 - drift * 0.4)
    picture.canvas.cloud((start, row - rows / SCALE), whole, alpha.astype(np.float32), threshold)
