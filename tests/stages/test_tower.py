from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from torch.nn import functional

from bessemer.algos.classification import cell_loss
from bessemer.annotation.cells import flipped_cells
from bessemer.annotation.codec import encode_image, to_json
from bessemer.annotation.shapes import AnnotatedImage, Annotation, Box
from bessemer.config import Artifact
from bessemer.data.dataset import Dataset
from bessemer.data.images import load_image, to_pixels
from bessemer.errors import UserError
from bessemer.models.classifier import Classifier
from bessemer.models.precision import mixed
from bessemer.stages import tower
from bessemer.stages.tower import Config, run


def config(shop: Path, out: Path, **values: object) -> Config:
    settled: dict[str, object] = {"num_train_epochs": 1.0, "per_device_train_batch_size": 5, **values}
    return Config(dataset=str(shop / "import"), vision_tower=str(shop / "tiny-tower"), output_dir=str(out), **settled)  # type: ignore[arg-type]


def test_it_learns_and_what_is_saved_has_learnt_it(shop: Path, tmp_path: Path) -> None:
    out = run(config(shop, tmp_path / "tower", num_train_epochs=12.0, dropout=0.0, flips=False, learning_rate=4e-3))
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == list(range(1, 37))
    assert sum(row["loss"] for row in rows[-6:]) / 6 < 0.5 * rows[0]["loss"]
    classifier = Classifier.load(out / "model").eval()
    assert classifier.attributes == {"class": ["good", "scratched"]}
    right = 0
    examples = Dataset(shop / "import").examples("train")
    for example in examples:
        tower = classifier.tower
        pixels = to_pixels(load_image(example.image, shop), tower.image_size, tower.mean, tower.std)
        with torch.no_grad():
            logits = classifier(pixels[None])["class"][0]
        right += classifier.attributes["class"][int(logits.argmax())] == example.labels["class"]
    assert right >= 0.9 * len(examples)
    assert not list(out.glob("pixels.*"))


