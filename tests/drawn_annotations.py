"""Annotations of every kind, drawn by hypothesis."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from bessemer.annotation.rle import mask_from_array
from bessemer.annotation.shapes import (
    STATES,
    AnnotatedImage,
    Annotation,
    AttributeDefinition,
    Box,
    Label,
    Mask,
    Point,
    Polygon,
    RotatedBox,
)

numbers = st.floats(-1e9, 1e9)
sizes = st.floats(0, 1e9)
words = st.text(st.characters(exclude_categories=("Cs",)), max_size=12)
names = words.filter(lambda text: bool(text.strip()))
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
    max_leaves=5,
)
objects = st.dictionaries(words, json_values, max_size=3)
rings = st.lists(st.tuples(numbers, numbers), min_size=3, max_size=6).map(tuple)
polygons = st.lists(st.lists(rings, min_size=1, max_size=3).map(tuple), min_size=1, max_size=3).map(
    lambda parts: Polygon(tuple(parts))
)
bitmaps = arrays(bool, array_shapes(min_dims=2, max_dims=2, max_side=9))
masks: st.SearchStrategy[Mask] = bitmaps.map(mask_from_array)
shapes = st.one_of(
    st.builds(Box, numbers, numbers, sizes, sizes),
    st.builds(RotatedBox, numbers, numbers, sizes, sizes, st.floats(-720, 720)),
    polygons,
    masks,
    st.builds(Point, numbers, numbers),
)
annotations = st.builds(
    Annotation,
    id=names,
    label=st.none() | names,
    shape=st.none() | shapes,
    text=words,
    attributes=objects,
    scene=st.sampled_from([None, "equipment", "environment", "personnel"]),
    author=words,
    created=words,
    updated=words,
    source=words,
    state=st.sampled_from([None, *STATES]),
    score=st.none() | st.floats(0, 1),
    model_version=words,
    raw=objects,
)
images = st.builds(
    AnnotatedImage,
    name=names,
    width=st.integers(1, 10_000),
    height=st.integers(1, 10_000),
    sha256=st.sampled_from(["", "0f" * 32]),
    exif_orientation=st.integers(1, 8),
    annotations=st.lists(annotations, max_size=3, unique_by=lambda item: item.id).map(tuple),
    raw=objects,
)
attributes = st.one_of(
    st.builds(AttributeDefinition, names, st.sampled_from(["text", "number", "checkbox"]), default=json_values),
    st.builds(AttributeDefinition, names, st.just("select"), st.lists(words, min_size=1, unique=True).map(tuple)),
)
labels = st.builds(
    Label,
    names,
    st.sampled_from(["", "#00ff7f"]),
    st.lists(attributes, max_size=2, unique_by=lambda item: item.name).map(tuple),
    objects,
)
