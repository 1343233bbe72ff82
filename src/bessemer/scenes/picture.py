"""A picture under construction: canvas, camera, choices, and every piece that was drawn with its label."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..annotation.shapes import Pair
from .camera import Camera
from .canvas import Canvas
from .chance import Chance, Colour

__all__ = ["Piece", "Picture", "lit"]

MOST_PIECES = 255  # owners are bytes


@dataclass
class Piece:
    """Something drawn. label: its class, "" for what is no object of the label set; kind: what it is ("bucket").

    attributes: what is known of it, pixel geometry before anything hides it among that. total: small pixels that it
    had when it was finished. whole: the piece that it is part of, or its own number. change: (height, width) by how
    many grey levels it changed the pixels, where that may be hardly any.
    """

    owner: int
    label: str
    kind: str
    attributes: dict[str, Any] = field(default_factory=dict)
    total: int = 0
    whole: int = 0
    change: NDArray[np.float32] | None = None


class Picture:
    """The pieces drawn so far. Final."""

    def __init__(self, camera: Camera, chance: Chance) -> None:
        self.camera, self.chance = camera, chance
        self.canvas = Canvas(camera.width, camera.height)
        self.pieces: list[Piece] = []

    def start(self, label: str, kind: str, attributes: dict[str, Any] | None = None, whole: int = 0) -> Piece:
        """Begin a piece: what is drawn from now on is its own. Clutter beyond 255 pieces belongs to nobody."""
        number = len(self.pieces) + 1
        if number > MOST_PIECES:
            self.canvas.owner = 0
            return Piece(0, "", kind)
        piece = Piece(number, label, kind, attributes or {}, 0, whole or number)
        self.pieces.append(piece)
        self.canvas.owner = number
        return piece

    def resume(self, piece: Piece) -> None:
        """What is drawn from now on belongs to this piece again."""
        self.canvas.owner = piece.owner

    def finish(self, piece: Piece) -> None:
        """Count the piece's pixels, its parts' included, before anything else hides them."""
        parts = [other.owner for other in self.pieces if other.owner == piece.owner or other.whole == piece.owner]
        piece.total = sum(self.canvas.count(owner) for owner in parts)
        self.canvas.owner = 0

    def quad(self, x0: float, x1: float, up0: float, up1: float, depth: float) -> list[Pair]:
        """An upright rectangle that faces the camera, in pixels."""
        corners = ((x0, up0), (x1, up0), (x1, up1), (x0, up1))
        return [self.camera.project(x, up, depth) for x, up in corners]

    def floor(self, points: Sequence[Pair]) -> list[Pair]:
        """Points (x, depth) of the floor, in pixels."""
        return [self.camera.project(x, 0.0, depth) for x, depth in points]

    def block(
        self, x: tuple[float, float], up: tuple[float, float], depth: tuple[float, float], colour: Colour
    ) -> list[list[Pair]]:
        """Draw a box-shaped solid: its top if seen from above, the side that is seen, its front. The faces drawn, the
        front last."""
        (x0, x1), (low, high), (near, far) = x, up, depth
        at = self.camera.project
        faces: list[tuple[list[Pair], float]] = []
        if high < self.camera.rise:
            faces.append(([at(x0, high, near), at(x1, high, near), at(x1, high, far), at(x0, high, far)], 1.12))
        edge = x0 if x0 > 0 else x1 if x1 < 0 else None
        if edge is not None:
            side = [at(edge, low, near), at(edge, low, far), at(edge, high, far), at(edge, high, near)]
            faces.append((side, 0.68))
        faces.append((self.quad(x0, x1, low, high, near), 0.9))
        for points, light in faces:
            self.canvas.polygon(points, lit(colour, light))
        return [points for points, _ in faces]

    def shadow(self, x: float, depth: float, across: float, along: float, strength: float = 0.45) -> None:
        """The soft shadow under a thing that stands on the floor."""
        column, row = self.camera.project(x, 0.0, depth)
        scale = self.camera.scale(depth)
        down = along * scale * self.camera.rise / depth
        self.canvas.soft_ellipse((column, row), across * scale, max(down, 1.0), (8, 8, 12), strength)


def lit(colour: Colour, light: float) -> Colour:
    """A colour in more or less light."""
    red, green, blue = (max(0, min(255, round(c * light))) for c in colour)
    return red, green, blue
