"""What a reader or writer is asked for where a format leaves it open."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from .photographs import Frame, Photographs
from .sources import Source

__all__ = ["Choices", "Reading", "Task", "VocBase"]

Task: TypeAlias = Literal["auto", "detect", "segment", "obb"]
VocBase: TypeAlias = Literal["auto", "0", "1"]


@dataclass(frozen=True)
class Choices:
    """frame: of the coordinates in the files (reading: "auto" looks at the stated size; writing: "auto" is as they
    were read, else upright). voc_base: the number of the first pixel in Pascal VOC. task: of YOLO. image_prefix: put
    before image names in Label Studio's `data.image` when there is nothing else to go by."""

    frame: Frame = "auto"
    voc_base: VocBase = "auto"
    task: Task = "auto"
    image_prefix: str = ""


@dataclass
class Reading:
    """What a reader works with, and collects: choices it made, remarks for people."""

    source: Source
    photographs: Photographs
    choices: Choices
    made: dict[str, object] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)
