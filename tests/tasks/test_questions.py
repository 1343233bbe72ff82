from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from bessemer.data.records import Example, Prompt, read_records, write_records
from bessemer.errors import UserError
from bessemer.tasks.judge import judge
from bessemer.tasks.questions import attribute_prompts, conversations, prompts
from bessemer.tasks.wordings import load_wordings
from tasks.task_samples import HELMETS, IMAGE, cells, solar


def test_conversations_speak_the_labels_and_show_the_image_once() -> None:
    made = conversations(solar(), cells(), 3)
    assert {c.task for c in made} == {
        "defect",
        "severity",
        "cell_type",
        "report",
        "dialogue",
        "unanswerable",
        "action",
    }
    for conversation in made:
        assert [m.role for m in conversation.messages] == ["user", "assistant"] * (len(conversation.messages) // 2)
        assert conversation.messages[0].images == (IMAGE,)
        assert not any(message.images for message in conversation.messages[1:])
        assert conversation.scene == "equipment"
        if conversation.task == "defect":
            defective = conversation.id.startswith(("moderate", "severe"))
            assert conversation.messages[1].text.startswith("Yes" if defective else "No")
    talk = next(c for c in made if c.task == "dialogue")
    assert len(talk.messages) == 6


def test_weights_say_how_many_conversations(tmp_path: Path) -> None:
    wordings = solar()
    many = [Example(f"c{i}", IMAGE, {"severity": "none", "defect": "no", "cell_type": "mono"}) for i in range(400)]
    counts = Counter(c.task for c in conversations(wordings, many, 0))
    for name, task in wordings.tasks.items():
        # binomial: four standard deviations of sqrt(400 p (1 - p)) <= 10
        assert abs(counts[name] - 400 * task.weight) <= 40, name
    assert counts["defect"] == counts["severity"] == 400


def test_the_weight_of_an_example_is_its_conversations() -> None:
    example = Example("a", IMAGE, {"defect": "no", "severity": "slight", "cell_type": "mono"}, weight=0.33)
    assert {c.weight for c in conversations(solar(), [example], 0)} == {0.33}


def test_same_seed_same_records_and_another_seed_others() -> None:
    wordings = solar()
    assert conversations(wordings, cells(), 1) == conversations(wordings, cells(), 1)
    assert conversations(wordings, cells(), 1) != conversations(wordings, cells(), 2)
    assert prompts(wordings, cells(), "bank", 1) == prompts(wordings, cells(), "bank", 1)
    # an example's wording does not depend on which others there are
    alone = {c.id: c for c in conversations(wordings, cells()[3:4], 1)}
    assert all(c == alone[c.id] for c in conversations(wordings, cells(), 1) if c.id in alone)


def test_system_messages_come_first() -> None:
    assert conversations(solar(), cells()[:1], 0, system="Be brief.")[0].messages[0].role == "system"
    assert prompts(solar(), cells()[:1], "bank", 0, system="Be brief.")[0].messages[0].text == "Be brief."


def asked_texts(part: str) -> set[str]:
    if part == "train":
        return {m.text for c in conversations(solar(), cells(), 0) for m in c.messages if m.role == "user"}
    which = "bank" if part == "bank" else "test"
    return {m.text for p in prompts(solar(), cells(), which, 0, rounds=2) for m in p.messages if m.role == "user"}


def test_phrases_stand_for_their_names_in_answers(tmp_path: Path) -> None:
    path = tmp_path / "w.yaml"
    text = """\
    attributes: {class: {values: [ok, big crack]}}
    tasks:
      report:
        kind: report
        attributes: [class]
        questions: {train: [T], bank: [B], test: [E]}
        answers: ["{class} is seen. {class} it is"]
    """
    path.write_text(text, encoding="utf-8")
    (made,) = conversations(load_wordings(path), [Example("a", IMAGE, {"class": "big crack"})], 0)
    assert made.messages[1].text == "Big crack is seen. Big crack it is."


def test_parts_share_no_wording() -> None:
    train, bank, test = map(asked_texts, ("train", "bank", "test"))
    assert not (train & bank or train & test or bank & test)


def test_every_prefix_holds_the_tasks_by_their_weights() -> None:
    wordings = solar()
    many = [Example(f"c{i}", IMAGE, {"severity": "none", "defect": "no", "cell_type": "mono"}) for i in range(60)]
    made = prompts(wordings, many, "bank", 0)
    assert len(made) == 60 * len(wordings.tasks)  # each task of each example once in the end
    total = sum(task.weight for task in wordings.tasks.values())
    for n in (20, 50, 100):
        counts = Counter(prompt.task for prompt in made[:n])
        for name, task in wordings.tasks.items():
            assert abs(counts[name] - n * task.weight / total) <= 1.01, (n, name)
    assert prompts(wordings, many, "bank", 0, limit=17) == made[:17]


def test_questions_about_one_example_follow_one_another() -> None:
    examples = cells()
    asked = attribute_prompts(solar(), examples, ["defect", "severity"], 0)
    assert [prompt.provenance["example"] for prompt in asked] == [e.id for e in examples for _ in range(2)]
    assert {prompt.task for prompt in asked} == {"defect", "severity"}
    same = {prompt.id: prompt for prompt in prompts(solar(), examples, "test", 0)}
    assert all(same[prompt.id] == prompt for prompt in asked)


def test_rounds_ask_in_other_words() -> None:
    first = {(p.provenance["example"], p.task): p for p in prompts(solar(), cells(), "bank", 0)}
    both = prompts(solar(), cells(), "bank", 0, rounds=2)
    assert len(both) == 2 * len(first) and len({p.id for p in both}) == len(both)
    for prompt in both[len(first) :]:
        before = first[prompt.provenance["example"], prompt.task]
        assert prompt.messages != before.messages


def test_facts_hold_what_a_judge_needs() -> None:
    example = Example("a", IMAGE, {"defect": "no", "severity": "slight", "cell_type": "mono"}, soft={"defect": 1 / 3})
    found = {p.task: p for p in prompts(solar(), [example], "test", 0)}
    facts = found["defect"].facts
    assert (facts["rule"], facts["kind"], facts["asked"]) == ("attributes", "attribute", ["defect"])
    assert facts["expected"] == {"defect": "no"} and facts["choices"] == {"no": "No", "yes": "Yes"}
    assert facts["labels"] == {"defect": "no", "severity": "slight", "cell_type": "mono", "action": "watch"}
    assert facts["soft"] == {"defect": 1 / 3}
    assert facts["attributes"]["severity"]["values"] == ["none", "slight", "moderate", "severe"]
    assert facts["attributes"]["action"]["advice"] is True
    low, high = facts["length"]
    assert (low, high) == (
        5,
        11,
    )  # "Yes, the cell is faulty." to "No, the cell looks sound. Photograph it again next time."
    assert found["dialogue"].facts["turn"] in ("severity", "action")
    assert found["dialogue"].facts["kind"] == "dialogue"
    assert found["unanswerable"].facts["rule"] == "unanswerable" and found["unanswerable"].facts["asked"] == []


def test_dialogue_prompts_are_answered_truly_up_to_the_last_question() -> None:
    talks = [p for p in prompts(solar(), cells(), "bank", 0) if p.task == "dialogue"]
    assert {len(p.messages) for p in talks} == {3, 5}
    for prompt in talks:
        first = prompt.messages[1].text
        assert first.startswith("Yes" if prompt.facts["labels"]["defect"] == "yes" else "No")


def test_unknown_labels_are_left_out_and_unknown_values_refused() -> None:
    example = Example("a", IMAGE, {"cell_type": "mono"})
    assert {c.task for c in conversations(solar(), [example] * 1, 4)} <= {"cell_type", "unanswerable"}
    facts = next(p for p in prompts(solar(), [example], "test", 0) if p.task == "cell_type").facts
    assert set(facts["labels"]) == set(facts["attributes"]) == {"cell_type"}
    with pytest.raises(UserError, match="label cell_type is 'amorphous', expected one of mono, poly"):
        conversations(solar(), [Example("a", IMAGE, {"cell_type": "amorphous"})], 0)


def test_chinese_goes_through_everything(tmp_path: Path) -> None:
    path = tmp_path / "w.yaml"
    path.write_text(HELMETS, encoding="utf-8")
    wordings = load_wordings(path)
    example = Example("图1", IMAGE, {"安全帽": "未佩戴"})
    texts = [m.text for c in conversations(wordings, [example], 0) for m in c.messages]
    assert any("未佩戴安全帽" in text or "没戴安全帽" in text for text in texts)
    made = prompts(wordings, [example], "test", 0)
    write_records(tmp_path / "p.jsonl", made)
    assert "照片里的工人有没有戴好安全帽？" in (tmp_path / "p.jsonl").read_text(encoding="utf-8")
    prompt = next(p for p in read_records(tmp_path / "p.jsonl", Prompt) if p.task == "安全帽")
    right = judge(prompt, "否，图中人员未佩戴安全帽。", True)
    wrong = judge(prompt, "是，图中人员已佩戴安全帽。", True)
    assert right == {
        "truthfulness": 1.0,
        "helpfulness": 1.0,
        "harmlessness": 1.0,
        "fluency": 1.0,
        "clarity": 1.0,
    }
    assert wrong["truthfulness"] == wrong["harmlessness"] == 0.0
