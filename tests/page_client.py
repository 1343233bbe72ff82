"""A browser without a screen, for tests of the annotation page's server."""

from __future__ import annotations

import http.client
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from bessemer.apps.annotate.messages import Person
from bessemer.apps.annotate.server import Server

ME = (Person("ann", True, True),)
PEOPLE = (Person("ann", True, False), Person("bo", True, False), Person("dora", False, True))


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    data: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.data)


@dataclass
class Client:
    """A browser without a screen: one person's cookie, and the headers that the page sends."""

    server: Server
    name: str = ""
    cookie: str = ""

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.server.port}"

    def send(self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str | None] = {}) -> Answer:
        """A request with exactly these headers beside Host and Cookie; None leaves one of them out."""
        every = {"Host": self.host, **({"Cookie": self.cookie} if self.cookie else {}), **headers}
        connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=30)
        connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
        if body is not None and "Content-Length" not in every:
            connection.putheader("Content-Length", str(len(body)))
        for name, value in every.items():
            if value is not None:
                connection.putheader(name, value)
        connection.endheaders(body)
        response = connection.getresponse()
        answer = Answer(response.status, dict(response.getheaders()), response.read())
        connection.close()
        return answer

    def get(self, path: str) -> Answer:
        return self.send("GET", path)

    def post(self, path: str, body: Any, headers: Mapping[str, str | None] = {}) -> Answer:
        every = {
            "Origin": f"http://{self.host}", "X-Bessemer": quote(self.name, safe=""),
            "Content-Type": "application/json", **headers,
        }  # fmt: skip
        return self.send("POST", path, json.dumps(body).encode(), every)


def enter(server: Server, name: str) -> Client:
    client = Client(server, name)
    found = client.get(f"/enter?token={server.desk.sessions.tokens[name]}")
    assert found.status == 200
    client.cookie = found.headers["Set-Cookie"].split(";")[0]
    return client
