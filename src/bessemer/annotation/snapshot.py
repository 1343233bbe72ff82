"""Snapshots: what a project says at one moment, in a directory that never changes and is named by its contents.

    images.jsonl     a line for every document: annotator, version, state, and the image with its annotations
    labels.json      the label set
    kept.json        what files of other tools said of their whole sets
    rankings.jsonl   ranking records (`data.records`)
    manifest.json    the files with their SHA-256, counts, states; `hash` over all of that names the snapshot

The same contents give the same hash, whenever and wherever the snapshot is made; the time and the folders of the
images stand in the manifest but not in the hash.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ..data.records import Ranking, decode_record, encode_record
from ..data.schema import choice, need
from ..disk import file_hash, fsync, publish, write_atomic, write_json
from ..errors import UserError
from .codec import decode_image, decode_labels, encode_image, encode_label, to_json
from .documents import label_set
from .intake import kept
from .rankings import rankings
from .shapes import STATES, AnnotatedImage, AnnotationSet, Label, State
from .store import Project, utc_now

__all__ = ["Snapshot", "SnapshotEntry", "create_snapshot", "list_snapshots", "read_snapshot", "standing"]

FORMAT = 2
_FIRST = ("images.jsonl", "labels.json", "rankings.jsonl")
FILES: dict[int, tuple[str, ...]] = {1: _FIRST, 2: (*_FIRST, "kept.json")}


@dataclass(frozen=True)
class SnapshotEntry:
    """One annotator's annotations of one image."""

    annotator: str
    version: int
    state: State
    image: AnnotatedImage


@dataclass(frozen=True)
class Snapshot:
    """A snapshot that was read and verified. manifest: as in the file; its `folders` says for every image name from
    which folder it was added, on the machine that made the snapshot."""

    directory: Path
    hash: str
    created: str
    entries: tuple[SnapshotEntry, ...]
    labels: tuple[Label, ...]
    rankings: tuple[Ranking, ...]
    manifest: dict[str, Any]
    kept: dict[str, Any] = field(default_factory=dict)

    def annotation_set(self, annotator: str = "") -> AnnotationSet:
        """One annotation set: the annotator's documents, or without a name every image's only one; of several the
        only accepted one.

        Raises:
            UserError: an image of several documents of which not exactly one is accepted.
        """
        by_name: dict[str, list[SnapshotEntry]] = {}
        for entry in self.entries:
            if annotator in ("", entry.annotator):
                by_name.setdefault(entry.image.name, []).append(entry)
        images = []
        for name, some in by_name.items():
            best = some if len(some) == 1 else [entry for entry in some if entry.state == "accepted"]
            who = ", ".join(entry.annotator for entry in some)
            need(len(best) == 1, f"{name} has documents of {who}", "one accepted; name the annotator")
            images.append(best[0].image)
        return AnnotationSet(tuple(images), self.labels, self.kept)


