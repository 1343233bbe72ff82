"""Who may ask what: S1, S5, S6, S8, S9 and the checklist of a safe local server."""

from __future__ import annotations

import re
import socket
import stat
import time
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from bessemer.apps.annotate import image_routes
from bessemer.apps.annotate.guard import redacted
from bessemer.apps.annotate.messages import Route
from bessemer.apps.annotate.server import Server, is_loopback
from bessemer.apps.annotate.sessions import MAX_AGE, Sessions
from bessemer.errors import UserError
from page_client import PEOPLE, Client, enter

NAMES = (";touch x", "$(touch x)", "-rf", "../x", "a\0b", "x" * 10_000, "`id`", "|cat", "con", "..")
SAVE = {"version": 0, "annotations": [{"id": "1", "label": "crack", "shape": {"kind": "point", "x": 1, "y": 2}}]}


def every_route(server: Server) -> list[tuple[Route, str]]:
    """Each route with a path that fits it."""
    return [(r, r.path.replace("{id}", "1")) for routes in server.routes.values() for r in routes]


def test_nobody_sees_anything_without_a_cookie(server: Server, stranger: Client) -> None:
    closed = 0
    for route, path in every_route(server):
        wanted = 200 if path == "/health" else 401
        found = stranger.get(path) if route.method == "GET" else stranger.post(path, {})
        assert found.status == wanted, path
        assert b"cell" not in found.data and b"crack" not in found.data
        closed += wanted == 401
    assert closed > 25
    assert stranger.get("/nothing").status == 401  # what there is and what not is not said either


@pytest.mark.parametrize(
    "cookie", ["bessemer_0=", "bessemer_{port}=", "bessemer_{port}=x", "bessemer_{port}=" + "é" * 9]
)
def test_other_cookies_do_not_let_in(server: Server, stranger: Client, cookie: str) -> None:
    stranger.cookie = cookie.format(port=server.port)
    assert stranger.get("/api/session").status == 401


def test_a_token_lets_in_and_its_cookie_is_kept_from_scripts_and_other_sites(server: Server, stranger: Client) -> None:
    found = stranger.get(f"/enter?token={server.desk.sessions.tokens['ann']}")
    assert found.status == 200 and b"url=/" in found.data
    parts = found.headers["Set-Cookie"].split("; ")
    assert parts[0].startswith(f"bessemer_{server.port}=") and {"HttpOnly", "SameSite=Strict", "Path=/"} <= set(parts)
    for wrong in ("", "x", server.desk.sessions.tokens["ann"][:-1], server.desk.sessions.tokens["ann"] + "x"):
        refused = stranger.get(f"/enter?token={wrong}")
        assert refused.status == 401 and "Set-Cookie" not in refused.headers


HOSTS = (
    "evil.com", "localhost.evil.com:{port}", "127.0.0.1.nip.io:{port}", "127.0.0.1", "127.0.0.1:1", "evil.com:{port}",
    "127.0.0.1:{port}.evil.com", "127.0.0.1:{port}@evil.com", "0.0.0.0:{port}", "2130706433:{port}", "", None,
)  # fmt: skip


@pytest.mark.parametrize("host", HOSTS)
@pytest.mark.parametrize("entered", [True, False])
def test_other_hosts_are_refused(server: Server, ann: Client, host: str | None, entered: bool) -> None:
    """S8: DNS rebinding."""
    client = ann if entered else Client(server, "ann")
    name = host.format(port=server.port) if host is not None else None
    for path in ("/", "/api/session", "/health", f"/enter?token={server.desk.sessions.tokens['ann']}"):
        found = client.send("GET", path, headers={"Host": name})
        assert found.status == 403 and "Set-Cookie" not in found.headers
    assert client.post("/api/images/1/save", SAVE, {"Host": name}).status == 403


def test_a_name_that_is_missing_is_said(server: Server, stranger: Client, log: list[str]) -> None:
    """With the setting for it, on the page and in the log; with the setting, the name lets in, and links have it."""
    port = server.port
    for host, name in (
        ("192.0.2.7:{}", "192.0.2.7"),
        ("[fe80::1]:{}", "[fe80::1]"),
        ("Labels.example", "labels.example"),
    ):
        found = stranger.send("GET", "/", headers={"Host": host.format(port)})
        wanted = f"this server is not reached as '{name}'; if it is, start it with that in host_names=[...]"
        assert found.status == 403 and found.json["error"] == wanted and log[-1].endswith(wanted)
    named = Server(server.desk, names=["Labels.example", "fe80::1"], log=log.append)
    named.start()
    try:
        for host in ("labels.example:{}", "[fe80::1]:{}", "127.0.0.1:{}"):
            found = Client(named).send("GET", "/health", headers={"Host": host.format(named.port)})
            assert found.status == 200
        assert named.link("ann").startswith(f"http://Labels.example:{named.port}/enter?token=")
    finally:
        named.close()


