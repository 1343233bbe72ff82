"""Shapes as targets of cells, worked by hand."""

from __future__ import annotations

import numpy as np
import pytest

from bessemer.annotation.cells import cell_targets
from bessemer.annotation.shapes import AnnotatedImage, Annotation, Box, Point, Polygon, Shape

LABELS = ("crack", "spill")


def picture(*things: tuple[str, Shape | None]) -> AnnotatedImage:
    """80 x 40 pixels: of 4 x 4 cells each is 20 x 10."""
    found = tuple(Annotation(f"a{i}", label, shape) for i, (label, shape) in enumerate(things))
    return AnnotatedImage("a.jpg", 80, 40, "", 1, found)


def test_a_box_over_four_cells() -> None:
    """Its corners are at 0.75 and 1.75 cells across, 0.5 and 1.5 down: it covers an eighth, or three, of each cell."""
    there, edges = cell_targets(picture(("crack", Box(15, 5, 20, 10))), LABELS, 4)
    assert there.dtype == edges.dtype == np.float32
    assert np.argwhere(there).tolist() == [[0, 1, 0], [1, 1, 0]]
    assert np.argwhere(np.isfinite(edges[..., 0])).tolist() == [[1, 1, 0]]
    assert edges[1, 1, 0].tolist() == pytest.approx([-0.75 / 4, -1 / 4, 0.25 / 4, 0])


def test_small_things_count_where_their_middle_is() -> None:
    ring = ((70.0, 35.0), (72.0, 35.0), (72.0, 36.0))
    there, edges = cell_targets(picture(("spill", Polygon(((ring,),)))), LABELS, 4)
    assert np.argwhere(there).tolist() == [[3, 3, 1]]
    assert edges[3, 3, 1].tolist() == pytest.approx([0, 0, 0.1 / 4, 0.1 / 4], abs=1e-6)


def test_of_two_in_one_cell_the_larger_has_the_edges() -> None:
    small, large = Box(4, 4, 2, 2), Box(0, 0, 18, 9)
    for order in ((small, large), (large, small)):
        _, edges = cell_targets(picture(*(("crack", box) for box in order)), LABELS, 4)
        assert edges[0, 0, 0].tolist() == pytest.approx([-0.5 / 4, -0.5 / 4, 0.4 / 4, 0.4 / 4])


def test_what_says_nothing_of_places() -> None:
    """Points, verdicts without a shape, labels that nobody asked for; what lies outside is cut off."""
    nothing = picture(("crack", Point(5, 5)), ("crack", None), ("dog", Box(0, 0, 80, 40)))
    there, edges = cell_targets(nothing, LABELS, 4)
    assert not there.any() and np.isnan(edges).all()
    there, edges = cell_targets(picture(("crack", Box(-20, -10, 40, 20))), LABELS, 4)
    assert np.argwhere(there).tolist() == [[0, 0, 0]]
    assert edges[0, 0, 0].tolist() == pytest.approx([-0.5 / 4, -0.5 / 4, 0.5 / 4, 0.5 / 4])
