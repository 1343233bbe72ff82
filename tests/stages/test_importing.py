from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
from PIL import Image

import tiny
from bessemer.cli import main
from bessemer.config import Artifact
from bessemer.data.dataset import Dataset
from bessemer.data.foldoc import LICENCE
from bessemer.data.records import Conversation, Example, Ranking, read_records, write_records
from bessemer.errors import UserError
from bessemer.stages.importing import Config, run
from bessemer.tasks.judge import judge
from bessemer.tasks.wordings import load_wordings
from data.test_foldoc import dictionary
from tasks.task_samples import HELMETS

THIRDS = ("0.0", "0.3333333333333333", "0.6666666666666666", "1.0")


@pytest.fixture
def elpv(tmp_path: Path) -> Path:
    """240 tiny cells in the package's layout, the probabilities in turn."""
    images = tmp_path / "elpv" / "data" / "images"
    images.mkdir(parents=True)
    rows = []
    for row in range(1, 241):
        Image.new("L", (2, 2), row).save(images / f"cell{row:04d}.png")
        rows.append(f"images/cell{row:04d}.png  {THIRDS[row % 4]:<20} {'mono' if row <= 120 else 'poly'}\n")
    (images.parent / "labels.csv").write_text("".join(rows))
    return tmp_path / "elpv"


def config(tmp_path: Path, **values: object) -> Config:
    return Config(output_dir=str(tmp_path / "out"), general_documents=6, **values)  # type: ignore[arg-type]


def questions(records: object) -> set[str]:
    return {m.text for record in records for m in record.messages if m.role == "user"}  # type: ignore[attr-defined]