def test_the_positive_value_comes_last_whatever_the_wordings_say(shop: Path, tmp_path: Path) -> None:
    """A soft label is the probability of the positive value, and the last column is the one that learns it."""
    data = tmp_path / "import"
    shutil.copytree(shop / "import", data)
    wordings = yaml.safe_load((data / "wordings.yaml").read_text(encoding="utf-8"))
    wordings["attributes"]["class"]["values"] = ["scratched", "good"]
    (data / "wordings.yaml").write_text(yaml.safe_dump(wordings), encoding="utf-8")
    lines = []
    for line in (data / "examples.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        row["soft"] = {"class": 1.0}  # the raters saw scratches everywhere
        lines.append(json.dumps(row))
    (data / "examples.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    settings = config(shop, tmp_path / "tower", num_train_epochs=8.0, learning_rate=1e-2, dropout=0.0)
    settings.dataset = str(data)  # type: ignore[assignment]
    classifier = Classifier.load(run(settings) / "model").eval()
    assert classifier.attributes == {"class": ["good", "scratched"]}
    with torch.no_grad():
        good, scratched = classifier(torch.zeros(1, 3, 32, 32))["class"][0].tolist()
    assert scratched > good + 1


def test_another_size_is_kept_with_the_tower(shop: Path, tmp_path: Path) -> None:
    out = run(config(shop, tmp_path / "tower", image_size=48))
    assert json.loads((out / "model" / "config.json").read_text())["image_size"] == 48
    assert Classifier.load(out / "model").tower.image_size == 48


def test_what_follows_from_another_label_is_nothing_to_learn(shop: Path, tmp_path: Path) -> None:
    """Its photographs have no label of that name: the tower would learn nothing, and not say so."""
    shutil.copytree(shop / "import", tmp_path / "import")
    path = tmp_path / "import" / "wordings.yaml"
    words = yaml.safe_load(path.read_text())
    (name,) = words["attributes"]
    good, bad = words["attributes"][name]["values"]
    does = {"values": ["keep", "mend"], "from": name, "map": {good: "keep", bad: "mend"}, "advice": True}
    does |= {
        "says": {"keep": ["keep it"], "mend": ["mend it"]},
        "phrases": {"keep": ["Keep it."], "mend": ["Mend it."]},
    }
    words["attributes"] = {"does": does, **words["attributes"]}
    path.write_text(yaml.safe_dump(words, sort_keys=False))
    settings = config(shop, tmp_path / "tower")
    settings.dataset = Artifact(str(tmp_path / "import"))
    assert Classifier.load(run(settings) / "model").attributes.keys() == {name}
    settings = config(shop, tmp_path / "all", target=["all"])
    settings.dataset = Artifact(str(tmp_path / "import"))
    assert Classifier.load(run(settings) / "model").attributes.keys() == {name}
    settings = config(shop, tmp_path / "again", target=["does"])
    settings.dataset = Artifact(str(tmp_path / "import"))
    with pytest.raises(UserError, match=r"target \['does'\], expected some of .* labels of their own"):
        run(settings)


def test_refusals(shop: Path, texts: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"target \['colour'\], expected some of \['class'\]"):
        run(config(shop, tmp_path / "a", target=["colour"]))
    settings = config(shop, tmp_path / "b")
    settings.dataset = str(texts / "import")  # type: ignore[assignment]
    with pytest.raises(UserError, match="no training photographs"):
        run(settings)


def _drawn_on(shop: Path, out: Path) -> Path:
    """The shop's import, with a box drawn on the left or the right of every photograph, by its label."""
    shutil.copytree(shop / "import", out)
    lines = []
    for example in Dataset(shop / "import").examples("train"):
        size = load_image(example.image, shop).size
        left = example.labels["class"] == "good"
        box = Box(0 if left else size[0] / 2, size[1] / 4, size[0] / 2, size[1] / 2)
        image = AnnotatedImage("a.png", *size, example.image.sha256, 1, (Annotation("a", "thing", box),))
        lines.append(to_json(encode_image(image)))
    (out / "annotations.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return out


def test_where_things_are_is_learnt_cell_by_cell(shop: Path, tmp_path: Path) -> None:
    settings = config(shop, tmp_path / "tower", num_train_epochs=16.0, dropout=0.0, flips=False, learning_rate=4e-3)
    settings.dataset = str(_drawn_on(shop, tmp_path / "import"))  # type: ignore[assignment]
    settings.image_size = 64
    out = run(settings)
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert rows[0]["cells"] < 0.1 and sum(row["cells"] for row in rows[-6:]) / 6 > 0.7
    classifier = Classifier.load(out / "model").eval()
    assert classifier.places == ["thing"]
    with torch.no_grad():
        assert classifier.judged_and_placed(torch.zeros(1, 3, 64, 64))[1].shape == (1, 4, 1)
    settings.output_dir, settings.places_weight = str(tmp_path / "labels"), 0.0
    assert Classifier.load(run(settings) / "model").cells is None


def batches_of(settings: Config, folder: Path) -> tuple[tower._Batches, Classifier]:
    """What the stage would train on, of pixels and cells that no flip leaves as they are."""
    dataset = Dataset(Path(settings.dataset))
    drawn = tower._drawn(dataset)
    classifier = tower._classifier(settings, dataset, drawn)
    batches = tower._Batches(settings, dataset, classifier, folder / "pixels.u8", drawn)
    draw = np.random.default_rng(0)
    batches.pixels = torch.from_numpy(draw.integers(0, 256, batches.pixels.shape, np.uint8))
    assert batches.cells is not None
    there, edges = (draw.random(part.shape, np.float32) for part in batches.cells)
    batches.cells = there, edges
    return batches, classifier


@pytest.mark.parametrize(("flips", "upside_down", "views"), [(True, True, 4), (True, False, 2), (False, True, 1)])
def test_a_photograph_is_turned_with_its_places(
    shop: Path, tmp_path: Path, flips: bool, upside_down: bool, views: int
) -> None:
    """Its view is found by trying all four: which of them come, each with its places, and others at another step."""
    settings = config(shop, tmp_path / "out", flips=flips, upside_down=upside_down, image_size=64)
    settings.dataset = Artifact(str(_drawn_on(shop, tmp_path / "import")))
    batches, classifier = batches_of(settings, tmp_path)
    assert batches.cells is not None
    seen: list[tuple[bool, bool]] = []
    for step in range(4 * batches.per_epoch):
        (batch,) = batches(step)
        epoch, place = divmod(step, batches.per_epoch)
        chosen = batches.order(epoch)[place * batches.size : (place + 1) * batches.size]
        for row, index in enumerate(chosen):
            plain = classifier.normalised(batches.pixels[[index]])[0]
            every = [(mirrored, turned) for mirrored in (False, True) for turned in (False, True)]
            (view,) = (v for v in every if torch.equal(batch.pixels[row], plain.flip([-1][: v[0]] + [-2][: v[1]])))
            there, edges = flipped_cells((batches.cells[0][index], batches.cells[1][index]), *view)
            assert batch.places is not None
            assert np.array_equal(batch.places[0][row], there.reshape(batch.places[0][row].shape))
            assert np.array_equal(batch.places[1][row], edges.reshape(batch.places[1][row].shape))
            seen.append(view)
    assert len(set(seen)) == views and not (any(turned for _, turned in seen) and views < 4)
    drawn = [tuple(seen[start : start + batches.size]) for start in range(0, len(seen), batches.size)]
    assert views == 1 or len(set(drawn)) > len(drawn) / 2


def test_labels_are_smoothed_and_photographs_weigh_what_they_say(shop: Path, tmp_path: Path) -> None:
    data = _drawn_on(shop, tmp_path / "import")
    rows = [json.loads(line) for line in (data / "examples.jsonl").read_text(encoding="utf-8").splitlines()]
    for number, row in enumerate(rows):
        row["weight"] = 0.25 + number / 8
    (data / "examples.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    settings = config(shop, tmp_path / "out", label_smoothing=0.2)
    settings.dataset = Artifact(str(data))
    batches, _ = batches_of(settings, tmp_path)
    learnt = Dataset(data).examples("train")
    for step in range(batches.per_epoch):
        (batch,) = batches(step)
        shown = [learnt[index] for index in batches.order(0)[step * batches.size : (step + 1) * batches.size]]
        assert batch.weights.tolist() == pytest.approx([example.weight for example in shown])
        for target, example in zip(batch.targets["class"].tolist(), shown, strict=True):
            assert target == pytest.approx([0.9, 0.1] if example.labels["class"] == "good" else [0.1, 0.9])


def test_the_tower_learns_more_slowly_than_what_is_new(
    shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: dict[str, float] = {}

    def fit(_: Any, groups: Any, *rest: Any, **named: Any) -> None:
        given.update({name.split(".")[0]: group.learning_rate for group in groups for name in group.parameters})

    monkeypatch.setattr(tower, "fit", fit)
    settings = config(shop, tmp_path / "out", learning_rate=0.4, tower_rate=0.25)
    settings.dataset = Artifact(str(_drawn_on(shop, tmp_path / "import")))
    run(settings)
    assert given == {"tower": pytest.approx(0.1), "heads": 0.4, "cells": 0.4}


def given_to_fit(settings: Config, monkeypatch: pytest.MonkeyPatch) -> tuple[Classifier, list[Any], dict[str, Any]]:
    """The classifier that the stage would train, and what it would train it with: groups, batches and loss, options."""
    made: list[Classifier] = []
    given: list[Any] = []
    options: dict[str, Any] = {}
    begun = tower._classifier

    def kept(*places: Any) -> Classifier:
        made.append(begun(*places))
        return made[-1]

    def fit(_: Any, *places: Any, **named: Any) -> None:
        given.extend(places)
        options.update(named)

    monkeypatch.setattr(tower, "_classifier", kept)
    monkeypatch.setattr(tower, "fit", fit)
    run(settings)
    return made[0], given, options


def test_the_loss_is_that_of_the_formula(shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By hand: of every photograph what the raters' confidence weighs, and its places by the recipe's weight."""
    settings = config(shop, tmp_path / "out", places_weight=3.0, image_size=64)
    settings.dataset = Artifact(str(_drawn_on(shop, tmp_path / "import")))
    classifier, (_, batches, loss_of), _ = given_to_fit(settings, monkeypatch)
    (batch,) = batches(0)
    weights = torch.linspace(0.25, 2.0, batches.size)
    with torch.no_grad():
        loss = loss_of(replace(batch, weights=weights))
        with mixed("cpu"):
            logits, there, edges = classifier.judged_and_placed(batch.pixels)
        placed = cell_loss(there, batch.places[0], edges, batch.places[1]).sum
    entropies = functional.cross_entropy(logits["class"].float(), batch.targets["class"], reduction="none")
    assert float(loss.sum) == pytest.approx(float((weights * entropies).sum() + 3 * placed), rel=1e-5)
    assert float(loss.count) == pytest.approx(float(weights.sum())) and float(placed) > 0.1


def test_the_recipe_decides_how_it_learns(shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rates: dict[str, Any] = {"warmup_ratio": 0.25, "save_steps": 7, "weight_decay": 0.3, "num_train_epochs": 3.0}
    settings = config(shop, tmp_path / "a", dropout=0.35, frozen_blocks=1, depthwise=True, **rates)
    classifier, (groups, batches, _), named = given_to_fit(settings, monkeypatch)
    assert classifier.dropout.p == 0.35 and [group.weight_decay for group in groups] == [0.3, 0.3]
    assert (named["steps"], named["warmup_ratio"], named["save_steps"]) == (3 * batches.per_epoch, 0.25, 7)
    assert named["buffers"].keys() == dict(classifier.named_buffers()).keys() != set()
    learnt = set(groups[0].parameters)
    assert "tower.network.blocks.3.0.conv_dw.weight" in learnt
    assert not any(name.startswith(("tower.network.conv_stem.", "tower.network.blocks.0.")) for name in learnt)
    _, (groups, *_), _ = given_to_fit(config(shop, tmp_path / "b"), monkeypatch)
    # without them: the whole tower but its two depthwise convolutions
    learnt = set(groups[0].parameters)
    assert {"tower.network.conv_stem.weight", "tower.network.blocks.0.0.conv.weight"} <= learnt
    assert not any("conv_dw" in name for name in learnt)


def test_the_seed_decides_order_and_views(shop: Path, tmp_path: Path) -> None:
    data = Artifact(str(_drawn_on(shop, tmp_path / "import")))
    found = []
    for seed in (0, 1):
        settings = config(shop, tmp_path / "out", seed=seed)
        settings.dataset = data
        found.append(batches_of(settings, tmp_path)[0])
    first, other = found
    assert first.order(0) != other.order(0)
    other.order = first.order
    # the same photographs, turned otherwise
    (one,), (turned,) = first(0), other(0)
    assert torch.equal(one.targets["class"], turned.targets["class"]) and not torch.equal(one.pixels, turned.pixels)


def test_photographs_are_seen_in_other_lights(shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each in its own, another at each step, the same when the step is repeated; turned as without."""
    settings = config(shop, tmp_path / "out", image_size=64)
    settings.dataset = Artifact(str(_drawn_on(shop, tmp_path / "import")))
    batches, _ = batches_of(settings, tmp_path)
    (plain,) = batches(1)
    settings.color_jitter = 0.4
    (lit,), (again,), (later,) = batches(1), batches(1), batches(1 + batches.per_epoch)
    assert torch.equal(lit.pixels, again.pixels) and not torch.equal(lit.pixels, plain.pixels)
    drawn: list[float] = []

    def noted(pixels: torch.Tensor, brightness: torch.Tensor, contrast: torch.Tensor) -> torch.Tensor:
        drawn.extend([*brightness.tolist(), *contrast.tolist()])
        return pixels

    monkeypatch.setattr(tower, "relit", noted)
    (same,) = batches(1)
    batches(1 + batches.per_epoch)
    assert torch.equal(same.pixels, plain.pixels)
    assert len(set(drawn)) == len(drawn) == 4 * batches.size
    assert all(0.6 <= factor <= 1.4 for factor in drawn) and max(drawn) > 1.2 and min(drawn) < 0.8
    assert later.pixels.isfinite().all()
