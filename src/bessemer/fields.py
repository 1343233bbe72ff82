"""The fields of a stage's configuration: their help, their types and their values from YAML or the command
line.

A field is bool, int, float, str, list[str], list[float], dict[str, float], a Literal, an Artifact, a list of
Artifacts, or one of these or None. Text is accepted for each of them (`1e-4` is text to YAML 1.1, and
everything is text on the command line) and read by type.
"""

from __future__ import annotations

import ast
import dataclasses
import difflib
import functools
import importlib.util
import inspect
import math
import reprlib
import textwrap
import types
from collections.abc import Collection, Iterable, Mapping
from datetime import date
from typing import Any, Literal, NewType, Union, get_args, get_origin, get_type_hints

import yaml

from .errors import UserError

__all__ = [
    "Artifact",
    "coerce",
    "declared_fields",
    "field_docs",
    "field_types",
    "help_text",
    "nearest",
    "plain_type",
]

_WIDTH, _INDENT = 80, " " * 6

Artifact = NewType("Artifact", str)
"""A field that names an input: a section of the recipe, a directory, an asset or a hub id."""


def field_docs(cls: type) -> dict[str, str]:
    """The docstring literal under each field of a dataclass, from its source, on one line."""
    return {name: doc for name, doc in _annotated(ast.parse(textwrap.dedent(inspect.getsource(cls))).body[0]) if doc}


@functools.cache
def declared_fields(module: str) -> tuple[str, ...]:
    """The field names of `Config` in a module, without importing the module (and PyTorch with it); () when it
    is not there."""
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        return ()
    with open(spec.origin, encoding="utf-8") as file:
        body = ast.parse(file.read()).body
    classes = [node for node in body if isinstance(node, ast.ClassDef) and node.name == "Config"]
    return tuple(name for node in classes for name, _ in _annotated(node))


def field_types(cls: type) -> dict[str, Any]:
    """Field name -> resolved type, in the order of the source, ClassVars left out."""
    hints = get_type_hints(cls)
    return {field.name: hints[field.name] for field in dataclasses.fields(cls)}


def plain_type(kind: Any) -> tuple[Any, bool]:
    """(the type without `| None`, whether None is allowed)."""
    if get_origin(kind) in (Union, types.UnionType):
        members = [member for member in get_args(kind) if member is not type(None)]
        if len(members) == 1:
            return members[0], True
    return kind, False


def nearest(name: str, known: Iterable[str]) -> str:
    """`; did you mean "..."?` when a known name is close, else an empty string."""
    close = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


def coerce(value: Any, kind: Any, where: str) -> Any:
    """`value` from YAML or the command line as a value of the type `kind`.

    Raises:
        UserError: naming `where`, the value and what was expected.
        TypeError: `kind` is not a type that a field may have.
    """
    inner, optional = plain_type(kind)
    if optional and (value is None or (isinstance(value, str) and value.strip().lower() in ("null", "none", "~"))):
        return None
    try:
        return _convert(value, inner)
    except (ValueError, OverflowError, yaml.YAMLError) as error:
        named = inner in (str, Artifact) or any(isinstance(choice, str) for choice in get_args(inner))
        if isinstance(value, str):
            hint = nearest(value, map(str, get_args(inner)))
        else:  # YAML takes an unquoted 007, 2024-01-01 or off for something other than text
            hint = "; put it in quotes" if named and isinstance(value, int | float | date) else ""
        expected = _describe(inner) + (" or null" if optional else "")
        raise UserError(f"{where} is {reprlib.repr(value)}, expected {expected}{hint}") from error


