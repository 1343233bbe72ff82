"""Fingerprints: what makes a result stale and what does not."""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from bessemer import manifest
from bessemer.assets import ASSETS
from bessemer.config import Artifact
from bessemer.errors import UserError


@dataclass(frozen=True)
class Config:
    output_dir: str = "runs/x/sft"
    seed: int = 0
    learning_rate: float = 1e-4
    model: Artifact = Artifact("smollm2")
    others: list[Artifact] = field(default_factory=list)


def mark(config: Any) -> str:
    hashes = {name: manifest.content_hash(path) for name, path in manifest.parent_paths(config).items()}
    return manifest.fingerprint(config, hashes)


def stage(directory: Path, status: str = "done", **more: Any) -> Path:
    directory.mkdir(parents=True)
    text = {"stage": "sft", "status": status, "fingerprint": "f", "model_sha256": None, **more}
    (directory / "manifest.json").write_text(json.dumps(text))
    (directory / "records.jsonl").write_text("{}")
    return directory


@pytest.mark.parametrize(
    "change",
    [{"seed": 1}, {"learning_rate": 2e-4}, {"model": "efficientnet_lite0"}, {"others": ["org/model"]}],
)
def test_another_configuration_is_another_fingerprint(change: dict[str, Any]) -> None:
    assert mark(replace(Config(), **change)) != mark(Config())


def test_the_place_of_the_output_does_not_count() -> None:
    assert mark(replace(Config(), output_dir="elsewhere")) == mark(Config())


def test_another_stage_with_the_same_fields_is_another_fingerprint(monkeypatch: pytest.MonkeyPatch) -> None:
    before = mark(Config())
    monkeypatch.setitem(sys.modules, "bessemer.stages.grpo", sys.modules[__name__])
    monkeypatch.setattr(Config, "__module__", "bessemer.stages.grpo")
    assert mark(Config()) != before


def test_a_new_release_of_an_asset_is_another_fingerprint(monkeypatch: pytest.MonkeyPatch) -> None:
    before = mark(Config())
    monkeypatch.setitem(ASSETS, "smollm2", replace(ASSETS["smollm2"], sha256="0" * 64))
    assert mark(Config()) != before


def test_inputs_count_by_content_not_by_path(tmp_path: Path) -> None:
    one = stage(tmp_path / "a")
    two = tmp_path / "b"
    shutil.copytree(one, two)
    before = mark(Config(model=Artifact(str(one)), others=[Artifact(str(one))]))
    assert mark(Config(model=Artifact(str(two)), others=[Artifact(str(two))])) == before
    (two / "records.jsonl").write_text("{ }")
    assert mark(Config(model=Artifact(str(one)), others=[Artifact(str(two))])) != before
    assert mark(Config(model=Artifact(str(two)), others=[Artifact(str(one))])) != before


def test_the_content_of_a_stage_is_what_a_later_stage_reads(tmp_path: Path) -> None:
    directory = stage(tmp_path / "a")
    before = manifest.content_hash(directory)
    for name in (
        "checkpoints/ckpt-00000001/x",
        "tensorboard/events",
        "timings.jsonl",
        "config.yaml",
        ".lock",
        "error.txt",
    ):
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_text("x")
    (directory / "manifest.json").write_text(
        json.dumps({"stage": "sft", "status": "done", "fingerprint": "f", "seconds": 3})
    )
    assert manifest.content_hash(directory) == before
    for name in ("metrics.jsonl", "model/model.safetensors"):
        (directory / name).parent.mkdir(exist_ok=True)
        (directory / name).write_text("x")
        assert manifest.content_hash(directory) != before
        before = manifest.content_hash(directory)


def test_a_folder_with_a_manifest_of_somebody_else_counts_whole(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text('{"start_url": "/"}')
    before = manifest.content_hash(tmp_path)
    assert not manifest.is_stage(tmp_path)
    (tmp_path / "config.yaml").write_text("x")
    assert manifest.content_hash(tmp_path) != before


def test_stages_below_a_folder_of_inputs_do_not_count(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("x")
    (tmp_path / "report.json").write_text("of somebody else")
    before = manifest.content_hash(tmp_path)
    for name in ("import", "import.old-1"):
        stage(tmp_path / "runs" / "photos" / name)
    for name in ("report.json", "report.html"):
        (tmp_path / "runs" / "photos" / name).write_text("evaluate's copy")
    assert manifest.content_hash(tmp_path) == before
    for name in ("report.json", "runs/b.png", "runs/photos/b.png"):
        (tmp_path / name).write_text("y")
        assert manifest.content_hash(tmp_path) != before
        before = manifest.content_hash(tmp_path)


def test_the_report_of_a_recipe_is_an_input_of_who_is_given_its_directory(tmp_path: Path) -> None:
    stage(tmp_path / "evaluate")
    (tmp_path / "report.json").write_text("1")
    before = manifest.content_hash(tmp_path)
    (tmp_path / "report.json").write_text("2")
    assert manifest.content_hash(tmp_path) != before


def test_is_current(tmp_path: Path) -> None:
    assert not manifest.is_current(tmp_path / "none", "f")
    assert manifest.is_current(stage(tmp_path / "done"), "f")
    assert not manifest.is_current(tmp_path / "done", "g")
    for status in ("running", "stopped", "failed"):
        assert not manifest.is_current(stage(tmp_path / status, status), "f")
    lost = stage(tmp_path / "lost", model_sha256="a")
    assert not manifest.is_current(lost, "f")
    (lost / "model").mkdir()
    assert manifest.is_current(lost, "f")


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"stage": 1}', "[" * 9999, "\xff"])
def test_a_damaged_manifest_is_said(tmp_path: Path, text: str) -> None:
    assert manifest.read_manifest(tmp_path) is None
    (tmp_path / "manifest.json").write_text(text, encoding="latin-1")
    with pytest.raises(UserError, match="manifest.json is damaged"):
        manifest.read_manifest(tmp_path)
