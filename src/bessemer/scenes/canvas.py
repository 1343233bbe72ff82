"""What scenes are drawn on: twice the pixels, and beside the picture whose every pixel is, from which the truth is
read."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from ..annotation.shapes import Pair
from .chance import Chance, Colour

__all__ = ["HIDES", "SCALE", "Canvas", "smooth_noise"]

SCALE = 2  # edges are smooth because pictures are drawn at twice their size
HIDES = 0.6  # alpha above which what is behind steam or a glow can no longer be made out


def smooth_noise(chance: Chance, rows: int, columns: int, height: int, width: int) -> NDArray[np.float32]:
    """(height, width) float32 in about [0, 1]: a grid of rows x columns random values, interpolated."""
    coarse = Image.fromarray(chance.noise(rows, columns), mode="F")
    return np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC))


class Canvas:
    """A picture that knows its owners. Final.

    All coordinates are pixels of the finished picture, fractions allowed. What is drawn belongs to `owner`, a number
    from 1 to 255, or to nobody (0); what is shaded changes no owner.
    """

    def __init__(self, width: int, height: int) -> None:
        self.width, self.height = width, height
        self.image = Image.new("RGB", (width * SCALE, height * SCALE))
        self.owners = Image.new("L", self.image.size)
        self.owner = 0
        self._draw = ImageDraw.Draw(self.image)
        self._mark = ImageDraw.Draw(self.owners)

    def polygon(self, points: Sequence[Pair], colour: Colour) -> None:
        """A filled polygon."""
        scaled = [(SCALE * x, SCALE * y) for x, y in points]
        self._draw.polygon(scaled, fill=colour)
        self._mark.polygon(scaled, fill=self.owner)

    def ellipse(self, centre: Pair, across: float, down: float, colour: Colour) -> None:
        """A filled ellipse with these half axes."""
        box = _around(centre, across, down)
        self._draw.ellipse(box, fill=colour)
        self._mark.ellipse(box, fill=self.owner)

    def line(self, points: Sequence[Pair], width: float, colour: Colour) -> None:
        """A line with round ends, at least half a pixel wide."""
        scaled = [(SCALE * x, SCALE * y) for x, y in points]
        thick = max(1, round(SCALE * width))
        self._draw.line(scaled, fill=colour, width=thick, joint="curve")
        self._mark.line(scaled, fill=self.owner, width=thick, joint="curve")
        if thick > 3:
            for x, y in (scaled[0], scaled[-1]):
                box = (x - thick / 2, y - thick / 2, x + thick / 2, y + thick / 2)
                self._draw.ellipse(box, fill=colour)
                self._mark.ellipse(box, fill=self.owner)

    def claim(self, points: Sequence[Pair]) -> None:
        """Give a region to the owner without drawing."""
        self._mark.polygon([(SCALE * x, SCALE * y) for x, y in points], fill=self.owner)

    def shade(self, points: Sequence[Pair], colour: Colour, strength: float) -> None:
        """Blend a polygon into the picture; it keeps its owners."""
        window = self._window(points)
        if window is None:
            return
        left, top, right, bottom = window
        mask = Image.new("L", (right - left, bottom - top))
        shifted = [(SCALE * x - left, SCALE * y - top) for x, y in points]
        ImageDraw.Draw(mask).polygon(shifted, fill=round(255 * strength))
        self.image.paste(colour, window, mask)

    def soft_ellipse(
        self, centre: Pair, across: float, down: float, colour: Colour, strength: float, threshold: float = 1.0
    ) -> None:
        """A blot that fades towards its rim; pixels of more than `threshold` alpha become the owner's."""
        window = self._window([(centre[0] - across, centre[1] - down), (centre[0] + across, centre[1] + down)])
        if window is None:
            return
        left, top, right, bottom = window
        x = (np.arange(left, right, dtype=np.float32) / SCALE - centre[0]) / max(across, 0.5)
        y = (np.arange(top, bottom, dtype=np.float32) / SCALE - centre[1]) / max(down, 0.5)
        fade = np.clip(1 - (x[None, :] ** 2 + y[:, None] ** 2), 0, 1) * (255 * strength)
        self.image.paste(colour, window, Image.fromarray(fade.astype(np.uint8)))
        if strength > threshold:
            self.owners.paste(self.owner, window, Image.fromarray(((fade > 255 * threshold) * 255).astype(np.uint8)))

    def cloud(self, corner: Pair, colours: NDArray[np.uint8], alpha: NDArray[np.float32], threshold: float) -> None:
        """Blend a texture in, its top left at `corner`; pixels of more than `threshold` alpha become the owner's.

        colours: (rows, columns, 3); alpha: (rows, columns) in [0, 1]; both at SCALE times the picture's pixels.
        """
        x, y = round(SCALE * corner[0]), round(SCALE * corner[1])
        mask = Image.fromarray((np.clip(alpha, 0, 1) * 255).astype(np.uint8))
        self.image.paste(Image.fromarray(colours), (x, y), mask)
        self.owners.paste(self.owner, (x, y), Image.fromarray(((alpha > threshold) * 255).astype(np.uint8)))

    def changed(self, before: Image.Image) -> NDArray[np.float32]:
        """(height, width) by how many grey levels each pixel is now another than in a copy of `image` made before."""
        now, then = (np.asarray(image.reduce(SCALE)).astype(np.float32) for image in (self.image, before))
        change: NDArray[np.float32] = np.abs(now - then).mean(axis=2)
        return change

    def count(self, owner: int) -> int:
        """How many (small) pixels an owner has now."""
        return int(np.count_nonzero(np.asarray(self.owners) == owner))

    def small(self) -> tuple[Image.Image, NDArray[np.uint8]]:
        """The finished picture, and the owners of its small pixels, (2 height, 2 width)."""
        return self.image.reduce(SCALE), np.array(self.owners)

    def _window(self, points: Sequence[Pair]) -> tuple[int, int, int, int] | None:
        xs, ys = [SCALE * x for x, _ in points], [SCALE * y for _, y in points]
        left, top = max(0, int(min(xs))), max(0, int(min(ys)))
        right, bottom = min(self.image.width, int(max(xs)) + 2), min(self.image.height, int(max(ys)) + 2)
        return (left, top, right, bottom) if right > left and bottom > top else None


def _around(centre: Pair, across: float, down: float) -> tuple[float, float, float, float]:
    x, y = SCALE * centre[0], SCALE * centre[1]
    return x - SCALE * across, y - SCALE * down, x + SCALE * across, y + SCALE * down
