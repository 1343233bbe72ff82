from __future__ import annotations

import json
import math
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from sklearn.metrics import r2_score
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer

from bessemer import interrupts
from bessemer.algos.regression import Moments
from bessemer.data.records import Message, Prompt, Ranking, read_records, write_records
from bessemer.errors import Stopped, UserError
from bessemer.models.heads import RewardHead
from bessemer.stages import reward
from bessemer.stages.reward import LEAST_DEVIATION, Config, run, standardise

# One bag of words, one length; only the order tells them apart.
WORDS = {"aa bb cc": 1, "cc aa bb": 2, "bb cc aa": 3}
LONG = "aa bb cc dd dd dd"


def rankings(path: Path, count: int = 20) -> Path:
    """Three permutations ordered by their last word (truthfulness), with a longer one that helps more
    (helpfulness), all alike to the eye of clarity; nobody judged every second prompt's longest answer."""
    made = []
    for index in range(count):
        prompt = Prompt(f"p{index}", (Message("user", f"Number {index}?"),))
        answers = [*list(WORDS)[index % 3 :], *list(WORDS)[: index % 3], LONG]
        truth = [WORDS.get(answer, 4 if index % 2 else None) for answer in answers]
        helps = [1 if answer == LONG else 2 for answer in answers]
        ranks = {"truthfulness": tuple(truth), "helpfulness": tuple(helps), "clarity": (1, 1, 1, 1)}
        order = tuple(range(4))
        made.append(Ranking(prompt.id, prompt, tuple(answers), (True,) * 4, ranks, "王工", order))
    write_records(path, made)
    return path


@pytest.fixture(scope="module")
def trained(texts: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("reward")
    return run(config(texts, rankings(folder / "rankings.jsonl"), folder / "reward", num_train_epochs=6.0))


def config(texts: Path, ranked: Path, out: Path, **values: object) -> Config:
    settled: dict[str, object] = {
        "model_name_or_path": str(texts / "tiny-model"),
        "dataset": str(texts / "import"),
        "dtype": "fp32",
        "per_device_train_batch_size": 4,
        "learning_rate": 1e-2,
        "head_learning_rate": 1e-2,
        **values,
    }
    return Config(rankings=str(ranked), output_dir=str(out), **settled)  # type: ignore[arg-type]


def pairs(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "pairs.jsonl").read_text(encoding="utf-8").splitlines()]


