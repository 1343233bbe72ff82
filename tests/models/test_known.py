"""States that are computed once, beside those of a fresh pass."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import tiny
from bessemer.data.batches import TextBatch, text_batch
from bessemer.data.render import Rendered
from bessemer.errors import UserError
from bessemer.models import known
from bessemer.models.known import KnownStates, answering
from bessemer.models.model import Model


def _batch(*texts: tuple[int, ...]) -> TextBatch:
    """Sequences of which the last two tokens are targets."""
    return text_batch([Rendered(text, (False,) * (len(text) - 2) + (True,) * 2, (), ()) for text in texts])


def _seen(model: Model, *images: float) -> TextBatch:
    """The same words about images of one brightness each."""
    sequence = Rendered((5, 0, 0, 0, 0, 0, 7, 8), (False,) * 6 + (True,) * 2, (1, 2, 3, 4, 5), ())
    width = model.tower.channels if model.tower else 0
    features = torch.stack([torch.linspace(0, value, 5 * width).view(5, width) for value in images])
    return text_batch([sequence] * len(images), {"features": features})


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    counts: list[int] = []

    def counted(model: Model, batch: TextBatch) -> torch.Tensor:
        counts.append(len(batch.packed.lengths))
        return answering(model, batch)

    monkeypatch.setattr(known, "answering", counted)
    return counts


def test_what_was_prepared_is_not_computed_again(tmp_path: Path, computed: list[int]) -> None:
    model = tiny.text_model(tmp_path, dtype="fp32")
    first, second = _batch((1, 2, 3, 4), (9, 8, 7)), _batch((9, 8, 7), (5, 6, 7, 8, 9))
    mixed = _batch((5, 6, 7, 8, 9), (1, 2, 3, 4), (5, 6, 7, 8, 9))
    store = KnownStates(model, tmp_path / "states.safetensors")
    for batch in (first, second, mixed):
        store.prepare(batch)
    assert computed == [2, 2]
    store.save()
    again = KnownStates(model, tmp_path / "states.safetensors")
    for batch in (first, second, mixed):
        torch.testing.assert_close(again(batch), answering(model, batch), atol=1e-6, rtol=1e-5)
    assert torch.equal(store(second)[:2], store(first)[2:])  # the first batch that held it decides


def test_the_same_words_about_another_image_are_another_sequence(tmp_path: Path, computed: list[int]) -> None:
    model = tiny.composed_model(tmp_path, "fp32")
    store = KnownStates(model, tmp_path / "states.safetensors")
    batch = _seen(model, 0.1, 0.9)
    store.prepare(batch)
    store.prepare(_seen(model, 0.9))
    assert computed == [2] and len(store.states) == 2
    torch.testing.assert_close(store(_seen(model, 0.9, 0.1)), answering(model, batch).roll(2, 0), atol=1e-6, rtol=1e-5)


def test_other_targets_of_the_same_words_are_another_sequence(tmp_path: Path) -> None:
    model = tiny.text_model(tmp_path, dtype="fp32")
    store = KnownStates(model, tmp_path / "states.safetensors")
    early = text_batch([Rendered((1, 2, 3, 4, 5), (False, True, True, False, False), (), ())])
    for batch in (_batch((1, 2, 3, 4, 5)), early):
        store.prepare(batch)
        torch.testing.assert_close(store(batch), answering(model, batch))


@pytest.mark.parametrize("lengths", [(8, 2), (3, 3)])
def test_images_that_come_in_parts_are_refused(tmp_path: Path, lengths: tuple[int, int]) -> None:
    """As Qwen2-VL's: patches of all images in one row of them, beside the grid of each."""
    sequence = Rendered((5, 0, 0, 0, 0, 7, 8), (False,) * 5 + (True,) * 2, (1, 2, 3, 4), ())
    inputs = {"pixel_values": torch.zeros(lengths[0], 6), "image_grid_thw": torch.ones(lengths[1], 3)}
    batch = text_batch([sequence] * 2, inputs)
    with pytest.raises(UserError, match="expected cache_teacher=false"):
        KnownStates(tiny.text_model(tmp_path, dtype="fp32"), tmp_path / "states.safetensors").prepare(batch)
