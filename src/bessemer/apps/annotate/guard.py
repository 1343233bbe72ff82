"""What every request must pass before a route sees it, and what every response carries.

Host: a name of this server alone (DNS rebinding, Ollama CVE-2024-28224). Origin: if there is one, this server's,
exactly, cookie or not (Gradio CVE-2024-47084, CVE-2024-47165). Changes need it, a header that no form can send, and
JSON. There are no CORS headers.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from email.message import Message
from typing import TypeAlias
from urllib.parse import parse_qsl, quote

from ...data.paths import shown
from .messages import Refusal

__all__ = [
    "HEADERS", "Headers", "allowed_hosts", "check_change", "check_host", "check_origin", "check_person", "cookie_of",
    "parse_query", "redacted",
]  # fmt: skip

Headers: TypeAlias = "Message[str, str]"

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; "
        "form-action 'none'; object-src 'none'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
}
LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
MAX_FIELDS = 20  # of a query

_TOKEN = re.compile(r"(token=)[^\s&\"']+", re.IGNORECASE)
_SECRET = re.compile(r"((?:cookie|authorization)\s*[:=]\s*)[^\r\n]+", re.IGNORECASE)


def allowed_hosts(names: Sequence[str], port: int) -> frozenset[str]:
    """The values of Host that are answered: loopback and the names, with the port."""
    return frozenset(f"{name.lower()}:{port}" for name in (*LOOPBACK, *names))


def check_host(headers: Headers, all_hosts: Sequence[str], allowed: frozenset[str]) -> str:
    """The Host; Refusal 403 unless there is exactly one and it is ours."""
    host = headers.get("Host", "").lower()
    if len(all_hosts) != 1 or host not in allowed:
        name = shown(host.rpartition(":")[0] or host, 60)
        raise Refusal(403, f"this server is not reached as {name!r}; if it is, start it with that in host_names=[...]")
    return host


def check_origin(headers: Headers, host: str) -> None:
    """Refusal 403 when the request comes from another place; Sec-Fetch-Site is heard where browsers send it."""
    origin = headers.get("Origin")
    if origin is not None and origin.lower() != f"http://{host}":
        raise Refusal(403, "the request comes from another page")
    navigates = headers.get("Sec-Fetch-Mode") == "navigate" and headers.get("Sec-Fetch-Dest") == "document"
    if headers.get("Sec-Fetch-Site", "none") not in ("none", "same-origin") and not navigates:
        raise Refusal(403, "the request comes from another page")


def check_person(headers: Headers, person: str) -> None:
    """Refusal 401 when a page says that it is another person's: the browser has a newer session than the page."""
    if headers.get("X-Bessemer", quote(person, safe="")) != quote(person, safe=""):
        raise Refusal(401, "somebody else has entered in this browser; open your own link again")


def check_change(headers: Headers, person: str) -> None:
    """What changes something says where it comes from, for whom, and is JSON.

    Raises:
        Refusal: 403 no Origin or no X-Bessemer; 401 the browser has another person's session by now; 415 another type.
    """
    if "Origin" not in headers or "X-Bessemer" not in headers:
        raise Refusal(403, "the request does not come from the page")
    check_person(headers, person)
    if headers.get("Content-Type", "").split(";")[0].strip().lower() != "application/json":
        raise Refusal(415, "the body is not application/json")


def cookie_of(headers: Headers, name: str) -> str:
    """The value of a cookie, or ""; of two with the same name the first."""
    for part in headers.get("Cookie", "").split(";"):
        key, _, value = part.strip().partition("=")
        if key == name:
            return value
    return ""


def parse_query(text: str) -> dict[str, str]:
    """The fields of a query; Refusal 400: too many, one twice, not Unicode."""
    try:
        pairs = parse_qsl(text, keep_blank_values=True, max_num_fields=MAX_FIELDS, errors="strict")
    except ValueError as error:
        raise Refusal(400, "a query that cannot be read") from error
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise Refusal(400, "a field of the query that stands twice")
    return fields


def redacted(text: str) -> str:
    """A line for the log, without tokens and cookies, and without control characters."""
    plain = _SECRET.sub(r"\1***", _TOKEN.sub(r"\1***", text))
    return "".join(c if c.isprintable() or c == "\n" else "�" for c in plain)
