"""What a browser asks and what it is answered: requests whose parts are checked, responses, refusals, the route
table."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from ...annotation.codec import to_json
from ...data.jsonl import finite_float
from ...data.paths import shown
from ...errors import UserError

__all__ = [
    "Access", "Handler", "Method", "Person", "Refusal", "Request", "Response", "Route", "answer", "find_route",
    "parse_body",
]  # fmt: skip

Method: TypeAlias = Literal["GET", "POST"]
Access: TypeAlias = Literal["anyone", "person", "annotator", "reviewer"]
MAX_ID_DIGITS = 15  # exact in JavaScript


class Refusal(Exception):
    """A request that is not served: an HTTP status and a sentence for the page, which shows it as text."""

    def __init__(self, status: int, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.headers = dict(headers or {})


@dataclass(frozen=True)
class Person:
    """Somebody with a link of their own; who reviews sees everybody's work."""

    name: str
    annotates: bool
    reviews: bool


@dataclass(frozen=True)
class Request:
    """A request that passed the guard. ids: the numbers of the path in their order; query: each name once; body: the
    JSON object of a POST, {} of a GET; person: whose session it is (nobody's on open routes)."""

    ids: tuple[int, ...]
    query: dict[str, str]
    body: dict[str, Any]
    person: Person = field(default=Person("", False, False))

    def get(self, name: str, kind: type, default: Any = None) -> Any:
        """The value of a key of the body, of that JSON type exactly; refused where it is absent without a default."""
        value = self.body.get(name, default)
        if name not in self.body and default is not None:
            return default
        if type(value) is not kind:
            raise Refusal(400, f"{name!r} is {shown(value, 40)!r}, expected {kind.__name__}")
        return value

    def number(self, name: str, default: int) -> int:
        """A whole number of the query, 0 or more."""
        text = self.query.get(name, "")
        if not text:
            return default
        if not (text.isascii() and text.isdigit() and len(text) <= MAX_ID_DIGITS):
            raise Refusal(400, f"{name} {shown(text, 40)!r}, expected a whole number")
        return int(text)

    def numbers(self, name: str) -> tuple[int, ...] | None:
        """Whole numbers of the query with spaces between, None where the name is not given."""
        if name not in self.query:
            return None
        words = self.query[name].split(" ")
        if not all(word.isascii() and word.isdigit() and len(word) <= MAX_ID_DIGITS for word in words):
            raise Refusal(400, f"{name} {shown(self.query[name], 40)!r}, expected whole numbers")
        return tuple(int(word) for word in words)


@dataclass(frozen=True)
class Response:
    """What is sent back; headers beside those that every response has."""

    data: bytes
    kind: str = "application/json; charset=utf-8"
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)


Handler: TypeAlias = Callable[[Any, Request], Response]


@dataclass(frozen=True)
class Route:
    """A method and a path of fixed words and `{id}` for a number; `limit` of the body in bytes."""

    method: Method
    path: str
    handler: Handler
    access: Access = "person"
    limit: int = 2**20


def answer(value: Any, status: int = 200) -> Response:
    """A JSON response."""
    return Response(to_json(value).encode(), status=status)


def find_route(routes: Mapping[tuple[str, ...], list[Route]], method: str, path: str) -> tuple[Route, tuple[int, ...]]:
    """The route of a path and its numbers. Nothing is decoded and nothing is a file name: words are compared, `{id}`
    takes digits.

    Raises:
        Refusal: 404 no such path; 405 another method.
    """
    words = path.split("/")
    ids: list[int] = []
    for place, word in enumerate(words):
        if word.isascii() and word.isdigit() and len(word) <= MAX_ID_DIGITS:
            ids.append(int(word))
            words[place] = "{id}"
    found = routes.get(tuple(words))
    if found is None:
        raise Refusal(404, "no such page")
    for route in found:
        if route.method == method:
            return route, tuple(ids)
    raise Refusal(405, "another method", {"Allow": ", ".join(route.method for route in found)})


def parse_body(data: bytes) -> dict[str, Any]:
    """The JSON object of a body. Raises Refusal 400: not UTF-8, not JSON, NaN, nested too deep, no object."""

    def refuse(text: str) -> None:
        raise ValueError(f"{text} is no JSON number")

    try:
        value = json.loads(data.decode(), parse_constant=refuse, parse_float=finite_float)
    except (ValueError, RecursionError, UserError) as error:
        raise Refusal(400, f"the body is no JSON ({shown(error, 100)})") from error
    if not isinstance(value, dict):
        raise Refusal(400, "the body is no JSON object")
    return value
