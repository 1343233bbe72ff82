"""The formats, one entry each; reading, writing and recognising any of them.

Contract A: what is read and written again in the same format says the same, unknown keys included (as JSON or XML;
the order of rows, number formatting and blanks are free). Contract B: from format to format geometry stays within
1e-6 px (CVAT's own files are exact to 0.005 px only), and the report names every field that the target cannot hold.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from ...data.paths import shown
from ...data.schema import need
from ...disk import publish, unwritable
from ...errors import UserError
from ..shapes import AnnotatedImage, AnnotationSet
from .choices import Choices, Reading
from .coco import is_coco, read_coco, write_coco
from .cvat import is_cvat, read_cvat, write_cvat
from .label_studio import is_label_studio, read_label_studio, write_label_studio
from .labelme import is_labelme, read_labelme, write_labelme
from .photographs import Photographs, free_name, photograph_names, split_suffix
from .report import Losses, LossReport, Notes
from .sources import Source, open_source
from .voc import is_voc, read_voc, write_voc
from .xml import parse_xml
from .yolo import is_yolo, read_yolo, write_yolo, yolo_photographs

__all__ = ["FORMATS", "Format", "detect", "read", "write"]

Writer = Callable[[AnnotationSet, Choices, Losses], Iterator[tuple[str, Any]]]
MAX_LOOKED = 50  # files of a suffix that `detect` opens


@dataclass(frozen=True)
class Format:
    """One format. key: of its leftovers in `raw`. holds: beyond annotations, "color" and "definitions" of labels.
    write: yields (name, JSON value, text or bytes) of each file. photographs: the names that they have if they are
    copied, image by image."""

    name: str
    summary: str
    key: str
    read: Callable[[Reading], AnnotationSet]
    write: Writer
    photographs: Callable[[AnnotationSet], list[str]] = photograph_names
    holds: frozenset[str] = frozenset()


_beside = partial(photograph_names, under="")
FORMATS = {
    format.name: format
    for format in (
        Format("coco", "one JSON file: boxes, polygons, masks, captions", "coco", read_coco, write_coco),
        Format("labelme", "a JSON file an image", "labelme", read_labelme, write_labelme, _beside),
        Format(
            "x-anylabeling", "labelme's files with rotated boxes", "labelme", read_labelme,
            partial(write_labelme, dialect="x-anylabeling"), _beside,
        ),
        Format(
            "yolo", "a text file an image and data.yaml: detect, segment or obb", "yolo", read_yolo, write_yolo,
            yolo_photographs,
        ),
        Format(
            "voc", "Pascal VOC: an XML file an image, boxes alone", "voc", read_voc, write_voc,
            partial(photograph_names, under="JPEGImages/"),
        ),
        Format(
            "label-studio", "one JSON file of tasks", "label_studio", read_label_studio, write_label_studio,
            holds=frozenset(("color",)),
        ),
        Format(
            "cvat", "CVAT for images 1.1: one XML file", "cvat", read_cvat, write_cvat,
            holds=frozenset(("color", "definitions")),
        ),
    )
}  # fmt: skip
"""Name -> what it is."""


def detect(source: Source) -> str:
    """The name of the format of a source, by what is in its files.

    Raises:
        UserError: none of them, or more than one.
    """
    found: dict[str, str] = {}
    for name in [name for name in source.names if name.lower().endswith(".json")][:MAX_LOOKED]:
        top = source.json(name)
        tests = {"coco": is_coco, "labelme": is_labelme, "label-studio": is_label_studio}
        kind = next((kind for kind, test in tests.items() if test(top)), None)
        if kind is not None:
            found.setdefault(kind, name)
    for name in [name for name in source.names if name.lower().endswith(".xml")][:MAX_LOOKED]:
        root = parse_xml(source.read(name), source.shown(name))
        if is_cvat(root) or is_voc(root):
            found.setdefault("cvat" if is_cvat(root) else "voc", name)
    if is_yolo(source.names):
        found.setdefault("yolo", next(n for n in source.names if n.endswith((".yaml", ".yml", ".txt"))))
    listed = ", ".join(f"{kind} ({shown(name)})" for kind, name in found.items())
    need(found, f"{shown(source.place)}: no annotations that we know", f"one of {', '.join(FORMATS)}")
    need(len(found) == 1, f"{shown(source.place)} holds several formats: {listed}", "one; name it with format=")
    return next(iter(found))


def read(
    path: Path, format: str = "auto", images: Path | None = None, choices: Choices | None = None
) -> tuple[AnnotationSet, Notes]:
    """The annotations of a folder, a file or a zip archive, and how they were read.

    Args:
        format: a name of `FORMATS`, or "auto".
        images: folder of the photographs where they are elsewhere; with them names, sizes and hashes are certain.

    Raises:
        UserError: "file:line: what, expected what".
    """
    choices = choices or Choices()
    with ExitStack() as stack:
        source = stack.enter_context(open_source(path))
        sources = [stack.enter_context(open_source(images)), source] if images is not None else [source]
        name = detect(source) if format == "auto" else format
        need(name in FORMATS, f"format {shown(name)!r}", f"one of {', '.join(FORMATS)}")
        reading = Reading(source, Photographs(sources, choices.frame), choices)
        try:
            annotations = FORMATS[name].read(reading)
        except UserError as error:
            if any(shown(item.place) in str(error) for item in sources):
                raise
            raise UserError(f"{shown(path)}: {error}") from error
        unnamed = [name for item in sources for name in item.unnamed]
        if unnamed:
            reading.remarks.append(
                f"{len(unnamed)} files whose names are no UTF-8, first {shown(unnamed[0])}: left out"
            )
    remarks = (*reading.remarks, *reading.photographs.remarks)
    return annotations, Notes(name, {"frame": choices.frame, **reading.made}, remarks)


def write(
    annotations: AnnotationSet,
    directory: Path,
    format: str,
    choices: Choices | None = None,
    photograph: Callable[[AnnotatedImage], bytes] | None = None,
) -> LossReport:
    """Write a set into a new directory, wholly or not at all; what the format cannot hold is in the report.

    Args:
        photograph: the bytes of an image's file; with it the photographs are written too, where the format has them.

    Raises:
        UserError: a directory with something in it; a place that cannot be written.
    """
    need(format in FORMATS, f"format {shown(format)!r}", f"one of {', '.join(FORMATS)}")
    entry = FORMATS[format]
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise UserError(f"{directory} exists and is not an empty directory, expected a new place; nothing was written")
    losses = Losses(entry.key)
    losses.of_set(annotations, entry.holds)
    taken: set[str] = set()
    temporary: Path | None = None
    try:
        directory.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=directory.parent, prefix=".exporting-"))
        made = temporary / "made"  # a directory of its own: only its owner may enter a temporary one
        made.mkdir()
        for name, content in entry.write(annotations, choices or Choices(), losses):
            suffix = PurePosixPath(name).suffix
            _put(made / free_name(name.removesuffix(suffix), suffix, taken), _bytes(content))
        if photograph is not None:
            for image, place in zip(annotations.images, entry.photographs(annotations), strict=True):
                name = free_name(*split_suffix(place), taken)
                if name != place:
                    losses.add("name", image, None, f"its photograph is {name}")
                _put(made / name, photograph(image))
        publish(made, directory)
    except OSError as error:
        raise unwritable(directory, error) from error
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)
    return losses.report(annotations, len(taken))


def _put(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def _bytes(content: Any) -> bytes:
    if isinstance(content, bytes):
        return content
    if isinstance(content, str):
        return content.encode()
    return (json.dumps(content, ensure_ascii=False, allow_nan=False, indent=1) + "\n").encode()
