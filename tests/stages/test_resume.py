"""A run that was killed again and again ends in the same bytes as one that was left alone."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bessemer.manifest import read_manifest
from killed_stage import sections

STAGES = ["tower", "align", "sft", "rank", "reward", "ppo", "grpo", "distill"]
DRIVER = Path(__file__).parents[1] / "killed_stage.py"
# What may differ: times and paths. What a killed write leaves behind is hidden and no content.
APART = ("manifest.json", "config.yaml", "timings.jsonl")


@pytest.fixture(scope="module")
def runs(shop: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, dict[str, Any]]:
    """Directory of the straight runs, of the killed ones, and what became of every attempt.

    The straight runs are made here, where other tests have computed before, and the killed ones in another process
    with another hash seed and an empty cache: none of that may decide what comes out.
    """
    straight, killed = tmp_path_factory.mktemp("straight"), tmp_path_factory.mktemp("killed")
    with contextlib.chdir(shop):
        for section in sections(shop, straight, STAGES):
            section.run(section.config)
    done = subprocess.run(
        [sys.executable, str(DRIVER), str(shop), str(killed), *STAGES],
        env=os.environ | {"PYTHONHASHSEED": "7", "BESSEMER_CACHE": str(killed / "cache")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return straight, killed, json.loads(done.stdout.splitlines()[-1])


def contents(stage: Path) -> dict[str, str]:
    """Relative name -> hash of every file that has to be the same."""
    found = {}
    for path in sorted(stage.rglob("*")):
        name = str(path.relative_to(stage))
        if path.is_file() and name not in APART and name[0] != ".":
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


@pytest.mark.parametrize("stage", STAGES)
def test_killed_and_resumed_is_the_same_to_the_byte(stage: str, runs: tuple[Path, Path, dict[str, Any]]) -> None:
    straight, killed, attempts = runs
    expected, found = contents(straight / stage), contents(killed / stage)
    assert found == expected, sorted(name for name in expected | found if expected.get(name) != found.get(name))
    if stage == "rank":
        assert attempts[stage] == [[True, None]] * 5 + [[False, None]]
        assert {"answers.jsonl", "rankings.jsonl", "agreement.json"} <= set(found)
        return
    # before the first checkpoint, in its write, in step 3, in the write of 4, in step 5, in the model's write, then at
    # the end
    steps = [None, None, 2, 2, 4, 7, 7, 7]
    assert attempts[stage] == [[step != 7 or place < 7, step] for place, step in enumerate(steps)]
    rows = [json.loads(line) for line in (killed / stage / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [1, 2, 3, 4, 5, 6, 7]
    # the loss of what is learnt as it was sampled is 0 but for rounding; its gradient is not
    assert len({(row["loss"], row["gradient_norm"]) for row in rows}) == 7
    names = {name.split("/")[0] for name in found}
    assert {"model", "metrics.jsonl", "checkpoints"} <= names
    # weights, moments, counts and random state of the last checkpoint are among the bytes compared
    assert any(name.startswith("checkpoints/ckpt-00000007/") for name in found)
    manifest = read_manifest(killed / stage)
    assert manifest is not None and manifest["status"] == "done"


def test_what_a_checkpoint_of_ppo_must_hold(runs: tuple[Path, Path, dict[str, Any]]) -> None:
    """The coefficient really moved, so that a resumed run which forgot it would have differed above."""
    rows = [json.loads(line) for line in (runs[1] / "ppo" / "metrics.jsonl").read_text().splitlines()]
    assert len({row["kl_coef"] for row in rows}) == 7
    state = json.loads((runs[1] / "ppo" / "checkpoints" / "ckpt-00000007" / "state.json").read_text())
    assert state["numbers"]["kl_coef"] == rows[-1]["kl_coef"]
