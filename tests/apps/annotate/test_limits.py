"""What is too much: S11 pictures, S14 bodies, heads, slow clients and many of them."""

from __future__ import annotations

import io
import socket
import struct
import threading
import time
import zlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from PIL import Image

from bessemer.annotation.intake import add_folder
from bessemer.annotation.store import Project, create_project
from bessemer.apps.annotate import pixels
from bessemer.apps.annotate.desk import Desk
from bessemer.apps.annotate.messages import Refusal
from bessemer.apps.annotate.pixels import TILE, Pictures
from bessemer.apps.annotate.server import CONNECTIONS, Server
from bessemer.apps.annotate.sessions import Sessions
from page_client import PEOPLE, Client, enter


def raw(server: Server, data: bytes, seconds: float = 20) -> bytes:
    """Send bytes, read until the server closes or has said something."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=seconds) as client:
        client.sendall(data)
        return client.recv(65536)


def head(client: Client, more: str) -> bytes:
    return (
        f"POST /api/images/1/save HTTP/1.1\r\nHost: {client.host}\r\nCookie: {client.cookie}\r\n"
        f"Origin: http://{client.host}\r\nX-Bessemer: ann\r\nContent-Type: application/json\r\n{more}\r\n"
    ).encode()


@pytest.mark.parametrize(
    ("more", "status"),
    [
        (f"Content-Length: {10**12}\r\n", b"413"),
        ("Content-Length: 99999999999999999999\r\n", b"411"),
        ("Content-Length: -1\r\n", b"411"),
        ("Content-Length: 1e3\r\n", b"411"),
        ("Content-Length: 5\r\nContent-Length: 6\r\n", b"411"),
        ("Transfer-Encoding: chunked\r\n", b"411"),
        ("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", b"411"),
        ("", b"411"),
    ],
)
def test_a_body_is_refused_before_it_is_read(server: Server, ann: Client, more: str, status: bytes) -> None:
    assert raw(server, head(ann, more)).split(b" ")[1] == status


def test_a_gigabyte_in_chunks_is_not_read(server: Server, ann: Client) -> None:
    """S14: the client goes on sending; the answer comes, and the connection ends early."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as client:
        client.sendall(head(ann, "Transfer-Encoding: chunked\r\n"))
        sent, chunk = 0, b"10000\r\n" + b" " * 65536 + b"\r\n"
        try:
            for _ in range(2**30 // 65536):
                client.sendall(chunk)
                sent += len(chunk)
        except OSError:
            pass
        assert sent < 64 * 2**20
    assert ann.get("/health").status == 200


def test_limits_of_bodies_heads_and_queries(server: Server, ann: Client) -> None:
    big = {"version": 0, "labels": [{"name": "x" * 2**20}]}
    assert ann.post("/api/labels", big).status == 413
    fields = "&".join(f"f{n}=1" for n in range(10_000))
    assert ann.get(f"/api/images?{fields}").status in (400, 414)
    assert ann.get("/api/images?" + "&".join(f"f{n}=1" for n in range(30))).status == 400
    assert ann.get("/api/images?text=a&text=b").status == 400
    assert ann.send("GET", "/health", headers={f"X-{n}": "1" for n in range(200)}).status == 431
    assert ann.get("/" + "a" * 70_000).status == 414
    assert ann.get(f"/api/images?limit={10**9}").status == 422


@pytest.mark.parametrize("body", [
    b"", b"{", b"[]", b"1", b"\xff", b'{"version": 0, "annotations": [], "a": NaN}', b"[" * 100_000,
    b'{"version": 1e999}', b'{"version": ' + b"9" * 5_000 + b"}",
    b'{"a":"\xed\xa0\x80"}',
])  # fmt: skip
def test_bodies_that_are_no_json_object(ann: Client, body: bytes) -> None:
    headers = {"Origin": f"http://{ann.host}", "X-Bessemer": "ann", "Content-Type": "application/json"}
    assert ann.send("POST", "/api/images/1/save", body, headers).status == 400


@pytest.mark.parametrize("annotation", [
    {"id": "1", "shape": {"kind": "box", "x": 0, "y": 0, "width": -1, "height": 1}},
    {"id": "1", "shape": {"kind": "svg"}},
    {"id": "1", "shape": {"kind": "box", "x": 1e300, "y": 0, "width": 1, "height": 1}}, {"id": ""}, {"id": 1},
    {}, "x", None,
    {"id": "1", "scene": "moon"}, {"id": "1", "unknown": 1}, {"id": "1", "text": "\ud800"},
    {"id": "1", "shape": {"kind": "mask", "runs": [10**9], "height": 10**5, "width": 10**5}},
])  # fmt: skip
def test_annotations_that_are_none(ann: Client, annotation: object) -> None:
    found = ann.post("/api/images/1/save", {"version": 0, "annotations": [annotation]})
    assert found.status in (400, 422) and "expected" in found.json["error"]
    assert ann.get("/api/images/1").json["document"]["version"] == 0


@pytest.fixture
def hasty(project: Project, tmp_path: Path) -> Iterator[Server]:
    """A server that waits a second for the head of a request."""
    sessions = Sessions(PEOPLE, tmp_path / "hasty.json", project.directory)
    opened = Server(Desk(project, "p", sessions, Pictures(project)), log=lambda line: None, head_seconds=1.0)
    opened.start()
    yield opened
    opened.close()


def test_slow_clients_are_let_go_and_nobody_waits_for_them(hasty: Server) -> None:
    """S14, slowloris: twice as many of them as there are connections, each sending a little again and again."""
    stop = threading.Event()
    ends: list[bytes] = []

    def drip() -> None:
        with socket.create_connection(("127.0.0.1", hasty.port), timeout=30) as client:
            try:
                client.sendall(b"GET / HTTP/1.1\r\n")
                while not stop.is_set():
                    client.settimeout(0.2)
                    try:
                        ends.append(client.recv(100))
                        return
                    except TimeoutError:
                        client.sendall(b"X-A: b\r\n")
            except OSError:
                ends.append(b"")

    threads = [threading.Thread(target=drip) for _ in range(2 * CONNECTIONS)]
    for thread in threads:
        thread.start()
    try:
        client = Client(hasty)
        for _ in range(5):
            assert client.get("/health").status == 200
            time.sleep(0.1)
        end = time.monotonic() + 30
        while len(ends) < len(threads) and time.monotonic() < end:
            time.sleep(0.05)
        assert len(ends) == len(threads)
        assert any(b"408" in answer for answer in ends)
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def test_two_hundred_at_once_are_all_answered(server: Server, ann: Client) -> None:
    found: list[int] = []

    def ask(number: int) -> None:
        path = ("/health", "/api/images", "/api/images/1", "/api/images/1/thumbnail")[number % 4]
        for _ in range(20):
            try:
                status = ann.get(path).status
            except OSError:
                continue  # let go because others waited; a browser asks again
            if status != 429:
                found.append(status)
                return

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(200)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [200] * 200


def test_more_pictures_than_can_wait_are_refused(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pixels, "WAITING", 2)
    pictures = Pictures(project)
    gate, inside = threading.Event(), threading.Semaphore(0)
    load = pixels.load_apart

    def slow(*args: object, **more: object) -> Image.Image:
        inside.release()
        gate.wait(30)
        return load(*args, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(pixels, "load_apart", slow)
    threads = [threading.Thread(target=pictures.preview, args=(id,)) for id in (1, 2)]
    for thread in threads:
        thread.start()
    inside.acquire()
    inside.acquire()
    with pytest.raises(Refusal) as refused:
        pictures.preview(3)
    assert refused.value.status == 429 and refused.value.headers["Retry-After"] == "1"
    gate.set()
    for thread in threads:
        thread.join()
    assert pictures.preview(3)


def png_of(width: int, height: int) -> bytes:
    """A PNG that claims a size and has a few bytes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 500)) + chunk(b"IEND", b"")
    )


@cache
def bombs() -> dict[str, bytes]:
    pages = io.BytesIO()
    frames = [Image.new("L", (2, 2), n % 255) for n in range(1_000)]
    frames[0].save(pages, "TIFF", save_all=True, append_images=frames[1:])
    gif = io.BytesIO()
    frames[0].save(gif, "GIF", save_all=True, append_images=frames[1:50])
    whole = io.BytesIO()
    Image.effect_noise((200, 200), 80).save(whole, "JPEG")
    return {
        "huge.png": png_of(60_000, 60_000), "cut.jpg": whole.getvalue()[:4_000], "pages.tif": pages.getvalue(),
        "frames.jpg": gif.getvalue(), "post.jpg": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
        "empty.png": b"",
        "fits.jpg": b"SIMPLE  =                    T" + b" " * 3_000, "shop.jpg": b"8BPS\0\1" + b"\0" * 400,
        "page.jpg": b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>",
        "thin.png": png_of(2**31 - 1, 1), "zero.png": png_of(0, 0),
    }  # fmt: skip


def test_crafted_pictures_are_refused_at_once(tmp_path: Path) -> None:
    """S11: in the folder that is added; nothing is decoded into memory, the rest of the folder is fine."""
    folder = tmp_path / "f"
    folder.mkdir()
    Image.new("RGB", (40, 30)).save(folder / "good.png")
    for name, data in bombs().items():
        (folder / name).write_bytes(data)
    with create_project(tmp_path / "p", "p") as project:
        added = add_folder(project, folder)
    assert set(added.refused) == set(bombs()) and len(added.ids) == 1


@pytest.mark.parametrize("name", sorted(bombs()))
def test_a_photograph_that_became_a_bomb_is_refused(server: Server, ann: Client, tmp_path: Path, name: str) -> None:
    """S11: the bytes must have the hash that was recorded; nothing of them is decoded or sent."""
    (tmp_path / "photographs" / "cell-002.png").write_bytes(bombs()[name])
    for path in ("preview", "thumbnail", "tiles/0/0/0"):
        found = ann.get(f"/api/images/2/{path}")
        assert found.status == 422 and "changed since" in found.json["error"]


def test_pictures_are_encoded_again_and_upright(tmp_path: Path) -> None:
    """Neither metadata nor anything behind the picture leaves; EXIF orientation is applied."""
    folder = tmp_path / "f"
    folder.mkdir()
    image = Image.new("RGB", (1300, 40), "black")
    image.paste((255, 255, 255), (0, 0, 650, 40))
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees
    exif[0x010E] = "a secret description"
    image.save(folder / "a.jpg", exif=exif, quality=95)
    with open(folder / "a.jpg", "ab") as file:
        file.write(b"<script>alert(1)</script>")
    with create_project(tmp_path / "p", "p") as project:
        add_folder(project, folder)
        pictures = Pictures(project)
        for data, size in (
            (pictures.preview(1), (40, 1300)), (pictures.preview(1, 96), (3, 96)),
            (pictures.tile(1, 0, 0, 0), (40, TILE)), (pictures.tile(1, 0, 0, 1), (40, 1300 - TILE)),
            (pictures.tile(1, 1, 0, 0), (20, 650)),
        ):  # fmt: skip
            shown = Image.open(io.BytesIO(data))
            assert shown.format == "JPEG" and shown.size == size and not shown.getexif()
            assert b"script" not in data and b"secret" not in data
        top, bottom = Image.open(io.BytesIO(pictures.preview(1))).convert("L"), pictures.tile(1, 0, 0, 1)
        assert top.getpixel((20, 100)) > 250 and top.getpixel((20, 1200)) < 5
        assert Image.open(io.BytesIO(bottom)).convert("L").getpixel((20, 200)) < 5
        for outside in ((0, 1, 0), (0, 0, 2), (1, 0, 1), (9, 0, 0), (999, 0, 0)):
            with pytest.raises(Refusal, match="no such tile"):
                pictures.tile(1, *outside)


def test_caches_are_bounded(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    pictures = Pictures(project)
    one = len(pictures.preview(1))
    monkeypatch.setattr(pixels, "ENCODED", one * 2)
    monkeypatch.setattr(pixels, "DECODED", 640 * 640 * 3)
    for id in (1, 2, 3, 4):
        pictures.preview(id)
    assert sum(map(len, pictures._encoded.values())) <= one * 2 and len(pictures._decoded) == 1


def test_the_server_comes_back_where_it_was(project: Project, tmp_path: Path) -> None:
    """The page that stayed open finds it: the port of the last time, if it is free."""
    file = tmp_path / "s.json"

    def opened() -> Server:
        sessions = Sessions(PEOPLE, file, project.directory)
        return Server(Desk(project, "p", sessions, Pictures(project)), log=lambda line: None)

    first = opened()
    first.start()
    ann = enter(first, "ann")
    first.close()
    second = opened()
    second.start()
    assert second.port == first.port and ann.get("/api/session").json["annotator"] == "ann"
    third = opened()  # the port is taken now
    third.start()
    assert third.port != second.port and Client(third).get("/health").status == 200
    second.close()
    third.close()
