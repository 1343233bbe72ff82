"""Model directories that could run code are refused before any library opens a file of theirs."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

import tiny
from bessemer.errors import UserError
from bessemer.models.model import load_model
from bessemer.models.safety import check_directory
from bessemer.models.vision import Tower


class _Canary:
    """Unpickling it makes a directory: `os.mkdir` is called with the path."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (self.path,)


def _pickled(path: Path, canary: Path) -> None:
    import pickle  # only to write what an attacker would write

    path.write_bytes(pickle.dumps(_Canary(canary)))


def test_a_plain_model_passes(tmp_path: Path) -> None:
    check_directory(tiny.language_model(tmp_path / "model"))
    with pytest.raises(UserError, match=r"no config\.json, expected a Hugging Face model directory"):
        check_directory(tmp_path)


NAMES = ["pytorch_model.bin", "weights.pkl", "deep/er/optimizer.pt", "model.PTH", "x.ckpt", "a.npy", "lib.so"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("beside", [True, False], ids=["beside-weights", "instead-of-weights"])
def test_no_pickle_is_ever_opened(tmp_path: Path, name: str, beside: bool) -> None:
    directory, canary = tiny.language_model(tmp_path / "model"), tmp_path / "canary"
    if not beside:
        (directory / "model.safetensors").unlink()
    (directory / name).parent.mkdir(parents=True, exist_ok=True)
    _pickled(directory / name, canary)
    with pytest.raises(UserError, match=f"{Path(name).name}: may run code when loaded; expected safetensors and JSON"):
        load_model(str(directory), "fp32")
    assert not canary.exists()


def test_the_canary_sings(tmp_path: Path) -> None:
    """What the tests above put there would be seen, were it loaded."""
    import pickle

    canary = tmp_path / "canary"
    _pickled(tmp_path / "a.pkl", canary)
    pickle.loads((tmp_path / "a.pkl").read_bytes())
    assert canary.is_dir()


def test_a_tower_of_pickles_is_refused(tmp_path: Path) -> None:
    directory, canary = tiny.vision_tower(tmp_path / "tower"), tmp_path / "canary"
    _pickled(directory / "pytorch_model.bin", canary)
    with pytest.raises(UserError, match="may run code when loaded"):
        Tower.load(directory)
    assert not canary.exists()


def test_python_files_are_refused(tmp_path: Path) -> None:
    directory = tiny.language_model(tmp_path / "model")
    (directory / "modeling_own.py").write_text(f"import os; os.mkdir({str(tmp_path / 'canary')!r})", encoding="utf-8")
    with pytest.raises(UserError, match=r"modeling_own\.py: may run code"):
        load_model(str(directory), "fp32")
    assert not (tmp_path / "canary").exists()


ORDERS: list[tuple[str, object]] = [
    ("config.json", {"auto_map": {"AutoModelForCausalLM": "own.Model"}}),
    ("config.json", {"text_config": {"rope": [{"inner": {"auto_map": {}}}]}}),
    ("config.json", {"vision_config": [[{"trust_remote_code": True}]]}),
    ("tokenizer_config.json", {"auto_map": {"AutoTokenizer": ["own.Tokenizer", None]}}),
    ("sub/config.json", {"a": {"trust_remote_code": False}}),
]


@pytest.mark.parametrize(("name", "content"), ORDERS, ids=str)
def test_settings_that_ask_to_run_code_are_refused_at_any_depth(tmp_path: Path, name: str, content: object) -> None:
    directory = tiny.language_model(tmp_path / "model")
    path = directory / name
    path.parent.mkdir(exist_ok=True)
    before = tiny.facts(path) if path.exists() else {}
    assert isinstance(content, dict)
    path.write_text(json.dumps({**before, **content}), encoding="utf-8")
    with pytest.raises(UserError, match="asks to run code from the directory"):
        load_model(str(directory), "fp32")


def test_a_vocabulary_may_hold_the_words(tmp_path: Path) -> None:
    directory = tiny.language_model(tmp_path / "model")
    path = directory / "tokenizer.json"
    path.write_text(json.dumps({**tiny.facts(path), "auto_map": 1}), encoding="utf-8")
    check_directory(directory)


def test_links_that_leave_the_directory_are_refused(tmp_path: Path) -> None:
    directory = tiny.language_model(tmp_path / "model")
    shutil.move(directory / "model.safetensors", tmp_path / "elsewhere.safetensors")
    (directory / "model.safetensors").symlink_to(tmp_path / "elsewhere.safetensors")
    with pytest.raises(UserError, match=r"model\.safetensors: a link that leaves the model directory"):
        check_directory(directory)
    (directory / "model.safetensors").unlink()
    (directory / "inner").mkdir()
    shutil.move(tmp_path / "elsewhere.safetensors", directory / "inner" / "weights.safetensors")
    (directory / "model.safetensors").symlink_to("inner/weights.safetensors")
    check_directory(directory)
    (directory / "folder").symlink_to(tmp_path)
    with pytest.raises(UserError, match="folder: a link that leaves the model directory"):
        check_directory(directory)


def test_the_hub_s_cache_is_made_of_links(tmp_path: Path) -> None:
    """models--owner--name/snapshots/REVISION/file -> ../../blobs/HASH; no other link may leave the snapshot."""
    plain = tiny.language_model(tmp_path / "plain")
    cached = tmp_path / "models--owner--name"
    snapshot = cached / "snapshots" / "0123abcd"
    snapshot.mkdir(parents=True)
    (cached / "blobs").mkdir()
    for number, path in enumerate(sorted(plain.iterdir())):
        shutil.copy(path, cached / "blobs" / f"{number:040x}")
        (snapshot / path.name).symlink_to(f"../../blobs/{number:040x}")
    assert load_model(str(snapshot), "fp32").facts.kind == "text"
    (cached / "refs").mkdir()
    (cached / "refs" / "main.safetensors").write_bytes(b"")
    (snapshot / "more.safetensors").symlink_to("../../refs/main.safetensors")
    with pytest.raises(UserError, match="a link that leaves the model directory"):
        check_directory(snapshot)


@pytest.mark.parametrize("text", ["{", '{"a": ' + "[" * 100_000, '{"a": "\udcff"}'], ids=["torn", "deep", "bytes"])
def test_broken_settings_are_refused(tmp_path: Path, text: str) -> None:
    directory = tiny.language_model(tmp_path / "model")
    (directory / "generation_config.json").write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(UserError, match=r"generation_config\.json: not valid JSON"):
        check_directory(directory)
