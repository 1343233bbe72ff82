from __future__ import annotations

import contextlib
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from bessemer.cli import main
from bessemer.errors import UserError
from bessemer.stages.predict import Config, run


def greedy(model: Path, question: str, system: str | None, length: int, adapter: Path | None = None) -> str:
    """What transformers, with PEFT where there is an adapter, says on its own, token by token."""
    network = AutoModelForCausalLM.from_pretrained(model).eval()
    if adapter is not None:
        network = PeftModel.from_pretrained(network, str(adapter)).eval()
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
    """By a path relative to the current folder; other photographs give other answers, whatever the tiny model is like:
    at a temperature of 1 every difference in the logits moves the draws of long answers."""
    said = []
    with contextlib.chdir(shop / "photographs"):
        for name in ("good/photo000.png", "scratched/photo003.png", "good/photo006.png", "good/photo000.png"):
            words = ["--model", str(shop / "sft" / "model"), "--image", name, "?", "temperature=1", "seed=1"]
            assert main(["predict", *words, "dtype=fp32", "response_length=60"]) == 0
            said.append(capsys.readouterr().out)
    assert said[0] == said[3] and len(set(said)) > 1 and said[0].strip()


def test_the_seed_counts_when_there_is_a_temperature(texts: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = []
    for seed in (1, 2, 1):
        run(Config("What?", str(texts / "sft"), temperature=1.0, seed=seed, dtype="fp32", response_length=12))  # type: ignore[arg-type]
        said.append(capsys.readouterr().out)
    assert said[0] == said[2] != said[1]


def test_a_stream_prints_what_is_printed_at_once(
    texts: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Asked for, or because the output is a terminal; with every option."""
    words = ["predict", "--model", str(texts / "sft"), "dtype=fp32", "response_length=40", "temperature=1", "seed=3"]
    words += ["top_k=90", "top_p=0.9", "min_p=0.01", "repetition_penalty=1.1", "What?"]

    def said(*more: str) -> str:
        assert main([*words, *more]) == 0
        return capsys.readouterr().out

    flushes: list[bool] = []
    whole = said("--stream", "false")
    monkeypatch.setattr("builtins.print", _counted(print, flushes))
    assert said() == whole and not flushes
    assert said("--stream") == whole and len(flushes) > 3
    flushes.clear()
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    assert said() == whole and len(flushes) > 3
    mark = whole.strip()[5:7]
    cut = whole[: whole.index(mark)].strip() + "\n"
    assert said("--stop", f'["{mark}", "never said"]') == cut == said("--stop", mark, "--stream", "no")


def test_weights_of_eight_bits(texts: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["predict", "--model", str(texts / "sft"), "response_length=12", "What?"]
    assert main([*words, "weights=int8"]) == 0
    assert capsys.readouterr().out.strip()


def _counted(plain: Callable[..., None], flushes: list[bool]) -> Callable[..., None]:
    def counted(*values: str, **options: Any) -> None:
        flushes.extend([True] * bool(options.get("flush")))
        plain(*values, **options)

    return counted


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("temperature=-0.5", "temperature=-0.5, expected a number of at least 0"),
        ("top_k=-1", "top_k=-1, expected a whole number of at least 0"),
        ("top_p=0", "top_p=0.0, expected a number above 0 and up to 1"),
        ("top_p=1.5", "top_p=1.5, expected a number above 0 and up to 1"),
        ("min_p=2", "min_p=2.0, expected a number from 0"),
        ("repetition_penalty=0", "repetition_penalty=0.0, expected a number above 0"),
        ('stop=["a", ""]', "stop=('a', ''), expected texts of at least one character"),
        ("response_length=0", "response_length=0, expected at least 1 token"),
        ("dtype=fp32 weights=int8", "weights=int8 with dtype=fp32, expected dtype=bf16"),
        ("stream=perhaps", "expected true or false or null"),
    ],
)
def test_options_without_a_meaning(texts: Path, word: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", "--model", str(texts / "sft"), *re.split(r" (?=\w+=)", word), "What?"]) == 2
    assert message in capsys.readouterr().err


def test_refusals(shop: Path, texts: Path, tmp_path: Path) -> None:
    photograph = str(shop / "photographs" / "good" / "photo000.png")
    with pytest.raises(UserError, match="expected --model DIR and a question"):
        run(Config("What?"))
    with pytest.raises(UserError, match="this model reads text only, expected no --image"):
        run(Config("What?", str(texts / "sft"), [photograph]))  # type: ignore[arg-type]
    with pytest.raises(UserError, match="absent"):
        run(Config("What?", str(tmp_path / "absent")))  # type: ignore[arg-type]
    with pytest.raises(UserError, match="absent.png"):  # before the model, which takes long to load, is looked for
        run(Config("What?", str(tmp_path / "absent"), [str(tmp_path / "absent.png")]))  # type: ignore[arg-type]
    (tmp_path / "x.png").write_bytes(b"no image")
    with pytest.raises(UserError, match="x.png"):
        run(Config("What?", str(shop / "sft"), [str(tmp_path / "x.png")]))  # type: ignore[arg-type]
