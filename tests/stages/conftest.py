"""Tiny models that went through the first stages once, for all tests of the later ones."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

import tiny
from bessemer.loop import run_recipe

RECIPES = Path(__file__).parents[2] / "recipes" / "tiny"


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Features and assets are kept here, never in the user's own cache."""
    directory = tmp_path_factory.mktemp("cache")
    before = os.environ.get("BESSEMER_CACHE")
    os.environ["BESSEMER_CACHE"] = str(directory)
    yield directory
    if before is None:
        del os.environ["BESSEMER_CACHE"]
    else:
        os.environ["BESSEMER_CACHE"] = before


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """tiny-model, tiny-tower and photographs, and beside them import, tower, align, sft, rank and reward of
    recipes/tiny/loop.yaml. To read from; nobody writes here."""
    directory = tmp_path_factory.mktemp("shop")
    tiny.surroundings(directory)
    with contextlib.chdir(directory):
        run_recipe(RECIPES / "loop.yaml", ["output_dir=.", "name=stages"], until="reward")
    for path in (directory / "stages").iterdir():
        path.rename(directory / path.name)
    return directory


@pytest.fixture(scope="session")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same for recipes/tiny/text.yaml: tiny-model, and import, sft, rank and reward."""
    directory = tmp_path_factory.mktemp("texts")
    tiny.surroundings(directory)
    with contextlib.chdir(directory):
        run_recipe(RECIPES / "text.yaml", ["output_dir=.", "name=stages"], until="reward")
    for path in (directory / "stages").iterdir():
        path.rename(directory / path.name)
    return directory
