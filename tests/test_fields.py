"""Types, texts and help of configuration fields."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

import pytest

from bessemer.errors import UserError
from bessemer.fields import Artifact, coerce, declared_fields, field_docs, field_types, help_text, nearest


@dataclass(frozen=True)
class Config:
    POSITIONAL: ClassVar[tuple[str, ...]] = ("model",)
    """Not a field, so not a help text."""
    model: Artifact = Artifact("sft")
    """Where the weights
    come from."""
    learning_rate: float = 1e-5
    """Peak learning rate."""
    silent: int = 3
    mode: Literal["soft", "hard"] = "soft"
    """Which labels."""
    weights: dict[str, float] = field(default_factory=lambda: {"真实": 1.0})
    """A weight a principle."""
    limit: float | None = None
    """No limit when null."""

    def later(self) -> int:
        """A method's docstring belongs to nobody."""
        return 0


def test_field_docs_are_the_literals_under_the_fields() -> None:
    assert field_docs(Config) == {
        "model": "Where the weights come from.",
        "learning_rate": "Peak learning rate.",
        "mode": "Which labels.",
        "weights": "A weight a principle.",
        "limit": "No limit when null.",
    }


def test_help_shows_name_default_type_meaning_and_other_names() -> None:
    assert help_text(Config, {"learning_rate": ["lr"]}).splitlines() == [
        "  model=sft  (an input)",
        "      Where the weights come from.",
        "  learning_rate=1e-05  (a number; also lr)",
        "      Peak learning rate.",
        "  silent=3  (a whole number)",
        "  mode=soft  (one of soft, hard)",
        "      Which labels.",
        "  weights={真实: 1.0}  (a mapping from names to numbers)",
        "      A weight a principle.",
        "  limit=null  (a number or null)",
        "      No limit when null.",
    ]


def test_help_fits_a_terminal_and_shows_an_empty_choice() -> None:
    @dataclass
    class Wide:
        scene: Literal["", "equipment"] = ""
        principles: list[str] = field(
            default_factory=lambda: ["truthfulness", "helpfulness", "harmlessness", "fluency"]
        )

    lines = help_text(Wide).splitlines()
    assert lines[0] == '  scene=""  (one of "", equipment)'
    assert len(lines) == 3 and max(map(len, lines)) <= 80 and lines[2].startswith("      ")


def test_declared_fields_reads_a_module_without_importing_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fields = "POSITIONAL: ClassVar[tuple[str, ...]] = ()\n    a: int = 1\n    'doc'\n    b: str = ''\n"
    source = f"raise RuntimeError\nclass Config:\n    {fields}"
    (tmp_path / "explosive_module.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    assert declared_fields("explosive_module") == ("a", "b")
    assert "explosive_module" not in sys.modules
    assert declared_fields("no_such_module_anywhere") == ()


def test_field_types_resolve_names_and_leave_classvars_out() -> None:
    assert list(field_types(Config)) == ["model", "learning_rate", "silent", "mode", "weights", "limit"]
    assert field_types(Config)["model"] is Artifact


ACCEPTED: list[tuple[Any, Any, Any]] = [
    (True, bool, True),
    ("true", bool, True),
    ("no", bool, False),
    (3, int, 3),
    ("010", int, 10),  # YAML 1.1 would say 8
    ("1e3", int, 1000),
    (2.0, int, 2),
    ("1e-4", float, 1e-4),  # YAML 1.1 would say it is text
    (1, float, 1.0),
    ("-2.5", float, -2.5),
    ("007", str, "007"),
    ("裂纹", str, "裂纹"),
    ("null", str, "null"),
    ("sft", Artifact, "sft"),
    (["a", "b"], list[str], ["a", "b"]),
    ("q_proj, v_proj", list[str], ["q_proj", "v_proj"]),
    ("['a, b', 是]", list[str], ["a, b", "是"]),
    ("[]", list[str], []),
    ("", list[str], []),
    ("1,2.5", list[float], [1.0, 2.5]),
    ([1, "2e-1"], list[float], [1.0, 0.2]),
    ({"a": 1}, dict[str, float], {"a": 1.0}),
    ("{a: 1, b: 0.5}", dict[str, float], {"a": 1.0, "b": 0.5}),
    ("soft", Literal["soft", "hard"], "soft"),
    ("2", Literal[1, 2], 2),
    ("on", Literal["on", "off"], "on"),
    (None, float | None, None),
    ("null", float | None, None),
    ("None", str | None, None),
    ("0.5", float | None, 0.5),
    ("x", Artifact | None, "x"),
]


@pytest.mark.parametrize(("value", "kind", "expected"), ACCEPTED)
def test_accepted(value: Any, kind: Any, expected: Any) -> None:
    result = coerce(value, kind, "sft.x")
    assert result == expected
    assert type(result) is type(expected)


REFUSED: list[tuple[Any, Any, str]] = [
    ("maybe", bool, "true or false"),
    (1, bool, "true or false"),
    (True, int, "a whole number"),
    (1.5, int, "a whole number"),
    ("abc", int, "a whole number"),
    ("0x10", int, "a whole number"),
    ("", float, "a number"),
    (True, float, "a number"),
    (float("nan"), float, "a number"),
    ("inf", float, "a number"),
    (10**400, float, "a number"),
    ([1], float, "a number"),
    (None, float, "a number"),
    (2024, str, "text; put it in quotes"),
    (False, Literal["on", "off"], "one of on, off; put it in quotes"),
    (None, str, "text"),
    ("sofd", Literal["soft", "hard"], "one of soft, hard; did you mean 'soft'?"),
    (True, Literal[1, 2], "one of 1, 2"),
    ({"a": 1}, list[str], "a list of texts"),
    ([1, "x"], list[float], "a list of numbers"),
    ("[1", list[float], "a list of numbers"),
    ({1: 2}, dict[str, float], "a mapping from names to numbers"),
    ({"a": "x"}, dict[str, float], "a mapping from names to numbers"),
    ("abc", float | None, "a number or null"),
]


@pytest.mark.parametrize(("value", "kind", "expected"), REFUSED)
def test_refused_with_the_field_the_value_and_what_was_expected(value: Any, kind: Any, expected: str) -> None:
    with pytest.raises(UserError) as caught:
        coerce(value, kind, "sft.x")
    message = str(caught.value)
    assert message.startswith("sft.x is ")
    assert message.endswith(f", expected {expected}")


def test_a_huge_value_is_cut_in_the_message() -> None:
    bomb: list[Any] = ["x"]
    for _ in range(60):  # 2**60 leaves when printed in full
        bomb = [bomb, bomb]
    with pytest.raises(UserError) as caught:
        coerce(bomb, float, "sft.x")
    assert len(str(caught.value)) < 2000


@pytest.mark.parametrize("kind", [Callable, tuple[int, int], int | str, Path])
def test_a_field_of_another_type_is_a_defect(kind: Any) -> None:
    with pytest.raises(TypeError):
        coerce("1", kind, "sft.x")


def test_nearest() -> None:
    assert nearest("learning_rat", ["seed", "learning_rate"]) == "; did you mean 'learning_rate'?"
    assert nearest("zzz", ["seed", "learning_rate"]) == ""
