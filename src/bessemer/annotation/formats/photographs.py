"""The photographs that annotations speak of: found by name among the files at hand, and in which frame the
coordinates are.

A name in a file is hostile text. It is compared with the names of a listing and never opened. Most tools of today
draw on the upright photograph; where a file states the size of the stored pixels instead, its coordinates are of that
frame and are turned.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from itertools import chain, count
from pathlib import PurePosixPath
from typing import Any, Literal, TypeAlias
from urllib.parse import unquote

from ...data.images import MAX_BYTES, image_facts
from ...data.paths import shown
from ...data.schema import need
from ...errors import UserError
from ..geometry import to_stored, to_upright
from ..intake import SUFFIXES
from ..shapes import AnnotatedImage, Annotation, AnnotationSet, Shape
from .sources import Source

__all__ = [
    "Frame", "FrameOf", "Photograph", "Photographs", "frame_to_write", "free_name", "key_of", "photograph_names",
    "safe_name", "split_suffix", "unique_names",
]  # fmt: skip

Frame: TypeAlias = Literal["auto", "upright", "stored"]
MAX_BYTES_OF_PART = 200  # of the 255 that a name may have; a suffix and a number need some
MAX_NAME = 2_000  # characters of a name that are looked at, the last ones
MAX_FOLDERS = 32  # that two names are compared by
_TURNED = (5, 6, 7, 8)
_UPLOAD = re.compile(r"[0-9a-f]{8}-")


@dataclass(frozen=True)
class Photograph:
    """What is known of a file: its name in the listing, its size upright, the orientation it records, its hash."""

    name: str
    width: int
    height: int
    orientation: int
    sha256: str


@dataclass(frozen=True)
class FrameOf:
    """An image's size upright and how its file's coordinates become upright: as they are, or by `orientation` when
    they are of the stored pixels."""

    width: int
    height: int
    orientation: int
    stored: bool

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) of the frame that the file's coordinates are in."""
        turned = self.stored and self.orientation in _TURNED
        return (self.height, self.width) if turned else (self.width, self.height)

    def upright(self, shape: Shape | None) -> Shape | None:
        """A shape of the file's frame, upright."""
        return to_upright(shape, self.orientation, *self.size) if shape is not None and self.stored else shape

    def of_file(self, shape: Shape | None) -> Shape | None:
        """An upright shape in the frame of the file."""
        if shape is None or not self.stored:
            return shape
        return to_stored(shape, self.orientation, self.width, self.height)


def frame_to_write(image: AnnotatedImage, raw: dict[str, Any], frame: Frame) -> FrameOf:
    """The frame of the coordinates in a file that is to be written; auto: as `raw`, the format's own of the image, says
    that they were read, else upright."""
    stored = frame == "stored" or (frame == "auto" and raw.get("stored") is True)
    return FrameOf(image.width, image.height, image.exif_orientation, stored and image.exif_orientation != 1)


class Photographs:
    """Files with the suffix of a photograph in some sources, and what was noticed about them."""

    def __init__(self, sources: Iterable[Source], frame: Frame = "auto") -> None:
        self._files: dict[str, Source] = {}
        for source in sources:
            for name in source.names:
                if name.lower().endswith(SUFFIXES):
                    self._files.setdefault(name, source)
        self.frame = frame
        self.remarks: list[str] = []
        self.facts = cache(self._facts)

    @property
    def names(self) -> tuple[str, ...]:
        """All of them."""
        return tuple(self._files)

    def _facts(self, name: str) -> Photograph:
        source = self._files[name]
        facts = image_facts(source.read(name, MAX_BYTES), source.shown(name), decode=False)
        return Photograph(name, facts.width, facts.height, facts.orientation, facts.sha256)

    def match(self, keys: Iterable[str]) -> dict[str, Photograph]:
        """key -> its photograph, for the keys that have one: the same name, else the longest common end of the two
        paths, as long as that fits only one photograph and one key."""
        wanted = list(dict.fromkeys(keys))
        found = {key: key for key in wanted if key in self._files}
        more = {"": ""}
        while more:  # what is found leaves fewer for the others
            taken = set(found.values())
            ends = _Ends(name for name in self._files if name not in taken)
            claims: dict[str, list[str]] = {}
            for key in wanted:
                if key not in found and (end := ends.of(key)) is not None:
                    claims.setdefault(end, []).append(key)
            more = {claimed[0]: name for name, claimed in claims.items() if len(claimed) == 1}
            found |= more
        return {key: self.facts(name) for key, name in found.items()}

    def frame_of(self, photograph: Photograph | None, size: tuple[int, int] | None, what: str) -> FrameOf:
        """The frame of an image whose file states `size`, if it does.

        Raises:
            UserError: neither a photograph nor a size; a size that is not the photograph's in either frame.
        """
        if photograph is None:
            if size is None:
                raise UserError(f"{what}: no size and no photograph at hand, expected one; name the folder of images")
            return FrameOf(*size, 1, False)
        upright = (photograph.width, photograph.height)
        turned = photograph.orientation in _TURNED
        stored = upright[::-1] if turned else upright
        ok = size is None or size in (upright, stored)
        stated = f"{size[0]} x {size[1]}" if size else ""
        need(ok, f"{what}: stated as {stated}", f"{upright[0]} x {upright[1]}, the size of {shown(photograph.name)}")
        is_stored = self.frame == "stored" or (self.frame == "auto" and size == stored != upright)
        if photograph.orientation != 1 and self.frame == "auto":
            how = "of the stored pixels, by the size it states" if is_stored else "upright"
            self.remarks.append(f"{what} records EXIF orientation {photograph.orientation}; taken as {how}")
        return FrameOf(*upright, photograph.orientation, is_stored and photograph.orientation != 1)

    def image(
        self, name: str, photograph: Photograph | None, frame: FrameOf, annotations: list[Annotation],
        raw: dict[str, Any],
    ) -> AnnotatedImage:  # fmt: skip
        """The image of a file's entry; it takes the name of its photograph, so that the two find each other."""
        sha256 = photograph.sha256 if photograph is not None else ""
        size = (frame.width, frame.height)
        return AnnotatedImage(name, *size, sha256, frame.orientation, tuple(annotations), raw)


