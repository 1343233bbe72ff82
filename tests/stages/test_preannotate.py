from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

import tiny
from bessemer.annotation.documents import save, save_labels, submit
from bessemer.annotation.intake import add_folder
from bessemer.annotation.listing import image_file, images_by_sha256
from bessemer.annotation.predictions import predictions
from bessemer.annotation.queue import queue
from bessemer.annotation.shapes import Annotation, Box, Label
from bessemer.annotation.store import create_project, open_project
from bessemer.config import Artifact
from bessemer.data.images import image_ref, load_image, to_pixels
from bessemer.data.records import Message, Prompt
from bessemer.data.splits import hashed_part
from bessemer.errors import UserError
from bessemer.models.classifier import Classifier
from bessemer.report.outputs import LabelledAnswer, ModelFacts, ModelOutputs
from bessemer.report.saved import write_outputs
from bessemer.stages.preannotate import Config, _margin, run


@pytest.fixture
def config(shop: Path, tmp_path: Path) -> Config:
    """A project of 24 photographs; 1 and 2 were drawn on by two annotators, who differ about 2."""
    tiny.photographs(tmp_path / "photographs")
    with create_project(tmp_path / "project", "parts") as project:
        add_folder(project, tmp_path / "photographs")
        save_labels(project, 0, (Label("dent"),), "ann")
        for image, bob in ((1, 5), (2, 25)):
            for annotator, side in (("ann", 5), ("bob", bob)):
                save(project, image, annotator, 0, [Annotation("1", "dent", Box(side, side, 10, 10))])
                submit(project, image, annotator, 1)
    return Config(
        model=Artifact(str(shop / "sft")), dataset=Artifact(str(shop / "import")), project=str(tmp_path / "project"),
        budget=3, response_length=8, dtype="fp32",
    )  # fmt: skip


