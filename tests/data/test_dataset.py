from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image

from bessemer.data.dataset import Dataset, decoded_pixels, example_targets
from bessemer.data.images import image_ref, load_image, to_pixels
from bessemer.data.records import Conversation, Document, Example, ImageRef, Message, Prompt, write_records
from bessemer.errors import UserError

IMAGE = ImageRef("a.png", "0" * 64)


def _example(id: str, split: str = "train", **fields: object) -> Example:
    values: dict[str, object] = {"labels": {"other": "x"}, "soft": {}, **fields}
    return Example(id, IMAGE, split=split, **values)  # type: ignore[arg-type]


def test_records_by_the_name_of_their_file(tmp_path: Path) -> None:
    asked, answered = Message("user", "有裂纹吗？"), Message("assistant", "没有。")
    write_records(tmp_path / "examples.jsonl", [_example("a"), _example("b", "test"), _example("c")])
    write_records(tmp_path / "train.jsonl", [Conversation("t", (asked, answered))])
    write_records(tmp_path / "ppo.jsonl", [Prompt("p", (asked,))])
    dataset = Dataset(tmp_path)
    assert [example.id for example in dataset.examples()] == ["a", "b", "c"]
    assert [example.id for example in dataset.examples("test")] == ["b"]
    assert dataset.conversations("train")[0].messages == (asked, answered)
    assert dataset.prompts("ppo")[0].messages[0].text == "有裂纹吗？"
    with pytest.raises(UserError, match=r"heldout\.jsonl: no such file, expected records of the import stage"):
        dataset.prompts("heldout")


def test_a_dataset_without_photographs_or_general_text(tmp_path: Path) -> None:
    assert Dataset(tmp_path).examples("train") == [] and Dataset(tmp_path).documents("test") == []
    with pytest.raises(UserError, match="no such folder, expected what the import stage wrote"):
        Dataset(tmp_path / "missing")


def test_general_text_is_trained_on_or_measured_never_both(tmp_path: Path) -> None:
    write_records(tmp_path / "general.jsonl", [Document(str(number), "text") for number in range(7)])
    dataset = Dataset(tmp_path)
    assert [document.id for document in dataset.documents("train")] == ["0", "3", "6"]
    assert [document.id for document in dataset.documents("test")] == ["1", "2", "4", "5"]


def test_decoded_pixels_are_those_that_a_tower_is_given(tmp_path: Path) -> None:
    """Kept as bytes, so within half a grey level of what `to_pixels` makes."""
    generator = torch.Generator().manual_seed(0)
    for name in ("a.png", "b.png"):
        pixels = torch.randint(0, 256, (20, 30, 3), generator=generator, dtype=torch.uint8)
        Image.fromarray(pixels.numpy()).save(tmp_path / name)
    images = [image_ref(tmp_path / name, tmp_path) for name in ("a.png", "b.png")]
    found = decoded_pixels(images, tmp_path, 8, tmp_path / "run" / "pixels.u8")
    assert found.shape == (2, 3, 8, 8) and found.dtype == torch.uint8
    for row, image in zip(found, images, strict=True):
        expected = to_pixels(load_image(image, tmp_path), 8, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
        assert float((row / 255 - expected).abs().max()) <= 0.5 / 255 + 1e-6


def test_pixels_are_decoded_once(tmp_path: Path) -> None:
    Image.new("RGB", (4, 4), (9, 9, 9)).save(tmp_path / "a.png")
    images = [image_ref(tmp_path / "a.png", tmp_path)]
    path = tmp_path / "pixels.u8"
    first = decoded_pixels(images, tmp_path, 4, path).clone()
    (tmp_path / "a.png").unlink()
    assert torch.equal(decoded_pixels(images, tmp_path, 4, path), first)
    # killed half-way: the file has its size, but nobody said that it is whole
    path.with_suffix(".done").unlink()
    with pytest.raises(UserError, match=r"a\.png"):
        decoded_pixels(images, tmp_path, 4, path)


def test_targets_by_hand() -> None:
    examples = [
        _example("soft", labels={"defect": "yes"}, soft={"defect": 0.67}),
        _example("hard", labels={"defect": "no"}),
        _example("silent"),
    ]
    targets = example_targets(examples, "defect", ["no", "yes"])
    assert torch.allclose(targets, torch.tensor([[0.33, 0.67], [1.0, 0.0], [0.0, 0.0]]))
    severity = [_example("s", labels={"severity": "b"}, soft={"severity": 0.5})]
    assert example_targets(severity, "severity", ["a", "b", "c"]).tolist() == [[0.0, 1.0, 0.0]]
