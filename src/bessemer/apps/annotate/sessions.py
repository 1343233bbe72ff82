"""Who may enter: a link with a random token for each person, which a browser exchanges for a cookie.

Tokens are new at every start. Cookies outlive the server, so that a page that was open when it stopped goes on when
it is started again: of each only the SHA-256 is kept, in a file of mode 0600 outside of the project.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import secrets
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ...data.schema import need
from .messages import Person

__all__ = ["MAX_AGE", "Sessions", "state_file"]

MAX_AGE = 7 * 24 * 3600  # seconds that a cookie is good for
MAX_SESSIONS = 1_000  # of all people together; the oldest go


def state_file(project: Path) -> Path:
    """Where the sessions of a project are kept: in the user's own state directory, by the hash of its path."""
    home = os.environ.get("XDG_STATE_HOME", "")
    base = Path(home) if Path(home).is_absolute() else Path.home() / ".local" / "state"
    return base / "bessemer" / f"annotate-{_digest(str(project.resolve()))[:16]}.json"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


class Sessions:
    """Tokens and cookies of the people of one server; used from many threads."""

    def __init__(self, people: Sequence[Person], file: Path, project: Path) -> None:
        resolved = file.resolve()
        need(not resolved.is_relative_to(project.resolve()), f"{file} in the project", "a place outside of it")
        self.people = {person.name: person for person in people}
        self.tokens = {name: secrets.token_urlsafe(32) for name in self.people}
        self.port = 0
        self._file = file
        self._guard = threading.Lock()
        self._cookies = self._read()  # SHA-256 of a cookie -> (name, when made)

    def _read(self) -> dict[str, tuple[str, float]]:
        try:
            kept: dict[str, Any] = json.loads(self._file.read_bytes())
            self.port = int(kept["port"])
            rows = {str(key): (str(name), float(made)) for key, (name, made) in kept["cookies"].items()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return {}  # it only saves people a click on a new link
        now = time.time()
        return {key: row for key, row in rows.items() if row[0] in self.people and 0 <= now - row[1] < MAX_AGE}

    def keep(self, port: int) -> None:
        """Write the sessions and the port, for the next start."""
        with self._guard:
            self.port = port
            self._write()

    def _write(self) -> None:
        self._file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        temporary = self._file.with_name(f".{self._file.name}.{os.getpid()}.{threading.get_ident()}.tmp")
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with open(handle, "w", encoding="utf-8") as file:
            json.dump({"port": self.port, "cookies": self._cookies}, file)
        os.replace(temporary, self._file)

    def enter(self, token: str) -> str | None:
        """A new cookie for the person whose token it is; every token is compared, whatever the first one says."""
        found = [name for name, known in self.tokens.items() if hmac.compare_digest(known.encode(), token.encode())]
        if not found:
            return None
        cookie = secrets.token_urlsafe(32)
        with self._guard:
            self._cookies[_digest(cookie)] = (found[0], time.time())
            for key in sorted(self._cookies, key=lambda key: self._cookies[key][1])[:-MAX_SESSIONS]:
                del self._cookies[key]
            self._write()
        return cookie

    def person(self, cookie: str) -> Person | None:
        """Whose cookie it is. It is looked up by its hash: how long that takes says nothing about the cookie."""
        row = self._cookies.get(_digest(cookie))
        if row is None or not 0 <= time.time() - row[1] < MAX_AGE:
            return None
        return self.people.get(row[0])
