from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from bessemer.data.dataset import Dataset
from bessemer.data.records import Message, Prompt, Ranking, read_records, write_records
from bessemer.errors import UserError
from bessemer.stages import rank
from bessemer.stages.rank import Config, run, with_borrowed, with_flawed
from bessemer.tasks.ai_judge import AiJudge
from bessemer.tasks.graded import worse_answers
from bessemer.tasks.judge import PRINCIPLES
from tasks.picture_samples import all_prompts
from tasks.stub_server import Reply, completion, serving


def config(shop: Path, out: Path, **values: object) -> Config:
    settled: dict[str, object] = {
        "model_name_or_path": str(shop / "sft"),
        "dataset": str(shop / "import"),
        "dtype": "fp32",
        "num_generations": 3,
        "response_length": 6,
        **values,
    }
    return Config(output_dir=str(out), **settled)  # type: ignore[arg-type]


def rankings(out: Path, name: str = "rankings.jsonl") -> list[Ranking]:
    return read_records(out / name, Ranking)


def test_k_answers_to_each_question_and_everybody_orders_them(shop: Path, tmp_path: Path) -> None:
    out = run(config(shop, tmp_path / "rank", rankers=["rules", "simulated"], simulated_noise=[0.05, 0.3]))
    prompts = Dataset(shop / "import").prompts("rank")
    found = rankings(out)
    names = {"rules", "simulated-1-noise-0.05", "simulated-2-noise-0.3"}
    assert Counter(ranking.annotator for ranking in found) == Counter(dict.fromkeys(names, len(prompts)))
    answers = rankings(out, "answers.jsonl")
    noted = {"temperatures": [1.0] * 3}
    assert [answer.prompt for answer in answers] == [
        replace(prompt, provenance=prompt.provenance | noted) for prompt in prompts
    ]
    assert all(len(answer.responses) == 3 and set(answer.ranks) == set(PRINCIPLES) for answer in answers)
    assert all(rank is None for answer in answers for ranks in answer.ranks.values() for rank in ranks)
    said = {answer.id: answer.responses for answer in answers}
    assert all(ranking.responses == said[ranking.id] for ranking in found)
    assert len({response for answer in answers for response in answer.responses}) > len(prompts)
    kinds = {ranking.annotator: ranking.provenance["ranker"] for ranking in found}
    assert kinds == {name: "rules" if name == "rules" else "simulated" for name in names}
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["facts"]["annotator"] == ", ".join(sorted(names))
    assert manifest["summary"] == {"prompts": len(prompts), "answers": 3 * len(prompts), "rankings": 3 * len(prompts)}
    agreement = json.loads((out / "agreement.json").read_text())
    assert set(agreement) == set(PRINCIPLES)
    assert agreement["truthfulness"]["annotators"] == 3 and agreement["truthfulness"]["pairs"] == 3 * 3 * len(prompts)
    assert not (out / "parts").exists()


def test_equal_answers_are_ties(shop: Path, tmp_path: Path) -> None:
    out = run(config(shop, tmp_path / "rank", temperatures=[0.0], max_prompts=2))
    for ranking in rankings(out):
        assert len(set(ranking.responses)) == 1
        assert all(ranks == (1, 1, 1) for ranks in ranking.ranks.values())
    assert len(rankings(out)) == 2
    agreement = json.loads((out / "agreement.json").read_text())
    assert agreement["clarity"] == {
        "alpha": None, "alpha_interval": None, "pair_agreement": None, "pair_interval": None, "tau_b": None,
        "pairs": 0, "annotators": 0, "flagged": None, "weight": 1.0,
    }  # fmt: skip


def test_answers_take_temperatures_in_turn(shop: Path, tmp_path: Path) -> None:
    """At 0 the same is said every time; only the others differ, and they stand where their temperature does."""
    turns = {"num_generations": 5, "temperatures": [0.0, 2.0], "max_prompts": 4}
    found = rankings(run(config(shop, tmp_path / "rank", **turns)), "answers.jsonl")
    assert all(len({ranking.responses[i] for i in (0, 2, 4)}) == 1 for ranking in found)
    assert any(ranking.responses[1] != ranking.responses[0] for ranking in found)
    assert any(ranking.responses[1] != ranking.responses[3] for ranking in found)


