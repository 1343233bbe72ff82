"""The text of an answer while its tokens arrive: what can no longer change, and where it has to stop.

A token is no unit of text: a character may be spread over several tokens, and so may a text to stop at. Tokens are
decoded together with those before them, and nothing is given out that a later token could still turn into another
character or into the beginning of a text to stop at.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

__all__ = ["AnswerText", "answer_text"]

HALF = "\ufffd"  # what a decoder writes for bytes that are no whole character (yet)


class AnswerText:
    """The text of one growing answer, without white space at its ends. Final.

    stopped: whether one of the texts in `stop` is complete. The one that is complete first counts, the longest of
    several that are complete at the same character: so where an answer stops does not depend on how it is cut into
    tokens. Special tokens have no text.
    """

    def __init__(self, tokenizer: Any, stop: Sequence[str] = ()) -> None:
        self.tokenizer = tokenizer
        self.stop = tuple(stop)
        self.stopped = False
        self._ids: list[int] = []
        self._context = self._read = 0  # ids before `_read` are text already; those from `_context` on decode with more
        self._text = ""
        self._given = 0

    def push(self, token: int) -> str:
        """Take one more token; the text that has become certain by it."""
        self._ids.append(token)
        before = self._decode(self._context, self._read)
        now = self._decode(self._context, len(self._ids))
        if len(now) <= len(before) or now.endswith(HALF):
            return ""
        self._context, self._read = self._read, len(self._ids)
        return self._take(now[len(before) :])

    def close(self) -> str:
        """No more tokens come: the text that was held back until now."""
        if self.stopped:
            return ""
        before = self._decode(self._context, self._read)
        self._find(self._decode(self._context, len(self._ids))[len(before) :])
        return self._give(len(self._text))

    def _decode(self, start: int, end: int) -> str:
        text: str = self.tokenizer.decode(self._ids[start:end], skip_special_tokens=True)
        return text

    def _take(self, new: str) -> str:
        self._find(new)
        return self._give(len(self._text) if self.stopped else len(self._text) - self._doubtful())

    def _find(self, new: str) -> None:
        """Append new text, up to the first text to stop at."""
        whole, reach = self._text + new, max(map(len, self.stop), default=0)
        start = max(0, len(self._text) - reach + 1)
        found = [(at + len(text), at) for text in self.stop if (at := whole.find(text, start)) >= 0]
        self.stopped = bool(found)
        self._text = whole[: min(found)[1]] if found else whole

    def _doubtful(self) -> int:
        """How many characters at the end may turn out to begin a text to stop at."""
        longest = max(map(len, self.stop), default=1) - 1
        for count in range(min(longest, len(self._text)), 0, -1):
            if any(text.startswith(self._text[-count:]) for text in self.stop):
                return count
        return 0

    def _give(self, end: int) -> str:
        """The text up to `end` that was not given yet; white space waits until something follows it."""
        certain = self._text[:end].rstrip()
        if not self._given:
            self._given = len(certain) - len(certain.lstrip())
        new, self._given = certain[self._given :], max(self._given, len(certain))
        return new


def answer_text(tokenizer: Any, ids: Sequence[int], stop: Sequence[str] = ()) -> str:
    """The text of an answer's tokens up to the first text to stop at, without white space at its ends."""
    text = AnswerText(tokenizer, stop)
    parts = []
    for token in ids:
        parts.append(text.push(token))
        if text.stopped:
            break
    return "".join([*parts, text.close()])
