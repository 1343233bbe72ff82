"""Reading and writing records: one JSON object a line.

On disk a record is `{"kind": "conversation", "id": ..., ...}`; message content is a list of OpenAI-style
parts, images before the text: `[{"type": "image", "path": ..., "sha256": ...}, {"type": "text", "text":
...}]` (a plain string is read too). Keys that the schema does not know are kept in `provenance["extra"]`; one
that is nearly the name of a missing key is taken for a slip and refused.
"""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeVar

from ..disk import write_atomic
from ..errors import UserError
from .jsonl import Row, read_rows, to_line
from .paths import shown
from .schema import (
    ROLES,
    SCENES,
    SPLITS,
    Conversation,
    Document,
    Example,
    ImageRef,
    Message,
    Prompt,
    Ranking,
    Record,
    Role,
    Scene,
    Split,
    choice,
    is_number,
    need,
)  # fmt: skip

__all__ = [
    "ROLES", "SCENES", "SPLITS", "Conversation", "Document", "Example", "ImageRef", "Message", "Prompt",
    "Ranking", "Record", "Role", "Scene", "Split", "data_hash", "decode_record", "encode_record", "get_field",
    "get_number", "read_records", "refuse_twice", "write_records",
]  # fmt: skip

T = TypeVar("T", Conversation, Prompt, Ranking, Document, Example)
V = TypeVar("V")
_JSON_NAMES: dict[type, str] = {
    str: "text", bool: "true or false", int: "a number", float: "a number", dict: "an object", list: "a list",
}  # fmt: skip


def _describe(kind: type) -> str:
    return _JSON_NAMES.get(kind, "null")


def get_field(row: dict[str, Any], key: str, kind: type[V], default: V | None = None) -> V:
    """The value of a key, which must be of that JSON type exactly; the default, or UserError, where it is
    absent."""
    if key not in row and default is not None:
        return default
    expected = _describe(kind)
    need(key in row, f"no {key!r}", expected)
    value = row[key]
    if isinstance(value, kind) and isinstance(value, bool) == (kind is bool):
        return value
    raise UserError(f"{key!r} is {_describe(type(value))} ({shown(value, 40)}), expected {expected}")


def _each(row: dict[str, Any], key: str, kind: type[V]) -> tuple[V, ...]:
    return tuple(get_field({key: item}, key, kind) for item in get_field(row, key, list))


def _only(row: dict[str, Any], what: str, keys: set[str]) -> None:
    for key in row.keys() - keys:
        raise UserError(f"unknown key {shown(key)!r} in {what}, expected only {', '.join(sorted(keys))}")


def _image(row: dict[str, Any]) -> ImageRef:
    _only(row, "an image", {"path", "sha256", "type"})
    return ImageRef(get_field(row, "path", str), get_field(row, "sha256", str))


def _message(row: dict[str, Any]) -> Message:
    _only(row, "a message", {"role", "content"})
    role = choice(get_field(row, "role", str), ROLES, "role")
    if isinstance(row.get("content"), str):
        return Message(role, row["content"])
    images: list[ImageRef] = []
    texts: list[str] = []
    for part in _each(row, "content", dict):
        if choice(get_field(part, "type", str), ("text", "image"), "type of a content part") == "image":
            need(not texts, "an image behind the text", "images before the text")
            images.append(_image(part))
        else:
            _only(part, "a text part", {"type", "text"})
            texts.append(get_field(part, "text", str))
    need(len(texts) <= 1, f"{len(texts)} text parts in one message", "at most one")
    return Message(role, "".join(texts), tuple(images))


def _scene(row: dict[str, Any]) -> Scene | None:
    return None if row.get("scene") is None else choice(row["scene"], SCENES, "scene")


def _labels(row: dict[str, Any]) -> dict[str, str]:
    labels = get_field(row, "labels", dict)
    return {name: get_field(labels, name, str) for name in labels}


def _ranks(row: dict[str, Any]) -> dict[str, tuple[int | None, ...]]:
    ranks = get_field(row, "ranks", dict)
    return {name: tuple(get_field(ranks, name, list)) for name in ranks}


def get_number(row: dict[str, Any], key: str, default: float) -> float:
    """The finite number of a key, or the default where it is absent."""
    value = row.get(key, default)
    if not is_number(value):
        raise UserError(f"{key!r} is {_describe(type(value))} ({shown(value, 40)}), expected a number")
    return float(value)


def _decode(row: dict[str, Any], kind: type[Record]) -> Record:
    id, provenance = get_field(row, "id", str), _provenance(row, kind)
    if kind is Document:
        return Document(id, get_field(row, "text", str), provenance)
    if kind is Example:
        soft: dict[str, Any] = get_field(row, "soft", dict, {})
        return Example(
            id, _image(get_field(row, "image", dict)), _labels(row),
            {name: get_number(soft, name, 0.0) for name in soft},
            get_number(row, "weight", 1.0), get_field(row, "group", str, ""),
            choice(row.get("split", "train"), SPLITS, "split"), _scene(row), provenance,
        )  # fmt: skip
    if kind is Ranking:
        return Ranking(
            id, decode_record(get_field(row, "prompt", dict), Prompt),
            _each(row, "responses", str), _each(row, "ended", bool), _ranks(row),
            get_field(row, "annotator", str), _each(row, "shown_order", int), provenance,
        )  # fmt: skip
    messages = tuple(_message(message) for message in _each(row, "messages", dict))
    task, scene, facts = get_field(row, "task", str, ""), _scene(row), get_field(row, "facts", dict, {})
    if kind is Prompt:
        return Prompt(id, messages, task, scene, facts, provenance)
    return Conversation(id, messages, task, scene, get_number(row, "weight", 1.0), facts, provenance)


