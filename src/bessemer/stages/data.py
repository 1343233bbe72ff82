"""Annotations of other tools: into a project, out of one, from format to format, looked over."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Collection, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Literal
from zipfile import is_zipfile

from bessemer.annotation.formats.choices import Choices
from bessemer.annotation.formats.exchange import (
    bring_in,
    bring_in_rankings,
    findings,
    new_ranking_tasks,
    project_raws,
    set_of_project,
    set_of_snapshot,
    unpack_photographs,
    with_predictions,
)
from bessemer.annotation.formats.ranked import read_rankings, write_rankings
from bessemer.annotation.formats.report import Loss, Notes
from bessemer.annotation.formats.sources import open_source
from bessemer.annotation.formats.table import FORMATS, read, write
from bessemer.annotation.intake import SUFFIXES, Added, add_folder
from bessemer.annotation.listing import held_images, progress
from bessemer.annotation.rankings import rankings
from bessemer.annotation.shapes import STATES, AnnotatedImage, AnnotationSet
from bessemer.annotation.snapshot import read_snapshot
from bessemer.annotation.store import Project, create_project, open_project
from bessemer.data.images import MAX_BYTES
from bessemer.data.paths import shown
from bessemer.disk import file_hash, write_json
from bessemer.errors import UserError

__all__ = ["Config", "run"]

_WRONG = {
    "outside": "outside the photograph",
    "empty": "without extent",
    "twice": "the same shape and label twice",
    "unlisted": "a label that the set does not list",
}
MAX_REMARKS = 20  # on the terminal; all of them are in the report


@dataclass
class Config:
    POSITIONAL: ClassVar[tuple[str, ...]] = ("action", "source", "target")

    action: Literal["", "import", "export", "convert", "check"] = ""
    """import: SOURCE into the project TARGET, which is made if it is not there. export: the project or snapshot
    SOURCE into the new directory TARGET, for Label Studio with TARGET.rankings.json beside it. convert: SOURCE into
    TARGET in another format. check: say what is in SOURCE and what is wrong, up to the first row
    that cannot be read at all."""
    source: str = ""
    """Folder, file or zip archive of annotations; for export a project or a snapshot."""
    target: str = ""
    """Project, or new directory."""
    format: str = "auto"
    """Format of the source: coco, labelme, x-anylabeling, yolo, voc, label-studio or cvat; auto: by its files."""
    to: str = ""
    """Format to write, for export and convert."""
    images: str = ""
    """Folder of the photographs, if they are not in the source."""
    frame: Literal["auto", "upright", "stored"] = "auto"
    """Whether coordinates are of the photograph as seen or of its stored pixels, where EXIF turns it; auto: by the
    size that the file states, else upright; written as they were read, else upright."""
    voc_base: Literal["auto", "0", "1"] = "auto"
    """Number of the first pixel in Pascal VOC; auto: 0 where some box begins at 0, else 1."""
    task: Literal["auto", "detect", "segment", "obb"] = "auto"
    """Task of YOLO; auto: from data.yaml, else by the rows; written by what the shapes need."""
    annotator: str = ""
    """import: whose work it becomes; none: the authors that the source names, else the format's name. export: whose
    work; none: every image's only document, of several the accepted one."""
    state: Literal["doing", "submitted", "accepted"] = "submitted"
    """import: the state of the documents."""
    states: list[str] = field(default_factory=lambda: ["doing", "submitted", "accepted"])
    """export: documents in these states."""
    copy_images: bool = False
    """export and convert: write the photographs too."""
    image_prefix: str = ""
    """Put before image names in Label Studio's tasks, such as /data/local-files/?d=photos/."""
    report: str = ""
    """Where to write the report as JSON; none: TARGET.report.json beside the target of export and convert."""


def run(config: Config) -> Path:
    """Do it, print what was found and lost; returns the target, or the source of a check."""
    if not config.action or not config.source or (config.action != "check" and not config.target):
        raise UserError(
            "expected an action and places: bessemer data import|convert SOURCE TARGET, export PROJECT TARGET, "
            "or check SOURCE"
        )
    choices = Choices(config.frame, config.voc_base, config.task, config.image_prefix)
    if config.action in ("export", "convert") and config.to not in FORMATS:
        raise UserError(f"to {shown(config.to)!r}, expected a format: to={', to='.join(FORMATS)}")
    if config.action == "check":
        return _check(config, choices)
    if config.action == "import":
        return _import(config, choices)
    return _export(config, choices) if config.action == "export" else _convert(config, choices)