def test_answers_are_borrowed_from_other_questions(shop: Path, tmp_path: Path) -> None:
    out = run(config(shop, tmp_path / "rank", num_generations=2, borrowed_answers=2))
    found = rankings(out)
    own: dict[str, set[str]] = {}
    for ranking in found:
        own.setdefault(ranking.prompt.task, set()).update(ranking.responses[:2])
    assert any(len(ranking.responses) == 4 for ranking in found)
    for ranking in found:
        borrowed = ranking.responses[2:]
        assert not set(borrowed) & set(ranking.responses[:2]) and len(set(borrowed)) == len(borrowed)
        assert len(borrowed) < 2 or borrowed[0] in own[ranking.prompt.task]
        assert ranking.prompt.provenance["temperatures"] == [1.0, 1.0] and len(ranking.ended) == len(ranking.responses)
    assert any(ranking.responses[-1] not in own[ranking.prompt.task] for ranking in found)
    assert rankings(run(config(shop, tmp_path / "again", num_generations=2, borrowed_answers=2))) == found


def test_each_temperature_has_numbers_of_its_own(shop: Path, tmp_path: Path) -> None:
    """The same numbers at neighbouring temperatures would give the same answers."""
    turns = {"num_generations": 2, "max_prompts": 12, "response_length": 8}
    found = rankings(run(config(shop, tmp_path / "rank", **turns, temperatures=[1.0, 1.0001])), "answers.jsonl")
    differing = sum(ranking.responses[0] != ranking.responses[1] for ranking in found)
    other = rankings(run(config(shop, tmp_path / "other", **turns)), "answers.jsonl")
    assert differing >= 0.7 * sum(ranking.responses[0] != ranking.responses[1] for ranking in other) > 0


