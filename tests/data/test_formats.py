from __future__ import annotations

from typing import Any

import pytest

from bessemer.data.formats import Preference, detect, messages_of, preference_of
from bessemer.data.schema import ImageRef, Message
from bessemer.errors import UserError


def _find(path: str) -> ImageRef:
    return ImageRef(path, "0" * 64)


def _measure(image: ImageRef) -> tuple[int, int]:
    return 400, 200


A, B = _find("a.png"), _find("b.png")
HI, LO = Message("user", "问"), Message("assistant", "答")
SYSTEM = Message("system", "简短")


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"instruction": "问", "output": "答"}, (HI, LO)),
        ({"instruction": "问", "input": "", "output": "答"}, (HI, LO)),
        ({"instruction": "问", "input": None, "output": "答"}, (HI, LO)),
        ({"instruction": "a", "input": "b", "output": "答"}, (Message("user", "a\nb"), LO)),
        ({"instruction": "x", "output": "y", "system": "简短", "history": [["问", "答"]]},
         (SYSTEM, HI, LO, Message("user", "x"), Message("assistant", "y"))),
        ({"query": "问", "response": "答", "system": ""}, (HI, LO)),
        ({"prompt": "问", "completion": "答"}, (HI, LO)),
        ({"prompt": [{"role": "user", "content": "问"}],
          "completion": [{"role": "assistant", "content": "答"}]},
         (HI, LO)),
        ({"conversations": [{"from": "human", "value": "问"}, {"from": "gpt", "value": "答"}]}, (HI, LO)),
        ({"system": "简短",
          "conversations": [{"from": "human", "value": "问"}, {"from": "GPT", "value": "答"}]},
         (SYSTEM, HI, LO)),
        ({"conversations": [{"role": "user", "content": "问"}, {"role": "assistant", "content": "答"}]},
         (HI, LO)),
        ({"messages": [{"role": "system", "content": "简短"}, {"role": "user", "content": "问"},
                       {"role": "assistant", "content": "答", "tool_calls": None, "weight": 1}]},
         (SYSTEM, HI, LO)),
    ],
)  # fmt: skip
def test_text_rows(row: dict[str, Any], expected: tuple[Message, ...]) -> None:
    format = detect(row)
    assert format is not None
    assert messages_of(row, format, _find, _measure) == expected


@pytest.mark.parametrize(
    ("row", "format"),
    [
        ({"instruction": "", "output": ""}, "alpaca"), ({"conversations": []}, "sharegpt"),
        ({"messages": []}, "openai messages"), ({"chosen": "", "rejected": "", "messages": []}, "preference"),
        ({"query": "", "response": ""}, "query and response"),
        ({"prompt": "", "completion": ""}, "prompt and completion"),
        ({"text": ""}, "text"), ({"instruction": ""}, None), ({"chosen": ""}, None), ({}, None),
    ],
)  # fmt: skip
def test_detection(row: dict[str, Any], format: str | None) -> None:
    assert detect(row) == format


def _ask(content: object, **row: Any) -> Message:
    value = {"messages": [{"role": "user", "content": content}, {"role": "assistant", "content": "x"}], **row}
    return messages_of(value, "openai messages", _find, _measure)[0]


@pytest.mark.parametrize(
    ("content", "row", "expected"),
    [
        ("<image>\n是什么?", {"images": ["a.png"]}, Message("user", "是什么?", (A,))),
        ("<image><image> compare", {"images": ["a.png", "b.png"]}, Message("user", "compare", (A, B))),
        ("first <image> then", {"image": "a.png"}, Message("user", "first  then", (A,))),
        ("no mark", {"images": ["a.png", "b.png"]}, Message("user", "no mark", (A, B))),
        (" kept as it is \n", {"images": []}, Message("user", " kept as it is \n")),
        ([{"type": "image", "path": "a.png"}, {"type": "text", "text": "?"}], {}, Message("user", "?", (A,))),
        (
            [{"type": "text", "text": "?"}, {"type": "image_url", "image_url": {"url": "file://a.png"}}],
            {},
            Message("user", "?", (A,)),
        ),
        (
            [{"type": "image"}, {"type": "text", "text": "?"}],
            {"images": ["b.png"]},
            Message("user", "?", (B,)),
        ),
        ([{"type": "image", "image": "a.png"}], {}, Message("user", "", (A,))),
    ],
)
def test_images(content: object, row: dict[str, Any], expected: Message) -> None:
    assert _ask(content, **row) == expected


