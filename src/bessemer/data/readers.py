"""Reading what people already have: the format of a .json or .jsonl file is found by its keys, and its rows
become records."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from ..errors import UserError
from .formats import FORMATS, detect, messages_of, preference_of, strip_known, text_of
from .images import image_ref, inspect_image
from .jsonl import Row, parse_object, read_rows, rows_of
from .paths import resolve_path, shown
from .records import (
    Conversation,
    Document,
    Example,
    ImageRef,
    Prompt,
    Ranking,
    Record,
    decode_record,
    get_field,
    get_number,
    refuse_twice,
)  # fmt: skip
from .schema import SCENES, Scene, choice, need

__all__ = ["Reading", "read_any"]

_OWN: dict[str, Any] = {kind.__name__.lower(): kind for kind in (Conversation, Prompt, Ranking, Document, Example)}


@dataclass(frozen=True)
class Reading:
    """Records and the name of the format that they were found in, to be printed."""

    format: str
    records: list[Record]


def read_any(
    path: Path,
    *,
    image_root: Path | None = None,
    task: str = "",
    principle: str = "preference",
    skip_bad: Path | None = None,
) -> Reading:
    """The records of a file of JSON lines, or of one JSON array, whatever known format it is in.

    alpaca, sharegpt, OpenAI messages, query and response, prompt and completion give Conversations; chosen
    and rejected give Rankings of two by `principle`; text gives Documents; rows with "kind" are our own, in
    which sha256 may be left out. Images are found under `image_root` (default: the file's folder); their
    paths become absolute. `task` is for rows that name none. Keys that no format knows are kept in
    provenance["extra"].

    Raises:
        UserError: no known format; "file:line: what, expected what" for a bad row, unless `skip_bad` (see
            `jsonl.read_rows`).
    """
    format = _detect_file(path)
    refs: dict[str, ImageRef] = {}
    seen: dict[tuple[str, str], Row] = {}

    def find(name: str) -> ImageRef:
        if name not in refs:
            refs[name] = image_ref(resolve_path(name, image_root or path.parent))
        return refs[name]

    def parse(value: dict[str, Any], row: Row) -> Record:
        if format in FORMATS:
            record = _foreign(value, format, find, principle, _Given(path, row, task))
        else:
            record = _own(value, format, find)
        refuse_twice(record, row, seen)
        return record

    return Reading(f"bessemer {format}" if format in _OWN else format, read_rows(path, parse, skip_bad))


def _detect_file(path: Path) -> str:
    """The format of most of the first rows that can be parsed at all."""
    votes: Counter[str] = Counter()
    keys: list[str] = []
    for row in islice(rows_of(path), 50):
        try:
            value = parse_object(row.raw)
        except UserError:
            continue  # reported with its line when the rows are read
        kind = value.get("kind")
        name = kind if isinstance(kind, str) and kind in _OWN else detect(value)
        keys = keys or list(value)
        votes.update([name] if name else [])
    if votes:
        return votes.most_common(1)[0][0]
    known = "; ".join(f"{name}: {keys}" for name, keys in FORMATS.items())
    found = f"keys {', '.join(shown(key, 30) for key in keys[:12])}" if keys else "no JSON object"
    raise UserError(f"{shown(path)}: {found} in the first rows, expected one of these formats: {known}; or 'kind'")


@dataclass(frozen=True)
class _Given:
    """Where a row stands, and the task it has if it names none."""

    path: Path
    row: Row
    task: str


def _foreign(
    value: dict[str, Any], format: str, find: Callable[[str], ImageRef], principle: str, given: _Given
) -> Record:
    extra = strip_known(value)
    provenance: dict[str, Any] = {"format": format, "file": given.path.name, "line": given.row.line}
    if extra:
        provenance["extra"] = extra
    own = value.get("id")  # a column of nulls names nothing
    id = f"{given.path.stem}-{given.row.number}" if own is None else str(own)
    if format == "text":
        return Document(id, text_of(value), provenance)
    task = get_field(value, "task", str, given.task)
    scene: Scene | None = None if value.get("scene") is None else choice(value["scene"], SCENES, "scene")
    if format == "preference":
        pair = preference_of(value, find)
        prompt = Prompt(id, pair.messages, task, scene)
        ranks: dict[str, tuple[int | None, ...]] = {principle: (1, 2)}
        annotator = get_field(value, "annotator", str, "imported")
        provenance["shown_order"] = "unknown"
        return Ranking(id, prompt, (pair.chosen, pair.rejected), (True, True), ranks, annotator, (0, 1), provenance)
    weight = get_number(value, "weight", 1.0)
    return Conversation(id, messages_of(value, format, find, _measure), task, scene, weight, {}, provenance)


def _measure(image: ImageRef) -> tuple[int, int]:
    facts = inspect_image(Path(image.path))
    return facts.width, facts.height


def _own(value: dict[str, Any], kind: str, find: Callable[[str], ImageRef]) -> Record:
    """One of our own records; every image is looked at, so a missing hash is filled in and a wrong one
    found."""
    need(value.get("kind") == kind, f"kind {shown(value.get('kind'), 40)!r}", f"{kind!r} as in the other rows")
    record: Record = decode_record(_fill_hashes(value, find), _OWN[kind])
    return record


def _fill_hashes(value: dict[str, Any], find: Callable[[str], ImageRef]) -> dict[str, Any]:
    """The same object, every image's path absolute and its sha256 that of the file."""
    result = dict(value)
    if isinstance(result.get("prompt"), dict):
        result["prompt"] = _fill_hashes(result["prompt"], find)
    if isinstance(result.get("image"), dict):
        result["image"] = _filled(result["image"], find)
    if isinstance(result.get("messages"), list):
        result["messages"] = [_filled_message(message, find) for message in result["messages"]]
    return result


def _filled_message(message: Any, find: Callable[[str], ImageRef]) -> Any:
    if not isinstance(message, dict) or not isinstance(message.get("content"), list):
        return message
    parts = [
        _filled(part, find) if isinstance(part, dict) and part.get("type") == "image" else part
        for part in message["content"]
    ]
    return {**message, "content": parts}


def _filled(image: dict[str, Any], find: Callable[[str], ImageRef]) -> dict[str, Any]:
    ref = find(get_field(image, "path", str))
    recorded = get_field(image, "sha256", str, ref.sha256)
    need(recorded == ref.sha256, f"image {shown(ref.path)} is not the one recorded (sha256)", "the same bytes")
    return {**image, "path": ref.path, "sha256": ref.sha256}
