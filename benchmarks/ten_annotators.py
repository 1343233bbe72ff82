"""Ten simulated annotators at once, for ten minutes: is every edit that was acknowledged in the store?

    python benchmarks/ten_annotators.py [--minutes 10] [--annotators 10]

Each saves boxes on the same 40 images over HTTP, as the page does, faster than a person (twice a second on average);
now and then one saves on top of an old version, which must be refused as a conflict. Then the server is killed
(SIGKILL), and every acknowledged version is looked for, with what was in it.
"""

from __future__ import annotations

import argparse
import http.client
import json
import random
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import numpy as np
from PIL import Image

from bessemer.annotation.documents import document_at
from bessemer.annotation.store import open_project

IMAGES, PAUSE = 40, 0.5


@dataclass
class Annotator:
    """One simulated person; saved: (image, version) -> the annotations that the server acknowledged."""

    name: str
    link: str
    seed: int
    saved: dict[tuple[int, int], list[dict[str, Any]]] = field(default_factory=dict)
    seconds: list[float] = field(default_factory=list)
    conflicts: int = 0
    error: str = ""

    def work(self, until: float) -> None:
        try:
            self._enter()
            draw = random.Random(self.seed)
            versions = dict.fromkeys(range(1, IMAGES + 1), 0)
            while time.monotonic() < until:
                self._edit(draw, versions)
                time.sleep(draw.expovariate(1 / PAUSE))
        except Exception as error:  # a thread's failure is shown by the one who waits for it
            self.error = f"{self.name}: {error!r}"

    def _enter(self) -> None:
        self.place = urlsplit(self.link)
        status, headers, _ = self._send("GET", f"{self.place.path}?{self.place.query}")
        assert status == 200, status
        self.cookie = headers["Set-Cookie"].split(";")[0]

    def _edit(self, draw: random.Random, versions: dict[int, int]) -> None:
        image = draw.randint(1, IMAGES)
        late = versions[image] > 1 and draw.random() < 0.05
        boxes = [
            {"id": f"{n}", "label": draw.choice(["crack", "spill"]), "shape": {"kind": "box", "x": draw.uniform(0, 500),
             "y": draw.uniform(0, 300), "width": draw.uniform(5, 90), "height": draw.uniform(5, 90)}}
            for n in range(draw.randint(1, 12))
        ]  # fmt: skip
        body = {"version": versions[image] - late, "annotations": boxes}
        began = time.perf_counter()
        status, _, answer = self._post(f"/api/images/{image}/save", body)
        self.seconds.append(time.perf_counter() - began)
        if late:
            assert status == 409, (status, answer)
            self.conflicts += 1
        else:
            assert status == 200, (status, answer)
            versions[image] = answer["version"]
            self.saved[image, versions[image]] = boxes

    def _post(self, path: str, body: Any) -> tuple[int, Any, Any]:
        headers = {
            "Origin": f"http://{self.place.netloc}", "X-Bessemer": quote(self.name, safe=""),
            "Content-Type": "application/json", "Cookie": self.cookie,
        }  # fmt: skip
        return self._send("POST", path, json.dumps(body).encode(), headers)

    def _send(self, method: str, path: str, body: bytes | None = None, headers: Any = None) -> tuple[int, Any, Any]:
        connection = http.client.HTTPConnection(self.place.hostname or "", self.place.port, timeout=60)
        try:
            connection.request(method, path, body, headers or {})
            response = connection.getresponse()
            data = response.read()
        finally:
            connection.close()
        kind = response.getheader("Content-Type") or ""
        return response.status, dict(response.getheaders()), json.loads(data) if "json" in kind else data


def served(folder: Path, project: Path, names: list[str]) -> tuple[subprocess.Popen[str], list[str]]:
    """`bessemer annotate` in a process of its own, and the link of each person."""
    for number in range(IMAGES):
        pixels = np.full((400, 600, 3), number * 6, np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:03d}.jpg")
    command = [sys.executable, "-m", "bessemer.cli", "annotate", str(project), str(folder), "open_browser=false"]
    command += ["labels=crack,spill", f"annotators={','.join(names)}"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout
    links: list[str] = []
    for line in process.stdout:
        links += re.findall(r"http://\S+", line)
        if len(links) == len(names):
            return process, links
    raise SystemExit(f"the server ended with status {process.wait()}")


def missing(project: Path, people: list[Annotator]) -> int:
    """Acknowledged versions that are not in the store, or hold something else."""
    lost = 0
    with open_project(project) as opened:
        for person in people:
            for (image, version), boxes in person.saved.items():
                found = json.loads(document_at(opened, image, person.name, version).body)
                lost += [(b["id"], b["label"], b["shape"]) for b in found] != [
                    (b["id"], b["label"], b["shape"]) for b in boxes
                ]
    return lost


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--annotators", type=int, default=10)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder, project = Path(temporary, "photographs"), Path(temporary, "project")
        folder.mkdir()
        names = [f"annotator{number}" for number in range(options.annotators)]
        process, links = served(folder, project, names)
        people = [Annotator(name, link, seed) for seed, (name, link) in enumerate(zip(names, links, strict=True))]
        until = time.monotonic() + 60 * options.minutes
        threads = [threading.Thread(target=person.work, args=(until,)) for person in people]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        process.send_signal(signal.SIGKILL)
        process.wait()
        if errors := [person.error for person in people if person.error]:
            raise SystemExit("\n".join(errors))
        seconds = sorted(second for person in people for second in person.seconds)
        saved, lost = sum(len(person.saved) for person in people), missing(project, people)
        print(
            f"{options.annotators} simulated annotators, {options.minutes:g} minutes: {saved} saves acknowledged, "
            f"{sum(person.conflicts for person in people)} conflicts refused, {lost} lost; a save took "
            f"{1000 * statistics.median(seconds):.0f} ms (median), {1000 * seconds[int(0.95 * len(seconds))]:.0f} ms "
            "(95th percentile)"
        )
    return 1 if lost else 0


if __name__ == "__main__":
    sys.exit(main())
