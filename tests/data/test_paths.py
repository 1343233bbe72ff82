from __future__ import annotations

from pathlib import Path

import pytest

from bessemer.data.paths import check_path, resolve_path, shown
from bessemer.errors import UserError


@pytest.mark.parametrize(
    "path",
    ["", "  ", "http://127.0.0.1/a.png", "HTTPS://x/a.png", "file:///etc/passwd", "data:image/png;base64,AA", "s3://b/a.png",
     "a\0.png", "a\n.png", "a\x7f.png", "a\x1b[31m.png", "\ud800.png", "\udfff.png",
     "..\\..\\secret.png", "C:/a.png", "c:a.png",
     "\\\\server\\share\\a.png"],
)  # fmt: skip
def test_never_a_path(path: str) -> None:
    with pytest.raises(UserError, match="expected"):
        check_path(path)


@pytest.mark.parametrize(
    "path", ["a.png", "b/c d.JPG", "图像/裂纹 1.png", "cam:2.png", "T10:30:00.png", "/abs/a.png", "~/a.png"]
)
def test_ordinary_paths_pass(path: str) -> None:
    check_path(path)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    (root / "sub").mkdir(parents=True)
    (root / "sub" / "a.png").write_bytes(b"inside")
    (tmp_path / "secret.png").write_bytes(b"outside")
    (tmp_path / "root-twin").mkdir()
    (root / "link.png").symlink_to(tmp_path / "secret.png")
    (root / "out").symlink_to(tmp_path)
    (root / "loop").symlink_to(root / "loop")
    (root / "within.png").symlink_to(root / "sub" / "a.png")
    return root


@pytest.mark.parametrize("path", ["sub/a.png", "./sub/a.png", "sub/../sub/a.png", "within.png"])
def test_inside(root: Path, path: str) -> None:
    assert resolve_path(path, root).read_bytes() == b"inside"


@pytest.mark.parametrize(
    "path",
    ["../secret.png", "sub/../../secret.png", "link.png", "out/secret.png", "../root-twin/a.png",
     "..", "loop/a.png",
     "sub/./.././../secret.png"],
)  # fmt: skip
def test_leaving_the_root(root: Path, path: str) -> None:
    with pytest.raises(UserError, match="leads out of|cannot be followed"):
        resolve_path(path, root)


def test_root_may_itself_be_a_link(root: Path, tmp_path: Path) -> None:
    (tmp_path / "alias").symlink_to(root)
    assert resolve_path("sub/a.png", tmp_path / "alias") == root / "sub" / "a.png"


def test_absolute_only_where_allowed(root: Path, tmp_path: Path) -> None:
    secret = str(tmp_path / "secret.png")
    assert resolve_path(secret, root) == Path(secret)
    with pytest.raises(UserError, match="is absolute"):
        resolve_path(secret, root, allow_absolute=False)
    with pytest.raises(UserError, match="is relative"):
        resolve_path("a.png", None)


def test_shown_is_harmless_and_keeps_every_script() -> None:
    assert shown("裂纹 é") == "裂纹 é"
    assert shown("\x1b[2J\n") == "\\x1b[2J\\n"
    assert shown("a\u202eb") == "a\\u202eb"
    assert shown("\udcff") == "\\udcff"
    assert shown("x" * 100) == "x" * 79 + "…"
    assert shown(Path("/x" * 60) / "a.png").endswith("/a.png")
