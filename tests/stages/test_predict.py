from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from bessemer.cli import main
from bessemer.errors import UserError
from bessemer.stages.predict import Config, run


def greedy(model: Path, question: str, system: str | None, length: int) -> str:
    """What transformers says on its own, token by token."""
    network = AutoModelForCausalLM.from_pretrained(model).eval()
    words = AutoTokenizer.from_pretrained(model)
    turns = [{"role": "system", "content": system}] if system else []
    text = words.apply_chat_template(
        [*turns, {"role": "user", "content": question}], tokenize=False, add_generation_prompt=True
    )
    ids = words(text, add_special_tokens=False)["input_ids"]
    start = len(ids)
    for _ in range(length):
        with torch.no_grad():
            ids.append(int(network(input_ids=torch.tensor([ids])).logits[0, -1].argmax()))
        if ids[-1] == words.eos_token_id:
            break
    said: str = words.decode(ids[start:], skip_special_tokens=True)
    return said.strip()


def test_text(texts: Path, capsys: pytest.CaptureFixture[str]) -> None:
    question = "这是什么? What is it?"
    arguments = ["predict", "--model", str(texts / "sft"), "dtype=fp32", "response_length=12"]
    assert main([*arguments, question]) == 0
    expected = greedy(texts / "sft" / "model" / "language", question, "You explain Python.", 12)
    assert capsys.readouterr().out == expected + "\n" and expected
    assert main([*arguments, "--system_prompt", "Be brief.", question]) == 0
    assert capsys.readouterr().out == greedy(texts / "sft" / "model" / "language", question, "Be brief.", 12) + "\n"


def test_a_photograph(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """By a path relative to the current folder; another photograph gives another answer."""
    said = []
    with contextlib.chdir(shop / "photographs"):
        for name in ("good/photo000.png", "scratched/photo003.png", "good/photo000.png"):
            words = ["--model", str(shop / "sft" / "model"), "--image", name, "?"]
            assert main(["predict", *words, "dtype=fp32", "response_length=12"]) == 0
            said.append(capsys.readouterr().out)
    assert said[0] == said[2] != said[1] and said[0].strip()


def test_the_seed_counts_when_there_is_a_temperature(texts: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = []
    for seed in (1, 2, 1):
        run(Config("What?", str(texts / "sft"), temperature=1.0, seed=seed, dtype="fp32", response_length=12))  # type: ignore[arg-type]
        said.append(capsys.readouterr().out)
    assert said[0] == said[2] != said[1]


def test_refusals(shop: Path, texts: Path, tmp_path: Path) -> None:
    photograph = str(shop / "photographs" / "good" / "photo000.png")
    with pytest.raises(UserError, match="expected --model DIR and a question"):
        run(Config("What?"))
    with pytest.raises(UserError, match="this model reads text only, expected no --image"):
        run(Config("What?", str(texts / "sft"), [photograph]))  # type: ignore[arg-type]
    with pytest.raises(UserError, match="absent"):
        run(Config("What?", str(tmp_path / "absent")))  # type: ignore[arg-type]
    (tmp_path / "x.png").write_bytes(b"no image")
    with pytest.raises(UserError, match="x.png"):
        run(Config("What?", str(shop / "sft"), [str(tmp_path / "x.png")]))  # type: ignore[arg-type]
