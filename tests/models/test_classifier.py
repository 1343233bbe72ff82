from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch.testing import assert_close

import tiny
from bessemer.data.images import load_image, to_pixels
from bessemer.models.classifier import Classifier
from bessemer.models.vision import Tower

ATTRIBUTES = {"type": ["no", "yes"], "严重程度": ["无", "轻", "重"]}  # modules have a method "type"


def _classifier(tmp_path: Path) -> Classifier:
    torch.manual_seed(0)
    return Classifier(Tower.load(tiny.vision_tower(tmp_path / "tower")), ATTRIBUTES, dropout=0.5).eval()


@torch.no_grad()
def test_logits_are_a_linear_layer_on_the_mean_feature(tmp_path: Path) -> None:
    classifier = _classifier(tmp_path)
    pixels = torch.randn(3, 3, 64, 96)
    assert classifier.tower(pixels).shape[2:] == (2, 3)
    mean = classifier.tower.network.forward_features(pixels).mean((2, 3))
    logits = classifier(pixels)
    assert {name: tuple(value.shape) for name, value in logits.items()} == {"type": (3, 2), "严重程度": (3, 3)}
    for name, head in zip(ATTRIBUTES, classifier.heads, strict=True):
        assert_close(logits[name], mean @ head.weight.T + head.bias, atol=1e-5, rtol=0)


@torch.no_grad()
def test_saved_and_loaded_is_the_same(tmp_path: Path) -> None:
    classifier = _classifier(tmp_path)
    classifier.save(tmp_path / "saved")
    loaded = Classifier.load(tmp_path / "saved")
    pixels = torch.randn(2, 3, 32, 32)
    assert loaded.attributes == ATTRIBUTES and not loaded.training and not loaded.tower.training
    for name, value in loaded(pixels).items():
        assert_close(value, classifier(pixels)[name], atol=1e-5, rtol=0)
    # the tower is a tower like any other, for `align` to start from
    assert_close(Tower.load(tmp_path / "saved").eval()(pixels), classifier.tower(pixels), atol=1e-5, rtol=0)
    assert "轻" in (tmp_path / "saved" / "classifier" / "config.json").read_text(encoding="utf-8")


@torch.no_grad()
def test_heads_that_were_saved_by_name_are_read(tmp_path: Path) -> None:
    classifier = _classifier(tmp_path)
    classifier.save(tmp_path / "saved")
    path, names = tmp_path / "saved" / "classifier" / "model.safetensors", list(ATTRIBUTES)
    state = {f"{names[int(key[0])]}{key[1:]}": tensor for key, tensor in load_file(path).items()}
    save_file(state, path)
    pixels = torch.randn(1, 3, 32, 32)
    for name, value in Classifier.load(tmp_path / "saved")(pixels).items():
        assert_close(value, classifier(pixels)[name], atol=1e-5, rtol=0)


def test_bytes_are_normalised_as_to_pixels_does(tmp_path: Path) -> None:
    classifier = _classifier(tmp_path)
    path = next(tiny.photographs(tmp_path / "photos", 1, size=32).rglob("*.png"))
    image = load_image(path)
    raw = torch.tensor(list(image.tobytes()), dtype=torch.uint8).view(1, 32, 32, 3).permute(0, 3, 1, 2)
    expected = to_pixels(image, 32, classifier.tower.mean, classifier.tower.std)
    assert_close(classifier.normalised(raw)[0], expected, atol=1e-5, rtol=0)


@torch.no_grad()
def test_cells_say_what_lies_there(tmp_path: Path) -> None:
    """A linear layer on each cell's features; at first nothing is likely to be anywhere. Kept with the rest."""
    torch.manual_seed(0)
    tower = Tower.load(tiny.vision_tower(tmp_path / "tower"))
    classifier = Classifier(tower, ATTRIBUTES, places=["helmet", "漏油"]).eval()
    pixels = torch.randn(3, 3, 64, 96)
    logits, there, edges = classifier.judged_and_placed(pixels)
    assert there.shape == (3, 6, 2) and edges.shape == (3, 6, 2, 4)
    for name, value in classifier(pixels).items():
        assert torch.equal(value, logits[name])
    assert classifier.cells is not None
    corner = classifier.tower(pixels)[1, :, 1, 2] @ classifier.cells.weight.T + classifier.cells.bias
    assert_close(torch.cat([there[1, 5], edges[1, 5].flatten()]), corner, atol=1e-5, rtol=0)
    assert float(classifier.cells.bias[:2].sigmoid().max()) < 0.011
    assert float(classifier.cells.bias[2:].abs().max()) < 1  # edges begin anywhere near the cell
    classifier.save(tmp_path / "saved")
    _, *loaded = Classifier.load(tmp_path / "saved").judged_and_placed(pixels)
    assert torch.equal(loaded[0], there) and torch.equal(loaded[1], edges)
