"""The loop: all faults first, skipping, resuming, moving aside."""

from __future__ import annotations

import gc
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bessemer import interrupts
from bessemer.config import read_recipe
from bessemer.errors import Defect, Stopped, UserError
from bessemer.loop import check_recipe, plan, run_recipe, single
from bessemer.run import read_manifest
from bessemer.stages import STAGES, Stage
from fake_command import FAKES

TEXT = """
stages: [source, train, shuffled]
seed: 5
shuffled: {stage: train, learning_rate: -1}
"""
SHIPPED = sorted((Path(__file__).parents[1] / "recipes").rglob("*.yaml"))


@pytest.fixture(autouse=True)
def fakes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    for name, stage in FAKES.items():
        monkeypatch.setitem(STAGES, name, stage)
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)  # slow to import
    monkeypatch.setattr(gc, "collect", lambda: 0)  # a third of a second with PyTorch's objects about
    monkeypatch.chdir(tmp_path)
    yield
    interrupts.release()


def recipe(text: str = TEXT) -> Path:
    path = Path("walk.yaml")
    path.write_text(text, encoding="utf-8")
    return path


def manifest(section: str) -> dict[str, Any]:
    found = read_manifest(Path("runs/walk", section))
    assert found is not None
    return found


def ran(capsys: pytest.CaptureFixture[str]) -> list[str]:
    """The sections that were run since the last call."""
    return [line.split()[1] for line in capsys.readouterr().out.splitlines() if line.endswith(": running")]


