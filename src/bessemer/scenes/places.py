"""Where scenes happen: four kinds of place, markings on their floors, and the light that falls on everything."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from .camera import Camera
from .canvas import smooth_noise
from .chance import Chance, Colour
from .picture import Picture, Piece, lit
from .things import rounded

__all__ = ["PLACES", "draw_place", "draw_walkway", "draw_zone", "finish_light", "random_camera"]

PLACES = ("warehouse", "corridor", "building site", "yard")


def random_camera(chance: Chance, width: int, height: int) -> Camera:
    """A camera 2.1 to 3.4 m above the floor whose horizon lies in the upper half."""
    focal = width * chance.between(0.8, 1.15)
    return Camera(width, height, focal, height * chance.between(0.2, 0.38), chance.between(2.1, 3.4))


def draw_place(picture: Picture, place: str, wall: float) -> None:
    """Sky or ceiling, a wall at depth `wall` and the floor."""
    chance, canvas, camera = picture.chance, picture.canvas, picture.camera
    canvas.owner = 0
    width, height = camera.width, camera.height
    inside = place in ("warehouse", "corridor")
    over = (72, 74, 76) if inside else chance.pick(((150, 180, 205), (190, 195, 198), (120, 150, 190), (205, 190, 170)))
    canvas.polygon([(0, 0), (width, 0), (width, height), (0, height)], chance.tint(over, 14))
    floors: dict[str, Colour] = {
        "warehouse": (135, 133, 128), "corridor": (160, 152, 140), "building site": (146, 120, 90),
        "yard": (92, 94, 97),
    }  # fmt: skip
    _wall(picture, place, wall)
    foot = camera.project(0, 0, wall)[1]
    floor = chance.tint(floors[place], 22)
    canvas.polygon([(0, foot), (width, foot), (width, height), (0, height)], floor)
    _floor_marks(picture, place, wall, floor)
    _blotches(picture, foot)


def _wall(picture: Picture, place: str, wall: float) -> None:
    chance, canvas, camera = picture.chance, picture.canvas, picture.camera
    half = camera.reach(wall) * 1.1
    walls: dict[str, tuple[Colour, ...]] = {
        "warehouse": ((125, 135, 140), (150, 150, 140), (95, 110, 125)),
        "corridor": ((200, 195, 180), (170, 185, 180), (205, 205, 205)),
        "building site": ((160, 155, 148), (140, 130, 120)), "yard": ((150, 85, 65), (165, 160, 150), (120, 115, 110)),
    }  # fmt: skip
    colour = chance.tint(chance.pick(walls[place]), 16)
    high = 12.0 if place in ("warehouse", "corridor") else chance.between(3.6, 6.5)
    canvas.polygon(picture.quad(-half, half, 0.0, high, wall), colour)
    if place == "warehouse":
        step = chance.between(0.3, 0.6)
        for number in range(round(2 * half / step)):
            x = -half + number * step
            canvas.polygon(picture.quad(x, x + step * 0.35, 0.0, high, wall), lit(colour, 0.9))
    elif place == "corridor":
        canvas.polygon(picture.quad(-half, half, 0.0, 1.1, wall), lit(colour, chance.between(0.6, 0.85)))
        canvas.polygon(picture.quad(-half, half, 1.1, 1.18, wall), lit(colour, 0.5))
    elif place == "building site":
        for number in range(round(2 * half / 2.2)):
            x = -half + 2.2 * number
            for low in (0.9, 4.0):
                canvas.polygon(picture.quad(x + 0.5, x + 1.7, low, low + 1.5, wall), (62, 58, 56))
            canvas.polygon(picture.quad(x, x + 0.18, 0.0, high, wall), lit(colour, 0.82))
    else:
        for number in range(12):
            up = number * high / 12
            canvas.polygon(picture.quad(-half, half, up, up + 0.05, wall), lit(colour, 0.86))
        for _ in range(chance.whole(1, 3)):
            x = chance.between(-half, half)
            canvas.polygon(picture.quad(x, x + 1.4, 1.2, 2.4, wall), (60, 72, 84))


def _floor_marks(picture: Picture, place: str, wall: float, colour: Colour) -> None:
    chance, canvas, camera = picture.chance, picture.canvas, picture.camera
    near = camera.ground(0, camera.height)[1] * 0.9
    if place == "building site":
        for _ in range(30):
            depth = chance.between(near, wall)
            x = chance.between(-1, 1) * camera.reach(depth)
            at, size = camera.project(x, 0, depth), camera.scale(depth) * chance.between(0.04, 0.14)
            canvas.ellipse(at, size, size * 0.5, lit(colour, chance.between(0.7, 1.25)))
        return
    step = {"warehouse": 3.0, "corridor": 0.8, "yard": 4.0}[place]
    strength = {"warehouse": 0.25, "corridor": 0.3, "yard": 0.12}[place]
    lines = []
    depth = near + chance.share() * step
    while depth < wall:
        lines.append(((-40.0, depth), (40.0, depth)))
        depth += step
    reach = camera.reach(wall)
    x = -reach + chance.share() * step
    while x < reach:
        lines.append(((x, near), (x, wall)))
        x += step
    for start, end in lines:
        (a, b), (c, d) = picture.floor((start, end))
        thick = 0.7 if a != c else 0.5
        canvas.shade(
            [(a - 0.4, b - thick), (c + 0.4, d - thick), (c + 0.4, d + 0.4), (a - 0.4, b + 0.4)], (0, 0, 0), strength
        )


def _blotches(picture: Picture, foot: float) -> None:
    """Stains and wear over floor and wall, coarse noise."""
    canvas, chance = picture.canvas, picture.chance
    image = canvas.image
    coarse = smooth_noise(chance, 9, 12, 96, 96) * 0.6 + smooth_noise(chance, 40, 30, 96, 96) * 0.4
    dark = Image.fromarray((np.clip(coarse - 0.42, 0, 1) * 130).astype(np.uint8)).resize(image.size)
    image.paste((30, 28, 26), (0, 0), dark)


def draw_zone(picture: Picture, corners: list[tuple[float, float]], colours: tuple[Colour, Colour]) -> Piece:
    """A marked zone on the floor, its border striped in two colours; attribute `outline`: its corners in pixels."""
    canvas = picture.canvas
    outline = picture.floor(corners)
    piece = picture.start("zone", "marked zone", {"outline": rounded(outline)})
    canvas.claim(outline)
    canvas.shade(outline, colours[0], 0.13)
    for (ax, az), (bx, bz) in zip(corners, corners[1:] + corners[:1], strict=True):
        length = ((bx - ax) ** 2 + (bz - az) ** 2) ** 0.5
        dx, dz = (bx - ax) / length, (bz - az) / length
        count = max(2, round(length / 0.35))
        for number in range(count):
            start, end = number * length / count, (number + 1) * length / count
            strip = [
                (ax + dx * along - dz * side, max(az + dz * along + dx * side, 1.0))
                for along, side in ((start, 0.0), (end, 0.0), (end, 0.16), (start, 0.16))
            ]
            canvas.polygon(picture.floor(strip), colours[number % 2])
    picture.finish(piece)
    return piece


def draw_walkway(picture: Picture, x: float, near: float, far: float, colour: Colour) -> None:
    """Two plain lines on the floor, which mark a way to walk on and forbid nothing."""
    picture.canvas.owner = 0
    for side in (x - 0.6, x + 0.6):
        strip = [(side - 0.06, near), (side + 0.06, near), (side + 0.06, far), (side - 0.06, far)]
        picture.canvas.polygon(picture.floor(strip), colour)


def finish_light(image: Image.Image, chance: Chance, difficulty: float) -> tuple[Image.Image, NDArray[np.float32]]:
    """The picture as a camera takes it: uneven light, shadows, colour cast, exposure, haze, blur and grain, more of
    each the higher the difficulty; and (height, width) what is left of a difference of 1 between grey levels."""
    width, height = image.size
    blur = chance.between(0, 1.1) * difficulty
    if blur > 0.35:
        image = image.filter(ImageFilter.GaussianBlur(blur))
    pixels = np.asarray(image).astype(np.float32)
    uneven = smooth_noise(chance, 3, 3, height, width) - 0.5
    light = 1 + uneven * (0.25 + 0.75 * difficulty)
    if chance.flag(0.1 + 0.25 * difficulty):
        light *= _bars(chance, height, width)
    exposure = float(np.exp(chance.between(-0.75, 0.4) * difficulty))
    cast = [1 + chance.between(-0.16, 0.16) * (0.3 + difficulty) for _ in range(3)]
    pixels *= light[..., None] * (exposure * np.array(cast, dtype=np.float32))
    haze = chance.between(0, 0.35) * difficulty
    pixels = pixels * (1 - haze) + 175 * haze
    left: NDArray[np.float32] = light * np.float32(exposure * sum(cast) / 3 * (1 - haze))
    grain = chance.between(3, 8 + 22 * difficulty)
    pixels += (chance.noise(height, width) + chance.noise(height, width) - 1)[..., None] * grain
    coarse = Image.fromarray(chance.noise(height // 2, width // 2), mode="F").resize((width, height))
    pixels[..., 0] += (np.asarray(coarse) - 0.5) * grain
    pixels[..., 2] -= (np.asarray(coarse) - 0.5) * grain
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)), left


def _bars(chance: Chance, height: int, width: int) -> NDArray[np.float32]:
    """Slanting stripes of shadow, as a fence or a roof throws them."""
    slant, period = chance.between(-0.8, 0.8), width * chance.between(0.12, 0.45)
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    wave = np.sin((x + slant * y) * (2 * np.pi / period) + chance.between(0, 6.28))
    depth = np.float32(chance.between(0.2, 0.45))
    light: NDArray[np.float32] = 1 - depth * np.clip(wave * 3, 0, 1)
    return light
