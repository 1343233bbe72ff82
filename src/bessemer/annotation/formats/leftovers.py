"""Three-way merge of rows: what a file said, what our reading of it would write, what is to be written now.

A row of a file is read into an annotation, and from the annotation `made` is what our writer would put. Where the
two differ the row's own words are kept, with what they stood beside; when the format is written again, each place
that nobody changed gets the file's own words back (unknown keys, unusual numbers, verbatim areas), and each place
that was changed gets the new ones. This is how the same format survives a round trip.
"""

from __future__ import annotations

from typing import Any

__all__ = ["kept_whole", "leftover", "own_whole", "restored", "same"]


def same(one: Any, other: Any) -> bool:
    """Equal as JSON: 1 and 1.0 are, 1 and true are not."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(value, other[key]) for key, value in one.items())
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    return isinstance(one, bool) == isinstance(other, bool) and bool(one == other)


def leftover(row: dict[str, Any], made: dict[str, Any]) -> dict[str, Any]:
    """What `made` does not say of `row`; {} where they are the same.

    row: keys that differ, as the file has them. was: what was made in their place. absent: what was made and the
    file has not. inside: the same of objects within.
    """
    kept: dict[str, Any] = {}
    was: dict[str, Any] = {}
    inside: dict[str, Any] = {}
    for key, value in row.items():
        if key in made and same(value, made[key]):
            continue
        if isinstance(value, dict) and isinstance(made.get(key), dict):
            inside[key] = leftover(value, made[key])
        else:
            kept[key] = value
            if key in made:
                was[key] = made[key]
    absent = {key: value for key, value in made.items() if key not in row}
    parts = {"row": kept, "was": was, "absent": absent, "inside": inside}
    return {name: part for name, part in parts.items() if part}


def restored(made: dict[str, Any], left: Any) -> dict[str, Any]:
    """What to write: `made`, with the file's own words where `made` says what it said when they were kept.

    `left` comes out of a store, so it may be anything: what is not of the form of `leftover` is passed over.
    """
    kept, was, absent, inside = (_part(left, name) for name in ("row", "was", "absent", "inside"))
    out: dict[str, Any] = {}
    for key, value in made.items():
        if key in inside and isinstance(value, dict):
            out[key] = restored(value, inside[key])
        elif key in kept and key in was and same(was[key], value):
            out[key] = kept[key]
        elif not (key in absent and same(absent[key], value)):
            out[key] = value
    for key, value in kept.items():
        if key not in made and key not in was:
            out[key] = value
    return out


def kept_whole(row: dict[str, Any], made: dict[str, Any]) -> dict[str, Any]:
    """`leftover` for keys that mean something together alone, as those of a shape do; {} where they are the same."""
    return {} if same(row, made) else {"row": row, "was": made}


def own_whole(made: dict[str, Any], kept: Any) -> dict[str, Any] | None:
    """The file's own words as they all were, if `made` is what was made of them; None where there are no others."""
    row, was = (kept.get("row"), kept.get("was")) if isinstance(kept, dict) else (None, None)
    return row if isinstance(row, dict) and same(was, made) else None


def _part(left: Any, name: str) -> dict[str, Any]:
    part = left.get(name, {}) if isinstance(left, dict) else {}
    return part if isinstance(part, dict) else {}