ORIGINS = (
    "null", "http://evil.com", "http://localhost.evil", "https://127.0.0.1:{port}", "http://127.0.0.1", "file://",
    "http://127.0.0.1:{other}", "http://127.0.0.1:{port}.evil.com", "http://localhost:{port}", "",
)  # fmt: skip


@pytest.mark.parametrize("origin", ORIGINS)
@pytest.mark.parametrize("entered", [True, False])
def test_other_origins_are_refused(server: Server, ann: Client, origin: str, entered: bool) -> None:
    """S8: with and without a cookie; localhost is another origin than 127.0.0.1."""
    client = ann if entered else Client(server, "ann")
    text = origin.format(port=server.port, other=server.port + 1)
    assert client.send("GET", "/api/session", headers={"Origin": text}).status == 403
    assert client.post("/api/images/1/save", SAVE, {"Origin": text}).status == 403
    assert "Access-Control-Allow-Origin" not in client.send("OPTIONS", "/api/session", headers={"Origin": text}).headers


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Origin": None}, 403),
        ({"X-Bessemer": None}, 403),
        ({"X-Bessemer": "bo"}, 401),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Content-Type": None}, 415),
        ({"Content-Type": "text/plain"}, 415),
        ({"Content-Type": "application/x-www-form-urlencoded"}, 415),
        ({"Content-Type": "text/xml"}, 415),
        ({"Content-Type": "application/zip"}, 415),
        ({"Content-Type": "multipart/form-data; boundary=x"}, 415),
        ({"Content-Type": "application/json; charset=utf-8"}, 200),
        ({}, 200),
    ],
)
def test_a_change_comes_from_the_page(ann: Client, headers: dict[str, Any], status: int) -> None:
    assert ann.post("/api/images/1/save", SAVE, headers).status == status
    assert ann.get("/api/images/1").json["document"]["version"] == (1 if status == 200 else 0)


def test_a_page_of_somebody_else_is_shown_nothing(ann: Client) -> None:
    """Two people in one browser have one cookie, the newest."""
    for path in ("/api/session", "/api/images", "/api/images/1", "/api/rankings"):
        for name, status in (("ann", 200), ("bo", 401)):
            assert ann.send("GET", path, headers={"X-Bessemer": name}).status == status


def test_a_page_of_another_site_reaches_no_picture(ann: Client) -> None:
    found = ann.send(
        "GET", "/api/images/1/preview", headers={"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"}
    )
    assert found.status == 403


def test_every_response_carries_the_policy(server: Server, ann: Client, stranger: Client) -> None:
    for client in (ann, stranger):
        for path in (
            "/",
            "/static/main.js",
            "/api/images/1",
            "/api/images/1/preview",
            "/health",
            "/nothing",
            "/enter?token=x",
        ):
            headers = client.get(path).headers
            policy = dict(part.strip().split(" ", 1) for part in headers["Content-Security-Policy"].split(";"))
            assert policy["default-src"] == "'none'" and policy["script-src"] == "'self'" == policy["style-src"]
            assert "unsafe" not in headers["Content-Security-Policy"]
            assert headers["X-Content-Type-Options"] == "nosniff" and headers["Referrer-Policy"] == "no-referrer"
            assert headers["Server"] == "bessemer"
            if path != "/" and not path.startswith("/static"):
                assert headers["Cache-Control"] == "no-store"


def test_who_annotates_does_not_review_and_the_other_way_round(server: Server, ann: Client, dora: Client) -> None:
    for route, path in every_route(server):
        for client, access in ((ann, "reviewer"), (dora, "annotator")):
            if route.access == access:
                found = client.get(path) if route.method == "GET" else client.post(path, {})
                assert found.status == 403, path
    assert ann.get("/api/images?everybody=1").status == 403


