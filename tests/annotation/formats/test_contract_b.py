"""Contract B: from our set through a format and back, everything is the same or in the report."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import assume, given, settings

from bessemer.annotation.formats.choices import Choices
from bessemer.annotation.formats.report import LossReport
from bessemer.annotation.formats.table import FORMATS, read, write
from bessemer.annotation.geometry import area, bounding_box, iou
from bessemer.annotation.shapes import AnnotatedImage, Annotation, AnnotationSet, Box, Polygon, RotatedBox, Shape
from drawn_sets import sets
from photographing import photographs

FIELDS = ("label", "text", "attributes", "scene", "author", "state", "score")
# What a loss of this kind excuses, beside itself.
EXCUSES = {"label": {"attributes"}}


def numbers(shape: Shape) -> list[float]:
    if isinstance(shape, Polygon):
        return [value for part in shape.parts for ring in part for pair in ring for value in pair]
    return [value for value in vars(shape).values() if isinstance(value, float)]


def same_shape(one: Shape, other: Shape, tolerance: float) -> bool:
    if type(one) is not type(other):
        return False
    a, b = numbers(one), numbers(other)
    if isinstance(one, RotatedBox) and isinstance(other, RotatedBox):
        a[-1], b[-1] = 0.0, (b[-1] - a[-1] + 180) % 360 - 180
    return (
        len(a) == len(b)
        and all(abs(x - y) <= tolerance for x, y in zip(a, b, strict=True))
        and (a != [] or one == other)
    )


def check(before: AnnotationSet, after: AnnotationSet, report: LossReport) -> None:
    lost = {(loss.image, loss.annotation, loss.kind) for loss in report.losses}
    found = {image.name: image for image in after.images}
    assert set(found) == {image.name for image in before.images}
    for image in before.images:
        back = found[image.name]
        assert (back.width, back.height) == (image.width, image.height)
        rest = list(back.annotations)
        for annotation in image.annotations:
            kinds = {kind for name, id, kind in lost if (name, id) == (image.name, annotation.id)}
            match = next((other for other in rest if fits(annotation, other, kinds, image)), None)
            if match is None:
                assert kinds & {"shape", "text", "label"}, (annotation, back.annotations, kinds)
                assert "shape" in kinds or annotation.shape is None, (annotation, back.annotations, kinds)
            else:
                rest.remove(match)
        excused = [item for item in rest if item.shape is None]  # labelme's flags of the whole image
        assert rest == excused


def fits(one: Annotation, other: Annotation, kinds: set[str], image: AnnotatedImage) -> bool:
    """Whether `other` is what came back of `one`, but for what the report names."""
    for name in FIELDS:
        if name not in kinds and getattr(one, name) != getattr(other, name):
            return False
    if one.shape is None or other.shape is None:
        return one.shape is other.shape
    if same_shape(one.shape, other.shape, 1e-6):
        return True
    if "clipped" in kinds:
        return cut(other.shape, image) and ("kind" in kinds or cut_of(one.shape, other.shape, image))
    if not kinds & {"kind", "holes", "parts"}:
        return False
    if "kind" in kinds and isinstance(other.shape, Box):  # flattened to the box around it
        return same_shape(bounding_box(one.shape), other.shape, 1e-6)
    if "kind" in kinds and isinstance(other.shape, RotatedBox) and not isinstance(one.shape, RotatedBox):
        return iou(bounding_box(one.shape), bounding_box(other.shape)) > 0.2
    return area(one.shape) == pytest.approx(area(other.shape), abs=1e-4) and iou(one.shape, other.shape) > 1 - 1e-6


def edges(shape: Shape) -> tuple[float, float, float, float]:
    box = bounding_box(shape)
    return box.x, box.y, box.x + box.width, box.y + box.height


def cut(shape: Shape, image: AnnotatedImage) -> bool:
    """Whether no point is outside the image."""
    left, top, right, bottom = edges(shape)
    return min(left, top) > -2e-3 and right < image.width + 2e-3 and bottom < image.height + 2e-3


def cut_of(one: Shape, other: Shape, image: AnnotatedImage) -> bool:
    """Whether the box around is that of a shape whose points were moved into the image."""
    sizes = (image.width, image.height) * 2
    wanted = [min(max(edge, 0), size) for edge, size in zip(edges(one), sizes, strict=True)]
    return all(abs(a - b) < 2e-3 for a, b in zip(wanted, edges(other), strict=True))


@pytest.mark.parametrize("format", FORMATS)
@settings(deadline=None, max_examples=60)
@given(drawn=sets())
def test_what_does_not_come_back_is_in_the_report(format: str, drawn: AnnotationSet) -> None:
    with tempfile.TemporaryDirectory() as place:
        folder = photographs(Path(place, "photos"), drawn.images)
        if format in ("yolo", "voc"):  # the text file of a photograph is found by its suffix
            drawn = AnnotationSet(tuple(image for image in drawn.images if Path(image.name).suffix), drawn.labels)
            assume(drawn.images)
        report = write(drawn, Path(place, "out"), format)
        task = report.choices.get("task", "auto")
        base = "1" if format == "voc" else "auto"
        after, notes = read(Path(place, "out"), format, folder, Choices(voc_base=base, task=task))
        assert notes.format == format
        check(drawn, after, report)


@pytest.mark.parametrize("frame", ["upright", "stored"])
@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("orientation", range(1, 9))
def test_eight_orientations(tmp_path: Path, format: str, orientation: int, frame: str) -> None:
    """Written upright or for tools that see the stored pixels, every orientation comes back upright."""
    shape = Box(3, 4.5, 10, 6)
    said = (Annotation("1", "crack", shape),)
    image = AnnotatedImage("a.jpg", 40, 30, exif_orientation=orientation, annotations=said)
    folder = photographs(tmp_path / "photos", (image,))
    chosen = Choices(frame=frame, voc_base="1")  # type: ignore[arg-type]
    write(AnnotationSet((image,)), tmp_path / "out", format, chosen)
    after, notes = read(tmp_path / "out", format, folder, chosen)
    assert after.images[0].exif_orientation == orientation and (after.images[0].width, after.images[0].height) == (
        40,
        30,
    )
    back = after.images[0].annotations[0].shape
    assert back is not None and same_shape(shape, back, 1e-6)
    if orientation in (5, 6, 7, 8) and format != "yolo":  # the stated size tells by itself
        found, notes = read(tmp_path / "out", format, folder, Choices(voc_base="1"))
        back = found.images[0].annotations[0].shape
        assert back is not None and same_shape(shape, back, 1e-6)
        assert any("EXIF" in remark for remark in notes.remarks)
