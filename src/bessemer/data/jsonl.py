"""Reading JSON from outside, line by line or as one array, with `file:line: what, expected what` for every
bad row."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from ..disk import write_atomic
from ..errors import UserError
from .paths import shown

__all__ = ["Row", "finite_float", "parse_object", "read_rows", "rows_of", "to_line"]

MAX_LINE = 64 * 2**20  # bytes: a row of text and paths never is that long; a file without line ends is refused early
T = TypeVar("T")


@dataclass(frozen=True)
class Row:
    """One row as it stands in the file: its line and its number among the rows (from 1), its text, whether it
    is an item of an array, and whether the file ends without a line end behind it."""

    line: int
    number: int
    raw: bytes
    in_array: bool = False
    torn: bool = False


def rows_of(path: Path) -> Iterator[Row]:
    """The rows of a .jsonl file, or the items of a file that holds one JSON array; a BOM, CRLF and empty
    lines are passed over.

    Lines end at LF alone: U+2028 and its like are ordinary characters inside JSON text.

    Raises:
        UserError: missing file, UTF-16, a line above 64 MB, an array that cannot be cut into items.
    """
    try:
        with path.open("rb") as file:
            start = file.read(4096)
            if start.startswith((b"\xff\xfe", b"\xfe\xff")):
                raise UserError(f"{shown(path)}:1: the file is UTF-16, expected UTF-8; save it again as UTF-8")
            bom = 3 if start.startswith(b"\xef\xbb\xbf") else 0
            file.seek(bom)
            if start[bom:].lstrip()[:1] == b"[":
                yield from _items(path, file.read())
                return
            line = number = 0
            while raw := file.readline(MAX_LINE + 1):
                line += 1
                if len(raw) > MAX_LINE:
                    raise UserError(f"{shown(path)}:{line}: a line of more than {MAX_LINE} bytes, expected JSON lines")
                if raw.strip():
                    number += 1
                    yield Row(line, number, raw.rstrip(b"\r\n"), torn=not raw.endswith(b"\n"))
    except OSError as error:
        raise UserError(f"{shown(path)}: cannot be read ({error.strerror}), expected a file of JSON lines") from error


def _items(path: Path, raw: bytes) -> Iterator[Row]:
    """The items of a JSON array with the line on which each begins."""
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise UserError(
            f"{shown(path)}:{line}: not UTF-8 text, expected UTF-8; save the file again as UTF-8"
        ) from error
    decoder = json.JSONDecoder()
    line, number, counted = 1, 0, 0
    place = text.index("[") + 1
    separator = ""
    while True:
        place = _skip_space(text, place)
        if text[place : place + 1] == "]" and separator != ",":
            break
        line, counted = line + text.count("\n", counted, place), place
        try:
            _, end = decoder.raw_decode(text, place)
        except (ValueError, RecursionError) as error:
            raise UserError(
                f"{shown(path)}:{line}: broken JSON ({shown(error)}), expected an array of objects"
            ) from error
        number += 1
        yield Row(line, number, text[place:end].encode(), in_array=True)
        place = _skip_space(text, end)
        separator = text[place : place + 1]
        if separator == "]":
            break
        if separator != ",":
            raise UserError(f"{shown(path)}:{line}: the array is not closed behind this item, expected ',' or ']'")
        place += 1
    if text[place + 1 :].strip():
        raise UserError(f"{shown(path)}: text behind the end of the array, expected one JSON array or JSON lines")


def _skip_space(text: str, place: int) -> int:
    while place < len(text) and text[place] in " \t\r\n":
        place += 1
    return place


def parse_object(raw: bytes) -> dict[str, Any]:
    """One JSON object, strictly: UTF-8, no NaN or infinity, no key twice, no half characters.

    Raises:
        UserError: "what, expected what", without the place.
    """
    try:
        value = json.loads(
            raw.decode(), parse_constant=_refuse_constant, parse_float=finite_float, object_pairs_hook=_unique_keys
        )
    except UnicodeDecodeError as error:
        raise UserError(f"byte {error.start} is not UTF-8 text, expected UTF-8") from error
    except RecursionError as error:
        raise UserError("JSON nested too deeply, expected a flat row") from error
    except ValueError as error:
        raise UserError(f"broken JSON ({shown(error)}), expected one object a line") from error
    if not isinstance(value, dict):
        raise UserError(f"{shown(raw.decode(), 40)} is not an object, expected {{...}}")
    if b"\\ud" in raw.lower():
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError as error:
            raise UserError("half a character (a lone \\ud... escape), expected whole Unicode text") from error
    return value


def _refuse_constant(name: str) -> float:
    raise UserError(f"{name} is not a JSON number, expected a finite one")


def finite_float(text: str) -> float:
    """A JSON number with a point or an exponent; one that no float holds (1e999) is a UserError."""
    value = float(text)
    if not math.isfinite(value):
        raise UserError(f"{shown(text, 20)} is too large for a number, expected a finite one")
    return value


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise UserError(f"key {shown(twice)!r} stands twice, expected every key once")
    return result


def to_line(value: dict[str, Any]) -> str:
    """One JSON line without its line end; text stays readable in every script.

    Raises:
        ValueError: NaN or infinity in it.
    """
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def read_rows(path: Path, parse: Callable[[dict[str, Any], Row], T], skip_bad: Path | None = None) -> list[T]:
    """Every row of the file through `parse(object, row)`, whose UserError gains the place: `file:line: what,
    expected what`.

    With `skip_bad` a bad row does not stop: it is written to that file (JSON lines: file, line, reason, raw
    text, or raw_hex where the row is not text), a warning with the count goes to stderr, and reading
    continues. The file is written even when it stays empty, so it always tells about the last reading. A last
    line that was cut short is then passed over with a warning of its own.

    Raises:
        UserError: a bad row without `skip_bad`; no row that is good.
    """
    good: list[T] = []
    bad: list[dict[str, Any]] = []
    for row in rows_of(path):
        try:
            good.append(parse(parse_object(row.raw), row))
        except UserError as error:
            place = f"{shown(path)}:{row.line}" + (f" (item {row.number})" if row.in_array else "")
            reason = f"{error} (the last line has no line end: was the file cut short?)" if row.torn else str(error)
            if skip_bad is None:
                raise UserError(f"{place}: {reason}") from error
            bad.append({"file": shown(path, 4096), "line": row.line, "reason": reason, **_raw_text(row.raw)})
            if row.torn:
                _warn(f"{place}: the last line was cut short and is passed over")
    if skip_bad is not None:
        write_atomic(skip_bad, "".join(to_line(entry) + "\n" for entry in bad).encode())
        if bad:
            _warn(f"{shown(path)}: {len(bad)} of {len(bad) + len(good)} rows are bad, see {shown(skip_bad)}")
    if not good:
        reason = f"none of {len(bad)} rows is good, first: {bad[0]['reason']}" if bad else "the file has no rows"
        raise UserError(f"{shown(path)}: {reason}, expected at least one")
    return good


def _raw_text(raw: bytes) -> dict[str, str]:
    try:
        return {"raw": raw.decode()}
    except UnicodeDecodeError:
        return {"raw_hex": raw.hex()}


def _warn(message: str) -> None:
    print(f"warning: {message}", file=sys.stderr)
