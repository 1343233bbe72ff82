"""What is to be seen in a finished picture, read from its pixels' owners: regions, how much of each is hidden."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..annotation.geometry import mask_from_shape, polygon_from_mask
from ..annotation.rle import array_from_mask, mask_from_array
from ..annotation.shapes import Annotation, Pair, Polygon
from ..annotation.simplify import ring_area
from ..data.schema import Scene
from .canvas import SCALE
from .people import HEAD, helmet_place
from .picture import Piece

__all__ = ["ENVIRONMENT", "LABELS", "read_annotations", "read_clutter"]

ENVIRONMENT = ("exit", "crate", "extinguisher", "extinguisher sign", "spill", "smoke", "fire")
LABELS = ("person", "helmet", "vest", "rope", "ladder", "vehicle", "zone", *ENVIRONMENT)
LEAST_PIXELS, LEAST_SHARE, SPECK = 14, 0.15, 4
LEAST_HAZARD, LEAST_CHANGE = 0.4, 12.0  # share, grey levels: what has no shape of its own is made out by that much


def read_annotations(
    pieces: Sequence[Piece], owners: NDArray[np.uint8], light: NDArray[np.float32]
) -> tuple[tuple[Annotation, ...], list[dict[str, str]]]:
    """An annotation for every labelled piece of which at least 14 pixels and 15 % are to be seen, and {"id", "label"}
    of each other one. Of spills, smoke and fire 40 % must be, and change the picture by 12 grey levels on average.

    light: (height, width) what `finish_light` leaves of a difference between grey levels. An annotation has the region
    that is seen as a polygon, and as attributes what `Piece.attributes` holds and

        hidden     share of it that something else hides (what is beyond the picture's edge does not count)
        cut        whether it reaches the picture's edge
        head_seen  of a person, the share that is in the picture and not hidden of the head with the place of a helmet
                   on it, or of that place alone where it is less
        torso_seen of a person, the share of the trunk that is seen and in the picture
        foot_seen  of a person, whether the place where it stands is
        place_seen of an extinguisher sign, the share of the place below it that nothing hides
    """
    found, unseen = [], []
    labelled = [piece for piece in pieces if piece.label and piece.total]
    for piece in labelled:
        parts = [other.owner for other in pieces if other.owner == piece.owner or other.whole == piece.owner]
        seen = _seen(owners, parts)
        count = float(np.count_nonzero(seen))
        share = min(1.0, SCALE**2 * count / piece.total)
        enough = count >= LEAST_PIXELS and share >= LEAST_SHARE and _made_out(piece, seen, share, light)
        region = _region(seen) if enough else None
        id = f"{piece.label.replace(' ', '-')}-{piece.owner}"
        if region is None:
            unseen.append({"id": id, "label": piece.label})
            continue
        cut = bool(seen[[0, -1]].any() or seen[:, [0, -1]].any())
        attributes = {**piece.attributes, "kind": piece.kind, "hidden": round(1 - share, 3), "cut": cut}
        attributes |= _body_seen(piece, owners, parts)
        if "place" in piece.attributes:
            attributes["place_seen"] = _place_seen(piece, pieces, owners)
        scene: Scene = "environment" if piece.label in ENVIRONMENT else "personnel"
        found.append(Annotation(id, piece.label, region, attributes=attributes, scene=scene, source="generated"))
    return tuple(found), unseen


def _made_out(piece: Piece, seen: NDArray[np.bool_], share: float, light: NDArray[np.float32]) -> bool:
    """Whether what is seen of a piece stands out from what was there before; of what has a shape it always does."""
    if piece.change is None:
        return True
    return share >= LEAST_HAZARD and float((piece.change * light)[seen].mean()) >= LEAST_CHANGE


def read_clutter(pieces: Sequence[Piece], owners: NDArray[np.uint8]) -> list[dict[str, Any]]:
    """{"kind", "box": [x, y, width, height]} of what is seen and has no label: look-alikes and clutter."""
    found: list[dict[str, Any]] = []
    for piece in pieces:
        if piece.label:
            continue
        box = piece.attributes.get("box")
        if box is None:
            seen = _seen(owners, [piece.owner])
            rows, columns = np.flatnonzero(seen.any(axis=1)), np.flatnonzero(seen.any(axis=0))
            if not len(rows):
                continue
            left, top = int(columns[0]), int(rows[0])
            box = [left, top, int(columns[-1]) + 1 - left, int(rows[-1]) + 1 - top]
        found.append({"kind": piece.kind, "box": box})
    return found


def _seen(owners: NDArray[np.uint8], parts: Sequence[int]) -> NDArray[np.bool_]:
    """(height, width), True where at least half of a pixel's small pixels belong to one of the parts."""
    mine = np.isin(owners, parts) if len(parts) > 1 else owners == parts[0]
    whole = mine[0::2, 0::2].astype(np.uint8)
    whole += mine[1::2, 0::2]
    whole += mine[0::2, 1::2]
    whole += mine[1::2, 1::2]
    half: NDArray[np.bool_] = whole >= SCALE**2 // 2
    return half


def _region(seen: NDArray[np.bool_]) -> Polygon | None:
    """The outline of what is seen, specks of fewer than 4 pixels left out; None when nothing else is."""
    rows, columns = np.flatnonzero(seen.any(axis=1)), np.flatnonzero(seen.any(axis=0))
    top, left = int(rows[0]), int(columns[0])
    outline = polygon_from_mask(mask_from_array(seen[top : rows[-1] + 1, left : columns[-1] + 1]))
    parts = tuple(
        tuple(tuple((x + left, y + top) for x, y in ring) for ring in part if abs(ring_area(ring)) >= SPECK)
        for part in outline.parts
        if abs(ring_area(part[0])) >= SPECK
    )
    return Polygon(parts) if parts else None


def _body_seen(piece: Piece, owners: NDArray[np.uint8], parts: Sequence[int]) -> Mapping[str, Any]:
    if "head" not in piece.attributes:
        return {}
    height = piece.attributes["head"][3]
    dome, face = helmet_place(piece.attributes["head"])
    before = range(max(parts) + 1)  # what was drawn earlier is behind
    column, row = (SCALE * value for value in piece.attributes["foot"])
    metre = SCALE * height / HEAD
    rows = slice(max(0, round(row - 0.12 * metre)), max(0, round(row + 0.08 * metre) + 1))
    columns = slice(max(0, round(column - 0.3 * metre)), max(0, round(column + 0.3 * metre) + 1))
    return {
        "head_seen": min(_share_of([*dome, *face], owners, before), _share_of(dome, owners, before)),
        "foot_seen": bool(np.isin(owners[rows, columns], parts).any()),
        "torso_seen": _share_of([(a, b) for a, b in piece.attributes["torso"]], owners, parts),
    }  # fmt: skip


def _share_of(region: Sequence[Pair], owners: NDArray[np.uint8], parts: Collection[int]) -> float:
    """The share of a region (pixels) that belongs to the parts; what is outside the picture does not."""
    small = np.array(region) * SCALE
    (left, top), (right, bottom) = np.floor(small.min(axis=0)).astype(int), np.ceil(small.max(axis=0)).astype(int) + 1
    ring = tuple((float(x - left), float(y - top)) for x, y in small)
    inside = array_from_mask(mask_from_shape(Polygon(((ring,),)), int(bottom - top), int(right - left)))
    full = np.zeros_like(inside)
    height, width = owners.shape
    y0, y1, x0, x1 = max(top, 0), min(bottom, height), max(left, 0), min(right, width)
    if y1 > y0 and x1 > x0:
        full[y0 - top : y1 - top, x0 - left : x1 - left] = np.isin(owners[y0:y1, x0:x1], list(parts))
    return round(float(np.count_nonzero(inside & full)) / max(1, int(np.count_nonzero(inside))), 3)


def _place_seen(piece: Piece, pieces: Sequence[Piece], owners: NDArray[np.uint8]) -> float:
    """What stands in the way belongs to pieces drawn later; the wall and what hangs there are the place itself."""
    inside = [other.owner for other in pieces if other.owner == piece.owner + 1 and "extinguisher" in other.kind]
    hanging = [other.owner for other in pieces if other.owner <= piece.owner or other.kind.startswith("red ")]
    return _share_of([(x, y) for x, y in piece.attributes["place"]], owners, [0, *hanging, *inside])
