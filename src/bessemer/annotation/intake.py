"""Photographs of a folder, and annotations of other tools, into a project."""

from __future__ import annotations

import json
import os
import sqlite3
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

from ..data.decoding import inspect_apart
from ..data.discovery import FORMAT_OF
from ..data.images import MAX_PIXELS
from ..data.paths import shown
from ..data.schema import need
from ..errors import UserError
from .documents import Conflict, check_annotator, label_set, save_all, save_labels
from .listing import add_images
from .log import Edit
from .shapes import AnnotatedImage, AnnotationSet, Label, State, check_json
from .store import Project

__all__ = ["SUFFIXES", "Added", "Imported", "add_folder", "import_annotations", "keep", "kept", "match_images"]

SUFFIXES = tuple(FORMAT_OF)


@dataclass(frozen=True)
class Added:
    """ids: of the images in the order of their names. refused: name -> why a file was left out. twice: names whose
    bytes another name has too."""

    ids: tuple[int, ...]
    refused: dict[str, str]
    twice: tuple[str, ...]


@dataclass(frozen=True)
class Imported:
    """saved: image names that were taken over; absent: names that no image of the project matches; conflicts: names
    that have a newer document of the annotator already, which was left as it is (the import is kept beside it).
    differing: what the set says of labels that the project says otherwise, which stays."""

    saved: tuple[str, ...]
    absent: tuple[str, ...]
    conflicts: tuple[str, ...]
    differing: tuple[str, ...] = ()


def add_folder(
    project: Project, folder: Path, max_pixels: int = MAX_PIXELS, raws: Mapping[str, dict[str, Any]] | None = None,
    some: bool = True,
) -> Added:  # fmt: skip
    """Register every readable photograph under a folder by its relative name; nothing is copied or changed, links are
    not followed.

    Args:
        raws: name -> what other tools said of the image, kept with it; of an image that is there already what it has
            stays.
        some: refuse a folder without a readable photograph.

    Raises:
        UserError: no such folder; no readable photograph in it; see `listing.add_images`.
    """
    need(folder.is_dir(), f"{shown(folder)} is not a folder", "a folder of photographs")
    images: list[AnnotatedImage] = []
    refused: dict[str, str] = {}
    for name in sorted(_names(folder)):
        try:
            facts = inspect_apart(folder / name, max_pixels)
            size = (facts.width, facts.height)
            raw = raws.get(name, {}) if raws is not None else {}
            images.append(AnnotatedImage(name, *size, facts.sha256, facts.orientation, raw=raw))
        except UserError as error:
            refused[shown(name, 1_000)] = str(error)
    first = next(iter(refused.values()), "the folder has none")
    need(images or not some, f"no readable photograph in {shown(folder)} ({first})", f"one of {', '.join(SUFFIXES)}")
    hashes = Counter(image.sha256 for image in images)
    twice = tuple(image.name for image in images if hashes[image.sha256] > 1)
    return Added(tuple(add_images(project, folder, images)), refused, twice)


def _names(folder: Path) -> Iterator[str]:
    for where, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in files:
            path = Path(where) / name
            if path.suffix.lower() in SUFFIXES and not name.startswith(".") and not path.is_symlink():
                yield path.relative_to(folder).as_posix()


def import_annotations(
    project: Project, annotations: AnnotationSet, annotator: str, state: State = "doing"
) -> Imported:
    """Save a set's annotations as the work of `annotator`, authors and times as they are, and add its labels, and what
    it says of them, to the label set.

    An image is matched by its sha256 and name, then sha256, then name, then by a file name that only one image has.
    Sizes must agree. Images without annotations are saved too: nothing to see is an answer.

    Raises:
        UserError: another size than the project's image.
    """
    check_annotator(annotator)
    matched = match_images(project, annotations)
    found = [image for image in annotations.images if image.name in matched]
    differing = _add_labels(project, annotations, annotator)
    # Based on nothing: a document that is there already is a conflict.
    items = [(matched[image.name], annotator, 0, image.annotations) for image in found]
    answers = save_all(project, items, state=state)
    late = {image.name for image, answer in zip(found, answers, strict=True) if isinstance(answer, Conflict)}
    return Imported(
        tuple(image.name for image in found if image.name not in late),
        tuple(image.name for image in annotations.images if image.name not in matched),
        tuple(image.name for image in found if image.name in late),
        tuple(differing),
    )


