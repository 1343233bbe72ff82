"""The facts of a prompt whose true answer is a text, for the judge's rule "text"."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

__all__ = ["text_facts"]

_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]|[^\W\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]+")


def text_facts(reference: str, task: str, names: Sequence[str] = ()) -> dict[str, Any]:
    """Facts beside a question whose answer is `reference`.

    names: of code (or parts) that an answer may use though the reference does not. `length` is what counts as
    neither too short nor too long, in words, a Chinese character being one.
    """
    count = len(_WORD.findall(reference))
    return {
        "rule": "text",
        "kind": "text",
        "task": task,
        "asked": [],
        "reference": reference,
        "names": list(names),
        "length": [max(2, count // 2), max(12, count + count // 2)],
    }
