"""Between a project and the formats: a set into a project by author, a project or snapshot as a set."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ...data.images import MAX_BYTES
from ...data.paths import resolve_path, shown
from ...data.records import Ranking
from ...data.schema import need
from ...disk import file_hash
from ..codec import decode_annotations
from ..documents import check_annotator, label_set
from ..geometry import bounding_box
from ..intake import import_annotations, keep, kept, match_images
from ..predictions import import_predictions, predictions_by_name
from ..rankings import RankingTask, add_ranking_tasks, ranking_tasks, ranking_turn, rankings, save_ranking
from ..shapes import AnnotatedImage, Annotation, AnnotationSet, Mask, State, check_text
from ..snapshot import Snapshot, SnapshotEntry, read_snapshot, standing
from ..store import Project
from .fields import image_raw, unique_id
from .label_studio import answered, only_in_task
from .report import Loss
from .sources import open_source

__all__ = [
    "Brought",
    "bring_in",
    "bring_in_rankings",
    "findings",
    "new_ranking_tasks",
    "project_raws",
    "set_of_project",
    "set_of_snapshot",
    "unpack_photographs",
    "with_predictions",
]


NOTHING_SEEN: dict[str, Any] = {"kind": "annotations", "row": {}}  # a group of results of Label Studio


@dataclass
class Brought:
    """documents: annotator -> how many images. absent: names that no image of the project matches; conflicts: that
    have newer work, which was left as it is. predictions: model version -> how many. unkept: what the source
    says beside its annotations and the project has no place for."""

    documents: dict[str, int] = field(default_factory=dict)
    absent: list[str] = field(default_factory=list)
    conflicts: list[str] = field(default_factory=list)
    predictions: dict[str, int] = field(default_factory=dict)
    unkept: list[str] = field(default_factory=list)


def project_raws(annotations: AnnotationSet) -> dict[str, dict[str, Any]]:
    """Image name -> what a project keeps of its raw: all but the groups of Label Studio, which are people's work, and
    each person's is a document of its own there."""
    return {image.name: _without(image.raw, "groups") for image in annotations.images}


def bring_in(
    project: Project, annotations: AnnotationSet, format: str, annotator: str = "", state: State = "submitted"
) -> Brought:
    """Save a set in a project: people's work under `annotator`, else under the authors that it names, else under the
    format's name; predictions apart, under their model's version. Images are matched as by `import_annotations`,
    before anything is saved. An image with nothing on it is a document of its own, but for tasks of Label Studio, which
    say who answered.

    Raises:
        UserError: another size than the project's image; a bad name of an annotator or model.
    """
    found = Brought()
    ids = match_images(project, annotations)
    found.absent += [image.name for image in annotations.images if image.name not in ids]
    with project.read() as db:
        held = {id: json.loads(raw) for id, raw in db.execute("SELECT id, raw FROM images")}
    for name, raw in project_raws(annotations).items():
        if name in ids and any(raw[format] != held[ids[name]].get(format) for format in raw):
            found.unkept.append(f"keys of {', '.join(sorted(raw))} of {shown(name)}, which was in the project")
    for image in annotations.images:
        said = only_in_task(image) if image.name in ids else []
        found.unkept += [f"{shown(image.name)}: {what}, in the task of Label Studio alone" for what in said]
    by: dict[str, list[AnnotatedImage]] = {}
    proposed: dict[str, list[tuple[str, list[Annotation]]]] = {}
    for image in annotations.images:
        people: dict[str, list[Annotation]] = {}
        models: dict[str, list[Annotation]] = {}
        for annotation in image.annotations:
            if annotation.source == "prediction":
                models.setdefault(annotation.model_version or format, []).append(annotation)
            else:
                people.setdefault(annotator or annotation.author or format, []).append(annotation)
        authors = answered(image)
        if authors is None:
            authors = [] if image.annotations else [""]
        for author in authors:
            people.setdefault(annotator or author or format, [])
        for name, some in people.items():
            by.setdefault(name, []).append(replace(image, annotations=tuple(some)))
        for name, some in models.items():
            proposed.setdefault(name, []).append((image.name, some))
    for name in by:
        check_annotator(name)
    for model in proposed:
        check_text(model, "the version of the model", 200, empty=False)
    whole = {format: said for format, said in annotations.raw.items() if format != "label_studio"}
    found.unkept += [f"{place} of the whole set, which the project has otherwise" for place in keep(project, whole)]
    if "label_studio" in annotations.raw:
        found.unkept.append("tasks of Label Studio without a photograph")
    for name, images in by.items():
        done = import_annotations(project, replace(annotations, images=tuple(images)), name, state)
        found.documents[name] = len(done.saved)
        found.conflicts += done.conflicts
        said = [f"{what}, which the project has otherwise" for what in done.differing]
        found.unkept += [what for what in said if what not in found.unkept]  # once, not for each annotator
    for model, items in proposed.items():
        known = [(ids[name], some) for name, some in items if name in ids]
        found.predictions[model] = len(import_predictions(project, model, known))
    return found