TRAVERSALS = [
    "../", "../../etc/passwd", "..%2f..%2fetc%2fpasswd", "..%252f..%252fetc%252fpasswd", "%2e%2e/%2e%2e/etc/passwd",
    "%2e%2e%2f", "....//....//etc/passwd", "..;/etc/passwd", "..\\..\\windows\\win.ini", "..%5c..%5cwindows",
    "C:\\windows",
    "C:/windows/win.ini", "C%3A%5Cwindows", "/etc/passwd", "//etc/passwd", "%2fetc%2fpasswd", "\\\\host\\share\\x",
    "file:///etc/passwd", "file%3A%2F%2F%2Fetc%2Fpasswd", "1%00.png", "1%00", "%00", "1/../../../etc/passwd",
    "1/%2e%2e/2",
    "%c0%ae%c0%ae/etc/passwd", "%uff0e%uff0e/x", "..%c0%af", "～/x", "~root", "$HOME", "%24%7BHOME%7D", "1.", "1 ",
    "-1",
    "+1", "1e3", "0x1", "١", "999999999999999999999", "main.js/..", "?path=../../etc/passwd", ".", "..", "1;x", "1,2",
]  # fmt: skip


def test_no_path_passes(server: Server, ann: Client, dora: Client) -> None:
    """S6: 45 payloads at every place of every route and in every parameter of the lists."""
    assert len(TRAVERSALS) >= 40
    places = {re.sub(r"\{id\}", "1", "/".join(words[:k])) for words in server.routes for k in range(1, len(words) + 1)}
    secret = Path("/etc/passwd").read_bytes()[:20]
    for payload in TRAVERSALS:
        raw = "".join(c if c.isascii() and c not in ' "' else quote(c) for c in payload)
        for place in sorted(places):
            found = dora.get(f"{place}/{raw}")
            assert found.status in (400, 404) or raw.startswith("?"), (place, payload)
            assert secret not in found.data
    for payload in TRAVERSALS:
        for name in ("text", "label", "scene", "state", "order", "offset", "limit", "token", "path"):
            found = ann.get(f"/api/images?{name}={quote(payload)}")
            assert found.status in (200, 400, 422) and secret not in found.data
    assert ann.get("/static/").status == ann.get("/static").status == ann.get("/api/images/").status == 404


def test_a_link_out_of_the_folder_is_not_followed(server: Server, ann: Client, tmp_path: Path) -> None:
    """S6: a photograph that is replaced by a link after it was added."""
    file = tmp_path / "photographs" / "cell-001.png"
    outside = tmp_path / "outside.png"
    file.rename(outside)
    file.symlink_to(outside)
    found = ann.get("/api/images/1/preview")
    assert found.status == 422 and "leads out" in found.json["error"]


@pytest.mark.parametrize("name", NAMES)
def test_hostile_names_make_no_file(ann: Client, dora: Client, tmp_path: Path, name: str) -> None:
    """S1: names are text of the project or nothing; no shell and no file system sees them."""
    before = {path for path in tmp_path.rglob("*") if "project.sqlite" not in path.name}
    version = ann.get("/api/session").json["labels"]["version"]
    ann.post("/api/labels", {"version": version, "labels": [{"name": name}]})
    ann.post("/api/images/1/save", {"version": 0, "annotations": [{"id": name, "label": name, "text": name}]})
    assert dora.post("/api/snapshots", {"states": [name]}).status == 422
    assert dora.post("/api/images/1/review", {"annotator": name, "version": 1, "verdict": name}).status == 422
    found = ann.get(f"/api/rankings/{quote(name)}") if name != "x" * 10_000 else ann.get("/api/rankings/x")
    assert found.status == 404
    assert {path for path in tmp_path.rglob("*") if "project.sqlite" not in path.name} == before


ADDRESSES = (
    "http://127.0.0.1:9/x.png", "http://2852039166/", "http://127.0.0.1\\@evil/", "file:///etc/passwd", "/etc/passwd",
    "https://evil.com/x.png", "ftp://evil.com/x", "//evil.com/x", "data:image/png;base64,AA", "gopher://evil.com:70/",
)  # fmt: skip