def test_the_sections_run_in_order_then_are_up_to_date(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_recipe(recipe()) == Path("runs/walk")
    first = capsys.readouterr().out
    heads = [re.sub(r"\d+:\d\d", "T", line) for line in first.splitlines() if line.startswith("[")]
    assert heads == [
        "[1/3] source (T so far): running",
        "[2/3] train (T so far): running",
        "[3/3] shuffled (T so far): running",
    ]
    assert [line.split()[0] for line in first.splitlines()[-5:]] == [
        "section",
        "source",
        "train",
        "shuffled",
        "total",
    ]
    assert manifest("train")["parents"]["source"]["path"] == "runs/walk/source"
    assert manifest("train")["seed"] == 5
    assert manifest("shuffled")["summary"]["total"] == -manifest("train")["summary"]["total"]
    run_recipe(recipe())
    assert "so far): up to date (runs/walk/train)\n" in capsys.readouterr().out
    assert sorted(path.name for path in Path("runs/walk").iterdir()) == ["shuffled", "source", "train"]


def test_the_report_is_named_at_the_end(capsys: pytest.CaptureFixture[str]) -> None:
    run_recipe(recipe())
    assert "report:" not in capsys.readouterr().out
    Path("runs/walk/report.html").write_text("")
    run_recipe(recipe(), until="source")
    assert "report:" not in capsys.readouterr().out  # it is of what was there before
    Path("runs/walk/train/report.html").write_text("")
    run_recipe(recipe())  # train is no section called evaluate, so what lies beside the stages is another's
    assert capsys.readouterr().out.endswith("report: runs/walk/train/report.html\n")
    renamed = recipe("stages: [source, evaluate]\nsource: {}\nevaluate: {stage: train, source: source, steps: 2}\n")
    run_recipe(renamed)
    Path("runs/walk/evaluate/report.html").write_text("")
    run_recipe(renamed)
    assert capsys.readouterr().out.endswith("report: runs/walk/report.html\n")
    Path("runs/walk/report.html").unlink()
    run_recipe(renamed)
    assert capsys.readouterr().out.endswith("report: runs/walk/evaluate/report.html\n")


def test_what_changes_runs_again_and_nothing_else(capsys: pytest.CaptureFixture[str]) -> None:
    run_recipe(recipe())
    ran(capsys)
    run_recipe(recipe(), ["train.steps=9"])
    assert ran(capsys) == ["train"]
    assert sorted(path.name for path in Path("runs/walk").iterdir()) == [
        "shuffled",
        "source",
        "train",
        "train.old-1",
    ]
    run_recipe(recipe(), ["train.steps=9", "source.text=other"])
    assert ran(capsys) == ["source", "train", "shuffled"]
    Path("runs/walk/source/records.jsonl").write_text("by hand")
    run_recipe(recipe(), ["train.steps=9", "source.text=other"])
    assert ran(capsys) == ["train", "shuffled"]
    assert Path("runs/walk/source/records.jsonl").read_text() == "by hand"


def test_a_run_inside_its_own_input(capsys: pytest.CaptureFixture[str]) -> None:
    """`cd photos && bessemer init . && bessemer run photos.yaml`"""
    Path("a.png").write_text("x")
    text = "stages: [source, train]\ntrain: {source: .}\n"
    run_recipe(recipe(text))
    Path("runs/walk/report.html").write_text("as evaluate leaves it")
    ran(capsys)
    run_recipe(recipe(text))
    assert ran(capsys) == []
    Path("a.png").write_text("y")
    run_recipe(recipe(text))
    assert ran(capsys) == ["train"]


def test_a_moved_run_is_still_current(capsys: pytest.CaptureFixture[str]) -> None:
    run_recipe(recipe())
    ran(capsys)
    Path("runs").rename("elsewhere")
    run_recipe(recipe(), ["output_dir=elsewhere"])
    assert ran(capsys) == []


def test_force_until_and_only(capsys: pytest.CaptureFixture[str]) -> None:
    run_recipe(recipe(), until="train")
    assert ran(capsys) == ["source", "train"]
    run_recipe(recipe(), force=["source"])  # the same bytes again, so train has nothing to do
    assert ran(capsys) == ["source", "shuffled"]
    assert Path("runs/walk/source.old-1/records.jsonl").exists()
    run_recipe(recipe(), ["seed=6"], only="shuffled")
    assert ran(capsys) == ["shuffled"]
    with pytest.raises(UserError, match="--only shuffled comes after --until train, expected one of the two"):
        run_recipe(recipe(), until="train", only="shuffled")
    for options in ({"until": "trian"}, {"only": "trian"}, {"force": ["trian"]}):
        with pytest.raises(UserError, match="did you mean 'train'"):
            run_recipe(recipe(), **options)


def test_only_may_name_a_section_that_stages_leaves_out(capsys: pytest.CaptureFixture[str]) -> None:
    text = TEXT.replace(", shuffled]", "]")
    run_recipe(recipe(text))
    assert ran(capsys) == ["source", "train"]
    run_recipe(recipe(text), only="shuffled")
    assert ran(capsys) == ["shuffled"]


@pytest.mark.parametrize(
    ("text", "overrides", "faults"),
    [
        (
            "stages: [source, train]\ntrain: {steps: x, }\nsource: {txt: a}",
            [],
            ["train.steps is 'x'", "mean 'text'"],
        ),
        ("stages: [source, trian]\ntrian: {}", [], ["no stage 'trian'", "did you mean 'train'"]),
        ("stages: [source, b]\nb: {stage: tarin}", [], ["section 'b': there is no stage 'tarin'"]),
        ("stages: [ask]", [], ["no stage 'ask' in a recipe"]),
        (
            "stages: [train, source]",
            [],
            ["train.source names section 'source', which does not come before 'train'"],
        ),
        ("stages: [source, train]", ["train.save_steps=0"], ["train.save_steps=0, expected at least 1"]),
        ("stages: [train]\ntrain: {source: train/model}", [], ["names section 'train' itself", "set train.output_dir"]),
        (
            "stages: [train]",
            [],
            ["train.source is 'source', expected a section of this recipe that runs before"],
        ),
        ("stages: [train]\nsource: {}", [], ["train.source is 'runs/walk/source', expected a section"]),
        ("stages: [source]\nlearning_rat: 1", [], ["'learning_rat' is not a key of a recipe"]),
        (
            "stages: [source]\nsuorce: {text: a}",
            [],
            ["'suorce' is not a key of a recipe", "did you mean 'source'"],
        ),
        ("stages: [source]\nsource.text: a", [], ["'source.text' is not a key", "'text' inside the section 'source'"]),
        ("stages: [source]", ["untill=source"], ["did you mean 'until'"]),
        ("stages: []", [], ["the recipe lists no stages"]),
        ("stages: [source]", ["stps=3"], ["no section of this recipe has a field 'stps'"]),
        ("stages: [source]", ["suorce.text=3"], ["'suorce.text'; did you mean 'source'"]),
        ("stages: [source]", ["source.txt=3"], ["did you mean 'text'"]),
        ("stages: [source]", ["seed=1", "seed=2"], ["source.seed is given twice in the command line, expected it"]),
        ("stages: [source]", ["source.output_dir=a", "source.output_dir=b"], ["source.output_dir is given twice"]),
        ("stages: [source]", ["name=a", "name=b"], ["name is given twice in the command line, expected it once"]),
        ("stages: [source]", ["name=../x"], ["cannot name a directory"]),
    ],
)
def test_every_fault_is_told_before_any_work(text: str, overrides: list[str], faults: list[str]) -> None:
    with pytest.raises(UserError) as caught:
        run_recipe(recipe(text), overrides)
    for fault in faults:
        assert fault in str(caught.value)
    assert not Path("runs").exists()


def test_a_slip_in_one_section_is_not_told_of_those_that_read_from_it() -> None:
    with pytest.raises(UserError) as caught:
        run_recipe(recipe("stages: [source, train]"), ["source.seed=x"])
    assert str(caught.value) == "source.seed is 'x', expected a whole number"


def test_overrides_reach_the_sections_that_have_them() -> None:
    loaded = {
        "name": "walk",
        "stages": ["source", "train", "shuffled"],
        "shuffled": {"stage": "train", "steps": 2},
    }
    found = plan(loaded, ["train.lr=3", "lr=2", "steps=4", "name=other", "seed=1", "train.seed=2"])
    configs = {section.name: section.config for section in found}
    assert (configs["train"].learning_rate, configs["shuffled"].learning_rate) == (3.0, 2.0)
    assert (configs["train"].steps, configs["shuffled"].steps) == (4, 4)
    assert configs["source"].output_dir == "runs/other/source" and configs["source"].seed == 1
    assert configs["train"].seed == 2
    moved = plan(loaded, ["source.output_dir=/data/x", "stages=source,train"])
    assert [section.config.output_dir for section in moved] == ["/data/x", "runs/walk/train"]
    assert moved[1].config.source == "/data/x"


def test_sections_without_stages_run_as_the_file_has_them() -> None:
    loaded = {"name": "walk", "source": {}, "train": {}, "ask": {"question": "x"}}
    assert [section.name for section in plan(loaded)] == ["source", "train"]


def test_a_top_level_key_of_a_stage_that_the_recipe_does_not_run_is_no_fault() -> None:
    check_recipe({"stages": ["source"], "steps": 3, "name": "x"})
    assert plan({"stages": ["source"], "steps": 3, "name": "x"})[0].name == "source"


def test_a_defect_is_written_down_and_the_next_run_goes_on(capsys: pytest.CaptureFixture[str]) -> None:
    straight = run_recipe(recipe(), ["name=straight"], until="train")
    with pytest.raises(Defect, match="train failed: ValueError: a defect at 步 5") as caught:
        run_recipe(recipe(), ["train.fail_at=5"], until="train")
    file = Path("runs/walk/train/error.txt")
    assert caught.value.traceback_file == file
    assert "fake_train.py" in file.read_text(encoding="utf-8")
    assert manifest("train")["status"] == "failed"
    ran(capsys)
    with pytest.raises(Defect):
        run_recipe(recipe(), ["train.fail_at=5"], until="train")  # resumed at 3, same end
    assert ran(capsys) == ["train"]
    metrics = (straight / "train" / "metrics.jsonl").read_text().splitlines()[:5]
    assert file.with_name("metrics.jsonl").read_text().splitlines() == metrics


def test_a_user_error_of_a_stage_passes_as_it_is() -> None:
    with pytest.raises(UserError, match="the stage refuses this input"):
        run_recipe(recipe(), ["train.refuse=true"])
    assert not Path("runs/walk/train/error.txt").exists()
    assert manifest("train")["status"] == "failed"


def test_a_stage_that_was_stopped_says_so_wherever_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not every place that hears a signal can write the manifest: the features of photographs, an import."""
    run_recipe(recipe(), until="source")

    def stopped(self: Any, *_: object, **__: object) -> None:
        raise Stopped("stopped among the features")

    monkeypatch.setattr("bessemer.run.Run.track", stopped)
    with pytest.raises(Stopped, match="among the features"):
        run_recipe(recipe(), only="train")
    assert manifest("train")["status"] == "stopped"


def test_a_run_at_work_elsewhere_is_not_called_failed() -> None:
    with pytest.raises(UserError, match="the stage refuses this input"):
        run_recipe(recipe(), ["train.refuse=true"])
    file = Path("runs/walk/train/manifest.json")
    file.write_text(json.dumps({**manifest("train"), "status": "running"}))
    code = "import fcntl, sys; f = open(sys.argv[1], 'wb'); fcntl.lockf(f, 2); print(flush=True); input()"
    command = [sys.executable, "-c", code, str(file.with_name(".lock"))]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        other.stdout.readline()
        with pytest.raises(UserError, match="another process is at work"):
            run_recipe(recipe(), ["train.refuse=true"])
        other.communicate(b"\n")
    assert manifest("train")["status"] == "running"


def test_a_stage_that_returns_unfinished_is_a_defect() -> None:
    with pytest.raises(Defect, match="is not finished with these inputs"):
        run_recipe(recipe(), ["source.defer=true"])


def test_unfinished_and_missing_inputs_are_refused() -> None:
    run_recipe(recipe(), until="source")
    path = Path("runs/walk/source/manifest.json")
    text = json.loads(path.read_text())
    path.write_text(json.dumps({**text, "status": "stopped"}))
    with pytest.raises(UserError, match=r"train.source: runs/walk/source is not finished \(stopped\)"):
        run_recipe(recipe(), only="train")
    section = single("train", {"name": "walk", "stages": ["source", "train"]}, ["source=source/records.jsonl"])
    assert section.config.source == "runs/walk/source/records.jsonl"
    path.parent.rename("runs/walk/away")
    with pytest.raises(UserError, match="train.source: runs/walk/source is not there"):
        run_recipe(recipe(), only="train")


def test_a_stop_between_sections(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interrupts, "requested", lambda: True)
    with pytest.raises(Stopped, match="stopped before source"):
        run_recipe(recipe())
    assert not Path("runs").exists()


def test_the_handlers_are_given_back() -> None:
    run_recipe(recipe(), until="source")
    assert interrupts.catch()


def test_the_shipped_table() -> None:
    for verb, stage in STAGES.items():
        assert verb.isidentifier() or verb == "import"
        assert isinstance(stage, Stage) and stage.summary


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_every_recipe_that_is_shipped_is_one(path: Path) -> None:
    for name in ("tiny-model", "tiny-tower", "photographs"):  # what the tiny ones expect in the current folder
        Path(name).mkdir()
    recipe = read_recipe(path)
    check_recipe(recipe)
    given = ["import.data=photographs"] if path.stem in ("annotated", "turns") else []  # which `bessemer loop` fills in
    assert [section.name for section in plan(recipe, given)] == recipe["stages"]