def bring_in_rankings(project: Project, ranked: Sequence[Ranking]) -> int:
    """Add the tasks of rankings and each annotator's ranks; how many were saved.

    Raises:
        UserError: see `new_ranking_tasks`; nothing is saved then.
    """
    new = new_ranking_tasks(project, ranked)
    if new:
        add_ranking_tasks(project, new)
    saved = 0
    for ranking in ranked:
        if ranking.ranks:
            _, mine = save_ranking(project, ranking.id, ranking.annotator, 0, ranking.ranks, ranking.shown_order)
            saved += mine
    return saved


def new_ranking_tasks(project: Project, ranked: Sequence[Ranking]) -> list[RankingTask]:
    """The tasks of rankings that the project does not have; nothing is saved.

    Raises:
        UserError: an id that stands for other texts, principles that its task does not have, a bad annotator's name.
    """
    tasks: dict[str, list[Ranking]] = {}
    for ranking in ranked:
        tasks.setdefault(ranking.id, []).append(ranking)
    known = {id for id, _ in ranking_tasks(project, "nobody")}
    new = []
    for id, some in tasks.items():
        principles = tuple(dict.fromkeys(name for ranking in some for name in ranking.ranks))
        task = ranking_turn(project, id, "nobody").task if id in known else None
        first = some[0] if task is None else task
        for ranking in some:
            check_annotator(ranking.annotator)
            same = (ranking.prompt, ranking.responses) == (first.prompt, first.responses)
            need(same, f"ranking task {shown(id)} with other texts", "the prompt and answers that have this id")
        if task is not None:
            more = sorted(set(principles) - set(task.principles))
            need(not more, f"ranks of {shown(id)} by {shown(more)}", f"its principles {shown(task.principles)}")
        elif principles:
            new.append(RankingTask(id, first.prompt, first.responses, first.ended, principles))
    return new


def set_of_project(
    project: Project, annotator: str = "", states: Sequence[State] = ("doing", "submitted", "accepted")
) -> tuple[AnnotationSet, Callable[[AnnotatedImage], bytes], tuple[Ranking, ...]]:
    """What stands in a project, as `Snapshot.annotation_set` chooses, how to read its photographs, its rankings."""
    with project.read() as db:
        rows, said_whole = standing(db, states).fetchall(), kept(db)
    entries, folders = [], {}
    for *facts, raw, folder, who, version, state, body in rows:
        folders[facts[0]] = folder
        said = decode_annotations(json.loads(body))
        image = replace(AnnotatedImage(*facts), raw=json.loads(raw), annotations=said)
        entries.append(SnapshotEntry(who, version, state, image))
    labels = label_set(project).labels
    whole = Snapshot(project.directory, "", "", tuple(entries), labels, (), {"folders": folders}, said_whole)
    found = _in_files(whole.annotation_set(annotator))
    return found, _reader(folders), _ranked_by(rankings(project), annotator)


def with_predictions(project: Project, annotations: AnnotationSet, to: str) -> tuple[AnnotationSet, list[Loss]]:
    """What stands in a project, with what models propose now for its images where the format `to` keeps that apart
    from people's work: Label Studio alone. What is not held: the predictions of the other images, or all of them."""
    proposed, images = predictions_by_name(project), []
    for image in annotations.images if to == "label-studio" else ():
        some = proposed.pop(image.name, [])
        taken = {annotation.id for annotation in image.annotations}
        # The number of the group that one was read from counts groups which the project does not have.
        some = [replace(one, id=unique_id(one.id, taken), raw=_without(one.raw, "group")) for one in some]
        raw = image.raw
        if some and not image.annotations:  # somebody saw nothing here, which predictions alone would not say
            raw = {**raw, "label_studio": {**image_raw(image, "label_studio"), "groups": [NOTHING_SEEN]}}
        images.append(replace(image, annotations=(*image.annotations, *some), raw=raw))
    count = sum(map(len, proposed.values()))
    whose = "of images that are not written" if to == "label-studio" else f"of models, which {to} does not keep apart"
    lost = [Loss("predictions", "", "", f"{count} predictions {whose}; the project keeps them")] if count else []
    return replace(annotations, images=tuple(images) or annotations.images), lost


