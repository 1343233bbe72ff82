"""Label Studio's JSON: tasks with annotations and predictions, percent of the upright photograph.

A region is all results of one id: its geometry, its text, its choices. x and y are where the first corner is drawn,
and `rotation` turns the box about it. `image_rotation` is how the page showed the photograph; coordinates do not
depend on it. `data.image` is a key to look up, never a path. What is no region and no caption or choice (rankings,
relations, ratings) stays in its task, and so does work that was cancelled: a conversion to Label Studio writes it
again, a project has no place for it (`only_in_task`). `ranked` reads rankings.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any
from urllib.parse import quote, unquote

from ...data.paths import shown
from ...data.schema import need
from ...errors import UserError
from ..intake import SUFFIXES
from ..shapes import AnnotatedImage, Annotation, AnnotationSet, Label, Mask
from .choices import Choices, Reading
from .fields import OWN, image_raw, listing, row_of, take_own, unique_id, whole
from .label_studio_rows import CONTROLS, LABELS, geometry_rows, label_config, shape_of
from .leftovers import leftover, restored
from .photographs import FrameOf, frame_to_write, key_of, unique_names
from .report import Losses

__all__ = [
    "RANKED", "answered", "author_of", "is_label_studio", "only_in_task", "read_label_studio", "tasks_of",
    "write_label_studio",
]  # fmt: skip

NAME = "label_studio"
HOLDS = frozenset((
    "label", "text", "attributes", "scene", "author", "created", "updated", "source", "state", "score",
    "model_version",
))  # fmt: skip
KEYS = {"textarea": "text", "labels": "labels"}
GROUPS = ("annotations", "completions", "predictions")
RANKED = frozenset(("ranker", "pairwise"))  # which `ranked` reads
STAYS = "is no annotation; a conversion to Label Studio keeps it, a project rankings alone"


def is_label_studio(top: Any) -> bool:
    """Whether a JSON value looks like tasks of Label Studio."""
    tasks = top if isinstance(top, list) else [top]
    return bool(tasks) and all(isinstance(task, dict) and isinstance(task.get("data"), dict) for task in tasks)


def tasks_of(reading: Reading) -> list[tuple[str, dict[str, Any]]]:
    """(where, task) of every task of the source's files."""
    source = reading.source
    tops = {name: source.json(name) for name in source.names if name.lower().endswith(".json")}
    tops = {name: top for name, top in tops.items() if is_label_studio(top)}
    need(tops, f"{source.shown('')}: no tasks of Label Studio", "a JSON list of tasks with data")
    return [
        (f"{source.shown(name)}: task {number}", row_of(task, source.shown(name)))
        for name, top in tops.items()
        for number, task in enumerate(top if isinstance(top, list) else [top], 1)
    ]


def read_label_studio(reading: Reading) -> AnnotationSet:
    """Every task that has an image; the others are kept as they are. Predictions have the source "prediction"."""
    tasks = tasks_of(reading)
    image_keys = [_image_key(task) for _, task in tasks]
    with_image = [(where, task, key) for (where, task), key in zip(tasks, image_keys, strict=True) if key]
    keys = unique_names(key_of(str(task["data"][key])) for _, task, key in with_image)
    found = reading.photographs.match(keys)
    plain = {unquote(key): key for key in keys if key not in found and "%" in key}  # addresses are quoted
    found |= {plain[key]: photograph for key, photograph in reading.photographs.match(plain).items()}
    others = [task for (_, task), key in zip(tasks, image_keys, strict=True) if not key]
    images, labels = [], dict[str, Label]()
    for (where, task, image_key), key in zip(with_image, keys, strict=True):
        photograph = found.get(key)
        size = _size(task, where)
        if size is None and photograph is None:
            reading.remarks.append(
                f"{where}: of unknown size, {shown(key)} is kept by conversions alone; name its folder (images)"
            )
            others.append(task)
            continue
        frame = reading.photographs.frame_of(photograph, size, where)
        annotations, groups = _groups(task, where, frame, reading)
        rest = {name: value for name, value in task.items() if name not in GROUPS}
        empty = {kind: task[kind] for kind in GROUPS if kind in task and not task[kind]}
        raw = {"task": rest, "key": image_key, "groups": groups, "empty": empty, "stored": frame.stored}
        name = photograph.name if photograph else key
        images.append(reading.photographs.image(name, photograph, frame, annotations, {NAME: raw}))
        for annotation in annotations:
            if annotation.label is not None:
                labels.setdefault(annotation.label, Label(annotation.label))
    if not all(image_keys):
        reading.remarks.append(
            f"{image_keys.count('')} tasks without an image; of these a project takes rankings alone"
        )
    return AnnotationSet(tuple(images), tuple(labels.values()), {NAME: {"tasks": others}} if others else {})


