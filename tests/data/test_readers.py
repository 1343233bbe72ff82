from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from bessemer.data.images import image_ref
from bessemer.data.readers import read_any
from bessemer.data.records import Conversation, Document, Example, Message, Prompt, Ranking, encode_record
from bessemer.errors import UserError


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    (tmp_path / "图").mkdir()
    Image.new("L", (4, 3), 9).save(tmp_path / "图" / "a.png")
    return tmp_path / "图" / "a.png"


def _lines(path: Path, *rows: Any) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def test_alpaca_array(tmp_path: Path) -> None:
    path = tmp_path / "数据.json"
    path.write_text(
        '[\n {"instruction": "问", "output": "答", "来源": 7},\n {"id": 12, "instruction": "b", "output": "c"}\n]',
        encoding="utf-8",
    )
    reading = read_any(path, task="qa")
    assert reading.format == "alpaca"
    assert reading.records == [
        Conversation("数据-1", (Message("user", "问"), Message("assistant", "答")), "qa",
                     provenance={"format": "alpaca", "file": "数据.json", "line": 2, "extra": {"来源": 7}}),
        Conversation("12", (Message("user", "b"), Message("assistant", "c")), "qa",
                     provenance={"format": "alpaca", "file": "数据.json", "line": 3}),
    ]  # fmt: skip


def test_ids_in_an_array_on_one_line_are_distinct(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps([{"instruction": "a", "output": "b"}] * 3))
    assert [record.id for record in read_any(path).records] == ["a-1", "a-2", "a-3"]
    path.write_text(json.dumps([{"id": given, "instruction": "a", "output": "b"} for given in (None, 0, None)]))
    assert [record.id for record in read_any(path).records] == ["a-1", "0", "a-3"]


def test_sharegpt_with_images(tmp_path: Path, photo: Path) -> None:
    row = {"conversations": [{"from": "human", "value": "<image>?"}, {"from": "gpt", "value": "!"}],
           "images": ["图/a.png"], "task": "defect", "scene": "personnel", "weight": 2}  # fmt: skip
    reading = read_any(_lines(tmp_path / "d.jsonl", row))
    assert reading.format == "sharegpt"
    (record,) = reading.records
    assert isinstance(record, Conversation)
    assert record.messages[0] == Message("user", "?", (image_ref(photo),))
    assert (record.task, record.scene, record.weight) == ("defect", "personnel", 2.0)


def test_image_root(tmp_path: Path, photo: Path) -> None:
    row = {
        "messages": [{"role": "user", "content": "?"}, {"role": "assistant", "content": "!"}],
        "image": "a.png",
    }
    (tmp_path / "elsewhere").mkdir()
    path = _lines(tmp_path / "elsewhere" / "d.jsonl", row)
    (record,) = read_any(path, image_root=photo.parent).records
    assert isinstance(record, Conversation)
    assert record.messages[0].images == (image_ref(photo),)
    with pytest.raises(UserError, match=r"d.jsonl:1: .*a.png: cannot be read"):
        read_any(path)


def test_preferences_become_rankings(tmp_path: Path) -> None:
    path = _lines(tmp_path / "p.jsonl", {"prompt": "q", "chosen": "a", "rejected": "b", "score": 3})
    reading = read_any(path, principle="helpfulness")
    assert reading.format == "preference"
    (record,) = reading.records
    assert record == Ranking(
        "p-1", Prompt("p-1", (Message("user", "q"),)), ("a", "b"), (True, True), {"helpfulness": (1, 2)},
        "imported", (0, 1),
        {"format": "preference", "file": "p.jsonl", "line": 1,
         "extra": {"score": 3}, "shown_order": "unknown"},
    )  # fmt: skip


def test_text(tmp_path: Path) -> None:
    reading = read_any(_lines(tmp_path / "t.jsonl", {"text": "一"}, {"text": "二"}))
    assert (reading.format, [type(record) for record in reading.records]) == ("text", [Document, Document])


