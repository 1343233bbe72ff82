"""Constructs that the house rules forbid in the source, and proof that each would be seen."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from source_tree import MODULES, imports, shown, tree

ABSTRACT_BASES = {
    "Exception", "Protocol", "NamedTuple", "TypedDict", "Enum", "IntEnum", "StrEnum", "Generic", "ABC",
    "BaseHTTPRequestHandler",  # the standard library's way to answer requests; it answers none by itself
    "nn.Module", "torch.nn.Module", "Module", "Function", "torch.autograd.Function", "autograd.Function",
}  # fmt: skip
BANNED_MODULES = {"pickle", "cPickle", "cloudpickle", "dill", "joblib", "shelve", "marshal", "imp"}
BANNED_CALLS = {
    "hasattr",
    "eval",
    "exec",
    "os.system",
    "os.popen",
    "yaml.load",
    "yaml.unsafe_load",
    "yaml.full_load",
}


def faults(path: Path) -> Iterator[tuple[int, str]]:
    """(line, what) of every banned construct in a file."""
    for name, statement in imports(path):
        if name.split(".")[0] in BANNED_MODULES or name.endswith(".*"):
            yield statement.lineno, f"import of {name}"
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Call):
            yield from ((node.lineno, fault) for fault in call_faults(node))
        elif isinstance(node, ast.ExceptHandler):
            caught = ast.unparse(node.type) if node.type else "BaseException"
            silent = all(isinstance(statement, ast.Pass) for statement in node.body)
            if silent and caught in ("Exception", "BaseException"):
                yield node.lineno, "an exception swallowed"
        elif isinstance(node, ast.ClassDef):
            for base in node.bases:
                text = ast.unparse(base).split("[")[0]
                if text not in ABSTRACT_BASES:
                    yield node.lineno, f"inheritance from {text}"
        elif isinstance(node, ast.Name) and node.id == "NotImplementedError":
            yield node.lineno, "NotImplementedError"
        elif isinstance(node, ast.FunctionDef) and node.args.kwarg:
            own = node.args.kwarg.arg
            for call in (inner for inner in ast.walk(node) if isinstance(inner, ast.Call)):
                if any(k.arg is None and ast.unparse(k.value) == own for k in call.keywords):
                    yield call.lineno, f"**{own} handed on"


def call_faults(call: ast.Call) -> Iterator[str]:
    name = ast.unparse(call.func)
    named = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
    if name in BANNED_CALLS:
        yield f"call of {name}"
    if name.endswith(".extractall"):
        yield "extractall"
    if name == "torch.load" and named.get("weights_only") != "True":
        yield "torch.load without weights_only=True"
    if named.get("trust_remote_code", "False") != "False":
        yield "trust_remote_code"
    if named.get("allow_pickle", "False") != "False":
        yield "allow_pickle"
    if named.get("shell", "False") != "False":
        yield "shell=True"
    if name.endswith("suppress") and {"Exception", "BaseException"} & {ast.unparse(a) for a in call.args}:
        yield "an exception swallowed"


@pytest.mark.parametrize("path", MODULES, ids=shown)
def test_banned_constructs(path: Path) -> None:
    found = [f"{shown(path)}:{line}: {what}" for line, what in faults(path)]
    words = re.compile(r"\b(TODO|FIXME|XXX)\b")
    text = path.read_text(encoding="utf-8")
    found += [f"{shown(path)}:{i}: {line.strip()}" for i, line in enumerate(text.splitlines(), 1) if words.search(line)]
    assert not found, "\n".join(found)


BAD = {
    "import pickle": "import of pickle",
    "from joblib import load": "import of joblib.load",
    "from x import *": r"import of x.\*",
    "hasattr(a, 'b')": "call of hasattr",
    "torch.load(p)": "torch.load without",
    "torch.load(p, weights_only=False)": "torch.load without",
    "f(trust_remote_code=flag)": "trust_remote_code",
    "np.load(p, allow_pickle=True)": "allow_pickle",
    "subprocess.run(c, shell=True)": "shell=True",
    "archive.extractall(p)": "extractall",
    "yaml.load(t)": "call of yaml.load",
    "try:\n    f()\nexcept Exception:\n    pass": "an exception swallowed",
    "try:\n    f()\nexcept:\n    pass": "an exception swallowed",
    "with contextlib.suppress(Exception):\n    f()": "an exception swallowed",
    "class A(Trainer): ...": "inheritance from Trainer",
    "raise NotImplementedError": "NotImplementedError",
    "def f(**kwargs):\n    g(1, **kwargs)": r"\*\*kwargs handed on",
}


@pytest.mark.parametrize(("code", "what"), BAD.items())
def test_the_ban_sees(tmp_path: Path, code: str, what: str) -> None:
    (tmp_path / "a.py").write_text(code)
    assert [fault for _, fault in faults(tmp_path / "a.py") if re.match(what, fault)]


def test_the_ban_lets_through(tmp_path: Path) -> None:
    code = (
        "import json\ntorch.load(p, weights_only=True)\n"
        "class A(nn.Module): ...\ndef f(**facts):\n    g(facts, **other)\n"
    )
    (tmp_path / "a.py").write_text(code)
    assert list(faults(tmp_path / "a.py")) == []
