from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from bessemer.annotation.listing import add_images
from bessemer.annotation.shapes import AnnotatedImage
from bessemer.annotation.store import Project, create_project


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "photographs"
    folder.mkdir()
    return folder


@pytest.fixture
def project(tmp_path: Path, root: Path) -> Iterator[Project]:
    """A project of three images that are not there as files: ids 1, 2, 3."""
    with create_project(tmp_path / "project", "屋顶") as opened:
        images = [
            AnnotatedImage(f"部/{name}.jpg", 40, 30, sha256=digit * 64)
            for name, digit in zip("ABC", "123", strict=True)
        ]
        assert add_images(opened, root, images) == [1, 2, 3]
        yield opened
