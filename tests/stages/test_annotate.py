from __future__ import annotations

import os
import re
import signal
import stat
import subprocess
import sys
import urllib.request
from pathlib import Path
from unittest import mock

import pytest
from PIL import Image

from bessemer.annotation.documents import label_set
from bessemer.annotation.listing import progress
from bessemer.annotation.rankings import ranking_tasks
from bessemer.annotation.store import create_project, open_project
from bessemer.cli import main
from bessemer.data.records import Message, Prompt, Ranking, write_records
from bessemer.errors import UserError
from bessemer.stages import annotate
from bessemer.stages.annotate import Config, run
from source_tree import SOURCE


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    folder = tmp_path / "roof"
    folder.mkdir()
    for name in ("a", "b"):
        Image.new("RGB", (40, 30), "gray").save(folder / f"{name}.png")
    (folder / "broken.png").write_bytes(b"none")
    return folder


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path / "state"


@pytest.fixture
def stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever starts a server stops it at once."""
    monkeypatch.setattr(annotate.interrupts, "requested", lambda: True)


def answers(path: Path) -> Path:
    prompt = Prompt("q", (Message("user", "what?"),))
    write_records(path, [Ranking("q", prompt, ("a", "b"), (True, True), {}, who, (0, 1)) for who in ("x", "y")])
    return path


def test_a_folder_of_photographs_becomes_a_project_beside_it(
    photographs: Path, stopped: None, capsys: pytest.CaptureFixture[str]
) -> None:
    questions = str(answers(photographs.parent / "r.jsonl"))
    people = {"annotators": ["ann", "bo"], "reviewers": ["dora"]}
    config = Config(str(photographs), labels=["crack", "spill"], answers=questions, **people, open_browser=False)
    before = sorted(photographs.iterdir())
    directory = run(config)
    printed = capsys.readouterr().out
    assert directory == photographs.with_name("roof-annotations") and sorted(photographs.iterdir()) == before
    assert "2 photographs" in printed and "left out: broken.png" in printed and "1 questions to rank" in printed
    links = dict(re.findall(r"  (\w+) \([a-z ]+\): http://127\.0\.0\.1:\d+/enter\?token=([\w-]{43})", printed))
    assert set(links) == {"ann", "bo", "dora"} and len(set(links.values())) == 3
    assert "bo (annotates)" in printed and "dora (reviews)" in printed
    assert run(config) == directory  # again, by the folder's name
    again = capsys.readouterr().out
    assert "0 questions to rank, 1 were there" in again
    assert not set(re.findall(r"token=([\w-]{43})", again)) & set(links.values())  # new ones at every start
    with open_project(directory) as project:
        assert [label.name for label in label_set(project).labels] == ["crack", "spill"]
        assert [id for id, _ in ranking_tasks(project, "ann")] == ["q"]


def test_photographs_are_added_to_a_project(
    photographs: Path, tmp_path: Path, stopped: None, capsys: pytest.CaptureFixture[str]
) -> None:
    config = Config(str(tmp_path / "p"), str(photographs), open_browser=False)
    run(config)
    Image.new("RGB", (40, 30), "red").save(photographs / "c.png")
    run(Config(str(tmp_path / "p"), open_browser=False))
    assert "2 images" in capsys.readouterr().out.splitlines()[-4]
    run(config)
    assert "3 images, 3 not begun" in capsys.readouterr().out


@pytest.mark.parametrize("there", [False, True])
@pytest.mark.parametrize("error", [KeyboardInterrupt(), UserError("no readable photograph")])
def test_a_first_start_that_fails_leaves_nothing(
    photographs: Path, stopped: None, monkeypatch: pytest.MonkeyPatch, error: BaseException, there: bool
) -> None:
    """Ctrl-C among many photographs: an empty project would be opened again, without any for ever."""
    beside = photographs.with_name("roof-annotations")
    if there:
        beside.mkdir()
    with monkeypatch.context() as patched, pytest.raises(type(error)):
        patched.setattr(annotate, "add_folder", mock.Mock(side_effect=error))
        run(Config(str(photographs), open_browser=False))
    assert list(beside.iterdir()) == [] if there else not beside.exists()
    run(Config(str(photographs), open_browser=False))
    with open_project(beside) as project:
        assert progress(project).images == 2


def test_a_project_that_was_killed_while_it_was_made_gets_its_photographs(photographs: Path, stopped: None) -> None:
    create_project(photographs.with_name("roof-annotations"), "roof").close()
    directory = run(Config(str(photographs), open_browser=False))
    Image.new("RGB", (40, 30), "red").save(photographs / "c.png")
    run(Config(str(photographs), open_browser=False))  # new ones come when the folder is named for that
    with open_project(directory) as project:
        assert progress(project).images == 2


def test_a_project_that_stands_is_not_discarded(photographs: Path, stopped: None, tmp_path: Path) -> None:
    directory = run(Config(str(photographs), open_browser=False))
    (tmp_path / "none").mkdir()
    with pytest.raises(UserError, match="no readable photograph"):
        run(Config(str(directory), str(tmp_path / "none"), open_browser=False))
    with open_project(directory) as project:
        assert progress(project).images == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"project": ""}, "which project"),
        ({"project": "nowhere"}, "expected a folder of photographs"),
        ({"host": "0.0.0.0"}, "expose=true"),
        ({"host": "::"}, "expose=true"),
        ({"host": "0.0.0.0", "expose": True}, r"host 0\.0\.0\.0 is every address .*expected .*host_names=\["),
        ({"host": "::", "expose": True}, "host :: is every address"),
        ({"host": "", "expose": True}, "host of no name is every address"),
        ({"images": "nowhere", "project": "p"}, "not a folder"),
        ({"annotators": ["\x1b[31m"]}, "printable"),
        ({"reviewers": ["x" * 201]}, "at most 200"),
    ],
)
def test_refusals(
    photographs: Path, monkeypatch: pytest.MonkeyPatch, stopped: None, change: dict[str, object], message: str
) -> None:
    monkeypatch.chdir(photographs.parent)
    with pytest.raises(UserError, match=message):
        run(Config(**{"project": str(photographs), "open_browser": False, **change}))  # type: ignore[arg-type]


def test_an_exposed_server_says_so(
    photographs: Path, stopped: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(annotate, "is_loopback", lambda host: False)
    run(Config(str(photographs), expose=True, open_browser=False))
    assert "WARNING: other machines can reach this server" in capsys.readouterr().out


def test_the_links_of_an_exposed_server_have_its_name(
    photographs: Path, stopped: None, capsys: pytest.CaptureFixture[str]
) -> None:
    names = ["labels.example", "192.0.2.7"]
    run(Config(str(photographs), host="0.0.0.0", expose=True, host_names=names, open_browser=False))
    printed = capsys.readouterr().out
    assert re.search(r": http://labels\.example:\d+/enter\?token=", printed) and "0.0.0.0" not in printed


def test_the_browser_is_opened_without_the_token_on_a_command_line(
    photographs: Path, stopped: None, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """S9: by a file that only the user reads, and which is gone afterwards."""
    seen: list[tuple[str, str, int]] = []

    def opened(address: str) -> bool:
        file = Path(address.removeprefix("file://"))
        seen.append((address, file.read_text(), stat.S_IMODE(file.stat().st_mode)))
        return True

    monkeypatch.setattr(annotate.webbrowser, "open", opened)
    run(Config(str(photographs)))
    ((address, text, mode),) = seen
    assert address.startswith("file://") and "token" not in address and "/enter?token=" in text and mode == 0o600
    assert list((state / "bessemer").glob("*.html")) == []


def test_the_verb_serves_until_it_is_told_to_stop(photographs: Path, state: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(SOURCE.parent)}
    code = "import sys; from bessemer.cli import main; sys.exit(main())"
    command = [sys.executable, "-c", code, "annotate", str(photographs), "open_browser=false"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment, text=True)
    assert process.stdout
    link = next(found[0] for line in process.stdout if (found := re.search(r"http://\S+", line)))
    with urllib.request.urlopen(link.split("/enter")[0] + "/health", timeout=20) as response:
        assert response.read() == b'{"ok":true}'
    second = subprocess.run(command, capture_output=True, env=environment, text=True, timeout=120)
    assert second.returncode == 2 and "open in another process" in second.stderr
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 0 and "everything that was saved" in out


def test_the_help_names_every_field(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["annotate", "--help"]) == 0
    text = capsys.readouterr().out
    for name in ("project", "images", "annotators", "reviewers", "host", "port", "language", "expose"):
        assert name in text
