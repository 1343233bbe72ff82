"""The local server of the page: accepts, guards, routes, answers.

A thread a connection, at most `CONNECTIONS`; when all are taken, the one that has waited longest for its client goes.
A watch closes what takes too long to say what it wants. What fails inside is logged with a number, and the number is
all that the client is told.
"""

from __future__ import annotations

import contextlib
import ipaddress
import secrets
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import urlsplit

from ...errors import UserError
from .assets import pages
from .desk import Desk
from .guard import (
    HEADERS,
    allowed_hosts,
    check_change,
    check_host,
    check_origin,
    check_person,
    cookie_of,
    parse_query,
    redacted,
)  # fmt: skip
from .image_routes import IMAGE_ROUTES
from .messages import Person, Refusal, Request, Response, Route, answer, find_route, parse_body
from .review_routes import REVIEW_ROUTES
from .sessions import MAX_AGE

__all__ = ["Server", "is_loopback", "is_wildcard", "route_table"]

CONNECTIONS = 128
HEAD_SECONDS = 15.0  # for the head of a request, from when the connection is free
BODY_SECONDS = 30.0
SEND_SECONDS = 60.0
DRAIN = 2**20  # bytes of a refused body that are read and thrown away, so that the refusal arrives
TIMED_OUT = b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
NOBODY = Person("", False, False)


def health(desk: Desk, request: Request) -> Response:
    """That the server lives; says nothing else."""
    return answer({"ok": True})


def route_table() -> dict[tuple[str, ...], list[Route]]:
    """Words of a path -> its routes; all but two ask who is there."""
    open_ = (Route("GET", "/health", health, "anyone"), Route("GET", "/enter", enter, "anyone"))
    table: dict[tuple[str, ...], list[Route]] = {}
    for route in (*open_, *pages(), *IMAGE_ROUTES, *REVIEW_ROUTES):
        table.setdefault(tuple(route.path.split("/")), []).append(route)
    return table


def enter(desk: Desk, request: Request) -> Response:
    """The link of a person: its token becomes a cookie. The page that goes on is ours, so the cookie, which is
    SameSite=Strict, goes with it, wherever the link was clicked."""
    cookie = desk.sessions.enter(request.query.get("token", ""))
    if cookie is None:
        raise Refusal(401, "this link is of an earlier start; take the newest one from the terminal")
    value = f"{cookie_name(desk)}={cookie}; HttpOnly; SameSite=Strict; Path=/; Max-Age={MAX_AGE}"
    page = (
        b'<!doctype html><meta charset="utf-8"><meta http-equiv="refresh" content="0; url=/"><title>bessemer</title>'
        b'<link rel="icon" href="/static/icon.svg" type="image/svg+xml">'
    )
    return Response(page, "text/html; charset=utf-8", headers={"Set-Cookie": value})


def cookie_name(desk: Desk) -> str:
    """Browsers do not keep the cookies of two ports apart, so the name does."""
    return f"bessemer_{desk.sessions.port}"


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches a server there."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def is_wildcard(host: str) -> bool:
    """Whether a server there listens on every address of this machine, so that it has no name by itself."""
    try:
        return host in ("", "0") or ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return False


@dataclass
class _Connection:
    """A client and until when it has to say something; no deadline while we are at work."""

    socket: socket.socket
    deadline: float
    waiting: bool = True


