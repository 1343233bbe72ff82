from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from bessemer.annotation.documents import review, save, save_labels, submit
from bessemer.annotation.intake import keep
from bessemer.annotation.rankings import RankingTask, add_ranking_tasks, save_ranking
from bessemer.annotation.shapes import Annotation, Box, Label
from bessemer.annotation.snapshot import _hash, create_snapshot, list_snapshots, read_snapshot
from bessemer.annotation.store import Project, open_project
from bessemer.data.schema import Message, Prompt
from bessemer.errors import UserError

CRACK = Annotation("1", "裂纹", Box(0.1, 0.2, 0.3, 0.4), raw={"coco": {"iscrowd": 0}})


@pytest.fixture
def finished(project: Project) -> Project:
    """Image 1: ann accepted, bob submitted; 2: ann accepted, nothing to see; 3: doing."""
    save_labels(project, 0, (Label("裂纹", "#ff0000"),), "ann")
    for image, who, said in ((1, "ann", [CRACK]), (1, "bob", []), (2, "ann", [])):
        save(project, image, who, 0, said)
        submit(project, image, who, 1)
    for image in (1, 2):
        review(project, image, "ann", 1, "rev", "accepted")
    save(project, 3, "ann", 0, [CRACK])
    prompt = Prompt("p", (Message("user", "?"),))
    add_ranking_tasks(project, [RankingTask("t", prompt, ("a", "b"), (True, True), ("honest",))])
    save_ranking(project, "t", "ann", 0, {"honest": [1, 2]}, (1, 0))
    return project


def test_a_snapshot_holds_what_was_accepted(finished: Project, root: Path) -> None:
    made = create_snapshot(finished)
    assert [(entry.annotator, entry.image.name, entry.state) for entry in made.entries] == [
        ("ann", "部/A.jpg", "accepted"), ("ann", "部/B.jpg", "accepted"),
    ]  # fmt: skip
    (crack,) = made.entries[0].image.annotations
    assert (crack.shape, crack.raw, made.entries[0].image.sha256) == (CRACK.shape, CRACK.raw, "1" * 64)
    assert made.labels == (Label("裂纹", "#ff0000"),)
    assert made.rankings[0].ranks == {"honest": (1, 2)}
    assert made.manifest["counts"] == {
        "images": 2, "documents": 2, "annotations": 1, "shapes": 1, "labels": 1, "rankings": 1,
    }  # fmt: skip
    assert made.manifest["folders"] == {"部/A.jpg": str(root.resolve()), "部/B.jpg": str(root.resolve())}
    assert made.directory.name == made.hash[:16]
    file = hashlib.sha256((made.directory / "images.jsonl").read_bytes()).hexdigest()
    assert made.manifest["files"]["images.jsonl"] == file
    assert read_snapshot(made.directory) == made


def test_the_same_contents_have_the_same_hash(finished: Project) -> None:
    first = create_snapshot(finished)
    save(finished, 3, "ann", 1, [])  # nothing accepted changes
    again = create_snapshot(finished)
    assert (again.hash, again.created) == (first.hash, first.created)
    other = create_snapshot(finished, ("submitted", "accepted"))
    assert other.hash != first.hash and len(other.entries) == 3
    save(finished, 2, "ann", 1, [Annotation("9")])
    third = create_snapshot(finished)
    assert len(third.entries) == 1
    assert read_snapshot(first.directory) == first  # older ones stay as they are
    assert {digest for digest, _, _ in list_snapshots(finished)} == {first.hash, other.hash, third.hash}
    finished.close()
    with open_project(finished.directory) as opened:
        assert create_snapshot(opened).hash == third.hash


def test_one_set_of_several_annotators(finished: Project) -> None:
    both = create_snapshot(finished, ("submitted", "accepted"))
    images = both.annotation_set().images
    assert [(image.name, len(image.annotations)) for image in images] == [("部/A.jpg", 1), ("部/B.jpg", 0)]
    assert [len(image.annotations) for image in both.annotation_set("bob").images] == [0]
    review(finished, 1, "bob", 1, "rev", "accepted")
    with pytest.raises(UserError, match="部/A.jpg has documents of ann, bob, expected one accepted"):
        create_snapshot(finished).annotation_set()


@pytest.mark.parametrize("name", ["images.jsonl", "labels.json", "rankings.jsonl"])
def test_a_changed_file_is_detected(finished: Project, name: str) -> None:
    made = create_snapshot(finished)
    path = made.directory / name
    path.chmod(0o644)
    data = path.read_bytes()
    path.write_bytes(data[:20] + bytes([data[20] ^ 1]) + data[21:])
    with pytest.raises(UserError, match=f"{name} was changed"):
        read_snapshot(made.directory)
    path.unlink()
    with pytest.raises(UserError, match="holds"):
        create_snapshot(finished)


def test_a_changed_manifest_is_detected(finished: Project) -> None:
    made = create_snapshot(finished)
    path = made.directory / "manifest.json"
    path.chmod(0o644)
    for key, value in (
        ("hash", "0" * 64), ("counts", {}), ("states", []), ("created", "1970"), ("folders", {"a": "/"}), ("files", {}),
    ):  # fmt: skip
        path.write_text(json.dumps({**made.manifest, key: value}))
        with pytest.raises(UserError, match="was changed"):
            read_snapshot(made.directory)
    for text in ("{", "[]", '{"hash": 1}'):
        path.write_text(text)
        with pytest.raises(UserError, match="is damaged"):
            read_snapshot(made.directory)
    (made.directory / "extra").write_text("")
    path.write_text(json.dumps(made.manifest))
    with pytest.raises(UserError, match="extra"):
        read_snapshot(made.directory)
    path.unlink()
    with pytest.raises(UserError, match="is no snapshot"):
        read_snapshot(made.directory)


def test_an_empty_snapshot_is_refused(project: Project) -> None:
    with pytest.raises(UserError, match="nothing that is accepted"):
        create_snapshot(project)
    with pytest.raises(UserError, match="state 'done'"):
        create_snapshot(project, ("done",))  # type: ignore[arg-type]


def test_what_files_said_as_a_whole_is_part_of_it(finished: Project) -> None:
    before = create_snapshot(finished)
    said = {"coco": {"files": {"a.json": {"info": {"year": 2026}}}}}
    assert keep(finished, said) == []
    after = create_snapshot(finished)
    assert (before.kept, after.kept) == ({}, said) and before.hash != after.hash
    assert after.annotation_set("ann").raw == said == read_snapshot(after.directory).kept


def test_a_snapshot_of_the_first_format_is_read(finished: Project) -> None:
    """It has no kept.json."""
    made = create_snapshot(finished)
    made.directory.chmod(0o755)
    for path in made.directory.iterdir():
        path.chmod(0o644)
    (made.directory / "kept.json").unlink()
    sealed = {key: made.manifest[key] for key in ("format", "states", "counts", "files")} | {"format": 1}
    sealed["files"].pop("kept.json")
    (made.directory / "manifest.json").write_text(json.dumps({**made.manifest, **sealed, "hash": _hash(sealed)}))
    again = read_snapshot(made.directory)
    assert (again.entries, again.labels, again.rankings, again.kept) == (made.entries, made.labels, made.rankings, {})
