from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.testing import assert_close
from torchvision.transforms.functional import adjust_brightness, adjust_contrast

import tiny
from bessemer import interrupts
from bessemer.data.images import image_ref, load_image, to_pixels
from bessemer.data.records import ImageRef
from bessemer.errors import Stopped
from bessemer.models import features
from bessemer.models.features import CHUNK, VIEWS, FeatureStore, flipped, relit
from bessemer.models.vision import Tower, pool


@pytest.fixture
def images(tmp_path: Path) -> list[ImageRef]:
    folder = tiny.photographs(tmp_path / "photos", 6)
    return [image_ref(path, tmp_path) for path in sorted(folder.rglob("*.png"))]


def _tower(tmp_path: Path, seed: int = 0) -> Tower:
    return Tower.load(tiny.vision_tower(tmp_path / f"tower{seed}", seed)).eval()


@torch.no_grad()
def _plain(tower: Tower, image: ImageRef, root: Path, view: int = 0) -> Tensor:
    """The tower in float32 on one image alone."""
    pixels = to_pixels(load_image(image, root), tower.image_size, tower.mean, tower.std)
    axes = {0: [], 1: [2], 2: [1], 3: [1, 2]}[view]
    return pool(tower(pixels.flip(axes)[None]), 2)[0]


def test_another_light_is_that_of_torchvision() -> None:
    """Its functions on one photograph at a time, numbers from 0 to 1."""
    pixels = torch.randint(0, 256, (4, 3, 9, 7), dtype=torch.uint8, generator=torch.Generator().manual_seed(3))
    brightness, contrast = torch.tensor([1.0, 0.7, 1.3, 1.4]), torch.tensor([1.0, 1.2, 0.6, 1.4])
    expected = [
        adjust_contrast(adjust_brightness(image.float() / 255, float(light)), float(other))
        for image, light, other in zip(pixels, brightness, contrast, strict=True)
    ]
    assert_close(relit(pixels, brightness, contrast) / 255, torch.stack(expected), atol=2e-4, rtol=0)
    assert_close(relit(pixels, torch.ones(4), torch.ones(4)), pixels.float())


def test_views_are_flips() -> None:
    pixels = torch.arange(12.0).view(1, 3, 4)
    assert VIEWS == 4 and flipped(pixels, 0) is pixels
    assert flipped(pixels, 1)[0, 0].tolist() == [3, 2, 1, 0]  # mirrored: left and right
    assert flipped(pixels, 2)[0, 0].tolist() == [8, 9, 10, 11]  # upside down
    assert flipped(pixels, 3)[0, 0].tolist() == [11, 10, 9, 8]


@pytest.mark.parametrize("view", range(4))
def test_features_are_the_tower_s_to_two_per_cent(tmp_path: Path, images: list[ImageRef], view: int) -> None:
    """The tower runs in bfloat16 under autocast, 8 bits a product: a hundredth or two of the features' size."""
    tower = _tower(tmp_path)
    store = FeatureStore(tower, 2, tmp_path, tmp_path / "cache")
    features = store.features(images, view)
    assert features.shape == (6, 5, tower.channels) and features.dtype == torch.float16
    for row, image in zip(features, images, strict=True):
        exact = _plain(tower, image, tmp_path, view)
        assert float((row.float() - exact).norm() / exact.norm()) < 0.02


def test_an_image_alone_is_the_image_in_a_batch(tmp_path: Path, images: list[ImageRef]) -> None:
    """To a bfloat16's last bit of the largest feature: a kernel may add up in another order."""
    tower = _tower(tmp_path)
    together = FeatureStore(tower, 2, tmp_path, tmp_path / "one").features(images)
    alone = FeatureStore(tower, 2, tmp_path, tmp_path / "two")
    for row, image in zip(together, images, strict=True):
        assert_close(alone.features([image])[0], row, atol=float(row.abs().max()) / 128, rtol=0)
    pairs = FeatureStore(tower, 2, tmp_path, tmp_path / "three")
    assert torch.equal(torch.cat([pairs.features(images[k : k + 2]) for k in (0, 2, 4)]), together)


def test_what_was_computed_is_not_computed_again(tmp_path: Path, images: list[ImageRef]) -> None:
    tower = _tower(tmp_path)
    store = FeatureStore(tower, 2, tmp_path, tmp_path / "cache")
    assert store.prepare(images[:4], views=2) == 8
    assert store.prepare(images, views=2) == 4
    first = store.features(images, 1)
    for path in (tmp_path / "photos").rglob("*.png"):
        path.unlink()
    again = FeatureStore(_tower(tmp_path), 2, tmp_path, tmp_path / "cache")
    assert again.prepare(images, views=2) == 0
    assert torch.equal(again.features(images, 1), first)


def test_who_asks_of_one_photograph_reads_one_file(tmp_path: Path, images: list[ImageRef]) -> None:
    """However many there are in the cache: one answer must not wait for all of them."""
    store = FeatureStore(_tower(tmp_path), 2, tmp_path, tmp_path / "cache")
    store.prepare(images[:2])
    store.prepare(images[2:])
    again = FeatureStore(_tower(tmp_path), 2, tmp_path, tmp_path / "cache")
    assert not again.known and len(again.filed) == 6
    assert torch.equal(again.features(images[:1]), store.features(images[:1]))
    assert (len(again.known), len(again.filed)) == (2, 4)
    for path in again.folder.iterdir():
        path.unlink()  # by another process, which found them damaged
    assert again.prepare(images) == 4 and not again.filed
    assert torch.equal(again.features(images), store.features(images))