def help_text(cls: type, also: Mapping[str, Collection[str]] | None = None) -> str:
    """Every field with its default, its type and its meaning; `also` maps a field to the other names it is
    known by."""
    docs, kinds, lines = field_docs(cls), field_types(cls), []
    for field in dataclasses.fields(cls):
        kind, optional = plain_type(kinds[field.name])
        default = field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
        expected = _describe(kind) + (" or null" if optional else "")
        names = sorted((also or {}).get(field.name, ()))
        head = f"  {field.name}={_shown(default)}  ({expected}{'; also ' + ', '.join(names) if names else ''})"
        for text, indent in ((head, ""), (docs.get(field.name, ""), _INDENT)):
            lines += textwrap.wrap(
                text, _WIDTH, initial_indent=indent, subsequent_indent=_INDENT,
                break_long_words=False, break_on_hyphens=False,
            )  # fmt: skip
    return "\n".join(lines)


def _annotated(node: ast.AST) -> list[tuple[str, str]]:
    """(field name, docstring or "") of a dataclass's source."""
    assert isinstance(node, ast.ClassDef)
    found: list[tuple[str, str]] = []
    for statement in node.body:
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            if "ClassVar" not in ast.unparse(statement.annotation):
                found.append((statement.target.id, ""))
        elif found and not found[-1][1] and isinstance(statement, ast.Expr):
            literal = statement.value
            if isinstance(literal, ast.Constant) and isinstance(literal.value, str):
                found[-1] = (found[-1][0], " ".join(literal.value.split()))
    return found


def _convert(value: Any, kind: Any) -> Any:
    """Raises ValueError when `value` is not of the type, TypeError when the type is none of ours."""
    origin, arguments = get_origin(kind), get_args(kind)
    if kind in (str, Artifact):
        return _require(value, isinstance(value, str))
    if kind is bool:
        value = yaml.safe_load(value) if isinstance(value, str) else value
        return _require(value, isinstance(value, bool))
    if kind is int:
        number = _number(value)
        return int(_require(number, number == int(number)))
    if kind is float:
        return float(_number(value))
    if origin is Literal:
        parsed = yaml.safe_load(value) if isinstance(value, str) and value not in arguments else value
        return _require(parsed, any(parsed == choice and type(parsed) is type(choice) for choice in arguments))
    if origin is list:
        return [_convert(item, arguments[0]) for item in _items(value)]
    if origin is dict:
        parsed = yaml.safe_load(value) if isinstance(value, str) else value
        _require(parsed, isinstance(parsed, Mapping) and all(isinstance(key, str) for key in parsed))
        return {key: _convert(item, arguments[1]) for key, item in parsed.items()}
    raise TypeError(f"{kind} is not a type that a field of a Config may have")


def _require(value: Any, holds: bool) -> Any:
    if not holds:
        raise ValueError(reprlib.repr(value))
    return value


def _number(value: Any) -> int | float:
    if isinstance(value, str):
        try:
            value = int(value)
        except ValueError:
            value = float(value)
    _require(value, isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value))
    return value  # type: ignore[no-any-return]


def _items(value: Any) -> list[Any]:
    """A list as it is; text as a YAML list `[a, b]` or as `a, b`."""
    if isinstance(value, str):
        text = value.strip()
        value = (
            yaml.safe_load(text) if text.startswith("[") else [part.strip() for part in text.split(",") if part.strip()]
        )
    return list(_require(value, isinstance(value, list)))


def _describe(kind: Any) -> str:
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Literal:
        return "one of " + ", ".join(str(choice) or '""' for choice in arguments)
    if origin is list:
        return "a list of " + {str: "texts", float: "numbers", Artifact: "inputs"}.get(arguments[0], str(arguments[0]))
    if origin is dict:
        return "a mapping from names to numbers"
    names = {
        bool: "true or false",
        int: "a whole number",
        float: "a number",
        str: "text",
        Artifact: "an input",
    }
    return names.get(kind, str(kind))


def _shown(default: Any) -> str:
    if default == "":
        return '""'
    if isinstance(default, float):
        return repr(default)
    text: str = yaml.safe_dump(default, default_flow_style=True, allow_unicode=True, width=10**6)
    return text.removesuffix("\n").removesuffix("\n...")
