"""Tiny models that went through the first stages once, for all tests of the later ones."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import tiny
from bessemer.loop import run_recipe
from vowels import make_vowels

RECIPES = Path(__file__).parents[2] / "recipes" / "tiny"


@contextlib.contextmanager
def isolated(cache: Path) -> Iterator[None]:
    """Features and assets go to `cache`, never to the user's own; no TensorBoard, which is slow to import."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BESSEMER_CACHE", str(cache))
        patch.setitem(sys.modules, "torch.utils.tensorboard", None)
        yield


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module", autouse=True)
def isolation(cache: Path) -> Iterator[None]:
    with isolated(cache):
        yield


def made(recipe: str, directory: Path, cache: Path) -> Path:
    """The stages of a tiny recipe up to the reward model, each in `directory`, beside what the recipe names."""
    tiny.surroundings(directory)
    with contextlib.chdir(directory), isolated(cache):
        run_recipe(RECIPES / recipe, ["output_dir=.", "name=stages"], until="reward")
    for path in (directory / "stages").iterdir():
        path.rename(directory / path.name)
    return directory


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Path:
    """tiny-model, tiny-tower and photographs, and import, tower, align, sft, rank and reward made of them.

    To read from: nobody writes here."""
    return made("loop.yaml", tmp_path_factory.mktemp("shop"), cache)


@pytest.fixture(scope="session")
def texts(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Path:
    """The same for text: tiny-model, and import, sft, rank and reward; sft is tuned in full, so it has no adapter."""
    return made("text.yaml", tmp_path_factory.mktemp("texts"), cache)


@pytest.fixture(scope="session")
def vowels(texts: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset of short questions, and a reward model on the policy of `texts` that likes a vowel at the end."""
    return make_vowels(texts, tmp_path_factory.mktemp("vowels"))