def test_images_go_to_the_turns_that_mark_them() -> None:
    said = [
        ("user", "<image>1"),
        ("assistant", "x"),
        ("user", "no"),
        ("assistant", "x"),
        ("user", "<image>3"),
        ("assistant", "x"),
    ]
    row = {"messages": [{"role": role, "content": text} for role, text in said], "images": ["a.png", "b.png"]}
    assert [message.images for message in messages_of(row, "openai messages", _find, _measure)] == [
        (A,),
        (),
        (),
        (),
        (B,),
        (),
    ]
    del row["messages"][0]["content"]
    row["messages"][0]["content"] = "1"
    row["messages"][4]["content"] = "3"
    assert [message.images for message in messages_of(row, "openai messages", _find, _measure)] == [
        (A, B),
        (),
        (),
        (),
        (),
        (),
    ]


@pytest.mark.parametrize(
    ("content", "row", "message"),
    [
        ("<image> ?", {}, "1 <image> marks and 0 images, expected as many"),
        ("<image> ?", {"images": ["a.png", "b.png"]}, "1 <image> marks and 2 images"),
        ("<image><image>", {"images": ["a.png"]}, "2 <image> marks and 1 images"),
        ("?", {"images": [{"bytes": "..."}]}, "expected a path"),
        ("?", {"images": 1}, "images 1, expected a path or a list of paths"),
        ([{"type": "image", "path": "a.png"}], {"images": ["b.png"]}, "both in the row and in its messages"),
        ([{"type": "image", "image": 3}], {}, "image 3, expected a path"),
        ([{"type": "video", "path": "a.mp4"}], {}, "expected type text, image or image_url"),
        ([{"type": "image_url", "image_url": {"url": "https://x/a.png"}}], {}, "is an address"),
        ([{"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}], {}, "is an address"),
        (None, {}, "content is None"),
    ],
)
def test_bad_images(content: object, row: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        _ask(content, **row)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"messages": [{"role": "user", "content": "q"}, {"role": "tool", "content": "x"}]},
         "message of 'tool'"),
        ({"messages": [{"role": "user", "content": "q"},
                       {"role": "assistant", "content": "a", "tool_calls": [{"id": 1}]}]},
         "key 'tool_calls' in a message, which would be lost"),
        ({"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a", "weight": 0}]},
         "key 'weight'"),
        ({"messages": "q"}, "'messages' is text"),
        ({"messages": ["q"]}, "message q, expected an object"),
        ({"messages": [{"role": "user", "content": "q"}]}, "the last message"),
        ({"messages": [{"role": "system", "content": "q"}], "system": "p"}, "two system texts"),
        ({"conversations": [{"from": "human", "value": "q"}, {"from": "human", "value": "r"}]},
         "message 2 is of 'user'"),
        ({"conversations": [{"from": "function_call", "value": "q"}]}, "message of 'function_call'"),
        ({"instruction": "q", "output": ""}, "text of 'assistant' is empty"),
        ({"instruction": "q", "output": None}, "'output' is null"),
        ({"instruction": "q", "input": {"a": 1}, "output": "a"}, "'input' is no text"),
        ({"instruction": "q", "output": "a", "history": ["x"]}, "history item x"),
        ({"instruction": "q", "output": "a", "history": 5}, "'history' is 5, expected a list"),
        ({"prompt": "q", "completion": "a", "label": False}, "label true or false"),
    ],
)  # fmt: skip
def test_bad_rows(row: dict[str, Any], message: str) -> None:
    from bessemer.data.schema import Conversation

    format = detect(row)
    assert format is not None
    with pytest.raises(UserError, match=message):
        Conversation("c", messages_of(row, format, _find, _measure))