def test_answers_of_an_earlier_run_are_ranked_as_they_are(
    shop: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What people ranked stays what they ranked, whatever the model would say now; nothing is sampled."""
    first = run(config(shop, tmp_path / "first", borrowed_answers=1))
    blank = rankings(first, "answers.jsonl")
    people = [
        replace(one, annotator="ann", ranks={"clarity": tuple(range(1, len(one.responses) + 1))}) for one in blank
    ]
    people.append(replace(people[0], id="x", prompt=replace(people[0].prompt, id="elsewhere")))
    write_records(tmp_path / "snapshot" / "rankings.jsonl", people)
    again = {"rankers": ["people"], "people_files": [str(tmp_path / "snapshot")], "answers": str(first), "seed": 5}
    out = run(config(shop, tmp_path / "second", **again, model_name_or_path="nowhere"))
    assert rankings(out, "answers.jsonl") == blank
    assert [one.ranks for one in rankings(out)] == [one.ranks for one in people[:-1]]
    assert "passed over rankings of 1 prompts" in capsys.readouterr().err
    with pytest.raises(UserError, match="no such file, expected answers.jsonl of a rank stage"):
        run(config(shop, tmp_path / "third", answers=str(tmp_path)))


def test_answers_are_borrowed_in_turn_of_the_same_task_and_of_another() -> None:
    ask = [Prompt(str(i), (Message("user", "?"),), task, None, {}) for i, task in enumerate("aab")]
    given = [[("x", True)], [("y", False), ("x", True)], [("z", True)]]
    found = with_borrowed(ask, given, 2, seed=0)
    assert found[0] == [("x", True), ("y", False), ("z", True)]  # of another photograph, then of another question
    assert found[1] == [*given[1], ("z", True)]  # no other answer to its question is there
    assert found[2][0] == ("z", True) and found[2][1] in {("x", True), ("y", False)} and len(found[2]) == 2
    alone = [given[0], given[0]]
    assert with_borrowed(ask[:2], alone, 3, seed=0) == alone


def test_answers_of_a_rare_task_are_borrowed_as_often_as_those_of_a_common_one() -> None:
    """So that a reward model sees what few answers say, such as that something cannot be seen."""
    tasks = ["asked"] * 60 + ["common"] * 60 + ["rare"] * 3
    ask = [Prompt(str(i), (Message("user", "?"),), task, None, {}) for i, task in enumerate(tasks)]
    given = [[(f"{task} {i}", True)] for i, task in enumerate(tasks)]
    strange = [found[-1][0].split()[0] for found in with_borrowed(ask, given, 2, seed=0)[:60]]
    assert set(strange) == {"common", "rare"} and 15 <= strange.count("rare") <= 45


def test_flawed_answers_stand_behind_the_others(shop: Path, tmp_path: Path) -> None:
    plain = run(config(shop, tmp_path / "plain", borrowed_answers=1))
    out = run(config(shop, tmp_path / "rank", borrowed_answers=1, flawed_answers=1))
    pairs = list(zip(rankings(plain), rankings(out), strict=True))
    assert any(len(one.responses) > len(other.responses) for other, one in pairs)
    for other, one in pairs:
        assert one.responses[: len(other.responses)] == other.responses
        assert one.prompt.provenance["temperatures"] == [1.0] * 3
    assert rankings(run(config(shop, tmp_path / "again", borrowed_answers=1, flawed_answers=1))) == rankings(out)


def test_flaws_are_made_of_ones_own_answers_and_of_the_annotation() -> None:
    prompts = [*all_prompts("en")[:40], Prompt("plain", (Message("user", "?"),))]
    given = [[("Yes, it is so.", True), ("A borrowed one!", True)]] * len(prompts)
    found = with_flawed(prompts, given, 1, 2, seed=0)
    for prompt, mine in zip(prompts, found, strict=True):
        assert mine[:2] == given[0] and len(mine) == 4 or not worse_answers(prompt)
        assert "borrowed" not in mine[2][0] and "es" in mine[2][0]
        assert not worse_answers(prompt) or mine[3][0] in worse_answers(prompt)
    assert len({mine[2] for mine in found}) > 8
    assert with_flawed(prompts[-1:], [[("", True)]], 1, 2, seed=0) == [[("", True)]]  # nothing to spoil


@pytest.mark.parametrize(
    ("wrong", "what"),
    [({"temperatures": []}, "temperatures"), ({"temperatures": [1.0, -1.0]}, "temperatures"),
     ({"borrowed_answers": -1}, "borrowed_answers"), ({"flawed_answers": -1}, "flawed_answers")],
)  # fmt: skip
def test_what_cannot_be_drawn_is_an_error(shop: Path, tmp_path: Path, wrong: dict[str, object], what: str) -> None:
    with pytest.raises(UserError, match=f"{what}=.*expected"):
        run(config(shop, tmp_path / "rank", **wrong))


def test_people_fill_in_what_was_sampled(shop: Path, tmp_path: Path) -> None:
    first = run(config(shop, tmp_path / "first"))
    blank = rankings(first, "answers.jsonl")
    filled = [
        replace(answer, annotator="王工", ranks={"truthfulness": (2, 1, 3), "fluency": (1, None, 1)})
        for answer in blank[:3]
    ]
    write_records(tmp_path / "people.jsonl", filled)
    people = {"rankers": ["people", "rules"], "people_files": [str(tmp_path / "people.jsonl")]}
    out = run(config(shop, tmp_path / "second", **people))
    mine = [ranking for ranking in rankings(out) if ranking.annotator == "王工"]
    assert [(ranking.id, ranking.ranks) for ranking in mine] == [(answer.id, answer.ranks) for answer in filled]
    assert all(ranking.provenance["ranker"] == "people" for ranking in mine)
    assert len(rankings(out)) == 3 + len(blank)
    agreement = json.loads((out / "agreement.json").read_text(encoding="utf-8"))
    assert agreement["truthfulness"]["annotators"] == 2 and agreement["truthfulness"]["pairs"] == 9
    assert agreement["fluency"]["pairs"] == 3 and agreement["clarity"]["pairs"] == 0
    assert "王工" in json.loads((out / "manifest.json").read_text(encoding="utf-8"))["facts"]["annotator"]
    others = [replace(answer, responses=("甲", "乙", "丙")) for answer in filled]
    write_records(tmp_path / "people.jsonl", others)
    with pytest.raises(UserError, match="the answers differ"):
        run(config(shop, tmp_path / "third", **people))


def test_agreement_is_measured_and_weighs(shop: Path, tmp_path: Path) -> None:
    """Two people of one mind about one principle and of opposite minds about another."""
    first = run(config(shop, tmp_path / "first"))
    for name, harmless in (("a", (1, 2, 3)), ("b", (3, 2, 1))):
        filled = [
            replace(answer, annotator=name, ranks={"truthfulness": (3, 1, 2), "harmlessness": harmless})
            for answer in rankings(first, "answers.jsonl")
        ]
        write_records(tmp_path / f"{name}.jsonl", filled)
    files = [str(tmp_path / "a.jsonl"), str(tmp_path / "b.jsonl")]
    out = run(config(shop, tmp_path / "second", rankers=["people"], people_files=files))
    agreement = json.loads((out / "agreement.json").read_text())
    same, opposite = agreement["truthfulness"], agreement["harmlessness"]
    assert (same["alpha"], same["tau_b"], same["pair_agreement"]) == (1.0, 1.0, 1.0)
    assert (same["flagged"], same["weight"]) == (False, 1.0)
    assert opposite["alpha"] < 0 and opposite["tau_b"] == -1.0 and opposite["pair_agreement"] == 0.0
    assert (opposite["flagged"], opposite["weight"]) == (True, 0.0)


def test_what_a_judge_said_is_not_asked_again(
    shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Stopped behind three of eight prompts; the second verdict could not be read, and is asked for once more."""
    judged = {"rankers": ["ai"], "judge_model": "m", "principles": ["clarity"]}
    said = Reply(completion(json.dumps({"clarity": {"A": 1, "B": 2, "C": 3}})))
    monkeypatch.setattr(AiJudge, "retries", 0)
    with serving(said, Reply(completion("I would rather not.")), said, Reply("{}", 400)) as stub:
        settings = config(shop, tmp_path / "rank", **judged, judge_url=stub.url)
        with pytest.raises(UserError, match="400"):
            run(settings)
        stub.replies[:] = [said]
        before = len(stub.requests)
        out = run(settings)
        assert len(stub.requests) - before == len(rankings(out)) - 2 == 6
    assert all(set(ranking.ranks["clarity"]) == {1, 2, 3} for ranking in rankings(out))
    assert not (out / "parts").exists() and "missing" not in capsys.readouterr().err


def test_verdicts_that_are_missing_are_counted(shop: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    judged = {"rankers": ["ai", "rules"], "judge_model": "m", "max_prompts": 2, "judge_images": True}
    with serving(Reply(completion("no"))) as stub:
        run(config(shop, tmp_path / "rank", **judged, judge_url=stub.url))
        content = stub.requests[0]["messages"][1]["content"]
    assert [part["type"] for part in content] == ["text", "image_url"]
    assert "missing or unreadable: 2 of 2" in capsys.readouterr().err


def test_a_stopped_run_samples_no_part_twice(shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """8 questions in parts of 2, stopped in the third part; a kill by SIGKILL is in test_resume.py."""
    asked: list[list[str]] = []
    seeds: list[int] = []

    def counted(sampler: object, feed: object, prompts: object, *rest: object) -> object:
        asked.append([prompt.id for prompt in prompts])  # type: ignore[attr-defined]
        seeds.append(rest[0].seed)  # type: ignore[attr-defined]
        if len(asked) == 3:
            raise KeyboardInterrupt
        return sample(sampler, feed, prompts, *rest)  # type: ignore[arg-type]

    sample = rank.sample_answers
    monkeypatch.setattr(rank, "sample_answers", counted)
    with pytest.raises(KeyboardInterrupt):
        run(config(shop, tmp_path / "stopped", batch_size=6))
    run(config(shop, tmp_path / "stopped", batch_size=6))
    ids = [prompt.id for prompt in Dataset(shop / "import").prompts("rank")]
    parts = [ids[start : start + 2] for start in range(0, len(ids), 2)]
    assert asked == [*parts[:3], *parts[2:]]
    assert len(set(seeds)) == len(parts) and seeds[2] == seeds[3]  # numbers of its own for each, the same ones again
    monkeypatch.setattr(rank, "sample_answers", sample)
    run(config(shop, tmp_path / "straight", batch_size=6))
    for name in ("answers.jsonl", "rankings.jsonl", "agreement.json"):
        assert (tmp_path / "stopped" / name).read_bytes() == (tmp_path / "straight" / name).read_bytes()


def test_text_alone(texts: Path, tmp_path: Path) -> None:
    out = run(config(texts, tmp_path / "rank", max_prompts=2, num_generations=4))
    assert [len(ranking.responses) for ranking in rankings(out)] == [4, 4]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"rankers": ["ai"], "judge_url": "http://127.0.0.1:9"}, "expected judge_url and judge_model"),
        ({"rankers": ["simulated"], "simulated_noise": []}, "nobody ranked anything"),
    ],
)
def test_refusals(shop: Path, tmp_path: Path, values: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        run(config(shop, tmp_path / "rank", max_prompts=1, **values))
