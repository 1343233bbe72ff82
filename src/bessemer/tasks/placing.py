"""The rules for questions where things are: the boxes or outlines of an answer beside the true ones.

An overlap (intersection over union) of 0.85 and more is full marks, one of 0.1 and less none: between them a box is
as good as its overlap.
"""

from __future__ import annotations

from ..annotation.shapes import Polygon
from .answer import Answer, length_fit
from .sightings import LISTS, Matched, denies, match, plain, read_sightings, true_shapes

__all__ = ["clarity", "fluency", "harmlessness", "helpfulness", "marks", "truthfulness"]

FULL, LEAST, LOOSE = 0.85, 0.1, 0.3
SILENT = 0.15


def marks(matched: Matched) -> tuple[float, float]:
    """Precision and recall in which every pair counts by its overlap; 0 where there is nothing to divide by."""
    total = sum(min(1.0, (overlap - LEAST) / (FULL - LEAST)) for overlap in matched.overlaps)
    return total / max(1, matched.given), total / max(1, matched.wanted)


def _looked(answer: Answer) -> tuple[Matched, bool]:
    """The match, and whether the answer says that there is nothing."""
    sightings = read_sightings(answer.facts, answer.text)
    return match(sightings, true_shapes(answer.facts)), not sightings and denies(answer.text)


def _clean(answer: Answer) -> float:
    """A factor as `answer.clutter`, but names and numbers may come again in lists; the same thing twice may not."""
    sightings = read_sightings(answer.facts, answer.text)
    if not sightings:
        return max(0.0, 1 - 1.5 * answer.repeats) * max(0.0, 1 - 2 * answer.broken)
    seen = [(sighting.label, sighting.shape) for sighting in sightings]
    twice = sum(thing in seen[:place] for place, thing in enumerate(seen)) / len(seen)
    return max(0.0, 1 - 1.5 * twice) * max(0.0, 1 - 2 * answer.broken)


def truthfulness(answer: Answer) -> float:
    """How right what is said is (precision 0.7, recall 0.3); of nothing there, 1 for saying so and 0 for a box."""
    if not answer.tokens:
        return 0.0
    matched, denied = _looked(answer)
    if not matched.wanted:
        return 0.0 if matched.given else 1.0 if denied else SILENT
    if not matched.given:
        return 0.0 if denied else SILENT
    precision, recall = marks(matched)
    return 0.7 * precision + 0.3 * recall


def helpfulness(answer: Answer) -> float:
    """How much of what was asked for is found (recall 0.7, precision 0.3)."""
    if not answer.tokens:
        return 0.0
    matched, denied = _looked(answer)
    if not matched.wanted:
        return (1.0 if denied and not matched.given else 0.1) * _clean(answer)
    precision, recall = marks(matched)
    return (0.3 * precision + 0.7 * recall) * _clean(answer)


def harmlessness(answer: Answer) -> float:
    """What is there and denied 0; what is there and not shown is a danger nobody looks at; false alarms cost less;
    nothing said 0.5."""
    matched, denied = _looked(answer)
    if not answer.tokens or (not matched.given and not denied):
        return 0.5
    if denied:
        return 0.0 if matched.wanted else 1.0
    found = sum(overlap >= LOOSE for overlap in matched.overlaps)
    false_alarms = 1 - 0.3 * (matched.given - found) / matched.given
    return false_alarms * (0.3 + 0.7 * found / matched.wanted if matched.wanted else 1.0)


def fluency(answer: Answer) -> float:
    """Begun and closed as a sentence, nothing listed twice, no broken characters."""
    return answer.form * _clean(answer) * (1.0 if answer.ended else 0.5) if answer.tokens else 0.0


def clarity(answer: Answer) -> float:
    """Names and numbers alone, every list a readable box or outline of something named; about as long as asked."""
    if not answer.tokens:
        return 0.0
    sightings = read_sightings(answer.facts, answer.text)
    lists = len(LISTS.findall(answer.text))
    if not lists:
        well_formed = 1.0 if denies(answer.text) else 0.2
    else:
        good = [s.shape for s in sightings if s.shape is not None and s.label is not None]
        parts = sum(len(shape.parts) if isinstance(shape, Polygon) else 1 for shape in good)
        well_formed = min(1.0, parts / lists)
    spoken = len(plain(answer.text).split())
    chatter = max(0.0, min(1.0, 1 - 0.02 * (spoken - 6 * max(1, lists))))
    return well_formed * chatter * length_fit(answer) * _clean(answer) * (0.7 if answer.asks_back else 1.0)
