"""Pictures with annotations for the tests of questions about them, generated: nobody drew these."""

from __future__ import annotations

from functools import lru_cache
from importlib.resources import files
from pathlib import Path

from bessemer.data.records import Example, ImageRef, Prompt
from bessemer.scenes.site import generate_scene
from bessemer.tasks.questions import prompts
from bessemer.tasks.visual import Pictured, visual_prompts, with_reason
from bessemer.tasks.visual_wordings import default_visual_wordings
from bessemer.tasks.wordings import Wordings, load_wordings


def site_wordings(language: str) -> Wordings:
    return load_wordings(Path(str(files("bessemer.tasks") / f"site.{language}.yaml")))


@lru_cache(maxsize=1)
def pictures() -> tuple[Pictured, ...]:
    """30 scenes of rising difficulty."""
    made = []
    for seed in range(30):
        scene = generate_scene(seed, seed % 5 / 4)
        labels = {v.rule: "yes" if v.broken else "no" for v in scene.verdicts if v.broken is not None}
        ref = ImageRef(f"/scenes/{seed}.jpg", scene.annotated.sha256)
        made.append(Pictured(f"site-{seed}", ref, scene.annotated, labels))
    return tuple(made)


def examples() -> list[Example]:
    return [Example(picture.id, picture.ref, dict(picture.labels)) for picture in pictures()]


@lru_cache(maxsize=4)
def all_prompts(language: str) -> tuple[Prompt, ...]:
    """Every kind of question about the pictures."""
    visual, rules = default_visual_wordings(language), site_wordings(language)
    by_id = {picture.id: picture for picture in pictures()}
    made = list(visual_prompts(visual, pictures(), "test", 0, language, rules=rules))
    for prompt in prompts(rules, examples(), "test", 0):
        reasoned = with_reason(prompt, visual, by_id[prompt.provenance["example"]], 0)
        assert isinstance(reasoned, Prompt)
        made.append(reasoned)
    return tuple(made)
