"""Questions, answers and prose from CPython's own documentation, which is wherever Python is: nothing to
download.

Answers are the first sentences of docstrings of the standard library; prose for measuring forgetting are
paragraphs of `pydoc_data.topics`. Only modules of a fixed list are imported, all of them free of side
effects; only `__doc__` is read, nothing is called.
"""

from __future__ import annotations

import importlib
import re
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Literal

from ..errors import UserError
from .mixture import permutation
from .records import Conversation, Document, Message, Prompt
from .references import text_facts

__all__ = ["MODULES", "Entry", "pydocs_conversations", "pydocs_documents", "pydocs_prompts", "read_pydocs"]

MODULES = (
    "abc", "argparse", "array", "ast", "asyncio", "base64", "bdb", "binascii", "bisect", "builtins",
    "bz2", "calendar", "cmath", "cmd", "code", "codecs", "codeop", "collections", "collections.abc",
    "colorsys", "compileall", "concurrent.futures", "configparser", "contextlib", "contextvars", "copy",
    "copyreg", "csv", "ctypes", "dataclasses", "datetime", "decimal", "difflib", "dis", "doctest",
    "email", "email.message", "email.utils", "enum", "errno", "filecmp", "fileinput", "fnmatch",
    "fractions", "ftplib", "functools", "gc", "getopt", "getpass", "gettext", "glob", "graphlib",
    "gzip", "hashlib", "heapq", "hmac", "html", "html.parser", "http.client", "http.cookies",
    "http.server", "imaplib", "importlib", "importlib.metadata", "importlib.resources",
    "importlib.util", "inspect", "io", "ipaddress", "itertools", "json", "keyword", "linecache",
    "locale", "logging", "logging.config", "logging.handlers", "lzma", "mailbox", "math", "mimetypes",
    "multiprocessing", "netrc", "numbers", "operator", "os", "os.path", "pathlib", "pdb", "pickle",
    "pickletools", "pkgutil", "platform", "plistlib", "poplib", "posixpath", "pprint", "profile",
    "pstats", "py_compile", "pyclbr", "queue", "quopri", "random", "re", "reprlib", "runpy", "sched",
    "secrets", "select", "selectors", "shelve", "shlex", "shutil", "signal", "smtplib", "socket",
    "socketserver", "sqlite3", "ssl", "stat", "statistics", "string", "stringprep", "struct",
    "subprocess", "symtable", "sys", "sysconfig", "tabnanny", "tarfile", "tempfile", "textwrap",
    "threading", "time", "timeit", "token", "tokenize", "trace", "traceback", "tracemalloc", "types",
    "typing", "unicodedata", "unittest", "unittest.mock", "urllib.parse", "urllib.request",
    "urllib.robotparser", "uuid", "venv", "warnings", "wave", "weakref", "webbrowser",
    "wsgiref.headers", "wsgiref.simple_server", "xml.dom", "xml.etree.ElementTree", "xml.sax",
    "xmlrpc.client", "zipapp", "zipfile", "zipimport", "zlib", "zoneinfo",
)  # fmt: skip
Part = Literal["train", "val", "bank", "test"]
TASK = "pydocs"

_QUESTIONS: dict[str, dict[str, tuple[str, ...]]] = {
    "function": {
        "train": ("What does {name} do in Python?", "Explain Python's {name}.", "What is {name} for?"),
        "bank": ("In Python, what happens when I call {name}?", "Tell me what {name} does."),
        "test": ("Which purpose has {name} in Python?", "Describe {name} in one sentence."),
    },
    "class": {
        "train": ("What is {name} in Python?", "Explain the class {name}.", "What is {name} for?"),
        "bank": ("In Python, what does the class {name} stand for?", "Tell me what {name} is."),
        "test": ("Which purpose has {name} in Python?", "Describe {name} in one sentence."),
    },
    "module": {
        "train": (
            "What is the module {name} in Python?",
            "Explain the module {name}.",
            "What is {name} for?",
        ),
        "bank": ("In Python, what does the module {name} offer?", "Tell me what the module {name} is."),
        "test": ("Which purpose has the module {name}?", "Describe the module {name} in one sentence."),
    },
}
_MIN_WORDS, _MAX_WORDS = 4, 40
_SENTENCE = re.compile(r"[.!](?=\s|$)")
_ABBREVIATED = re.compile(r"\b(?:e\.g|i\.e|etc|vs|cf|fig|no)\.$", re.IGNORECASE)
_EMPTY_WORDS = re.compile(
    r"^(?:Initialize self|Return repr|Return str|See |Alias |Create and return a new object|Helper for)"
)
_MARKUP = re.compile(r">>>|->|::|\||_{3}|-{3}|={3}|\*\*|:\w+:`|[\x00-\x08\x0b-\x1f\x7f]")


