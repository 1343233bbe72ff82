"""What a folder claims about its photographs, before any is opened: files, class folders, rows of a table."""

from __future__ import annotations

import os
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from ..errors import UserError
from .paths import check_path, shown
from .tables import FileIndex, LabelColumn, Table, find_column, image_column_of, label_columns_of, read_table

__all__ = [
    "FORMAT_OF",
    "Claim",
    "Files",
    "Findings",
    "claims_of_folders",
    "claims_of_table",
    "find_table",
    "list_files",
]

FORMAT_OF = {
    ".jpg": "JPEG", ".jpeg": "JPEG", ".jpe": "JPEG", ".jfif": "JPEG", ".png": "PNG", ".bmp": "BMP",
    ".webp": "WEBP", ".tif": "TIFF", ".tiff": "TIFF",
}  # fmt: skip
_SYSTEM = frozenset({"thumbs.db", "ehthumbs.db", "desktop.ini", "__macosx", "@eadir", "$recycle.bin"})
_PARTS = {
    "train": "train", "training": "train", "test": "test", "testing": "test",
    "val": "val", "valid": "val", "validation": "val", "dev": "val",
}  # fmt: skip
_SPREADSHEETS = frozenset({".xlsx", ".xls", ".xlsm", ".ods"})
_PART_COLUMNS = frozenset({"split", "subset", "set", "partition", "phase"})


@dataclass(frozen=True)
class Files:
    """names: image files relative to the folder, sorted; others: suffix -> number of other files; odd: (name,
    reason)."""

    names: list[str]
    others: dict[str, int]
    odd: list[tuple[str, str]]


@dataclass(frozen=True)
class Claim:
    """The labels, the group ("" for none) and the part (None for none) that one image file is said to
    have."""

    name: str
    labels: dict[str, str]
    group: str = ""
    split: str | None = None


@dataclass
class Findings:
    """What accumulates while a folder is looked at: (name, why it is left out), remarks, attributes whose
    values are ordered."""

    odd: list[tuple[str, str]]
    notes: list[str]
    ordered: set[str] = field(default_factory=set)


def list_files(directory: Path) -> Files:
    """Walk the folder; hidden and system files are passed over, links that lead out of it are odd.

    Raises:
        UserError: no such folder, or no image file below it.
    """
    if not directory.is_dir():
        raise UserError(f"{shown(directory)} is not a folder, expected one with photographs")
    base = directory.resolve()
    names: list[str] = []
    odd: list[tuple[str, str]] = []
    others: Counter[str] = Counter()
    for folder, subfolders, files in os.walk(base):
        here = Path(folder).relative_to(base)
        subfolders[:] = sorted(name for name in subfolders if not _is_hidden(name))
        links = [name for name in subfolders if (base / here / name).is_symlink()]
        odd.extend(((here / name).as_posix(), "a link to a folder, which is not followed") for name in links)
        for file in sorted(name for name in files if not _is_hidden(name)):
            name = (here / file).as_posix()
            suffix = Path(file).suffix.lower()
            reason = _refusal(base, name) if suffix in FORMAT_OF else None
            if suffix not in FORMAT_OF:
                others[suffix or "(none)"] += 1
            elif reason:
                odd.append((name, reason))
            else:
                names.append(name)
    if not names:
        seen = ", ".join(f"{shown(suffix, 20)} {count}" for suffix, count in others.most_common(8)) or "nothing else"
        expected = f"expected some of {', '.join(FORMAT_OF)}; convert others"
        raise UserError(f"{shown(directory)}: no photographs (found {seen}), {expected}")
    return Files(sorted(names), dict(others.most_common()), odd)


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name.lower() in _SYSTEM


def _refusal(base: Path, name: str) -> str | None:
    """Why a file cannot be in a record, if so."""
    path = base / name
    try:
        check_path(str(path))
    except UserError as error:
        return str(error)
    if path.is_symlink() and not path.resolve().is_relative_to(base):
        return "a link that leads out of the folder"
    return None


