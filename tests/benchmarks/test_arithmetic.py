"""Operations and bytes of one small shape, worked by hand, and beside PyTorch's own counter."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from arithmetic import Peak, Rows, Work, decoding, passing, rollout, training, triangle
from shapes import SHAPES, Shape, make_model, read_shape
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoModelForCausalLM

import tiny

# query 4 x 4, key and value 4 x 2, out 4 x 4, gate and up 4 x 8, down 8 x 4: 16 + 8 + 8 + 16 + 32 + 32 + 32
SMALL = Shape("llama", layers=1, width=4, inner=8, heads=2, kv_heads=1, head_dim=2, vocabulary=10)
ROWS = Rows(tokens=3, pairs=6, heads=1)


def test_weights_of_a_small_shape() -> None:
    assert SMALL.block_weights == 144 and SMALL.head_weights == 40
    # inputs and outputs: 8 + 6 + 6 + 8 + 12 + 12 + 12 = 64, each with 16 ranks
    assert SMALL.lora_weights(16) == 1024


def test_a_pass_by_hand() -> None:
    # 2 * 144 * 3 + 2 * 40 * 1 + two products of 2 heads * 2 wide for 6 pairs, two operations each: 864 + 80 + 96
    assert passing(SMALL, ROWS) == Work(1040, 2 * (144 + 40))
    assert passing(SMALL, Rows(3, 6, 0)) == Work(960, 2 * 144)
    assert passing(SMALL, ROWS, adapter=True) == Work(1040 + 2 * 1024 * 3, 2 * (144 + 1024 + 40))


def test_a_training_step_by_hand() -> None:
    # frozen weights twice (forward, gradient of the input), factors thrice, the head twice, attention 2 + 4 products
    assert training(SMALL, ROWS) == Work((4 * 144 + 6 * 1024) * 3 + 4 * 40 + 3 * 96, 2 * (2 * 144 + 2 * 40))
    assert training(SMALL, ROWS, logits=2).flop == training(SMALL, ROWS).flop + 2 * 40


def test_a_decoding_step_by_hand() -> None:
    # two rows that see 3 and 5 tokens: 2 * 184 * 2 + 4 * 4 * 8; the cache has 2 * 2 numbers a token
    assert decoding(SMALL, [3, 5]) == Work(736 + 128, 2 * (184 + 4 * 8))


def test_a_rollout_reads_its_prompt_once_and_drops_answers_that_are_done() -> None:
    slow = Peak(gflops=1e-9, gbs=1e9)  # a second an operation
    # the prompt, then the second answer's second token, which sees 4, and its third, which sees 5
    assert rollout(SMALL, [3], 2, [1, 3], slow) == pytest.approx(1040 + (368 + 64) + (368 + 80))


def test_the_roofline_is_the_slower_of_computing_and_reading() -> None:
    assert Work(6e9, 1e9).seconds(Peak(gflops=2, gbs=1)) == 3
    assert Work(6e9, 8e9).seconds(Peak(gflops=2, gbs=2)) == 4
    assert Work(6e9, 8e9).stored_in(4) == Work(6e9, 16e9)  # twice what bf16 takes


def test_pairs_of_a_sequence() -> None:
    assert triangle(4) == 1 + 2 + 3 + 4
    assert triangle(2, known=5) == 6 + 7


def test_pytorch_counts_the_same_operations(tmp_path: Path) -> None:
    shape = read_shape(tiny.language_model(tmp_path))
    model = AutoModelForCausalLM.from_pretrained(tmp_path, attn_implementation="eager")
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        model(input_ids=torch.arange(7)[None])
    # eager attention computes the whole square, and the head runs on every row
    assert counter.get_total_flops() == passing(shape, Rows(7, 7 * 7, 7)).flop


@pytest.mark.parametrize("kind", ["llama", "qwen2", "qwen3"])
def test_a_model_that_is_made_has_its_shape(tmp_path: Path, kind: str) -> None:
    shape = Shape(kind, 2, 32, 64, 4, 2, 16, vocabulary=259)
    words = tmp_path / "words"
    tiny.tokenizer().save_pretrained(words)
    made = make_model(shape, words, tmp_path / kind)
    assert read_shape(made) == shape
    model = AutoModelForCausalLM.from_pretrained(made)
    matrices = sum(weight.numel() for weight in model.parameters() if weight.ndim == 2)
    assert shape.parameters == matrices
    before = (made / "model.safetensors").stat().st_mtime_ns
    assert make_model(shape, words, made) == made and (made / "model.safetensors").stat().st_mtime_ns == before


def test_the_shapes_have_the_sizes_of_their_names() -> None:
    for name, shape in SHAPES.items():
        if "tiny" not in name:
            assert shape.parameters / 1e6 == pytest.approx(float(name.split("-")[1].rstrip("m")), rel=0.01)
            assert shape.architecture == name.split("-")[0]
