"""The database of a project, and what every kind of record of the log does to it.

The database is made from the log alone: a record is applied by the same function when it is new and when it is
replayed, so a database that is behind, lost or of an older layout is made again from the log.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from typing import Any

from ..data.paths import shown
from ..errors import UserError
from .codec import to_json
from .log import BEGINNING, Position, Record

__all__ = ["FORMAT", "SCHEMA_VERSION", "apply", "create_tables", "position_of"]

FORMAT = 1  # of the log's records
SCHEMA_VERSION = 3  # of the tables

_TABLES = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value NOT NULL) WITHOUT ROWID;
CREATE TABLE roots (id INTEGER PRIMARY KEY, path TEXT NOT NULL UNIQUE);
CREATE TABLE images (
  id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, root INTEGER NOT NULL REFERENCES roots, sha256 TEXT NOT NULL,
  width INTEGER NOT NULL, height INTEGER NOT NULL, orientation INTEGER NOT NULL, raw TEXT NOT NULL,
  search TEXT NOT NULL, score REAL);
CREATE INDEX images_sha256 ON images (sha256);
CREATE INDEX images_score ON images (score, id);
CREATE TABLE label_sets (version INTEGER PRIMARY KEY, body TEXT NOT NULL, author TEXT NOT NULL, time TEXT NOT NULL);
CREATE TABLE kept (format TEXT PRIMARY KEY, body TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE versions (
  image INTEGER NOT NULL REFERENCES images, annotator TEXT NOT NULL, version INTEGER NOT NULL, body TEXT NOT NULL,
  shapes INTEGER NOT NULL, time TEXT NOT NULL, restored INTEGER, PRIMARY KEY (image, annotator, version));
CREATE TABLE documents (
  image INTEGER NOT NULL REFERENCES images, annotator TEXT NOT NULL, version INTEGER NOT NULL, state TEXT NOT NULL,
  updated TEXT NOT NULL, shapes INTEGER NOT NULL, words TEXT NOT NULL, comment TEXT NOT NULL DEFAULT '',
  reviewer TEXT NOT NULL DEFAULT '', PRIMARY KEY (image, annotator)) WITHOUT ROWID;
CREATE INDEX documents_annotator ON documents (annotator, state, image);
CREATE INDEX documents_state ON documents (state, image);
CREATE TABLE terms (
  image INTEGER NOT NULL, annotator TEXT NOT NULL, kind TEXT NOT NULL, value TEXT NOT NULL, count INTEGER NOT NULL,
  PRIMARY KEY (image, annotator, kind, value),
  FOREIGN KEY (image, annotator) REFERENCES documents) WITHOUT ROWID;
CREATE INDEX terms_value ON terms (kind, value, image, annotator);
CREATE TABLE reviews (
  id INTEGER PRIMARY KEY, image INTEGER NOT NULL, annotator TEXT NOT NULL, version INTEGER NOT NULL,
  reviewer TEXT NOT NULL, verdict TEXT NOT NULL, comment TEXT NOT NULL, time TEXT NOT NULL,
  FOREIGN KEY (image, annotator, version) REFERENCES versions);
CREATE INDEX reviews_document ON reviews (image, annotator);
CREATE TABLE conflicts (
  id INTEGER PRIMARY KEY, image INTEGER NOT NULL REFERENCES images, annotator TEXT NOT NULL, base INTEGER NOT NULL,
  body TEXT NOT NULL, time TEXT NOT NULL);
CREATE INDEX conflicts_document ON conflicts (image, annotator);
CREATE TABLE predictions (
  id INTEGER PRIMARY KEY, image INTEGER NOT NULL REFERENCES images, model_version TEXT NOT NULL, score REAL,
  body TEXT NOT NULL, current INTEGER NOT NULL DEFAULT 1);
CREATE INDEX predictions_image ON predictions (image, current);
CREATE TABLE decisions (
  prediction INTEGER NOT NULL REFERENCES predictions, annotator TEXT NOT NULL, decision TEXT NOT NULL,
  annotation TEXT NOT NULL, time TEXT NOT NULL, PRIMARY KEY (prediction, annotator)) WITHOUT ROWID;
CREATE TABLE queue (
  image INTEGER PRIMARY KEY REFERENCES images, priority REAL NOT NULL, reasons TEXT NOT NULL);
CREATE TABLE ranking_tasks (number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, body TEXT NOT NULL);
CREATE TABLE rankings (
  task TEXT NOT NULL REFERENCES ranking_tasks (id), annotator TEXT NOT NULL, version INTEGER NOT NULL,
  body TEXT NOT NULL, time TEXT NOT NULL, PRIMARY KEY (task, annotator, version));
"""