class _Ends:
    """Names by how they end: with the file's name, with its folder and the file's name, and so on."""

    def __init__(self, names: Iterable[str]) -> None:
        self.names: dict[tuple[str, ...], list[str]] = {}
        for name in names:
            parts = PurePosixPath(name).parts
            for count_ in range(1, min(len(parts), MAX_FOLDERS) + 1):
                self.names.setdefault(parts[-count_:], []).append(name)

    def of(self, key: str) -> str | None:
        """The only name with the longest end that the key has too; without the mark of an upload if need be."""
        parts = PurePosixPath(key).parts[-MAX_FOLDERS:]
        if parts and parts[-1:] not in self.names:
            parts = (*parts[:-1], _UPLOAD.sub("", parts[-1], count=1))
        ends = (self.names.get(parts[start:], []) for start in range(len(parts)))
        best = next((names for names in ends if names), [])
        return best[0] if len(best) == 1 else None


def key_of(text: str, folder: str = "") -> str:
    """A name from a file as a key of a set: `/` between folders, relative, without `..`; never empty.

    folder: that of the file which names it, in its source; a relative name begins there.
    """
    plain = text[-MAX_NAME:].replace("\\", "/")
    asked = (part[2:] for part in plain.partition("?")[2].split("&") if part.startswith("d="))
    plain = next((unquote(part) for part in asked), plain)  # Label Studio's local files
    address = re.match(r"(?:[A-Za-z]:|file:|[A-Za-z][A-Za-z0-9+.-]*://)/*", plain)
    absolute = bool(address) or plain.startswith("/")
    plain = plain[address.end() :] if address else plain
    parts: list[str] = [] if absolute else [part for part in folder.split("/") if part]
    for part in plain.split("/"):
        if part == "..":
            del parts[-1:]
        elif part.strip() not in ("", "."):
            parts.append(part)
    return "/".join(parts)[-MAX_NAME:].lstrip("/") or "unnamed"


def unique_names(names: Iterable[str]) -> list[str]:
    """The names, the second and later of equal ones with a number in front, so that images are kept apart."""
    taken: set[str] = set()
    numbers: dict[str, int] = {}
    out = []
    for name in names:
        new = name
        while new in taken:
            numbers[name] = numbers.get(name, 1) + 1
            new = f"{numbers[name]}/{name}"
        taken.add(new)
        out.append(new)
    return out


def split_suffix(name: str) -> tuple[str, str]:
    """A name without the suffix of a photograph, and that suffix; "" for any other."""
    suffix = PurePosixPath(name).suffix
    return (name.removesuffix(suffix), suffix) if suffix.lower() in SUFFIXES else (name, "")


def photograph_names(annotations: AnnotationSet, under: str = "images/") -> list[str]:
    """Where photographs are written: below a folder, unless their names begin with it already."""
    names = [image.name for image in annotations.images]
    return [name if name.startswith(under) else under + name for name in names]


def safe_name(name: str, suffix: str, taken: set[str]) -> str:
    """`free_name` of what belongs to an image: the suffix of a photograph is replaced."""
    return free_name(split_suffix(name)[0], suffix, taken)


def free_name(stem: str, suffix: str, taken: set[str]) -> str:
    """A relative file name: inside the directory whatever the stem says, on every file system, and free (case does not
    tell names apart); it is added to `taken`."""
    parts = [re.sub(r'[\x00-\x1f\x7f-\x9f<>:"|?*\u2028-\u202e]', "_", part) for part in key_of(stem).split("/")]
    parts = [_short(part, MAX_BYTES_OF_PART) or "_" for part in parts][-20:]
    folder = "".join(part + "/" for part in parts[:-1])
    # A few small numbers for people, then one that is free at once, however many share the name.
    numbers = chain(range(2, 10), count(len(taken) + 1))
    tries = (f"{_short(parts[-1], MAX_BYTES_OF_PART - 12)}~{number}" for number in numbers)
    names = (folder + file + suffix for file in chain(parts[-1:], tries))
    name = next(name for name in names if name.casefold() not in taken)
    taken.add(name.casefold())
    return name


def _short(part: str, limit: int) -> str:
    """The beginning of a name of a file or folder; file systems count bytes."""
    return part.strip(". ").encode("utf-8", "ignore")[:limit].decode("utf-8", "ignore").strip(". ")
