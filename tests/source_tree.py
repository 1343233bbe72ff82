"""The source files of the project, parsed once, for the tests of the house rules."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "bessemer"
MODULES = sorted(SOURCE.rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def shown(path: Path) -> str:
    return str(path.relative_to(ROOT))


def hidden(path: Path) -> bool:
    """What tools leave behind."""
    return any(part == "__pycache__" or part.startswith(".") for part in path.relative_to(ROOT).parts)


def room(path: Path) -> str:
    """The part of the house that a file belongs to: a package or a single file directly under bessemer."""
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


def imports(path: Path) -> Iterator[tuple[str, ast.stmt]]:
    """Absolute dotted names that a file imports, those inside functions too; `from x import y` gives x.y."""
    package = ("bessemer", *path.relative_to(SOURCE).parts[:-1]) if path.is_relative_to(SOURCE) else ()
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            prefix = ".".join([*base, *([node.module] if node.module else [])])
            for alias in node.names:
                yield f"{prefix}.{alias.name}", node