@dataclass(frozen=True)
class Entry:
    """One documented object: dotted name, "function" | "class" | "module", the first sentence or two of its
    docstring, its part."""

    name: str
    kind: str
    answer: str
    part: Part


def read_pydocs(
    seed: int = 0, test: float = 0.15, bank: float = 0.25, val: float = 0.05, modules: Sequence[str] = MODULES
) -> list[Entry]:
    """Every usable docstring of the modules, by name, each object in one part only; no answer stands twice.

    Raises:
        UserError: this Python keeps no docstrings (-OO), or shares that leave nothing to train on.
    """
    if not (min(test, bank, val) >= 0 and test + bank + val < 1):
        raise UserError(f"shares test={test}, bank={bank}, val={val}, expected 0 or more each and less than 1 in all")
    found: dict[str, tuple[str, str]] = {}
    answers: set[str] = set()
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", DeprecationWarning
        )  # reading the docstring of a deprecated object is no use of it
        documented = sorted(_documented(modules))
    for name, kind, doc in documented:
        answer = _first_sentences(doc)
        if answer and name not in found and answer.casefold() not in answers:
            answers.add(answer.casefold())
            found[name] = (kind, answer)
    if len(found) < 20:
        raise UserError("the standard library has no docstrings here, expected a Python that was not started with -OO")
    names = list(found)
    order = permutation(len(names), "pydocs", seed)
    parts: dict[str, Part] = {}
    ends = [round(share * len(names)) for share in (test, test + bank, test + bank + val)]
    for place, index in enumerate(order):
        parts[names[index]] = (
            "test" if place < ends[0] else "bank" if place < ends[1] else "val" if place < ends[2] else "train"
        )
    return [Entry(name, kind, answer, parts[name]) for name, (kind, answer) in found.items()]


def _documented(modules: Sequence[str]) -> Iterator[tuple[str, str, str]]:
    """(dotted name, kind, docstring) of the modules, their public functions and classes, and these classes'
    public methods."""
    for module_name in modules:
        try:
            module = importlib.import_module(module_name)
        except ImportError:
            continue  # not built on this platform
        shown = "" if module_name == "builtins" else module_name + "."
        if isinstance(module.__doc__, str):
            yield module_name, "module", module.__doc__
        for name, value in sorted(vars(module).items()):
            if name.startswith("_") or not _belongs(value, module):
                continue
            kind = "class" if isinstance(value, type) else "function"
            if isinstance(value.__doc__, str):
                yield shown + name, kind, value.__doc__
            if isinstance(value, type):
                for method, member in sorted(vars(value).items()):
                    if not method.startswith("_") and callable(member) and isinstance(member.__doc__, str):
                        yield f"{shown}{name}.{method}", "function", member.__doc__


def _belongs(value: Any, module: ModuleType) -> bool:
    """Whether a module's attribute is a function or class that the module itself defines."""
    home = getattr(value, "__module__", None)
    named = isinstance(getattr(value, "__name__", None), str)
    return callable(value) and named and home in (module.__name__, "_" + module.__name__)


def _first_sentences(doc: str) -> str | None:
    """The first sentence of a docstring, with the second one if it is short; None when it makes no good
    answer."""
    paragraphs = [" ".join(part.split()) for part in re.split(r"\n\s*\n", doc.strip())]
    # Builtins begin with their signature: "sorted(iterable) -> list".
    while paragraphs and re.match(r"^[\w.]+\(.*\)?\s*(?:->.*)?$", paragraphs[0]) and not paragraphs[0].endswith("."):
        paragraphs.pop(0)
    if not paragraphs or not paragraphs[0]:
        return None
    sentences: list[str] = []
    rest = paragraphs[0]
    while rest and len(sentences) < 2:
        end = next((m.end() for m in _SENTENCE.finditer(rest) if not _ABBREVIATED.search(rest[: m.end()])), len(rest))
        sentences.append(rest[:end])
        rest = rest[end:].strip()
    text = sentences[0]
    if len(sentences) > 1 and len(" ".join(sentences).split()) <= 25:
        text = " ".join(sentences)
    text = text.replace("``", "").replace("`", "'")
    if not text.endswith((".", "!")):
        text += "."
    usable = text[:1].isupper() and _MIN_WORDS <= len(text.split()) <= _MAX_WORDS and text.isprintable()
    return text if usable and not _MARKUP.search(text) and not _EMPTY_WORDS.match(text) else None


