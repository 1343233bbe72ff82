from __future__ import annotations

import hashlib
import io
import os
import resource
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageFile
from PIL.TiffImagePlugin import TiffImageFile

from bessemer.data.images import (
    ImageFacts,
    decode_image,
    image_ref,
    inspect_image,
    load_image,
    to_pixels,
)
from bessemer.data.schema import ImageRef
from bessemer.errors import UserError


def _bytes(image: Image.Image, format: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def _noise(width: int = 40, height: int = 30) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8))


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


# -------------------------------------------------------------------------------- hostile files


def _png_bomb() -> bytes:
    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + _chunk(b"IHDR", header)
        + _chunk(b"IDAT", zlib.compress(b"\0" * 400))
        + _chunk(b"IEND", b"")
    )


def _jpeg_bomb() -> bytes:
    data = _bytes(_noise(), "JPEG")
    at = data.index(b"\xff\xc0") + 5
    return data[:at] + struct.pack(">HH", 60_000, 60_000) + data[at + 4 :]


def _bmp_bomb() -> bytes:
    data = _bytes(_noise(), "BMP")
    return data[:18] + struct.pack("<ii", 60_000, 60_000) + data[26:]


def _tiff_bomb() -> bytes:
    data = _bytes(_noise(), "TIFF")
    old, new = (struct.pack("<HHII", 256, 4, 1, side) for side in (40, 60_000))
    wide = data.replace(old, new) if old in data else data.replace(struct.pack("<HHIHH", 256, 3, 1, 40, 0), new)
    high = struct.pack("<HHII", 257, 4, 1, 60_000)
    result = wide.replace(struct.pack("<HHIHH", 257, 3, 1, 30, 0), high).replace(
        struct.pack("<HHII", 257, 4, 1, 30), high
    )
    assert result != data
    return result


def _webp_bomb() -> bytes:
    data = bytearray(_bytes(_noise(), "WEBP", save_all=True, append_images=[Image.new("RGB", (40, 30))]))
    at = data.index(b"VP8X") + 8
    data[at + 4 : at + 10] = (16_382).to_bytes(3, "little") * 2
    return bytes(data)


BOMBS = {"png": _png_bomb, "jpg": _jpeg_bomb, "bmp": _bmp_bomb, "tif": _tiff_bomb, "webp": _webp_bomb}


