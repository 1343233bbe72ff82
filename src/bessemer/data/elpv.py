"""The importer of elpv-dataset: 2,624 electroluminescence photographs of solar cells, 300 x 300 grey, with a
defect probability each.

Images: CC BY-NC-SA 4.0 (not for commercial use). Sources: Buerhop-Lutz et al., "A Benchmark for Visual
Identification of Defective Solar Cells in Electroluminescence Imagery", EU PVSEC 2018; Deitsch et al.,
"Automatic classification of defective photovoltaic module cells in electroluminescence images", Solar Energy
185 (2019), https://arxiv.org/abs/1807.02894.
"""

from __future__ import annotations

import functools
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from ..errors import UserError
from .images import image_ref
from .paths import resolve_path, shown
from .schema import SPLITS, Example, choice, need
from .splits import contiguous_blocks, grouped_split, stratified_split

__all__ = ["BLOCK", "LICENCE", "SEVERITIES", "Protocol", "read_elpv"]

LICENCE = (
    "elpv-dataset: the images are licensed CC BY-NC-SA 4.0 (attribution, not for commercial use, share "
    "alike); mind that before a model trained on them is used commercially"
)
SEVERITIES = ("none", "slight", "moderate", "severe")
BLOCK = 60
Protocol: TypeAlias = Literal["P1", "P2"]

# Rater confidence as in Deitsch et al. 2019: sure of "functional" (0) or "defective" (1): 1; unsure but
# "functional" (1/3): 0.33; unsure
# but "defective" (2/3): 0.67.
_WEIGHTS = (1.0, 0.33, 0.67, 1.0)
_LABELS = (
    "data/labels.csv",
    "elpv_dataset/data/labels.csv",
    "src/elpv_dataset/data/labels.csv",
    "labels.csv",
)


@dataclass(frozen=True)
class _Cell:
    """One row: image path as in the file, thirds of the defect probability (0 to 3), mono or poly."""

    path: str
    thirds: int
    kind: str


def read_elpv(
    directory: Path, protocol: Protocol = "P1", seed: int = 0, test: float = 0.25, val: float = 0.1
) -> list[Example]:
    """The photographs in the order of the file, each with its labels and its part.

    labels: defect no | yes (yes from probability 0.5, soft["defect"] is the probability), severity none |
    slight | moderate | severe (0, 1/3, 2/3, 1), cell_type mono | poly. weight: rater confidence. group: the
    pseudo-module, see `splits.contiguous_blocks`.
    P1: `test` of all at random, stratified by probability and type, comparable with the literature (656 of
        2,624). P2: whole pseudo-modules, so
    that cells of one module stay on one side: the honest figure. `val` is a share of what is left, by the
    same rule. Image paths are absolute. The licence is printed to stderr once a process.

    Raises:
        UserError: no labels.csv in the known places; "file:line: what, expected what".
    """
    choice(protocol, ("P1", "P2"), "protocol")
    table = next((directory / name for name in _LABELS if (directory / name).is_file()), None)
    if table is None:
        raise UserError(f"{shown(directory)}: no labels.csv, expected the unpacked elpv-dataset")
    cells = _read_cells(table)
    _print_licence()
    groups = [f"module-{block + 1:02d}" for block in contiguous_blocks([cell.kind for cell in cells], BLOCK)]
    strata = [(cell.thirds, cell.kind) for cell in cells]
    if protocol == "P1":
        parts = stratified_split(strata, seed, test, val)
    else:
        parts = grouped_split(groups, strata, seed, test, val)
    return [
        Example(
            id=Path(cell.path).stem,
            image=image_ref(resolve_path(cell.path, table.parent)),
            labels={
                "defect": "yes" if cell.thirds >= 2 else "no",
                "severity": SEVERITIES[cell.thirds],
                "cell_type": cell.kind,
            },
            soft={"defect": cell.thirds / 3},
            weight=_WEIGHTS[cell.thirds],
            group=group,
            split=choice(part, SPLITS, "split"),
            scene="equipment",
            provenance={"dataset": "elpv", "protocol": protocol, "row": row},
        )
        for row, (cell, group, part) in enumerate(zip(cells, groups, parts, strict=True), start=1)
    ]


def _read_cells(table: Path) -> list[_Cell]:
    """The rows of labels.csv, which are parted by blanks, not commas."""
    try:
        lines = table.read_bytes().decode("utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{shown(table)}: cannot be read ({shown(error)}), expected elpv-dataset's labels") from error
    cells: list[_Cell] = []
    seen: dict[str, int] = {}
    for number, line in enumerate(lines, start=1):
        fields = line.split()
        if not fields:
            continue
        try:
            need(len(fields) == 3, f"{len(fields)} fields ({shown(line, 40)})", "path, probability and type")
            path, probability, kind = fields
            first = seen.setdefault(Path(path).stem, number)
            need(first == number, f"{shown(path)} stands on line {first} too", "every image once")
            cells.append(_Cell(path, _thirds(probability), choice(kind, ("mono", "poly"), "type")))
        except UserError as error:
            raise UserError(f"{shown(table)}:{number}: {error}") from error
    need(cells, f"{shown(table)} has no rows", "elpv-dataset's labels")
    return cells


def _thirds(text: str) -> int:
    try:
        thirds = float(text) * 3
    except ValueError:
        thirds = -1.0
    nearest = round(thirds) if 0 <= thirds <= 3 else 0
    need(abs(thirds - nearest) < 1e-3, f"probability {shown(text, 20)}", "0, 1/3, 2/3 or 1")
    return nearest


@functools.cache
def _print_licence() -> None:
    print(f"note: {LICENCE}", file=sys.stderr)
