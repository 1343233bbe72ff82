"""What the page's sources may not hold, and that every word of it is there in both languages."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from source_tree import SOURCE

STATIC = SOURCE / "apps" / "annotate" / "static"
MODULES = sorted(STATIC.glob("*.js"))
BANNED = re.compile(
    r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|setTimeout\(\s*[\"'`]|srcdoc"
    r"|createContextualFragment|parseFromString|javascript:|importScripts|\bimport\(|//# source"
    r"|https?://(?!www\.w3\.org/2000/svg)|setAttribute\(\s*[\"'](on|style)"
)


@pytest.mark.parametrize("path", [*MODULES, *STATIC.glob("*.css"), *STATIC.glob("*.html")], ids=lambda path: path.name)
def test_sources_hold_no_way_for_text_to_run(path: Path) -> None:
    """S7: no markup from text, no inline script or style, nothing from elsewhere."""
    text = path.read_text(encoding="utf-8")
    assert [match[0] for match in BANNED.finditer(text)] == []
    if path.suffix == ".css":
        assert "@import" not in text and "url(" not in text
    if path.suffix == ".html":
        assert not re.search(r"<script(?![^>]*\bsrc=)|\son\w+=|\sstyle=", text)


@pytest.mark.parametrize("code", [
    "a.innerHTML = x", "eval(x)", "setTimeout('x', 1)", "node.setAttribute('onclick', x)", "import('./x.js')",
    "https://cdn.example/x.js",
])  # fmt: skip
def test_the_ban_sees(code: str) -> None:
    assert BANNED.search(code)


def test_modules_are_small_and_say_what_they_are() -> None:
    for path in MODULES:
        lines = path.read_text(encoding="utf-8").splitlines()
        assert lines[0].startswith("// ") and len(lines) <= 400, path.name


def table() -> dict[str, tuple[str, str]]:
    text = (STATIC / "strings.js").read_text(encoding="utf-8")
    rows = re.findall(r'"([\w.]+)": \["((?:[^"\\]|\\.)*)", "((?:[^"\\]|\\.)*)"\]', text)
    assert len(rows) == len({name for name, _, _ in rows}) > 200
    return {name: (english, chinese) for name, english, chinese in rows}


def test_every_text_is_there_in_both_languages() -> None:
    strings = table()
    used: set[str] = set()
    families: set[str] = set()
    for path in MODULES:
        text = path.read_text(encoding="utf-8")
        used |= set(re.findall(r'\bt\("([\w.]+)"', text))
        families |= set(re.findall(r"\bt\(`([\w.]+)\.\$\{", text))
    assert used <= strings.keys(), used - strings.keys()
    for family in families:
        assert any(name.startswith(f"{family}.") for name in strings), family
    unused = {n for n in strings if n not in used and not any(n.startswith(f"{f}.") for f in families)}
    dynamic = ("principle.", "history.", "key.", "save.", "review.")
    assert {name for name in unused if not name.startswith(dynamic)} == set()
    for name, (english, chinese) in strings.items():
        assert english and chinese
        assert sorted(re.findall(r"\{\d\}", english)) == sorted(re.findall(r"\{\d\}", chinese))
        if not name.endswith(".keys") and name != "key.view.full":
            assert re.search(r"[\u4e00-\u9fff]|IoU", chinese), name


def test_every_action_has_a_name_and_no_two_share_a_key() -> None:
    strings = table()
    source = (STATIC / "keys.js").read_text(encoding="utf-8")
    groups = source[source.index("export const GROUPS") : source.index("const DEFAULTS")]
    actions = dict(re.findall(r'"([a-z]+\.[A-Za-z]+)": (\[[^\]]*\]+)', groups))
    assert len(actions) > 40
    assert {f"key.{action}" for action in actions} <= strings.keys()
    keys = [key for text in actions.values() for key in re.findall(r'"((?:[^"\\]|\\.)+)"', text)]
    assert len(set(keys)) == len(keys)
    # Label Studio's, where it has one (web/libs/editor/src/core/settings/keymap.json)
    wanted = {
        "image.submit": "Ctrl+Enter", "image.skip": "Ctrl+Space", "image.previous": "Ctrl+ArrowLeft",
        "image.next": "Ctrl+ArrowRight", "edit.undo": "Ctrl+z", "edit.redo": "Ctrl+Shift+z", "edit.delete": "Backspace",
        "edit.duplicate": "Ctrl+d", "select.none": "u", "view.hide": "Alt+h", "select.next": "Alt+.",
    }  # fmt: skip
    for action, key in wanted.items():
        assert f'"{key}"' in actions[action], action
