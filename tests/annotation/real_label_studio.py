"""A real Label Studio on loopback, in its own environment: it imports what we export, we import what it exports.

    BESSEMER_LABEL_STUDIO=/path/to/venv/bin/label-studio python -m pytest tests/annotation/real_label_studio.py

Not part of the suite: Label Studio and its 150 packages are no dependency of ours. It takes about a minute.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bessemer.annotation.formats.leftovers import same
from bessemer.annotation.formats.table import read, write
from bessemer.annotation.rle import mask_from_array
from bessemer.annotation.shapes import (
    AnnotatedImage,
    Annotation,
    AnnotationSet,
    Box,
    Label,
    Mask,
    Point,
    Polygon,
    RotatedBox,
)
from photographing import photographs

EXECUTABLE = os.environ.get("BESSEMER_LABEL_STUDIO", "")
TOKEN = "0123456789abcdef0123456789abcdef01234567"
pytestmark = pytest.mark.skipif(not EXECUTABLE, reason="BESSEMER_LABEL_STUDIO names no executable")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a fresh Label Studio."""
    folder = tmp_path_factory.mktemp("label-studio")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [EXECUTABLE, "start", "--no-browser", "--internal-host", "127.0.0.1", "--port", str(port)]
    command += ["--data-dir", str(folder), "--username", "a@b.cn", "--password", "only-for-tests-1"]
    command += ["--user-token", TOKEN]
    environment = {
        "PATH": os.environ["PATH"], "HOME": str(folder), "COLLECT_ANALYTICS": "false", "LATEST_VERSION_CHECK": "false",
        "LABEL_STUDIO_ENABLE_LEGACY_API_TOKEN": "true", "LABEL_STUDIO_DISABLE_SIGNUP_WITHOUT_LINK": "true",
        "SENTRY_DSN": "", "FRONTEND_SENTRY_DSN": "", "OMP_NUM_THREADS": "1",
    }  # fmt: skip
    address = f"http://127.0.0.1:{port}"
    with open(folder / "log.txt", "wb") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        try:
            for _ in range(600):
                try:
                    call(address, "/api/version")
                    break
                except (urllib.error.URLError, ConnectionError, TimeoutError):
                    assert process.poll() is None, (folder / "log.txt").read_text()[-3000:]
                    time.sleep(1)
            yield address
        finally:
            process.terminate()
            process.wait(30)


def call(address: str, path: str, body: Any = None) -> Any:
    headers = {"Authorization": f"Token {TOKEN}", "Content-Type": "application/json"}
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(address + path, data, headers)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.loads(answer.read())
    except urllib.error.HTTPError as error:
        raise AssertionError(f"{path}: {error.code} {error.read()[:2000]!r}") from error


def drawn() -> AnnotationSet:
    array = np.zeros((30, 40), dtype=bool)
    array[3:12, 5:20] = True
    array[6:8, 9:12] = False
    said = (
        Annotation("b", "裂纹", Box(1.5, 2.25, 10, 7), text="at the edge\nnear the frame"),
        Annotation("r", "dirt", RotatedBox(20, 15, 10, 4, 33.25), attributes={"severity": "high"}),
        Annotation("p", "dirt", Polygon(((((1, 1), (9, 2), (5.125, 8)),),))),
        Annotation("m", "裂纹", mask_from_array(array), scene="equipment"),
        Annotation("k", "dirt", Point(3, 4)),
        Annotation("c", None, None, text="一块板"),
    )
    proposed = (Annotation("q", "dirt", Box(4, 4, 8, 8), source="prediction", model_version="m1", score=0.25),)
    images = (
        AnnotatedImage("部/a.jpg", 40, 30, annotations=(*said, *proposed)),
        AnnotatedImage("empty.jpg", 33, 20),
    )
    return AnnotationSet(images, (Label("裂纹", "#ff0000"), Label("dirt")))


def test_through_a_real_label_studio(server: str, tmp_path: Path) -> None:
    before = drawn()
    report = write(before, tmp_path / "out", "label-studio")
    assert report.losses == ()
    config = (tmp_path / "out" / "label_config.xml").read_text(encoding="utf-8")
    project = call(server, "/api/projects/", {"title": "bessemer", "label_config": config})
    tasks = json.loads((tmp_path / "out" / "tasks.json").read_text(encoding="utf-8"))
    answer = call(server, f"/api/projects/{project['id']}/import", tasks)
    assert (answer["task_count"], answer["annotation_count"], answer["prediction_count"]) == (2, 1, 1)
    exported = call(server, f"/api/projects/{project['id']}/export?exportType=JSON&download_all_tasks=true")
    (tmp_path / "exported.json").write_text(json.dumps(exported), encoding="utf-8")
    folder = photographs(tmp_path / "photos", before.images)
    after, notes = read(tmp_path / "exported.json", "label-studio", folder)
    assert [image.name for image in after.images] == [image.name for image in before.images], notes
    for old, new in zip(before.images, after.images, strict=True):
        found = {item.id: item for item in new.annotations}
        for item in old.annotations:
            if item.source == "prediction" and item.id not in found:
                continue  # its export leaves the contents of predictions out
            back = found[item.id]
            for name in ("label", "text", "attributes", "scene"):
                assert getattr(back, name) == getattr(item, name), item.id
            assert type(back.shape) is type(item.shape)
            if item.shape is not None and not isinstance(item.shape, Polygon):
                old_numbers, new_numbers = (
                    [value for value in vars(shape).values() if isinstance(value, float)]
                    for shape in (item.shape, back.shape)
                )
                assert new_numbers == pytest.approx(old_numbers, abs=1e-6)
                assert not isinstance(item.shape, Mask) or back.shape == item.shape
            elif item.shape is not None:
                assert isinstance(back.shape, Polygon)
                points = zip(back.shape.parts[0][0], item.shape.parts[0][0], strict=True)
                assert all(one == pytest.approx(other, abs=1e-6) for one, other in points)
    write(after, tmp_path / "again", "label-studio")
    again = json.loads((tmp_path / "again" / "tasks.json").read_text(encoding="utf-8"))
    for task in again + exported:
        task.setdefault("predictions", [])
    assert same(again, exported)