def _question(entry: Entry, wording: str, seed: int, turn: int = 0) -> str:
    options = _QUESTIONS[entry.kind][wording]
    first = permutation(len(options), "question", seed, entry.name, wording)[0]
    return options[(first + turn) % len(options)].replace("{name}", entry.name)


def pydocs_conversations(
    entries: Sequence[Entry], part: Part, seed: int = 0, system: str | None = None
) -> list[Conversation]:
    """Question and answer on each object of a part, in the wordings to learn from."""
    opening = (Message("system", system),) if system else ()
    return [
        Conversation(
            f"pydocs:{entry.name}",
            (*opening, Message("user", _question(entry, "train", seed)), Message("assistant", entry.answer)),
            TASK,
            facts={"kind": "text", "reference": entry.answer},
            provenance={"dataset": "pydocs", "object": entry.name},
        )
        for entry in entries
        if entry.part == part
    ]


def pydocs_prompts(
    entries: Sequence[Entry],
    part: Literal["bank", "test"],
    seed: int = 0,
    system: str | None = None,
    limit: int | None = None,
    rounds: int = 1,
) -> list[Prompt]:
    """Questions on the objects of a part, in that part's wordings and a shuffled order; another wording each
    round.

    The facts are those of `references.text_facts`.
    """
    opening = (Message("system", system),) if system else ()
    mine = [entry for entry in entries if entry.part == part]
    made: list[Prompt] = []
    for turn in range(rounds):
        for index in permutation(len(mine), "prompts", seed, part, turn):
            entry = mine[index]
            facts = text_facts(entry.answer, TASK, entry.name.split("."))
            messages = (*opening, Message("user", _question(entry, part, seed, turn)))
            origin = {"dataset": "pydocs", "object": entry.name}
            made.append(Prompt(f"pydocs:{entry.name}:{part}{turn}", messages, TASK, None, facts, origin))
    return made[:limit]


def pydocs_documents(count: int = 40, low: int = 70, high: int = 150) -> list[Document]:
    """`count` paragraphs of plain English prose of `low` to `high` words from the language reference, the
    same in every run.

    Held out: no question is made from them. Paragraphs of one topic follow one another only when topics run
    out.
    """
    from pydoc_data.topics import topics  # 0.7 MB of text: read when it is needed

    by_topic: list[list[Document]] = []
    for topic in sorted(topics):
        texts = list(dict.fromkeys(_prose(topics[topic], low, high)))
        by_topic.append(
            [Document(f"topic:{topic}:{i}", text, {"dataset": "pydoc_data.topics"}) for i, text in enumerate(texts)]
        )
    found: dict[str, Document] = {}
    for round_ in range(max(map(len, by_topic), default=0)):
        for documents in by_topic:
            if round_ < len(documents):
                found.setdefault(documents[round_].text, documents[round_])
    if len(found) < count:
        raise UserError(
            f"{len(found)} paragraphs in pydoc_data.topics, expected {count}; ask for fewer general documents"
        )
    chosen = list(found.values())[: 2 * count]
    return [chosen[i] for i in sorted(permutation(len(chosen), "general")[:count])]


def _prose(text: str, low: int, high: int) -> Iterator[str]:
    """Paragraphs that are prose, short neighbours joined, each of `low` to `high` words."""
    joined: list[str] = []
    for block in re.split(r"\n\s*\n", text):
        lines = block.split("\n")
        plain = all(line[:1].isalnum() or line[:1] in "\"'(" for line in lines if line) and not _MARKUP.search(block)
        letters = sum(c.isalpha() or c.isspace() for c in block) / max(1, len(block))
        if not plain or letters < 0.9 or not block.rstrip().endswith("."):
            joined = []
            continue
        joined.append(" ".join(block.split()))
        size = sum(len(part.split()) for part in joined)
        if size > high:
            joined = []
        elif size >= low:
            yield " ".join(joined)
            joined = []
