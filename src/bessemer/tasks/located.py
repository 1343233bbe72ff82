"""A YAML file read as text with the place of every value, so that each error can name file, line and key.

All scalars stay the text that was written: `no` is a label here, not False. Aliases cost nothing, as only
values that a schema asks for are visited; a key that stands twice is an error.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import yaml

from ..data.paths import shown
from ..errors import UserError

__all__ = ["Located", "read_located"]

MAX_BYTES = 200_000
MAX_ITEMS = 500
MAX_TEXT = 1_000
MAX_DEPTH = 50


@dataclass(frozen=True)
class Located:
    """One value of the file: `key` is its dotted path, `node` what YAML made of it."""

    file: str
    key: str
    node: yaml.Node

    def error(self, message: str) -> UserError:
        """An error at this place, to be raised by the caller."""
        line = self.node.start_mark.line + 1
        return UserError(f"{self.file}:{line}: {self.key or 'the file'}: {message}")

    def entries(self, allowed: Iterable[str] | None = None, required: Iterable[str] = ()) -> dict[str, Located]:
        """The entries of a mapping; unknown, missing and doubled keys are errors."""
        if not isinstance(self.node, yaml.MappingNode):
            raise self.error("expected a mapping (key: value)")
        if len(self.node.value) > MAX_ITEMS:
            raise self.error(f"{len(self.node.value)} entries, expected at most {MAX_ITEMS}")
        found: dict[str, Located] = {}
        for name_node, value_node in self.node.value:
            name = Located(self.file, self.key, name_node).text()
            place = Located(self.file, f"{self.key}.{name}" if self.key else name, value_node)
            if name in found:
                raise Located(self.file, place.key, name_node).error("stands twice, expected every key once")
            found[name] = place
        known = None if allowed is None else list(allowed)
        for name in found:
            if known is not None and name not in known:
                raise found[name].error(f"unknown key, expected one of {', '.join(known)}")
        for name in required:
            if name not in found:
                raise self.error(f"key {name!r} is missing")
        return found

    def text(self) -> str:
        """A text of at most 1,000 characters without control characters; not empty."""
        if not isinstance(self.node, yaml.ScalarNode):
            raise self.error("expected one text, found a list or a mapping")
        value = " ".join(str(self.node.value).split())
        if not value or len(value) > MAX_TEXT or not value.isprintable():
            raise self.error(f"{shown(value, 40)!r}, expected a printable text of 1 to {MAX_TEXT} characters")
        return value

    def texts(self, at_least: int = 1) -> tuple[str, ...]:
        """A list of texts (or a single one), each once."""
        if isinstance(self.node, yaml.ScalarNode):
            return (self.text(),)
        if not isinstance(self.node, yaml.SequenceNode):
            raise self.error("expected a list of texts")
        if not at_least <= len(self.node.value) <= MAX_ITEMS:
            raise self.error(f"{len(self.node.value)} items, expected {at_least} to {MAX_ITEMS}")
        values = tuple(Located(self.file, f"{self.key}[{i}]", node).text() for i, node in enumerate(self.node.value))
        for i, value in enumerate(values):
            if value in values[:i]:
                raise self.error(f"{shown(value)!r} stands twice, expected every text once")
        return values

    def flag(self) -> bool:
        """true or false."""
        value = self.text().casefold()
        if value not in ("true", "false", "yes", "no"):
            raise self.error(f"{shown(value, 40)!r}, expected true or false")
        return value in ("true", "yes")

    def number(self, low: float, high: float) -> float:
        """A finite number between `low` and `high`."""
        text = self.text()
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not low <= value <= high:
            raise self.error(f"{shown(text, 40)!r}, expected a number from {low:g} to {high:g}")
        return value

    def among(self, choices: Iterable[str]) -> str:
        """One of the given words."""
        value, known = self.text(), list(choices)
        if value not in known:
            raise self.error(f"{shown(value, 40)!r}, expected one of {', '.join(known)}")
        return value


def read_located(path: Path) -> Located:
    """The root of a YAML file of at most 200 kB, UTF-8, one document.

    Raises:
        UserError: the file is missing, too large, not UTF-8, empty or not YAML.
    """
    file = shown(path, 200)
    try:
        raw = path.read_bytes() if path.stat().st_size <= MAX_BYTES else None
    except OSError as error:
        raise UserError(f"{file}: cannot be read ({error.strerror}), expected a YAML file of wordings") from error
    if raw is None:
        raise UserError(f"{file}: larger than {MAX_BYTES} bytes, expected a file of wordings")
    if _deepest(raw) > MAX_DEPTH:
        raise UserError(f"{file}: brackets nested more than {MAX_DEPTH} deep, expected a file of wordings")
    try:
        node = yaml.compose(raw.decode("utf-8-sig"), Loader=yaml.BaseLoader)
    except UnicodeDecodeError as error:
        raise UserError(f"{file}: not UTF-8 text, expected UTF-8; save the file again as UTF-8") from error
    except yaml.MarkedYAMLError as error:
        line = f":{error.problem_mark.line + 1}" if error.problem_mark else ""
        hint = "put texts that hold : , ? # or brackets in double quotes"
        raise UserError(f"{file}{line}: not YAML ({shown(error.problem, 120)}), expected wordings; {hint}") from error
    except (yaml.YAMLError, RecursionError) as error:
        raise UserError(f"{file}: not YAML ({shown(error, 120)}), expected a YAML file of wordings") from error
    if node is None:
        raise UserError(f"{file}: the file is empty, expected wordings")
    return Located(file, "", node)


def _deepest(raw: bytes) -> int:
    """How deep brackets nest, quoted ones counted too: enough to refuse what takes the parser minutes."""
    depth = most = 0
    for byte in raw:
        if byte in b"[{":
            depth += 1
            most = max(most, depth)
        elif byte in b"]}":
            depth = max(0, depth - 1)
    return most
