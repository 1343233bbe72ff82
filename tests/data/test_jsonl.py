from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bessemer.data import jsonl
from bessemer.data.jsonl import Row, parse_object, read_rows, rows_of, to_line
from bessemer.errors import UserError


def _file(tmp_path: Path, data: bytes) -> Path:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(data)
    return path


def _value(value: dict[str, Any], row: Row) -> Any:
    if "v" not in value:
        raise UserError("no 'v', expected a number")
    return value["v"]


def test_bom_crlf_and_empty_lines_count_as_lines(tmp_path: Path) -> None:
    path = _file(tmp_path, b'\xef\xbb\xbf{"v": 1}\r\n\r\n  \n{"v": 2}\n')
    assert [(row.line, row.number, row.raw) for row in rows_of(path)] == [
        (1, 1, b'{"v": 1}'),
        (4, 2, b'{"v": 2}'),
    ]


def test_only_lf_ends_a_line(tmp_path: Path) -> None:
    text = "a\u2028b\u2029c\u0085d\x0be\x0cf"
    path = _file(tmp_path, (json.dumps({"v": text}, ensure_ascii=False).replace("\\u000b", "\x0b") + "\n").encode())
    assert len(list(rows_of(path))) == 1
    path = _file(tmp_path, (to_line({"v": text}) + "\n").encode())
    assert read_rows(path, _value) == [text]


def test_arrays_with_lines(tmp_path: Path) -> None:
    path = _file(tmp_path, b'\xef\xbb\xbf\n[\n  {"v": 1},\n  {"v":\n 2} , {"v": "]"}\n]\n')
    assert [(row.line, row.number) for row in rows_of(path)] == [(3, 1), (4, 2), (5, 3)]
    assert read_rows(path, _value) == [1, 2, "]"]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b'[{"v": 1}, ]', r"rows.jsonl:1: broken JSON"),
        (b'[{"v": 1}\n {"v": 2}]', r":1: the array is not closed"),
        (b'[\n{"v": 1},\n{"v": }]', r":3: broken JSON"),
        (b'[{"v": 1}] x', "behind the end"),
        (b'[{"v": 1}, {}]', r"rows.jsonl:1 \(item 2\): no 'v', expected a number"),
        (b"[", "broken JSON"),
        (b"[" * 200_000, "broken JSON"),
        (b'[{"v": 1},\n{"v": "\xff"}]', ":2: not UTF-8"),
        ('{"v": 1}\n'.encode("utf-16"), ":1: the file is UTF-16"),
        (b'{"v": 1}\n{"v": 2\n', ":2: broken JSON"),
        (b'{"v": 1}\n{"v": 2', "was the file cut short"),
        (b'{"v": 1}\n\n{"w": 2}\n', ":3: no 'v', expected a number"),
        (b"", "no rows"),
        (b"[]", "no rows"),
        (b"[\n]\n", "no rows"),
        (b'[{"v": 1}]x', "behind the end"),
        (b"\n\n", "no rows"),
    ],
)
def test_broken_files_name_the_line(tmp_path: Path, data: bytes, message: str) -> None:
    with pytest.raises(UserError, match=message):
        read_rows(_file(tmp_path, data), _value)


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b'{"a": NaN}', "NaN is not a JSON number"),
        (b'{"a": -Infinity}', "not a JSON number"),
        (b'{"a": 1e999}', "too large"),
        (b'{"a": 1, "b": {"c": 1, "c": 2}}', "'c' stands twice"),
        (b'{"a": "\\ud83d"}', "half a character"),
        (b'{"a": "\xff"}', "byte 7 is not UTF-8"),
        (b'["a"]', "not an object"),
        (b'"\x1b[2J"', "broken JSON"),
        (b'{"a": ' + b"[" * 100_000, "nested too deeply"),
        (b'{"a": ' + b"9" * 5000 + b"}", "broken JSON"),
    ],
)
def test_strict_json(raw: bytes, message: str) -> None:
    with pytest.raises(UserError, match=message):
        parse_object(raw)


def test_whole_characters_pass() -> None:
    assert parse_object(b'{"a": "\\ud83d\\ude00 \\\\ud800"}') == {"a": "😀 \\ud800"}
    assert to_line({"文": "裂纹"}) == '{"文": "裂纹"}'
    with pytest.raises(ValueError, match="JSON compliant"):
        to_line({"a": float("nan")})


def test_missing_and_endless_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="none.jsonl: cannot be read"):
        read_rows(tmp_path / "none.jsonl", _value)
    with pytest.raises(UserError, match="cannot be read"):
        read_rows(tmp_path, _value)
    monkeypatch.setattr(jsonl, "MAX_LINE", 10)
    with pytest.raises(UserError, match=":2: a line of more than 10 bytes"):
        read_rows(_file(tmp_path, b'{"v": 1}\n{"v": 1234567}\n'), _value)


def test_skip_bad_writes_aside_and_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = _file(tmp_path, '{"v": 1}\n{"w": "裂"}\n'.encode() + b'\xff\xfe{\n{"v": 2}\n{"v": 3')
    aside = tmp_path / "bad.jsonl"
    assert read_rows(path, _value, aside) == [1, 2]
    bad = [json.loads(line) for line in aside.read_text(encoding="utf-8").splitlines()]
    assert [entry["line"] for entry in bad] == [2, 3, 5]
    assert bad[0] == {
        "file": str(path),
        "line": 2,
        "reason": "no 'v', expected a number",
        "raw": '{"w": "裂"}',
    }
    assert bytes.fromhex(bad[1]["raw_hex"]) == b"\xff\xfe{"
    assert bad[2]["raw"] == '{"v": 3'
    warned = capsys.readouterr().err
    assert "rows.jsonl:5: the last line was cut short" in warned
    assert "3 of 5 rows are bad" in warned


def test_skip_bad_without_bad_rows_empties_the_old_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    aside = tmp_path / "bad.jsonl"
    aside.write_text("old\n")
    assert read_rows(_file(tmp_path, b'{"v": 1}'), _value, aside) == [1]  # no line end, but whole: no warning
    assert aside.read_text() == ""
    assert capsys.readouterr().err == ""


def test_skip_bad_still_stops_when_nothing_is_left(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="none of 2 rows is good, first: no 'v'"):
        read_rows(_file(tmp_path, b'{"w": 1}\n{"w": 1}\n'), _value, tmp_path / "bad.jsonl")
