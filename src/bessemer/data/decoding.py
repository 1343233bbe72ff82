"""Photographs decoded in a process of their own, with bounded memory and time: what a decoder's fault or a hostile
file costs is one worker, never the server that shows it or the command that lists a folder.

The size is capped by the header first (`images`); the limits here are for what a header does not say: a JPEG of ten
thousand scans, a TIFF with tiles larger than its picture, a fault in a codec. Memory is bounded by RLIMIT_AS and time
by RLIMIT_CPU, so not on Windows, where only the process is apart. Processor time, not the clock: a busy machine refuses
nothing that an idle one takes. Source: Pillow's security policy; notes on CVE-2026-40192.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import subprocess
import sys
import threading
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

from PIL import Image

from ..errors import UserError
from .images import MAX_PIXELS, ImageFacts, inspect_image, load_image
from .paths import shown
from .schema import ImageRef

__all__ = ["MEMORY", "SECONDS", "inspect_apart", "load_apart"]

MEMORY = 3 * 2**30  # bytes of address space: 100 MP with transparency take 2.4 GB on their way to RGB
SECONDS = 30  # of processor time for one photograph; 100 MP take about four
IDLE = 2  # workers that are kept for the next photograph


class _Worker:
    """One process that decodes, one photograph at a time. Final."""

    def __init__(self, memory: int, seconds: int) -> None:
        self.limits = (memory, seconds)
        source = os.pathsep.join(filter(None, (str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH"))))
        # -P: what lies in the working directory, perhaps a folder of foreign files, is not imported.
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "bessemer.data.decoding", str(memory), str(seconds)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            pipesize=1 << 20,  # pixels are many
            env={**os.environ, "PYTHONPATH": source, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
        )

    def ask(self, request: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
        """Its answer, and the pixels behind it. Raises EOFError, OSError or ValueError when it is no more."""
        assert self._process.stdin and self._process.stdout
        self._process.stdin.write(json.dumps(request).encode() + b"\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line.endswith(b"\n"):
            raise EOFError
        answer: dict[str, Any] = json.loads(line)
        size = 3 * answer["width"] * answer["height"] if "error" not in answer and request["pixels"] else 0
        data = self._process.stdout.read(size)
        if len(data) != size:
            raise EOFError
        return answer, data

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            with contextlib.suppress(OSError):  # what was not flushed to a dead process
                if pipe:
                    pipe.close()


_lock = threading.Lock()
_idle: list[_Worker] = []


def inspect_apart(path: Path, max_pixels: int = MAX_PIXELS) -> ImageFacts:
    """`inspect_image` within the limits. Raises UserError also for what goes beyond them."""
    answer, _ = _ask(path, "", max_pixels, pixels=False)
    return ImageFacts(**answer)


def load_apart(image: ImageRef, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """`load_image` of a reference with an absolute path, within the limits. Raises UserError also for what goes beyond
    them."""
    answer, data = _ask(Path(image.path), image.sha256, max_pixels, pixels=True)
    return Image.frombytes("RGB", (answer["width"], answer["height"]), data)


def _ask(path: Path, sha256: str, max_pixels: int, *, pixels: bool) -> tuple[dict[str, Any], bytes]:
    request = {"path": str(path.absolute()), "sha256": sha256, "max_pixels": max_pixels, "pixels": pixels}
    worker = _take()
    try:
        answer, data = worker.ask(request)
    except (EOFError, OSError, ValueError) as error:
        worker.close()
        memory, seconds = worker.limits
        raise UserError(
            f"{shown(path)}: decoding it takes more than {memory >> 20} MB or {seconds} s, or breaks the decoder, "
            "expected an ordinary photograph; save it anew or leave it out"
        ) from error
    except BaseException:  # an answer may be on its way that belongs to nobody
        worker.close()
        raise
    _give_back(worker)
    if "error" in answer:
        raise UserError(answer["error"])
    return answer, data


def _take() -> _Worker:
    with _lock:
        while _idle:
            worker = _idle.pop()
            if worker.limits == (MEMORY, SECONDS):
                return worker
            worker.close()
    return _Worker(MEMORY, SECONDS)


def _give_back(worker: _Worker) -> None:
    with _lock:
        if len(_idle) < IDLE:
            _idle.append(worker)
            return
    worker.close()


@atexit.register
def _close_idle() -> None:
    with _lock:
        while _idle:
            _idle.pop().close()


def _answer(request: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
    path = Path(request["path"])
    try:
        if not request["pixels"]:
            return asdict(inspect_image(path, request["max_pixels"])), b""
        image = load_image(ImageRef(str(path), request["sha256"]), max_pixels=request["max_pixels"])
        return {"width": image.width, "height": image.height}, image.tobytes()
    except UserError as error:
        return {"error": str(error)}, b""


def _serve(requests: IO[bytes], answers: IO[bytes], memory: int, seconds: int) -> None:
    """Answer until nobody asks."""
    with contextlib.suppress(ImportError):  # Windows
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for line in requests:
        with contextlib.suppress(ImportError):
            import resource

            spent = resource.getrusage(resource.RUSAGE_SELF)
            hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
            resource.setrlimit(resource.RLIMIT_CPU, (int(spent.ru_utime + spent.ru_stime) + seconds, hard))
        answer, data = _answer(json.loads(line))
        answers.write(json.dumps(answer).encode() + b"\n")
        answers.write(data)
        answers.flush()


if __name__ == "__main__":
    # What a codec prints must not get among the answers.
    with os.fdopen(os.dup(1), "wb") as channel:
        os.dup2(2, 1)
        _serve(sys.stdin.buffer, channel, int(sys.argv[1]), int(sys.argv[2]))
