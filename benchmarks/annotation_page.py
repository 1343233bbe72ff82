"""How quick the annotation page is: 10,000 images and 100,000 shapes opened, the next image, 5,000 shapes moved about.

Needs chromium and chromium-driver. Photographs are 1600 x 1200 JPEGs of noise and gradients, 300 different ones.
"""

from __future__ import annotations

import contextlib
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from bessemer.annotation.documents import save, save_all, save_labels
from bessemer.annotation.intake import add_folder
from bessemer.annotation.listing import add_images, image
from bessemer.annotation.shapes import Annotation, Box, Label
from bessemer.annotation.store import Project, create_project, open_project
from browser import Browser, browser

IMAGES, DIFFERENT, STEPS = 10_000, 300, 120
READY = "return document.body && document.body.dataset.ready"
NAME = "return document.querySelector('.image-name')?.textContent"
PAN = """
const host = document.querySelector('.canvas'), box = host.getBoundingClientRect(), times = [];
const at = (x, y) => ({ clientX: box.left + x, clientY: box.top + y, bubbles: true, button: 1, pointerId: 1 });
return (async () => {
  host.setPointerCapture = () => {};
  host.dispatchEvent(new PointerEvent('pointerdown', at(300, 300)));
  for (let n = 0; n < 60; n += 1) {
    const began = performance.now();
    host.dispatchEvent(new PointerEvent('pointermove', at(300 + 3 * (n % 20), 300 + 2 * (n % 20))));
    await new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
    times.push(performance.now() - began);
  }
  host.dispatchEvent(new PointerEvent('pointerup', at(300, 300)));
  return times;
})();
"""


def photographs(folder: Path) -> None:
    rng = np.random.default_rng(0)
    y, x = np.mgrid[0:1200, 0:1600]
    for number in range(DIFFERENT):
        light = 120 + 60 * np.sin(x / (200 + number)) + rng.normal(0, 6, x.shape)
        Image.fromarray(np.clip(light, 0, 255).astype(np.uint8)).save(folder / f"{number:05d}.jpg", quality=90)


def filled(place: Path) -> Project:
    """10,000 images (links to 300 files) with ten boxes each."""
    folder = place / "photographs"
    folder.mkdir()
    photographs(folder)
    project = create_project(place / "project", "many")
    first = add_folder(project, folder).ids
    facts = [image(project, id) for id in first]
    more = []
    for number in range(DIFFERENT, IMAGES):
        name = f"{number:05d}.jpg"
        os.link(folder / facts[number % DIFFERENT].name, folder / name)
        more.append(replace(facts[number % DIFFERENT], name=name))
    ids = [*first, *add_images(project, folder, more)]
    save_labels(project, 0, [Label("crack"), Label("spill"), Label("helmet")], "ann")
    boxes = [Annotation(str(n), ("crack", "spill", "helmet")[n % 3], Box(n * 150, n * 100, 120, 90)) for n in range(10)]
    save_all(project, [(id, "ann", 0, boxes) for id in ids], stamp=True)
    places = [Box(n % 100 * 16, n // 100 * 24, 12, 18) for n in range(5_000)]
    many = [Annotation(str(n), "crack" if n % 2 else "spill", place) for n, place in enumerate(places)]
    save(project, ids[STEPS + 1], "ann", 1, many)
    return project


def next_images(window: Browser) -> list[float]:
    """Milliseconds from the key to the next image's document and pixels on the canvas."""
    times = []
    for _ in range(STEPS):
        before = window.js(NAME)
        times.append(
            window.call(
                "POST",
                "/execute/async",
                {
                    "script": "const done = arguments[arguments.length - 1], before = arguments[0];"
                    "const began = performance.now();"
                    "dispatchEvent(new KeyboardEvent('keydown', {key: 'PageDown', bubbles: true}));"
                    "const pixel = () => { const c = document.querySelector('canvas.picture');"
                    "const p = c.getContext('2d').getImageData(c.width / 2, c.height / 2, 1, 1).data;"
                    "p[3] && p[0] !== 0x1b ? done(performance.now() - began) : setTimeout(pixel, 2); };"
                    "const look = () => document.querySelector('.image-name').textContent === before"
                    "? setTimeout(look, 2) : requestAnimationFrame(() => setTimeout(pixel)); look();",
                    "args": [before],
                },
            )
        )
        time.sleep(0.15)  # a person looks at it; meanwhile the one after is fetched
    return times


def peak(process: int) -> int:
    """Megabytes of memory that a process had at most."""
    status = Path(f"/proc/{process}/status").read_text()
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM"))) // 1024


@contextlib.contextmanager
def served(project: Path) -> Iterator[tuple[int, str]]:
    """`bessemer annotate PROJECT` in a process of its own: its number and the link that it prints."""
    command = [sys.executable, "-m", "bessemer.cli", "annotate", str(project)]
    command += ["open_browser=false", "annotators=ann", "reviewers=ann"]
    environment = {**os.environ, "XDG_STATE_HOME": str(project.parent)}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    try:
        assert process.stdout
        yield process.pid, next(found[0] for line in process.stdout if (found := re.search(r"http://\S+", line)))
    finally:
        process.terminate()
        process.communicate(timeout=60)


def main() -> None:
    with tempfile.TemporaryDirectory() as temporary:
        place = Path(temporary)
        filled(place).close()
        began = time.perf_counter()
        open_project(place / "project").close()
        opened = time.perf_counter() - began
        with served(place / "project") as (server, link), browser(place / "profile") as window:
            window.open(link)
            window.wait(READY)
            before = peak(server)
            began = time.perf_counter()
            window.open(link.split("/enter")[0])
            window.wait(READY)
            page = time.perf_counter() - began
            print(f"project of {IMAGES} images, {IMAGES * 10 + 5_000} shapes: opened {opened:.2f} s, page {page:.2f} s")
            times = sorted(next_images(window))
            late = times[int(0.95 * STEPS)]
            print(f"next image: median {statistics.median(times):.0f} ms, 95th percentile {late:.0f} ms")
            window.press("PageDown")
            window.wait("return document.querySelector('.block.grow .count').textContent === '5000'")
            frames = sorted(window.js(PAN))
            middle = statistics.median(frames)
            print(f"5,000 shapes, a frame of panning: median {middle:.0f} ms, slowest {frames[-1]:.0f} ms")
            tasks = Path(f"/proc/{server}/task").glob("*/children")
            children = [child for task in tasks for child in task.read_text().split()]
            decoders = [peak(int(child)) for child in children]
            print(
                f"memory at most: server {peak(server)} MB (when the page was opened {before}; its imports included), "
                f"decoders {decoders} MB"
            )


if __name__ == "__main__":
    main()
