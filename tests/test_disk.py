"""Atomic files and directories, and their hashes."""

from __future__ import annotations

import errno
import hashlib
import os
from pathlib import Path

import pytest

from bessemer import disk
from bessemer.errors import UserError


def names(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_write_atomic_replaces_and_leaves_no_temporary(tmp_path: Path) -> None:
    disk.write_atomic(tmp_path / "new" / "a.txt", b"one")
    disk.write_atomic(tmp_path / "new" / "a.txt", b"two")
    assert (tmp_path / "new" / "a.txt").read_bytes() == b"two"
    assert names(tmp_path) == ["new", "new/a.txt"]


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_write_atomic_keeps_the_old_file_when_the_disk_is_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    (tmp_path / "a.txt").write_bytes(b"old")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, call, full)
    with pytest.raises(UserError, match="No space left on device.*free some space"):
        disk.write_atomic(tmp_path / "a.txt", b"new")
    assert (tmp_path / "a.txt").read_bytes() == b"old"
    assert names(tmp_path) == ["a.txt"]


def test_write_atomic_where_a_file_stands_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"")
    with pytest.raises(UserError, match="could not be written"):
        disk.write_atomic(tmp_path / "a" / "b", b"new")


def test_everything_is_fsynced_before_it_is_renamed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda fd: (calls.append(os.readlink(f"/proc/self/fd/{fd}")), fsync(fd)))
    monkeypatch.setattr(os, "replace", lambda a, b: (calls.append("rename"), replace(a, b)))
    disk.write_atomic(tmp_path / "a.txt", b"x")
    assert calls == [str(tmp_path / f".a.txt.{os.getpid()}.tmp"), "rename", str(tmp_path)]


def test_write_json_keeps_chinese_and_refuses_nan(tmp_path: Path) -> None:
    disk.write_json(tmp_path / "a.json", {"缺陷": [1, None]})
    assert (tmp_path / "a.json").read_text(encoding="utf-8") == '{\n  "缺陷": [\n    1,\n    null\n  ]\n}\n'
    with pytest.raises(ValueError, match="not JSON compliant"):
        disk.write_json(tmp_path / "a.json", {"a": float("nan")})


def test_publish_replaces_a_directory_whole(tmp_path: Path) -> None:
    for name, text in [("old", "1"), ("new", "2")]:
        (tmp_path / name / "sub").mkdir(parents=True)
        (tmp_path / name / "sub" / text).write_text(text)
    (tmp_path / ".final.123.aside").mkdir()  # from a kill
    disk.publish(tmp_path / "old", tmp_path / "final")
    disk.publish(tmp_path / "new", tmp_path / "final")
    assert names(tmp_path) == ["final", "final/sub", "final/sub/2"]


def test_publish_gives_the_old_directory_back_when_the_rename_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "new").mkdir()
    (tmp_path / "final").mkdir()
    (tmp_path / "final" / "kept").write_text("")
    rename = os.rename

    def refuse(source: Path, target: Path) -> None:
        if Path(source).name == "new":
            raise OSError(errno.EIO, "Input/output error")
        rename(source, target)

    monkeypatch.setattr(os, "rename", refuse)
    with pytest.raises(UserError, match="Input/output error"):
        disk.publish(tmp_path / "new", tmp_path / "final")
    assert (tmp_path / "final" / "kept").exists()


def test_move_aside_takes_the_first_free_number(tmp_path: Path) -> None:
    for number in (1, 2):
        (tmp_path / "sft").mkdir()
        assert disk.move_aside(tmp_path / "sft") == tmp_path / f"sft.old-{number}"


def test_tree_hash_is_the_documented_one(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "二").write_bytes(b"two")
    (tmp_path / "a").write_bytes(b"one")
    expected = hashlib.sha256()
    for name, data in [("a", b"one"), ("b/二", b"two")]:
        expected.update(name.encode() + b"\0" + hashlib.sha256(data).digest())
    assert disk.tree_hash(tmp_path) == expected.hexdigest()
    assert disk.tree_hash(tmp_path / "a") == hashlib.sha256(b"one").hexdigest()


def test_tree_hash_sees_names_and_contents_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"one")
    before = disk.tree_hash(tmp_path)
    os.utime(tmp_path / "a", (0, 0))
    os.chmod(tmp_path / "a", 0o600)
    (tmp_path / "empty").mkdir()
    (tmp_path / "hidden").write_bytes(b"")
    assert disk.tree_hash(tmp_path, without=["hidden"]) == before
    assert disk.tree_hash(tmp_path) != before
    (tmp_path / "hidden").unlink()
    (tmp_path / "a").write_bytes(b"onf")
    assert disk.tree_hash(tmp_path) != before
    (tmp_path / "a").write_bytes(b"one")
    os.rename(tmp_path / "a", tmp_path / "c")
    assert disk.tree_hash(tmp_path) != before


def test_tree_hash_follows_links_and_survives_a_circle(tmp_path: Path) -> None:
    for name in ("plain", "linked", "target"):
        (tmp_path / name).mkdir()
    (tmp_path / "target" / "x").write_bytes(b"1")
    (tmp_path / "plain" / "sub").mkdir()
    (tmp_path / "plain" / "sub" / "x").write_bytes(b"1")
    (tmp_path / "linked" / "sub").symlink_to(tmp_path / "target")
    assert disk.tree_hash(tmp_path / "plain") == disk.tree_hash(tmp_path / "linked")
    (tmp_path / "plain" / "circle").symlink_to(tmp_path / "plain")
    assert disk.tree_hash(tmp_path / "plain") == disk.tree_hash(tmp_path / "linked")


def test_tree_hash_of_links_to_nowhere_and_of_pipes(tmp_path: Path) -> None:
    before = disk.tree_hash(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    assert disk.tree_hash(tmp_path) == before
    (tmp_path / ".#labels.csv").symlink_to("ann@host.123")  # as Emacs locks
    expected = hashlib.sha256(b".#labels.csv\0" + hashlib.sha256(b"ann@host.123").digest())
    assert disk.tree_hash(tmp_path) == expected.hexdigest()
    (tmp_path / "self").symlink_to("self")
    assert disk.tree_hash(tmp_path) != expected.hexdigest()
    with pytest.raises(UserError, match=f"{tmp_path / 'pipe'} could not be read .*expected files and folders"):
        disk.tree_hash(tmp_path / "pipe")


def test_tree_hash_names_what_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a").write_bytes(b"one")

    def denied(path: Path) -> str:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    monkeypatch.setattr(disk, "file_hash", denied)
    for path in (tmp_path, tmp_path / "a"):
        with pytest.raises(UserError, match=rf"{tmp_path / 'a'} could not be read \(Permission denied\), expected"):
            disk.tree_hash(path)