def create_tables(db: sqlite3.Connection) -> None:
    """The empty tables, at the beginning of the log."""
    db.executescript(f"BEGIN IMMEDIATE; {_TABLES} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT")


def position_of(db: sqlite3.Connection) -> Position:
    """How far the log has been applied."""
    rows = dict(db.execute("SELECT key, value FROM meta WHERE key IN ('seq', 'offset', 'chain')").fetchall())
    return Position(rows["seq"], rows["offset"], rows["chain"]) if rows else BEGINNING


def apply(db: sqlite3.Connection, record: Record) -> None:
    """Do what a record says; the caller holds the transaction.

    Raises:
        UserError: an operation that this version does not know.
    """
    operation = _OPERATIONS.get(record.op)
    if operation is None:
        raise UserError(
            f"line {record.seq} of the edit log is of the kind {shown(record.op, 40)!r}, expected one that this "
            "version knows; open the project with the version that wrote it, or a newer one"
        )
    operation(db, record.data, record.time)
    after = record.after
    pairs = [("seq", after.seq), ("offset", after.offset), ("chain", after.chain)]
    db.executemany("INSERT OR REPLACE INTO meta VALUES (?, ?)", pairs)


def _create(db: sqlite3.Connection, data: dict[str, Any], time: str) -> None:
    if data["format"] != FORMAT:
        raise UserError(f"a project of format {data['format']!r}, expected {FORMAT}; open it with a newer version")
    db.executemany("INSERT INTO meta VALUES (?, ?)", [("name", data["name"]), ("created", time)])
    db.execute("INSERT INTO label_sets VALUES (0, '[]', '', ?)", (time,))


def _images(db: sqlite3.Connection, data: dict[str, Any], time: str) -> None:
    root = data["root"]
    db.execute("INSERT OR IGNORE INTO roots VALUES (?, ?)", (root["id"], root["path"]))
    db.executemany(
        "INSERT INTO images VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, NULL)",
        [
            (
                row["id"], row["name"], root["id"], row["sha256"], row["width"], row["height"], row["orientation"],
                to_json(row["raw"]), row["name"].casefold(),
            )
            for row in data["images"]
        ],
    )  # fmt: skip


def _save(db: sqlite3.Connection, data: dict[str, Any], time: str) -> None:
    key = (data["image"], data["annotator"])
    rows = data["annotations"]
    shapes = sum("shape" in row for row in rows)
    body = to_json(rows)
    values = (*key, data["version"], body, shapes, time, data.get("restored"))
    db.execute("INSERT INTO versions VALUES (?, ?, ?, ?, ?, ?, ?)", values)
    words = "\n".join(text.casefold() for row in rows for text in (row.get("label"), row.get("text")) if text)
    db.execute(
        "INSERT INTO documents (image, annotator, version, state, updated, shapes, words) VALUES (?, ?, ?, ?, ?, ?, ?) "
        "ON CONFLICT DO UPDATE SET version = excluded.version, state = excluded.state, updated = excluded.updated, "
        "shapes = excluded.shapes, words = excluded.words",
        (*key, data["version"], data.get("state", "doing"), time, shapes, words),
    )
    terms: dict[tuple[str, str], int] = {}
    for row in rows:
        for kind in ("label", "scene"):
            if row.get(kind):
                terms[kind, row[kind]] = terms.get((kind, row[kind]), 0) + 1
    db.execute("DELETE FROM terms WHERE image = ? AND annotator = ?", key)
    db.executemany("INSERT INTO terms VALUES (?, ?, ?, ?, ?)", [(*key, *term, n) for term, n in terms.items()])