class Server:
    """The server of one desk; `start` returns at once, `close` waits for what is being answered."""

    def __init__(
        self, desk: Desk, host: str = "127.0.0.1", port: int = 0, names: Sequence[str] = (),
        log: Callable[[str], None] = lambda line: print(line, file=sys.stderr, flush=True),
        head_seconds: float = HEAD_SECONDS,
    ) -> None:  # fmt: skip
        self.desk = desk
        self.routes = route_table()
        self.log = log
        self.head_seconds = head_seconds
        self._guard = threading.Lock()
        self._open: dict[int, _Connection] = {}
        self._stopping = threading.Event()
        self._listener = _listen(host, port, desk.sessions.port)
        self.port: int = self._listener.getsockname()[1]
        # Browsers are sent to a name where there is one: no browser reaches the address 0.0.0.0 of another machine.
        own, *more = (f"[{name}]" if ":" in name and "[" not in name else name for name in (host, *names))
        self.host = more[0] if more else own
        self.hosts = allowed_hosts([own, *more], self.port)
        desk.sessions.keep(self.port)

    def link(self, name: str) -> str:
        """The address that lets a person in."""
        return f"http://{self.host}:{self.port}/enter?token={self.desk.sessions.tokens[name]}"

    def start(self) -> None:
        """Accept from now on."""
        for work in (self._accept, self._watch):
            threading.Thread(target=work, daemon=True, name=f"annotate{work.__name__}").start()

    def close(self, seconds: float = 10.0) -> None:
        """Accept nothing new, let what is at work finish, close the rest."""
        self._stopping.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            with self._guard:
                busy = [connection for connection in self._open.values() if not connection.waiting]
            if not busy:
                break
            time.sleep(0.02)
        with self._guard:
            for connection in self._open.values():
                _shut(connection.socket)

    def _accept(self) -> None:
        while not self._stopping.is_set():
            try:
                client, address = self._listener.accept()
            except OSError:
                if not self._stopping.is_set():
                    time.sleep(0.05)  # out of descriptors: the watch frees some
                continue
            connection = _Connection(client, time.monotonic() + self.head_seconds)
            with self._guard:
                if len(self._open) >= CONNECTIONS:
                    idle = [each for each in self._open.values() if each.waiting]
                    if not idle or len(self._open) >= 2 * CONNECTIONS:
                        client.close()
                        continue
                    longest = min(idle, key=lambda each: each.deadline)
                    longest.waiting = False  # going: nobody chooses it again
                    _shut(longest.socket)
                self._open[id(connection)] = connection
            threading.Thread(target=self._serve, args=(connection, address), daemon=True).start()

    def _serve(self, connection: _Connection, address: Any) -> None:
        try:
            _Handler(connection, address, self)
        except (OSError, ValueError):
            connection.waiting = True  # the client has gone, or was closed while it said nothing
        finally:
            with self._guard:
                self._open.pop(id(connection), None)
            with contextlib.suppress(OSError):
                connection.socket.close()

    def _watch(self) -> None:
        while not self._stopping.wait(0.25):
            now = time.monotonic()
            with self._guard:
                late = [each for each in self._open.values() if each.deadline < now]
            for connection in late:
                if connection.waiting:
                    with contextlib.suppress(OSError):
                        connection.socket.send(TIMED_OUT, socket.MSG_DONTWAIT)
                _shut(connection.socket)


