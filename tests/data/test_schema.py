from __future__ import annotations

from typing import Any

import pytest

from bessemer.data.schema import Conversation, Document, Example, ImageRef, Message, Prompt, Ranking
from bessemer.errors import UserError

SHA = "0" * 64
IMAGE = ImageRef("a.png", SHA)
ASK, ANSWER, RULES = (
    Message("user", "有裂纹吗?", (IMAGE,)),
    Message("assistant", "有。"),
    Message("system", "be brief"),
)
PROMPT = Prompt("p", (ASK,))


def _ranking(**changes: Any) -> Ranking:
    values: dict[str, Any] = {
        "id": "r", "prompt": PROMPT, "responses": ("a", "", "c"), "ended": (True, False, True),
        "ranks": {"clarity": (1, 3, 1), "harmlessness": (None, None, None)}, "annotator": "ann",
        "shown_order": (2, 0, 1),
    }  # fmt: skip
    return Ranking(**(values | changes))


def _example(**changes: Any) -> Example:
    values: dict[str, Any] = {"id": "e", "image": IMAGE, "labels": {"缺陷": "有"}}
    return Example(**(values | changes))


def test_good_ones() -> None:
    assert Conversation("c", (RULES, ASK, ANSWER, Message("user", "why?"), ANSWER)).weight == 1.0
    assert Prompt("p", (RULES, ASK, ANSWER, Message("user", "why?"))).scene is None
    assert _ranking().ranks["clarity"] == (1, 3, 1)  # a tie, a gap
    assert _example(soft={"缺陷": 1}, weight=0).soft == {"缺陷": 1.0}
    assert Message("user", "", (IMAGE,)).images == (IMAGE,)
    assert Document("d", "文").text == "文"


@pytest.mark.parametrize("sha", ["", "0" * 63, "0" * 65, "A" * 64, "g" * 64, "0" * 64 + "\n"])
def test_hashes(sha: str) -> None:
    with pytest.raises(UserError, match="64 digits"):
        ImageRef("a.png", sha)


def test_image_paths_are_checked() -> None:
    with pytest.raises(UserError, match="is an address"):
        ImageRef("http://x/a.png", SHA)


@pytest.mark.parametrize(
    ("role", "text", "images", "message"),
    [
        ("tool", "x", (), "role 'tool', expected one of system, user, assistant"),
        ("user", " \n", (), "text of 'user' is empty"),
        ("assistant", "", (), "text of 'assistant' is empty"),
        ("assistant", "x", (IMAGE,), "images in a message of 'assistant'"),
        ("system", "x", (IMAGE,), "images in a message of 'system'"),
    ],
)
def test_messages(role: Any, text: str, images: tuple[ImageRef, ...], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Message(role, text, images)


@pytest.mark.parametrize(
    ("messages", "message"),
    [
        ((), "no messages"),
        ((RULES,), "no messages"),
        ((ANSWER,), "message 1 is of 'assistant', expected 'user'"),
        ((RULES, ANSWER), "message 2 is of 'assistant', expected 'user'"),
        ((ASK, ASK), "message 2 is of 'user', expected 'assistant'"),
        ((ASK, ANSWER, ANSWER), "message 3 is of 'assistant', expected 'user'"),
        ((ASK, RULES, ANSWER), "message 2 is of 'system'"),
    ],
)
def test_turns(messages: tuple[Message, ...], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Conversation("c", messages)
    with pytest.raises(UserError, match=message):
        Prompt("p", messages)


def test_who_speaks_last() -> None:
    with pytest.raises(UserError, match="the last message is of 'user', expected 'assistant'"):
        Conversation("c", (ASK,))
    with pytest.raises(UserError, match="the last message is of 'assistant', expected 'user'"):
        Prompt("p", (ASK, ANSWER))


@pytest.mark.parametrize("weight", [-0.1, float("nan"), float("inf"), True, "1", None])
def test_weights(weight: Any) -> None:
    with pytest.raises(UserError, match="weight .*, expected a number of 0 or more"):
        Conversation("c", (ASK, ANSWER), weight=weight)
    with pytest.raises(UserError, match="weight .*, expected a number of 0 or more"):
        _example(weight=weight)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"responses": ("a",), "ended": (True,), "ranks": {}, "shown_order": (0,)},
            "1 responses, expected at least 2",
        ),
        ({"ended": (True, True)}, "2 flags in 'ended', expected 3"),
        ({"shown_order": (0, 1)}, "shown_order"),
        ({"shown_order": (0, 1, 1)}, "each of 0..2 once"),
        ({"shown_order": (1, 2, 3)}, "each of 0..2 once"),
        ({"ranks": {"clarity": (1, 2)}}, "2 ranks of 'clarity', expected 3"),
        ({"ranks": {"clarity": (0, 1, 2)}}, "rank 0 of 'clarity', expected 1"),
        ({"ranks": {"clarity": (1, 2, 87)}}, "rank 87"),
        ({"ranks": {"clarity": (1, 2, True)}}, "rank True"),
        ({"ranks": {"clarity": (1, 2, 1.5)}}, "rank 1.5"),
        ({"annotator": " "}, "annotator is empty"),
        ({"id": ""}, "id is empty"),
    ],
)
def test_rankings(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        _ranking(**changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": {}}, "labels are empty"),
        ({"labels": {"a": ""}}, "label 'a': ''"),
        ({"labels": {"": "a"}}, "a name and a value"),
        ({"labels": {"a": 1}}, "a name and a value of text"),
        ({"soft": {"b": 0.5}}, "soft label 'b', expected one of"),
        ({"soft": {"缺陷": 1.01}}, "expected 0 to 1"),
        ({"soft": {"缺陷": float("nan")}}, "expected 0 to 1"),
        ({"split": "dev"}, "split 'dev', expected one of train, val, test"),
        ({"scene": "kitchen"}, "scene 'kitchen', expected one of equipment, environment, personnel"),
    ],
)
def test_examples(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        _example(**changes)


def test_every_record_has_an_id_and_a_known_scene() -> None:
    kitchen: Any = "kitchen"
    for make in (
        lambda id, scene: Conversation(id, (ASK, ANSWER), scene=scene),
        lambda id, scene: Prompt(id, (ASK,), scene=scene),
        lambda id, scene: _example(id=id, scene=scene),
    ):
        assert make("x", "personnel").scene == "personnel"
        with pytest.raises(UserError, match="id is empty"):
            make(" ", None)
        with pytest.raises(UserError, match="scene 'kitchen', expected one of"):
            make("x", kitchen)
    with pytest.raises(UserError, match="id is empty"):
        Document("", "text")


def test_two_answers_can_be_ranked() -> None:
    pair: dict[str, Any] = {"responses": ("a", "b"), "ended": (True, True), "shown_order": (1, 0)}
    assert _ranking(**pair, ranks={"clarity": (2, 1)}).ranks == {"clarity": (2, 1)}


def test_empty_documents() -> None:
    with pytest.raises(UserError, match="the text is empty"):
        Document("d", " ")