def test_a_stop_among_the_scores_costs_no_training(
    texts: Path, tmp_path: Path, trained: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    settled = config(texts, trained.parent / "rankings.jsonl", tmp_path / "reward", num_train_epochs=6.0)
    asked: list[bool] = []

    class Asking(Moments):
        def add(self, states: Tensor, scores: Tensor) -> None:
            asked.append(True)
            super().add(states, scores)

    monkeypatch.setattr(interrupts, "requested", lambda: bool(asked))
    monkeypatch.setattr(reward, "Moments", Asking)
    with pytest.raises(Stopped, match="run the same command again"):
        run(settled)
    assert len(asked) == 1 and json.loads((tmp_path / "reward" / "manifest.json").read_text())["status"] == "stopped"
    monkeypatch.undo()
    capsys.readouterr()
    out = run(settled)
    said = capsys.readouterr().err
    assert "reward 100% 24/24" in said and "reward  50%" not in said and "scores 100% 20/20" in said
    same = [Path("pairs.jsonl"), *(path.relative_to(trained) for path in (trained / "model").rglob("*.safetensors"))]
    assert len(same) >= 4 and all((out / path).read_bytes() == (trained / path).read_bytes() for path in same)


def independent(
    texts: Path, out: Path
) -> tuple[dict[tuple[str, str], Tensor], dict[str, Tensor], dict[tuple[str, str], Tensor]]:
    """Raw scores by (prompt, answer) from transformers, PEFT and the head's file alone; that file; and the states
    before each token of the answer."""
    base = AutoModelForCausalLM.from_pretrained(out / "model" / "language")
    network = PeftModel.from_pretrained(base, str(out / "model" / "adapter")).eval()
    words = AutoTokenizer.from_pretrained(texts / "tiny-model")
    head = load_file(out / "model" / "reward" / "model.safetensors")
    found, before = {}, {}
    for index in range(20):
        turn = [{"role": "user", "content": f"Number {index}?"}]
        for answer in [*WORDS, LONG]:
            asked = words.apply_chat_template(turn, tokenize=False, add_generation_prompt=True)
            ids = torch.tensor([words(asked + answer + "<|im_end|>", add_special_tokens=False)["input_ids"]])
            with torch.no_grad():
                states = network(input_ids=ids, output_hidden_states=True).hidden_states[-1][0]
            found[f"p{index}", answer] = head["linear.weight"] @ states[-1] + head["linear.bias"]
            before[f"p{index}", answer] = states[len(words(asked, add_special_tokens=False)["input_ids"]) - 1 : -1]
    return found, head, before


def test_it_learns_what_length_and_words_cannot_tell(trained: Path) -> None:
    rows = [row for row in pairs(trained) if row["principle"] == "truthfulness"]
    among = [row for row in rows if row["length_margin"] == 0]
    assert len(among) == 4 * 3
    assert all(row["bag_of_words_margin"] == pytest.approx(0, abs=1e-9) for row in among)
    assert all((row["margin"] > 0) == (row["target"] == 1) for row in among)
    summary = json.loads((trained / "manifest.json").read_text())["summary"]
    assert summary["accuracy/truthfulness"] == 1.0 and summary["accuracy/helpfulness"] == 1.0
    assert "accuracy/clarity" not in summary  # ties can be called neither right nor wrong
    assert (summary["train_prompts"], summary["heldout_prompts"]) == (16, 4)


def test_the_baselines_learn_what_they_can(trained: Path) -> None:
    rows = [row for row in pairs(trained) if row["principle"] == "helpfulness" and row["target"] != 0.5]
    assert len(rows) == 4 * 3
    for name in ("length_margin", "bag_of_words_margin"):
        assert all((row[name] > 0) == (row["target"] == 1) for row in rows)


def test_every_judged_pair_of_the_held_out_prompts_is_a_row(trained: Path) -> None:
    held = sorted({row["prompt"] for row in pairs(trained)})
    assert len(held) == 4
    expected = 0
    for prompt in held:
        judged = 4 if int(prompt[1:]) % 2 else 3
        expected += len(list(combinations(range(judged), 2))) + 6 + 6
    assert len(pairs(trained)) == expected
    assert {row["target"] for row in pairs(trained) if row["principle"] == "clarity"} == {0.5}


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")  # PEFT asks transformers for it
def test_scores_are_standardised_and_saved_as_another_library_reads_them(texts: Path, trained: Path) -> None:
    scores, head, before = independent(texts, trained)
    held = {row["prompt"] for row in pairs(trained)}
    train = torch.stack([score for (prompt, _), score in scores.items() if prompt not in held])
    assert len(train) == 16 * 4
    torch.testing.assert_close(head["mean"], train.mean(0), atol=1e-4, rtol=1e-4)
    # the head of a principle that was never decided hardly varies, and its noise is not blown up
    least = float(train.std(0).square().mean().sqrt()) / 2
    torch.testing.assert_close(head["std"][:2], train.std(0)[:2], atol=1e-4, rtol=1e-4)
    assert head["std"][2] == pytest.approx(least, rel=1e-4) and least > max(0.1, float(train.std(0)[2]))
    unseen = [key for key in scores if key[0] in held]
    truth = torch.cat([scores[key].expand(len(before[key]), -1) for key in unseen])
    expected = torch.cat([before[key] for key in unseen]) @ head["expected_weight"].T + head["expected_bias"]
    summary = json.loads((trained / "manifest.json").read_text())["summary"]
    for column, name in enumerate(["truthfulness", "helpfulness", "clarity"]):
        share = r2_score(truth[:, column].numpy(), expected[:, column].numpy())
        assert summary[f"expected/{name}"] == pytest.approx(share, abs=1e-3)
    assert summary["expected/helpfulness"] > 0.2  # the longest answer gives itself away before it ends
    torch.testing.assert_close(head["weights"], torch.tensor([0.5, 0.5, 0.0]))
    names = json.loads((trained / "model" / "reward" / "config.json").read_text())["principles"]
    assert names == ["truthfulness", "helpfulness", "clarity"]
    rows = iter(pairs(trained))
    for column, name in enumerate(names):
        for prompt in dict.fromkeys(row["prompt"] for row in pairs(trained)):
            index = int(prompt[1:])
            answers = [*list(WORDS)[index % 3 :], *list(WORDS)[: index % 3], LONG]
            judged = answers[:3] if name == "truthfulness" and index % 2 == 0 else answers
            for one, other in combinations(judged, 2):
                row, expected = next(rows), scores[prompt, one][column] - scores[prompt, other][column]
                assert (row["prompt"], row["principle"]) == (prompt, name)
                assert row["margin"] == pytest.approx(float(expected), abs=2e-4)


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")  # PEFT asks transformers for it
def test_borrowed_answers_teach_but_are_no_measure_of_the_model(texts: Path, tmp_path: Path) -> None:
    """The last answer of each was given elsewhere: its pairs say so; scores are standardised without it, and without
    the third, which was drawn at another temperature."""
    ranked = rankings(tmp_path / "rankings.jsonl")
    noted = {"temperatures": [1.0, 1.0, 1.5]}
    borrowing = [replace(one, prompt=replace(one.prompt, provenance=noted)) for one in read_records(ranked, Ranking)]
    write_records(ranked, borrowing)
    out = run(config(texts, ranked, tmp_path / "reward"))
    scores, head, before = independent(texts, out)
    held = {row["prompt"] for row in pairs(out)}
    drawn = {one.prompt.id: one.responses[:2] for one in borrowing}
    usual = [score for (prompt, said), score in scores.items() if prompt not in held and said in drawn[prompt]]
    torch.testing.assert_close(head["mean"], torch.stack(usual).mean(0), atol=1e-4, rtol=1e-4)
    unseen = [(prompt, said) for prompt, said in scores if prompt in held and said in drawn[prompt]]
    truth = torch.cat([scores[key].expand(len(before[key]), -1) for key in unseen])[:, 1]
    expected = torch.cat([before[key] for key in unseen]) @ head["expected_weight"][1] + head["expected_bias"][1]
    summary = json.loads((out / "manifest.json").read_text())["summary"]
    assert summary["expected/helpfulness"] == pytest.approx(r2_score(truth.numpy(), expected.numpy()), abs=1e-3)
    rows = [row for row in pairs(out) if row["principle"] == "helpfulness"]
    assert [row["borrowed"] for row in rows] == [row["target"] != 0.5 for row in rows]  # LONG alone wins or loses
    assert len(rows) == 4 * 6


def test_agreement_and_the_recipe_decide_the_weights(texts: Path, tmp_path: Path) -> None:
    stage = tmp_path / "rank"
    stage.mkdir()
    rankings(stage / "rankings.jsonl", 6)
    (stage / "agreement.json").write_text(json.dumps({"truthfulness": {"weight": 0.25}, "clarity": {"weight": None}}))
    weights = {"helpfulness": 2.0}
    out = run(config(texts, stage, tmp_path / "a", num_train_epochs=1.0, principle_weights=weights))
    head = load_file(out / "model" / "reward" / "model.safetensors")
    torch.testing.assert_close(head["weights"], torch.tensor([0.25, 2.0, 0.0]) / 2.25)
    alone = run(config(texts, stage, tmp_path / "b", num_train_epochs=1.0, principles=["helpfulness"]))
    assert {row["principle"] for row in pairs(alone)} == {"helpfulness"}
    with pytest.raises(UserError, match=r"principle_weights names \['wit'\]"):
        run(config(texts, stage, tmp_path / "c", principle_weights={"wit": 1.0}))
    with pytest.raises(UserError, match="no principle has a weight"):
        run(config(texts, stage, tmp_path / "d", principles=["clarity"]))


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")  # PEFT asks transformers for it
def test_the_loss_is_that_of_the_formula(texts: Path, tmp_path: Path) -> None:
    """Of a head that learns nothing, on all prompts at once, in plain loops: pairs weigh by how many judged them, a
    principle by its agreement, and scores far from 0 cost something."""
    stage = tmp_path / "rank"
    first = read_records(rankings(tmp_path / "first.jsonl"), Ranking)
    second = [replace(one, annotator="b", ranks={"helpfulness": (2, 1, 2, None)}) for one in first[::3]]
    write_records(stage / "rankings.jsonl", [*first, *second])
    agreed = {"truthfulness": 0.25, "helpfulness": 1.0, "clarity": 0.5}
    (stage / "agreement.json").write_text(json.dumps({name: {"weight": one} for name, one in agreed.items()}))
    still = {"learning_rate": 0.0, "head_learning_rate": 0.0, "per_device_train_batch_size": 64}
    out = run(config(texts, stage, tmp_path / "out", **still, num_train_epochs=1.0, center_rewards_coefficient=0.03))
    scores, _, _ = independent(texts, out)
    held = {row["prompt"] for row in pairs(out)}
    total, weight = 0.0, 0.0
    for one in (one for one in first if one.prompt.id not in held):
        others = [other.ranks for other in second if other.id == one.id]
        for column, (name, agreement) in enumerate(agreed.items()):
            lost, judged = 0.0, 0
            for i, j in combinations(range(4), 2):
                x, y = (float(scores[one.prompt.id, one.responses[place]][column]) for place in (i, j))
                for ranks in (ranks[name] for ranks in [one.ranks, *others] if name in ranks):
                    if ranks[i] is not None and ranks[j] is not None:
                        wins = 0.5 if ranks[i] == ranks[j] else float(ranks[i] < ranks[j])
                        lost += wins * math.log1p(math.exp(y - x)) + (1 - wins) * math.log1p(math.exp(x - y))
                        lost, judged = lost + 0.03 * (x + y) ** 2, judged + 1
            total, weight = total + agreement * lost / judged, weight + agreement
    (row,) = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert row["loss"] == pytest.approx(total / weight, rel=1e-4)


def test_adapter_and_head_learn_at_rates_of_their_own(
    texts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: dict[str, float] = {}

    def fit(_: Any, groups: Any, *rest: Any, **named: Any) -> None:
        given.update({name: group.learning_rate for group in groups for name in group.parameters})

    monkeypatch.setattr(reward, "fit", fit)
    rates = {"learning_rate": 0.01, "head_learning_rate": 0.2}
    run(config(texts, rankings(tmp_path / "six.jsonl", 6), tmp_path / "out", **rates))
    assert {rate for name, rate in given.items() if name.startswith("adapter.")} == {0.01}
    assert {name: rate for name, rate in given.items() if name.startswith("head.")} == {
        "head.linear.weight": 0.2,
        "head.linear.bias": 0.2,
    }


def test_one_answer_does_not_vary() -> None:
    """Two prompts, one of them held out, with one answer each that was drawn as the policy's are."""
    head = RewardHead(4, ["truthfulness"])
    standardise(head, [torch.tensor([[2.0]])])
    assert (float(head.mean), float(head.std)) == (2.0, pytest.approx(LEAST_DEVIATION))


def test_refusals(texts: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file, expected rankings"):
        run(config(texts, tmp_path / "absent", tmp_path / "a"))
    with pytest.raises(
        UserError, match="rankings of 1 photographs or questions, expected enough to train on and to hold some back"
    ):
        run(config(texts, rankings(tmp_path / "one.jsonl", 1), tmp_path / "b"))
    with pytest.raises(UserError, match="expected under cutoff_len=20"):
        run(config(texts, rankings(tmp_path / "six.jsonl", 6), tmp_path / "c", cutoff_len=20))
    with pytest.raises(UserError, match=r"principles names \['helpful'\], expected some of \['truthfulness', 'helpf"):
        run(config(texts, tmp_path / "six.jsonl", tmp_path / "d", principles=["truthfulness", "helpful"]))
