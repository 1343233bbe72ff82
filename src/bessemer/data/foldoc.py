"""Questions and answers from FOLDOC, the Free On-line Dictionary of Computing, where its Debian package is
installed.

The files are those of dictd: `foldoc.index` has a line for each headword (headword, offset and length in base
64, between tabs), `foldoc.dict.dz` all articles in one gzip file. Answers are the first sentence or two of an
article with one meaning; links lose their braces, and what is no plain prose is passed over.
"""

from __future__ import annotations

import functools
import gzip
import re
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path

from ..errors import UserError
from .definitions import Definition, Definitions, define, first_sentences
from .paths import shown
from .schema import need

__all__ = ["FOLDER", "LICENCE", "read_foldoc"]

FOLDER = Path("/usr/share/dictd")
LICENCE = "FOLDOC, copyright Denis Howe and others, GNU Free Documentation License 1.1 or later (http://foldoc.org)"
MAX_TEXT = 256 * 2**20  # bytes unpacked: the dictionary of 2023 has 5.6 MB
MAX_INDEX = 32 * 2**20
_BEGINNING = 4096  # characters of an article that are looked at: more than any answer needs
_DIGITS = {
    letter: value for value, letter in enumerate("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/")
}
_QUESTIONS: dict[str, dict[str, tuple[str, ...]]] = {
    "term": {
        "train": ("What is {name} in computing?", "Explain {name}.", "What does {name} mean?"),
        "bank": ("In computing, what does {name} stand for?", "Tell me what {name} is."),
        "test": ("How would you define {name}?", "Describe {name} in one sentence."),
    },
    "person": {
        "train": ("Who is {name}?", "What is {name} known for?", "Explain who {name} is."),
        "bank": ("In computing, who is {name}?", "Tell me who {name} is."),
        "test": ("Which person is {name}?", "Describe {name} in one sentence."),
    },
}
_TOPIC = re.compile(r"^<([^<>]*)>\s*")
# Before the definition: another name or the origin in brackets, and how it is said.
_ASIDE = re.compile(r"^(?:\([^()]*\)|\[[^][]*\]|/[^/\s]+/)[,;:]?\s*")
_LINK = re.compile(r"\{([^{}]*)\}")
_ABBREVIATED = re.compile(
    r"(?:\b(?:e\.g|i\.e|etc|vs|cf|fig|no|inc|ltd|co|corp|dr|mr|mrs|prof|st|univ|dept|approx|ca)|\b[A-Za-z])\.$",
    re.IGNORECASE,
)
# Several meanings, mere pointers, addresses, references to books, emphasis, what is left out.
_UNPLAIN = re.compile(r"^\d+\.\s|^(?:See|Compare|Or|An? \w+ for|The same as)\b|://|www\.|@|[][{}<>|\\]|__|\.\.\.")
# Not what dictd says of the dictionary itself: 00-database-info.
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9 .+/'-]{1,59}")


def read_foldoc(
    folder: Path = FOLDER, seed: int = 0, test: float = 0.15, bank: float = 0.25, val: float = 0.05
) -> Definitions:
    """Every usable article as a definition, by name: "person" | "term", the first sentence or two. The licence
    is printed to stderr once a process.

    Raises:
        UserError: the dictionary is not there, too large, or damaged ("file:line: what, expected what"); shares
            that leave nothing to train on.
    """
    index, text = folder / "foldoc.index", folder / "foldoc.dict.dz"
    if not (index.is_file() and text.is_file()):
        raise UserError(
            f"{shown(folder)}: no foldoc.index and foldoc.dict.dz, expected the dictionary; "
            "apt install dict-foldoc, or name its folder by data="
        )
    articles = _articles(index, _unpacked(text))
    _print_licence()
    found = sorted((one for article in articles if (one := _found(article))), key=lambda one: (one.name, one.answer))
    return define("foldoc", _distinct(found), _QUESTIONS, seed, test, bank, val)


def _unpacked(path: Path) -> bytes:
    try:
        with gzip.open(path) as file:
            data = file.read(MAX_TEXT + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{shown(path)}: cannot be unpacked ({shown(error)}), expected a gzip file") from error
    need(len(data) <= MAX_TEXT, f"{shown(path)}: more than {MAX_TEXT} bytes unpacked", "a dictionary")
    return data


def _articles(index: Path, data: bytes) -> Iterator[str]:
    """The text of each article once, in the order of the index."""
    try:
        with index.open("rb") as file:
            raw = file.read(MAX_INDEX + 1)
    except OSError as error:
        raise UserError(f"{shown(index)}: cannot be read ({shown(error)}), expected dictd's index") from error
    need(len(raw) <= MAX_INDEX, f"{shown(index)}: more than {MAX_INDEX} bytes", "dictd's index")
    seen: set[tuple[int, int]] = set()
    taken = 0
    for number, line in enumerate(raw.split(b"\n"), start=1):
        if not line:
            continue
        try:
            start, size = place = _place(line)
            need(start + size <= len(data), f"bytes {start} to {start + size}", f"an end within {len(data)}")
            if place in seen:  # another name of an article
                continue
            seen.add(place)
            taken += size
            need(taken <= len(data), "articles that overlap", "each byte in one of them")
            yield _text(data[start : start + size])
        except UserError as error:
            raise UserError(f"{shown(index)}:{number}: {error}") from error
    need(seen, f"{shown(index)}: no article", "dictd's index")


def _place(line: bytes) -> tuple[int, int]:
    """(offset, length) in a line of the index."""
    fields = _text(line).split("\t")
    need(len(fields) in (3, 4), f"{len(fields)} fields ({shown(fields[0], 40)})", "headword, offset and length")
    return _number(fields[1]), _number(fields[2])


def _text(raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        raise UserError(f"not UTF-8 ({shown(error)}), expected UTF-8 text") from error


def _number(text: str) -> int:
    good = 0 < len(text) <= 6 and all(letter in _DIGITS for letter in text)
    need(good, shown(repr(text), 20), "a number of up to six digits in base 64")
    return functools.reduce(lambda value, letter: 64 * value + _DIGITS[letter], text, 0)


def _found(article: str) -> Definition | None:
    """What an article defines; None when its beginning makes no good answer."""
    head, _, body = article[:_BEGINNING].strip("\n").partition("\n\n")
    names = [" ".join(line.split()) for line in head.split("\n")]
    paragraph = " ".join(body.split("\n\n")[0].split())
    topic = _TOPIC.match(paragraph)
    if topic:
        paragraph = paragraph[topic.end() :]
    while aside := _ASIDE.match(paragraph):
        paragraph = paragraph[aside.end() :]
    plain = _LINK.sub(r"\1", paragraph)
    answer = None if _UNPLAIN.search(plain.split(". ")[0]) else first_sentences(plain, _ABBREVIATED)
    if answer is None or _UNPLAIN.search(answer) or not _NAME.fullmatch(names[0]):
        return None
    kind = "person" if topic and topic[1] == "person" else "term"
    return Definition(names[0], kind, answer, tuple(filter(_NAME.fullmatch, names)))


def _distinct(found: list[Definition]) -> Iterator[Definition]:
    """Without names that differ only in case: their questions would be the same."""
    seen: set[str] = set()
    for one in found:
        if one.name.casefold() not in seen:
            seen.add(one.name.casefold())
            yield one


@functools.cache
def _print_licence() -> None:
    print(f"note: {LICENCE}", file=sys.stderr)
