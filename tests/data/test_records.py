from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from bessemer.data.records import (
    Conversation,
    Document,
    Example,
    ImageRef,
    Message,
    Prompt,
    Ranking,
    data_hash,
    decode_record,
    encode_record,
    read_records,
    write_records,
)
from bessemer.errors import UserError

IMAGE = ImageRef("图/裂纹 1.png", "ab" * 32)
ASK = Message("user", "这块电池片有缺陷吗?\u2028😀", (IMAGE, ImageRef("b.png", "cd" * 32)))
CONVERSATION = Conversation(
    "c1",
    (Message("system", "s"), ASK, Message("assistant", "有一条裂纹。")),
    "defect",
    "equipment",
    0.5,
    {"缺陷": "yes"},
    {"n": [1]},
)
PROMPT = Prompt("p1", (ASK,), "defect", "personnel", {"severity": 3}, {"by": "rules"})
RANKING = Ranking(
    "p1", PROMPT, ("好", "", "c"), (True, False, True), {"clarity": (1, 1, None)}, "小王", (2, 0, 1), {"t": 1}
)
DOCUMENT = Document("d1", "一\n二", {"source": "x"})
EXAMPLE = Example(
    "e1", IMAGE, {"defect": "yes"}, {"defect": 2 / 3}, 0.67, "module-01", "val", "environment", {"row": 1}
)
ALL = [CONVERSATION, PROMPT, RANKING, DOCUMENT, EXAMPLE]


@pytest.mark.parametrize("record", ALL, ids=lambda record: type(record).__name__)
def test_through_a_file_and_back(tmp_path: Path, record: Any) -> None:
    path = tmp_path / "r.jsonl"
    write_records(path, [record])
    assert read_records(path, type(record)) == [record]
    assert path.read_bytes().count(b"\n") == 1
    first = path.read_bytes()
    write_records(path, read_records(path, type(record)))
    assert path.read_bytes() == first


def test_the_line_of_a_conversation_by_hand() -> None:
    line = """{"kind": "conversation", "id": "c", "messages": [
        {"role": "user", "content": [{"type": "image", "path": "a.png", "sha256": "%s"},
                                     {"type": "text", "text": "?"}]},
        {"role": "assistant", "content": [{"type": "text", "text": "!"}]}],
        "task": "t", "scene": null, "weight": 1.0, "facts": {}, "provenance": {}}""" % ("0" * 64)  # noqa: UP031
    record = Conversation("c", (Message("user", "?", (ImageRef("a.png", "0" * 64),)), Message("assistant", "!")), "t")
    assert encode_record(record) == json.loads(line)
    assert decode_record(json.loads(line), Conversation) == record


def test_chinese_is_readable_in_the_file(tmp_path: Path) -> None:
    write_records(tmp_path / "r.jsonl", [CONVERSATION])
    assert "这块电池片有缺陷吗?" in (tmp_path / "r.jsonl").read_text(encoding="utf-8")


def test_plain_text_content_and_defaults() -> None:
    row = {
        "kind": "conversation",
        "id": "c",
        "messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}],
    }
    assert decode_record(row, Conversation) == Conversation("c", (Message("user", "q"), Message("assistant", "a")))


def test_unknown_keys_are_kept(tmp_path: Path) -> None:
    row = {**encode_record(DOCUMENT), "url": "x", "标签": [1, {"a": None}]}
    record = decode_record(row, Document)
    assert record.provenance == {"source": "x", "extra": {"url": "x", "标签": [1, {"a": None}]}}
    again = decode_record({**encode_record(record), "more": 2}, Document)
    assert again.provenance["extra"] == {"url": "x", "标签": [1, {"a": None}], "more": 2}


def _row(record: Any, **changes: Any) -> dict[str, Any]:
    row = {**encode_record(record), **changes}
    return {key: value for key, value in row.items() if value is not ...}


