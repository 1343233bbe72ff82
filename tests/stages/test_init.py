from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest
import yaml
from PIL import Image

from bessemer.cli import main
from bessemer.config import read_recipe
from bessemer.data.dataset import Dataset
from bessemer.errors import UserError
from bessemer.loop import plan
from bessemer.stages import importing
from bessemer.stages.init import Config, run
from bessemer.tasks.wordings import load_wordings


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = tmp_path / "我的 parts"
    for number, name in enumerate(("good", "crack")):
        (root / name).mkdir(parents=True)
        for i in range(12):
            Image.new("RGB", (40, 40), (40 * number, 5 * i, 90)).save(root / name / f"{i}.png")
    (root / "good" / "broken.png").write_bytes(b"no image")
    monkeypatch.chdir(tmp_path)
    return root


def test_what_was_found_is_said_and_written(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = run(Config(str(folder)))
    assert recipe == Path("我的-parts.yaml") and recipe.is_file()
    printed = capsys.readouterr().out
    assert "24 photographs, labels from sub-folders" in printed and "class: crack 12, good 12" in printed
    assert "good/broken.png" in printed and "then: bessemer run 我的-parts.yaml" in printed
    wordings = load_wordings("我的-parts.wordings.yaml")
    assert wordings.attributes["class"].positive == "crack" and wordings.scene == "equipment"
    assert "# The questions." in Path("我的-parts.wordings.yaml").read_text(encoding="utf-8")


def test_the_recipe_is_a_plan_of_the_whole_loop(folder: Path) -> None:
    recipe = read_recipe(run(Config(str(folder), name="parts")))
    sections = plan(recipe)
    assert [section.stage for section in sections] == [
        "import", "tower", "align", "sft", "rank", "reward", "ppo", "distill", "evaluate",
    ]  # fmt: skip
    evaluate = sections[-1].config
    assert (
        evaluate.sft == "runs/parts/sft"
        and evaluate.student == "runs/parts/distill"
        and evaluate.base == "runs/parts/align"
    )
    assert evaluate.heldout_prompts == 200
    assert Path(sections[0].config.data) == folder.resolve()


def test_its_import_runs(folder: Path) -> None:
    recipe = read_recipe(run(Config(str(folder), name="parts")))
    config = plan(recipe)[0].config
    config.general_documents = 6
    out = importing.run(config)
    assert {c.task for c in Dataset(out).conversations("train")} >= {"class", "report"}


def table(root: Path, columns: str, labels: Iterable[str]) -> Path:
    """Photographs with labels.csv beside them: a row of labels each."""
    root.mkdir()
    rows = [f"file,{columns}"]
    for i, row in enumerate(labels):
        Image.new("RGB", (40, 40), (i, 0, 90)).save(root / f"{i}.png")
        rows.append(f"{i}.png,{row}")
    (root / "labels.csv").write_text("\n".join(rows) + "\n")
    return root


def test_a_table_of_several_labels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    labels = (f"{'yes' if i % 2 else 'no'},{i % 3},b{i // 4}" for i in range(24))
    root = table(tmp_path / "site", "helmet,grade,batch", labels)
    monkeypatch.chdir(tmp_path)
    path = run(
        Config(
            str(root),
            label_columns=["helmet", "grade"],
            group_column="batch",
            scene="personnel",
            output="r.yaml",
        )
    )
    section = yaml.safe_load(path.read_text(encoding="utf-8"))["import"]
    assert section["label_columns"] == ["helmet", "grade"] and section["group_column"] == "batch"
    wordings = load_wordings("r.wordings.yaml")
    assert wordings.tasks["helmet"].choices == {"no": "No", "yes": "Yes"}
    assert wordings.attributes["grade"].ordered and "dialogue" in wordings.tasks
    printed = capsys.readouterr().out
    assert "no value of helmet reads like 'nothing is wrong'" in printed
    assert "name it as `safe` (and the other as `positive`) in" in printed and "name it as `safe` in" in printed


def test_nothing_is_overwritten_unasked(folder: Path) -> None:
    first = run(Config(str(folder), output="r.yaml"))
    Path("r.wordings.yaml").write_text("mine")
    with pytest.raises(UserError, match=r"r.yaml is there already, .*--overwrite"):
        run(Config(str(folder), output="r.yaml"))
    first.unlink()
    with pytest.raises(UserError, match=r"r.wordings.yaml is there already"):
        run(Config(str(folder), output="r.yaml"))
    assert Path("r.wordings.yaml").read_text() == "mine" and not Path("r.yaml").exists()
    run(Config(str(folder), output="r.yaml", overwrite=True))
    assert load_wordings("r.wordings.yaml").tasks


def test_ordinary_names_of_columns_and_labels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    values = ((i % 2, i % 3, i % 5) for i in range(24))
    labels = (f"{'yes' if a else 'no'},{'crack (small)' if b else 'ok'},{-1 if c else 1}" for a, b, c in values)
    root = table(tmp_path / "parts", "defective?,kind: (main),sign", labels)
    monkeypatch.chdir(tmp_path)
    config = plan(read_recipe(run(Config(str(root), output="r.yaml"))))[0].config
    config.general_documents = 6
    out = importing.run(config)
    assert {"defective?", "kind: (main)", "sign", "report"} <= {c.task for c in Dataset(out).conversations("train")}
    assert load_wordings("r.wordings.yaml").tasks["sign"].choices == {"-1": "Minus 1", "1": "1"}


def test_labels_that_cannot_be_told_apart_leave_no_file(folder: Path) -> None:
    (folder / "good").rename(folder / "crack!")
    with pytest.raises(UserError, match=r"no questions can be made of these labels \(r.wordings.yaml:.*Nothing was"):
        run(Config(str(folder), output="r.yaml"))
    assert not list(folder.parent.glob("*.yaml"))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (Config(), "which folder"),
        (Config("absent"), "is not a folder"),
        (Config("我的 parts", output="r.txt"), "ends in .yaml"),
        (Config("我的 parts", name="a/b"), "name 'a/b' cannot name a directory"),
    ],
)
def test_errors(folder: Path, config: Config, message: str) -> None:
    with pytest.raises(UserError, match=message):
        run(config)


def test_by_the_command(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["init", str(folder), "output=r.yaml"]) == 0
    assert "wrote r.yaml and r.wordings.yaml" in capsys.readouterr().out
    assert main(["init", str(folder), "--output", "r.yaml"]) == 2
    assert main(["init", str(folder), "--output", "r.yaml", "--overwrite"]) == 0
    assert main(["init", str(folder), "--output", "my r.yaml"]) == 0
    assert "then: bessemer run 'my r.yaml'" in capsys.readouterr().out
