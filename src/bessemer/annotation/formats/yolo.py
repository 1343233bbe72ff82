"""YOLO as Ultralytics reads it: a text file beside every photograph, `data.yaml` with the names of the classes.

Coordinates are shares of the upright photograph, so the photographs have to be at hand. Nine numbers are a rotated
box or a polygon of four corners; only the task tells, and it comes from `data.yaml` or from whoever asks. A
photograph without a text file is one with nothing on it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import PurePosixPath
from typing import Any, get_args

import yaml

from ...data.paths import shown
from ...data.schema import need
from ...errors import UserError
from ..geometry import bounding_box, minimum_rotated_box, polygon_from_shape
from ..shapes import AnnotatedImage, Annotation, AnnotationSet, Box, Label, Mask, Point, Polygon, RotatedBox, Shape
from .choices import Choices, Reading, Task
from .fields import box_of_corners, image_raw, joined, number, pairs_of, row_of, whole
from .leftovers import leftover, restored
from .photographs import FrameOf, frame_to_write, free_name, photograph_names, split_suffix
from .report import Losses

__all__ = ["is_yolo", "read_yolo", "write_yolo", "yolo_photographs"]

NAME = "yolo"
HOLDS = frozenset(("label", "score"))
MAX_YAML = 2**20
FOLDERS = ("path", "train", "val", "test")  # keys of data.yaml
FAR = 2  # shares of the image
LISTS = ("classes.txt", "train.txt", "val.txt", "test.txt", "obj.names", "readme.txt", "notes.txt")


def is_yolo(names: tuple[str, ...]) -> bool:
    """Whether a listing looks like YOLO: data.yaml, or a folder of labels."""
    return any(_is_yaml(name) for name in names) or any(_is_label(name) for name in names)


def _is_yaml(name: str) -> bool:
    path = PurePosixPath(name)
    return path.suffix in (".yaml", ".yml") and (path.stem in ("data", "dataset") or len(path.parts) == 1)


def _likely(name: str) -> tuple[bool, int, str]:
    """For sorting: data.yaml before what trainers write beside it, such as args.yaml."""
    return PurePosixPath(name).stem not in ("data", "dataset"), name.count("/"), name


def _is_label(name: str) -> bool:
    path = PurePosixPath(name)
    return path.suffix == ".txt" and "labels" in path.parts[:-1]


def read_yolo(reading: Reading) -> AnnotationSet:
    """The photographs of the source (and of the folder of images) with their text files."""
    source = reading.source
    top, file = _read_yaml(reading)
    names = _names(top, reading)
    photographs = reading.photographs
    of_photograph = {_label_of(name): name for name in photographs.names}
    texts = [name for name in source.names if _is_label(name)] or [n for n in source.names if n.endswith(".txt")]
    texts = [name for name in texts if name in of_photograph or PurePosixPath(name).name.lower() not in LISTS]
    rows = {name: [line.split() for line in source.text(name).splitlines()] for name in texts}
    task = _task(top, rows, reading)
    need(len(of_photograph) == len(photographs.names), "photographs that differ in their suffix alone", "one of each")
    matched = _matched(rows, of_photograph)
    for name in set(rows) - set(matched.values()):
        need(not any(rows[name]), f"{source.shown(name)}: no photograph of that name", "one, for its size; name images")
    images, far = [], list[Annotation]()
    for name in photographs.names:
        photograph = photographs.facts(name)
        frame = photographs.frame_of(photograph, None, f"image {name!r}")
        label = matched.get(name)
        annotations = []
        for number_, row in enumerate(rows.get(label or "", []), 1):
            where = f"{source.shown(label or '')}:{number_}"
            if row:
                annotations.append(_annotation(row, where, number_, names, task, frame))
        raw = {"file": label, "stored": frame.stored}
        images.append(photographs.image(name, photograph, frame, annotations, {NAME: raw}))
        far += [item for item in annotations if max(map(abs, _shares(item, task, frame)), default=0) > FAR]
    if far:
        total = sum(len(image.annotations) for image in images)
        what = f"{len(far)} of {total} rows reach far out of their photographs"
        reading.remarks.append(f"{source.shown('')}: {what}; are they in pixels? Shares of the size are expected")
    left = leftover(top, _numbered(names)) if top else {}
    known = tuple(Label(name) for name in names)
    return AnnotationSet(tuple(images), known, {NAME: {"yaml": left, "file": file, "task": task}})


def _label_of(name: str) -> str:
    """The text file of a photograph: its last folder `images` is `labels`."""
    parts = list(PurePosixPath(name).with_suffix(".txt").parts)
    places = [index for index, part in enumerate(parts[:-1]) if part == "images"]
    if places:
        parts[places[-1]] = "labels"
    return "/".join(parts)


def _matched(rows: dict[str, Any], of_photograph: dict[str, str]) -> dict[str, str]:
    """photograph -> its text file: where YOLO looks, else the same path behind `labels`, else beside it."""
    matched = {photograph: label for label, photograph in of_photograph.items() if label in rows}
    free = {label for label in rows if label not in set(matched.values())}
    ends = {label.split("labels/", 1)[-1]: label for label in free}
    for label, photograph in of_photograph.items():
        end = label.split("labels/", 1)[-1]
        if photograph not in matched and end in ends:
            matched[photograph] = ends[end]
    return matched


def _read_yaml(reading: Reading) -> tuple[dict[str, Any], str]:
    source = reading.source
    found = sorted((name for name in source.names if _is_yaml(name)), key=_likely)
    if not found:
        return {}, "data.yaml"
    where = source.shown(found[0])
    data = source.read(found[0], MAX_YAML)
    try:
        for event in yaml.parse(data, Loader=yaml.SafeLoader):
            # A tag makes of a value what it is not: a number of "", a set of a list.
            plain = not isinstance(event, yaml.AliasEvent) and getattr(event, "tag", None) is None
            need(plain, f"{where}: an alias or a tag", "plain YAML without them")
        top = yaml.safe_load(data)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise UserError(f"{where}: broken YAML ({shown(error, 120)}), expected a sound data.yaml") from error
    return row_of(_plain(top), where), found[0]


def _plain(value: Any, depth: int = 0) -> Any:
    """Values as JSON has them: keys are text but for numbers of classes, dates are text."""
    need(depth < 16, "YAML nested more than 16 levels", "a flatter file")
    if isinstance(value, dict):
        return {str(key): _plain(item, depth + 1) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item, depth + 1) for item in value]
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


def _names(top: dict[str, Any], reading: Reading) -> list[str]:
    names = top.get("names")
    if isinstance(names, dict):
        numbers = {whole(key, "a key of names"): value for key, value in names.items()}
        ok = sorted(numbers) == list(range(len(names)))
        need(ok, f"names of classes {shown(sorted(numbers))}", f"0 to {len(numbers) - 1} without gaps")
        names = [numbers[index] for index in range(len(numbers))]
    if names is None:
        listed = [name for name in reading.source.names if PurePosixPath(name).name == "classes.txt"]
        names = reading.source.text(listed[0]).split("\n") if listed else []
        names = [name.strip() for name in names if name.strip()]
    need(isinstance(names, list), f"names {shown(names)}", "a list, or an object of numbers and names")
    need(all(isinstance(name, str | int | float) for name in names), "a name of a class that is no text", "text")
    return [str(name) for name in names]


def _task(top: dict[str, Any], rows: dict[str, list[list[str]]], reading: Reading) -> Task:
    """From whoever asks, from data.yaml, else from the lengths of the rows where they leave no doubt."""
    asked = reading.choices.task if reading.choices.task != "auto" else top.get("task", "auto")
    need("kpt_shape" not in top and asked != "pose", "YOLO pose (kpt_shape)", "detect, segment or obb")
    need(asked in get_args(Task), f"task {shown(asked)} in data.yaml", "detect, segment or obb")
    if asked == "auto":
        lengths = {len(row) for some in rows.values() for row in some if row}
        need(
            9 not in lengths or lengths - {5, 6, 9},
            f"{reading.source.shown('')}: rows of nine numbers, rotated boxes or polygons of four corners",
            "task: obb or task: segment in data.yaml, or --task",
        )
        asked = "segment" if max(lengths, default=5) > 6 else "detect"
    reading.made["task"] = asked
    task: Task = asked
    return task


def _annotation(row: list[str], where: str, line: int, names: list[str], task: Task, frame: FrameOf) -> Annotation:
    values = [number(text, f"{where}: {shown(text, 20)}") for text in row]
    index = int(values[0])
    ok = index == values[0] and index >= 0
    need(ok, f"{where}: class {shown(row[0])}", "a whole number from 0")
    need(not names or index < len(names), f"{where}: class {index}", f"0 to {len(names) - 1}, as in names")
    label = names[index] if names else str(index)
    width, height = frame.size
    shape: Shape
    score = None
    if len(values) in (5, 6):
        x, y, w, h = (value * size for value, size in zip(values[1:5], (width, height) * 2, strict=True))
        need(w >= 0 and h >= 0, f"{where}: a size below 0", "0 or more")
        shape = Box(x - w / 2, y - h / 2, w, h)
        score = values[5] if len(values) == 6 else None
    else:
        if task == "obb" and len(values) == 10:
            score = values.pop()
        points = tuple((x * width, y * height) for x, y in pairs_of(values[1:], where))
        need(len(points) >= 3 and task != "detect", f"{where}: {len(row)} numbers", f"a row of {task}")
        need(task != "obb" or len(points) == 4, f"{where}: {len(row)} numbers", "9, class and four corners")
        shape = box_of_corners(points) if task == "obb" else Polygon(((points,),))
    found = Annotation(str(line), label, frame.upright(shape), source=NAME, score=score)
    made = {"line": _line(found, index, _inside(_shares(found, task, frame), task), score is not None)}
    left = leftover({"line": " ".join(row)}, made)
    return replace(found, raw={NAME: {"left": left, "task": task, "scored": score is not None}})


def _shares(annotation: Annotation, task: Task, frame: FrameOf) -> list[float]:
    """A shape in shares of the image; a box is four numbers in detect, four corners elsewhere."""
    shape = frame.of_file(annotation.shape)
    assert shape is not None
    width, height = frame.size
    if task == "detect":
        box = bounding_box(shape)
        x, y = (box.x + box.width / 2) / width, (box.y + box.height / 2) / height
        return [x, y, box.width / width, box.height / height]
    if task == "obb" and not isinstance(shape, Box):
        shape = minimum_rotated_box(shape)
    return [share for x, y in joined(polygon_from_shape(shape)) for share in (x / width, y / height)]


def _inside(values: list[float], task: Task) -> list[float]:
    """Shares from 0 to 1: Ultralytics passes over a photograph with any other. Of a box the numbers count, so one
    that only reaches over a border stays as it is."""
    if all(0 <= value <= 1 for value in values):
        return values
    if task != "detect":
        return [_share(value) for value in values]
    x, y, width, height = values
    left, right, top, bottom = (
        _share(value) for value in (x - width / 2, x + width / 2, y - height / 2, y + height / 2)
    )
    return [(left + right) / 2, (top + bottom) / 2, right - left, bottom - top]


def _share(value: float) -> float:
    return min(max(value, 0.0), 1.0)


def _line(annotation: Annotation, index: int, values: list[float], scored: bool) -> str:
    """The row of a labelled shape. Only detectors write scores: a column more in one row makes Ultralytics pass over
    the photograph, so a row has one if it had one when it was read."""
    score = [annotation.score] if annotation.score is not None and scored else []
    return " ".join([str(index), *(repr(value).removesuffix(".0") for value in [*values, *score])])


def _lines(
    image: AnnotatedImage, frame: FrameOf, numbers: dict[str, int], task: Task, losses: Losses
) -> Iterator[str]:  # fmt: skip
    """The rows of an image; what they do not hold is noted."""
    for annotation in image.annotations:
        kept = annotation.raw.get(NAME)
        kept = kept if isinstance(kept, dict) and kept.get("task") == task else {}
        scored = kept.get("scored") is True and task != "segment"
        shape, what = annotation.shape, _unwritable(annotation)
        if shape is None or annotation.label is None or what:
            losses.add("shape", image, annotation, f"{what} is not written")
            continue
        losses.fields(image, annotation, HOLDS if scored else HOLDS - {"score"})
        values = _shares(annotation, task, frame)
        inside = _inside(values, task)
        made = {"line": _line(annotation, numbers[annotation.label], inside, scored)}
        line = restored(made, kept.get("left"))["line"]
        if line == made["line"]:  # else the file's own words, which hold what was read
            fits = {"detect": Box, "segment": Polygon, "obb": RotatedBox}[task]
            if not isinstance(shape, fits):
                losses.add("kind", image, annotation, f"{type(shape).__name__} in {task}: written as {fits.__name__}")
            else:
                losses.parts(image, annotation)
            if any(abs(one - other) > 1e-9 for one, other in zip(values, inside, strict=True)):
                losses.add("clipped", image, annotation, "what reaches out of the image is cut off")
        yield line


def _unwritable(annotation: Annotation) -> str:
    """What YOLO has no row for; "" where it has one."""
    shape = annotation.shape
    if isinstance(shape, Mask) and len(shape.runs) < 2:
        return "an empty mask"
    what = "a point" if isinstance(shape, Point) else "an annotation without a shape" if shape is None else ""
    return what or ("a shape without a label" if annotation.label is None else "")


def write_yolo(annotations: AnnotationSet, choices: Choices, losses: Losses) -> Iterator[tuple[str, Any]]:
    """data.yaml and a text file (name, text) for every image, also for those with nothing on them."""
    raw = annotations.raw.get(NAME)
    raw = raw if isinstance(raw, dict) else {}
    task = _write_task(annotations, choices, raw)
    losses.choices["task"] = task
    names = [label.name for label in annotations.labels]
    used = (annotation.label for image in annotations.images for annotation in image.annotations)
    names = list(dict.fromkeys([*names, *(name for name in used if name is not None)]))
    numbers = {name: index for index, name in enumerate(names)}
    for image, stem, wanted in _stems(annotations):
        own = image_raw(image, NAME)
        frame = frame_to_write(image, own, choices.frame)
        lines = list(_lines(image, frame, numbers, task, losses))
        if "file" in own and own["file"] is None and not lines:
            continue  # a negative without a text file
        name = _label_of(stem + ".jpg")
        if stem != wanted:
            losses.add("name", image, None, f"its text file is {name}, as its own name is taken or no name for files")
        yield name, "".join(line + "\n" for line in lines)
    # Without a path Ultralytics begins where the file is; "." would be where it is run.
    body: dict[str, Any] = {"train": "images", "val": "images", "task": task}
    left = raw.get("yaml")
    if left is not None and _in_place(annotations):
        body = {} if task == raw.get("task") else {"task": task}
    elif isinstance(left, dict) and isinstance(left.get("row"), dict):
        losses.add(
            "raw", None, None, "the folders that data.yaml named: photographs were added that lie in none of them"
        )
        left = {**left, "row": {key: value for key, value in left["row"].items() if key not in FOLDERS}}
    top = restored(body | _numbered(names), left)
    if isinstance(top.get("names"), dict):
        top["names"] = {int(key): value for key, value in top["names"].items()}
    file = raw["file"] if isinstance(raw.get("file"), str) else "data.yaml"
    text = yaml.safe_dump(top, allow_unicode=True, sort_keys=False, width=10_000)
    yield free_name(file.removesuffix(PurePosixPath(file).suffix), ".yaml", set()), str(text)


def _numbered(names: list[str]) -> dict[str, Any]:
    return {"names": {str(index): name for index, name in enumerate(names)}}


def yolo_photographs(annotations: AnnotationSet) -> list[str]:
    """Where photographs are written: where their text files say, so that Ultralytics finds the two together."""
    return [stem + split_suffix(image.name)[1] for image, stem, _ in _stems(annotations)]


def _stems(annotations: AnnotationSet) -> Iterator[tuple[AnnotatedImage, str, str]]:
    """(image, name of its photograph without the suffix, the name it would have if it were free)."""
    taken: set[str] = set()
    in_place = _in_place(annotations)
    for image, under in zip(annotations.images, photograph_names(annotations), strict=True):
        own = image_raw(image, NAME) if in_place else {}
        file = own.get("file")
        if isinstance(file, str):  # where its text file was read: last folder `labels`, or beside it
            head, labels, tail = f"/{file.removesuffix('.txt')}".rpartition("/labels/")
            wanted = (f"{head}/images/" if labels else "").removeprefix("/") + tail.removeprefix("/")
        else:
            known = "file" in own and "images" in PurePosixPath(image.name).parts[:-1]
            wanted = split_suffix(image.name if known else under)[0]
        yield image, free_name(wanted, "", taken), wanted


def _in_place(annotations: AnnotationSet) -> bool:
    """Whether all photographs lie in the folders that the data.yaml names which the set was read with."""
    return NAME in annotations.raw and all("file" in image_raw(image, NAME) for image in annotations.images)


def _write_task(annotations: AnnotationSet, choices: Choices, raw: dict[str, Any]) -> Task:
    if choices.task != "auto":
        return choices.task
    if raw.get("task") in get_args(Task):
        task: Task = raw["task"]
        return task
    shapes = {type(annotation.shape) for image in annotations.images for annotation in image.annotations}
    return "segment" if shapes & {Polygon, Mask} else "obb" if RotatedBox in shapes else "detect"
