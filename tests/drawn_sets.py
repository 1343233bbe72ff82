"""Annotation sets for the tests of formats, drawn by hypothesis: what people draw on photographs of usual sizes."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn

from bessemer.annotation.rle import mask_from_array
from bessemer.annotation.shapes import (
    AnnotatedImage,
    Annotation,
    AnnotationSet,
    Box,
    Label,
    Mask,
    Point,
    Polygon,
    Ring,
    RotatedBox,
    Shape,
)

LABELS = ("crack", "裂纹", "a b", "7", "<&\"'>")
# Names that tools get wrong: folders, the same file name twice, spaces, Chinese, other suffixes.
NAMES = ("a.jpg", "部/甲 乙.png", "x/a.jpg", "y/a.jpg", "no suffix", "UPPER.JPG")
words = st.text(st.characters(codec="utf-8", categories=("L", "N", "P", "S", "Zs")), min_size=1, max_size=10).filter(
    lambda text: bool(text.strip()) and text == text.strip()
)


@st.composite
def shapes(draw: DrawFn, width: int, height: int) -> Shape | None:
    """A shape near or over the borders of an image, or none."""
    x = st.one_of(st.floats(-5, width + 5), st.sampled_from([0.0, float(width), 0.1, width / 3]))
    y = st.one_of(st.floats(-5, height + 5), st.sampled_from([0.0, float(height), 0.1, height / 3]))
    size = st.one_of(st.floats(0.5, 60), st.sampled_from([1.0, float(width), 0.3]))
    kind = draw(st.sampled_from(["box", "rotated", "polygon", "parts", "hole", "mask", "point", "none"]))
    if kind == "box":
        return Box(draw(x), draw(y), draw(size), draw(size))
    if kind == "rotated":
        return RotatedBox(draw(x), draw(y), draw(size), draw(size), draw(st.floats(0.01, 359)))
    if kind == "point":
        return Point(draw(x), draw(y))
    if kind == "mask":
        array = np.zeros((height, width), dtype=bool)
        top, left = draw(st.integers(0, height - 1)), draw(st.integers(0, width - 1))
        array[top : top + draw(st.integers(1, 9)), left : left + draw(st.integers(1, 9))] = True
        array[draw(st.integers(0, height - 1)), draw(st.integers(0, width - 1))] = True
        return mask_from_array(array)
    if kind == "none":
        return None

    def square(left: float, top: float, side: float) -> Ring:
        return ((left, top), (left + side, top), (left + side, top + side), (left, top + side / 2))

    left, top, side = draw(x), draw(y), draw(st.floats(2, 20))
    if kind == "polygon":
        return Polygon(((square(left, top, side),),))
    if kind == "hole":
        return Polygon(((square(left, top, side), square(left + side / 2, top + side * 0.4, side / 10)),))
    return Polygon(((square(left, top, side),), (square(left + 2 * side, top, side / 3),)))


@st.composite
def annotations(draw: DrawFn, id: str, width: int, height: int) -> Annotation:
    shape = draw(shapes(width, height))
    label = draw(st.sampled_from(LABELS)) if shape is not None else None
    text = draw(st.one_of(st.just(""), words)) if shape is not None else draw(words)
    value = st.one_of(words, st.booleans(), st.floats(-5, 5), st.none())
    return Annotation(
        id, label, shape, text=text,
        attributes=draw(st.dictionaries(words, value, max_size=2)) if shape is not None else {},
        scene=draw(st.sampled_from([None, "equipment", "personnel"])),
        author=draw(st.sampled_from(["", "王", "b@c.de"])),
        state=draw(st.sampled_from([None, "accepted"])),
        score=draw(st.sampled_from([None, 0.25, 1.0])),
    )  # fmt: skip


@st.composite
def sets(draw: DrawFn) -> AnnotationSet:
    """Images with distinct names and any orientation, one of them empty, and their labels."""
    images = []
    for name in draw(st.lists(st.sampled_from(NAMES), min_size=1, max_size=3, unique=True)):
        width, height = draw(st.sampled_from([(40, 30), (30, 40), (33, 33), (640, 481)]))
        said = tuple(draw(annotations(str(n + 1), width, height)) for n in range(draw(st.integers(0, 3))))
        orientation = draw(st.integers(1, 8))
        images.append(AnnotatedImage(name, width, height, exif_orientation=orientation, annotations=said))
    used = {item.label for image in images for item in image.annotations if item.label is not None}
    return AnnotationSet(tuple(images), tuple(Label(name) for name in LABELS if name in used))


def extent(shape: Shape | None) -> bool:
    """Whether a shape covers anything."""
    return shape is not None and not isinstance(shape, Point) and not (isinstance(shape, Mask) and len(shape.runs) < 2)
