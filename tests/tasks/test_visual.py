from __future__ import annotations

from collections import Counter

import pytest

from bessemer.annotation.geometry import bounding_box, iou
from bessemer.annotation.shapes import AnnotatedImage, Annotation, Box, Point, Polygon
from bessemer.data.records import Conversation, ImageRef, Prompt, decode_record, encode_record
from bessemer.tasks.judge import judge
from bessemer.tasks.questions import conversations
from bessemer.tasks.sightings import match, read_sightings, true_shapes
from bessemer.tasks.visual import Pictured, visual_conversations, visual_prompts, with_reason
from bessemer.tasks.visual_wordings import default_visual_wordings
from tasks.picture_samples import all_prompts, examples, pictures, site_wordings

REF = ImageRef("/a.jpg", "0" * 64)


def test_true_answers_are_judged_true_by_every_principle() -> None:
    for language in ("en", "zh"):
        for prompt in all_prompts(language)[:200]:
            scores = judge(prompt, prompt.facts["reference"], True)
            assert min(value or 0 for value in scores.values()) >= 0.75, (prompt.id, scores, prompt.facts["reference"])


def test_places_in_answers_are_those_of_the_annotations() -> None:
    seen: Counter[str] = Counter()
    by_id = {picture.id: picture for picture in pictures()}
    for prompt in all_prompts("en"):
        if prompt.facts["kind"] not in ("detect", "segment") or not prompt.facts["objects"]:
            continue
        seen[prompt.facts["kind"]] += 1
        matched = match(read_sightings(prompt.facts, prompt.facts["reference"]), true_shapes(prompt.facts))
        assert len(matched.overlaps) == matched.given == matched.wanted
        assert min(matched.overlaps) > 0.75, prompt.id  # small things are a few numbers wide
        image = by_id[prompt.provenance["example"]].image
        drawn = [a for a in image.annotations if a.shape is not None and a.label in prompt.facts["classes"]]
        assert len(drawn) == len(prompt.facts["objects"])
        boxes = sorted([b.x, b.y] for a in drawn if a.shape is not None for b in [bounding_box(a.shape)])
        if prompt.facts["kind"] == "detect":
            assert boxes == sorted([o["box"][0], o["box"][1]] for o in prompt.facts["objects"])
    assert seen["detect"] >= 20 and seen["segment"] >= 15


def test_outlines_as_text_keep_most_of_the_region() -> None:
    wheel = Polygon((tuple(tuple((60.0 + r * a, 60.0 + r * b) for a, b in _circle()) for r in (50, 20)),))
    image = AnnotatedImage("a.jpg", 384, 384, annotations=(Annotation("w", "spill", wheel),))
    picture = Pictured("a", REF, image, {})
    prompts = visual_prompts(default_visual_wordings("en"), [picture], "test", 0)
    outline = next(p for p in prompts if p.facts["kind"] == "segment" and p.facts["classes"] == ["spill"])
    ((_, shape),) = true_shapes(outline.facts)
    disc = Polygon(((wheel.parts[0][0],),))
    assert iou(shape, disc) > 0.93 and len(outline.facts["objects"][0]["rings"][0]) <= 12


def _circle() -> list[tuple[float, float]]:
    import math

    return [(math.cos(t / 50 * math.pi), math.sin(t / 50 * math.pi)) for t in range(100)]


def test_nothing_there_is_asked_for_too() -> None:
    answers = [p.facts["reference"] for p in all_prompts("en") if p.facts["kind"] in ("detect", "segment")]
    assert 3 <= sum("[" not in answer for answer in answers) < len(answers) / 2
    counts = Counter(p.facts["count"] for p in all_prompts("en") if p.facts["kind"] == "count")
    assert {0, 1, 2} <= set(counts)


def test_of_what_is_hidden_nobody_is_asked_to_say_that_there_is_none() -> None:
    wordings = default_visual_wordings("en")
    named: dict[bool, set[str]] = {}
    for hidden in (True, False):
        unseen = [{"id": "fire-1", "label": "fire"}] if hidden else []
        image = AnnotatedImage("a.jpg", 100, 100, raw={"site": {"unseen": unseen}})
        pictured = [Pictured("a", REF, image, {})]
        named[hidden] = {
            label
            for seed in range(60)
            for conversation in visual_conversations(wordings, pictured, seed)
            for label in conversation.facts["classes"]
        }
    assert named[False] - named[True] == {"fire"}


def test_who_always_says_one_is_seldom_right() -> None:
    counts = Counter(p.facts["count"] for p in all_prompts("en") if p.facts["kind"] == "count")
    assert max(counts.values()) < 0.45 * sum(counts.values()), counts


