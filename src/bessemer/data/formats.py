"""What other tools' rows mean: alpaca, sharegpt, OpenAI messages, prompt and completion, chosen and rejected,
plain text.

A row's turns are first brought to (role, text with image marks), then images are put in. Nothing that changes
what is trained is passed
over: tool calls, per-message weights and labels of good and bad are refused rather than ignored.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ..errors import UserError
from .objects import fill_objects
from .paths import shown
from .records import get_field
from .schema import ImageRef, Message, Role, need

__all__ = ["FORMATS", "Preference", "detect", "messages_of", "preference_of", "strip_known", "text_of"]

MARK = "<image>"
FORMATS = {
    "preference": "chosen, rejected (with prompt, instruction, conversations or messages before them)",
    "openai messages": "messages: [{role, content}] (with images, objects as of ms-swift)",
    "sharegpt": "conversations: [{from, value}]",
    "alpaca": "instruction, input, output (with system, history)",
    "query and response": "query, response (with system, history)",
    "prompt and completion": "prompt, completion",
    "text": "text",
}
_KNOWN = frozenset((
    "annotator", "chosen", "completion", "conversations", "history", "id", "image", "images", "input",
    "instruction", "messages", "objects", "output", "prompt", "query", "rejected", "response", "scene", "system",
    "task", "text", "weight",
))  # fmt: skip
_ROLES: dict[str, Role] = {
    "system": "system", "developer": "system", "user": "user", "human": "user",
    "assistant": "assistant", "gpt": "assistant", "chatgpt": "assistant", "model": "assistant",
    "bot": "assistant",
}  # fmt: skip
FindImage = Callable[[str], ImageRef]
Measure = Callable[[ImageRef], tuple[int, int]]


@dataclass(frozen=True)
class Turn:
    """One message whose images are still marks in the text; `paths` are those that stood in the message
    itself."""

    role: Role
    text: str
    paths: tuple[str, ...] = ()


@dataclass(frozen=True)
class Preference:
    """Two answers to the same messages."""

    messages: tuple[Message, ...]
    chosen: str
    rejected: str


def detect(row: dict[str, Any]) -> str | None:
    """The name of the row's format, by its keys; None when it is none of `FORMATS`."""
    keys = row.keys()
    tests = {
        "preference": {"chosen", "rejected"}, "openai messages": {"messages"}, "sharegpt": {"conversations"},
        "alpaca": {"instruction", "output"}, "query and response": {"query", "response"},
        "prompt and completion": {"prompt", "completion"}, "text": {"text"},
    }  # fmt: skip
    return next((name for name, wanted in tests.items() if wanted <= keys), None)


def strip_known(row: dict[str, Any]) -> dict[str, Any]:
    """What no format knows, to be kept in the provenance."""
    return {key: value for key, value in row.items() if key not in _KNOWN}


def text_of(row: dict[str, Any]) -> str:
    """The text of a "text" row."""
    return get_field(row, "text", str)


def messages_of(row: dict[str, Any], format: str, find: FindImage, measure: Measure) -> tuple[Message, ...]:
    """The messages of a row of any format but "preference" and "text", images found and put in, names and boxes of
    `objects` too; `measure` tells (width, height) of an image."""
    need(
        not isinstance(row.get("label"), bool),
        "label true or false (KTO)",
        "answers that are all to be learned",
    )
    turns = _with_objects(_context(row, format) + _answer(row, format), row, find, measure)
    return _with_images(turns, row, find)


def preference_of(row: dict[str, Any], find: FindImage) -> Preference:
    """Prompt, chosen and rejected answer; the prompt explicit, or the turns that both conversations begin
    with."""
    need(row.get("objects") is None, "objects beside chosen and rejected", "boxes written in the texts")
    (chosen_turns, chosen), (rejected_turns, rejected) = _ending(row, "chosen"), _ending(row, "rejected")
    need(
        chosen_turns == rejected_turns,
        "chosen and rejected begin with different turns",
        "the same prompt for both",
    )
    need(chosen.strip() != rejected.strip(), "chosen and rejected are the same text", "two answers")
    format = next((f for key, f in _PROMPTS.items() if key in row), "")
    turns = _context(row, format) if format else []
    if turns and turns[-1].role == "assistant":
        turns = turns[:-1]  # the whole conversation stands beside its parts, with an answer at its end
    if not turns:
        turns = chosen_turns
    elif chosen_turns:
        said = [turn.text for turn in chosen_turns]
        own = [turn for turn in turns if turn.role == "system"] if chosen_turns[0].role != "system" else []
        need(
            all(t.text in said for t in turns if t not in own),
            "the prompt is not in the turns of chosen",
            "the same prompt in both",
        )
        turns = own + chosen_turns
    need(turns, "no prompt before chosen and rejected", "prompt, instruction, conversations or messages")
    return Preference(_with_images(turns, row, find), chosen, rejected)


_PROMPTS = {
    "messages": "openai messages", "conversations": "sharegpt", "instruction": "alpaca",
    "query": "query and response", "prompt": "prompt and completion",
}  # fmt: skip


def _ending(row: dict[str, Any], key: str) -> tuple[list[Turn], str]:
    """The turns before an answer (none when it stands alone) and the answer."""
    value = row[key]
    if isinstance(value, str):
        return [], value
    turns = _turns(value if isinstance(value, list) else [value])
    need(
        turns and turns[-1].role == "assistant",
        f"{key!r} does not end with an answer",
        "the assistant's text last",
    )
    return turns[:-1], turns[-1].text