def _without(raw: dict[str, Any], key: str) -> dict[str, Any]:
    """Raw without this key of Label Studio."""
    said = raw.get("label_studio")
    if not isinstance(said, dict):
        return raw
    return {**raw, "label_studio": {name: value for name, value in said.items() if name != key}}


def set_of_snapshot(
    directory: Path, annotator: str = ""
) -> tuple[AnnotationSet, Callable[[AnnotatedImage], bytes], tuple[Ranking, ...]]:
    """A snapshot as a set, how to read its photographs, its rankings."""
    snapshot = read_snapshot(directory)
    found, folders = _in_files(snapshot.annotation_set(annotator)), snapshot.manifest["folders"]
    return found, _reader(folders), _ranked_by(snapshot.rankings, annotator)


def _ranked_by(some: Sequence[Ranking], annotator: str) -> tuple[Ranking, ...]:
    return tuple(ranking for ranking in some if annotator in ("", ranking.annotator))


def _in_files(annotations: AnnotationSet) -> AnnotationSet:
    """With the files of COCO that its images speak of, so that these go back into them with what was said of them."""
    said = [image_raw(image, "coco").get("files") for image in annotations.images]
    files: dict[str, dict[str, Any]] = {file: {} for some in said if isinstance(some, dict) for file in some}
    held = image_raw(annotations, "coco").get("files")
    files |= held if isinstance(held, dict) else {}
    return replace(annotations, raw={**annotations.raw, "coco": {"files": files}}) if files else annotations


def _reader(folders: dict[str, str]) -> Callable[[AnnotatedImage], bytes]:
    def read(image: AnnotatedImage) -> bytes:
        path = resolve_path(image.name, Path(folders[image.name]), allow_absolute=False)
        need(path.is_file() and path.stat().st_size <= MAX_BYTES, f"{shown(path)} is not there", "the photograph")
        need(file_hash(path) == image.sha256, f"{shown(path)} was changed", "the bytes that were annotated")
        return path.read_bytes()

    return read


def unpack_photographs(
    archive: Path, folder: Path, suffixes: tuple[str, ...], known: Collection[tuple[str, str]] = ()
) -> int:
    """Write the photographs of a checked archive into a folder under their names, but for those that are known by name
    and sha256; how many."""
    count = 0
    with open_source(archive) as source:
        for name in source.names:
            if name.lower().endswith(suffixes):
                target = resolve_path(name, folder, allow_absolute=False)
                data = source.read(name, MAX_BYTES)
                if (name, hashlib.sha256(data).hexdigest()) in known:
                    continue
                target.parent.mkdir(parents=True, exist_ok=True)
                with open(target, "xb") as file:
                    file.write(data)
                count += 1
    return count


def findings(annotations: AnnotationSet) -> dict[str, Any]:
    """Counts of a set, and what looks wrong in it: shapes outside their image or without extent, twins, labels that
    the label set does not list, images without annotations."""
    counts: dict[str, dict[str, int]] = {"labels": {}, "shapes": {}}
    wrong: dict[str, list[str]] = {"outside": [], "empty": [], "twice": [], "unlisted": []}
    listed = {label.name for label in annotations.labels}
    for image in annotations.images:
        seen = set()
        for item in image.annotations:
            where = f"{shown(image.name)} {shown(item.id, 40)}"
            kind = type(item.shape).__name__ if item.shape is not None else "none"
            for table, key in (("labels", str(item.label)), ("shapes", kind)):
                counts[table][key] = counts[table].get(key, 0) + 1
            if item.label is not None and item.label not in listed:
                wrong["unlisted"].append(f"{where}: {shown(item.label)}")
            if item.shape is None:
                continue
            if (item.label, item.shape) in seen:
                wrong["twice"].append(where)
            seen.add((item.label, item.shape))
            if isinstance(item.shape, Mask) and len(item.shape.runs) < 2:
                wrong["empty"].append(where)
                continue
            box = bounding_box(item.shape)
            if kind != "Point" and not (box.width and box.height):
                wrong["empty"].append(where)
            if box.x < -1 or box.y < -1 or box.x + box.width > image.width + 1 or box.y + box.height > image.height + 1:
                wrong["outside"].append(where)
    empty = sum(not image.annotations for image in annotations.images)
    total = sum(len(image.annotations) for image in annotations.images)
    about = {"images": len(annotations.images), "images_without_annotations": empty, "annotations": total}
    return {**about, **counts, "wrong": {name: places for name, places in wrong.items() if places}}
