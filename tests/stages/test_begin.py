"""How every stage begins."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch

from bessemer.config import Artifact
from bessemer.distributed import Mesh
from bessemer.errors import UserError
from bessemer.models.precision import Precision
from bessemer.stages import distill, evaluate, grpo, importing, ppo, rank, reward, sft, tower
from bessemer.stages.begin import begin


@pytest.mark.parametrize(
    ("config", "field"),
    [
        (sft.Config(save_steps=0), "save_steps"),
        (sft.Config(gradient_accumulation_steps=0), "gradient_accumulation_steps"),
        (tower.Config(per_device_train_batch_size=0), "per_device_train_batch_size"),
        (reward.Config(lora_rank=-1), "lora_rank"),
        (distill.Config(cutoff_len=0), "cutoff_len"),
        (ppo.Config(mini_batch_size=0), "mini_batch_size"),
        (evaluate.Config(heldout_answers=0), "heldout_answers"),
    ],
)
def test_counts_are_at_least_one(tmp_path: Path, config: object, field: str) -> None:
    config.output_dir = str(tmp_path / "run")  # type: ignore[attr-defined]
    with pytest.raises(UserError, match=f"{field}=-?[01], expected at least 1"):
        begin(config, "stage")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("config", "field"),
    [
        (sft.Config(max_steps=-1), "max_steps"),  # elsewhere "by epochs"; here it trained for no step
        (rank.Config(max_prompts=-1), "max_prompts"),  # left the last one out
        (evaluate.Config(max_test=-1), "max_test"),
    ],
)
def test_nothing_is_counted_below_zero(tmp_path: Path, config: object, field: str) -> None:
    config.output_dir = str(tmp_path / "run")  # type: ignore[attr-defined]
    with pytest.raises(UserError, match=f"{field}=-1, expected 0 or more"):
        begin(config, "stage")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("config", "faults"),
    [
        (rank.Config(rankers=[]), ["rankers is empty, expected rules, simulated, people or ai"]),
        (
            rank.Config(rankers=["rules", "people", "ai", "crowd"], num_generations=1),
            [
                r"rankers names \['crowd'\]",
                "num_generations=1, expected at least 2",
                "expected people_files",
                "expected judge_url",
            ],
        ),
        (rank.Config(temperatures=[]), [r"temperatures=\[\], expected numbers of at least 0"]),
        (rank.Config(temperatures=[1.0, -0.5]), [r"temperatures=\[1.0, -0.5\], expected numbers of at least 0"]),
        (
            ppo.Config(temperature=0.0, ptx_coef=-1.0),
            ["ptx_coef=-1.0, expected 0", "temperature=0.0, expected above 0"],
        ),
        (grpo.Config(num_generations=1), ["num_generations=1, expected at least 2"]),
        (
            grpo.Config(thresholds={"harmlessness": 0.0}, reward_model=Artifact("")),
            ["without reward_model, expected the model whose"],
        ),
        (distill.Config(alpha=1.5, general_share=-0.1), ["alpha=1.5, expected", "general_share=-0.1, expected 0"]),
        (
            distill.Config(distill_temperature=0.0, on_policy_share=2.0),
            ["distill_temperature=0.0", "on_policy_share=2"],
        ),
        (evaluate.Config(heldout_answers=2, temperature=0.0), ["heldout_answers=2 at temperature=0, where all are"]),
        (
            tower.Config(color_jitter=1.0, dropout=-0.1, label_smoothing=2.0),
            ["color_jitter=1.0, expected a share", "dropout=-0.1, expected", "label_smoothing=2.0, expected"],
        ),
        (importing.Config(source="records"), ["source records: no `data`, expected the folder or file to read"]),
    ],
)
def test_all_that_a_configuration_says_wrongly_is_told_before_anything_is_written(
    tmp_path: Path, config: object, faults: list[str]
) -> None:
    config.output_dir = str(tmp_path / "run")  # type: ignore[attr-defined]
    with pytest.raises(UserError) as caught:
        begin(config, "stage")
    lines = str(caught.value).split("\n")
    assert len(lines) == len(faults) and not (tmp_path / "run").exists()
    assert all(re.search(fault, line) for fault, line in zip(faults, lines, strict=True)), lines


def test_a_seed_may_be_below_zero(tmp_path: Path) -> None:
    begin(sft.Config(seed=-1, output_dir=str(tmp_path / "run")), "sft")


def test_a_zero_that_means_something_is_none_of_them(tmp_path: Path) -> None:
    begin(grpo.Config(mini_batch_size=0, output_dir=str(tmp_path / "run")), "grpo")


def test_several_processes_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Mesh, "start", lambda: Mesh(0, 2, torch.device("cpu")))
    with pytest.raises(UserError, match=r"2 processes \(torchrun\), expected one"):
        begin(sft.Config(output_dir=str(tmp_path / "run")), "sft")


def test_what_a_run_computes_in_is_noted_and_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A run that goes on where auto means another type says so."""
    config = sft.Config(output_dir=str(tmp_path / "run"))
    for means, expected in ((True, ""), (False, "began with dtype bf16 and goes on with fp32")):
        monkeypatch.setattr("bessemer.models.precision.multiplies_bfloat16", lambda device, means=means: means)
        run = begin(config, "sft")
        found = json.loads((tmp_path / "run" / "manifest.json").read_text())
        run._unlock()  # type: ignore[misc]
        assert expected in capsys.readouterr().err
    assert found["dtype"] == "bf16"  # what it began with


@pytest.mark.parametrize("word", ["auto", "bf16"])
def test_who_asks_for_a_slow_type_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, word: Precision
) -> None:
    monkeypatch.setattr("bessemer.models.precision.multiplies_bfloat16", lambda device: False)
    monkeypatch.setattr("bessemer.stages.begin.multiplies_bfloat16", lambda device: False)
    begin(sft.Config(dtype=word, output_dir=str(tmp_path / "run")), "sft")
    assert ("dtype=auto takes fp32" in caplog.text) == (word == "bf16")


@pytest.mark.parametrize(
    ("module", "wrong", "message"),
    [
        (ppo, {"kl_target": 0.1, "kl_coef": 0.0}, "kl_target=0.1 with kl_coef=0.0, expected a price above 0"),
        (grpo, {"reward_model": "", "thresholds": {"harmlessness": 0.0}}, "without reward_model, expected the model"),
    ],
)
def test_options_that_would_do_nothing_are_refused(
    tmp_path: Path, module: object, wrong: dict[str, object], message: str
) -> None:
    config = module.Config(output_dir=str(tmp_path / "run"), **wrong)  # type: ignore[attr-defined]
    with pytest.raises(UserError, match=message):
        module.run(config)  # type: ignore[attr-defined]
