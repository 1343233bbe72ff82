from __future__ import annotations

from bessemer.annotation.shapes import AnnotatedImage, Box
from bessemer.data.records import ImageRef
from bessemer.tasks.proposals import proposed_answer, proposed_caption, proposed_places
from bessemer.tasks.visual import Pictured, caption_prompts, place_prompts
from bessemer.tasks.visual_wordings import default_visual_wordings

PICTURE = Pictured("7", ImageRef("a.png", "0" * 64), AnnotatedImage("a.png", 200, 100), {})


def test_boxes_of_an_answer_become_annotations() -> None:
    prompts = place_prompts(default_visual_wordings("en"), [PICTURE], ["helmet", "oil_leak"], seed=0)
    assert [p.facts["classes"] for p in prompts] == [["helmet"], ["oil_leak"]]
    assert "helmet" in prompts[0].messages[-1].text and "oil leak" in prompts[1].messages[-1].text
    text = "Helmet [100, 200, 300, 400]; hard hat [0, 0, 500, 500]; [900, 900, 100, 100]; [5, 5]."
    found = proposed_places(prompts[0], text, 0.75)
    assert [a.shape for a in found] == [Box(20.0, 20.0, 40.0, 20.0), Box(0.0, 0.0, 100.0, 50.0)]
    assert {a.label for a in found} == {"helmet"} and {a.score for a in found} == {0.75}
    assert len({a.id for a in found}) == 2
    assert proposed_places(prompts[1], "There is no oil leak.", 0.9) == []


def test_captions_and_answers() -> None:
    (prompt,) = caption_prompts(default_visual_wordings("zh"), [PICTURE], seed=0)
    (said,) = proposed_caption(prompt, " 地上有油。\n", 0.5)
    assert (said.text, said.shape, said.score) == ("地上有油。", None, 0.5)
    assert proposed_caption(prompt, "  ", 0.5) == []
    prompt.facts["asked"].append("defect")
    (said,) = proposed_answer(prompt, {"no": 0.3, "yes": 0.7})
    assert (said.label, said.attributes, said.score) == ("defect", {"verdict": "yes"}, 0.7)