def _read(config: Config, choices: Choices) -> tuple[AnnotationSet, Notes]:
    source = Path(config.source)
    images = Path(config.images) if config.images else None
    if images is None and config.action == "import" and source.is_file() and not is_zipfile(source):
        images = source.resolve().parent  # the photographs of a single file lie beside it or below
    annotations, notes = read(source, config.format, images, choices)
    lines = notes.text().splitlines()
    print("\n".join(lines[:MAX_REMARKS]))
    if len(lines) > MAX_REMARKS:
        print(f"  and {len(lines) - MAX_REMARKS} more lines, all in the report")
    return annotations, notes


def _check(config: Config, choices: Choices) -> Path:
    annotations, notes = _read(config, choices)
    found = findings(annotations)
    for name in ("images", "images_without_annotations", "annotations"):
        print(f"  {name.replace('_', ' ')}: {found[name]}")
    for table in ("labels", "shapes"):
        print(f"  {table}: " + ", ".join(f"{shown(key, 40)} {count}" for key, count in found[table].items()))
    for name, places in found["wrong"].items():
        print(f"  wrong, {_WRONG[name]}: {len(places)}, first {places[0]}")
    if config.report:
        write_json(config.report, {"notes": vars(notes), **found})
    return Path(config.source)


def _import(config: Config, choices: Choices) -> Path:
    source, target = Path(config.source), Path(config.target)
    annotations, notes = _read(config, choices)
    folder = Path(config.images) if config.images else source.resolve().parent if source.is_file() else source
    made, there = not (target / "edits.log").is_file(), target.is_dir()
    project = create_project(target, target.resolve().name or "project") if made else open_project(target)
    try:
        _into_project(config, annotations, notes, folder, project)
    except BaseException:
        if made:  # wholly or not at all
            project.discard(keep_directory=there)
        raise
    finally:
        project.close()
    return target


def _into_project(config: Config, annotations: AnnotationSet, notes: Notes, folder: Path, project: Project) -> None:
    source = Path(config.source)
    ranked, remarks = read_rankings(source) if notes.format == "label-studio" else ([], [])
    added = Added((), {}, ())
    if annotations.images or not ranked:  # rankings need no photographs
        if not config.images and source.is_file() and is_zipfile(source):
            added = _add_archive(project, source, annotations)
        else:
            added = add_folder(project, folder, raws=project_raws(annotations))
    for name, why in list(added.refused.items())[:MAX_REMARKS]:
        print(f"  left out: {name}: {why}", file=sys.stderr)
    new_ranking_tasks(project, ranked)  # refused before anything is saved
    brought = bring_in(project, annotations, notes.format, config.annotator, config.state)
    saved = bring_in_rankings(project, ranked)
    for remark in remarks[:MAX_REMARKS]:
        print(f"  note: {remark}")
    documents = ", ".join(f"{shown(name, 40)} {count}" for name, count in brought.documents.items())
    print(f"{len(added.ids)} photographs; documents: {documents or 'none'}; {saved} rankings")
    for model, count in brought.predictions.items():
        print(f"  predictions of {shown(model, 40)}: {count}")
    for what, names in (
        ("not in the project", brought.absent),
        ("newer work stays", brought.conflicts),
        ("not kept", brought.unkept),
    ):
        if names:
            print(f"  {what}: {len(names)}, first {shown(names[0])}")
    if config.report:
        write_json(config.report, {"notes": vars(notes), "brought": vars(brought), "rankings": saved})


def _add_archive(project: Project, source: Path, annotations: AnnotationSet) -> Added:
    """Add the photographs of an archive that the project does not have, which most of a second export are. They are
    unpacked into a folder inside the project; one for each content, since tools give all their exports the same name.
    """
    folder = project.directory / "photographs" / f"{source.stem}-{file_hash(source)[:12]}"
    unpacked, used = not folder.exists(), False
    known = held_images(project)
    try:
        if unpacked:
            _unpack(source, folder, known)
        added = add_folder(project, folder, raws=project_raws(annotations), some=not known)
        used = bool(added.ids)
    finally:
        if unpacked and not used:
            shutil.rmtree(folder, ignore_errors=True)
            with suppress(OSError):  # those of other archives
                folder.parent.rmdir()
    return added


