from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer

import tiny
from bessemer.data.dataset import Dataset
from bessemer.data.records import Document, write_records
from bessemer.disk import tree_hash
from bessemer.errors import UserError
from bessemer.rollout.collect import Answer
from bessemer.stages import align, distill
from bessemer.stages.distill import Config, run


def config(shop: Path, out: Path, **values: object) -> Config:
    settled: dict[str, object] = {
        "teacher": str(shop / "sft"),
        "dataset": str(shop / "import"),
        "dtype": "fp32",
        "student_layers": 2,
        "per_device_train_batch_size": 8,
        "response_length": 6,
        "max_steps": 1,
        **values,
    }
    return Config(output_dir=str(out), **settled)  # type: ignore[arg-type]


def metrics(out: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


class Captured(Exception):
    """What the stage would have trained with."""

    def __init__(self, source: Any, steps: int) -> None:
        super().__init__()
        self.source, self.steps = source, steps


def capture(settings: Config, monkeypatch: pytest.MonkeyPatch) -> Captured:
    def fit(_: Any, __: Any, source: Any, ___: Any, *, steps: int, **____: Any) -> None:
        raise Captured(source, steps)

    monkeypatch.setattr(distill, "fit", fit)
    with pytest.raises(Captured) as caught:
        run(settings)
    return caught.value


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")  # PEFT asks transformers for it
def test_the_student_is_made_of_the_teachers_layers(shop: Path, tmp_path: Path) -> None:
    """Nothing is learnt at rate 0: its layers are the first and the last of the teacher's, the adapter merged in."""
    out = run(config(shop, tmp_path / "student", learning_rate=0.0))
    base = AutoModelForCausalLM.from_pretrained(shop / "sft" / "model" / "language")
    merged = PeftModel.from_pretrained(base, str(shop / "sft" / "model" / "adapter")).merge_and_unload()
    student = AutoModelForCausalLM.from_pretrained(out / "model" / "language")
    assert student.config.num_hidden_layers == 2 and not (out / "model" / "adapter").exists()
    expected = merged.state_dict()
    for name, tensor in student.state_dict().items():
        torch.testing.assert_close(tensor, expected[name.replace("layers.1.", "layers.2.")], atol=1e-6, rtol=1e-5)
    for part in ("projector", "tower"):
        assert tree_hash(out / "model" / part) == tree_hash(shop / "sft" / "model" / part)


def test_the_teacher_itself_has_nothing_to_learn_from_the_teacher(shop: Path, tmp_path: Path) -> None:
    (row,) = metrics(run(config(shop, tmp_path / "a", student_layers=3, alpha=1.0)))
    assert row["kl"] == pytest.approx(0, abs=1e-6) and row["loss"] == pytest.approx(0, abs=4e-6)
    (row,) = metrics(run(config(shop, tmp_path / "b", alpha=0.25, distill_temperature=3.0)))
    assert row["kl"] > 0.01
    assert row["loss"] == pytest.approx(0.25 * 9 * row["kl"] + 0.75 * row["ce"], rel=1e-6)


@pytest.mark.parametrize("world", ["shop", "texts"])
def test_it_comes_closer(world: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    given = request.getfixturevalue(world)
    rows = metrics(run(config(given, tmp_path / "student", max_steps=12, learning_rate=5e-3, alpha=1.0)))
    assert sum(row["kl"] for row in rows[-3:]) < 0.7 * sum(row["kl"] for row in rows[:3])


@pytest.mark.parametrize("world", ["shop", "texts"])
def test_a_teacher_that_is_computed_beforehand_teaches_the_same(
    world: str, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two epochs, general text and the student's own samples among them: same losses, half the teacher's passes."""
    given = request.getfixturevalue(world)
    settings: dict[str, object] = {
        "num_train_epochs": 2.0,
        "max_steps": 0,
        "general_share": 0.5 if world == "texts" else 0.0,
        "on_policy_share": 0.3,
        "learning_rate": 1e-3,
    }
    live = metrics(run(config(given, tmp_path / "live", **settings)))
    out = run(config(given, tmp_path / "cached", cache_teacher=True, **settings))
    for one, other in zip(live, metrics(out), strict=True):
        assert one["loss"] == pytest.approx(other["loss"], rel=1e-4, abs=1e-6)
    assert load_file(out / "teacher.safetensors")
    capture(config(given, tmp_path / "resumed", cache_teacher=True, **settings), monkeypatch)
    monkeypatch.setattr("bessemer.models.known.answering", None)  # a resumed run computes nothing of it again
    capture(config(given, tmp_path / "resumed", cache_teacher=True, **settings), monkeypatch)


def test_another_smaller_model_may_be_the_student(shop: Path, tmp_path: Path) -> None:
    """It knows no images, so it gets the teacher's tower and a projector of its own, which learns."""
    small = tiny.language_model(tmp_path / "small", layers=1, seed=3)
    out = run(config(shop, tmp_path / "a", student=str(small), finetuning_type="lora", max_steps=2))
    assert tree_hash(out / "model" / "tower") == tree_hash(shop / "sft" / "model" / "tower")
    assert (
        load_file(out / "model" / "language" / "model.safetensors").keys()
        == load_file(small / "model.safetensors").keys()
    )
    assert (out / "model" / "adapter").is_dir()
    facts = json.loads((out / "model" / "bessemer.json").read_text())
    assert facts["kind"] == "composed" and facts["system_prompt"] == "You inspect parts."


def test_other_vocabularies_are_refused(texts: Path, tmp_path: Path) -> None:
    larger = tiny.language_model(tmp_path / "larger", layers=1)
    words = AutoTokenizer.from_pretrained(larger)
    words.add_tokens(["缺陷"])
    words.save_pretrained(larger)
    with pytest.raises(UserError, match=r"different vocabularies \(259 and 260 tokens"):
        run(config(texts, tmp_path / "a", student=str(larger)))
    swapped = tiny.language_model(tmp_path / "swapped", layers=1)
    table = json.loads((swapped / "tokenizer.json").read_text(encoding="utf-8"))
    vocabulary = table["model"]["vocab"]
    vocabulary["a"], vocabulary["b"] = vocabulary["b"], vocabulary["a"]
    (swapped / "tokenizer.json").write_text(json.dumps(table), encoding="utf-8")
    with pytest.raises(UserError, match=r"259 and 259 tokens, first difference at '[ab]'"):
        run(config(texts, tmp_path / "b", student=str(swapped)))


def test_a_student_that_sees_through_another_tower_is_refused(shop: Path, tmp_path: Path) -> None:
    other = align.run(
        align.Config(
            model_name_or_path=str(shop / "tiny-model"),  # type: ignore[arg-type]
            vision_tower=str(shop / "tiny-tower"),  # type: ignore[arg-type]
            dataset=str(shop / "import"),  # type: ignore[arg-type]
            image_grid=1,
            max_steps=1,
            dtype="fp32",
            output_dir=str(tmp_path / "align"),
        )
    )
    with pytest.raises(UserError, match="see through different towers or grids"):
        run(config(shop, tmp_path / "a", student=str(other)))
    with pytest.raises(UserError, match="see through different towers or grids"):
        run(config(shop, tmp_path / "b", teacher=str(shop / "tiny-model"), student=str(shop / "align")))
    run(config(shop, tmp_path / "c", teacher=str(shop / "align"), student=str(shop / "sft"), finetuning_type="lora"))


def with_documents(texts: Path, folder: Path) -> Path:
    """The dataset with thirty paragraphs of general text, of which ten may be trained on."""
    shutil.copytree(texts / "import", folder)
    write_records(folder / "general.jsonl", [Document(f"d{i}", f"The {i}th paragraph.") for i in range(30)])
    return folder


def test_general_documents_from_which_nothing_follows(
    texts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A word list is no running text; beside some it is passed over."""
    folder = with_documents(texts, tmp_path / "data")
    single = [Document(f"w{i}", "a") for i in range(40)]
    write_records(folder / "general.jsonl", single)
    with pytest.raises(UserError, match="general_share: no general document has two tokens"):
        capture(config(texts, tmp_path / "none", dataset=str(folder), general_share=0.5), monkeypatch)
    write_records(folder / "general.jsonl", [*single, *(Document(f"d{i}", f"The {i}th paragraph.") for i in range(30))])
    source = capture(config(texts, tmp_path / "some", dataset=str(folder), general_share=0.5), monkeypatch).source
    lengths = {n for batch in source.general for n in batch.packed.lengths}
    assert min(lengths) > 5


def test_every_source_takes_its_turn_and_none_is_passed_over(
    texts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = with_documents(texts, tmp_path / "data")
    asked: list[list[str]] = []
    said: list[list[int]] = []
    seeds: set[int] = set()

    def sampled(sampler: Any, feed: Any, prompts: Any, sampling: Any) -> Any:
        asked.append([prompt.id for prompt in prompts])
        answers = sample(sampler, feed, prompts, sampling)
        said.append([token for answer in answers for token in answer.ids])
        seeds.add(sampling.seed)
        return answers

    sample = distill.sample_answers
    monkeypatch.setattr(distill, "sample_answers", sampled)
    shares: dict[str, object] = {"on_policy_share": 0.5, "general_share": 0.5, "per_device_train_batch_size": 3}
    source = capture(config(texts, tmp_path / "out", dataset=str(data), **shares), monkeypatch).source
    steps = [source(step) for step in range(12)]
    assert [[item.own for item in items] for items in steps] == [[False], [True, False]] * 6
    # ten paragraphs are three batches, each seen in its turn
    general = [tuple(items[1].batch.packed.ids.tolist()) for items in steps[1::2]]
    assert general[:3] == general[3:] and len(set(general)) == 3
    assert len(general[2]) < len(general[0])
    ids = [prompt.id for prompt in Dataset(data).prompts("ppo")]
    assert asked == [ids[:3], ids[3:]] * 3 and len(seeds) == 6
    # of what it said itself every token, of what it was asked none
    assert [items[0].batch.targets.tolist() for items in steps[1::2]] == said
    plain = capture(config(texts, tmp_path / "plain", per_device_train_batch_size=3), monkeypatch).source
    for turn, items in enumerate(steps[::2]):
        assert torch.equal(items[0].batch.packed.ids, plain(turn)[0].batch.packed.ids)
    twice = capture(config(texts, tmp_path / "two", dataset=str(data), general_share=2.0, seed=6), monkeypatch).source
    assert [len(twice(step)) for step in range(3)] == [3, 3, 3] and twice.batches.seed == 6
    with pytest.raises(UserError, match="on_policy_share=1.5"):
        run(config(texts, tmp_path / "a", on_policy_share=1.5))


def test_what_the_student_said_itself_is_learnt_by_reverse_kl(texts: Path, tmp_path: Path) -> None:
    rows = metrics(run(config(texts, tmp_path / "a", on_policy_share=0.5, max_steps=4)))
    assert ["ce" in row for row in rows] == [True, False, True, False]
    assert all(row["loss"] == pytest.approx(row["kl"]) for row in rows[1::2])


def test_the_kl_on_its_own_samples_is_the_students_to_the_teacher(
    texts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By transformers, of two models whose heads differ; nothing is learnt at rate 0."""
    said: list[Answer] = []
    sample = distill.sample_answers

    def sampled(*places: Any) -> list[Answer]:
        said.extend(sample(*places))
        return said

    monkeypatch.setattr(distill, "sample_answers", sampled)
    models = {"teacher": str(texts / "tiny-model"), "student": str(texts / "sft"), "finetuning_type": "lora"}
    (row,) = metrics(run(config(texts, tmp_path / "out", on_policy_share=1.0, learning_rate=0.0, **models)))
    folders = (texts / "sft" / "model" / "language", texts / "tiny-model")
    student, teacher = (AutoModelForCausalLM.from_pretrained(folder).eval() for folder in folders)
    towards, back = [], []
    for answer in said:
        ids = torch.tensor([[*answer.rendered.ids, *answer.ids]])
        own = slice(len(answer.rendered.ids) - 1, -1)
        with torch.no_grad():
            q, p = (torch.log_softmax(model(input_ids=ids).logits[0, own], -1) for model in (student, teacher))
        towards.append((q.exp() * (q - p)).sum(-1))
        back.append((p.exp() * (p - q)).sum(-1))
    reverse, forward = (float(torch.cat(parts).mean()) for parts in (towards, back))
    assert row["kl"] == pytest.approx(reverse, rel=1e-3) and abs(reverse - forward) > 0.1


def test_the_recipe_decides_how_it_learns(texts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[Any] = []
    monkeypatch.setattr(distill, "fit", lambda *places, **named: given.extend([*places[1:3], named]))
    sizes = {"per_device_train_batch_size": 2, "augment_views": 4, "cutoff_len": 160, "seed": 5, "max_steps": 0}
    rates = {"learning_rate": 0.5, "warmup_ratio": 0.25, "save_steps": 7, "num_train_epochs": 1.5}
    run(config(texts, tmp_path / "out", general_share=0.5, **sizes, **rates))
    (group,), source, named = given
    batches = source.batches
    assert (batches.batch_size, batches.views, batches.seed, group.learning_rate) == (2, 4, 5, 0.5)
    steps = round(1.5 * (len(Dataset(texts / "import").conversations("train")) // 2))
    assert named == {"steps": steps, "description": "distill", "warmup_ratio": 0.25, "save_steps": 7} and steps > 2
    # conversations and general text are cut alike
    assert max(len(one.ids) for rendered in batches.rendered.values() for one in rendered) == 160
    assert max(length for batch in source.general for length in batch.packed.lengths) == 160


def test_the_seed_decides_what_teacher_and_student_say(
    texts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[list[tuple[int, ...]]] = []
    sample = distill.sample_answers

    def sampled(*places: Any) -> list[Answer]:
        answers = sample(*places)
        said.append([answer.ids for answer in answers])
        return answers

    monkeypatch.setattr(distill, "sample_answers", sampled)
    for number, seed in enumerate((5, 5, 6)):
        settings = config(texts, tmp_path / str(number), teacher_answers=4, on_policy_share=1.0, seed=seed)
        capture(settings, monkeypatch).source(0)
    teacher, student = said[::2], said[1::2]
    for first, again, other in (teacher, student):
        assert first == again != other


def test_the_seed_decides_the_new_adapter(texts: Path, tmp_path: Path) -> None:
    first, again, other = (
        run(config(texts, tmp_path / str(number), finetuning_type="lora", learning_rate=0.0, seed=seed))
        for number, seed in enumerate((5, 5, 6))
    )
    assert tree_hash(first / "model" / "adapter") == tree_hash(again / "model" / "adapter")
    assert tree_hash(first / "model" / "adapter") != tree_hash(other / "model" / "adapter")


def divergence(texts: Path, student: Path) -> float:
    """KL(initial model, student) a token on general text that nobody trained on, by transformers."""
    teacher = AutoModelForCausalLM.from_pretrained(texts / "tiny-model").eval()
    other = AutoModelForCausalLM.from_pretrained(student / "model" / "language").eval()
    words, total, count = AutoTokenizer.from_pretrained(texts / "tiny-model"), 0.0, 0
    for document in Dataset(texts / "import").documents("test"):
        ids = torch.tensor([words(document.text, add_special_tokens=False)["input_ids"][:200]])
        with torch.no_grad():
            p, q = (torch.log_softmax(model(input_ids=ids).logits[0], -1) for model in (teacher, other))
        total, count = total + float((p.exp() * (p - q)).sum()), count + ids.shape[1]
    return total / count


def test_the_initial_model_as_teacher_guards_against_forgetting(texts: Path, tmp_path: Path) -> None:
    settings: dict[str, object] = {
        "teacher": str(texts / "tiny-model"),
        "student": str(texts / "sft"),
        "learning_rate": 3e-3,
        "alpha": 0.0,
        "max_steps": 10,
    }
    alone = run(config(texts, tmp_path / "alone", **settings))
    guarded = run(config(texts, tmp_path / "guarded", general_share=1.0, **settings))
    assert divergence(texts, alone) > divergence(texts, texts / "sft") > 1
    assert divergence(texts, guarded) < 0.6 * divergence(texts, texts / "sft")
    with pytest.raises(UserError, match="general_share needs general text"):
        data = tmp_path / "data"
        shutil.copytree(texts / "import", data)
        (data / "general.jsonl").unlink()
        run(config(texts, tmp_path / "none", dataset=str(data), general_share=1.0))


def test_the_teachers_own_answers_are_learnt_if_they_were_finished(
    texts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []

    def answered(sampler: Any, feed: Any, prompts: Any, sampling: Any) -> Any:
        calls.append(len(prompts))
        found = sample(sampler, feed, prompts, sampling)
        return [replace(answer, text="答案", ended=index != 1) for index, answer in enumerate(found)]

    sample = distill.sample_answers
    monkeypatch.setattr(distill, "sample_answers", answered)
    once: dict[str, object] = {"per_device_train_batch_size": 1, "num_train_epochs": 1.0, "max_steps": 0}
    plain = capture(config(texts, tmp_path / "a", **once), monkeypatch)
    more = capture(config(texts, tmp_path / "b", teacher_answers=4, **once), monkeypatch)
    assert calls == [4] and more.steps == plain.steps + 3
    saved = (tmp_path / "b" / "teacher_answers.json").read_text(encoding="utf-8")
    assert json.loads(saved) == ["答案", "", "答案", "答案"] and "答案" in saved
    wanted = torch.tensor(
        AutoTokenizer.from_pretrained(texts / "tiny-model")("答案", add_special_tokens=False)["input_ids"]
    )
    targets = [item.batch.targets for step in range(more.steps) for item in more.source(step)]
    assert sum(_is(target, wanted) for target in targets) == 3
    capture(config(texts, tmp_path / "b", teacher_answers=4, **once), monkeypatch)
    assert calls == [4]  # what it said is read back


def _is(target: Tensor, wanted: Tensor) -> bool:
    return len(target) == len(wanted) + 1 and torch.equal(target[:-1], wanted)