def _context(row: dict[str, Any], format: str) -> list[Turn]:
    """All that comes before the answer (for conversations: the whole of them)."""
    system = [Turn("system", row["system"])] if isinstance(row.get("system"), str) and row["system"].strip() else []
    if format in ("openai messages", "sharegpt"):
        turns = _turns(get_field(row, "messages" if format == "openai messages" else "conversations", list))
        need(not (system and turns and turns[0].role == "system"), "two system texts", "one")
        return system + turns
    if format == "prompt and completion":
        prompt = row.get("prompt")
        return system + (_turns(prompt) if isinstance(prompt, list) else [Turn("user", get_field(row, "prompt", str))])
    pairs = row.get("history") or []
    need(isinstance(pairs, list), f"'history' is {shown(pairs, 40)}", "a list of [question, answer]")
    history = [turn for pair in pairs for turn in _pair(pair)]
    question = get_field(row, "instruction" if format == "alpaca" else "query", str)
    detail = (row.get("input") or "") if format == "alpaca" else ""
    need(isinstance(detail, str), "'input' is no text", "text")
    return [*system, *history, Turn("user", f"{question}\n{detail}" if detail.strip() else question)]


def _answer(row: dict[str, Any], format: str) -> list[Turn]:
    if format in ("openai messages", "sharegpt"):
        return []
    if format == "prompt and completion" and isinstance(row.get("completion"), list):
        return _turns(row["completion"])
    key = {"alpaca": "output", "query and response": "response"}.get(format, "completion")
    return [Turn("assistant", get_field(row, key, str))]


def _pair(pair: object) -> list[Turn]:
    if isinstance(pair, list) and len(pair) == 2 and all(isinstance(text, str) for text in pair):
        return [Turn("user", pair[0]), Turn("assistant", pair[1])]
    raise UserError(f"history item {shown(pair, 40)}, expected [question, answer]")


def _turns(values: Sequence[object]) -> list[Turn]:
    turns: list[Turn] = []
    for value in values:
        if not isinstance(value, dict):
            raise UserError(f"message {shown(value, 40)}, expected an object with role and content, or from and value")
        role_key, text_key = ("from", "value") if "from" in value else ("role", "content")
        for key in value.keys() - {role_key, text_key}:
            meant = value[key] not in (None, [], {}, "") and not (key == "weight" and value[key] == 1)
            need(
                not meant,
                f"key {shown(key)!r} in a message, which would be lost",
                f"{role_key} and {text_key}",
            )
        name = get_field(value, role_key, str)
        need(
            name.lower() in _ROLES,
            f"message of {shown(name, 40)!r}",
            "system, user (human) or assistant (gpt)",
        )
        text, paths = _content(value.get(text_key))
        turns.append(Turn(_ROLES[name.lower()], text, paths))
    return turns


def _content(content: object) -> tuple[str, tuple[str, ...]]:
    """Text with a mark for each image, and the images' paths where they stand in the parts."""
    if isinstance(content, str):
        return content, ()
    if not isinstance(content, list):
        raise UserError(f"content is {shown(content, 40)}, expected text or a list of parts")
    texts: list[str] = []
    paths: list[str] = []
    for part in content:
        kind = part.get("type") if isinstance(part, dict) else None
        if kind == "text":
            texts.append(get_field(part, "text", str))
        elif kind in ("image", "image_url"):
            texts.append(MARK)
            paths.extend(_part_path(part))
        else:
            raise UserError(f"content part {shown(part, 40)}, expected type text, image or image_url")
    return "".join(texts), tuple(paths)


def _part_path(part: dict[str, Any]) -> list[str]:
    """The path in an image part; none when the row lists its images apart."""
    value = next((part[key] for key in ("image_url", "path", "image", "url") if part.get(key) is not None), None)
    path = value.get("url") if isinstance(value, dict) else value
    if path is None:
        return []
    if not isinstance(path, str):
        raise UserError(f"image {shown(path, 40)}, expected a path")
    return [path.removeprefix("file://")]


def _with_objects(turns: list[Turn], row: dict[str, Any], find: FindImage, measure: Measure) -> list[Turn]:
    """Names and boxes in place of their marks (`objects`)."""
    if row.get("objects") is None:
        return turns
    sizes = [measure(find(path)) for path in _listed(row) or [path for turn in turns for path in turn.paths]]
    texts = fill_objects([turn.text for turn in turns], get_field(row, "objects", dict), sizes)
    return [replace(turn, text=text) for turn, text in zip(turns, texts, strict=True)]


def _listed(row: dict[str, Any]) -> list[str]:
    """The paths that a row lists apart from its messages."""
    listed = row.get("images") if row.get("images") is not None else row.get("image")
    paths = [listed] if isinstance(listed, str) else listed or []
    need(isinstance(paths, list), f"images {shown(paths, 40)}", "a path or a list of paths")
    for path in paths:
        need(isinstance(path, str), f"image {shown(path, 40)}", "a path")
    return paths


def _with_images(turns: list[Turn], row: dict[str, Any], find: FindImage) -> tuple[Message, ...]:
    """Marks replaced by images in their order; without any mark all images go to the first message of the
    user."""
    paths = _listed(row)
    inline = [path for turn in turns for path in turn.paths]
    need(not (paths and inline), "images both in the row and in its messages", "one of the two")
    paths = paths or inline
    marks = sum(turn.text.count(MARK) for turn in turns)
    need(
        marks in (0, len(paths)) if paths else marks == 0,
        f"{marks} {MARK} marks and {len(paths)} images",
        "as many",
    )
    images = [find(path) for path in paths]
    messages: list[Message] = []
    for turn in turns:
        count = turn.text.count(MARK)
        if not marks and turn.role == "user":
            count = len(images)
        text = turn.text.replace(MARK, "").strip() if MARK in turn.text else turn.text
        messages.append(Message(turn.role, text, tuple(images[:count])))
        images = images[count:]
    return tuple(messages)
