"""The command: words, help, exit codes, and runs that are killed."""

from __future__ import annotations

import gc
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bessemer import __version__, interrupts
from bessemer.cli import main
from bessemer.disk import tree_hash
from bessemer.run import read_manifest
from bessemer.stages import STAGES
from fake_command import FAKES

RECIPE = "stages: [source, train]\nseed: 5\ntrain: {steps: 8}\n"


@pytest.fixture(autouse=True)
def fakes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    for name, stage in FAKES.items():
        monkeypatch.setitem(STAGES, name, stage)
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)  # slow to import
    monkeypatch.setattr(gc, "collect", lambda: 0)  # a third of a second with PyTorch's objects about
    monkeypatch.chdir(tmp_path)
    Path("walk.yaml").write_text(RECIPE)
    yield
    interrupts.release()


def test_the_overview_lists_every_verb(capsys: pytest.CaptureFixture[str]) -> None:
    for words in ([], ["--help"], ["-h"], ["help"]):
        assert main(words) == 0
        lines = capsys.readouterr().out.splitlines()
        assert [line.split()[0] for line in lines if line.startswith("  ")] == ["run", *STAGES]
        for verb, stage in STAGES.items():
            assert any(line.split(maxsplit=1) == [verb, stage.summary] for line in lines)


def test_the_overview_needs_no_pytorch() -> None:
    code = "import sys; from bessemer.cli import main; main(['--help']); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "False"


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"bessemer {__version__}\n"


def test_help_of_a_verb_shows_every_field(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--help"]) == 0
    text = capsys.readouterr().out
    assert text.startswith("usage: bessemer train [RECIPE] [key=value | --key value ...] [--force]\n")
    assert "\n  learning_rate=1.0  (a number; also lr)\n      Length of a step.\n" in text
    assert "--from DIR  with the configuration" in text and max(map(len, text.splitlines())) <= 80
    assert main(["loop", "--help"]) == 0
    assert capsys.readouterr().out.startswith("usage: bessemer loop [recipe] [project] [key=value")
    assert main(["ask", "--help"]) == 0
    assert capsys.readouterr().out.startswith("usage: bessemer ask [RECIPE] [question] [key=value | --key value ...]\n")
    assert main(["run", "--help"]) == 0
    for option in ("--until", "--only", "--force", "section.key=value"):
        assert option in capsys.readouterr().out or option != "--until"
        main(["run", "-h"])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["trian"], "there is no verb 'trian', expected one of run, import"),
        (["evalute"], "did you mean 'evaluate'?"),
        (["run"], "0 recipes, expected one"),
        (["run", "a.yaml", "b.yaml"], "2 recipes, expected one"),
        (["run", "none.yaml"], "recipe none.yaml could not be read"),
        (["run", "walk.yaml", "--until"], "--until stands alone, expected a value after it"),
        (["run", "walk.yaml", "--until", "a", "--until", "b"], "--until is given 2 times"),
        (["run", "walk.yaml", "--onyl", "train"], "has a field 'onyl'"),
        (["run", "walk.yaml", "train.stps=3"], "did you mean 'steps'"),
        (["train", "walk.yaml", "stps=3"], "did you mean 'steps'"),
        (["train", "walk.yaml", "--steps"], "--steps stands alone"),
        (["train", "walk.yaml", "--steps", "--seed=1"], "--steps stands alone"),
        (["train", "walk.yaml", "steps=x"], "train.steps is 'x', expected a whole number"),
        (["train", "walk.yaml", "other.yaml"], "'other.yaml' is one word too many"),
        (["ask", "what", "else"], "'else' is one word too many"),
        (["train", "walk.yaml", "--from", "runs/walk/train"], "a recipe and --from, expected one of them"),
        (["train", "--from", "nowhere"], "nowhere holds no manifest.json"),
        (["train", "walk.yaml"], "train.source: runs/walk/source is not there"),
    ],
)
def test_mistakes_exit_with_2_and_say_what_to_do(
    capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    assert main(words) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("bessemer: ") and message in captured.err
    assert "Traceback" not in captured.err


def test_a_recipe_then_each_stage_alone_then_a_replay(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "walk.yaml"]) == 0
    capsys.readouterr()
    assert main(["train", "walk.yaml"]) == 0
    assert capsys.readouterr().out == "train: up to date (runs/walk/train)\nruns/walk/train\n"
    assert main(["train", "--from", "runs/walk/train", "output_dir=again"]) == 0
    assert Path("again/metrics.jsonl").read_bytes() == Path("runs/walk/train/metrics.jsonl").read_bytes()
    assert tree_hash("again/model") == tree_hash("runs/walk/train/model")
    assert main(["train", "walk.yaml", "lr=2", "--steps", "4", "--save-steps=2"]) == 0
    assert len(Path("runs/walk/train/metrics.jsonl").read_text().splitlines()) == 4
    assert Path("runs/walk/train.old-1/model").is_dir()
    assert main(["train", "walk.yaml", "lr=2", "steps=4", "save_steps=2", "--force"]) == 0
    assert Path("runs/walk/train.old-2/model").is_dir()
    assert main(["source", "--from", "runs/walk/train"]) == 2
    assert "was made by 'train', expected 'source'" in capsys.readouterr().err


def test_a_stage_without_a_recipe() -> None:
    assert main(["source", "text=缺陷"]) == 0
    assert Path("runs/source/records.jsonl").read_text(encoding="utf-8") == "缺陷"