def _provenance(row: dict[str, Any], kind: type[Record]) -> dict[str, Any]:
    """The record's provenance, with the keys that the schema does not know under "extra"."""
    known = {f.name for f in dataclasses.fields(kind)}
    extra = {key: value for key, value in row.items() if key not in known and key != "kind"}
    for key in extra:
        near = difflib.get_close_matches(key, known - row.keys(), n=1, cutoff=0.82)
        need(not near, f"unknown key {shown(key)!r}", repr(near[0]) if near else "")
    provenance: dict[str, Any] = get_field(row, "provenance", dict, {})
    if not extra:
        return provenance
    return {**provenance, "extra": {**get_field(provenance, "extra", dict, {}), **extra}}


def decode_record(row: dict[str, Any], kind: type[T]) -> T:
    """The record that a JSON object means; raises UserError "what, expected what"."""
    name = kind.__name__.lower()
    found = row.get("kind", name if kind is Prompt else None)
    need(found == name, f"kind {shown(found, 40)!r}", repr(name))
    record = _decode(row, kind)
    assert isinstance(record, kind)
    return record


def encode_record(record: Record) -> dict[str, Any]:
    """The JSON object of a record, every key present, in the order of the fields."""
    row = _plain(record, content_only=False)
    assert isinstance(row, dict)
    return row


def _image_part(image: ImageRef, content_only: bool) -> dict[str, str]:
    path = {} if content_only else {"path": image.path}
    return {"type": "image", **path, "sha256": image.sha256}


def _plain(value: object, content_only: bool) -> object:
    if isinstance(value, ImageRef):
        return {"sha256": value.sha256} if content_only else {"path": value.path, "sha256": value.sha256}
    if isinstance(value, Message):
        parts = [_image_part(image, content_only) for image in value.images]
        parts.extend({"type": "text", "text": text} for text in [value.text] if text)
        return {"role": value.role, "content": parts}
    if isinstance(value, Record):
        names = [f.name for f in dataclasses.fields(value) if not (content_only and f.name == "provenance")]
        kind = type(value).__name__.lower()
        return {"kind": kind, **{name: _plain(getattr(value, name), content_only) for name in names}}
    if isinstance(value, tuple | list):
        return [_plain(item, content_only) for item in value]
    if isinstance(value, dict):
        return {key: _plain(item, content_only) for key, item in value.items()}
    return value


def data_hash(records: Iterable[Record]) -> str:
    """SHA-256 over the records in their order; images count by their bytes, so paths and provenance do not
    matter."""
    digest = hashlib.sha256()
    for record in records:
        line = json.dumps(_plain(record, content_only=True), ensure_ascii=False, allow_nan=False, sort_keys=True)
        digest.update(line.encode() + b"\n")
    return digest.hexdigest()


def read_records(path: Path, kind: type[T], skip_bad: Path | None = None) -> list[T]:
    """All records of a file, which are all of one kind; see `jsonl.read_rows` for `skip_bad`.

    Raises:
        UserError: "file:line: what, expected what"; an id that stands twice; no record at all.
    """
    seen: dict[tuple[str, str], Row] = {}

    def parse(value: dict[str, Any], row: Row) -> T:
        record = decode_record(value, kind)
        refuse_twice(record, row, seen)
        return record

    return read_rows(path, parse, skip_bad)


def refuse_twice(record: Record, row: Row, seen: dict[tuple[str, str], Row]) -> None:
    """Raise UserError when the record's id (for a ranking with its annotator) is in `seen` already; else add
    it."""
    first = seen.setdefault(_identity(record), row)
    need(first is row, f"id {shown(record.id)!r} stands on line {first.line} too", "every id once")


def write_records(path: Path, records: Iterable[Record]) -> None:
    """Write the file atomically; raises UserError when an id stands twice or text is not Unicode."""
    lines: dict[tuple[str, str], str] = {}
    for record in records:
        need(
            _identity(record) not in lines,
            f"{path.name}: id {shown(record.id)!r} stands twice",
            "every id once",
        )
        lines[_identity(record)] = to_line(encode_record(record)) + "\n"
    try:
        data = "".join(lines.values()).encode()
    except UnicodeEncodeError as error:
        near = shown(error.object[max(0, error.start - 20) : error.end])
        raise UserError(f"{path.name}: half a character in {near!r}, expected whole Unicode text") from error
    write_atomic(path, data)


def _identity(record: Record) -> tuple[str, str]:
    return record.id, record.annotator if isinstance(record, Ranking) else ""
