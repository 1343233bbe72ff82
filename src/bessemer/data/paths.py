"""File names from outside: how they are resolved, and how they are shown.

Where names come from a record, a table or an archive they are hostile: a relative one must stay under its
root whatever `..` and links say (Gradio CVE-2024-47164 and CVE-2026-49119, Label Studio SDK CVE-2025-25295),
nothing is fetched from an address, and no control character reaches a terminal.
"""

from __future__ import annotations

import os
import re
from pathlib import Path, PureWindowsPath

from ..errors import UserError

__all__ = ["check_path", "resolve_path", "shown"]

_ADDRESS = re.compile(r"^[A-Za-z][A-Za-z0-9+.-]*://|^(?:data|file|blob|javascript):", re.IGNORECASE)


def shown(text: object, limit: int | None = None) -> str:
    """Text for a message or a terminal: cut at `limit` characters (80; paths are not cut, their end matters),
    control and direction characters escaped."""
    raw = str(text)
    limit = limit or (len(raw) if isinstance(text, Path) else 80)
    cut = raw if len(raw) <= limit else raw[: limit - 1] + "…"
    if cut.isprintable():
        return cut
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in cut)


def check_path(path: str) -> None:
    """Refuse what can never be the path of an image in a record.

    Raises:
        UserError: empty, an address (http:, data:, file: ...), control characters, not Unicode text, or,
            except on Windows, a drive letter or a backslash.
    """
    if not path or path.isspace():
        raise UserError("image path is empty, expected the path of a file")
    if _ADDRESS.match(path):
        raise UserError(f"image path {shown(path)!r} is an address, expected a local file; nothing is fetched")
    if any(ord(c) < 32 or ord(c) == 127 or 0xD800 <= ord(c) <= 0xDFFF for c in path):
        raise UserError(f"image path {shown(path)!r} holds control characters or is not Unicode, expected a plain name")
    if os.name != "nt" and ("\\" in path or PureWindowsPath(path).drive):
        raise UserError(f"image path {shown(path)!r} is for Windows, expected '/' between folders and no drive letter")


def resolve_path(path: str, root: Path | None, *, allow_absolute: bool = True) -> Path:
    """The file that `path` of a record means: under `root` when it is relative, links and `..` followed
    before that is checked.

    `root` is the folder of the record file, or the image folder that the user named. Absolute paths stand for
    themselves; pass `allow_absolute=False` where the records are not the user's own files (a server, an
    archive).

    Raises:
        UserError: see `check_path`; absolute where not allowed; relative without a root; leaving the root.
    """
    check_path(path)
    if Path(path).is_absolute():
        if not allow_absolute:
            raise UserError(f"image path {shown(path)!r} is absolute, expected one relative to the image folder")
        return Path(path)
    if root is None:
        raise UserError(
            f"image path {shown(path)!r} is relative, expected an absolute one or an image folder beside it"
        )
    try:
        base = root.resolve()
        full = (base / path).resolve()
    except (OSError, RuntimeError) as error:
        raise UserError(
            f"image path {shown(path)!r} cannot be followed ({shown(error)}), expected a plain file"
        ) from error
    if not full.is_relative_to(base):
        raise UserError(
            f"image path {shown(path)!r} leads out of {shown(base)}, expected a file inside it; "
            "write an absolute path, or name another image folder"
        )
    return full
