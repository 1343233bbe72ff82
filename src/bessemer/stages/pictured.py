"""Imports of pictures with annotations: generated scenes of a site, snapshots of an annotation project."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path

from bessemer.annotation.codec import encode_image, to_json
from bessemer.annotation.shapes import AnnotatedImage
from bessemer.annotation.snapshot import read_snapshot
from bessemer.data.images import image_ref
from bessemer.data.mixture import permutation
from bessemer.data.records import SPLITS, Conversation, Example, ImageRef, Prompt
from bessemer.data.schema import need
from bessemer.data.splits import hashed_split, stratified_split
from bessemer.disk import write_atomic
from bessemer.run import Run
from bessemer.scenes.site import generate_scene
from bessemer.stages.imported import Imported, bank_shares, limited
from bessemer.tasks.questions import Part, conversations, prompts
from bessemer.tasks.visual import Pictured, visual_conversations, visual_prompts, with_reason
from bessemer.tasks.visual_wordings import VisualWordings
from bessemer.tasks.wordings import Wordings, load_wordings

__all__ = [
    "ANNOTATIONS",
    "Annotated",
    "Wanted",
    "generated_pictures",
    "pictured_import",
    "site_wordings",
    "snapshot_pictures",
]

ANNOTATIONS = "annotations.jsonl"  # the truth, a line an image (`annotation.codec`), for what measures places
Wanted = Mapping[
    str, int
]  # "train", "test": pictures; "rank", "ppo", "heldout": questions; 0: of "rank" and "ppo" none, else all
Annotated = list[tuple[Example, AnnotatedImage]]


def generated_pictures(run: Run, count: int, difficulty: float, seed: int, shares: tuple[float, float]) -> Annotated:
    """`count` scenes in the run's folder `images`, of difficulties spread evenly from 0 to `difficulty`; shares: of
    test, and of validation among the rest. A rule that cannot be judged in a picture is no label of it.

    Raises:
        UserError: fewer than three pictures, a difficulty outside [0, 1].
    """
    need(0 <= difficulty <= 1, f"difficulty {difficulty!r}", "0 to 1")
    scenes: list[tuple[ImageRef, AnnotatedImage, dict[str, str]]] = []
    with run.track(count, "scenes") as bar:
        for number in range(count):
            # The golden ratio spreads any number of levels evenly, in no order that the split could follow.
            level = round(difficulty * ((number * 0.6180339887498949) % 1), 4)
            scene = generate_scene(seed * 1_000_000 + number, level)
            path = run.directory / "images" / scene.annotated.name
            write_atomic(path, scene.encoded)
            labels = {v.rule: "yes" if v.broken else "no" for v in scene.verdicts if v.broken is not None}
            scenes.append((ImageRef(f"images/{scene.annotated.name}", scene.annotated.sha256), scene.annotated, labels))
            bar.advance(1)
            run.raise_if_stopped()
    strata = [(labels.get("no helmet"), labels.get("fire")) for _, _, labels in scenes]
    parts = stratified_split(strata, seed, *shares)
    made: Annotated = []
    for (ref, image, labels), part in zip(scenes, parts, strict=True):
        split = next(name for name in SPLITS if name == part)
        facts = {"dataset": "site", "generated": True, "difficulty": image.raw["site"]["difficulty"]}
        stem = image.name.removesuffix(".jpg")
        made.append((Example(stem, ref, labels, group=stem, split=split, provenance=facts), image))
    return made


def snapshot_pictures(directory: Path, seed: int, shares: tuple[float, float]) -> tuple[Annotated, list[str]]:
    """The images of a snapshot with one document each (`Snapshot.annotation_set`), split by the hashes of their bytes,
    so that an image that is tested on stays so when others join it; and the classes that were looked for.

    Labels: of every class of the label set (and every other one that was drawn) whether it is there, yes or no; and
    the `verdict` attributes (yes, no) of annotations without a shape.

    Raises:
        UserError: see `read_snapshot`; no class at all; an image that is not where it was or has changed.
    """
    snapshot = read_snapshot(directory)
    found = snapshot.annotation_set()
    drawn = [a.label for image in found.images for a in image.annotations if a.shape is not None and a.label]
    classes = list(dict.fromkeys([*(label.name for label in found.labels), *drawn]))
    need(classes, f"{directory} without a class", "a label set, or labelled shapes")
    parts = hashed_split([image.sha256 or image.name for image in found.images], seed, *shares)
    made: Annotated = []
    for image, part in zip(found.images, parts, strict=True):
        ref = image_ref(Path(snapshot.manifest["folders"][image.name]) / image.name)
        ok = image.sha256 in ("", ref.sha256)
        need(ok, f"{ref.path} has changed since it was annotated (sha256)", "the same bytes")
        there = {a.label for a in image.annotations if a.shape is not None}
        labels = {name: "yes" if name in there else "no" for name in classes}
        for a in image.annotations:
            if a.shape is None and a.label and a.attributes.get("verdict") in ("yes", "no"):
                labels[a.label] = a.attributes["verdict"]
        split = next(name for name in SPLITS if name == part)
        facts = {"dataset": "annotations", "snapshot": snapshot.hash}
        made.append((Example(image.name, ref, labels, split=split, provenance=facts), image))
    return made, classes


def pictured_import(
    run: Run,
    format: str,
    found: Annotated,
    text: bytes,
    visual: VisualWordings,
    language: str,
    wanted: Wanted,
    seed: int,
) -> Imported:
    """Conversations and prompts: verdicts with reasons by the wordings file `text`, and places, numbers and
    descriptions by the visual wordings. The truth goes into annotations.jsonl."""
    kept = limited([example for example, _ in found], wanted, seed)
    ids = {example.id for example in kept}
    images = {example.id: image for example, image in found if example.id in ids}
    write_atomic(run.directory / ANNOTATIONS, b"".join(_line(images[example.id]) for example in kept))
    write_atomic(run.directory / "wordings.yaml", text)
    rules = load_wordings(run.directory / "wordings.yaml")
    pictures = {e.id: Pictured(e.id, e.image, images[e.id], e.labels, e.group) for e in kept}
    parts = {split: [example for example in kept if example.split == split] for split in SPLITS}
    asking = _Asking(visual, rules, pictures, language, seed)
    bank = asking.prompts(parts["train"], "bank", wanted["rank"] + wanted["ppo"])
    return Imported(
        format,
        kept,
        {str(split): asking.conversations(parts[split]) for split in SPLITS},
        {**bank_shares(bank, wanted), "heldout": asking.prompts(parts["test"], "test", wanted["heldout"] or None)},
        wordings=text,
    )


def _line(image: AnnotatedImage) -> bytes:
    return to_json(encode_image(image)).encode() + b"\n"


class _Asking:
    """Makes questions of both kinds of the same pictures. Final."""

    def __init__(
        self,
        visual: VisualWordings,
        rules: Wordings,
        pictures: Mapping[str, Pictured],
        language: str,
        seed: int,
    ) -> None:
        self.visual, self.rules, self.pictures = visual, rules, pictures
        self.language, self.seed = language, seed

    def conversations(self, examples: Sequence[Example]) -> list[Conversation]:
        """Of verdicts, with reasons, and of places."""
        shown = [self.pictures[example.id] for example in examples]
        made = visual_conversations(self.visual, shown, self.seed, self.language, rules=self.rules)
        for conversation in conversations(self.rules, examples, self.seed):
            picture = self.pictures[conversation.provenance["example"]]
            reasoned = with_reason(conversation, self.visual, picture, self.seed)
            assert isinstance(reasoned, Conversation)
            made.append(reasoned)
        return made

    def prompts(self, examples: Sequence[Example], which: Part, limit: int | None) -> list[Prompt]:
        """Both kinds mixed, so that every prefix holds both by their numbers."""
        shown = [self.pictures[example.id] for example in examples]
        visual = visual_prompts(
            self.visual, shown, which, self.seed, self.language, rules=self.rules, limit=limit
        )  # fmt: skip
        ruled: list[Prompt] = []
        for prompt in prompts(self.rules, examples, which, self.seed, limit=limit):
            reasoned = with_reason(prompt, self.visual, self.pictures[prompt.provenance["example"]], self.seed)
            assert isinstance(reasoned, Prompt)
            ruled.append(reasoned)
        both = [(i / max(1, len(some)), prompt) for some in (visual, ruled) for i, prompt in enumerate(some)]
        order = permutation(len(both), "pictured", self.seed, which)
        ordered = sorted(zip(order, both, strict=True), key=lambda item: (item[1][0], item[0]))
        return [prompt for _, (_, prompt) in ordered][:limit]


def site_wordings(language: str) -> bytes:
    """Our questions about the ten rules of a site."""
    return files("bessemer.tasks").joinpath(f"site.{language}.yaml").read_bytes()
