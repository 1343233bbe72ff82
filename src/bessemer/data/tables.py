"""A CSV or TSV beside a folder of photographs: which column names the images, which columns are labels, and
why others are not.

Cells never become paths: a cell is looked up among the files that were found in the folder, so
    `../../etc/passwd` is simply no image.
"""

from __future__ import annotations

import csv
import difflib
import io
import math
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from ..errors import UserError
from .paths import shown

__all__ = [
    "FileIndex",
    "LabelColumn",
    "Table",
    "find_column",
    "image_column_of",
    "label_columns_of",
    "read_table",
]

MAX_TEXT_VALUES = 20
MAX_NUMBERS = 10
_MISSING = frozenset({"", "na", "n/a", "nan", "null", "-", "?"})
_IMAGE_NAMES = ("image", "img", "file", "photo", "picture", "path", "图", "照片", "文件")


@dataclass(frozen=True)
class Table:
    """Columns, rows as (line, cells by column), rows that could not be used as (line, reason), and
    remarks."""

    path: Path
    columns: tuple[str, ...]
    rows: tuple[tuple[int, dict[str, str]], ...]
    bad_rows: tuple[tuple[int, str], ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class LabelColumn:
    """A column whose values are labels: cell -> value; ordered when the values are more than two numbers."""

    name: str
    values: dict[str, str]
    ordered: bool


class FileIndex:
    """Finds the file that a cell means among relative names: by its path, by its last part, or by that
    without suffix."""

    def __init__(self, names: Iterable[str], table_folder: str = "") -> None:
        self._by_path: dict[str, str] = {}
        self._by_name: dict[str, list[str]] = defaultdict(list)
        self._by_stem: dict[str, list[str]] = defaultdict(list)
        self._in_any_case: dict[str, list[str]] = defaultdict(list)
        self._folder = table_folder
        for name in names:
            plain = unicodedata.normalize("NFC", name)
            self._by_path[plain] = name
            self._by_name[PurePosixPath(plain).name].append(name)
            self._by_stem[PurePosixPath(plain).stem].append(name)
            for last in {PurePosixPath(plain).name.casefold(), PurePosixPath(plain).stem.casefold()}:
                self._in_any_case[last].append(name)

    def find(self, cell: str, *, stems: bool = True) -> list[str]:
        """All files that the cell may mean: one when it is clear, none when there is none."""
        plain = unicodedata.normalize("NFC", cell.strip()).replace("\\", "/").removeprefix("./")
        if not plain:
            return []
        for path in (f"{self._folder}/{plain}" if self._folder else plain, plain):
            if path in self._by_path:
                return [self._by_path[path]]
        last = PurePosixPath(plain).name
        found = self._by_name.get(last, []) or (self._by_stem.get(last, []) if stems else [])
        if found:
            return found
        # img_0.jpg in a table and IMG_0.JPG on the disk: one file to whoever made them
        alike = self._in_any_case.get(last.casefold(), [])
        return alike if stems or "." in last else []


def read_table(path: Path, index: FileIndex, encoding: str | None = None) -> Table:
    """Read a CSV or TSV: separator , ; tab or |; UTF-8, UTF-16 with BOM, else GB 18030 (what Excel writes in
    China), or `encoding`.

    A first row in which a cell names an image is data: the columns are then column1, column2 ...

    Raises:
        UserError: "file:line: what, expected what" where the file is no such table.
    """
    text, notes = _decode(path, encoding)
    first_line = text.lstrip().split("\n", 1)[0]
    separator = "\t" if path.suffix.lower() == ".tsv" else max(",;\t|", key=first_line.count)
    records: list[tuple[int, list[str]]] = []
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    start = 1
    try:
        for cells in reader:
            if any(cell.strip() for cell in cells):
                records.append((start, [cell.strip() for cell in cells]))
            start = reader.line_num + 1
    except csv.Error as error:
        raise UserError(
            f"{shown(path)}:{start}: {shown(error)}, expected a table of cells in quotes or without"
        ) from error
    if not records or len(records[0][1]) < 2:
        raise UserError(f"{shown(path)}:1: fewer than two columns, expected a CSV with columns for image and labels")
    header = records[0][1]
    if any(index.find(cell, stems=False) for cell in header):
        header = [f"column{number + 1}" for number in range(len(header))]
        notes.append("the table has no header row: its columns are called column1, column2 ...")
    else:
        records = records[1:]
    columns = tuple(_plain(name) or f"column{number + 1}" for number, name in enumerate(header))
    twice = next((name for name, count in Counter(columns).items() if count > 1), None)
    if twice is not None:
        raise UserError(f"{shown(path)}:1: column {shown(twice)!r} stands twice, expected every name once")
    good = tuple(
        (line, dict(zip(columns, cells, strict=True))) for line, cells in records if len(cells) == len(columns)
    )
    bad = tuple(
        (line, f"{len(cells)} cells, expected {len(columns)}") for line, cells in records if len(cells) != len(columns)
    )
    return Table(path, columns, good, bad, tuple(notes))


def _decode(path: Path, encoding: str | None) -> tuple[str, list[str]]:
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise UserError(f"{shown(path)}: cannot be read ({error.strerror}), expected a CSV") from error
    if encoding is None and raw.startswith((b"\xff\xfe", b"\xfe\xff")):
        encoding = "utf-16"
    for guess in [encoding] if encoding else ["utf-8-sig", "gb18030"]:
        try:
            text = raw.decode(guess)
        except UnicodeDecodeError:
            continue
        except LookupError as error:
            raise UserError(f"encoding {shown(guess)!r} is not known, expected one such as utf-8 or gb18030") from error
        if "\0" in text:
            break
        notes = (
            [f"{shown(path.name)} is not UTF-8 and was read as GB 18030"] if guess == "gb18030" and not encoding else []
        )
        return text, notes
    tried = encoding or "UTF-8 or GB 18030"
    raise UserError(f"{shown(path)}: not a text file in {tried}, expected a CSV; save it as UTF-8")


def _plain(text: str) -> str:
    """Composed, with single spaces: a name or a value that is broken over two lines is the same one."""
    return " ".join(unicodedata.normalize("NFC", text).split())


def find_column(table: Table, name: str) -> str:
    """`name`, however it is spaced, if the table has that column; UserError naming the nearest else."""
    name = _plain(name)
    if name in table.columns:
        return name
    near = difflib.get_close_matches(name, table.columns, n=1)
    hint = f"did you mean {shown(near[0])!r}?" if near else f"expected one of {', '.join(map(shown, table.columns))}"
    raise UserError(f"{shown(table.path)} has no column {shown(name)!r}; {hint}")


def image_column_of(table: Table, index: FileIndex) -> str | None:
    """The column most of whose cells name images, each its own; None when there is none."""
    best: tuple[tuple[float, float, bool], str | None] = ((0.0, 0.0, False), None)
    for column in table.columns:
        cells = [row[column] for _, row in table.rows[:200] if row[column]]
        if not cells or 2 * len(set(cells)) < len(cells):
            continue
        exact = sum(bool(index.find(cell, stems=False)) for cell in cells) / len(cells)
        by_stem = sum(bool(index.find(cell)) for cell in cells) / len(cells)
        score = (exact, by_stem, any(hint in column.lower() for hint in _IMAGE_NAMES))
        if by_stem >= 0.5 and score > best[0]:
            best = (score, column)
    return best[1]


def label_columns_of(table: Table, columns: Sequence[str], *, chosen: bool) -> tuple[list[LabelColumn], dict[str, str]]:
    """Those of the columns that hold labels, and for each other column why it does not.

    Text with 2 to 20 values that repeat, or numbers with 2 to 10 values, are labels; ids, free text and
    measurements are not. With
    `chosen` the user named the columns: up to 50 values of text pass, and what is no label is an error.
    """
    labels: list[LabelColumn] = []
    reasons: dict[str, str] = {}
    for column in columns:
        cells = Counter(row[column] for _, row in table.rows if row[column].lower() not in _MISSING)
        numbers = _numbers(cells)
        values = {cell: numbers[cell] if numbers else _plain(cell) for cell in cells}
        reason = _no_label(Counter(values[cell] for cell in cells.elements()), bool(numbers), chosen)
        if reason and chosen:
            raise UserError(f"{shown(table.path)}: column {shown(column)!r} {reason}, expected a column of labels")
        if reason:
            reasons[column] = reason
        else:
            labels.append(LabelColumn(column, values, bool(numbers) and len(set(values.values())) > 2))
    return labels, reasons


def _no_label(counts: Mapping[str, int], numeric: bool, chosen: bool) -> str | None:
    """Why values that occur so often are no labels."""
    total = sum(counts.values())
    if len(counts) < 2:
        return "has one value only" if counts else "is empty"
    if numeric and len(counts) > MAX_NUMBERS:
        return f"holds {len(counts)} different numbers (a measurement? bin it into at most {MAX_NUMBERS} values)"
    if len(counts) > (50 if chosen else MAX_TEXT_VALUES):
        return f"holds {len(counts)} different values (free text or ids?)"
    if 2 * len(counts) > total and not chosen:
        return f"holds {len(counts)} different values in {total} cells (free text or ids?)"
    return None


def _numbers(cells: Iterable[str]) -> dict[str, str]:
    """Cell -> its number in one spelling (1, 1.0 and 01 are 1) if all cells are finite numbers, else
    nothing."""
    try:
        numbers = {cell: float(cell) for cell in cells}
    except ValueError:
        return {}
    if not all(math.isfinite(number) for number in numbers.values()):
        return {}
    short = {number: _spelled(number, ".4g") for number in numbers.values()}
    if len(set(short.values())) < len(short):
        short = {number: _spelled(number, "") for number in short}
    return {cell: short[number] for cell, number in numbers.items()}


def _spelled(number: float, spec: str) -> str:
    return str(int(number)) if number.is_integer() and abs(number) < 1e15 else format(number, spec)
