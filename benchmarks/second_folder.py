"""A second folder of real photographs for `bessemer init`: Fashion-MNIST, 28 x 28 pictures of garments.

    apt install dataset-fashion-mnist
    python benchmarks/second_folder.py DIR [--train 150] [--test 50] [--source /usr/share/datasets/fashion-mnist]

Writes DIR/train/CLASS/NNNNN.png and DIR/test/CLASS/NNNNN.png: the first so many of each class in the package's own two
parts, so that every run makes the same files. DIR must not exist. Licence: MIT, copyright 2017 Zalando SE.
"""

from __future__ import annotations

import argparse
import gzip
import struct
import sys
from collections import Counter
from pathlib import Path

from PIL import Image

LICENCE = "Fashion-MNIST, copyright 2017 Zalando SE, MIT licence (https://github.com/zalandoresearch/fashion-mnist)"
CLASSES = (
    "t-shirt", "trousers", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle_boot",
)  # fmt: skip
PARTS = {"train": "train", "test": "t10k"}
SIDE = 28
MOST = 60_000


def read_idx(path: Path, item: int) -> list[bytes]:
    """The items of an IDX file of bytes, each of `item` bytes; what is no such file ends the program."""
    with gzip.open(path) as file:
        raw = file.read(16 + MOST * item + 1)
    sizes = (SIDE, SIDE) if item > 1 else ()
    header = struct.pack(">HBB", 0, 8, 1 + len(sizes))
    start = 8 + 4 * len(sizes)
    (count,) = struct.unpack(">I", raw[4:8])
    if raw[:4] != header or raw[8:start] != struct.pack(f">{len(sizes)}I", *sizes) or len(raw) != start + count * item:
        sys.exit(f"{path}: no IDX file of {item} bytes an item, expected the one of dataset-fashion-mnist")
    return [raw[place : place + item] for place in range(start, len(raw), item)]


def write_part(source: Path, target: Path, prefix: str, most: int) -> Counter[str]:
    """The first `most` pictures of each class of one part; how many of each were written."""
    labels = read_idx(source / f"{prefix}-labels-idx1-ubyte.gz", 1)
    pictures = read_idx(source / f"{prefix}-images-idx3-ubyte.gz", SIDE * SIDE)
    written: Counter[str] = Counter()
    for number, (label, picture) in enumerate(zip(labels, pictures, strict=True)):
        name = CLASSES[label[0]]
        if written[name] < most:
            (target / name).mkdir(parents=True, exist_ok=True)
            Image.frombytes("L", (SIDE, SIDE), picture).save(target / name / f"{number:05d}.png")
            written[name] += 1
    return written


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=Path, metavar="DIR")
    parser.add_argument("--train", type=int, default=150, help="photographs of each class to train on")
    parser.add_argument("--test", type=int, default=50, help="photographs of each class to test on")
    parser.add_argument("--source", type=Path, default=Path("/usr/share/datasets/fashion-mnist"))
    options = parser.parse_args()
    if not options.source.is_dir():
        sys.exit(f"{options.source} is not there, expected the package's files: apt install dataset-fashion-mnist")
    if options.directory.exists():
        sys.exit(f"{options.directory} exists already, expected a new directory; nothing was written")
    print(f"note: {LICENCE}", file=sys.stderr)
    for part, prefix in PARTS.items():
        written = write_part(options.source, options.directory / part, prefix, getattr(options, part))
        print(f"{options.directory / part}: {', '.join(f'{name} {written[name]}' for name in CLASSES)}")


if __name__ == "__main__":
    main()