@pytest.mark.parametrize(
    ("words", "printed"),
    [
        (["Is this cell defective?", "--model", "m"], "m: Is this cell defective?"),
        (["这块电池有缺陷吗？", "model=m"], "m: 这块电池有缺陷吗？"),
        (["--model=m", "Is 2+2=4?"], "m: Is 2+2=4?"),
        (["--model", "m", "--", "a=b?"], "m: a=b?"),
        (["question=x", "--loud", "--model", "m"], "m: X"),
        (["--loud", "x"], ": X"),
        (["--loud", "no", "x"], ": x"),
        (["ask.yaml", "x"], "from the recipe: x"),
        (["none.yaml"], ": none.yaml"),
    ],
)
def test_positional_words_and_flags_of_a_tool(
    capsys: pytest.CaptureFixture[str], words: list[str], printed: str
) -> None:
    Path("ask.yaml").write_text("ask: {model: from the recipe}\n")
    assert main(["ask", *words]) == 0
    assert capsys.readouterr().out == printed + "\n"


@pytest.mark.parametrize(
    ("words", "printed"),
    [
        (["a", "b", "c"], "a: ['b', 'c']"),
        (
            ["a", "--", "b=1, c", "[d", "7", "null", "盒\U0001f600\x7f"],
            "a: ['b=1, c', '[d', '7', 'null', '盒\U0001f600\\x7f']",
        ),
        (["a"], "a: ['none']"),
        (["things=b,c", "--first", "a"], "a: ['b', 'c']"),
        ([], ": ['none']"),
    ],
)
def test_a_last_positional_list_takes_all_remaining_words(
    capsys: pytest.CaptureFixture[str], words: list[str], printed: str
) -> None:
    assert main(["sum", *words]) == 0
    assert capsys.readouterr().out == printed + "\n"
    assert main(["sum", "--help"]) == 0
    assert capsys.readouterr().out.startswith("usage: bessemer sum [RECIPE] [first] [things ...] [key=value")


def test_a_defect_exits_with_1_and_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "walk.yaml", "train.fail_at=2"]) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert error == "bessemer: train failed: ValueError: a defect at 步 2 (traceback: runs/walk/train/error.txt)"
    assert "Traceback" in Path("runs/walk/train/error.txt").read_text(encoding="utf-8")
    assert main(["ask", "crash"]) == 1
    assert capsys.readouterr().err.splitlines()[-1] == "bessemer: ZeroDivisionError: asked to"


def test_a_terminal_without_chinese_does_not_end_a_run() -> None:
    code = "import sys; from fake_command import *; STAGES.update(FAKES); sys.exit(main(['ask', '缺陷']))"
    path = os.pathsep.join([os.environ["PYTHONPATH"], str(Path(__file__).parent)])
    environment = os.environ | {"PYTHONPATH": path, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, ": \\u7f3a\\u9677\n")


class Held:
    """`run` in a process of its own, waiting after step 4 (the last checkpoint is step 3's)."""

    def __init__(self, name: str) -> None:
        self.gate, self.directory = Path(f"{name}-may-go-on"), Path("runs", name, "train")
        self.words = ["run", "walk.yaml", f"name={name}", f"train.gate={self.gate}"]
        script = str(Path(__file__).with_name("fake_command.py"))
        self.process = subprocess.Popen([sys.executable, script, *self.words], stderr=subprocess.PIPE, text=True)

    def wait(self) -> None:
        log = self.directory / "metrics.jsonl"
        while not log.exists() or log.read_bytes().count(b"\n") < 4:
            assert self.process.poll() is None, "it ended before step 4"
            time.sleep(0.01)

    def wait_for_message(self, text: str) -> None:
        assert self.process.stderr is not None
        while text not in self.process.stderr.readline():
            assert self.process.poll() is None, f"it ended without saying {text!r}"

    def end(self) -> tuple[int, str]:
        _, error = self.process.communicate(timeout=100)
        return self.process.returncode, error


def test_killed_stopped_and_insisted_runs_end_in_the_bytes_of_a_straight_one() -> None:
    held = {name: Held(name) for name in ("killed", "stopped", "insisted")}
    assert main(["run", "walk.yaml", "name=straight"]) == 0
    for one in held.values():
        one.wait()
    held["killed"].process.send_signal(signal.SIGKILL)
    held["stopped"].process.send_signal(signal.SIGTERM)
    held["stopped"].wait_for_message("saving the state")
    held["stopped"].gate.touch()
    held["insisted"].process.send_signal(signal.SIGINT)
    held["insisted"].wait_for_message("saving the state")
    held["insisted"].process.send_signal(signal.SIGINT)
    ends = {name: one.end() for name, one in held.items()}
    assert {name: code for name, (code, _) in ends.items()} == {"killed": -9, "stopped": 75, "insisted": 130}
    assert "the state is saved: run the same command again to go on" in ends["stopped"][1]
    statuses = {name: (read_manifest(one.directory) or {})["status"] for name, one in held.items()}
    assert statuses == {"killed": "running", "stopped": "stopped", "insisted": "running"}
    straight = Path("runs/straight/train")
    for one in held.values():
        assert len((one.directory / "metrics.jsonl").read_bytes().splitlines()) == 4
        one.gate.touch()
        assert main(one.words) == 0
        assert (one.directory / "metrics.jsonl").read_bytes() == (straight / "metrics.jsonl").read_bytes()
        assert tree_hash(one.directory / "model") == tree_hash(straight / "model")
        assert not list(one.directory.parent.glob("*.old-*"))
        timings = [json.loads(line) for line in (one.directory / "timings.jsonl").read_text().splitlines()]
        assert [line["step"] for line in timings] == list(range(1, 9))