def _submit(db: sqlite3.Connection, data: dict[str, Any], time: str) -> None:
    db.execute(
        "UPDATE documents SET state = 'submitted', updated = ? WHERE image = ? AND annotator = ?",
        (time, data["image"], data["annotator"]),
    )


def _review(db: sqlite3.Connection, data: dict[str, Any], time: str) -> None:
    who = (data["image"], data["annotator"])
    verdict = (data["reviewer"], data["verdict"], data["comment"])
    db.execute("INSERT INTO reviews VALUES (NULL, ?, ?, ?, ?, ?, ?, ?)", (*who, data["version"], *verdict, time))
    db.execute(
        "UPDATE documents SET reviewer = ?, state = ?, comment = ?, updated = ? WHERE image = ? AND annotator = ?",
        (*verdict, time, *who),
    )


def _conflict(db: sqlite3.Connection, data: dict[str, Any], time: str) -> None:
    values = (data["image"], data["annotator"], data["base"], to_json(data["annotations"]), time)
    db.execute("INSERT INTO conflicts VALUES (NULL, ?, ?, ?, ?, ?)", values)


def _labels(db: sqlite3.Connection, data: dict[str, Any], time: str) -> None:
    values = (data["version"], to_json(data["labels"]), data["author"], time)
    db.execute("INSERT INTO label_sets VALUES (?, ?, ?, ?)", values)


def _keep(db: sqlite3.Connection, data: dict[str, Any], time: str) -> None:
    db.executemany(
        "INSERT OR REPLACE INTO kept VALUES (?, ?)", [(key, to_json(raw)) for key, raw in data["raw"].items()]
    )


def _predict(db: sqlite3.Connection, data: dict[str, Any], time: str) -> None:
    """What the same model version said of the image before is set aside, decisions about it stay."""
    image, model = data["image"], data["model_version"]
    db.execute("UPDATE predictions SET current = 0 WHERE image = ? AND model_version = ?", (image, model))
    rows = [
        (row["id"], image, model, row["annotation"].get("score"), to_json(row["annotation"])) for row in data["rows"]
    ]
    db.executemany("INSERT INTO predictions VALUES (?, ?, ?, ?, ?, 1)", rows)
    lowest = "SELECT min(score) FROM predictions WHERE image = ? AND current"
    db.execute(f"UPDATE images SET score = ({lowest}) WHERE id = ?", (image, image))


def _decide(db: sqlite3.Connection, data: dict[str, Any], time: str) -> None:
    values = (data["prediction"], data["annotator"], data["decision"], data["annotation"], time)
    db.execute("INSERT OR REPLACE INTO decisions VALUES (?, ?, ?, ?, ?)", values)


def _queue(db: sqlite3.Connection, data: dict[str, Any], time: str) -> None:
    """A new queue takes the place of the one before."""
    db.execute("DELETE FROM queue")
    rows = [(row["image"], row["priority"], to_json(row["reasons"])) for row in data["rows"]]
    db.executemany("INSERT INTO queue VALUES (?, ?, ?)", rows)


def _ranking_tasks(db: sqlite3.Connection, data: dict[str, Any], time: str) -> None:
    rows = [(row["id"], to_json(row)) for row in data["tasks"]]
    db.executemany("INSERT INTO ranking_tasks VALUES (NULL, ?, ?)", rows)


def _rank(db: sqlite3.Connection, data: dict[str, Any], time: str) -> None:
    body = json.dumps({"ranks": data["ranks"], "shown_order": data["shown_order"]}, ensure_ascii=False)
    db.execute(
        "INSERT INTO rankings VALUES (?, ?, ?, ?, ?)", (data["task"], data["annotator"], data["version"], body, time)
    )


_OPERATIONS: dict[str, Callable[[sqlite3.Connection, dict[str, Any], str], None]] = {
    "create": _create, "images": _images, "save": _save, "submit": _submit, "review": _review,
    "conflict": _conflict, "labels": _labels, "keep": _keep, "predict": _predict, "decide": _decide, "queue": _queue,
    "ranking_tasks": _ranking_tasks, "rank": _rank,
}  # fmt: skip
