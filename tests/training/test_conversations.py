"""A mixture of tasks as batches: what a step trains on depends on the step alone."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch.testing import assert_close

import tiny
from bessemer.data.batches import TextBatch
from bessemer.data.images import image_ref
from bessemer.data.records import Conversation, ImageRef, Message
from bessemer.errors import UserError
from bessemer.models.feed import Feed
from bessemer.training.conversations import ConversationBatches, answer_loss


def _conversation(id: str, task: str, weight: float = 1.0, image: ImageRef | None = None) -> Conversation:
    images = (image,) if image else ()
    turns = (Message("user", f"question {id}?", images), Message("assistant", f"answer {id}."))
    return Conversation(id, turns, task, weight=weight)


@pytest.fixture
def feed(tmp_path: Path) -> Feed:
    return Feed(tiny.text_model(tmp_path), tmp_path, tmp_path / "cache")


def _said(feed: Feed, batch: TextBatch) -> list[str]:
    """The answers of a batch, from its targets."""
    text = feed.renderer.tokenizer.decode(batch.targets.tolist(), skip_special_tokens=False)
    return [answer for answer in text.split("<|im_end|>") if answer]


def _epoch(feed: Feed, batches: ConversationBatches, epoch: int) -> list[str]:
    steps = range(epoch * batches.steps_per_epoch, (epoch + 1) * batches.steps_per_epoch)
    return [answer for step in steps for batch in batches(step) for answer in _said(feed, batch)]


TALKS = [_conversation(f"{task}{n}", task) for task, count in (("defect", 7), ("类型", 5)) for n in range(count)]


def test_every_record_once_an_epoch_in_another_order(feed: Feed) -> None:
    batches = ConversationBatches(feed, TALKS, cutoff=200, batch_size=2, accumulation=3, seed=4)
    assert batches.steps_per_epoch == 2 and [len(batches(step)) for step in (0, 1)] == [3, 3]
    everything = sorted(f"answer {talk.id}." for talk in TALKS)
    first, second = _epoch(feed, batches, 0), _epoch(feed, batches, 1)
    assert sorted(first) == sorted(second) == everything and first != second
    other = ConversationBatches(feed, TALKS, cutoff=200, batch_size=2, accumulation=3, seed=5)
    assert _epoch(feed, other, 0) != first


def test_a_step_does_not_remember_what_came_before(feed: Feed) -> None:
    """Asked in any order, by another object, with the global generators elsewhere: the same batches."""
    straight = ConversationBatches(feed, TALKS, cutoff=200, batch_size=3, seed=4)
    resumed = ConversationBatches(feed, list(reversed(TALKS)), cutoff=200, batch_size=3, seed=4)
    expected = [straight(step)[0].packed.ids.tolist() for step in range(12)]
    random.seed(99)
    torch.manual_seed(99)
    for step in (11, 3, 7, 3, 0):
        assert straight(step)[0].packed.ids.tolist() == expected[step]
    same = ConversationBatches(feed, TALKS, cutoff=200, batch_size=3, seed=4)
    assert [same(step)[0].packed.ids.tolist() for step in range(12)] == expected
    assert sorted(_epoch(feed, resumed, 0)) == sorted(_epoch(feed, straight, 0))


def test_what_does_not_fill_a_batch_waits_for_another_epoch(feed: Feed) -> None:
    batches = ConversationBatches(feed, TALKS, cutoff=200, batch_size=5, seed=4)
    assert batches.steps_per_epoch == 2
    seen = Counter(answer for epoch in range(6) for answer in _epoch(feed, batches, epoch))
    assert len(seen) == 12 and sum(seen.values()) == 60 and max(Counter(_epoch(feed, batches, 0)).values()) == 1


def test_few_records_make_small_batches(feed: Feed) -> None:
    batches = ConversationBatches(feed, TALKS[:3], cutoff=200, batch_size=32, seed=4)
    assert batches.steps_per_epoch == 1 and len(_epoch(feed, batches, 0)) == 3
    fewer = ConversationBatches(feed, TALKS[:2], cutoff=200, batch_size=4, accumulation=4, seed=4)
    assert [len(batch.packed.lengths) for batch in fewer(0)] == [1, 1, 1, 1]
    assert Counter(_epoch(feed, fewer, 0)) == {"answer defect0.": 2, "answer defect1.": 2}


def test_tasks_are_weighed(feed: Feed) -> None:
    weights = {"defect": 2.0, "类型": 0.4}
    batches = ConversationBatches(feed, TALKS, cutoff=200, batch_size=4, task_weights=weights, seed=4)
    assert batches.tasks == ["defect", "类型"] and batches.steps_per_epoch == 4
    seen = Counter(_epoch(feed, batches, 0))
    assert {seen[f"answer defect{n}."] for n in range(7)} == {2} and sum(seen.values()) == 16
    with pytest.raises(UserError, match=r"task_weights names \['裂纹'\], expected some of \['defect', '类型'\]"):
        ConversationBatches(feed, TALKS, cutoff=200, batch_size=4, task_weights={"裂纹": 1.0})


def test_weights_and_tasks_reach_every_token(feed: Feed) -> None:
    talks = [_conversation("aa", "x", 0.25), _conversation("b", "y", 3.0)]
    (batch,) = ConversationBatches(feed, talks, cutoff=200, batch_size=2, seed=0)(0)
    lengths = {"answer aa.": len(b"answer aa.") + 1, "answer b.": len(b"answer b.") + 1}
    for task, (text, length), weight in zip((0, 1), lengths.items(), (0.25, 3.0), strict=True):
        mine = batch.tasks == task
        assert int(mine.sum()) == length and batch.weights[mine].tolist() == [weight] * length
        assert feed.renderer.decode(batch.targets[mine].tolist()) == text


def test_records_of_weight_nought_are_left_out(feed: Feed) -> None:
    """A batch of nothing else would not be a step, and five of them the end of the run."""
    idle = [_conversation(f"idle{n}", "defect", 0.0) for n in range(20)]
    batches = ConversationBatches(feed, [*idle, *TALKS], cutoff=200, batch_size=2, seed=4)
    assert sorted(_epoch(feed, batches, 0)) == sorted(f"answer {talk.id}." for talk in TALKS)
    with pytest.raises(UserError, match="no conversations to train on"):
        ConversationBatches(feed, idle, cutoff=200, batch_size=2)


def test_views_change_with_the_step_alone(tmp_path: Path) -> None:
    images = []
    for number in range(4):
        noise = torch.randint(0, 256, (40, 40, 3), generator=torch.Generator().manual_seed(number))
        Image.fromarray(noise.to(torch.uint8).numpy()).save(tmp_path / f"{number}.png")
        images.append(image_ref(tmp_path / f"{number}.png", tmp_path))
    feed = Feed(tiny.composed_model(tmp_path), tmp_path, tmp_path / "cache")
    talks = [_conversation(str(n), "t", image=image) for n, image in enumerate(images)]
    batches = ConversationBatches(feed, talks, cutoff=200, batch_size=4, views=4, seed=1)
    again = ConversationBatches(feed, talks, cutoff=200, batch_size=4, views=4, seed=1)
    assert feed.store is not None
    views: Counter[int] = Counter()
    for step in range(6):
        batch = batches(step)[0]
        features = batch.packed.model_inputs["features"]
        assert torch.equal(again(step)[0].packed.model_inputs["features"], features)
        order = [int(answer.removeprefix("answer ").removesuffix(".")) for answer in _said(feed, batch)]
        for row, number in zip(features, order, strict=True):
            found = [view for view in range(4) if torch.equal(feed.store.features([images[number]], view)[0], row)]
            assert found, "not a view of its own image"
            views[found[0]] += 1
    assert set(views) == {0, 1, 2, 3}


def test_a_record_that_does_not_fit_is_named(feed: Feed) -> None:
    long = Conversation("zu lang 长", (Message("user", "x" * 300), Message("assistant", "y")), "t")
    with pytest.raises(UserError, match="conversation zu lang 长: no answer within cutoff_len=200 tokens"):
        ConversationBatches(feed, [long], cutoff=200, batch_size=1)
    with pytest.raises(UserError, match="no conversations to train on"):
        ConversationBatches(feed, [], cutoff=200, batch_size=1)


def test_the_loss_of_each_task_by_hand(feed: Feed) -> None:
    (batch,) = ConversationBatches(
        feed, [_conversation("a", "x", 0.5), _conversation("b", "y", 2.0)], cutoff=99, batch_size=2
    )(0)
    logprobs = torch.where(batch.tasks == 0, -1.0, -3.0).requires_grad_()
    count = len(logprobs) // 2
    loss = answer_loss(logprobs, batch, ["x", "y", "z"])
    assert_close(loss.sum.detach(), torch.tensor(count * (0.5 * 1.0 + 2.0 * 3.0)))
    assert_close(loss.count, torch.tensor(count * 2.5))
    means = {name: (float(total), float(number)) for name, (total, number) in loss.metrics.items()}
    assert means["nll"] == (4.0 * count, 2.0 * count)
    assert means["loss/x"] == (count, count) and means["loss/y"] == (3.0 * count, count)
    # nothing of this task is here: it counts for nothing, but every rank adds up the same names
    assert means["loss/z"] == (0.0, 0.0)
    assert not any(total.requires_grad for total, _ in loss.metrics.values())
    assert "loss/x" not in answer_loss(logprobs, batch, ["x"]).metrics