def test_no_address_is_fetched(ann: Client, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """S5: whatever address stands in whatever field, the server connects to nothing."""
    reached: list[Any] = []
    connect = socket.socket.connect

    def watched(self: socket.socket, address: Any) -> None:
        if address != ("127.0.0.1", server.port):
            reached.append(address)
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", watched)
    for version, address in enumerate(ADDRESSES):
        annotations = [{"id": address, "label": address, "text": address, "attributes": {"url": address}}]
        assert ann.post("/api/images/1/save", {"version": version, "annotations": annotations}).status == 200
        assert ann.get(f"/api/images?text={quote(address)}").status == 200
        assert ann.get(f"/enter?token={quote(address)}&next={quote(address)}").status == 401
        assert ann.post("/api/images/1/save", {"version": 0, "url": address}).status == 400
        assert ann.get(f"/api/images/{quote(address, safe='')}/preview").status == 404
    assert reached == []


def test_secrets_are_in_no_log(server: Server, ann: Client, log: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """S9: an error of the server's own, with token and cookie at hand."""
    token, cookie = server.desk.sessions.tokens["ann"], ann.cookie.split("=")[1]

    def broken(*_: Any) -> Any:
        raise RuntimeError(f"GET /enter?token={token} Cookie: bessemer={cookie}")

    monkeypatch.setattr(image_routes.listing, "progress", broken)
    found = ann.get(f"/api/progress?token={token}")
    number = re.search(r"number ([0-9a-f]{8})", found.json["error"])
    assert found.status == 500 and number and b"RuntimeError" not in found.data and b"Traceback" not in found.data
    text = "\n".join(log)
    assert number[1] in text and "RuntimeError" in text and "test_guard.py" in text
    assert token not in text and cookie not in text
    assert redacted("a\x1b[31m token=abc&x Authorization: Basic q=\nb") == "a�[31m token=***&x Authorization: ***\nb"


def test_the_state_file_is_the_users_alone_and_holds_no_secret(server: Server, ann: Client, tmp_path: Path) -> None:
    """S9: mode 0600, outside of the project, hashes instead of cookies; the project's folder holds none of it."""
    file = tmp_path / "state" / "state.json"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) & 0o077 == 0
    secrets = [ann.cookie.split("=")[1], *server.desk.sessions.tokens.values()]
    places = [file, *(path for path in server.desk.project.directory.rglob("*") if path.is_file())]
    for place in places:
        assert not any(secret.encode() in place.read_bytes() for secret in secrets), place
    inside = server.desk.project.directory / "state.json"
    with pytest.raises(UserError, match="outside"):
        Sessions(PEOPLE, inside, server.desk.project.directory)


def test_cookies_outlive_the_server_and_tokens_do_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project, file = tmp_path / "p", tmp_path / "s.json"
    first = Sessions(PEOPLE, file, project)
    cookie = first.enter(first.tokens["ann"])
    assert cookie
    first.keep(1234)
    second = Sessions(PEOPLE, file, project)
    person = second.person(cookie)
    assert person and person.name == "ann" and second.port == 1234
    assert second.enter(first.tokens["ann"]) is None
    assert Sessions(PEOPLE[1:], file, project).person(cookie) is None  # she is no longer named
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + MAX_AGE + 1)
    assert second.person(cookie) is None and Sessions(PEOPLE, file, project).person(cookie) is None
    for damage in (b"", b"[]", b"{", b'{"port": "x"}', b'{"port": 1, "cookies": {"a": 1}}'):
        file.write_bytes(damage)
        assert Sessions(PEOPLE, file, project).person(cookie) is None


def test_two_people_in_one_browser_do_not_write_in_each_others_name(server: Server, ann: Client) -> None:
    """The cookie is bo's by now, the page still ann's."""
    other = enter(server, "bo")
    ann.cookie = other.cookie
    assert ann.post("/api/images/1/save", SAVE).status == 401
    assert other.get("/api/images/1").json["document"]["version"] == 0


OWN, OTHERS = ("127.0.0.1", "127.8.8.8", "::1", "localhost"), ("0.0.0.0", "::", "192.168.0.1", "evil.com")


@pytest.mark.parametrize(("host", "loopback"), [*((host, True) for host in OWN), *((host, False) for host in OTHERS)])
def test_what_is_this_machine(host: str, loopback: bool) -> None:
    assert is_loopback(host) is loopback


def test_there_is_no_other_language_of_methods(ann: Client) -> None:
    for method in ("PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT", "HEAD", "FOO"):
        assert ann.send(method, "/api/session").status in (405, 501)
    assert ann.post("/api/session", {}).status == 405
    assert ann.get("/api/images/1/save").status == 405
