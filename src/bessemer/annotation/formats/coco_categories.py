"""Categories of COCO: a table of each file, with its own ids and keys."""

from __future__ import annotations

from typing import Any

from ..shapes import Annotation, AnnotationSet, Label
from .coco_rows import NAME, number_rows
from .fields import image_raw
from .leftovers import restored

__all__ = ["CAPTIONS", "Categories", "file_of"]

CAPTIONS = "captions.json"


def is_caption(annotation: Annotation) -> bool:
    """Whether it goes among captions: text or less, about the whole photograph, and no row of a file."""
    return annotation.shape is None and (annotation.label is None or not image_raw(annotation, NAME))


def file_of(annotation: Annotation, tops: dict[str, Any], default: str) -> str:
    """The file that an annotation goes into: its own, else the one for its kind."""
    file = image_raw(annotation, NAME).get("file")
    if isinstance(file, str) and file in tops:
        return file
    return CAPTIONS if is_caption(annotation) else default


class Categories:
    """The categories of files that are to be written.

    A file of before has the categories that it had, those that no file had, and those that are used in it; a new one
    has all. A name that stood twice in a file stands twice again, and every annotation has the one it had.
    """

    def __init__(self, annotations: AnnotationSet, tops: dict[str, Any], default: str) -> None:
        self.labels = {label.name: label for label in annotations.labels}
        self.tops = tops
        self.used: dict[str, dict[str, None]] = {}
        for image in annotations.images:
            for item in image.annotations:
                if item.label is not None and not is_caption(item):
                    self.used.setdefault(file_of(item, tops, default), {})[item.label] = None
        self.tables: dict[str, tuple[list[dict[str, Any]], dict[str, list[Any]]]] = {}

    def rows(self, file: str) -> list[dict[str, Any]]:
        """The rows of a file."""
        return self._table(file)[0]

    def id_of(self, file: str, annotation: Annotation) -> Any:
        """The category of an annotation in a file: its own if that still is of its label; None without a label."""
        if annotation.label is None or is_caption(annotation):
            return None
        ids = self._table(file)[1][annotation.label]
        own = image_raw(annotation, NAME).get("category")
        return own if own in ids else ids[0]

    def _table(self, file: str) -> tuple[list[dict[str, Any]], dict[str, list[Any]]]:
        if file not in self.tables:
            self.tables[file] = self._made(file)
        return self.tables[file]

    def _made(self, file: str) -> tuple[list[dict[str, Any]], dict[str, list[Any]]]:
        used = self.used.get(file, {})
        kept = {name: _kept(label) for name, label in self.labels.items()}
        wanted = [n for n in kept if n in used or file not in self.tops or not kept[n] or file in kept[n]]
        wanted += [name for name in used if name not in kept]
        parts = [
            (name, part)
            for name in wanted
            for part in kept.get(name, {}).get(file) or next(iter(kept.get(name, {}).values()), [{}])
        ]
        rows: list[dict[str, Any]] = [{"id": part.get("id"), "name": name} for name, part in parts]
        number_rows(rows)
        ids: dict[str, list[Any]] = {}
        for row in rows:
            ids.setdefault(row["name"], []).append(row["id"])
        return [restored(row, part.get("left")) for row, (_, part) in zip(rows, parts, strict=True)], ids


def _kept(label: Label) -> dict[str, list[dict[str, Any]]]:
    """file -> what its rows of a label were; what is of another form is passed over."""
    files = image_raw(label, NAME).get("files")
    found = {}
    for file, rows in files.items() if isinstance(files, dict) else ():
        some = [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []
        if some:
            found[file] = some
    return found
