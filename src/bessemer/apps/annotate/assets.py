"""The files of the page, read at the start and served from memory: no request names a file."""

from __future__ import annotations

from importlib.resources import files

from .desk import Desk
from .messages import Handler, Request, Response, Route

__all__ = ["pages"]

KINDS = {
    ".html": "text/html; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
}  # fmt: skip


def pages() -> list[Route]:
    """A route for every file in `static`, and `/` for index.html."""
    routes = []
    for file in sorted(files(__package__).joinpath("static").iterdir(), key=lambda file: file.name):
        suffix = "." + file.name.rpartition(".")[2]
        if suffix in KINDS:
            handler = _constant(file.read_bytes(), KINDS[suffix])
            path = "/" if file.name == "index.html" else f"/static/{file.name}"
            routes.append(Route("GET", path, handler))
    return routes


def _constant(data: bytes, kind: str) -> Handler:
    def handle(desk: Desk, request: Request) -> Response:
        return Response(data, kind, headers={"Cache-Control": "no-cache"})

    return handle
