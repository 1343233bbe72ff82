from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from bessemer.annotation.codec import (
    decode_annotation,
    decode_annotations,
    decode_image,
    decode_label,
    decode_labels,
    decode_shape,
    encode_annotation,
    encode_image,
    encode_label,
    encode_shape,
    to_json,
)
from bessemer.annotation.shapes import Annotation, Box, Mask, Polygon, Shape
from bessemer.errors import UserError
from drawn_annotations import annotations, images, labels, shapes

slowly = settings(suppress_health_check=[HealthCheck.too_slow], deadline=None, max_examples=60)


@slowly
@given(shapes)
def test_a_shape_comes_back_bit_by_bit(shape: Shape) -> None:
    assert decode_shape(json.loads(to_json(encode_shape(shape)))) == shape


@slowly
@given(annotations)
def test_an_annotation_comes_back(annotation: Annotation) -> None:
    back = decode_annotation(json.loads(to_json(encode_annotation(annotation))))
    assert back == annotation
    assert repr(back) == repr(annotation)  # also where == is generous: 1 and 1.0 and True, 0.0 and -0.0


@slowly
@given(images)
def test_an_image_comes_back(image: Any) -> None:
    assert decode_image(json.loads(to_json(encode_image(image)))) == image


@slowly
@given(labels)
def test_a_label_comes_back(label: Any) -> None:
    assert decode_label(json.loads(to_json(encode_label(label)))) == label


def test_the_json_is_as_documented() -> None:
    """By hand."""
    assert encode_shape(Box(1, 2, 3, 4)) == {"kind": "box", "x": 1.0, "y": 2.0, "width": 3.0, "height": 4.0}
    assert encode_shape(Mask((1, 2, 1), 2, 2)) == {"kind": "mask", "runs": [1, 2, 1], "height": 2, "width": 2}
    ring = ((0.0, 0.0), (1.0, 0.0), (0.0, 1.5))
    assert to_json(encode_shape(Polygon(((ring,),)))) == (
        '{"kind":"polygon","parts":[[[[0.0,0.0],[1.0,0.0],[0.0,1.5]]]]}'
    )
    assert to_json(encode_annotation(Annotation("7", "裂纹"))) == '{"id":"7","label":"裂纹"}'


@pytest.mark.parametrize(
    ("decode", "row", "message"),
    [
        (decode_shape, [], "a shape is '\\[\\]', expected an object"),
        (decode_shape, {"kind": "circle"}, "kind of shape 'circle', expected one of box"),
        (decode_shape, {"kind": []}, "kind of shape"),
        (decode_shape, {"kind": "box", "x": 1}, "exactly x, y, width, height"),
        (decode_shape, {"kind": "point", "x": 1, "y": 2, "z": 3}, "exactly x, y"),
        (decode_shape, {"kind": "point", "x": "1", "y": 2}, "x '1'"),
        (decode_shape, {"kind": "polygon", "parts": [[[[1, 2, 3], [1, 2], [3, 4]]]]}, "not two numbers"),
        (decode_shape, {"kind": "polygon", "parts": [[5]]}, "a ring is '5', expected a list"),
        (decode_shape, {"kind": "mask", "runs": [1.0], "height": 1, "width": 1}, "no pixel count"),
        (decode_annotation, {"id": "1", "colour": 1}, "unknown key 'colour'"),
        (decode_annotation, {"label": "a"}, "no 'id'"),
        (decode_annotation, {"id": 1}, "id of an annotation is '1', expected text"),
        (decode_annotations, [{"id": "1"}, {}], "annotation 2: no 'id'"),
        (decode_annotations, {}, "expected a list"),
        (decode_image, {"name": "a", "width": 1}, "no 'height'"),
        (decode_labels, [{"name": "a"}, {"name": "a"}], "stands twice"),
    ],
)
def test_hostile_json_is_refused(decode: Any, row: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        decode(row)