def test_the_least_sure_come_first_with_what_the_model_says(
    config: Config, shop: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(replace(config, reward=Artifact(str(shop / "reward"))))
    with open_project(Path(config.project)) as project:
        items = queue(project)
        assert {q.image for q in items} == set(range(2, 25))  # 1 is done and agreed on, 2 waits for a second look
        reasons = {q.image: q.reasons for q in items}
        assert reasons[2] == {"annotators": 1.0}
        waiting = [q for q in items if q.image != 2]
        assert all(q.reasons.keys() >= {"margin"} and 0 <= q.reasons["margin"] <= 1 for q in waiting)
        assert max(q.reasons.get("heads", 0.0) for q in waiting) == 1.0
        assert [q.priority for q in items] == sorted((q.priority for q in items), reverse=True)
        said = {q.image: predictions(project, q.image, "ann") for q in waiting}
        first = [q.image for q in waiting[:3]]
        assert all(said[image] for image in first) and not any(said[q.image] for q in waiting[3:])
        for found in (said[image] for image in first):
            verdicts = [p for p in found if p.annotation.attributes]
            assert verdicts and all(0 < (p.score or 0) <= 1 for p in found)
            assert {p.annotation.source for p in found} == {"prediction"}
            version = found[0].model_version
            assert version.startswith(f"{shop.name}/sft ") and len(version.split()[-1]) == 8
    assert "23 photographs wait" in capsys.readouterr().out


def test_the_tower_answers_for_what_it_was_taught(config: Config, shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By its own probabilities, beside a model and alone; of others the model is asked."""
    monkeypatch.setattr("bessemer.stages.preannotate.AT_ONCE", 5)
    tower = Artifact(str(shop / "tower"))
    classifier = Classifier.load(shop / "tower" / "model")
    (name,) = classifier.attributes
    found = {}
    for kind, models in (("both", config.model), ("tower", Artifact(""))):
        run(replace(config, model=models, tower=tower, version=kind, budget=30))
        with open_project(Path(config.project)) as project:
            found[kind] = {
                q.image: {
                    p.annotation.label: (p.annotation.attributes.get("verdict"), p.score)
                    for p in predictions(project, q.image, "ann", kind)
                    if p.annotation.attributes and p.annotation.shape is None
                }
                for q in queue(project)
            }
            margins = {q.image: q.reasons.get("margin") for q in queue(project)}
            refs = {q.image: image_file(project, q.image) for q in queue(project)}
    assert found["tower"].keys() == found["both"].keys()
    for image, file in refs.items():
        if image == 2:
            continue
        seen = classifier.tower
        pixels = to_pixels(load_image(image_ref(file)), seen.image_size, seen.mean, seen.std)
        with torch.no_grad():
            chances = classifier(pixels[None])[name][0].softmax(-1)
        low, high = sorted(chances.tolist())[-2:]
        assert margins[image] == pytest.approx(1 - (high - low), abs=0.03)  # bf16, where it is
    everything = {label for said in found["tower"].values() for label in said}
    assert len(everything) <= 1 and all(found["both"][i].items() >= found["tower"][i].items() for i in found["both"])


def test_what_is_measured_on_does_not_wait(config: Config) -> None:
    run(replace(config, test_share=0.5))
    with open_project(Path(config.project)) as project:
        sha256 = {id: key for key, some in images_by_sha256(project).items() for id in some}
        kept = {id for id in range(3, 25) if hashed_part(sha256[id], 0, 0.5, 0) != "test"}
        assert {q.image for q in queue(project)} - {2} == kept and 4 < len(kept) < 18


def test_what_is_measured_on_waits_where_it_was_got_wrong_alone(config: Config, tmp_path: Path) -> None:
    """Two people differ about 2: with it in the test part that is no reason. What the model got wrong there is one, but
    no proposal is made, and the margin is of others."""
    with open_project(Path(config.project)) as project:
        sha256 = {id: key for key, some in images_by_sha256(project).items() for id in some}
    seed = next(s for s in range(99) if all(hashed_part(sha256[id], s, 0.5, 0) == "test" for id in (1, 2)))
    run(replace(config, test_share=0.5, seed=seed))
    with open_project(Path(config.project)) as project:
        waits = {q.image for q in queue(project)}
    assert waits == {id for id in range(3, 25) if hashed_part(sha256[id], seed, 0.5, 0) != "test"}
    answers = (LabelledAnswer("0", "shape", "round", "square", image_sha256=sha256[1]),)
    write_outputs(tmp_path / "models", ModelOutputs("sft", ModelFacts("tiny"), answers, ()))
    run(replace(config, test_share=0.5, seed=seed, evaluated=Artifact(str(tmp_path / "models" / "sft"))))
    with open_project(Path(config.project)) as project:
        reasons = {q.image: q.reasons for q in queue(project)}
        assert reasons.keys() - waits == {1} and reasons[1] == {"failed": 1.0}
        assert predictions(project, 1, "ann") == []


def test_what_was_got_wrong_waits_and_weighs(config: Config, tmp_path: Path) -> None:
    with open_project(Path(config.project)) as project:
        sha256 = {id: key for key, some in images_by_sha256(project).items() for id in some}
    answers = tuple(
        LabelledAnswer(str(n), "shape", "round", parsed, image_sha256=sha256[1])
        for n, parsed in enumerate(("round", "square", None, "square"))
    )
    write_outputs(tmp_path / "models", ModelOutputs("sft", ModelFacts("tiny"), answers, ()))
    run(replace(config, evaluated=Artifact(str(tmp_path / "models" / "sft"))))
    with open_project(Path(config.project)) as project:
        assert {q.image: q.reasons.get("failed") for q in queue(project)}[1] == 0.75


def test_a_question_weighs_as_often_as_it_was_got_wrong() -> None:
    asked = [
        (Prompt(name, (Message("user", "?"),), facts={"asked": [name]}), {"yes": share, "no": 1 - share})
        for name, share in (("rust", 0.5), ("crack", 1.0))
    ]
    assert _margin(asked, {}) == pytest.approx(0.5)  # nothing is known: all weigh the same
    assert _margin(asked, {"rust": 0.6, "crack": 0.2}) == pytest.approx(0.75)
    assert _margin(asked, {"rust": 0.0, "crack": 0.45}) == pytest.approx(0.1)  # never wrong counts 0.05


def test_a_random_order_has_no_reasons(config: Config) -> None:
    orders = []
    for seed in (0, 0, 1):
        run(replace(config, order="random", seed=seed))
        with open_project(Path(config.project)) as project:
            assert not any(q.reasons for q in queue(project))
            orders.append([q.image for q in queue(project)])
    assert orders[0] == orders[1] != orders[2] and sorted(orders[0]) == list(range(3, 25))


def test_refusals(config: Config) -> None:
    with pytest.raises(UserError, match=r"expected a model \(or a tower\) and a project"):
        run(replace(config, project=""))
    with pytest.raises(UserError, match="reward without a model"):
        run(replace(config, model=Artifact(""), tower=Artifact("t"), reward=Artifact("r")))
    with pytest.raises(UserError, match="tower=nowhere: no classifier is there"):
        run(replace(config, tower=Artifact("nowhere")))
    with pytest.raises(UserError, match="budget=0, expected at least 1"):
        run(replace(config, budget=0))
    with open_project(Path(config.project)) as project:
        for image in range(3, 25):
            save(project, image, "ann", 0, [])
    with pytest.raises(UserError, match="no photograph waits"):
        run(config)