def create_snapshot(project: Project, states: Sequence[State] = ("accepted",)) -> Snapshot:
    """Write what stands in the project, of documents those in the given states; if the same snapshot is there
    already, that one.

    Raises:
        UserError: nothing in these states and no ranking; a damaged edit log; a place that cannot be written.
    """
    for state in states:
        choice(state, STATES, "state")
    project.verify()
    contents, counts, folders = _contents(project, states)
    need(
        counts["documents"] or counts["rankings"],
        f"nothing that is {' or '.join(states)}",
        f"something to keep: annotate photographs and press Submit (bessemer annotate {project.directory})",
    )
    sealed = {
        "format": FORMAT, "states": [state for state in STATES if state in states], "counts": counts,
        "files": {name: hashlib.sha256(data).hexdigest() for name, data in contents.items()},
    }  # fmt: skip
    digest = _hash(sealed)
    final = project.directory / "snapshots" / digest[:16]
    if final.exists():
        return read_snapshot(final)
    temporary = final.with_name(f".{final.name}.{os.getpid()}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    for name, data in contents.items():
        write_atomic(temporary / name, data)
    with project.read() as db:
        name = db.execute("SELECT value FROM meta WHERE key = 'name'").fetchone()[0]
    about = {"created": utc_now(), "project": name, "folders": folders}
    write_json(temporary / "manifest.json", {"hash": digest, **sealed, **about, "about_sha256": _hash(about)})
    for file in temporary.iterdir():
        file.chmod(0o444)
    publish(temporary, final)
    fsync(final.parent.parent)
    return read_snapshot(final)


def _hash(value: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(value, ensure_ascii=False, allow_nan=False, sort_keys=True).encode()).hexdigest()


def standing(db: sqlite3.Connection, states: Sequence[State]) -> sqlite3.Cursor:
    """(name, width, height, sha256, orientation, raw, folder, annotator, version, state, body) of every document in
    these states, by image and annotator."""
    marks = ", ".join("?" * len(states))
    return db.execute(
        "SELECT i.name, i.width, i.height, i.sha256, i.orientation, i.raw, r.path, d.annotator, d.version, "
        "d.state, v.body FROM documents d JOIN images i ON i.id = d.image JOIN roots r ON r.id = i.root "
        "JOIN versions v ON v.image = d.image AND v.annotator = d.annotator AND v.version = d.version "
        f"WHERE d.state IN ({marks}) ORDER BY i.name, d.annotator",
        tuple(states),
    )


def _contents(project: Project, states: Sequence[State]) -> tuple[dict[str, bytes], dict[str, int], dict[str, str]]:
    """The files, counts, and the folder of every image; all of one moment but for rankings and labels."""
    lines: list[bytes] = []
    folders: dict[str, str] = {}
    shapes = annotations = 0
    with project.read() as db:
        for *facts, raw, folder, annotator, version, state, body in standing(db, states):
            row = encode_image(replace(AnnotatedImage(*facts), raw=json.loads(raw)))
            said = json.loads(body)
            entry = {"annotator": annotator, "version": version, "state": state, "image": {**row, "annotations": said}}
            lines.append(to_json(entry).encode() + b"\n")
            folders[facts[0]] = folder
            annotations += len(said)
            shapes += sum("shape" in item for item in said)
        whole = kept(db)
    labels = [encode_label(label) for label in label_set(project).labels]
    ranked = [to_json(encode_record(ranking)).encode() + b"\n" for ranking in rankings(project)]
    counts = {
        "images": len(folders), "documents": len(lines), "annotations": annotations, "shapes": shapes,
        "labels": len(labels), "rankings": len(ranked),
    }  # fmt: skip
    data = (b"".join(lines), to_json(labels).encode() + b"\n", b"".join(ranked), to_json(whole).encode() + b"\n")
    return dict(zip(FILES[FORMAT], data, strict=True)), counts, folders


def read_snapshot(directory: Path) -> Snapshot:
    """Read a snapshot and verify every byte of it.

    Raises:
        UserError: no snapshot there; a file that was changed, added or lost; a newer format.
    """
    path = directory / "manifest.json"
    try:
        manifest = json.loads(path.read_bytes())
        sealed = {key: manifest[key] for key in ("format", "states", "counts", "files")}
        about = {key: manifest[key] for key in ("created", "project", "folders")}
        digest, second = manifest["hash"], manifest["about_sha256"]
    except OSError as error:
        raise UserError(f"{directory} is no snapshot ({error.strerror}), expected manifest.json in it") from error
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is damaged ({error!r}), expected the manifest of a snapshot") from error
    changed = "the snapshot as it was made; put it back from a backup"
    need((digest, second) == (_hash(sealed), _hash(about)), f"{path} was changed", changed)
    need(sealed["format"] in FILES, f"{path} of format {sealed['format']!r}", f"{FORMAT}; use a newer version")
    files = FILES[sealed["format"]]
    found = {entry.name for entry in directory.iterdir()} - {"manifest.json"}
    need(found == set(files) == set(sealed["files"]), f"{directory} holds {', '.join(sorted(found))}", changed)
    for name in files:
        need(file_hash(directory / name) == sealed["files"][name], f"{directory / name} was changed", changed)
    entries = tuple(_entry(json.loads(line)) for line in _lines(directory / "images.jsonl"))
    labels = decode_labels(json.loads((directory / "labels.json").read_bytes()))
    ranked = tuple(decode_record(json.loads(line), Ranking) for line in _lines(directory / "rankings.jsonl"))
    whole = json.loads((directory / "kept.json").read_bytes()) if "kept.json" in files else {}
    return Snapshot(directory, digest, about["created"], entries, labels, ranked, manifest, whole)


def _lines(path: Path) -> list[bytes]:
    return path.read_bytes().split(b"\n")[:-1]


def _entry(row: dict[str, Any]) -> SnapshotEntry:
    return SnapshotEntry(row["annotator"], row["version"], row["state"], decode_image(row["image"]))


def list_snapshots(project: Project) -> list[tuple[str, str, dict[str, int]]]:
    """(hash, time, counts) of the project's snapshots, the oldest first, each verified."""
    folder = project.directory / "snapshots"
    paths = [path for path in folder.iterdir() if not path.name.startswith(".")] if folder.is_dir() else []
    ordered = sorted(map(read_snapshot, paths), key=lambda snapshot: (snapshot.created, snapshot.hash))
    return [(snapshot.hash, snapshot.created, snapshot.manifest["counts"]) for snapshot in ordered]
