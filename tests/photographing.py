"""Photographs for the tests of formats."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from bessemer.annotation.shapes import AnnotatedImage


def photograph(path: Path, width: int, height: int, orientation: int = 1) -> None:
    """A PNG or JPEG whose size is width x height when seen upright."""
    path.parent.mkdir(parents=True, exist_ok=True)
    exif = Image.Exif()
    exif[0x0112] = orientation
    size = (height, width) if orientation in (5, 6, 7, 8) else (width, height)
    kind = "PNG" if path.suffix.lower() in ("", ".png") else "JPEG"
    Image.new("L", size, 100).save(path, kind, exif=exif)


def photographs(folder: Path, images: tuple[AnnotatedImage, ...]) -> Path:
    """The files of a set's images; those without the suffix of a photograph are left out."""
    folder.mkdir(parents=True, exist_ok=True)
    for image in images:
        if Path(image.name).suffix:
            photograph(folder / image.name, image.width, image.height, image.exif_orientation)
    return folder
