"""Are the generated scenes too easy? A detector of coloured blobs, and one that always says the average box, against
the truth; and how many scenes a core makes in a second.

    python benchmarks/scenes.py [scenes, default 120]

The blob detector learns from half of the scenes how much likelier each colour (8 x 8 x 8 bins of hue, saturation and
value) is on a label than elsewhere. Connected pixels above a threshold are finds, scored by their mean likelihood
ratio; the threshold of each label is the one of five that finds most (AP50) in the scenes it learnt from. It is
measured on the other half.
"""

from __future__ import annotations

import sys
import time
from collections import Counter, defaultdict
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import ImageFilter
from scipy import ndimage

from bessemer.annotation.geometry import bounding_box, mask_from_shape
from bessemer.annotation.rle import array_from_mask
from bessemer.annotation.shapes import Box
from bessemer.report.placed import Find, Real, average_precision
from bessemer.scenes.site import SIZE, SiteScene, generate_scene
from bessemer.scenes.truth import LABELS

Learnt = dict[str, tuple[NDArray[np.float64], float, float, float]]


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 120
    began = time.process_time()
    scenes = [generate_scene(seed, seed % 5 / 4) for seed in range(count)]
    print(f"{count / (time.process_time() - began):.1f} scenes a second of one core's time, {SIZE} x {SIZE}")
    train, test = scenes[::2], scenes[1::2]
    truth = [real for scene in test for real in reals(scene)]
    learnt = learn(train)
    rows = {
        "average box": [find for scene in test for find in average_boxes(train, scene)],
        "colour blobs": [find for scene in test for find in blobs(learnt, scene)],
    }
    print(f"{'':22} {'AP':>6} {'AP50':>6} {'AR100':>6}   AP50 of each label")
    for name, finds in rows.items():
        scores = average_precision(truth, finds)
        of = {}
        for label in LABELS:
            mine = average_precision([t for t in truth if t.label == label], [f for f in finds if f.label == label])
            of[label] = mine["AP50"]
        each = "  ".join(f"{label} {value:.2f}" for label, value in of.items() if value is not None)
        print(f"{name:22} {scores['AP']:6.3f} {scores['AP50']:6.3f} {scores['AR100']:6.3f}   {each}")
    verdicts(train, test)


def reals(scene: SiteScene) -> list[Real]:
    return [
        Real(scene.annotated.name, str(a.label), bounding_box(a.shape))
        for a in scene.annotated.annotations
        if a.shape is not None
    ]


def average_boxes(train: Sequence[SiteScene], scene: SiteScene) -> list[Find]:
    """One box a label, the mean of all in training, scored by how many there were."""
    boxes: dict[str, list[Box]] = defaultdict(list)
    for other in train:
        for real in reals(other):
            assert isinstance(real.shape, Box)
            boxes[real.label].append(real.shape)
    return [
        Find(scene.annotated.name, label, Box(*np.mean([[b.x, b.y, b.width, b.height] for b in some], axis=0).tolist()))
        for label, some in boxes.items()
    ]


def bins(scene: SiteScene) -> NDArray[np.int64]:
    """(height, width) the number of each pixel's colour, of a slightly smoothed picture."""
    smooth = np.asarray(scene.image.filter(ImageFilter.BoxBlur(1)).convert("HSV")).astype(np.int64) // 32
    return smooth @ np.array([64, 8, 1])


def learn(train: Sequence[SiteScene]) -> Learnt:
    """Label -> log-likelihood ratio of the 512 colours, smallest and largest area, and the best threshold."""
    everywhere = np.ones(512)
    on: dict[str, NDArray[np.float64]] = defaultdict(lambda: np.ones(512))
    areas: dict[str, list[float]] = defaultdict(list)
    for scene in train:
        colour = bins(scene)
        everywhere += np.bincount(colour.reshape(-1), minlength=512)
        for a in scene.annotated.annotations:
            if a.shape is not None and a.label:
                inside = array_from_mask(mask_from_shape(a.shape, SIZE, SIZE))
                on[a.label] += np.bincount(colour[inside], minlength=512)
                areas[a.label].append(float(inside.sum()))
    found: Learnt = {}
    for label, counts in on.items():
        rest = np.maximum(everywhere - counts, 1)
        ratio = np.log(counts / counts.sum()) - np.log(rest / rest.sum())
        sizes = (float(np.percentile(areas[label], 5)) / 2, float(np.percentile(areas[label], 95)) * 2)
        truth = [real for scene in train for real in reals(scene) if real.label == label]
        best = max(
            (0.5, 1.0, 1.5, 2.0, 3.0),
            key=lambda least: (
                average_precision(truth, [f for scene in train for f in blobs({label: (ratio, *sizes, least)}, scene)])[
                    "AP50"
                ]
                or 0.0
            ),
        )
        found[label] = (ratio, *sizes, best)
    return found


def blobs(learnt: Learnt, scene: SiteScene) -> list[Find]:
    colour = bins(scene)
    finds = []
    for label, (ratio, smallest, largest, least) in learnt.items():
        likely = ratio[colour]
        inside = ndimage.binary_closing(ndimage.uniform_filter(likely, 3) >= least)
        marked, _ = ndimage.label(inside)
        sizes = np.bincount(marked.reshape(-1))
        for number, place in enumerate(ndimage.find_objects(marked), start=1):
            if smallest <= sizes[number] <= largest:
                rows, columns = place
                box = Box(columns.start, rows.start, columns.stop - columns.start, rows.stop - rows.start)
                score = float(likely[place][marked[place] == number].mean())
                finds.append(Find(scene.annotated.name, label, box, score))
    return finds


def verdicts(train: Sequence[SiteScene], test: Sequence[SiteScene]) -> None:
    """The share of right verdicts of always saying the more frequent one."""
    print("verdicts: broken in the test half, and right when the more frequent answer of the other half is given")
    for number, verdict in enumerate(test[0].verdicts):
        often = Counter(scene.verdicts[number].broken for scene in train if scene.verdicts[number].broken is not None)
        known = [scene.verdicts[number].broken for scene in test if scene.verdicts[number].broken is not None]
        answer = often.most_common(1)[0][0]
        right = sum(value == answer for value in known) / len(known)
        print(f"  {verdict.rule:22} {sum(map(bool, known)):3} of {len(known):3}   {right:.2f}")


if __name__ == "__main__":
    main()
