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
from types import ModuleType
from typing import Any

from ..errors import UserError
from .definitions import Definition, Definitions, define, first_sentences
from .mixture import permutation
from .records import Document

__all__ = ["MODULES", "pydocs_documents", "read_pydocs"]

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
_EMPTY_WORDS = re.compile(
    r"^(?:Initialize self|Return repr|Return str|See |Alias |Create and return a new object|Helper for)"
)
_MARKUP = re.compile(r">>>|->|::|\||_{3}|-{3}|={3}|\*\*|:\w+:`|[\x00-\x08\x0b-\x1f\x7f]")


def read_pydocs(
    seed: int = 0, test: float = 0.15, bank: float = 0.25, val: float = 0.05, modules: Sequence[str] = MODULES
) -> Definitions:
    """Every usable docstring of the modules as a definition: dotted name, "function" | "class" | "module", the
    first sentence or two.

    Raises:
        UserError: this Python keeps no docstrings (-OO), or shares that leave nothing to train on.
    """
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", DeprecationWarning
        )  # reading the docstring of a deprecated object is no use of it
        documented = sorted(_documented(modules))
    found = [
        Definition(name, kind, answer, tuple(name.split(".")))
        for name, kind, doc in documented
        if (answer := _first_sentences(doc))
    ]
    made = define("pydocs", found, _QUESTIONS, seed, test, bank, val)
    if len(made.entries) < 20:
        raise UserError("the standard library has no docstrings here, expected a Python that was not started with -OO")
    return made


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
    text = first_sentences(paragraphs[0]) if paragraphs else None
    return text if text and not _MARKUP.search(text) and not _EMPTY_WORDS.match(text) else None


def pydocs_documents(count: int = 40, low: int = 70, high: int = 150) -> list[Document]:
    """`count` paragraphs of plain English prose of `low` to `high` words from the language reference, the
    same in every run; all of them where this Python has fewer (between 67 and 86, by its version).

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
