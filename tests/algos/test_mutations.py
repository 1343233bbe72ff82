"""Each test of this directory is shown to fail: `mutations.txt` names a fault, which is put into a copy."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import pytest

from bessemer import kernels

HERE = Path(__file__).parent


class Mutation(NamedTuple):
    module: str
    test: str
    arguments: list[Any]
    old: str
    new: str


def _read_mutations() -> list[Mutation]:
    lines = [line for line in (HERE / "mutations.txt").read_text("utf-8").splitlines() if line.strip()]
    records = [line for line in lines if not line.startswith("#")]
    mutations = []
    for head, change in zip(records[::2], records[1::2], strict=True):
        match = re.fullmatch(r"(\w+): (test_\w+)(?: (\[.*\]))?", head)
        assert match and change.startswith("    ") and " =>" in change, head
        old, new = change[4:].replace("\\n", "\n").split(" =>")
        arguments = ast.literal_eval((match[3] or "[]").replace("NAN", "1e999"))
        mutations.append(Mutation(match[1], match[2], _nan_for_inf(arguments), old, new.removeprefix(" ")))
    return mutations


def _nan_for_inf(value: Any) -> Any:
    if isinstance(value, list):
        return [_nan_for_inf(item) for item in value]
    return float("nan") if value == float("inf") else value


def _tests() -> dict[str, Path]:
    """Name of each test function of this directory -> its file; this file is left out."""
    found: dict[str, Path] = {}
    for path in sorted(HERE.glob("test_*.py")):
        if path != Path(__file__):
            for node in ast.parse(path.read_text("utf-8")).body:
                if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                    assert node.name not in found, f"two tests are called {node.name}"
                    found[node.name] = path
    return found


MUTATIONS, TESTS = _read_mutations(), _tests()


def _load(name: str, path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, name, module)  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("mutation", MUTATIONS, ids=[f"{m.module}-{m.test[5:]}" for m in MUTATIONS])
def test_each_fault_is_seen(mutation: Mutation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "_kernels", lambda dtype: None)  # the faults are in what Python says
    inside = mutation.module == "reference_lm"
    original = importlib.import_module(mutation.module if inside else f"bessemer.algos.{mutation.module}")
    source = Path(str(original.__file__)).read_text("utf-8")
    assert source.count(mutation.old) == 1, f"not found exactly once: {mutation.old}"
    copy = tmp_path / "faulty.py"
    copy.write_text(source.replace(mutation.old, mutation.new), "utf-8")
    faulty = _load("faulty", copy, monkeypatch)
    tests = _load("test_of_faulty", TESTS[mutation.test], monkeypatch)
    for name, value in vars(original).items():
        if not name.startswith("__") and vars(tests).get(name) is value:
            monkeypatch.setattr(tests, name, getattr(faulty, name))
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        getattr(tests, mutation.test)(*mutation.arguments)


def test_every_test_has_a_fault_that_it_sees() -> None:
    assert {mutation.test for mutation in MUTATIONS} == set(TESTS)
