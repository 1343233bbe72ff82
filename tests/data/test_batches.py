"""Batches beside tables worked by hand; 2 is both the end token and the padding of the tokenizer they come from."""

from __future__ import annotations

import torch

from bessemer.data.batches import pack, pack_answers, pad_rows, response_rows, text_batch
from bessemer.data.records import ImageRef
from bessemer.data.render import Rendered

END = 2
IMAGE = ImageRef("a.png", "0" * 64)
# <1>user<2> <1>assistant: a b <2>: the template's own end tokens are not trained on, the answer's is
ASKED = Rendered((1, 10, END, 1, 20, 21, END), (False,) * 4 + (True,) * 3, (), ())
# two turns: an answer, a question, another answer
TWICE = Rendered((1, END, 30, END, 11, 31, 32, END), (False, False, True, True, False, True, True, True), (), ())
# cut off before its end token, with an image of two places
CUT = Rendered((5, 6, 7, 40, 41), (False, False, False, True, True), (1, 2), (IMAGE,))


def test_sequences_lie_one_behind_the_other() -> None:
    packed = pack([ASKED, CUT, TWICE], {"pixels": torch.ones(1, 3)})
    assert packed.ids.tolist() == [1, 10, 2, 1, 20, 21, 2, 5, 6, 7, 40, 41, 1, 2, 30, 2, 11, 31, 32, 2]
    assert packed.lengths == (7, 5, 8)
    assert packed.image_rows.tolist() == [8, 9]
    assert packed.starts().tolist() == [0, 7, 12]
    assert packed.model_inputs["pixels"].shape == (1, 3)
    assert pack([ASKED]).image_rows.dtype == torch.int64


def test_every_answer_token_is_predicted_from_the_row_before_it() -> None:
    batch = text_batch([ASKED, CUT, TWICE], weights=[1.0, 0.5, 2.0], tasks=[1, 0, 1])
    # sequence  ASKED: 20 21 2      CUT: 40 41      TWICE: 30 2, 31 32 2
    assert batch.targets.tolist() == [20, 21, 2, 40, 41, 30, 2, 31, 32, 2]
    assert batch.rows.tolist() == [3, 4, 5, 9, 10, 13, 14, 16, 17, 18]
    assert batch.weights.tolist() == [1.0, 1.0, 1.0, 0.5, 0.5, 2.0, 2.0, 2.0, 2.0, 2.0]
    assert batch.tasks.tolist() == [1, 1, 1, 0, 0, 1, 1, 1, 1, 1]
    assert batch.packed.lengths == (7, 5, 8)


def test_the_end_is_a_target_once_for_each_ended_answer() -> None:
    for sequence, ends in ((ASKED, 1), (TWICE, 2), (CUT, 0)):
        batch = text_batch([sequence])
        assert int((batch.targets == END).sum()) == ends
    assert int((pack([ASKED]).ids == END).sum()) == 2  # one of them is the prompt's


def test_a_first_token_is_never_a_target() -> None:
    """Plain text, every token of it trained on: nothing comes before the first, nor does another sequence."""
    text = Rendered((7, 8, 9), (True, True, True), (), ())
    batch = text_batch([text, text])
    assert batch.rows.tolist() == [0, 1, 3, 4] and batch.targets.tolist() == [8, 9, 8, 9]
    alone = text_batch([Rendered((7,), (True,), (), ())])
    assert len(alone.rows) == len(alone.targets) == len(alone.weights) == 0


def test_answers_behind_their_prompts() -> None:
    prompt = Rendered((1, 10, 11), (False,) * 3, (1,), (IMAGE,))
    short = Rendered((3,), (False,), (), ())
    packed, prompt_length, response_length = pack_answers([prompt, short, short], [[40, END], [50, 51, 52], []])
    assert packed.ids.tolist() == [1, 10, 11, 40, END, 3, 50, 51, 52, 3]
    assert packed.lengths == (5, 4, 1) and packed.image_rows.tolist() == [1]
    assert prompt_length.tolist() == [3, 1, 1] and response_length.tolist() == [2, 3, 0]
    rows = response_rows(packed, prompt_length, response_length)
    assert rows.tolist() == [2, 3, 5, 6, 7]
    assert packed.ids[rows + 1].tolist() == [40, END, 50, 51, 52]


def test_rows_become_a_grid() -> None:
    values = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0], requires_grad=True)
    grid, mask = pad_rows(values, torch.tensor([2, 0, 3]), fill=-7.0)
    assert grid.tolist() == [[1.0, 2.0, -7.0], [-7.0, -7.0, -7.0], [3.0, 4.0, 5.0]]
    assert mask.tolist() == [[True, True, False], [False, False, False], [True, True, True]]
    (grid * torch.arange(9.0).view(3, 3)).sum().backward()
    assert values.grad is not None and values.grad.tolist() == [0.0, 1.0, 6.0, 7.0, 8.0]


def test_no_mask_comes_from_token_ids() -> None:
    """An answer that says the padding's id in its middle keeps every one of its tokens."""
    packed, prompt_length, response_length = pack_answers([Rendered((END, END), (False,) * 2, (), ())], [[END, 9, END]])
    rows = response_rows(packed, prompt_length, response_length)
    _, mask = pad_rows(packed.ids[rows + 1].float(), response_length)
    assert rows.tolist() == [1, 2, 3] and mask.tolist() == [[True, True, True]]


def test_equal_inputs_have_equal_identities() -> None:
    """Tokens by their ids; places of an image by what is seen there, whatever stands in the ids."""
    sight = Rendered((5, 0, 0, 6), (False,) * 4, (1, 2), (IMAGE,))
    features = torch.tensor([[[1.0], [2.0]], [[3.0], [2.0]], [[1.0], [2.0]]], dtype=torch.float16)
    found = pack([sight, sight, ASKED, sight], {"features": features}).identities()
    first, second, third = found[:4], found[4:8], found[15:19]
    assert first == third and first[0] == second[0] == 5 and first[3] == second[3] == 6
    assert len({*first[1:3], *second[1:3]}) == 4 and max(*first[1:3], *second[1:3]) < 0
    assert found[8:15] == list(ASKED.ids)
    # of several inputs all have to be equal
    sizes = torch.tensor([[1], [1], [2]])
    mixed = pack([sight, sight, sight], {"features": features[[0, 0, 0]], "sizes": sizes}).identities()
    assert mixed[:4] == mixed[4:8] != mixed[8:]