def match_images(project: Project, annotations: AnnotationSet) -> dict[str, int]:
    """Name in the set -> id of the project's image, for those that have one; see `import_annotations`."""
    with project.read() as db:
        rows = db.execute("SELECT id, name, sha256, width, height FROM images ORDER BY id").fetchall()
    keys: dict[tuple[str, ...], list[tuple[int, int, int]]] = {}
    for id, name, sha256, width, height in rows:
        file = PurePosixPath(name).name
        own: list[tuple[str, ...]] = [("both", name, sha256), ("sha", sha256), ("name", name), ("file", file)]
        for key in own:
            keys.setdefault(key, []).append((id, width, height))
    matched: dict[str, int] = {}
    taken: dict[int, str] = {}
    for image in annotations.images:
        file = PurePosixPath(image.name.replace("\\", "/")).name
        candidates: list[tuple[str, ...]] = [("name", image.name), ("file", file)]
        if image.sha256:
            candidates = [("both", image.name, image.sha256), ("sha", image.sha256), *candidates]
        for key in candidates:
            found = keys.get(key, [])
            if found and (key[0] != "file" or len(found) == 1):
                id, width, height = found[0]
                size = f"{image.width} x {image.height}"
                need((image.width, image.height) == (width, height), f"{image.name} of {size}", f"{width} x {height}")
                other = taken.setdefault(id, image.name)
                need(other == image.name, f"{other} and {image.name} are the same image", "annotations once")
                matched[image.name] = id
                break
    return matched


def _add_labels(project: Project, annotations: AnnotationSet, author: str) -> list[str]:
    """Append the labels that the project does not have, and to those that it has what it does not know of them; where
    the two differ."""
    while True:
        current, differing = label_set(project), list[str]()
        known = {label.name: label for label in current.labels}
        for label in annotations.labels:
            held = known.setdefault(label.name, label)
            known[label.name] = _joined_label(held, label, differing)
        if save_labels(project, current.version, tuple(known.values()), author)[1]:
            return differing


def _joined_label(held: Label, said: Label, differing: list[str]) -> Label:
    """A label with what is said of it beside what is held; a colour, attribute or key that is held stays. What stands
    by file is kept by file."""
    name = shown(held.name, 40)
    if said.color not in ("", held.color or said.color):
        differing.append(f"the colour of label {name}")
    attributes = {attribute.name: attribute for attribute in held.attributes}
    for attribute in said.attributes:
        if attributes.setdefault(attribute.name, attribute) != attribute:
            differing.append(f"attribute {shown(attribute.name, 40)} of label {name}")
    raw = dict(held.raw)
    for format, keys in said.raw.items():
        stands = raw.setdefault(format, keys)
        if isinstance(stands, dict) and isinstance(keys, dict):
            raw[format] = _joined(stands, keys, f"keys of label {name}: {format}", differing)
    return replace(held, color=held.color or said.color, attributes=tuple(attributes.values()), raw=raw)


def kept(db: sqlite3.Connection) -> dict[str, Any]:
    """What files of other tools said of their whole sets, beside images and annotations: format -> its keys."""
    return {format: json.loads(body) for format, body in db.execute("SELECT format, body FROM kept ORDER BY format")}


def keep(project: Project, raw: Mapping[str, Any]) -> list[str]:
    """Keep what a set says as a whole (`AnnotationSet.raw`) beside what is kept already, which stays where the two
    differ; the places where they do. What stands by file is kept by file."""
    check_json(dict(raw), "what the files say as a whole")

    def plan(db: sqlite3.Connection, time: str) -> tuple[list[Edit], list[str]]:
        held, differing = kept(db), list[str]()
        new = {format: _joined(held.get(format, {}), said, format, differing) for format, said in raw.items()}
        new = {format: said for format, said in new.items() if said != held.get(format)}
        return [Edit("keep", {"raw": new})] if new else [], differing

    return project.commit(plan)


def _joined(held: Any, said: dict[str, Any], place: str, differing: list[str]) -> dict[str, Any]:
    joined = dict(held)
    for key, value in said.items():
        if key == "files" and isinstance(joined.get(key), dict) and isinstance(value, dict):
            joined[key] = _joined(joined[key], value, place, differing)
        elif joined.setdefault(key, value) != value:
            differing.append(f"{place} {shown(key)}")
    return joined
