from __future__ import annotations

import contextlib
import json
import math
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from sklearn.metrics import roc_auc_score
from transformers import AutoModelForCausalLM, AutoTokenizer

import tiny
from bessemer import interrupts
from bessemer.config import Artifact
from bessemer.data.dataset import Dataset
from bessemer.data.records import Document, Message, Prompt
from bessemer.errors import Stopped, UserError
from bessemer.interrupts import release
from bessemer.models.classifier import Classifier
from bessemer.models.feed import Feed
from bessemer.models.model import load_model
from bessemer.report.saved import read_outputs
from bessemer.report.schema import validate
from bessemer.rollout.collect import Answer, sample_answers
from bessemer.rollout.sampler import Sampling
from bessemer.stages import evaluate, importing, tower
from bessemer.stages.answers import classifier_outputs, language_outputs, perplexity, tower_probabilities
from bessemer.stages.evaluate import Config, run
from bessemer.tasks.wordings import load_wordings
from tasks.test_wordings import SMALL

# The keys that report.json promises; a value that was not measured is null, never absent.
CONTRACT = {
    "schema_version", "dataset", "split", "seed", "n_test", "seconds", "models", "reward", "ppo_minus_sft",
    "shuffled_control", "student_over_teacher_accuracy",
}  # fmt: skip
OF_A_MODEL = {
    "name", "accuracy", "accuracy_interval", "balanced_accuracy", "f1_defect", "macro_f1_severity", "kappa_severity",
    "auc", "average_precision", "parse_failure_rate", "principles", "perplexity_general", "ms_per_image", "megabytes",
    "layers", "parameters", "active_parameters",
}  # fmt: skip
OF_A_PRINCIPLE = {
    "accuracy", "interval", "length_baseline", "bag_of_words_baseline", "pairs", "agreement_alpha", "calibration_error",
}  # fmt: skip