def test_own_records_get_their_hashes(tmp_path: Path, photo: Path) -> None:
    ref = image_ref(photo)
    row = {"kind": "prompt", "id": "p", "task": "t", "messages": [
        {"role": "user", "content": [{"type": "image", "path": "图/a.png"}, {"type": "text", "text": "?"}]},
    ]}  # fmt: skip
    prompt = Prompt("p", (Message("user", "?", (ref,)),), "t")
    reading = read_any(_lines(tmp_path / "own.jsonl", row))
    assert (reading.format, reading.records) == ("bessemer prompt", [prompt])
    ranking = Ranking("p", prompt, ("a", "b"), (True, True), {}, "x", (0, 1))
    nested = {**encode_record(ranking), "prompt": row}
    assert read_any(_lines(tmp_path / "rank.jsonl", nested)).records == [ranking]
    example = {"kind": "example", "id": "e", "image": {"path": "图/a.png"}, "labels": {"缺陷": "有"}}
    assert read_any(_lines(tmp_path / "ex.jsonl", example)).records == [Example("e", ref, {"缺陷": "有"})]


def test_own_records_of_text(tmp_path: Path) -> None:
    row = {"kind": "prompt", "id": "p", "messages": [{"role": "user", "content": "问"}]}
    path = _lines(tmp_path / "own.jsonl", row)
    assert read_any(path).records == [Prompt("p", (Message("user", "问"),))]
    with pytest.raises(UserError, match="own.jsonl:1: 'messages' is text"):
        read_any(_lines(path, {**row, "messages": ["问"]}))


def test_own_records_with_another_hash(tmp_path: Path, photo: Path) -> None:
    example = {
        "kind": "example",
        "id": "e",
        "image": {"path": "图/a.png", "sha256": "0" * 64},
        "labels": {"a": "b"},
    }
    with pytest.raises(UserError, match=r"ex.jsonl:1: image .*a.png is not the one recorded \(sha256\)"):
        read_any(_lines(tmp_path / "ex.jsonl", example))


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (
            [{"a": 1, "b": 2}],
            "d.jsonl: keys a, b in the first rows, expected one of these formats: preference: chosen",
        ),
        ([], "d.jsonl: no JSON object in the first rows"),
        ([[1]], "broken JSON|no JSON object"),
        (
            [{"instruction": "a", "output": "b"}] * 2 + [{"text": "x"}],
            "d.jsonl:3: no 'instruction', expected text",
        ),
        ([{"text": "x", "id": "1"}, {"text": "x", "id": 1}], "d.jsonl:2: id '1' stands on line 1 too"),
        ([{"text": "x", "kind": "document", "id": "a"}] * 2, "d.jsonl:2: id 'a' stands on line 1 too"),
        (
            [{"text": "x", "kind": "document", "id": "a"}, {"kind": "prompt"}],
            "d.jsonl:2: kind 'prompt', expected 'document'",
        ),
        ([{"prompt": "q", "completion": "a", "task": 3}], "d.jsonl:1: 'task' is a number"),
        ([{"prompt": "q", "completion": "a", "scene": "sea"}], "d.jsonl:1: scene 'sea'"),
        ([{"prompt": "q", "completion": "a", "weight": -1}], "d.jsonl:1: weight -1"),
        (
            [{"prompt": "q", "completion": "a", "images": ["../secret.png"]}],
            "d.jsonl:1: image path '../secret.png' leads out",
        ),
    ],
)
def test_errors_name_file_and_line(tmp_path: Path, rows: list[Any], message: str) -> None:
    (tmp_path / "secret.png").write_bytes(b"x")
    (tmp_path / "in").mkdir()
    with pytest.raises(UserError, match=message):
        read_any(_lines(tmp_path / "in" / "d.jsonl", *rows))


def test_detection_survives_a_bad_first_row_and_skip_bad_sets_it_aside(tmp_path: Path) -> None:
    path = _lines(
        tmp_path / "d.jsonl",
        {"text": "x"},
        {"instruction": "a", "output": "b"},
        {"instruction": "c", "output": "d"},
    )
    reading = read_any(path, skip_bad=tmp_path / "bad.jsonl")
    assert reading.format == "alpaca"
    assert [record.id for record in reading.records] == ["d-2", "d-3"]
    aside = json.loads((tmp_path / "bad.jsonl").read_text())
    assert (aside["line"], aside["raw"]) == (1, '{"text": "x"}')