def claims_of_folders(directory: Path, names: Sequence[str], attribute: str, found: Findings) -> list[Claim]:
    """The first folder above an image is its label, below train/ and test/ folders and a single wrapping
    folder if there are such.

    Raises:
        UserError: fewer than two class folders.
    """
    depth, has_parts = _levels(names)
    claims: list[Claim] = []
    left_out: Counter[str] = Counter()
    for name in names:
        folders = PurePosixPath(name).parts[depth:-1]
        split = _PARTS.get(folders[0].lower()) if has_parts and folders else None
        if has_parts and folders and split is None:
            left_out[folders[0]] += 1
            continue
        folders = folders[1:] if has_parts else folders
        if not folders:
            found.odd.append((name, "not in a class folder"))
            continue
        label = " ".join(unicodedata.normalize("NFC", folders[0]).split())
        claims.append(Claim(name, {attribute: label}, "/".join(folders[1:]), split))
    found.notes.extend(
        f"folder {folder!r} lies beside train and test and is left out ({count} images)"
        for folder, count in left_out.items()
    )
    found.notes.extend(_empty_folders(directory, names, depth + has_parts))
    classes = {claim.labels[attribute] for claim in claims}
    if len(classes) < 2:
        seen = f"one class folder, {shown(min(classes))!r}" if classes else "no class folders"
        notes = "; ".join(found.notes)
        expected = "a sub-folder for each class, or a CSV with columns for image and labels"
        hint = f" ({shown(notes, 300)})" if notes else ""
        raise UserError(f"{shown(directory)}: {seen}, expected {expected}{hint}")
    return _with_groups(claims, found)


def _empty_folders(directory: Path, names: Sequence[str], depth: int) -> list[str]:
    """Remarks on folders that lie beside the classes and hold no photograph: a class that will be missing."""
    folders = {PurePosixPath(name).parts[: depth + 1] for name in names}
    notes: list[str] = []
    for above in sorted({folder[:depth] for folder in folders if len(folder) > depth}):
        for path in sorted(directory.joinpath(*above).iterdir()):
            inside = (*above, path.name)
            if path.is_dir() and not path.is_symlink() and not _is_hidden(path.name) and inside not in folders:
                held = Counter(Path(file).suffix.lower() or "(none)" for _, _, files in os.walk(path) for file in files)
                what = ", ".join(f"{shown(suffix, 20)} {count}" for suffix, count in held.most_common(4))
                notes.append(f"folder {'/'.join(inside)!r} holds no photographs ({what or 'it is empty'})")
    return notes


def _levels(names: Sequence[str]) -> tuple[int, bool]:
    """How many wrapping folders there are, and whether the next level is train, test and the like."""
    paths = [PurePosixPath(name).parts[:-1] for name in names]
    depth = 0
    while len({path[depth : depth + 1] for path in paths}) == 1 and all(len(path) > depth + 1 for path in paths):
        depth += 1
    parts = {_PARTS.get(path[depth].lower()) for path in paths if len(path) > depth}
    return depth, "train" in parts and len(parts - {None}) > 1


def _with_groups(claims: list[Claim], found: Findings) -> list[Claim]:
    """Folders below the classes stay as groups only if there are enough of them in what is to be split."""
    sizes = Counter(claim.group for claim in claims)
    if set(sizes) == {""}:
        return claims
    left = {claim.group for claim in claims if claim.split in (None, "train")}
    enough = len(left) >= 5 or {"test", "val"} <= {claim.split for claim in claims}
    if "" not in sizes and enough and 2 * max(sizes.values()) <= len(claims):
        found.notes.append(f"the {len(sizes)} folders below the classes are groups: each stays in one part")
        return claims
    found.notes.append("folders below the classes are not used: too few, or not for all images, to be groups")
    return [Claim(claim.name, claim.labels, "", claim.split) for claim in claims]


def find_table(
    directory: Path,
    names: Sequence[str],
    table: Path | None,
    image_column: str | None,
    encoding: str | None,
    found: Findings,
) -> Table | None:
    """The table that was named, or the one at the top of the folder that has a column of image names; None
    without such.

    Raises:
        UserError: the named one is no table; several could be meant.
    """
    if table is not None:
        if not table.exists() and (directory / table).is_file():
            raise UserError(f"{shown(table)} is not in the current folder, expected table={shown(directory / table)}")
        return read_table(table, _index(directory, names, table), encoding)
    fitting: list[Table] = []
    beside = sorted(path for path in directory.iterdir() if not _is_hidden(path.name))
    for path in (path for path in beside if path.suffix.lower() in _SPREADSHEETS):
        found.notes.append(f"{path.name} is not used: it is a spreadsheet; save it as CSV")
    for path in (path for path in beside if path.suffix.lower() in (".csv", ".tsv")):
        index = _index(directory, names, path)
        try:
            candidate = read_table(path, index, encoding)
        except UserError as error:
            found.notes.append(f"{path.name} is not used: {error}")
            continue
        if image_column in candidate.columns if image_column else image_column_of(candidate, index):
            fitting.append(candidate)
        else:
            columns = ", ".join(candidate.columns)
            why = f"no column {image_column!r} among" if image_column else "no column holds names of images:"
            found.notes.append(f"{path.name} is not used: {why} {columns}")
    if len(fitting) > 1:
        files = ", ".join(shown(candidate.path.name) for candidate in fitting)
        raise UserError(
            f"{shown(directory)}: {files} name images, expected one table; say which by "
            f"table={shown(fitting[0].path)} or another"
        )
    return fitting[0] if fitting else None


