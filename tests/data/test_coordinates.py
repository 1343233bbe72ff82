from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bessemer.data.coordinates import Coordinates, read_lists
from bessemer.errors import UserError

SIZES = st.integers(1, 8000)


@st.composite
def seen(draw: st.DrawFn) -> tuple[int, int, list[tuple[float, float]]]:
    """A picture's size and points in it."""
    width, height = draw(SIZES), draw(SIZES)
    point = st.tuples(st.floats(0, width), st.floats(0, height))
    return width, height, draw(st.lists(point, min_size=1, max_size=8))


@given(seen(), st.integers(1, 2000), st.integers(1, 2000))
def test_what_was_written_is_read_within_a_pixel_of_the_resized_picture(
    given_points: tuple[int, int, list[tuple[float, float]]], columns: int, rows: int
) -> None:
    """Whatever the size of the original, and up to 2,000 pixels of what a model is shown."""
    width, height, points = given_points
    convention = Coordinates(width, height)
    (listed,) = read_lists(convention.text(points))
    assert len(listed.numbers) == 2 * len(points) and all(0 <= number <= 1000 for number in listed.numbers)
    resized = Coordinates(columns, rows).points(listed.numbers)
    for (x, y), (u, v) in zip(points, resized, strict=True):
        assert abs(x * columns / width - u) <= 1 and abs(y * rows / height - v) <= 1


@given(seen())
def test_pixels_come_back_within_half_a_pixel(given_points: tuple[int, int, list[tuple[float, float]]]) -> None:
    width, height, points = given_points
    convention = Coordinates(width, height, steps=0)
    (listed,) = read_lists(convention.text(points))
    for (x, y), (u, v) in zip(points, convention.points(listed.numbers), strict=True):
        assert abs(x - u) <= 0.5 and abs(y - v) <= 0.5


def test_by_hand() -> None:
    convention = Coordinates(200, 50)
    assert convention.text([(20, 5), (200, 50)]) == "[100, 100, 1000, 1000]"
    assert convention.text([(-7, 60)]) == "[0, 1000]"
    assert convention.points([500, 500]) == [(100.0, 25.0)]
    assert Coordinates(200, 50, 0).text([(20.4, 5.6)]) == "[20, 6]"


def test_lists_are_found_in_what_people_write() -> None:
    found = read_lists("A [1, 2,3 ,4] and [ 5 6 ] and ［7，8］ but [a, 2] no, [1.5, 2] no, []")
    assert [listed.numbers for listed in found] == [(1, 2, 3, 4), (5, 6), (7, 8)]
    assert "A [1, 2,3 ,4] and"[found[0].start : found[0].end] == "[1, 2,3 ,4]"
    assert read_lists("[" + ", ".join(["1"] * 5000) + "]") == []
    assert read_lists("[" * 10_000 + "1, 2]")[0].numbers == (1, 2)


@pytest.mark.parametrize(
    ("numbers", "message"),
    [([1, 2, 3], "3 numbers, expected x and y"), ([1, 1001], "coordinate 1001, expected 0 to 1000"), ([-1, 0], "-1")],
)
def test_refusals(numbers: list[int], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Coordinates(10, 10).points(numbers)
    with pytest.raises(UserError, match="0 x 5"):
        Coordinates(0, 5)
