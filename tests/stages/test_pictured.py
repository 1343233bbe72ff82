from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from bessemer.annotation.codec import read_images
from bessemer.annotation.documents import save, save_labels, submit
from bessemer.annotation.intake import add_folder
from bessemer.annotation.shapes import Annotation, Box, Label
from bessemer.annotation.snapshot import Snapshot, create_snapshot
from bessemer.annotation.store import create_project
from bessemer.config import Artifact
from bessemer.data.dataset import Dataset
from bessemer.data.images import load_image
from bessemer.errors import UserError
from bessemer.stages.importing import Config, run
from bessemer.tasks.judge import judge


@pytest.mark.parametrize("language", ["en", "zh"])
def test_site(tmp_path: Path, capsys: pytest.CaptureFixture[str], language: str) -> None:
    config = Config(
        source="site", images=20, language=language, bank_prompts=30, ppo_prompts=40, general_documents=3,
        output_dir=str(tmp_path / "out"),
    )  # type: ignore[arg-type]  # fmt: skip
    out = run(config)
    dataset = Dataset(out)
    examples = dataset.examples()
    assert len(examples) == 20 and {e.split for e in examples} == {"train", "val", "test"}
    assert load_image(examples[0].image, dataset.root).size == (384, 384)
    truth = read_images(out / "annotations.jsonl")
    assert [image.sha256 for image in truth] == [e.image.sha256 for e in examples]
    kinds = {p.facts["rule"] for name in ("rank", "ppo", "heldout") for p in dataset.prompts(name)}
    assert kinds == {"objects", "count", "describe", "verdict"}
    assert (len(dataset.prompts("rank")), len(dataset.prompts("ppo"))) == (30, 40)
    split = {e.id: e.split for e in examples}
    assert {split[p.provenance["example"]] for p in dataset.prompts("heldout")} == {"test"}
    for prompt in dataset.prompts("rank"):
        assert (judge(prompt, prompt.facts["reference"], True)["truthfulness"] or 0) >= 0.85
    tasks = {c.task for c in dataset.conversations("train")}
    assert {"detect", "count", "describe", "no helmet", "blocked exit"} <= tasks
    printed = capsys.readouterr().out
    assert "format: site, generated scenes" in printed and "first detect:\n  > [site-000" in printed


def annotated(tmp_path: Path) -> Snapshot:
    """Of eight photographs, a crate in every second one."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(8):
        Image.new("RGB", (64, 48), (number * 20, 90, 40)).save(folder / f"p{number}.png")
    with create_project(tmp_path / "project", "crates") as project:
        add_folder(project, folder)
        save_labels(project, 0, (Label("crate"), Label("bolt")), "ann")
        for image in range(1, 9):
            said = [Annotation("b", "crate", Box(8.0, 6.0, 32.0, 24.0))] if image % 2 else []
            save(project, image, "ann", 0, said)
            submit(project, image, "ann", 1)
        return create_snapshot(project, ("submitted",))


def test_a_snapshot_of_an_annotation_project(tmp_path: Path) -> None:
    snapshot, folder = annotated(tmp_path), tmp_path / "photos"
    out = run(Config(source="annotations", data=Artifact(str(snapshot.directory)), heldout_prompts=0, bank_prompts=10,
                     ppo_prompts=0, general_documents=0, output_dir=str(tmp_path / "out")))  # fmt: skip
    dataset = Dataset(out)
    labels = [example.labels for example in dataset.examples()]
    assert labels == [{"crate": "yes" if n % 2 == 0 else "no", "bolt": "no"} for n in range(8)]
    assert {e.provenance["snapshot"] for e in dataset.examples()} == {snapshot.hash}
    every = [c for part in ("train", "val", "test") for c in dataset.conversations(part)]
    assert "Crate [125, 125, 625, 625]." in {c.messages[-1].text for c in every if c.task == "detect"}
    prompts = [prompt for name in ("rank", "heldout") for prompt in dataset.prompts(name)]
    asked = [*every, *prompts]
    names = {name for prompt in asked for name in prompt.facts.get("names", ())}
    assert names == {"crate", "bolt"}  # of people or forklifts nobody said whether they are there
    spoken = " ".join(message.text.casefold() for one in asked for message in one.messages)
    assert "person" not in spoken and "vehicle" not in spoken and "no bolt" in spoken and "no crate" in spoken
    (folder / "p1.png").write_bytes((folder / "p0.png").read_bytes())
    with pytest.raises(UserError, match="p1.png has changed since it was annotated"):
        run(Config(source="annotations", data=Artifact(str(snapshot.directory)), output_dir=str(tmp_path / "again")))


def test_the_language_is_that_of_every_question(tmp_path: Path) -> None:
    out = run(Config(source="annotations", data=Artifact(str(annotated(tmp_path).directory)), language="zh",
                     general_documents=0, output_dir=str(tmp_path / "out")))  # fmt: skip
    asked = [m.text for c in Dataset(out).conversations("train") for m in c.messages if m.role == "user"]
    assert {c.task for c in Dataset(out).conversations("train")} >= {"detect", "crate", "bolt"}
    assert [text for text in asked if text.isascii()] == []


def test_the_same_seed_imports_the_same(tmp_path: Path) -> None:
    hashes = set()
    for name in ("a", "b"):
        out = run(Config(source="site", images=6, general_documents=0, output_dir=str(tmp_path / name)))
        hashes.add(json.loads((out / "manifest.json").read_text())["facts"]["data_hash"])
    assert len(hashes) == 1


def test_difficulty_is_checked(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="difficulty 2, expected 0 to 1"):
        run(Config(source="site", difficulty=2, output_dir=str(tmp_path / "out")))