def test_an_import_takes_the_general_text_that_this_python_has(
    elpv: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = config(tmp_path, data=str(elpv), bank_prompts=0, ppo_prompts=0)
    made.general_documents = 500
    count = len(Dataset(run(made)).documents("test")) + len(Dataset(tmp_path / "out").documents("train"))
    assert 60 <= count < 500
    assert f"{count} paragraphs of general text, all that this Python has of the 500" in capsys.readouterr().err


def test_elpv(elpv: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = run(config(tmp_path, data=str(elpv), bank_prompts=50, ppo_prompts=120))
    dataset = Dataset(out)
    examples = dataset.examples()
    assert len(examples) == 240 and len(dataset.examples("test")) == 60
    assert load_wordings(out / "wordings.yaml").tasks["defect"].kind == "attribute"
    rank, ppo, heldout = (dataset.prompts(name) for name in ("rank", "ppo", "heldout"))
    assert (len(rank), len(ppo), len(heldout)) == (50, 120, 60 * 7)
    split = {example.id: example.split for example in examples}
    assert {split[p.provenance["example"]] for p in rank + ppo} == {"train"}
    assert {split[p.provenance["example"]] for p in heldout} == {"test"}
    for part in ("train", "val", "test"):
        assert {split[c.provenance["example"]] for c in dataset.conversations(part)} == {part}
    learned = questions(dataset.conversations("train") + dataset.conversations("val"))
    assert (
        not learned & questions(rank + ppo)
        and not learned & questions(heldout)
        and not questions(rank + ppo) & questions(heldout)
    )
    assert not {(p.provenance["example"], p.task) for p in rank} & {(p.provenance["example"], p.task) for p in ppo}
    assert len(dataset.documents("train")) + len(dataset.documents("test")) == 6
    weights = {e.labels["severity"]: e.weight for e in examples}
    assert weights == {"none": 1.0, "slight": 0.33, "moderate": 0.67, "severe": 1.0}
    printed = capsys.readouterr().out
    assert "format: elpv, split p1" in printed and "first defect:\n  > [cell" in printed and "\n  < " in printed
    facts = json.loads((out / "manifest.json").read_text(encoding="utf-8"))["facts"]
    assert facts["dataset"] == "elpv" and facts["split"] == "p1" and "BY-NC-SA" in facts["licences"][0]


def test_elpv_by_modules(elpv: Path, tmp_path: Path) -> None:
    out = run(config(tmp_path, data=str(elpv), split="p2", max_train=20, heldout_prompts=5, ppo_prompts=0))
    groups: dict[str, set[str]] = {}
    for example in Dataset(out).examples():
        groups.setdefault(example.group, set()).add(example.split)
    assert len(groups) == 4 and all(len(splits) == 1 for splits in groups.values())


def test_every_gold_answer_of_the_import_is_true(elpv: Path, tmp_path: Path) -> None:
    out = run(config(tmp_path, data=str(elpv), heldout_prompts=5, bank_prompts=100, ppo_prompts=0))
    for prompt in Dataset(out).prompts("rank"):
        assert (judge(prompt, prompt.facts["reference"], True)["truthfulness"] or 0) >= 0.85


def test_limits(elpv: Path, tmp_path: Path) -> None:
    out = run(
        config(
            tmp_path,
            data=str(elpv),
            max_train=20,
            max_test=8,
            bank_prompts=5,
            ppo_prompts=7,
            heldout_prompts=9,
        )
    )
    dataset = Dataset(out)
    assert Counter(example.split for example in dataset.examples()) == {"train": 20, "val": 18, "test": 8}
    assert [len(dataset.prompts(name)) for name in ("rank", "ppo", "heldout")] == [5, 7, 9]
    assert len({c.provenance["example"] for c in dataset.conversations("train")}) == 20


def test_more_prompts_than_questions_are_asked_in_other_words(elpv: Path, tmp_path: Path) -> None:
    out = run(config(tmp_path, data=str(elpv), max_train=4, bank_prompts=20, ppo_prompts=30))
    rank, ppo = Dataset(out).prompts("rank"), Dataset(out).prompts("ppo")
    assert (len(rank), len(ppo)) == (20, 30)  # 4 photographs x 7 tasks = 28 in the first wording
    asked = [(p.provenance["example"], "|".join(m.text for m in p.messages)) for p in rank + ppo]
    assert len(set(asked)) == 50


def test_same_inputs_same_bytes(elpv: Path, tmp_path: Path) -> None:
    first = run(config(tmp_path / "a", data=str(elpv), max_train=30, heldout_prompts=30, ppo_prompts=40, seed=5))
    second = run(config(tmp_path / "b", data=str(elpv), max_train=30, heldout_prompts=30, ppo_prompts=40, seed=5))
    other = run(config(tmp_path / "c", data=str(elpv), max_train=30, heldout_prompts=30, ppo_prompts=40, seed=6))
    names = sorted(path.name for path in first.glob("*.jsonl"))
    assert {
        "examples.jsonl",
        "train.jsonl",
        "rank.jsonl",
        "ppo.jsonl",
        "heldout.jsonl",
        "general.jsonl",
    } <= set(names)
    assert all((first / name).read_bytes() == (second / name).read_bytes() for name in names)
    assert (first / "train.jsonl").read_bytes() != (other / "train.jsonl").read_bytes()


# The same wordings for labels that come from folders.
OF_FOLDERS = HELMETS.replace("安全帽:\n    values", "class:\n    values")
OF_FOLDERS = OF_FOLDERS.replace("attribute: 安全帽", "attribute: class")


def photographs(root: Path, classes: dict[str, int]) -> Path:
    for number, (name, count) in enumerate(classes.items()):
        (root / name).mkdir(parents=True)
        for i in range(count):
            Image.new("RGB", (40, 40), (40 * number, 5 * i, 90)).save(root / name / f"{i}.png")
    return root


def test_folder_with_generic_wordings(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = photographs(tmp_path / "parts", {"crack": 12, "ok": 12})
    (folder / "ok" / "notes.txt").write_text("x")
    out = run(config(tmp_path, source="folder", data=str(folder), scene="equipment"))
    assert load_wordings(out / "wordings.yaml").attributes["class"].positive == "crack"
    assert {c.scene for c in Dataset(out).conversations("train")} == {"equipment"}
    printed = capsys.readouterr().out
    assert "24 photographs, labels from sub-folders" in printed and "class: crack 12, ok 12" in printed
    assert "format: parts, class folders" in printed


def test_folder_with_own_wordings_in_chinese(tmp_path: Path) -> None:
    folder = photographs(tmp_path / "工地", {"佩戴": 12, "未佩戴": 12})
    (tmp_path / "安全帽.yaml").write_text(OF_FOLDERS, encoding="utf-8")
    out = run(config(tmp_path, source="folder", data=str(folder), wordings=str(tmp_path / "安全帽.yaml")))
    assert (out / "wordings.yaml").read_bytes() == (tmp_path / "安全帽.yaml").read_bytes()
    conversation = next(c for c in Dataset(out).conversations("train") if c.task == "安全帽")
    assert "安全帽" in conversation.messages[1].text
    assert "工地" in conversation.messages[0].images[0].path


def test_a_label_that_the_wordings_do_not_know(tmp_path: Path) -> None:
    folder = photographs(tmp_path / "parts", {"佩戴": 4, "歪戴": 4})
    wordings = tmp_path / "w.yaml"
    wordings.write_text(OF_FOLDERS, encoding="utf-8")
    with pytest.raises(UserError, match="label class is '歪戴', expected one of 佩戴, 未佩戴"):
        run(config(tmp_path, source="folder", data=str(folder), wordings=str(wordings)))


def test_errors_in_own_wordings_name_the_users_file(tmp_path: Path) -> None:
    folder = photographs(tmp_path / "parts", {"a": 4, "b": 4})
    (tmp_path / "mine.yaml").write_text("attributes: {}\n")
    with pytest.raises(UserError, match=r"mine.yaml:1: .*'tasks' is missing"):
        run(config(tmp_path, source="folder", data=str(folder), wordings=str(tmp_path / "mine.yaml")))


def test_alpaca_records(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"instruction": f"问题{i}？", "output": f"这是第{i}个答案，请放心。"} for i in range(40)]
    path = tmp_path / "qa.json"
    path.write_text(json.dumps(rows, ensure_ascii=False), encoding="utf-8")
    out = run(config(tmp_path, source="records", data=str(path), bank_prompts=4, ppo_prompts=6))
    dataset = Dataset(out)
    sizes = {part: len(dataset.conversations(part)) for part in ("train", "val", "test")}
    assert sizes == {
        "test": 10,
        "val": 2,
        "train": 20,
    }  # a quarter of 40; a quarter of 30 (8) is asked; a tenth of 22
    rank, ppo, heldout = (dataset.prompts(name) for name in ("rank", "ppo", "heldout"))
    assert (len(rank), len(ppo), len(heldout)) == (4, 4, 10)
    assert not questions(dataset.conversations("train")) & questions(rank + ppo + heldout)
    prompt = heldout[0]
    assert prompt.facts["rule"] == "text" and judge(prompt, prompt.facts["reference"], True)["truthfulness"] == 1.0
    printed = capsys.readouterr().out
    assert "format: alpaca" in printed and "> 问题" in printed
    assert not (out / "examples.jsonl").exists() and dataset.examples() == []


def test_photographs_that_change_are_imported_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = photographs(tmp_path / "parts", {"crack": 12, "ok": 12})
    rows = [{"kind": "example", "id": f"{name}{i}", "image": {"path": f"{name}/{i}.png"}, "labels": {"class": name}}
            for name in ("crack", "ok") for i in range(12)]  # fmt: skip
    (tmp_path / "y.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    words = ["import", "source=records", f"data={tmp_path / 'y.jsonl'}", f"image_root={folder}", "general_documents=0"]
    words += [f"output_dir={tmp_path / 'out'}"]
    before = []
    for end in ("running", "up to date"):
        assert main(words) == 0 and f"import: {end}" in capsys.readouterr().out
        before = Dataset(tmp_path / "out").examples()
    Image.new("RGB", (40, 40), (1, 2, 3)).save(folder / "ok" / "3.png")
    assert main(words) == 0 and "import: running" in capsys.readouterr().out
    changed = [a.id for a, b in zip(before, Dataset(tmp_path / "out").examples(), strict=True) if a.image != b.image]
    assert changed == ["ok3"]


def test_preferences_become_rankings(tmp_path: Path) -> None:
    path = tmp_path / "pairs.jsonl"
    path.write_text(
        "".join(json.dumps({"prompt": f"q{i}", "chosen": "good", "rejected": "bad"}) + "\n" for i in range(3))
    )
    out = run(config(tmp_path, source="records", data=str(path)))
    assert [r.ranks["preference"] for r in read_records(out / "rankings.jsonl", Ranking)] == [(1, 2)] * 3


def test_own_examples_go_the_way_of_photographs(tmp_path: Path) -> None:
    folder = photographs(tmp_path / "parts", {"crack": 12, "ok": 12})
    first = run(config(tmp_path / "a", source="folder", data=str(folder)))
    out = run(config(tmp_path / "b", source="records", data=str(first / "examples.jsonl")))
    assert (out / "train.jsonl").read_bytes() == (first / "train.jsonl").read_bytes()
    assert read_records(out / "examples.jsonl", Example) == read_records(first / "examples.jsonl", Example)


def test_bad_rows_stop_or_are_written_aside(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "qa.jsonl"
    rows = [json.dumps({"instruction": f"q{i}", "output": f"answer {i}"}) for i in range(20)]
    path.write_text("\n".join([*rows[:3], '{"instruction": "q", "output": 7}', *rows[3:]]) + "\n")
    with pytest.raises(UserError, match=r"qa.jsonl:4: "):
        run(config(tmp_path / "a", source="records", data=str(path)))
    out = run(config(tmp_path / "b", source="records", data=str(path), skip_bad=True))
    assert json.loads((out / "bad.jsonl").read_text())["line"] == 4
    assert "1 of 21 rows are bad" in capsys.readouterr().err


def test_a_conversation_that_stands_twice_counts_once(tmp_path: Path) -> None:
    path = tmp_path / "qa.jsonl"
    rows = [{"instruction": f"Q{i % 10}", "output": "the very same answer"} for i in range(40)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    out = run(config(tmp_path, source="records", data=str(path), bank_share=0.2))
    total = sum(len(read_records(out / f"{part}.jsonl", Conversation)) for part in ("train", "val", "test"))
    assert total == 8  # ten different ones, two of them asked


def test_other_answers_to_a_question_are_learnt_beside_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "qa.jsonl"
    rows = [{"instruction": f"Q{i % 10}", "output": f"answer {i // 10 % 2}"} for i in range(40)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    out = run(config(tmp_path, source="records", data=str(path), test_share=0.3, bank_share=0.3, val_share=0.0))
    dataset = Dataset(out)
    assert "20 conversations stand twice and count once" in capsys.readouterr().err
    assert [len(dataset.conversations(part)) for part in ("train", "test")] == [2 * 5, 2 * 3]  # of 5 and 3 questions
    asked = [prompt for name in ("rank", "ppo") for prompt in dataset.prompts(name)]
    assert len(asked) == 2 and len(dataset.prompts("heldout")) == 3
    assert {prompt.facts["reference"] for prompt in [*asked, *dataset.prompts("heldout")]} == {"answer 0"}


def test_a_photograph_of_records_is_on_one_side(tmp_path: Path) -> None:
    folder = photographs(tmp_path / "parts", {"crack": 10, "ok": 10})
    turns = [
        {"conversations": [{"from": "human", "value": f"<image>\nQuestion {k}?"}, {"from": "gpt", "value": f"A{k}."}],
         "images": [str(path.relative_to(folder))]}
        for path in sorted(folder.rglob("*.png")) for k in range(5)
    ]  # fmt: skip
    (folder / "llava.json").write_text(json.dumps(turns))
    out = run(config(tmp_path, source="records", data=str(folder / "llava.json"), bank_prompts=9, ppo_prompts=9))
    dataset = Dataset(out)
    parts = {name: dataset.conversations(name) for name in ("train", "val", "test")}
    shown = {name: {c.messages[0].images[0].sha256 for c in some} for name, some in parts.items()}
    shown["bank"] = {p.messages[0].images[0].sha256 for name in ("rank", "ppo") for p in dataset.prompts(name)}
    assert len(shown["test"]) == 5 and sum(map(len, shown.values())) == len(set().union(*shown.values())) == 20
    groups = {c.messages[0].images[0].sha256: c.provenance["group"] for c in parts["train"]}
    assert len(set(groups.values())) == len(groups) and len(parts["train"]) == 5 * len(groups)


def test_wanted_files_are_asked_for(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="source folder: no `data`"):
        run(config(tmp_path, source="folder"))


def test_pydocs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = run(config(tmp_path, source="pydocs", max_train=200, bank_prompts=30, ppo_prompts=50, heldout_prompts=20))
    dataset = Dataset(out)
    assert len(dataset.conversations("train")) == 200
    assert [len(dataset.prompts(name)) for name in ("rank", "ppo", "heldout")] == [30, 50, 20]
    assert "format: pydocs" in capsys.readouterr().out
    assert not (out / "wordings.yaml").exists()


def test_foldoc(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = {(f"term{i}",): f"Term{i}\n\n   The definition of term {i} in words.\n\n" for i in range(80)}
    folder = dictionary(tmp_path / "dictd", words)
    out = run(config(tmp_path, source="foldoc", data=str(folder), bank_prompts=8, ppo_prompts=20))
    dataset = Dataset(out)
    # 80: a quarter measured on, a quarter asked in two wordings, a tenth for validation, the rest learnt.
    assert [len(dataset.conversations(part)) for part in ("train", "val", "test")] == [32, 8, 20]
    assert [len(dataset.prompts(name)) for name in ("rank", "ppo", "heldout")] == [8, 20, 20]
    assert "format: foldoc" in capsys.readouterr().out
    facts = json.loads((out / "manifest.json").read_bytes())["facts"]
    assert (facts["dataset"], facts["split"], facts["licences"]) == ("foldoc", "own", [LICENCE])
    with pytest.raises(UserError, match="apt install dict-foldoc"):
        run(config(tmp_path / "b", source="foldoc", data=str(tmp_path)))


def test_records_written_here_can_be_imported_again(tmp_path: Path) -> None:
    first = run(config(tmp_path / "a", source="pydocs", max_train=60, bank_prompts=5, ppo_prompts=5, heldout_prompts=5))
    write_records(tmp_path / "again.jsonl", Dataset(first).conversations("train"))
    out = run(config(tmp_path / "b", source="records", data=str(tmp_path / "again.jsonl")))
    assert len(Dataset(out).conversations("test")) == 15


def test_a_small_folder_has_questions_for_rank_and_for_ppo(tmp_path: Path) -> None:
    """With as few photographs rank alone would take them all, and ppo would find none hours later."""
    folder = tiny.photographs(tmp_path / "photos", 12)
    out = run(Config(source="folder", data=Artifact(str(folder)), general_documents=0, output_dir=str(tmp_path / "a")))
    rank, ppo = (Dataset(out).prompts(name) for name in ("rank", "ppo"))
    assert 0 < len(rank) < 400 and len(ppo) in (3 * len(rank), 3 * len(rank) - 1, 3 * len(rank) - 2, 3 * len(rank) - 3)
