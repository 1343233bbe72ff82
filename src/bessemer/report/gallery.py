"""Photographs and answers on the page: samples side by side, and the worst errors with their images."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw

from bessemer.data.images import load_image
from bessemer.data.paths import resolve_path
from bessemer.data.records import ImageRef
from bessemer.errors import UserError
from bessemer.report.formats import decimal, percent, short
from bessemer.report.markup import Markup, Node, element

__all__ = ["sample_cards", "thumbnail", "worst_cards"]

EDGE = 264
QUALITY = 80
ANSWER_CHARACTERS = 900
TRUE, SAID = "#2ee06a", "#ff8a1e"  # of outlines


@dataclass(frozen=True)
class Drawing:
    """Outlines [{label, points}] in the pixels of a frame [width, height], in one colour, with their labels."""

    frame: Sequence[int]
    places: Sequence[Mapping[str, Any]]
    colour: str

    def on(self, image: Image.Image) -> None:
        """Draw them on an image of any size."""
        pen = ImageDraw.Draw(image)
        across, down = image.width / self.frame[0], image.height / self.frame[1]
        for place in self.places:
            points = [(x * across, y * down) for x, y in place["points"]]
            pen.line([*points, points[0]], fill=self.colour, width=2)
            # Pillow's own letters hold no others; an empty box would say less than nothing.
            if place["label"].isascii():
                pen.text(min(points), place["label"], fill=self.colour, stroke_width=1, stroke_fill="black")


def thumbnail(path: str, sha256: str | None, root: Path, drawings: Sequence[Drawing] = ()) -> Markup:
    """A photograph as a small JPEG inside the page, with outlines drawn on it, or a box saying why there is none.

    The image is decoded and encoded anew, so nothing of the file but its pixels gets into the page: no
    metadata (a place, a name), nothing hidden behind the picture.
    """
    try:
        image = load_image(ImageRef(path, sha256) if sha256 else resolve_path(path, root), root)
    except UserError as error:
        return element("div", short(f"no image: {error}", 120), {"class": "missing"})
    image.thumbnail((EDGE, EDGE), Image.Resampling.LANCZOS)
    for drawing in drawings:
        drawing.on(image)
    image.info.clear()
    buffer = io.BytesIO()
    image.save(buffer, format="JPEG", quality=QUALITY)
    source = "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
    size = {"width": str(image.width), "height": str(image.height)}
    return element("img", (), {"class": "thumb", "alt": Path(path).name, "src": source} | size)


def said(text: str) -> Markup:
    """An answer as it was given, cut where it is very long."""
    more = len(text) - ANSWER_CHARACTERS
    cut = f"{text[:ANSWER_CHARACTERS]}… ({more} more characters)" if more > 0 else text
    return element("span", cut, {"class": "said", "dir": "auto"})


def sample_cards(report: Mapping[str, Any], root: Path) -> list[Markup]:
    """Each sample with the answers of the language models side by side, in the order in which they were
    trained."""
    roles = report["roles"]
    wanted = [roles[role] for role in ("base", "sft", "aligned", "student")]
    cards = []
    for sample in report["samples"]:
        names = [name for name in wanted if name in sample["answers"]]
        names += [name for name in sample["answers"] if name not in wanted]
        answers = [_answer(name, sample, root) for name in names]
        body: list[Node] = [element("p", sample["question"], {"class": "question said", "dir": "auto"})]
        aside = [text for text in (sample["task"], sample["id"]) if text]
        body.append(element("span", " · ".join(aside), {"class": "sub"}))
        if sample["reference"] is not None:
            body.append(element("p", ["Reference: ", said(sample["reference"])], {"class": "note"}))
        parts = [element("div", body), element("div", answers, {"class": "answers"})]
        if sample["image"] is not None:
            parts.insert(0, element("div", _drawn(sample, root)))
        cards.append(element("div", parts, {"class": "sample" if sample["image"] is not None else "sample text"}))
    return cards


def _drawn(sample: Mapping[str, Any], root: Path, said: Sequence[Mapping[str, Any]] = ()) -> Markup:
    """The photograph of a sample with what is true, and what was said, drawn on it."""
    frame = sample["frame"]
    drawings = [Drawing(frame, sample["places"], TRUE), Drawing(frame, said, SAID)] if frame else []
    return thumbnail(sample["image"], sample["image_sha256"], root, drawings)


def _answer(name: str, sample: Mapping[str, Any], root: Path) -> Markup:
    answer = sample["answers"][name]
    score = "" if answer["score"] is None else f"score {decimal(answer['score'], 2)}"
    who = element("div", [element("span", name), element("span", score)], {"class": "who"})
    drawn = [_drawn(sample, root, answer["places"])] if answer["places"] and sample["image"] is not None else []
    return element("div", [who, said(answer["text"]), *drawn], {"class": "answer"})


def worst_cards(cases: Sequence[Mapping[str, Any]], positive: str | None, root: Path) -> list[Markup]:
    """The worst errors in their order, each with its photograph, what is true and what was said."""
    cards = []
    for number, case in enumerate(cases, 1):
        answered = "unreadable" if case["parsed"] is None else case["parsed"]
        caption: list[Node] = [
            element("span", f"{number}  ", {"class": "rank"}),
            "is ",
            element("strong", case["truth"]),
            ", answered ",
            element("strong", answered),
        ]
        if case["probability"] is not None and positive is not None:
            caption.append(element("span", f"p({positive}) = {percent(case['probability'])}", {"class": "sub"}))
        caption.append(element("span", case["id"], {"class": "sub mono"}))
        if case["answer"] is not None:
            caption.append(said(short(case["answer"], 160)))
        parts: list[Node] = [element("figcaption", caption)]
        if case["image"] is not None:
            parts.insert(0, thumbnail(case["image"], case["image_sha256"], root))
        cards.append(element("figure", parts, {"class": "panel"}))
    return cards
