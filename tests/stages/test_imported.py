from __future__ import annotations

import pytest

from bessemer.data.records import Conversation, Example, ImageRef, Message, Prompt, Ranking
from bessemer.errors import UserError
from bessemer.stages.imported import Imported, check_apart, limited, sample_text

A, B = ImageRef("a.png", "a" * 64), ImageRef("b.png", "b" * 64)


def conversation(text: str, image: ImageRef | None = None) -> Conversation:
    messages = (Message("user", text, (image,) if image else ()), Message("assistant", "Yes."))
    return Conversation(text, messages)


def prompt(text: str, image: ImageRef | None = None) -> Prompt:
    return Prompt(text, (Message("user", text, (image,) if image else ()),))


@pytest.mark.parametrize(
    ("first", "second", "where"),
    [("train", "rank", "train and rank"), ("train", "ppo", "train and ppo"),
     ("train", "heldout", "train and heldout"), ("rank", "heldout", "rank and heldout"),
     ("ppo", "heldout", "ppo and heldout"), ("rank", "ppo", "rank and ppo")],
)  # fmt: skip
def test_the_same_question_in_two_parts_is_refused(first: str, second: str, where: str) -> None:
    found = Imported(
        "x", conversations={"train": [conversation("other")]}, prompts={"rank": [], "ppo": [], "heldout": []}
    )
    if first == "train":
        found.conversations["train"].append(conversation("Is it  BROKEN?"))
    else:
        found.prompts[first].append(prompt("Is it  BROKEN?"))
    found.prompts[second].append(prompt("is it broken?"))
    with pytest.raises(UserError, match=where):
        check_apart(found)


def test_the_same_wording_on_another_photograph() -> None:
    """With photographs the words must differ from those learned; rank and ppo may share them."""
    example = Example("a", A, {"x": "y"})
    for part in ("rank", "ppo", "heldout"):
        asked = {"rank": [], "ppo": [], "heldout": []} | {part: [prompt("Is it?", B)]}
        with pytest.raises(UserError, match=rf"the wording 'is it\?' stands in train and in {part}"):
            check_apart(Imported("x", [example], {"train": [conversation("Is it?", A)]}, asked))
    check_apart(Imported("x", [example], {"train": []}, {"rank": [prompt("Q", A)], "ppo": [prompt("Q", B)]}))


def test_limited_keeps_the_order_and_the_other_splits() -> None:
    examples = [Example(str(i), A, {"x": "y"}, split="train" if i % 2 else "test") for i in range(20)]
    kept = limited(examples, {"train": 3}, seed=0)
    assert [e.id for e in kept] == sorted((e.id for e in kept), key=int)
    assert sum(e.split == "train" for e in kept) == 3 and sum(e.split == "test" for e in kept) == 10
    assert limited(examples, {}, 0) == examples
    assert limited(examples, {"train": 3}, 1) != kept


def test_samples_are_plain_and_harmless_text() -> None:
    text = sample_text(conversation("Is it \x1b[31mred\u202e?", A))
    assert text == "  > [a.png] Is it \\x1b[31mred\\u202e?\n  < Yes."
    ranking = Ranking("r", prompt("Q"), ("good", "bad"), (True, True), {"clarity": (1, 2)}, "Li", (0, 1))
    assert sample_text(ranking) == "  > Q\n  [1] good\n  [2] bad"
    assert sample_text(Example("a", A, {"缺陷": "裂纹"})) == "  [a.png] 缺陷=裂纹"
