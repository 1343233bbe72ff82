"""Turns of the loop between people and model, with tiny models."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

import tiny
from bessemer.annotation.codec import encode_image, to_json
from bessemer.annotation.documents import review, save_all, save_labels
from bessemer.annotation.intake import add_folder
from bessemer.annotation.listing import image, images_by_sha256
from bessemer.annotation.shapes import AnnotatedImage, Annotation, Box, Label
from bessemer.annotation.store import create_project, open_project
from bessemer.cli import main
from bessemer.data.splits import hashed_part
from bessemer.errors import UserError
from bessemer.turns import Config, _compare, _passes
from photographing import photograph

RECIPE = Path(__file__).parents[1] / "recipes" / "tiny" / "turns.yaml"


def truth_of(number: int) -> list[Annotation]:
    boxes = [Annotation("1", "dent", Box(4, 4, 20, 20))] if number % 2 else []
    return [*boxes, Annotation("2", text="A dented part." if number % 2 else "A sound part.")]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """tiny models, a project of 24 photographs and the file that says what is to be seen in them."""
    tiny.surroundings(tmp_path)
    monkeypatch.setenv("BESSEMER_CACHE", str(tmp_path / "cache"))
    with create_project(tmp_path / "project", "parts") as project:
        ids = add_folder(project, tmp_path / "photographs").ids
        save_labels(project, 0, (Label("dent"),), "ann")
        seen: list[AnnotatedImage] = [image(project, id) for id in ids]
    lines = [
        to_json(encode_image(AnnotatedImage(i.name, i.width, i.height, i.sha256, annotations=tuple(truth_of(n)))))
        + "\n"
        for n, i in enumerate(seen)
    ]
    (tmp_path / "truth.jsonl").write_text("".join(lines))
    with contextlib.chdir(tmp_path):
        yield tmp_path


def turns_of(place: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((place / "runs/loop/loop.json").read_text())
    return found


def loop(*words: str) -> int:
    return main(["loop", str(RECIPE), "project", "budget=4", *words])


def test_simulated_turns(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        loop("simulate=truth.jsonl", "initial=10", "turns=2", "overrides=[evaluate.max_test=2, sft.max_steps=2]") == 0
    )
    first, second = turns_of(place)["turns"]
    assert first["passed"] and first["gain"] is None
    assert second["snapshot"] != first["snapshot"]
    assert second["passed"] == (second["gain"] > 0)
    assert turns_of(place)["model"] == (second if second["passed"] else first)["model"]
    assert Path(turns_of(place)["model"], "model").is_dir() and Path(second["report"]).is_file()
    assert len(first["queued"]) == len(second["queued"]) == 4 and not {*first["queued"]} & {*second["queued"]}
    with open_project(place / "project") as project:
        sha256 = {id: key for key, some in images_by_sha256(project).items() for id in some}
        with project.read() as db:
            rows = db.execute("SELECT image, annotator, state FROM documents").fetchall()
    assert {row[0] for row in rows} >= {*first["queued"]} and not {row[0] for row in rows} & {*second["queued"]}
    configs = [(place / f"runs/loop/turn-2/{name}/config.yaml").read_text() for name in ("sft", "compare")]
    assert all("dtype: fp32" in text for text in configs)  # what the recipe says for all counts for the comparison too
    assert "max_steps: 2" in configs[0] and "max_test: 2" in configs[1]
    queued = [*first["queued"], *second["queued"]]
    assert not [id for id in queued if hashed_part(sha256[id], 0) == "test"]  # what is measured on stays as it was
    assert len(rows) == 14 and {row[1:] for row in rows} == {("simulated", "accepted")}
    tested = []
    for turn in (1, 2):
        lines = (place / f"runs/loop/turn-{turn}/import/examples.jsonl").read_text().splitlines()
        tested.append({row["id"] for row in map(json.loads, lines) if row["split"] == "test"})
    assert tested[0] == tested[1]
    printed = capsys.readouterr().out
    assert "annotated by a simulated annotator" in printed and "the first model stands" in printed


def test_people_are_waited_for(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert loop() == 2
    assert "nothing that is" in capsys.readouterr().err  # nobody has annotated anything yet
    with open_project(place / "project") as project:
        save_all(project, [(id, "ann", 0, truth_of(id)) for id in range(1, 9)], state="submitted")
    assert loop() == 0
    queued = turns_of(place)["turns"][0]["queued"]
    assert loop() == 0
    printed = capsys.readouterr().out
    assert "turn 1: 0 of 4 queued photographs are annotated" in printed and "bessemer annotate project" in printed
    assert len(turns_of(place)["turns"]) == 1
    with open_project(place / "project") as project:
        save_all(project, [(id, "ann", 0, truth_of(id)) for id in queued], state="submitted")
    assert loop() == 0
    assert len(turns_of(place)["turns"]) == 2


def test_nothing_waits_and_nothing_is_new(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with open_project(place / "project") as project:
        save_all(project, [(id, "ann", 0, truth_of(id)) for id in range(1, 25)], state="submitted")
    assert loop() == 0 and turns_of(place)["turns"][0]["queued"] == []
    assert "no photograph waits in project" in capsys.readouterr().out
    assert loop() == 0 and len(turns_of(place)["turns"]) == 1
    assert "nothing was annotated since turn 1" in capsys.readouterr().out
    assert main(["loop", str(RECIPE), str(place / "project"), "budget=4"]) == 0  # the same one, spelled otherwise
    assert "nothing was annotated since turn 1" in capsys.readouterr().out and len(turns_of(place)["turns"]) == 1
    assert not (place / "runs/loop/turn-2/import").exists()
    older = {key: value for key, value in turns_of(place).items() if key != "project"}
    (place / "runs/loop/loop.json").write_text(json.dumps(older))
    for number in range(8):
        photograph(place / "more" / f"new{number}.png", 40 + number, 30)
    with open_project(place / "project") as project:
        add_folder(project, place / "more")
    assert loop() == 0
    (turn,) = turns_of(place)["turns"]
    assert len(turn["queued"]) == 4 and min(turn["queued"]) > 24
    assert "4 photographs that were added are queued" in capsys.readouterr().out
    assert loop() == 0 and "turn 1: 0 of 4 queued photographs are annotated" in capsys.readouterr().out


def test_what_was_refused_is_mended_and_counts(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """By the import stage, then by the gate, when the sections before it are done."""
    note = place / "runs/loop/turn-1/snapshot.json"
    with open_project(place / "project") as project:
        save_all(project, [(id, "ann", 0, truth_of(id)) for id in range(1, 9)], state="submitted")
        save_all(project, [(1, "bo", 0, truth_of(1))], state="submitted")
    assert loop() == 2 and "has documents of ann, bo" in capsys.readouterr().err
    assert not note.exists()
    with open_project(place / "project") as project:
        review(project, 1, "ann", 1, "dora", "accepted")

    def refuse(*_: object) -> bool:
        raise UserError("too few")

    monkeypatch.setattr("bessemer.turns._passes", refuse)
    assert loop() == 2 and "too few" in capsys.readouterr().err
    first = json.loads((place / "runs/loop/turn-1/sft/manifest.json").read_text())["fingerprint"]
    monkeypatch.setattr("bessemer.turns._passes", _passes)
    with open_project(place / "project") as project:
        save_all(project, [(9, "ann", 0, truth_of(9))], state="submitted")
    assert loop() == 0
    lines = (place / "runs/loop/turn-1/import/examples.jsonl").read_text().splitlines()
    assert len(lines) == 9
    assert json.loads((place / "runs/loop/turn-1/sft/manifest.json").read_text())["fingerprint"] != first
    assert turns_of(place)["turns"][0]["snapshot"] == json.loads(note.read_text())["snapshot"]


def test_another_project_needs_another_place(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with create_project(place / "other", "other") as project:
        add_folder(project, place / "photographs")
    with open_project(place / "project") as project:
        save_all(project, [(id, "ann", 0, truth_of(id)) for id in range(1, 9)], state="submitted")
    assert loop("overrides=[import.data=elsewhere, sft.max_steps=x]") == 2  # in its first turn already
    assert turns_of(place)["project"] == str(place / "project")
    capsys.readouterr()
    assert main(["loop", str(RECIPE), "other"]) == 2
    said = capsys.readouterr().err
    assert f"holds the turns of {place / 'project'}, expected those of {place / 'other'}; set output_dir" in said


def test_a_stopped_turn_goes_on_with_its_snapshot(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with open_project(place / "project") as project:
        save_all(project, [(id, "ann", 0, truth_of(id)) for id in range(1, 9)], state="submitted")
    monkeypatch.setattr("bessemer.turns.preannotate", lambda config: 1 / 0)
    assert loop() == 1
    began = json.loads((place / "runs/loop/turn-1/snapshot.json").read_text())["snapshot"]
    with open_project(place / "project") as project:
        save_all(project, [(20, "ann", 0, truth_of(20))], state="submitted")
    monkeypatch.undo()
    monkeypatch.setenv("BESSEMER_CACHE", str(place / "cache"))
    model = place / "runs/loop/turn-1/sft/manifest.json"
    before = model.read_bytes()
    assert loop() == 0
    assert turns_of(place)["turns"][0]["snapshot"] == began and model.read_bytes() == before


def test_the_model_before_is_asked_as_often_as_the_new_one(place: Path) -> None:
    """And what cannot be asked is told before anything is trained."""
    asked = Path("recipe.yaml")
    asked.write_text(RECIPE.read_text(encoding="utf-8") + "\n", encoding="utf-8")

    def compare(*overrides: str) -> Any:
        words = [f"evaluate.{word}" for word in overrides]
        settings = Config(recipe=str(asked), project="project", overrides=words)
        return _compare(settings, place / "turn-2", place / "import", "old", place / "new").config

    found = compare("heldout_answers=4")
    assert (found.base, found.base_answers, found.heldout_answers) == ("old", 4, 4)
    assert compare().base_answers == 1
    given = yaml.safe_load(RECIPE.read_text(encoding="utf-8"))
    given["evaluate"] = {**(given.get("evaluate") or {}), "heldout_answers": 3}
    asked.write_text(yaml.safe_dump(given, sort_keys=False), encoding="utf-8")
    assert (compare().base_answers, compare().heldout_answers) == (3, 3)
    for words, message in (
        (["heldout_answers=2", "temperature=0"], "evaluate.heldout_answers=2 at temperature=0"),
        (["max_test=-1"], "evaluate.max_test=-1, expected 0 or more"),
    ):
        with pytest.raises(UserError, match=message):
            compare(*words)


def test_the_gate_keeps_the_model_before_unless_the_new_one_is_better() -> None:
    assert _passes(Config(), "", None, None)
    assert _passes(Config(), "old", 0.01, [-0.1, 0.2]) and not _passes(Config(), "old", 0.0, [-0.1, 0.1])
    assert not _passes(Config(sure=True), "old", 0.01, [-0.1, 0.2])
    assert _passes(Config(sure=True), "old", 0.05, [0.01, 0.2])
    assert _passes(Config(), "old", 0.01, None)  # too few for an interval
    for config, gain in ((Config(sure=True), 0.01), (Config(), None)):
        with pytest.raises(UserError, match="gate=score: of the test photographs"):
            _passes(config, "old", gain, None)
    assert not _passes(Config(min_gain=0.02), "old", 0.01, [0.0, 0.2])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["turns=0"], "expected at least 1 of each"),
        (["initial=3"], "initial without simulate"),
        (["states=[lost]"], "expected accepted, submitted or doing"),
    ],
)
def test_refusals(place: Path, capsys: pytest.CaptureFixture[str], words: list[str], message: str) -> None:
    assert loop(*words) == 2
    assert message in capsys.readouterr().err
