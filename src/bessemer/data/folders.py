"""A folder of somebody's own photographs: what is in it, said to a person, and the examples that it makes.

Labels come from class sub-folders or from a CSV or TSV. What cannot be used is left out and named, never
guessed.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from .. import interrupts
from ..errors import Stopped, UserError
from ..progress import track
from .decoding import inspect_apart
from .discovery import (
    FORMAT_OF,
    Claim,
    Findings,
    claims_of_folders,
    claims_of_table,
    find_table,
    list_files,
)  # fmt: skip
from .images import MAX_PIXELS, ImageFacts
from .paths import shown
from .schema import SPLITS, Example, ImageRef, Scene, choice
from .splits import grouped_split, stratified_split

__all__ = ["Attribute", "Photo", "Survey", "examples_from", "survey_folder"]

_SMALL_SIDE, _FEW, _SHOWN = 32, 10, 5
_QUOTED = re.compile(r"'[^']*'|\"[^\"]*\"")
_SEVERAL = re.compile(r"\s*[;,|/+&，；、]\s*")


@dataclass(frozen=True)
class Attribute:
    """A label: its values with the number of photographs each, sorted by number when ordered, else by
    name."""

    name: str
    counts: dict[str, int]
    ordered: bool

    @property
    def values(self) -> tuple[str, ...]:
        """The values in their order."""
        return tuple(self.counts)


@dataclass(frozen=True)
class Photo:
    """One usable photograph: name relative to the folder, absolute path, facts, labels, group, and part if
    the folder has parts."""

    name: str
    path: Path
    facts: ImageFacts
    labels: dict[str, str]
    group: str
    split: str | None


@dataclass(frozen=True)
class Survey:
    """What a folder holds. photos: usable, one for each distinct content; odd: (name, why it is left out);
    notes: remarks for a person; other_files: suffix -> number of files that are no images."""

    directory: Path
    table: Path | None
    attributes: tuple[Attribute, ...]
    photos: tuple[Photo, ...]
    odd: tuple[tuple[str, str], ...]
    notes: tuple[str, ...]
    other_files: dict[str, int]

    def text(self) -> str:
        """The survey for a terminal; names from the disk are made harmless."""
        source = f"labels from {shown(self.table.name)}" if self.table else "labels from sub-folders"
        lines = [f"{shown(self.directory, 200)}: {len(self.photos)} photographs, {source}"]
        for attribute in self.attributes:
            counts = ", ".join(f"{shown(value, 40)} {count}" for value, count in attribute.counts.items())
            lines.append(f"  {shown(attribute.name, 40)}{' (ordered)' if attribute.ordered else ''}: {counts}")
        sizes = Counter((photo.facts.width, photo.facts.height) for photo in self.photos)
        often = ", ".join(f"{width} x {height} ({count})" for (width, height), count in sizes.most_common(4))
        if len(sizes) > 4:
            by_area = sorted(sizes, key=lambda size: size[0] * size[1])
            least, most = (f"{width} x {height}" for width, height in (by_area[0], by_area[-1]))
            often = f"{len(sizes)} sizes, {least} to {most}, most often {often}"
        lines.append(f"  sizes: {often}")
        formats = Counter(photo.facts.format for photo in self.photos).most_common()
        lines.append(f"  formats: {', '.join(f'{name} {count}' for name, count in formats)}")
        parts = Counter(photo.split for photo in self.photos if photo.split).most_common()
        if parts:
            lines.append(f"  parts already made: {', '.join(f'{name} {count}' for name, count in parts)}")
        if self.odd:
            lines.append(f"  left out: {len(self.odd)}")
            lines.extend(f"    {line}" for line in _odd_lines(self.odd))
        if self.other_files:
            others = ", ".join(f"{shown(suffix, 20)} {count}" for suffix, count in self.other_files.items())
            lines.append(f"  other files, not looked at: {others}")
        lines.extend(f"  note: {shown(note, 300)}" for note in self.notes)
        return "\n".join(lines)


def _odd_lines(odd: Sequence[tuple[str, str]]) -> list[str]:
    """Five of each kind of reason (told by its first four words beside names), so that a rare one does not drown in
    a common one."""
    kinds: dict[str, list[str]] = {}
    for name, reason in odd:
        kinds.setdefault(" ".join(_QUOTED.sub("", reason).split()[:4]), []).append(
            f"{shown(name)}: {shown(reason, 160)}"
        )
    lines: list[str] = []
    for kind, entries in kinds.items():
        lines.extend(entries[:_SHOWN])
        lines.extend([f"... and {len(entries) - _SHOWN} more: {shown(kind)} ..."] if len(entries) > _SHOWN else [])
    return lines


def survey_folder(
    directory: Path,
    *,
    table: Path | None = None,
    image_column: str | None = None,
    label_columns: Sequence[str] | None = None,
    group_column: str | None = None,
    encoding: str | None = None,
    attribute: str = "class",
    max_pixels: int = MAX_PIXELS,
) -> Survey:
    """Look at every photograph below `directory` and find its labels.

    Labels: from `table`; else from the one CSV or TSV at the top of the folder that has a column of image
    names; else each sub-folder is a value of `attribute`, below train/ and test/ (val/) folders if there are
    such. Folders below a class are taken as groups (batches, modules) if there are enough of them. Each image
    is decoded once to find out whether it can be.

    Raises:
        UserError: no such folder, no photographs, no labels, one class only, or two tables; the message names
            the setting that helps.
    """
    files = list_files(directory)
    found = Findings(list(files.odd), [])
    chosen = find_table(directory, files.names, table, image_column, encoding, found)
    if chosen is None:
        claims = claims_of_folders(directory, files.names, attribute, found)
    else:
        claims = claims_of_table(directory, files.names, chosen, image_column, label_columns, group_column, found)
    claims = _one_spelling(claims, found)
    photos = _without_duplicates(_inspect(directory, claims, max_pixels, found), found)
    attributes = _attributes(photos, found)
    if not attributes:
        raise UserError(f"{shown(directory)}: no label has two values with usable photographs, expected at least two")
    _remark(photos, attributes, found)
    where = chosen.path if chosen else None
    others = Counter(files.others)
    if where is not None and where.resolve().is_relative_to(directory.resolve()):
        others[where.suffix.lower()] -= 1  # that one was looked at
    return Survey(directory, where, attributes, tuple(photos), tuple(found.odd), tuple(found.notes), dict(+others))


def _one_spelling(claims: Sequence[Claim], found: Findings) -> list[Claim]:
    """The claims with values that differ in case alone brought to the commonest spelling: no answer could tell them
    apart."""
    kept: dict[str, dict[str, str]] = {}
    for name in dict.fromkeys(name for claim in claims for name in claim.labels):
        counts = Counter(claim.labels[name] for claim in claims if name in claim.labels)
        alike: dict[str, list[str]] = {}
        for value in sorted(counts, key=lambda value: (-counts[value], value)):
            alike.setdefault(value.casefold(), []).append(value)
        kept[name] = {value: spellings[0] for spellings in alike.values() for value in spellings}
        for first, *others in alike.values():
            if others:
                found.notes.append(
                    f"{', '.join(others)} of {name} {'is' if len(others) == 1 else 'are'} read as {first}"
                )
    return [
        replace(claim, labels={name: kept[name][value] for name, value in claim.labels.items()}) for claim in claims
    ]


def _inspect(directory: Path, claims: Sequence[Claim], max_pixels: int, found: Findings) -> list[Photo]:
    """Open every image that a label is claimed for; what cannot be used is left out with its reason.

    Raises:
        Stopped: a signal asked for it.
    """
    photos: list[Photo] = []
    with track(len(claims), "photographs") as bar:
        for claim in claims:
            path = directory.resolve() / claim.name
            try:
                facts = inspect_apart(path, max_pixels)
                photos.append(Photo(claim.name, path, facts, claim.labels, claim.group, claim.split))
            except UserError as error:
                found.odd.append((claim.name, str(error).removeprefix(f"{shown(path)}: ")))
            bar.advance()
            if interrupts.requested():
                raise Stopped("stopped among the photographs: run the same command again")
    return photos


def _without_duplicates(photos: list[Photo], found: Findings) -> list[Photo]:
    """One photograph for each content; none where the same content has different labels."""
    same: dict[str, list[Photo]] = {}
    for photo in photos:
        same.setdefault(photo.facts.sha256, []).append(photo)
    kept: list[Photo] = []
    for first, *others in same.values():
        if all(other.labels == first.labels for other in others):
            kept.append(first)
            found.odd.extend((other.name, f"the same bytes as {shown(first.name)}") for other in others)
        else:
            reason = "the same bytes under different labels"
            found.odd.extend((photo.name, reason) for photo in (first, *others))
    return kept


def _attributes(photos: Sequence[Photo], found: Findings) -> tuple[Attribute, ...]:
    """The labels with at least two values among usable photographs, their values counted and in order."""
    counts: dict[str, Counter[str]] = {}
    for photo in photos:
        for name, value in photo.labels.items():
            counts.setdefault(name, Counter())[value] += 1
    attributes: list[Attribute] = []
    for name, values in counts.items():
        ordered = name in found.ordered
        order = sorted(values, key=float) if ordered else sorted(values)
        if len(values) > 1:
            attributes.append(Attribute(name, {value: values[value] for value in order}, ordered))
    return tuple(attributes)


def _remark(photos: Sequence[Photo], attributes: Sequence[Attribute], found: Findings) -> None:
    """Notes on what is usable but will surprise."""
    for attribute in attributes:
        for value, count in attribute.counts.items():
            if count < _FEW:
                few = "1 photograph" if count == 1 else f"{count} photographs"
                found.notes.append(f"{attribute.name} {value!r} has only {few}: too few to learn or measure")
        found.notes.extend(_several_at_once(attribute))
        missing = sum(attribute.name not in photo.labels for photo in photos)
        if missing:
            found.notes.append(f"{missing} photographs have no {attribute.name}")
        train = {photo.labels.get(attribute.name) for photo in photos if photo.split in (None, "train")}
        unseen = [value for value in attribute.values if value not in train]
        if unseen:
            found.notes.append(f"values of {attribute.name} without a photograph to train on: {', '.join(unseen)}")
    small = sum(min(photo.facts.width, photo.facts.height) < _SMALL_SIDE for photo in photos)
    if small:
        found.notes.append(f"{small} photographs are less than {_SMALL_SIDE} pixels wide or high: thumbnails?")
    misnamed = sum(photo.facts.format != FORMAT_OF[photo.path.suffix.lower()] for photo in photos)
    if misnamed:
        found.notes.append(f"{misnamed} files hold another format than their names say; they are read all the same")


def _several_at_once(attribute: Attribute) -> list[str]:
    """A remark where a value looks like several labels in one cell: nothing takes it apart."""
    for value in attribute.values:
        parts = [part for part in _SEVERAL.split(value) if part]
        if len(parts) > 1 and any(part in attribute.counts for part in parts):
            return [
                f"{attribute.name} {value!r} is one value and not {' and '.join(map(repr, parts))}; where several hold "
                "at once, make a column of yes and no for each"
            ]
    return []


def examples_from(
    survey: Survey, *, seed: int = 0, test: float = 0.25, val: float = 0.1, scene: Scene | None = None
) -> list[Example]:
    """The usable photographs in the order of their names, each with its part; image paths are absolute.

    Parts that the folder or table has are kept; a missing one is taken from train. Otherwise photographs are
    split by whole groups where there are groups, else at random, stratified by their labels (see `splits`).
    """
    photos = survey.photos
    parts = _parts(survey, seed, test, val)
    return [
        Example(
            id=photo.name,
            image=ImageRef(str(photo.path), photo.facts.sha256),
            labels=photo.labels,
            group=photo.group or photo.name,
            split=choice(part, SPLITS, "split"),
            scene=scene,
            provenance={"dataset": survey.directory.name},
        )
        for photo, part in zip(photos, parts, strict=True)
    ]


def _parts(survey: Survey, seed: int, test: float, val: float) -> list[str]:
    """The part of each photograph: the one it has, or one drawn from those that are left for training."""
    parts = [photo.split or "train" for photo in survey.photos]
    present = {photo.split for photo in survey.photos}
    pool = [i for i, part in enumerate(parts) if part == "train"]
    groups = [survey.photos[i].group for i in pool]
    strata = [tuple(sorted(survey.photos[i].labels.items())) for i in pool]
    test, val = (0.0 if part in present else share for part, share in (("test", test), ("val", val)))
    if not test and not val:
        return parts
    if any(groups):
        named = [group or f"/{i}" for i, group in zip(pool, groups, strict=True)]
        drawn = grouped_split(named, strata, seed, test, val)
    else:
        drawn = stratified_split(strata, seed, test, val)
    for i, part in zip(pool, drawn, strict=True):
        parts[i] = part
    return parts
