"""Photographs and answers on the page: samples side by side, and the worst errors with their images."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

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


def thumbnail(path: str, sha256: str | None, root: Path) -> Markup:
    """A photograph as a small JPEG inside the page, or a box saying why there is none.

    The image is decoded and encoded anew, so nothing of the file but its pixels gets into the page: no
    metadata (a place, a name), nothing hidden behind the picture.
    """
    try:
        image = load_image(ImageRef(path, sha256) if sha256 else resolve_path(path, root), root)
    except UserError as error:
        return element("div", short(f"no image: {error}", 120), {"class": "missing"})
    image.thumbnail((EDGE, EDGE), Image.Resampling.LANCZOS)
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
        answers = [_answer(name, sample["answers"][name]) for name in names]
        body: list[Node] = [element("p", sample["question"], {"class": "question said", "dir": "auto"})]
        aside = [text for text in (sample["task"], sample["id"]) if text]
        body.append(element("span", " · ".join(aside), {"class": "sub"}))
        if sample["reference"] is not None:
            body.append(element("p", ["Reference: ", said(sample["reference"])], {"class": "note"}))
        parts = [element("div", body), element("div", answers, {"class": "answers"})]
        if sample["image"] is not None:
            parts.insert(0, element("div", thumbnail(sample["image"], sample["image_sha256"], root)))
        cards.append(element("div", parts, {"class": "sample" if sample["image"] is not None else "sample text"}))
    return cards


def _answer(name: str, answer: Mapping[str, Any]) -> Markup:
    score = "" if answer["score"] is None else f"score {decimal(answer['score'], 2)}"
    who = element("div", [element("span", name), element("span", score)], {"class": "who"})
    return element("div", [who, said(answer["text"])], {"class": "answer"})


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