def test_nobody_is_asked_to_spell_out_a_ladder() -> None:
    """Of its outline twelve corners without holes say nothing; of a disc they say enough."""
    rungs = tuple(((x, 20.0), (x + 4.0, 20.0), (x + 4.0, 360.0), (x, 360.0)) for x in range(100, 300, 20))
    ladder = Polygon(tuple((rung,) for rung in rungs))
    asked = {}
    disc = Polygon(((tuple((60 + 50 * a, 60 + 50 * b) for a, b in _circle()),),))
    for name, shape in (("ladder", ladder), ("spill", disc)):
        image = AnnotatedImage("a.jpg", 384, 384, annotations=(Annotation("w", name, shape),))
        prompts = [
            p
            for seed in range(40)
            for p in visual_prompts(default_visual_wordings("en"), [Pictured("a", REF, image, {})], "test", seed)
        ]
        asked[name] = {tuple(p.facts["classes"]) for p in prompts if p.facts["kind"] == "segment"}
    assert ("spill",) in asked["spill"] and ("ladder",) not in asked["ladder"] and asked["ladder"]


def test_wordings_of_train_bank_and_test_stay_apart() -> None:
    for language in ("en", "zh"):
        wordings = default_visual_wordings(language)
        parts = [
            {m.text for c in visual_conversations(wordings, pictures(), 0, language) for m in c.messages[:1]},
            *(
                {p.messages[0].text for p in visual_prompts(wordings, pictures(), w, 0, language)}
                for w in ("bank", "test")
            ),
        ]
        assert all(parts) and not (parts[0] & parts[1] or parts[0] & parts[2] or parts[1] & parts[2])


def test_the_same_seed_gives_the_same_and_records_survive_the_disk() -> None:
    wordings = default_visual_wordings("en")
    first = visual_prompts(wordings, pictures(), "bank", 1)
    assert first == visual_prompts(wordings, pictures(), "bank", 1) != visual_prompts(wordings, pictures(), "bank", 2)
    assert [decode_record(encode_record(p), Prompt) for p in first[:40]] == first[:40]
    assert visual_prompts(wordings, pictures(), "bank", 1, limit=7) == first[:7]


def test_weights_say_how_many() -> None:
    counts = Counter(c.task for c in visual_conversations(default_visual_wordings("en"), pictures(), 0))
    assert counts["detect"] == 30 and 5 <= counts["segment"] <= 25


@pytest.mark.parametrize("steps", [1000, 0])
def test_pixels_or_thousandths(steps: int) -> None:
    image = AnnotatedImage("a.jpg", 500, 250, annotations=(Annotation("f", "fire", Box(50, 25, 100, 50)),))
    prompts = visual_prompts(default_visual_wordings("en"), [Pictured("a", REF, image, {})], "test", 3, steps=steps)
    told = next(p for p in prompts if p.facts["kind"] == "detect" and p.facts["classes"] == ["fire"])
    assert told.facts["reference"] == ("Fire [100, 100, 300, 300]." if steps else "Fire [50, 25, 150, 75].")


def test_points_and_other_labels() -> None:
    said = (Annotation("p", "nail", Point(5, 5)), Annotation("q", "bolt_head", Box(0, 0, 10, 10)))
    image = AnnotatedImage("a.jpg", 100, 100, annotations=said)
    wordings = default_visual_wordings("en")
    answers = {
        c.messages[1].text
        for s in range(20)
        for c in visual_conversations(wordings, [Pictured("a", REF, image, {})], s)
    }
    assert "Bolt head [0, 0, 100, 100]." in answers and not any("nail" in answer.casefold() for answer in answers)


def test_reasons_name_who_breaks_the_rule() -> None:
    visual, by_id = default_visual_wordings("en"), {picture.id: picture for picture in pictures()}
    placed = 0
    for conversation in conversations(site_wordings("en"), examples(), 0):
        picture = by_id[conversation.provenance["example"]]
        made = with_reason(conversation, visual, picture, 0)
        assert isinstance(made, Conversation)
        truth = picture.labels[made.facts["asked"][0]]
        assert made.messages[-1].text.startswith("Yes" if truth == "yes" else "No")
        assert ("[" in made.messages[-1].text) == (truth == "yes")
        assert made.scene == ("environment" if made.task in ("fire", "smoke", "spill") else made.scene)
        placed += truth == "yes"
    assert placed >= 20
    wrong = next(p for p in all_prompts("en") if p.facts["rule"] == "verdict" and p.facts["where"])
    text = wrong.facts["reference"].split("[")[0] + "[0, 0, 3, 3]."
    assert (judge(wrong, text, True)["truthfulness"] or 0) < (
        judge(wrong, wrong.facts["reference"], True)["truthfulness"] or 0
    )