@pytest.fixture
def little_memory() -> Iterator[None]:
    """200 MB more than now: decoding a bomb cannot pass by accident."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + 200 * 2**20, hard))
    yield
    resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


@pytest.mark.parametrize("kind", BOMBS)
def test_bombs_are_refused_by_their_header(
    kind: str, tmp_path: Path, little_memory: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(self: object) -> None:
        raise AssertionError("decoded")

    monkeypatch.setattr(ImageFile.ImageFile, "load", load)
    path = tmp_path / f"bomb.{kind}"
    path.write_bytes(BOMBS[kind]())
    assert path.stat().st_size < 4096
    for read in (load_image, inspect_image):
        with pytest.raises(UserError, match=rf"bomb.{kind}: .*pixels.*expected at most 100000000"):
            read(path)


def test_the_cap_is_in_pixels_and_exact() -> None:
    data = _bytes(Image.new("L", (30, 20)), "PNG")
    assert decode_image(data, "a.png", max_pixels=600).size == (30, 20)
    with pytest.raises(UserError, match="30 x 20 pixels, expected at most 599"):
        decode_image(data, "a.png", max_pixels=599)


def test_between_pillows_limit_and_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    # Pillow warns from its limit to twice that; our cap decides, and no warning (here an error) gets out
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 400)
    data = _bytes(Image.new("L", (30, 20)), "PNG")
    assert decode_image(data, "a.png").size == (30, 20)
    with pytest.raises(UserError, match="expected at most 599"):
        decode_image(data, "a.png", max_pixels=599)


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "a PostScript file"),
        (b"%PDF-1.7\n", "a PDF file"),
        (b"8BPS" + b"\0" * 40, "a Photoshop file"),
        (b"SIMPLE  =                    T", "a FITS file"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "a SVG or XML file"),
        (b"\0\0\0\x18ftypheic\0\0\0\0", "a HEIC or AVIF file"),
        (_bytes(Image.new("L", (2, 2)), "GIF"), "a GIF file"),
        (_bytes(Image.new("L", (16, 16)), "ICO"), "not an image"),
        (b"hello", "not an image"),
        (b"", r"the file is empty \(0 bytes\)"),
        (b"\x89PNG\r\n\x1a\n", "not an image"),
        (b"\xff\xd8\xff", "not an image"),
    ],
)
def test_other_formats_under_a_photographs_name(tmp_path: Path, data: bytes, what: str) -> None:
    path = tmp_path / "照片.jpg"
    path.write_bytes(data)
    with pytest.raises(UserError, match=f"照片.jpg: {what}.*expected an image .JPEG, PNG, BMP, WEBP, TIFF"):
        load_image(path)


@pytest.mark.parametrize("format", ["JPEG", "PNG", "BMP", "WEBP", "TIFF"])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_cut_files(tmp_path: Path, format: str, share: float) -> None:
    data = _bytes(_noise(200, 150), format)
    path = tmp_path / "cut.png"
    path.write_bytes(data[: int(share * len(data))])
    for read in (load_image, inspect_image):
        with pytest.raises(UserError, match=r"cut.png: (the image is cut short|not an image)"):
            read(path)
    path.write_bytes(data)
    assert load_image(path).size == (200, 150)


def test_random_damage_never_escapes_as_another_error() -> None:
    rng = np.random.default_rng(1)
    for format in ["JPEG", "PNG", "BMP", "WEBP", "TIFF"]:
        data = _bytes(_noise(), format)
        for _ in range(60):
            broken = bytearray(data)
            for at in rng.integers(0, min(len(data), 200), 3):
                broken[at] = rng.integers(0, 256)
            try:
                assert decode_image(bytes(broken), "x", max_pixels=10_000).mode == "RGB"
            except UserError as error:
                assert str(error).startswith("x: ")


@pytest.mark.parametrize("format", ["TIFF", "WEBP", "PNG"])
def test_more_than_one_frame(format: str) -> None:
    data = _bytes(_noise(), format, save_all=True, append_images=[Image.new("RGB", (40, 30))])
    with pytest.raises(UserError, match=f"a.x: a {format} of more than one frame or page, expected one"):
        decode_image(data, "a.x")


def test_a_thousand_pages_are_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    data = _bytes(Image.new("L", (4, 4)), "TIFF", save_all=True, append_images=[Image.new("L", (4, 4))] * 999)
    seeks: list[int] = []
    seek = TiffImageFile.seek
    monkeypatch.setattr(TiffImageFile, "seek", lambda self, frame: (seeks.append(frame), seek(self, frame))[1])
    monkeypatch.setattr(TiffImageFile, "n_frames", property(lambda self: pytest.fail("counted all pages")))
    with pytest.raises(UserError, match="more than one frame"):
        decode_image(data, "a.tif")
    assert seeks == [1]


def test_the_first_picture_of_a_phones_jpeg() -> None:
    data = _bytes(
        Image.new("RGB", (32, 16), (200, 0, 0)),
        "MPO",
        save_all=True,
        append_images=[Image.new("RGB", (8, 8))],
    )
    image = decode_image(data, "phone.jpg")
    assert image.size == (32, 16)
    assert abs(image.getpixel((3, 3))[0] - 200) < 4


# -------------------------------------------------------------------------------- orientation

# One upright picture, AB / CD / EF, as each orientation stores it, by the table of the EXIF standard: what
# the first row and the first column of the stored picture are (1: top, left; 2: top, right; 3: bottom, right;
# 4: bottom, left; 5: left, top; 6: right, top; 7: right, bottom; 8: left, bottom).
STORED = {
    1: "AB/CD/EF",
    2: "BA/DC/FE",
    3: "FE/DC/BA",
    4: "EF/CD/AB",
    5: "ACE/BDF",
    6: "BDF/ACE",
    7: "FDB/ECA",
    8: "ECA/FDB",
}
SHADES = dict(zip("ABCDEF", (0, 40, 90, 140, 190, 250), strict=True))


def _letters(rows: str, cell: int) -> Image.Image:
    shades = np.array([[SHADES[letter] for letter in row] for row in rows.split("/")], dtype=np.uint8)
    return Image.fromarray(shades.repeat(cell, 0).repeat(cell, 1)).convert("RGB")


@pytest.mark.parametrize("orientation", STORED)
@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_orientation(tmp_path: Path, format: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    options: dict[str, Any] = {"WEBP": {"lossless": True}, "JPEG": {"quality": 95}}.get(format, {})
    data = _bytes(_letters(STORED[orientation], 16), format, exif=exif, **options)
    path = tmp_path / "turned"
    path.write_bytes(data)
    image = load_image(path)
    assert image.size == (32, 48)
    found = np.asarray(image)[8::16, 8::16, 0].astype(int)
    assert np.abs(found - np.array([[0, 40], [90, 140], [190, 250]])).max() <= (2 if format == "JPEG" else 0)
    facts = inspect_image(path)
    assert (facts.width, facts.height, facts.format) == (32, 48, format)
    assert facts.orientation == orientation  # Pillow turns TIFFs itself and says 1 then
    path.write_bytes(_bytes(_noise(7, 5), format))
    assert inspect_image(path).width == 7  # narrower than the eighth that JPEGs are decoded at


def test_damaged_metadata_leave_the_picture_usable() -> None:
    for exif in (b"Exif\0\0garbage that is no TIFF", b"Exif\0\0II*\0\x08\0\0\0\xff\xff\x12\x01\x03\0"):
        assert decode_image(_bytes(_noise(), "JPEG", exif=exif), "a.jpg").size == (40, 30)
    exif9 = Image.Exif()
    exif9[0x0112] = 9
    assert decode_image(_bytes(_noise(), "JPEG", exif=exif9), "a.jpg").size == (40, 30)


# -------------------------------------------------------------------------------- modes


@pytest.mark.parametrize(("format", "big"), [("PNG", False), ("TIFF", False), ("TIFF", True)])
def test_sixteen_bits_are_scaled(format: str, big: bool) -> None:
    values = np.array([[0, 128, 129, 256, 4095, 32768, 65278, 65535]], dtype=">u2" if big else "<u2")
    image = Image.frombytes("I;16B" if big else "I;16", (8, 1), values.tobytes())
    # value * 255 / 65535 = value / 257, rounded: 0, 0.498, 0.502, 0.996, 15.93, 127.502, 254, 255
    expected = [0, 0, 1, 1, 16, 128, 254, 255]
    rgb = np.asarray(decode_image(_bytes(image, format), "a"))
    assert rgb.shape == (1, 8, 3)
    assert rgb[0].tolist() == [[value] * 3 for value in expected]


def test_sixteen_bits_with_transparency_and_turned() -> None:
    exif = Image.Exif()
    exif[0x0112] = 3
    image = Image.frombytes("I;16", (2, 1), np.array([[0, 65535]], dtype="<u2").tobytes())
    assert np.asarray(decode_image(_bytes(image, "PNG", exif=exif), "a"))[0, :, 0].tolist() == [255, 0]


def test_other_modes_to_rgb() -> None:
    grey = Image.frombytes("L", (2, 1), bytes([10, 250]))
    assert np.asarray(decode_image(_bytes(grey, "PNG"), "a")).tolist() == [[[10] * 3, [250] * 3]]
    bits = Image.frombytes("1", (2, 1), bytes([0b01000000]))
    assert np.asarray(decode_image(_bytes(bits, "PNG"), "a")).tolist() == [[[0] * 3, [255] * 3]]
    palette = Image.frombytes("P", (2, 1), bytes([1, 0]))
    palette.putpalette([1, 2, 3, 200, 100, 50])
    assert np.asarray(decode_image(_bytes(palette, "PNG"), "a")).tolist() == [[[200, 100, 50], [1, 2, 3]]]
    assert np.asarray(decode_image(_bytes(palette, "PNG", transparency=1), "a")).tolist() == [[[255] * 3, [1, 2, 3]]]
    alpha = Image.frombytes("RGBA", (3, 1), bytes([9, 9, 9, 0, 9, 9, 9, 255, 0, 0, 0, 51]))
    # a fifth of black over white: 255 * 0.8 = 204
    assert np.asarray(decode_image(_bytes(alpha, "PNG"), "a")).tolist() == [[[255] * 3, [9] * 3, [204] * 3]]
    grey_alpha = Image.frombytes("LA", (2, 1), bytes([9, 0, 9, 255]))
    assert np.asarray(decode_image(_bytes(grey_alpha, "PNG"), "a")).tolist() == [[[255] * 3, [9] * 3]]
    inks = Image.frombytes("CMYK", (1, 1), bytes([0, 255, 255, 0]))
    red = np.asarray(decode_image(_bytes(inks, "TIFF"), "a"))[0, 0]
    assert red.tolist() == [255, 0, 0]


@pytest.mark.parametrize("mode", ["I", "F"])
def test_thirty_two_bits_are_refused(mode: str) -> None:
    with pytest.raises(UserError, match="a.tif: 32-bit pixels without a known white"):
        decode_image(_bytes(Image.new(mode, (4, 4)), "TIFF"), "a.tif")


def test_modes_without_a_way_to_rgb(monkeypatch: pytest.MonkeyPatch) -> None:
    def convert(self: Image.Image, mode: str) -> Image.Image:
        raise ValueError(f"conversion from {self.mode} to {mode} not supported")

    data = _bytes(Image.new("YCbCr", (4, 4)), "TIFF")
    monkeypatch.setattr(Image.Image, "convert", convert)
    with pytest.raises(UserError, match="a.tif: cannot be made RGB .conversion .*, expected 8 or 16 bits"):
        decode_image(data, "a.tif")


# -------------------------------------------------------------------------------- files and references


def test_reference_and_hash(tmp_path: Path) -> None:
    folder = tmp_path / "图"
    folder.mkdir()
    data = _bytes(_noise(), "PNG")
    (folder / "a.png").write_bytes(data)
    ref = image_ref(folder / "a.png", tmp_path)
    assert ref == ImageRef("图/a.png", hashlib.sha256(data).hexdigest())
    assert image_ref(folder / "a.png") == ImageRef(str(folder / "a.png"), ref.sha256)
    assert np.array_equal(np.asarray(load_image(ref, tmp_path)), np.asarray(_noise()))
    assert inspect_image(folder / "a.png") == ImageFacts(40, 30, "PNG", "RGB", ref.sha256)
    (folder / "a.png").write_bytes(_bytes(_noise(41), "PNG"))
    with pytest.raises(UserError, match=r"a.png: changed since it was recorded \(sha256\).* --force import"):
        load_image(ref, tmp_path)


def test_a_reference_stays_under_its_root(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / "secret.png").write_bytes(_bytes(_noise(), "PNG"))
    (tmp_path / "root" / "link.png").symlink_to(tmp_path / "secret.png")
    sha = image_ref(tmp_path / "secret.png").sha256
    for path in ("../secret.png", "link.png"):
        with pytest.raises(UserError, match="leads out of"):
            load_image(ImageRef(path, sha), tmp_path / "root")


def test_what_is_no_regular_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    for path, message in [
        (tmp_path / "pipe.png", "not a regular file"),
        (tmp_path, "not a regular file"),
        (Path("/dev/zero"), "not a regular file"),
        (tmp_path / "none.png", "none.png: cannot be read"),
    ]:
        with pytest.raises(UserError, match=message):
            load_image(path)


def test_very_large_files_are_not_read(tmp_path: Path) -> None:
    with open(tmp_path / "sparse.png", "wb") as file:
        file.truncate(600 * 2**20)
    with pytest.raises(UserError, match="629145600 bytes, expected at most 536870912"):
        load_image(tmp_path / "sparse.png")


# -------------------------------------------------------------------------------- pixels


def test_pixels_by_hand() -> None:
    image = Image.new("RGB", (5, 9), (255, 51, 0))
    pixels = to_pixels(image, 4, mean=(0.5, 0.2, 0.1), std=(0.5, 0.1, 0.2))
    assert pixels.shape == (3, 4, 4)
    assert pixels.dtype == torch.float32
    assert pixels.is_contiguous()
    for channel, value in enumerate([1.0, 0.0, -0.5]):  # (1 - 0.5) / 0.5, (0.2 - 0.2) / 0.1, (0 - 0.1) / 0.2
        torch.testing.assert_close(pixels[channel], torch.full((4, 4), value), atol=1e-6, rtol=0)


def test_resizing_is_antialiased_bicubic() -> None:
    image = _noise(64, 48)
    pixels = to_pixels(image, 16, mean=(0, 0, 0), std=(1, 1, 1)) * 255
    source = torch.from_numpy(np.array(image)).permute(2, 0, 1).float()[None]
    expected = torch.nn.functional.interpolate(source, (16, 16), mode="bicubic", antialias=True).clamp(0, 255)[0]
    assert (pixels - expected).abs().max() < 1.6  # Pillow rounds to whole levels after each of two passes
    plain = torch.nn.functional.interpolate(source, (16, 16), mode="bicubic", antialias=False).clamp(0, 255)[0]
    assert (pixels - plain).abs().max() > 30


def test_left_stays_left_and_top_stays_top() -> None:
    array = np.zeros((8, 8, 3), dtype=np.uint8)
    array[:2, :, 0], array[:, :2, 1] = 255, 255
    pixels = to_pixels(Image.fromarray(array), 8, (0, 0, 0), (1, 1, 1))
    assert pixels[0, 0, 7] == 1 and pixels[0, 7, 0] == 0  # red: the top rows
    assert pixels[1, 7, 0] == 1 and pixels[1, 0, 7] == 0  # green: the left columns
