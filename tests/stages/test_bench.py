from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from transformers import AutoTokenizer

from bessemer.cli import main
from bessemer.rollout import answers
from bessemer.rollout.linear import Linear

KEYS = {
    "work", "model", "dtype", "threads", "batch", "tokens", "tokens_per_second", "samples_per_second",
    "seconds_per_step", "seconds", "peak_rss_gb", "versions",
}  # fmt: skip


@pytest.fixture
def alpaca(tmp_path: Path) -> Path:
    path = tmp_path / "alpaca.json"
    rows = [{"instruction": f"What is {n}?", "input": "", "output": f"It is {n}, 数{n}."} for n in range(9)]
    path.write_text(json.dumps(rows, ensure_ascii=False), encoding="utf-8")
    return path


def measured(texts: Path, tmp_path: Path, *words: str) -> dict[str, object]:
    out = tmp_path / "figures.json"
    model = ["--model", str(texts / "tiny-model"), "--dtype", "fp32", "--steps", "2", "--json", str(out)]
    assert main(["bench", *words, *model]) == 0
    found: dict[str, object] = json.loads(out.read_text())
    assert set(found) >= KEYS and found["work"] == words[0]
    assert set(found["seconds"]) == {"rollout", "reward", "reference", "train"}  # type: ignore[call-overload]
    return found


def test_rollouts_are_counted_to_the_token(texts: Path, tmp_path: Path) -> None:
    found = measured(texts, tmp_path, "rollout", "--batch", "3", "--prompt-tokens", "9", "--new-tokens", "5")
    assert found["tokens"] == 2 * 3 * 5
    # 8 + 120 * (37 i mod 64) // 63 for i = 0..3: 8, 78, 27, 97
    assert measured(texts, tmp_path, "rollout", "--mix", "4", "--prompt-tokens", "4")["tokens"] == 2 * (
        8 + 78 + 27 + 97
    )


def test_rollouts_by_weights_of_eight_bits(
    texts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every step of one row reads them, and nothing is measured under their name that would not."""
    narrow: list[bool] = []
    call = Linear.__call__

    def watched(self: Linear, x: torch.Tensor, small: bool = False) -> torch.Tensor:
        narrow.append(small and self.small is not None)
        return call(self, x, small)

    monkeypatch.setattr(Linear, "__call__", watched)
    words = ["--prompt-tokens", "4", "--new-tokens", "3", "--steps", "1", "--weights", "int8"]
    words += ["--model", str(texts / "tiny-model")]
    out = tmp_path / "figures.json"
    assert main(["bench", "rollout", "--batch", "1", *words, "--json", str(out)]) == 0
    found = json.loads(out.read_text())
    assert (found["weights"], found["dtype"]) == ("int8", "bf16")
    assert sum(narrow) == len(narrow) * 2 // 3  # prompts are read whole, the two tokens behind the first are not
    for refused, message in (
        (["rollout", "--batch", "3"], "rollout of batch=3, expected rollout of at most 2 at once"),
        (["rollout", "--batch", "1", "--dtype", "fp32"], "expected dtype=bf16"),
        (["sft", "--batch", "1"], "weights=int8 with sft"),
    ):
        assert main(["bench", *refused, *words]) == 2 and message in capsys.readouterr().err


@pytest.mark.parametrize("work", ["sft", "distill", "distill --cached"])
def test_the_loss_of_what_is_trained_falls(texts: Path, tmp_path: Path, alpaca: Path, work: str) -> None:
    found = measured(texts, tmp_path, *work.split(), "--batch", "2", "--data", str(alpaca))
    loss = found["loss"]
    assert isinstance(loss, list) and len(loss) == 2 and all(value > 0 for value in loss[:1])
    assert found["samples_per_second"] == pytest.approx(2 / float(found["seconds_per_step"]))  # type: ignore[arg-type]


def test_reward_counts_answers(texts: Path, tmp_path: Path, alpaca: Path) -> None:
    found = measured(texts, tmp_path, "reward", "--batch", "2", "--group", "3", "--data", str(alpaca))
    assert found["samples_per_second"] == pytest.approx(6 / float(found["seconds_per_step"]))  # type: ignore[arg-type]


def test_a_round_of_grpo_and_of_ppo(texts: Path, tmp_path: Path, alpaca: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    few = ["--prompt-tokens", "7", "--new-tokens", "4", "--data", str(alpaca)]
    grpo = measured(texts, tmp_path, "grpo", "--batch", "4", "--group", "2", *few)
    assert all(0 <= value <= 1 for value in grpo["reward"])  # type: ignore[attr-defined]
    with monkeypatch.context() as patch:  # a model that ends every answer at once if it may
        end = AutoTokenizer.from_pretrained(texts / "tiny-model").eos_token_id
        patch.setattr(answers, "choose", lambda logits, *_: torch.full((len(logits),), end))
        ppo = measured(texts, tmp_path, "ppo", "--batch", "4", "--epochs", "1", *few)
    assert ppo["tokens"] == 2 * 4 * 4  # answers never end early
    for found in (grpo, ppo):
        seconds = found["seconds"]
        assert isinstance(seconds, dict) and seconds["rollout"] > 0 and seconds["train"] > 0


def test_refusals(texts: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench"]) == 2 and "expected what to measure" in capsys.readouterr().err
    assert main(["bench", "sft", "--steps", "0"]) == 2 and "steps=0" in capsys.readouterr().err
    tiny = ["--model", str(texts / "tiny-model"), "--dtype", "fp32"]
    assert main(["bench", "grpo", "--batch", "4", *tiny]) == 2
    assert "batch=4 answers, expected a multiple of group=8" in capsys.readouterr().err
