from __future__ import annotations

import json
import subprocess
from pathlib import Path

from bessemer.report.outputs import Parent
from bessemer.report.provenance import git_commit, machine_facts, read_lineage


def test_lineage_says_nothing_of_the_folders_of_the_machine(tmp_path: Path) -> None:
    stage = tmp_path / "runs" / "solar" / "sft"
    stage.mkdir(parents=True)
    manifest = {
        "stage": "sft",
        "status": "done",
        "fingerprint": "f" * 64,
        "model_sha256": "a" * 64,
        "parents": {"model": {"path": str(tmp_path / "runs" / "solar" / "align"), "sha256": "b" * 64}},
        "seed": 3,
        "seconds": 12.5,
    }
    (stage / "manifest.json").write_text(json.dumps(manifest))
    (found,) = read_lineage([tmp_path / "absent", stage])
    assert (found.stage, found.directory, found.seed, found.seconds) == ("sft", "solar/sft", 3, 12.5)
    assert found.parents == {"model": Parent("align", "b" * 64)}
    assert str(tmp_path) not in str(found)


def test_machine_is_described_without_names() -> None:
    facts = machine_facts("cpu")
    assert isinstance(facts["cores"], int) and facts["cores"] >= 1
    assert facts["device"] == "cpu" and str(facts["memory"]).endswith(" GB")
    assert set(facts) == {"processor", "cores", "memory", "device", "system", "python"}


def test_commit_and_the_mark_of_a_changed_tree(tmp_path: Path) -> None:
    assert git_commit(tmp_path / "absent") is None
    identity = ["-c", "user.name=n", "-c", "user.email=e@example.org", "-c", "commit.gpgsign=false"]
    (tmp_path / "file").write_text("1")
    for command in (["init", "-q"], ["add", "file"], [*identity, "commit", "-q", "-m", "m"]):
        subprocess.run(["git", "-C", str(tmp_path), *command], check=True)
    whole = subprocess.run(["git", "-C", str(tmp_path), "rev-parse", "HEAD"], capture_output=True, text=True)
    clean = git_commit(tmp_path)
    assert clean is not None and whole.stdout.startswith(clean)
    (tmp_path / "file").write_text("2")
    assert git_commit(tmp_path) == clean + "+"
