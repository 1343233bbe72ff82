from __future__ import annotations

from pathlib import Path

import pytest

from bessemer.errors import UserError
from bessemer.tasks.located import read_located


def write(tmp_path: Path, text: str | bytes) -> Path:
    path = tmp_path / "w.yaml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def test_scalars_stay_the_text_that_was_written(tmp_path: Path) -> None:
    root = read_located(write(tmp_path, "values: [no, yes, 1.0, null, 无]\nflag: true\nweight: 0.5\n")).entries()
    assert root["values"].texts() == ("no", "yes", "1.0", "null", "无")
    assert root["flag"].flag() is True
    assert root["weight"].number(0, 1) == 0.5


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb:\n  c: 1\n  c: 2\n", r"w.yaml:4: b.c: stands twice"),
        ("a: 1\nz: 2\n", r"w.yaml:2: z: unknown key, expected one of a, b"),
        ("b: 2\n", r"w.yaml:1: the file: key 'a' is missing"),
        ("a: [x, x]\nb: 1\n", r"w.yaml:1: a: 'x' stands twice"),
        ("a: []\n", r"w.yaml:1: a: 0 items, expected 1 to 500"),
        ("a: {}\n", r"w.yaml:1: a: expected a list of texts"),
        ("a: [[x]]\n", r"w.yaml:1: a\[0\]: expected one text, found a list"),
        ('a: ""\n', r"w.yaml:1: a: '', expected a printable text"),
        ('a: "x\\u0007y"\n', r"w.yaml:1: a: .*expected a printable text"),
        ("a: [q?, x: y, {\n", r"w.yaml:\d: not YAML"),
        ("", r"w.yaml: the file is empty"),
        ("[1]", r"w.yaml:1: the file: expected a mapping"),
    ],
)
def test_errors_name_file_line_and_key(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        read_located(write(tmp_path, text)).entries(("a", "b"), required=("a",))["a"].texts()
        read_located(write(tmp_path, text)).entries()["b"].entries()


def test_numbers_flags_and_choices_out_of_range(tmp_path: Path) -> None:
    root = read_located(write(tmp_path, "a: nan\nb: 200\nc: maybe\n")).entries()
    for place, read in ((root["a"], lambda p: p.number(0, 1)), (root["b"], lambda p: p.number(0, 100))):
        with pytest.raises(UserError, match="expected a number from 0"):
            read(place)
    with pytest.raises(UserError, match="expected true or false"):
        root["c"].flag()
    with pytest.raises(UserError, match="expected one of x, y"):
        root["c"].among(("x", "y"))


def test_hostile_files(tmp_path: Path) -> None:
    bomb = (
        "a0: &a0 [x]\n"
        + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 12))
        + "a: *a11\n"
    )
    with pytest.raises(UserError, match="expected one text"):
        read_located(write(tmp_path, bomb)).entries()["a"].texts()
    with pytest.raises(UserError, match="larger than 200000 bytes"):
        read_located(write(tmp_path, "a: " + "x" * 200_000))
    with pytest.raises(UserError, match="not UTF-8"):
        read_located(write(tmp_path, b"a: \xff\xfe"))
    with pytest.raises(UserError, match="cannot be read"):
        read_located(tmp_path / "absent.yaml")
    with pytest.raises(UserError, match="nested more than 50 deep"):
        read_located(write(tmp_path, "[" * 3000))
    with pytest.raises(UserError, match="w.yaml: not YAML|w.yaml:1: a"):
        read_located(write(tmp_path, "a: !!python/object/apply:os.system [echo]\n")).entries()["a"].text()