def _image_key(task: dict[str, Any]) -> str:
    data = task["data"]
    texts = {key: value for key, value in data.items() if isinstance(value, str) and value.strip()}
    likely = [key for key, value in texts.items() if value.split("?")[0].lower().endswith(SUFFIXES)]
    likely += [key for key, value in texts.items() if value.lower().endswith(SUFFIXES)]
    return next((key for key in ("image", "img", "photo", *likely) if key in texts), "")


def _results(task: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for kind in GROUPS:
        groups = task.get(kind)
        for group in groups if isinstance(groups, list) else ():
            result = group.get("result") if isinstance(group, dict) else None
            yield from (row for row in (result if isinstance(result, list) else ()) if isinstance(row, dict))


def _size(task: dict[str, Any], where: str) -> tuple[int, int] | None:
    sizes = {
        (whole(row["original_width"], where, 1), whole(row["original_height"], where, 1))
        for row in _results(task)
        if row.get("original_width") is not None and row.get("original_height") is not None
    }
    need(len(sizes) <= 1, f"{where}: sizes {sorted(sizes)}", "one size of the image")
    stated = [task["data"].get(key) for key in ("width", "height")]
    if not sizes and all(type(value) is int and value > 0 for value in stated):
        return stated[0], stated[1]
    return next(iter(sizes), None)


def _groups(
    task: dict[str, Any], where: str, frame: FrameOf, reading: Reading
) -> tuple[list[Annotation], list[dict[str, Any]]]:
    annotations: list[Annotation] = []
    kept: list[dict[str, Any]] = []
    taken: set[str] = set()
    for kind in GROUPS:
        for number, item in enumerate(listing(task.get(kind) or [], f"{where}: {kind}"), 1):
            place = f"{where}: {kind} {number}"
            if isinstance(item, int):  # an export names predictions by their numbers alone
                kept.append({"kind": kind, "bare": item})
                reading.remarks.append(f"{place}: its number alone, without contents, {STAYS}")
                continue
            group = row_of(item, place)
            cancelled = kind != "predictions" and bool(group.get("was_cancelled"))
            regions: dict[str, list[dict[str, Any]]] = {}
            others: list[dict[str, Any]] = []
            for index, row in enumerate(listing(group.get("result") or [], f"{place}: result")):
                row = row_of(row, f"{place}: result {index + 1}")
                type_ = row.get("type")
                known = (
                    isinstance(type_, str)
                    and type_ in CONTROLS
                    and isinstance(row.get("value"), dict)
                    and not cancelled
                )
                id = row.get("id") if isinstance(row.get("id"), str) and row["id"].strip() else f"#{index}"
                regions.setdefault(str(id), []).append(row) if known else others.append(row)
            for id, rows in regions.items():
                said: list[str] = []
                try:
                    made = _region(id, rows, group, kind, frame, taken, said)
                except UserError as error:
                    raise UserError(f"{place}: region {shown(id, 40)}: {error}") from error
                reading.remarks += [f"{place}: region {shown(id, 40)} {remark}" for remark in said]
                if made is None:
                    others += rows
                else:
                    raw = {**made.raw[NAME], "group": len(kept)}
                    annotations.append(replace(made, raw={NAME: raw}))
            rest = {name: value for name, value in group.items() if name != "result"}
            kept.append({"kind": kind, "row": rest} | ({"others": others} if others else {}))
            types = sorted({str(row.get("type")) for row in others})
            if cancelled or others:
                what = "work that was cancelled" if cancelled else shown(", ".join(types))
                reading.remarks.append(f"{place}: {what} {STAYS}")
    return annotations, kept


def _region(
    id: str, rows: list[dict[str, Any]], group: dict[str, Any], kind: str, frame: FrameOf, taken: set[str],
    remarks: list[str],
) -> Annotation | None:  # fmt: skip
    by_key: dict[str, dict[str, Any]] = {}
    for row in rows:
        type_ = row["type"]
        key = f"choices:{row.get('from_name')}" if type_ == "choices" else KEYS.get(type_, "shape")
        if key in by_key:
            return None  # two geometries of one id, or a region twice
        by_key[key] = row
    fields = _group_fields(group, kind)
    geometry = by_key.get("shape")
    label, apart = None, "labels" in by_key
    if geometry is None and apart:
        return None  # a label of nothing that we know
    if geometry is not None:
        names = (
            by_key["labels"]["value"].get("labels") if apart else geometry["value"].get(LABELS.get(geometry["type"]))
        )
        label = names[0] if isinstance(names, list) and names and isinstance(names[0], str) else None
        if isinstance(names, list) and len(names) > 1:
            remarks.append(f"has {len(names)} labels; {shown(names[0], 40)} is read, Label Studio gets all back")
        if geometry["type"].startswith("ellipse"):
            remarks.append("is an ellipse, read as a polygon of 64 corners")
        fields["shape"] = frame.upright(shape_of(geometry, frame))
        if fields["shape"] is None:
            return None
        if isinstance(geometry.get("score"), int | float) and not isinstance(geometry["score"], bool):
            fields["score"] = geometry["score"]
    if "text" in by_key:
        texts = by_key["text"]["value"].get("text")
        texts = texts if isinstance(texts, list) else [texts]
        fields["text"] = "\n".join(text for text in texts if isinstance(text, str))
    attributes: dict[str, Any] = {}
    for key, row in by_key.items():
        chosen = row["value"].get("choices")
        if key.startswith("choices:") and isinstance(chosen, list) and chosen:
            attributes[str(row.get("from_name"))] = chosen[0] if len(chosen) == 1 else chosen
    own: dict[str, Any] = {}
    for row in rows:
        own |= take_own(row, "result")
    if OWN in rows[0] or own:
        attributes |= row_of(own.pop("attributes", {}), f"attributes in {OWN!r}")
    wanted = "" if id.startswith("#") else id
    label = label if label is not None and label.strip() else None
    annotation = Annotation(unique_id(wanted, taken), label, **{**fields, **own, "attributes": attributes})
    left = leftover(by_key, _made(annotation, frame, kind, apart=apart))
    kept: dict[str, Any] = {"left": left} | ({"apart": True} if apart else {})
    if geometry is not None:
        kept["control"] = geometry["type"].removesuffix("labels")
        kept |= {"drawn": "an ellipse"} if kept["control"] == "ellipse" else {}
    return replace(annotation, raw={NAME: kept})


def author_of(group: dict[str, Any]) -> str:
    """Who made a group of results, "" where it does not say."""
    by = group.get("completed_by")
    by = by.get("email") or by.get("id") if isinstance(by, dict) else by
    return str(by) if isinstance(by, str | int) and not isinstance(by, bool) else ""


def answered(image: AnnotatedImage) -> list[str] | None:
    """The authors ("" for one without a name) whose annotations the task of an image has, also those that say that
    there is nothing to see; none for a task that nobody began. None: the image is not of Label Studio.

    What was cancelled is no answer, and a rating or ranking alone says nothing of what there is to see.
    """
    groups = image_raw(image, NAME).get("groups")
    if not isinstance(groups, list):
        return None
    rows = [item["row"] for item in groups if item["kind"] != "predictions" and "row" in item and "others" not in item]
    return [author_of(row) for row in rows if not row.get("was_cancelled")]


def only_in_task(image: AnnotatedImage) -> list[str]:
    """What the task of an image says and neither its annotations nor rankings do, a text for each group of results."""
    groups = image_raw(image, NAME).get("groups")
    found = []
    for item in groups if isinstance(groups, list) else []:
        types = {str(row.get("type")) for row in item.get("others", [])} - RANKED
        if "bare" in item:
            found.append(f"prediction {item['bare']}, its number alone")
        elif item["kind"] != "predictions" and item["row"].get("was_cancelled"):
            found.append("work that was cancelled")
        elif types:
            found.append(f"results of type {', '.join(sorted(types))}")
    return found


def _group_fields(group: dict[str, Any], kind: str) -> dict[str, Any]:
    """What a group of results says of each of them."""
    fields: dict[str, Any] = {"source": "prediction" if kind == "predictions" else NAME}
    if author_of(group):
        fields["author"] = author_of(group)
    for key, name in (("created_at", "created"), ("updated_at", "updated"), ("model_version", "model_version")):
        if isinstance(group.get(key), str):
            fields[name] = group[key]
    score = group.get("score")
    if kind == "predictions" and isinstance(score, int | float) and not isinstance(score, bool):
        fields["score"] = score
    return fields


def _made(
    annotation: Annotation, frame: FrameOf, kind: str, group: dict[str, Any] | None = None, apart: bool = False
) -> dict[str, Any]:
    """Key of the row within its region -> row. What the group says already is not said again."""
    said = (
        _group_fields(group, kind)
        if group is not None
        else {
            name: getattr(annotation, name)
            for name in ("author", "created", "updated", "source", "model_version", "score")
        }
    )
    return geometry_rows(annotation, frame, said, apart)


def write_label_studio(annotations: AnnotationSet, choices: Choices, losses: Losses) -> Iterator[tuple[str, Any]]:
    """tasks.json (name, JSON value), and label_config.xml (bytes) that a project of Label Studio can be made with."""
    tasks: list[dict[str, Any]] = []
    for image in annotations.images:
        raw = image_raw(image, NAME)
        frame = frame_to_write(image, raw, choices.frame)
        groups = _write_groups(image, raw, frame, losses)
        task, empty = raw.get("task"), raw.get("empty")
        task = dict(task) if isinstance(task, dict) else _task(image, frame, choices.image_prefix)
        for kind in GROUPS:
            own = [group for found, group in groups if found == kind]
            if own:
                task[kind] = own
            elif isinstance(empty, dict) and kind in empty:
                task[kind] = empty[kind]
        tasks.append(task)
    known = annotations.raw.get(NAME)
    others = known.get("tasks") if isinstance(known, dict) else None
    tasks += others if isinstance(others, list) else []
    yield "tasks.json", tasks
    yield "label_config.xml", label_config(annotations)


def _task(image: AnnotatedImage, frame: FrameOf, prefix: str) -> dict[str, Any]:
    """A new task; the size is said for images with nothing on them."""
    name = prefix + quote(image.name) if prefix else image.name
    return {"data": {"image": name, "width": frame.size[0], "height": frame.size[1]}}


def _write_groups(image: AnnotatedImage, raw: dict[str, Any], frame: FrameOf, losses: Losses) -> list[tuple[str, Any]]:
    """(kind, group): those that were read, then one for every new author and model version."""
    kept = raw.get("groups")
    kept = [group for group in kept if isinstance(group, dict)] if isinstance(kept, list) else []
    groups: list[tuple[str, Any]] = []
    for item in kept:
        row = item.get("row")
        group = item["bare"] if "bare" in item else {**(row if isinstance(row, dict) else {}), "result": []}
        groups.append((str(item.get("kind")), group))
    new: dict[tuple[str, str], int] = {}
    for annotation in image.annotations:
        _note(image, annotation, losses)
        own = annotation.raw.get(NAME)
        own = own if isinstance(own, dict) else {}
        index = own.get("group")
        kind = "predictions" if annotation.source == "prediction" else "annotations"
        if not (isinstance(index, int) and 0 <= index < len(kept) and "bare" not in kept[index]):
            key = (kind, annotation.model_version if kind == "predictions" else annotation.author)
            if key not in new:
                new[key] = len(groups)
                row = {"model_version": key[1]} if kind == "predictions" and key[1] else {}
                groups.append((kind, {**row, "result": []}))
            index = new[key]
        kind, group = groups[index]
        written = _written(_made(annotation, frame, kind, group, own.get("apart") is True), own)
        group["result"] += [row for row in written.values() if isinstance(row, dict)]
    for (_, group), item in zip(groups, kept, strict=False):
        others = item.get("others")
        if "bare" in item:
            continue
        group["result"] += others if isinstance(others, list) else []
    if not groups and "groups" not in raw:  # nothing to see is an answer; a task without one is to be done
        groups.append(("annotations", {"result": []}))
    return groups


def _written(made: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    """The rows of a region with the file's own words, but for those that speak of a shape which it no longer has.

    Where the file drew the kind that is written now, every key means the same in both. An ellipse is a polygon with
    us: its centre and radii stand for the points that were made of them, and for no others.
    """
    written = restored(made, own.get("left"))
    if "shape" in made:
        row = made["shape"]
        control = row["type"].removesuffix("labels")
        stands = control == "polygon" and "points" not in written["shape"]["value"]
        if own.get("control", control) != control and not stands:
            written["shape"] |= {key: row[key] for key in ("type", "from_name", "value")}
            if "labels" in made:
                written["labels"]["value"] = made["labels"]["value"]
    return written


def _note(image: AnnotatedImage, annotation: Annotation, losses: Losses) -> None:
    shape = annotation.shape
    losses.fields(image, annotation, HOLDS)
    losses.parts(image, annotation)
    if shape is None and annotation.label is not None:
        losses.add("kind", image, annotation, "a label of the whole image, written as a choice named label")
    if isinstance(shape, Mask) and math.prod((shape.height, shape.width)) != image.width * image.height:
        raise UserError(f"{shown(image.name)}: a mask of another size than the image, expected the same")