def test_other_weights_or_another_grid_have_another_folder(tmp_path: Path, images: list[ImageRef]) -> None:
    cache = tmp_path / "cache"
    store = FeatureStore(_tower(tmp_path), 2, tmp_path, cache)
    assert FeatureStore(_tower(tmp_path), 2, tmp_path, cache).folder == store.folder
    trained = _tower(tmp_path)
    with torch.no_grad():
        next(trained.parameters()).flatten()[0].add_(1e-3)
    moved = _tower(tmp_path)
    next(buffer for name, buffer in moved.named_buffers() if name.endswith("running_mean")).add_(1e-3)
    resized = _tower(tmp_path)
    resized.settings["image_size"] = 64
    others = [
        FeatureStore(_tower(tmp_path, seed=1), 2, tmp_path, cache),
        FeatureStore(trained, 2, tmp_path, cache),
        FeatureStore(moved, 2, tmp_path, cache),
        FeatureStore(resized, 2, tmp_path, cache),
        FeatureStore(_tower(tmp_path), 1, tmp_path, cache),
    ]
    assert len({store.folder, *(other.folder for other in others)}) == 6
    store.prepare(images)
    assert all(not other.known for other in others)


def test_the_tower_always_sees_as_many_images(tmp_path: Path, images: list[ImageRef]) -> None:
    """A kernel that is chosen by the size of a batch must not depend on what was cached before. Who asks about one
    alone gets that one at once, and it is kept for nobody."""
    tower = _tower(tmp_path)
    seen: list[int] = []
    tower.register_forward_hook(lambda _, inputs, output: seen.append(len(inputs[0])))
    store = FeatureStore(tower, 2, tmp_path, tmp_path / "cache")
    store.prepare(images[:3])
    store.prepare(images[:4])
    store.prepare(images, views=4)
    assert seen == [CHUNK, CHUNK, CHUNK]
    kept = set(store.folder.iterdir())
    other = FeatureStore(_tower(tmp_path), 2, tmp_path, tmp_path / "other")
    other.tower.register_forward_hook(lambda _, inputs, output: seen.append(len(inputs[0])))
    other.features(images[:1])
    other.features(images[:1])
    assert seen[3:] == [1] and not list(other.folder.glob("*")) and set(store.folder.iterdir()) == kept


def test_more_images_than_a_chunk(tmp_path: Path) -> None:
    images = []
    for shade in range(CHUNK + 2):
        Image.new("RGB", (8, 8), (shade, 2 * shade, 255 - shade)).save(tmp_path / f"{shade}.png")
        images.append(image_ref(tmp_path / f"{shade}.png", tmp_path))
    tower = _tower(tmp_path)
    store = FeatureStore(tower, 1, tmp_path, tmp_path / "cache")
    features = store.features(images)
    assert len(list(store.folder.iterdir())) == 2 and len(store.known) == CHUNK + 2
    exact = torch.stack([pool(_plain(tower, image, tmp_path)[1:].T.reshape(1, -1, 2, 2), 1)[0] for image in images])
    assert float((features.float() - exact).norm() / exact.norm()) < 0.02


def test_many_images_are_followed_and_can_be_stopped_without_loss(
    tmp_path: Path, images: list[ImageRef], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    many = [ImageRef(images[i % 6].path, f"{i:064x}") for i in range(3 * CHUNK)]
    tower = _tower(tmp_path)
    monkeypatch.setattr(features, "load_image", lambda image, root: load_image(images[int(image.sha256, 16) % 6], root))
    monkeypatch.setattr(interrupts, "requested", lambda: True)
    with pytest.raises(Stopped, match="run the same command again"):
        FeatureStore(tower, 2, tmp_path, tmp_path / "cache").prepare(many)
    monkeypatch.setattr(interrupts, "requested", lambda: False)
    store = FeatureStore(tower, 2, tmp_path, tmp_path / "cache")
    assert len(store.filed) == CHUNK and store.prepare(many) == 2 * CHUNK
    said = capsys.readouterr().err
    assert f"features  33% {CHUNK}/{3 * CHUNK}" in said and f"features 100% {2 * CHUNK}/{2 * CHUNK}" in said
    assert store.prepare(many) == 0 and store.prepare(images[:1]) == 1
    assert not capsys.readouterr().err  # too few to show


def test_a_damaged_file_is_computed_again(
    tmp_path: Path, images: list[ImageRef], caplog: pytest.LogCaptureFixture
) -> None:
    """A power cut can leave an empty one: it must not stop every later run."""
    tower = _tower(tmp_path)
    expected = FeatureStore(tower, 2, tmp_path, tmp_path / "cache").features(images)
    (path,) = (tmp_path / "cache").rglob("*.safetensors")
    for damage in (b"", path.read_bytes()[:100], b"\0" * 64):
        path.write_bytes(damage)
        assert torch.equal(FeatureStore(tower, 2, tmp_path, tmp_path / "cache").features(images), expected)
        assert f"{path} is damaged and removed" in caplog.text
        caplog.clear()
