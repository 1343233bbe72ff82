"""What a stage is handed is what it uses: a model's adapter, weights of eight bits, whether an answer was cut off."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from bessemer.data.dataset import Dataset
from bessemer.data.records import Message, Prompt, Ranking, read_records
from bessemer.models.feed import Feed
from bessemer.models.model import ADAPTER, load_model
from bessemer.report.saved import read_outputs
from bessemer.rollout.collect import Answer, sample_answers
from bessemer.rollout.sampler import Sampling, sampler_for
from bessemer.stages import answers, distill, evaluate, predict, rank
from stages.test_predict import greedy

GREEDY = Sampling(6, 0.0)


@pytest.fixture(scope="module")
def lively(shop: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The fine-tuned model with an adapter that changes what it says: training of seconds does not."""
    model = tmp_path_factory.mktemp("lively") / "model"
    shutil.copytree(shop / "sft" / "model", model)
    path = model / "adapter" / "adapter_model.safetensors"
    generator = torch.Generator().manual_seed(0)
    factors = {
        name: tensor + 0.3 * torch.randn(tensor.shape, generator=generator) for name, tensor in load_file(path).items()
    }
    save_file(factors, path, metadata={"format": "pt"})
    return model


def said(
    model: Path, dataset: Dataset, prompts: Sequence[Prompt], cache: Path, sampling: Sampling, adapter: str | None
) -> list[str]:
    """The answers of the model with that adapter, or without any."""
    loaded = load_model(str(model), "fp32")
    feed = Feed(loaded, dataset.root, cache)
    return [answer.text for answer in sample_answers(sampler_for(loaded, adapter), feed, prompts, sampling)]


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")  # PEFT asks transformers for it
def test_a_question_is_answered_with_the_adapter(lively: Path, capsys: pytest.CaptureFixture[str]) -> None:
    predict.run(predict.Config("What is it?", str(lively), dtype="fp32", response_length=12))  # type: ignore[arg-type]
    found = capsys.readouterr().out
    with_it, without = (
        greedy(lively / "language", "What is it?", "You inspect parts.", 12, adapter)
        for adapter in (lively / "adapter", None)
    )
    assert found == with_it + "\n" and with_it != without


def test_weights_of_eight_bits_make_the_answer(texts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """At a temperature of 1 the small differences of their logits move the draws of a long answer."""
    settings: dict[str, Any] = {"temperature": 1.0, "response_length": 60}
    predict.run(predict.Config("What?", str(texts / "sft"), weights="int8", **settings))  # type: ignore[arg-type]
    found = capsys.readouterr().out
    model = load_model(str(texts / "sft"), "bf16")
    feed, asked = Feed(model, tmp_path, tmp_path), [Prompt("question", (Message("user", "What?"),))]
    eight, whole = (
        sample_answers(sampler_for(model, None, int8), feed, asked, Sampling(60, 1.0))[0].text for int8 in (True, False)
    )
    assert found == eight + "\n" and eight != whole


def test_answers_to_rank_are_given_with_the_adapter(lively: Path, shop: Path, tmp_path: Path, cache: Path) -> None:
    places = {"model_name_or_path": str(lively), "dataset": str(shop / "import"), "output_dir": str(tmp_path / "rank")}
    size: dict[str, Any] = {"num_generations": 2, "max_prompts": 4, "response_length": 6}
    out = rank.run(rank.Config(**places, **size, temperatures=[0.0], dtype="fp32"))  # type: ignore[arg-type]
    found = [one.responses for one in read_records(out / "answers.jsonl", Ranking)]
    dataset = Dataset(shop / "import")
    with_it, without = (
        said(lively, dataset, dataset.prompts("rank")[:4], cache, GREEDY, adapter) for adapter in (ADAPTER, None)
    )
    assert found == [(text, text) for text in with_it] and with_it != without


def test_models_are_evaluated_with_their_adapters(lively: Path, shop: Path, tmp_path: Path, cache: Path) -> None:
    places = {"sft": str(lively), "dataset": str(shop / "import"), "output_dir": str(tmp_path / "evaluate")}
    size: dict[str, Any] = {"max_test": 2, "heldout_prompts": 4, "response_length": 6}
    evaluate.run(evaluate.Config(**places, **size, temperature=0.0, dtype="fp32"))  # type: ignore[arg-type]
    found = [one.text for one in read_outputs(tmp_path / "evaluate" / "outputs" / "models" / "sft").prompts]
    dataset = Dataset(shop / "import")
    with_it, without = (
        said(lively, dataset, dataset.prompts("heldout")[:4], cache, GREEDY, adapter) for adapter in (ADAPTER, None)
    )
    assert found == with_it != without


def test_a_student_that_reads_itself_speaks_with_its_adapter(
    lively: Path, shop: Path, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In its first step, before it has learnt anything."""
    given: list[Answer] = []

    def sampled(*arguments: Any) -> list[Answer]:
        given.extend(sample_answers(*arguments))
        return given

    monkeypatch.setattr(distill, "sample_answers", sampled)
    places = {name: str(folder) for name, folder in {"teacher": shop / "sft", "student": lively}.items()}
    places |= {"dataset": str(shop / "import"), "output_dir": str(tmp_path / "distill")}
    size: dict[str, Any] = {"per_device_train_batch_size": 4, "response_length": 6, "max_steps": 1}
    how: dict[str, Any] = {"finetuning_type": "lora", "on_policy_share": 1.0, "seed": 1, "dtype": "fp32"}
    distill.run(distill.Config(**places, **size, **how))  # type: ignore[arg-type]
    dataset = Dataset(shop / "import")
    with_it, without = (
        said(lively, dataset, dataset.prompts("ppo")[:4], cache, Sampling(6, 1.0, seed=100_003), adapter)
        for adapter in (ADAPTER, None)
    )
    assert [answer.text for answer in given] == with_it != without


def test_rankers_know_which_answers_were_cut_off(shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three answers of the same words, of which the second did not end: it alone is less fluent."""

    def sampled(*arguments: Any) -> list[Answer]:
        answers = sample_answers(*arguments)
        return [replace(one, text="Yes, this is so.", ended=i % 3 != 1) for i, one in enumerate(answers)]

    monkeypatch.setattr(rank, "sample_answers", sampled)
    places = {"model_name_or_path": str(shop / "sft"), "dataset": str(shop / "import"), "output_dir": str(tmp_path)}
    size: dict[str, Any] = {"num_generations": 3, "max_prompts": 2, "response_length": 6}
    out = rank.run(rank.Config(**places, **size, rankers=["rules"], dtype="fp32"))  # type: ignore[arg-type]
    answers, rankings = (read_records(out / name, Ranking) for name in ("answers.jsonl", "rankings.jsonl"))
    assert [one.ended for one in [*answers, *rankings]] == [(True, False, True)] * 4
    assert [one.ranks["fluency"] for one in rankings] == [(1, 3, 1)] * 2


def test_an_answer_is_timed_at_the_length_at_which_it_counts(
    texts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load_model(str(texts / "sft"), "fp32")
    asked: list[Sampling] = []
    monkeypatch.setattr(answers, "sample_answers", lambda sampler, feed, prompts, sampling: asked.append(sampling))
    question = Prompt("question", (Message("user", "What?"),))
    answers._milliseconds(sampler_for(model, ADAPTER), Feed(model, tmp_path, tmp_path), [question, question], 31)
    assert [(one.max_new_tokens, one.temperature) for one in asked] == [(31, 0.0)] * 2