def _unpack(source: Path, folder: Path, known: Collection[tuple[str, str]]) -> None:
    temporary = folder.with_name(f".{folder.name}.unpacking")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        temporary.mkdir(parents=True)
        unpack_photographs(source, temporary, SUFFIXES, known)
        temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _export(config: Config, choices: Choices) -> Path:
    source = Path(config.source)
    known = [state for state in STATES if state != "todo"]  # of these there are documents
    if not config.states or set(config.states) - set(known):
        raise UserError(f"states {shown(', '.join(config.states))!r}, expected some of {', '.join(known)}")
    if (source / "edits.log").is_file():
        with open_project(source) as project:
            states = [state for state in known if state in config.states]
            annotations, photograph, ranked = set_of_project(project, config.annotator, states)
            annotations, proposed = with_predictions(project, annotations, config.to)
    elif not source.is_dir():
        raise UserError(f"{shown(source)} is not there, expected an annotation project or a snapshot of one")
    else:
        annotations, photograph, ranked = set_of_snapshot(source, config.annotator)
        proposed = []  # a snapshot has none
    if not annotations.images and not (ranked and config.to == "label-studio"):
        raise _nothing(config, source)
    tasks, unheld = write_rankings(ranked) if config.to == "label-studio" else ([], [])
    target = _write(config, choices, annotations, None, photograph, [*proposed, *unheld])
    if tasks:  # of another kind than photographs, so a project of Label Studio of their own
        path = target.with_name(target.name + ".rankings.json")
        write_json(path, tasks)
        print(f"wrote {len(tasks)} tasks of rankings: {path}")
    return target


def _nothing(config: Config, source: Path) -> UserError:
    """Why there is nothing to export: nobody of that name, or no work in these states."""
    if (source / "edits.log").is_file():
        with open_project(source) as project:
            people = {*progress(project).documents, *(ranking.annotator for ranking in rankings(project))}
    else:
        snapshot = read_snapshot(source)
        people = {entry.annotator for entry in snapshot.entries} | {item.annotator for item in snapshot.rankings}
    if config.annotator and people and config.annotator not in people:
        names = ", ".join(shown(name, 40) for name in sorted(people))
        return UserError(f"nothing by annotator {shown(config.annotator, 40)!r} in {source}, expected one of {names}")
    by = f" by {shown(config.annotator, 40)}" if config.annotator else ""
    return UserError(
        f"{source}: no document{by} that is {' or '.join(config.states)} and no ranking for to=label-studio, expected "
        "something to export; nothing was written"
    )


def _convert(config: Config, choices: Choices) -> Path:
    annotations, notes = _read(config, choices)
    with ExitStack() as stack:
        places = [Path(config.images), Path(config.source)] if config.images else [Path(config.source)]
        sources = [stack.enter_context(open_source(place)) for place in places]

        def photograph(image: AnnotatedImage) -> bytes:
            for source in sources:
                if image.name in source.listed:
                    return source.read(image.name, MAX_BYTES)
            raise UserError(f"{shown(image.name)}: no such photograph at hand, expected it in images or the source")

        return _write(config, choices, annotations, notes, photograph)


def _write(
    config: Config,
    choices: Choices,
    annotations: AnnotationSet,
    notes: Notes | None,
    photograph: Callable[[AnnotatedImage], bytes],
    lost: Sequence[Loss] = (),
) -> Path:
    target = Path(config.target)
    losses = write(annotations, target, config.to, choices, photograph if config.copy_images else None)
    losses = replace(losses, losses=(*lost, *losses.losses))
    print(losses.text())
    report: dict[str, Any] = {"read": vars(notes) if notes is not None else None, "written": losses.to_json()}
    path = Path(config.report) if config.report else target.with_name(target.name + ".report.json")
    write_json(path, report)
    print(f"wrote {target}; what was lost: {path}")
    return target