def config(shop: Path, out: Path, **values: object) -> Config:
    settled: dict[str, object] = {
        "dataset": str(shop / "import"),
        "dtype": "fp32",
        "max_test": 4,
        "heldout_prompts": 3,
        "response_length": 6,
        **values,
    }
    return Config(output_dir=str(out / "evaluate"), **settled)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def whole(shop: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Everything but ppo, its control and a student."""
    lineage = [str(shop / name) for name in ("import", "tower", "align", "sft", "rank", "reward")]
    stages = {name: str(shop / name) for name in ("tower", "sft", "rank", "reward")}
    out = tmp_path_factory.mktemp("evaluate")
    probe = str(shop / "tiny-tower")
    run(config(shop, out, base=str(shop / "align"), probe=probe, lineage=lineage, title="试验", **stages))
    return out


def report_of(out: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((out / "report.json").read_text(encoding="utf-8"))
    return found


def test_the_report_keeps_its_contract(whole: Path) -> None:
    report = report_of(whole)
    validate(report)
    assert set(report) >= CONTRACT
    assert [model["name"] for model in report["models"]] == ["trivial", "probe", "tower", "base", "sft"]
    assert all(set(model) >= OF_A_MODEL for model in report["models"])
    principles = report["reward"]["principles"]
    assert set(principles) == {"truthfulness", "helpfulness", "harmlessness", "fluency", "clarity"}
    assert all(set(entry) >= OF_A_PRINCIPLE for entry in principles.values())
    assert principles["truthfulness"]["pairs"] > 0 and principles["truthfulness"]["agreement_alpha"] is not None
    assert set(report["seconds"]) == {"import", "tower", "align", "sft", "rank", "reward"}
    assert report["reward"]["annotator"] == "rules, simulated-1-noise-0.02, simulated-2-noise-0.05"
    assert (report["n_test"], report["n_heldout"], report["title"]) == (4, 3, "试验")


def test_what_was_not_measured_is_null(whole: Path) -> None:
    report = report_of(whole)
    for name in ("ppo_minus_sft", "shuffled_control"):
        assert report[name]["score"] is None and report[name]["interval"] is None and report[name]["accuracy"] is None
    assert report["student_over_teacher_accuracy"] is None
    rows = {model["name"]: model for model in report["models"]}
    for name in ("trivial", "probe", "tower"):
        assert rows[name]["perplexity_general"] is None and rows[name]["layers"] is None
        assert rows[name]["principles"] == {}
    assert rows["trivial"]["kappa_severity"] is None and rows["trivial"]["ms_per_image"] is None
    assert rows["base"]["layers"] == 3 and rows["base"]["perplexity_general"] > 100
    assert set(rows["sft"]["principles"]) == {"truthfulness", "helpfulness", "harmlessness", "fluency", "clarity"}


def test_an_answer_that_cannot_be_read_is_wrong(whole: Path, shop: Path) -> None:
    """Two untrained models of random bytes, and the most frequent label of the training photographs."""
    rows = {model["name"]: model for model in report_of(whole)["models"]}
    for name in ("base", "sft"):
        assert (rows[name]["parse_failure_rate"], rows[name]["accuracy"]) == (1.0, 0.0)
    examples = Dataset(shop / "import").examples()
    labels = [example.labels["class"] for example in examples if example.split == "train"]
    frequent = max(sorted(set(labels)), key=labels.count)
    said = read_outputs(whole / "evaluate" / "outputs" / "models" / "trivial").answers
    truth = {example.id: example.labels["class"] for example in examples if example.split == "test"}
    assert len(said) == 4 < len(truth)
    assert rows["trivial"]["accuracy"] == pytest.approx([truth[one.id] for one in said].count(frequent) / 4)


def test_it_lies_beside_the_stages_and_stands_alone(whole: Path) -> None:
    for name in ("report.json", "report.html"):
        assert (whole / name).read_bytes() == (whole / "evaluate" / name).read_bytes()
    page = (whole / "report.html").read_text(encoding="utf-8")
    assert "试验" in page and "<script src" not in page and 'src="http' not in page
    saved = whole / "evaluate" / "outputs"
    assert sorted(path.name for path in (saved / "models").iterdir()) == ["base", "probe", "sft", "tower", "trivial"]


def test_what_was_said_is_saved_before_it_is_scored(
    shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def asking(name: str, *arguments: Any, **named: Any) -> Any:
        asked.append(name)
        dataset, documents = arguments[1], arguments[-1]
        assert documents == dataset.documents("test") != dataset.documents("train")  # some are trained on
        return ask(name, *arguments, **named)

    def broken(evaluation: Any) -> Any:
        raise ZeroDivisionError("a slip in a metric")

    ask, build = evaluate.language_outputs, evaluate.build
    monkeypatch.setattr(evaluate, "language_outputs", asking)
    monkeypatch.setattr(evaluate, "build", broken)
    monkeypatch.setattr(evaluate, "render", lambda report, root: "a page")
    models = {"base": str(shop / "align"), "sft": str(shop / "sft")}
    with pytest.raises(ZeroDivisionError):
        run(config(shop, tmp_path, **models))
    release()
    assert asked == ["base", "sft"]
    said = read_outputs(tmp_path / "evaluate" / "outputs" / "models" / "sft")
    assert len(said.answers) == 4 and len(said.prompts) == 3
    monkeypatch.setattr(evaluate, "build", build)
    run(config(shop, tmp_path, **models))
    assert asked == ["base", "sft"]
    (again,) = (model for model in report_of(tmp_path)["models"] if model["name"] == "sft")
    assert again["n"] == 4 and report_of(tmp_path)["ppo_minus_sft"]["score"] is None


def test_a_model_is_stopped_between_its_answers(
    shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A model's answers take minutes: whoever stops the run does not wait for the rest of them."""
    models = {"base": str(shop / "align"), "sft": str(shop / "sft"), "tower": str(shop / "tower")}
    monkeypatch.setattr("bessemer.stages.answers.AT_ONCE", 3)
    left = iter([False] * 4)  # behind each model, and 3 and 1 of the photographs that the tower tells of
    monkeypatch.setattr(interrupts, "requested", lambda: next(left, True))
    with pytest.raises(Stopped, match="run the same command again"):
        run(config(shop, tmp_path, **models))
    said = capsys.readouterr().err
    assert "answers of tower 100% 4/4" in said and "answers of base   0% 0/7" in said
    assert "answers of base 100%" not in said and "answers of sft" not in said
    assert sorted(path.name for path in (tmp_path / "evaluate" / "outputs" / "models").iterdir()) == [
        "tower",
        "trivial",
    ]
    monkeypatch.undo()
    run(config(shop, tmp_path, **models))
    said = capsys.readouterr().err
    assert "answers of tower" not in said and "answers of base 100% 7/7" in said and "answers of sft 100% 7/7" in said


def test_the_tower_says_the_same_of_one_photograph_and_of_many(shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = Dataset(shop / "import")
    examples = dataset.examples("train")
    classifier = Classifier.load(shop / "tower" / "model")
    (name,) = classifier.attributes
    told: list[int] = []
    monkeypatch.setattr("bessemer.stages.answers.AT_ONCE", 5)
    outputs = classifier_outputs(classifier, dataset, examples, {name: classifier.attributes[name][-1]}, told.append)
    assert len(examples) > 5 and len(told) > 1 and sum(told) == len(examples)
    assert [answer.id for answer in outputs.answers] == [example.id for example in examples]
    for example, answer in zip(examples, outputs.answers, strict=True):
        alone = tower_probabilities(classifier, [example.image], dataset.root)[name][0, -1]
        assert answer.probability == pytest.approx(float(alone), abs=0.02)  # bf16, where it is
    assert outputs.facts.ms_per_image is not None and outputs.facts.ms_per_image > 0


def test_positive_is_what_the_wordings_say_and_not_what_comes_last(shop: Path, tmp_path: Path) -> None:
    """crack is positive and comes before ok in the alphabet: a classifier's probability must be that of crack."""
    folder = tiny.photographs(tmp_path / "parts")
    (folder / "scratched").rename(folder / "crack")
    (folder / "good").rename(folder / "ok")
    data = importing.run(
        importing.Config(source="folder", data=str(folder), general_documents=0, output_dir=str(tmp_path / "import"))  # type: ignore[arg-type]
    )
    made = tower.run(
        tower.Config(
            dataset=str(data),  # type: ignore[arg-type]
            vision_tower=str(shop / "tiny-tower"),  # type: ignore[arg-type]
            num_train_epochs=2.0,
            output_dir=str(tmp_path / "tower"),
        )
    )
    run(config(tmp_path, tmp_path, tower=str(made), probe=str(shop / "tiny-tower"), max_test=0))
    for row in report_of(tmp_path)["models"]:
        said = read_outputs(tmp_path / "evaluate" / "outputs" / "models" / row["name"]).answers
        assert {answer.parsed for answer in said} <= {"crack", "ok"} and len(said) == 6
        for answer in said:
            assert answer.probability is not None and answer.probability != 0.5
            assert (answer.parsed == "crack") == (answer.probability > 0.5)
        truth = [answer.truth == "crack" for answer in said]
        assert row["auc"] == pytest.approx(roc_auc_score(truth, [answer.probability for answer in said]))
    run(config(tmp_path, tmp_path / "few", dataset=str(data), max_test=3))
    few = read_outputs(tmp_path / "few" / "evaluate" / "outputs" / "models" / "trivial").answers
    # folders are read one after the other: the first so many would be photographs of one class
    assert len({answer.truth for answer in said[:3]}) == 1 < len({answer.truth for answer in few}) and len(few) == 3
    run(config(tmp_path, tmp_path / "seed", dataset=str(data), max_test=3, seed=1))
    same = read_outputs(tmp_path / "seed" / "evaluate" / "outputs" / "models" / "trivial").answers
    assert [answer.id for answer in same] == [answer.id for answer in few]  # seeds are compared


def asked(index: int, choices: dict[str, str]) -> Prompt:
    reading = {"values": ["fine", "bad"], "ordered": False, "positive": "bad", "safe": ["fine"]}
    facts = {
        "asked": ["state"],
        "expected": {"state": "bad"},
        "labels": {"state": "bad"},
        "attributes": {"state": {**reading, "advice": False, "says": {}}},
        "choices": choices,
        "rule": "attributes",
        "kind": "attribute",
        "task": "state",
        "length": [1, 4],
        "reference": "Yes.",
    }  # fmt: skip
    return Prompt(f"q{index}", (Message("user", f"Is number {index} bad?"),), "state", None, facts)


APART, ALIKE = {"fine": "No", "bad": "Yes"}, {"fine": "That is fine", "bad": "That is bad"}


@pytest.mark.parametrize(("choices", "main"), [(APART, "state"), (ALIKE, "state"), (APART, "another")])
def test_log_odds_and_perplexity_are_those_of_transformers(
    texts: Path, tmp_path: Path, choices: dict[str, str], main: str
) -> None:
    """Choices that their first tokens (bytes here) tell apart, which decide then, and choices that begin alike."""
    documents = [Document(f"d{i}", text) for i, text in enumerate(["Plain text.", "安全帽", "A third, longer one."])]
    prompts = [asked(index, choices) for index in range(3)]
    found = language_outputs(
        "base",
        load_model(str(texts / "tiny-model"), "fp32"),
        Dataset(texts / "import"),
        tmp_path,
        prompts,
        [],
        documents,
        main=main,
        response_length=4,
        temperature=1.0,
        copies=1,
        seed=0,
    )
    model = AutoModelForCausalLM.from_pretrained(texts / "tiny-model").eval()
    words = AutoTokenizer.from_pretrained(texts / "tiny-model")

    def nll(text: str, start: int) -> tuple[float, int]:
        ids = torch.tensor([words(text, add_special_tokens=False)["input_ids"]])
        with torch.no_grad():
            logprobs = torch.log_softmax(model(input_ids=ids).logits[0, :-1], -1)
        taken = logprobs.gather(1, ids[0, 1:, None])[start:, 0]
        return -float(taken.sum()), len(taken)

    for prompt, answer in zip(prompts, found.answers, strict=True):
        turns = [{"role": "user", "content": prompt.messages[0].text}]
        before = words.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
        length = len(words(before, add_special_tokens=False)["input_ids"])
        apart = len({word[0] for word in choices.values()}) == 2
        told = {value: word[0] if apart else word for value, word in choices.items()}
        likely = {value: math.exp(-nll(before + word, length - 1)[0]) for value, word in told.items()}
        assert answer.probability == pytest.approx(likely["bad"] / sum(likely.values()), rel=1e-3)
        assert (answer.truth, answer.attribute) == ("bad", "state")
    sums = [nll(document.text, 0) for document in documents]
    perplexity = math.exp(sum(total for total, _ in sums) / sum(count for _, count in sums))
    assert found.facts.perplexity_general == pytest.approx(perplexity, rel=1e-4)


def test_each_held_out_prompt_is_answered_as_often_as_asked_for(texts: Path, tmp_path: Path) -> None:
    """The base model once, whom nobody weighs by the point."""
    run(config(texts, tmp_path, base=str(texts / "sft"), sft=str(texts / "sft"), heldout_answers=3))
    found = {row["name"]: (row["n_prompts"], row["n_prompt_answers"]) for row in report_of(tmp_path)["models"]}
    assert found == {"base": (3, 3), "sft": (3, 9)}
    said = [answer.text for answer in read_outputs(tmp_path / "evaluate" / "outputs" / "models" / "sft").prompts]
    assert len(set(said)) > 3
    page = tmp_path / "evaluate" / "report.html"
    assert "answered 3 times, by the base model once; its score" in page.read_text(encoding="utf-8")
    run(config(texts, tmp_path, base=str(texts / "sft"), sft=str(texts / "sft"), heldout_answers=3, base_answers=2))
    assert report_of(tmp_path)["models"][0]["n_prompt_answers"] == 6
    assert "answered 3 times, by the base model 2 times; its score" in page.read_text(encoding="utf-8")


def test_text_alone_has_no_photographs_to_be_tested_on(texts: Path, tmp_path: Path) -> None:
    run(config(texts, tmp_path, base=str(texts / "tiny-model"), sft=str(texts / "sft")))
    report = report_of(tmp_path)
    assert [model["name"] for model in report["models"]] == ["base", "sft"]
    assert report["n_test"] == report["n_heldout"] == 3
    assert all(model["accuracy"] is None and model["score"] is not None for model in report["models"])


def test_another_evaluation_leaves_the_report_of_the_run_alone(shop: Path, tmp_path: Path) -> None:
    quick = Config(dataset=Artifact(str(shop / "import")), max_test=2, output_dir=str(tmp_path / "quick"))
    (tmp_path / "report.json").write_text("{}")
    run(quick)
    assert (tmp_path / "report.json").read_text() == "{}" and not (tmp_path / "report.html").exists()
    assert report_of(tmp_path / "quick")["n_test"] == 2


def test_main_is_one_of_those_that_are_asked_about(tmp_path: Path) -> None:
    path = tmp_path / "w.yaml"
    follows = "  action:\n    values: [keep, repair]\n    from: class\n    map: {ok: keep, crack: repair}\n"
    path.write_text(SMALL.replace("tasks:\n", follows + "  grade:\n    values: [low, high]\ntasks:\n", 1))
    wordings = load_wordings(path)
    for attributes, main, expected in (
        ([], "", (["class", "grade"], "class")),
        (["grade"], "", (["grade"], "grade")),
        (["action", "grade"], "", (["action", "grade"], "grade")),
        (["grade", "class"], "class", (["grade", "class"], "class")),
    ):
        assert evaluate._asked(Config(attributes=attributes, main=main), wordings) == expected
    for attributes, main in ((["grade"], "class"), ([], "action"), (["action", "grade"], "action")):
        with pytest.raises(UserError, match=f"main '{main}' is not asked about or follows from another, expected one"):
            evaluate._asked(Config(attributes=attributes, main=main), wordings)
    with pytest.raises(UserError, match=r"attributes \['action'\] follow from others"):
        evaluate._asked(Config(attributes=["action"]), wordings)
    assert evaluate._asked(Config(), None) == ([], None)


def test_refusals(shop: Path, tmp_path: Path) -> None:
    for values in ({"main": "colour"}, {"attributes": ["class", "colour"]}):
        with pytest.raises(UserError, match=r"name \['colour'\], expected some of \['class'\]"):
            run(config(shop, tmp_path, **values))
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(tmp_path / "evaluate")
    with pytest.raises(UserError, match="no such folder"):
        run(config(tmp_path, tmp_path))


def test_a_document_of_one_token_predicts_nothing(texts: Path, tmp_path: Path) -> None:
    model = load_model(str(texts / "tiny-model"), "fp32")
    feed = Feed(model, tmp_path, tmp_path)
    told = [Document(f"d{n}", "Plain text.") for n in range(8)]
    expected = perplexity(model, feed, told)
    assert expected is not None
    assert perplexity(model, feed, [*told, Document("one", "x")]) == pytest.approx(expected, rel=1e-6)
    assert perplexity(model, feed, [Document("one", "x")]) is None


def test_a_question_about_a_label_has_room_for_its_true_answer(
    texts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A Chinese character takes three tokens here, and 24 would end the sentence before it says anything."""
    truth, most = "经检查，该组件存在严重缺陷。", []

    def watched(sampler: Any, feed: Feed, prompts: Any, how: Sampling, *rest: Any, **named: Any) -> list[Answer]:
        most.append(how.max_new_tokens)
        return sample_answers(sampler, feed, prompts, how, *rest, **named)

    monkeypatch.setattr("bessemer.stages.answers.sample_answers", watched)
    model, data = load_model(str(texts / "tiny-model"), "fp32"), Dataset(texts / "import")
    for reference, room, expected in ((truth, 64, 43), (truth, 30, 30), ("Yes.", 64, 24)):
        question = asked(0, APART)
        question = replace(question, facts=question.facts | {"reference": reference})
        most.clear()
        language_outputs(
            "base", model, data, tmp_path, [question], [], [], main="state", response_length=room, temperature=1.0,
            copies=1, seed=0,
        )  # fmt: skip
        assert most[0] == expected
