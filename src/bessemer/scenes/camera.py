"""Where the things of a scene are in the picture: a level pinhole camera above a flat floor, in metres and pixels."""

from __future__ import annotations

from dataclasses import dataclass

from ..annotation.shapes import Pair

__all__ = ["Camera"]


@dataclass(frozen=True)
class Camera:
    """A camera that looks level along the depth axis from `rise` metres above the floor.

    width, height: of the picture in pixels. focal: focal length in pixels. horizon: row of the horizon. World
    coordinates are metres: x to the right of the camera, up from the floor, depth away from the camera.
    """

    width: int
    height: int
    focal: float
    horizon: float
    rise: float

    def project(self, x: float, up: float, depth: float) -> Pair:
        """The pixel coordinates (column, row) of a point in front of the camera."""
        scale = self.focal / depth
        return self.width / 2 + scale * x, self.horizon + scale * (self.rise - up)

    def ground(self, column: float, row: float) -> Pair:
        """(x, depth) of the point of the floor that is seen at a pixel below the horizon."""
        depth = self.focal * self.rise / max(row - self.horizon, 1e-6)
        return (column - self.width / 2) * depth / self.focal, depth

    def scale(self, depth: float) -> float:
        """Pixels a metre at this depth."""
        return self.focal / depth

    def reach(self, depth: float) -> float:
        """Half the width in metres of what is in the picture at this depth."""
        return self.width / 2 * depth / self.focal
