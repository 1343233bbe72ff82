"""One small evaluation and its report, made once; tests that change them copy first."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bessemer.report.build import build
from bessemer.report.html import render
from bessemer.report.outputs import Evaluation
from report.plausible import evaluation, photographs

CELLS = 40


@pytest.fixture(scope="session")
def small_evaluation() -> Evaluation:
    return evaluation(cells=CELLS, prompts=12, groups=None, reward_prompts=4)


@pytest.fixture(scope="session")
def small_report(small_evaluation: Evaluation) -> dict[str, Any]:
    return build(small_evaluation)


@pytest.fixture(scope="session")
def image_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("photographs")
    photographs(root, CELLS)
    return root


@pytest.fixture(scope="session")
def page(small_report: dict[str, Any], image_root: Path) -> str:
    return render(small_report, image_root)