def _index(directory: Path, names: Sequence[str], table: Path) -> FileIndex:
    folder = table.parent.resolve()
    base = directory.resolve()
    inside = folder.relative_to(base).as_posix() if folder.is_relative_to(base) else "."
    return FileIndex(names, "" if inside == "." else inside)


def claims_of_table(
    directory: Path,
    names: Sequence[str],
    table: Table,
    image_column: str | None,
    label_columns: Sequence[str] | None,
    group_column: str | None,
    found: Findings,
) -> list[Claim]:
    """One claim for each image that the table names, sorted by name.

    Raises:
        UserError: no column of image names, no column of labels, or a named column that is not there.
    """
    index = _index(directory, names, table.path)
    image = find_column(table, image_column) if image_column else image_column_of(table, index)
    if image is None:
        columns = ", ".join(shown(column, 40) for column in table.columns)
        raise UserError(f"{shown(table.path)}: no column holds names of images ({columns}); say which by image_column=")
    group = find_column(table, group_column) if group_column else None
    part = _part_column(table)
    rest = [column for column in table.columns if column not in (image, group, part)]
    wanted = [find_column(table, column) for column in label_columns] if label_columns else rest
    labels, reasons = label_columns_of(table, wanted, chosen=bool(label_columns))
    found.notes.extend([*table.notes, f"images are named in column {image!r} of {table.path.name}"])
    found.notes.extend(f"column {column!r} is no label: it {reason}" for column, reason in reasons.items())
    found.odd.extend((f"{table.path.name}:{line}", reason) for line, reason in table.bad_rows)
    found.ordered.update(label.name for label in labels if label.ordered)
    if not labels:
        why = shown("; ".join(found.notes), 600)
        raise UserError(f"{shown(table.path)}: no column of labels ({why}); say which by label_columns=")
    claims = _claims_of_rows(table, index, image, group, part, labels, found)
    unnamed = len(names) - len(claims)
    found.notes.extend([f"{unnamed} photographs are left out or not in the table"] if unnamed else [])
    return claims


def _part_column(table: Table) -> str | None:
    """The column that says train, val or test."""
    for column in table.columns:
        parts = {_PARTS.get(row[column].lower()) for _, row in table.rows if row[column]}
        if column.lower() in _PART_COLUMNS and None not in parts and "train" in parts:
            return column
    return None


def _claims_of_rows(
    table: Table,
    index: FileIndex,
    image: str,
    group: str | None,
    part: str | None,
    columns: Sequence[LabelColumn],
    found: Findings,
) -> list[Claim]:
    claims: dict[str, Claim] = {}
    contradicted: set[str] = set()
    for line, row in table.rows:
        place = f"{table.path.name}:{line}"
        names = index.find(row[image])
        labels = {
            column.name: column.values[row[column.name]] for column in columns if row[column.name] in column.values
        }
        if len(names) != 1:
            what = f"means {len(names)} files" if names else "is no image file of the folder"
            found.odd.append((place, f"{row[image]!r} {what}"))
        elif not labels:
            found.odd.append((names[0], f"has no label in the table (line {line})"))
        else:
            claim = Claim(
                names[0], labels, row[group] if group else "", _PARTS.get(row[part].lower()) if part else None
            )
            if claims.setdefault(claim.name, claim) != claim:
                contradicted.add(claim.name)
    found.odd.extend(
        (name, "stands in the table more than once, with different values") for name in sorted(contradicted)
    )
    return [claims[name] for name in sorted(claims.keys() - contradicted)]
