from __future__ import annotations

import base64
import hashlib
import io
import re
from pathlib import Path

import pytest
from PIL import Image

from bessemer.report.gallery import thumbnail


def decoded(markup: str) -> Image.Image:
    found = re.search(r'src="data:image/jpeg;base64,([^"]+)"', markup)
    assert found is not None
    return Image.open(io.BytesIO(base64.b64decode(found[1])), formats=["JPEG"])


def test_a_thumbnail_is_small_upright_and_carries_no_metadata(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees
    exif[0x010E] = "the customer's name"
    left_red = Image.new("RGB", (800, 400), "blue")
    left_red.paste("red", (0, 0, 400, 400))
    left_red.save(tmp_path / "x.jpg", exif=exif, comment=b"the customer's name", quality=95)
    image = decoded(thumbnail("x.jpg", None, tmp_path).text)
    assert image.size == (132, 264)
    assert not image.getexif() and "comment" not in image.info
    red, _, blue = image.convert("RGB").getpixel((66, 40))  # type: ignore[misc]
    assert red > 200 and blue < 60


def test_an_image_that_changed_since_it_was_measured_is_not_shown(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "x.png")
    sha256 = hashlib.sha256((tmp_path / "x.png").read_bytes()).hexdigest()
    assert "<img" in thumbnail("x.png", sha256, tmp_path).text
    Image.new("RGB", (8, 8), "white").save(tmp_path / "x.png")
    changed = thumbnail("x.png", sha256, tmp_path).text
    assert "<img" not in changed and "changed" in changed


@pytest.mark.parametrize("path", ["absent.jpg", "../secret.png", "text.png", "https://example.org/x.png", "", "a\x00b"])
def test_what_cannot_be_shown_is_a_box_that_says_so(tmp_path: Path, path: str) -> None:
    root = tmp_path / "root"
    root.mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "secret.png")
    (root / "text.png").write_text("not an image")
    made = thumbnail(path, None, root).text
    assert made.startswith('<div class="missing">no image: ') and "<img" not in made


def test_a_file_name_cannot_leave_its_attribute(tmp_path: Path) -> None:
    name = '"><img src=x onerror=alert(1)>.png'
    Image.new("RGB", (8, 8)).save(tmp_path / name)
    made = thumbnail(name, None, tmp_path).text
    assert made.count("<") == 1
    assert 'alt="&quot;&gt;&lt;img src=x onerror=alert(1)&gt;.png"' in made