def _listen(host: str, port: int, before: int) -> socket.socket:
    """A listening socket; for port 0 that of the last start if it is free (an open page finds us again), else any."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for number in (port,) if port else (before, 0):
        try:
            return socket.create_server((host, number), family=family, backlog=128)
        except OSError as error:
            failed = error
            if not port and number:
                continue
            break
    raise UserError(f"{host}:{port} cannot be listened on ({failed.strerror}), expected a free port of this machine")


def _shut(client: socket.socket) -> None:
    with contextlib.suppress(OSError):
        client.shutdown(socket.SHUT_RDWR)


class _Handler(BaseHTTPRequestHandler):
    """One connection; the standard library wants it to be a class of this kind."""

    protocol_version = "HTTP/1.1"
    server_version = "bessemer"

    def __init__(self, connection: _Connection, address: Any, server: Server) -> None:
        self._own = connection
        self._app = server
        super().__init__(connection.socket, address, server)  # type: ignore[arg-type]

    def handle_one_request(self) -> None:
        self._until(self._app.head_seconds, waiting=True)
        super().handle_one_request()

    def _until(self, seconds: float, waiting: bool = False) -> None:
        self._own.waiting = waiting
        self._own.deadline = time.monotonic() + seconds

    def do_GET(self) -> None:
        """Answer a GET."""
        self._answer("GET")

    def do_POST(self) -> None:
        """Answer a POST."""
        self._answer("POST")

    def _answer(self, method: str) -> None:
        self._own.waiting = False
        self._own.deadline = float("inf")
        unread = 1  # of the body, until it is known
        try:
            route, ids, query, person = self._guarded(method)
            body = self._body(route.limit) if method == "POST" else b""
            unread = 0
            if method == "GET" and self.headers.get("Content-Length", "0") != "0":
                raise Refusal(400, "a GET with a body", {"Connection": "close"})
            request = Request(ids, query, parse_body(body) if method == "POST" else {}, person)
            response = route.handler(self._app.desk, request)
        except Refusal as refusal:
            headers = refusal.headers if not unread or method == "GET" else {"Connection": "close", **refusal.headers}
            response = self._refused(refusal.status, refusal.message, headers)
        except UserError as error:
            response = self._refused(422, str(error), {})
        except (ConnectionError, TimeoutError):
            raise
        except Exception:
            number, closing = secrets.token_hex(4), {"Connection": "close"}
            self._app.log(redacted(f"error {number} {method} {self._route()}\n{traceback.format_exc()}"))
            response = self._refused(500, f"an error of the server, number {number} in its log", closing)
        self._send(response)

    def _guarded(self, method: str) -> tuple[Route, tuple[int, ...], dict[str, str], Person]:
        """What is asked for and by whom, once everything that needs no body is in order."""
        app = self._app
        host = check_host(self.headers, self.headers.get_all("Host", []), app.hosts)
        check_origin(self.headers, host)
        parts = urlsplit(self.path) if self.path.startswith("/") else urlsplit("/?")
        person = app.desk.sessions.person(cookie_of(self.headers, cookie_name(app.desk))) or NOBODY
        path = parts.path if self.path.startswith("/") and not self.path.startswith("//") else ""
        if not person.name and path not in ("/health", "/enter"):
            raise Refusal(401, "not entered; open the link that the terminal shows")
        route, ids = find_route(app.routes, method, path)
        if route.access == "annotator" and not person.annotates or route.access == "reviewer" and not person.reviews:
            raise Refusal(403, f"only for {route.access}s")
        (check_change if method == "POST" else check_person)(self.headers, person.name)
        return route, ids, parse_query(parts.query), person

    def _body(self, limit: int) -> bytes:
        if "Transfer-Encoding" in self.headers:
            raise Refusal(411, "a body without Content-Length")
        lengths = self.headers.get_all("Content-Length", [])
        if len(lengths) != 1 or not (lengths[0].isascii() and lengths[0].isdigit() and len(lengths[0]) <= 15):
            raise Refusal(411, "a body without one Content-Length")
        length = int(lengths[0])
        if length > limit:
            raise Refusal(413, f"a body of {length} bytes, expected at most {limit}")
        self._until(BODY_SECONDS, waiting=True)
        data = self.rfile.read(length)
        if len(data) < length:
            raise ConnectionError("the body ended early")
        self._until(float("inf"))
        return data

    def _refused(self, status: int, message: str, headers: dict[str, str]) -> Response:
        self._app.log(redacted(f"{status} {self.command} {self._route()}: {message}"))
        response = answer({"error": message}, status)
        return Response(response.data, response.kind, status, headers)

    def _route(self) -> str:
        return self.path.split("?")[0][:200]

    def _send(self, response: Response) -> None:
        self._until(SEND_SECONDS)
        self.send_response(response.status)
        for name, value in HEADERS.items():
            self.send_header(name, value)
        fixed = {"Content-Type": response.kind, "Content-Length": str(len(response.data)), "Cache-Control": "no-store"}
        for name, value in (fixed | response.headers).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(response.data)
        if self.close_connection:
            self._drain()

    def _drain(self) -> None:
        """Read what the client is still sending for a moment: closing on it would take the answer away."""
        self.wfile.flush()
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_WR)
            self.connection.settimeout(0.5)
            left = DRAIN
            while left > 0 and (data := self.connection.recv(65536)):
                left -= len(data)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """What the standard library refuses by itself (a head that is too long or none), in our form."""
        self.close_connection = True
        self._send(answer({"error": message or "a request that cannot be read"}, code))

    def version_string(self) -> str:
        """No versions."""
        return self.server_version

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: what is refused and what fails is logged by us, without tokens."""