@pytest.mark.parametrize(
    ("record", "changes", "message"),
    [
        (DOCUMENT, {"kind": ...}, "kind 'None', expected 'document'"),
        (DOCUMENT, {"kind": "prompt"}, "kind 'prompt', expected 'document'"),
        (DOCUMENT, {"text": ...}, "no 'text', expected text"),
        (DOCUMENT, {"text": None}, r"'text' is null \(None\), expected text"),
        (DOCUMENT, {"id": 7}, r"'id' is a number \(7\), expected text"),
        (DOCUMENT, {"provenance": {"extra": 1}, "url": 1}, "'extra' is a number"),
        (CONVERSATION, {"weight": ..., "wieght": 2}, "unknown key 'wieght', expected 'weight'"),
        (CONVERSATION, {"weight": "2"}, "'weight' is text"),
        (CONVERSATION, {"weight": True}, "'weight' is true or false"),
        (CONVERSATION, {"messages": {}}, "'messages' is an object .*, expected a list"),
        (CONVERSATION, {"messages": ["x"]}, "'messages' is text .*, expected an object"),
        (CONVERSATION, {"scene": "office"}, "scene 'office', expected one of"),
        (CONVERSATION, {"facts": []}, "'facts' is a list .*, expected an object"),
        (EXAMPLE, {"labels": ..., "label": {"a": "b"}}, "unknown key 'label', expected 'labels'"),
        (EXAMPLE, {"labels": {"a": 1}}, r"'a' is a number \(1\), expected text"),
        (EXAMPLE, {"soft": {"defect": "x"}}, "'defect' is text"),
        (EXAMPLE, {"split": None}, "split 'None'"),
        (EXAMPLE, {"image": {"path": "a.png"}}, "no 'sha256'"),
        (
            EXAMPLE,
            {"image": {"path": "a.png", "sha256": "0" * 64, "width": 3}},
            "unknown key 'width' in an image",
        ),
        (RANKING, {"ranks": {"clarity": [1, 2, "3"]}}, "rank '3'"),
        (RANKING, {"ranks": {"clarity": 1}}, "'clarity' is a number"),
        (RANKING, {"ended": [1, 0, 1]}, "'ended' is a number .*, expected true or false"),
        (RANKING, {"shown_order": [0, 1, True]}, "'shown_order' is true or false"),
        (RANKING, {"responses": "abc"}, "'responses' is text .*, expected a list"),
        (RANKING, {"prompt": "why?"}, "'prompt' is text .*, expected an object"),
        (RANKING, {"prompt": encode_record(DOCUMENT)}, "kind 'document', expected 'prompt'"),
    ],
)
def test_bad_rows(tmp_path: Path, record: Any, changes: dict[str, Any], message: str) -> None:
    path = tmp_path / "bad.jsonl"
    good = dataclasses.replace(record, id="good")
    path.write_text(json.dumps(encode_record(good)) + "\n\n" + json.dumps(_row(record, **changes)) + "\n")
    with pytest.raises(UserError, match=r"bad.jsonl:3: .*" + message):
        read_records(path, type(record))
    assert read_records(path, type(record), tmp_path / "aside.jsonl") == [good]
    assert json.loads((tmp_path / "aside.jsonl").read_text())["line"] == 3


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ({"role": "user"}, "no 'content'"),
        ({"role": "robot", "content": "x"}, "role 'robot'"),
        ({"role": "user", "content": "x", "name": "y"}, "unknown key 'name' in a message"),
        ({"role": "user", "content": ["x"]}, "'content' is text"),
        ({"role": "user", "content": [{"type": "video", "path": "x"}]}, "type of a content part 'video'"),
        ({"role": "user", "content": [{"type": "text", "text": "x", "bold": 1}]},
         "unknown key 'bold' in a text part"),
        ({"role": "user", "content": [{"type": "text", "text": "x"}] * 2}, "2 text parts"),
        ({"role": "user", "content": [{"type": "text", "text": "x"},
                                      {"type": "image", "path": "a.png", "sha256": "0" * 64}]},
         "an image behind the text"),
        ({"role": "user", "content": [{"type": "image", "path": "../a\n.png", "sha256": "0" * 64}]},
         "control characters"),
        ({"role": "user", "content": [{"type": "image", "path": "http://h/a.png", "sha256": "0" * 64}]},
         "is an address"),
    ],
)  # fmt: skip
def test_bad_messages(message: dict[str, Any], expected: str) -> None:
    row = {"kind": "prompt", "id": "p", "messages": [message], "task": "t"}
    with pytest.raises(UserError, match=expected):
        decode_record(row, Prompt)


def test_ids_stand_once_rankings_once_an_annotator(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    other = dataclasses.replace(RANKING, annotator="老李")
    write_records(path, [RANKING, other])
    assert read_records(path, Ranking) == [RANKING, other]
    with pytest.raises(UserError, match="id 'p1' stands twice"):
        write_records(path, [RANKING, RANKING])
    assert read_records(path, Ranking) == [RANKING, other]  # the refused write left the file alone
    path.write_text(json.dumps(encode_record(DOCUMENT)) + "\n" + json.dumps(encode_record(DOCUMENT)))
    with pytest.raises(UserError, match=":2: id 'd1' stands on line 1 too"):
        read_records(path, Document)


def test_half_characters_are_not_written(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="half a character"):
        write_records(tmp_path / "r.jsonl", [Document("d", "a\ud83d")])
    assert not (tmp_path / "r.jsonl").exists()


def test_data_hash_is_of_the_content() -> None:
    moved = dataclasses.replace(EXAMPLE, image=ImageRef("/elsewhere/x.png", IMAGE.sha256), provenance={})
    assert data_hash([EXAMPLE]) == data_hash([moved])
    changed = [
        dataclasses.replace(EXAMPLE, **change)
        for change in [
            {"image": ImageRef(IMAGE.path, "00" * 32)}, {"labels": {"defect": "no"}}, {"soft": {}},
            {"weight": 1.0}, {"split": "test"}, {"id": "e2"}, {"group": "g"}, {"scene": None},
        ]
    ]  # fmt: skip
    assert len({data_hash([record]) for record in [EXAMPLE, *changed]}) == 9
    assert data_hash(ALL) != data_hash(ALL[::-1])
    assert data_hash([]) == hashlib.sha256(b"").hexdigest()


def test_data_hash_by_hand() -> None:
    line = '{"id": "d", "kind": "document", "text": "文"}\n'
    assert data_hash([Document("d", "文", {"x": 1})]) == hashlib.sha256(line.encode()).hexdigest()


def test_data_hash_sees_images_and_facts_in_conversations_and_rankings() -> None:
    def with_image(sha: str) -> Conversation:
        return Conversation("c", (Message("user", "?", (ImageRef("a.png", sha),)), Message("assistant", "!")))

    assert data_hash([with_image("0" * 64)]) != data_hash([with_image("1" * 64)])
    assert data_hash([RANKING]) != data_hash(
        [dataclasses.replace(RANKING, prompt=dataclasses.replace(PROMPT, facts={}))]
    )
    assert data_hash([PROMPT]) == data_hash([dataclasses.replace(PROMPT, provenance={})])