EXPECTED = Preference((HI,), "好", "坏")
SAID = [{"role": "user", "content": "问"}]
GOOD, BAD = {"role": "assistant", "content": "好"}, {"role": "assistant", "content": "坏"}


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "问", "chosen": "好", "rejected": "坏"},
        {"prompt": SAID, "chosen": "好", "rejected": "坏"},
        {"prompt": SAID, "chosen": [GOOD], "rejected": [BAD]},
        {"chosen": [*SAID, GOOD], "rejected": [*SAID, BAD]},
        {"prompt": "问", "chosen": [*SAID, GOOD], "rejected": [*SAID, BAD]},
        {"instruction": "问", "input": "", "chosen": "好", "rejected": "坏"},
        {"messages": SAID, "chosen": GOOD, "rejected": BAD},
        {"conversations": [{"from": "human", "value": "问"}], "chosen": {"from": "gpt", "value": "好"},
         "rejected": {"from": "gpt", "value": "坏"}},
        {"query": "问", "chosen": "好", "rejected": "坏"},
        {"prompt": "问", "messages": [*SAID, GOOD], "chosen": [*SAID, GOOD], "rejected": [*SAID, BAD]},
        {"messages": [*SAID, GOOD], "chosen": "好", "rejected": "坏"},
    ],
)  # fmt: skip
def test_preferences(row: dict[str, Any]) -> None:
    assert detect(row) == "preference"
    assert preference_of(row, _find) == EXPECTED


def test_preferences_with_images_and_turns() -> None:
    row = {
        "messages": [{"role": "user", "content": "<image>问"}, GOOD, *SAID],
        "chosen": "好",
        "rejected": "坏",
        "images": ["a.png"],
    }
    expected = (Message("user", "问", (A,)), Message("assistant", "好"), HI)
    assert preference_of(row, _find) == Preference(expected, "好", "坏")


def test_the_system_text_of_a_preference_stands_before_its_turns() -> None:
    row = {"system": "短", "prompt": "问", "chosen": [*SAID, GOOD], "rejected": [*SAID, BAD]}
    assert preference_of(row, _find) == Preference((Message("system", "短"), HI), "好", "坏")
    said = [{"role": "system", "content": "短"}, *SAID]
    row = {"system": "短", "prompt": "问", "chosen": [*said, GOOD], "rejected": [*said, BAD]}
    assert preference_of(row, _find) == Preference((Message("system", "短"), HI), "好", "坏")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"chosen": "a", "rejected": "b"}, "no prompt before"),
        ({"prompt": "q", "chosen": "a", "rejected": "a "}, "are the same text"),
        (
            {"chosen": [*SAID, GOOD], "rejected": [{"role": "user", "content": "else"}, BAD]},
            "begin with different turns",
        ),
        (
            {"prompt": "else", "chosen": [*SAID, GOOD], "rejected": [*SAID, BAD]},
            "the prompt is not in the turns",
        ),
        ({"prompt": "q", "chosen": SAID, "rejected": [BAD]}, "'chosen' does not end with an answer"),
        ({"prompt": "q", "chosen": 3, "rejected": "b"}, "message 3"),
        ({"prompt": "q", "chosen": None, "rejected": "b"}, "message None"),
    ],
)
def test_bad_preferences(row: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        preference_of(row, _find)


def test_objects_of_ms_swift_are_spoken() -> None:
    row = {
        "messages": [
            {"role": "user", "content": "<image>Where is the <ref-object>?"},
            {"role": "assistant", "content": "<bbox><bbox>"},
        ],
        "images": ["a.png"],
        "objects": {"ref": ["羊"], "bbox": [[40, 20, 400, 200], [0, 0, 200, 100]]},
    }
    assert messages_of(row, "openai messages", _find, _measure) == (
        Message("user", "Where is the 羊?", (A,)),
        Message("assistant", "[100, 100, 1000, 1000] [0, 0, 500, 500]"),
    )
    with pytest.raises(UserError, match="objects beside chosen and rejected"):
        preference_of({"prompt": "a", "chosen": "b", "rejected": "c", "objects": {}}, _find)
