"""Shapes as targets of cells, worked by hand."""

from __future__ import annotations

import numpy as np
import pytest

from bessemer.annotation.cells import cell_targets, flipped_cells, stacked_cells
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


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("upside_down", [False, True])
def test_cells_turn_with_the_picture(mirrored: bool, upside_down: bool) -> None:
    """The targets of flipped boxes are the flipped targets."""
    boxes = [Box(3, 5, 30, 20), Box(60, 1, 9, 30), Box(20, 23, 5, 7)]
    turned = [
        Box(80 - b.x - b.width if mirrored else b.x, 40 - b.y - b.height if upside_down else b.y, b.width, b.height)
        for b in boxes
    ]
    mine = flipped_cells(cell_targets(picture(*(("crack", b) for b in boxes)), LABELS, 4), mirrored, upside_down)
    theirs = cell_targets(picture(*(("crack", b) for b in turned)), LABELS, 4)
    for one, other in zip(mine, theirs, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


def test_of_no_picture_nothing_is_there() -> None:
    drawn = picture(("crack", Box(15, 5, 20, 10)))
    there, edges = stacked_cells([None, drawn], LABELS, 4)
    assert not there[0].any() and np.isnan(edges[0]).all()
    for one, other in zip((there[1], edges[1]), cell_targets(drawn, LABELS, 4), strict=True):
        np.testing.assert_array_equal(one, other)
