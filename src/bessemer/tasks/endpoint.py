"""One JSON request to an address the user gave, with a deadline, retries and nothing clever: no redirects, no
proxies, no cookies.

Plain http goes to this machine only; elsewhere https. The key comes from an environment variable when a
request is made, and is struck out of every message.
"""

from __future__ import annotations

import http.client
import ipaddress
import json
import os
import ssl
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import SplitResult, urlsplit

from ..data.paths import shown
from ..errors import UserError

__all__ = ["Endpoint"]

MAX_REPLY = 1_000_000
MAX_WAIT = 60.0
_RETRIED = (408, 409, 425, 429, 500, 502, 503, 504)


@dataclass(frozen=True)
class Endpoint:
    """An address to post JSON to.

    url: http(s)://host[:port]/path. key_variable: name of the environment variable that holds the key, "" for
    none. timeout: seconds for one attempt, from connecting to the last byte. retries: attempts after the
    first one, on 408, 409, 425, 429, 5xx, broken connections and timeouts, after backoff, 2 backoff, 4
    backoff ... seconds, or what Retry-After says (at most 60).
    """

    url: str
    key_variable: str = ""
    timeout: float = 60.0
    retries: int = 3
    backoff: float = 1.0
    sleep: Callable[[float], None] = time.sleep

    def __post_init__(self) -> None:
        _parts(self.url)

    def post(self, body: Mapping[str, Any]) -> dict[str, Any] | None:
        """The JSON object that the address answers with; None, with a warning on stderr, when every attempt
        failed or it is no object.

        Raises:
            UserError: refused for good (401, 404, a redirect ...); no key; a reply of more than 1 MB.
        """
        data = json.dumps(body, ensure_ascii=False).encode()
        headers = {"Content-Type": "application/json", "Accept": "application/json", **self._authorization()}
        for attempt in range(self.retries + 1):
            wait = self.backoff * 2**attempt
            try:
                status, retry_after, reply = self._send(data, headers)
            except (OSError, http.client.HTTPException) as error:
                failure = f"{type(error).__name__}: {error}"
            else:
                if status == 200:
                    return self._object(reply)
                failure = f"status {status}"
                if status not in _RETRIED:
                    text = reply.decode(errors="replace")
                    raise UserError(
                        self._clean(f"{self.url}: {failure} ({text}), expected 200; check address, model and key")
                    )
                wait = retry_after if retry_after is not None else wait
            if attempt < self.retries:
                self.sleep(min(MAX_WAIT, wait))
        print(
            self._clean(f"warning: {self.url}: {failure}, {self.retries + 1} attempts; missing"),
            file=sys.stderr,
        )
        return None

    def _authorization(self) -> dict[str, str]:
        key = self._key()
        return {"Authorization": f"Bearer {key}"} if key else {}

    def _key(self) -> str:
        if not self.key_variable:
            return ""
        key = os.environ.get(self.key_variable, "").strip()
        if not key or not key.isascii() or not key.isprintable():
            name = shown(self.key_variable, 40)
            raise UserError(f"environment variable {name} is empty, expected a key for {self.url}")
        return key

    def _clean(self, message: str) -> str:
        key = os.environ.get(self.key_variable, "").strip() if self.key_variable else ""
        return shown(message.replace(key, "***") if key else message, 300)

    def _object(self, reply: bytes) -> dict[str, Any] | None:
        try:
            value = json.loads(reply.decode())
        except (ValueError, RecursionError):
            value = None
        if isinstance(value, dict):
            return value
        print(f"warning: {self.url}: the reply is no JSON object; missing", file=sys.stderr)
        return None

    def _send(self, data: bytes, headers: Mapping[str, str]) -> tuple[int, float | None, bytes]:
        parts = _parts(self.url)
        deadline = time.monotonic() + self.timeout
        host = parts.hostname or ""
        connection: http.client.HTTPConnection
        if parts.scheme == "https":
            connection = http.client.HTTPSConnection(
                host, parts.port, timeout=self.timeout, context=ssl.create_default_context()
            )
        else:
            connection = http.client.HTTPConnection(host, parts.port, timeout=self.timeout)
        try:
            target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
            connection.request("POST", target, body=data, headers=dict(headers))
            response = connection.getresponse()
            chunks: list[bytes] = []
            size = 0
            while chunk := response.read1(65_536):
                chunks.append(chunk)
                size += len(chunk)
                if size > MAX_REPLY:
                    raise UserError(f"{self.url}: a reply of more than {MAX_REPLY} bytes, expected a verdict")
                left = deadline - time.monotonic()
                if left <= 0:
                    raise TimeoutError(f"no whole reply within {self.timeout:g} s")
                if connection.sock is not None:
                    connection.sock.settimeout(left)
            return response.status, _seconds(response.getheader("Retry-After")), b"".join(chunks)
        finally:
            connection.close()


def _parts(url: str) -> SplitResult:
    """The address in parts; UserError for what must not be posted to."""
    expected = "expected https://host/path, or http:// on this machine"
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError as error:
        raise UserError(f"address {shown(url)!r}: {shown(error)}, {expected}") from error
    if parts.username is not None or parts.password is not None:
        raise UserError(
            f"the address of {shown(host)} holds a name or password, {expected}; "
            "put the key into an environment variable"
        )
    odd = parts.scheme not in ("http", "https") or not host or parts.fragment or port == 0
    if odd or any(c.isspace() or not c.isprintable() or c == "\\" for c in url):
        raise UserError(f"address {shown(url)!r}, {expected}")
    if parts.scheme == "http" and not _is_loopback(host):
        raise UserError(f"address {shown(url)!r} sends photographs and key in the clear, {expected}")
    return parts


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _seconds(value: str | None) -> float | None:
    """A Retry-After in seconds; dates and nonsense are passed over."""
    return float(value) if value and value.isascii() and value.isdigit() and len(value) < 10 else None
