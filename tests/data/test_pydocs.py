from __future__ import annotations

import subprocess
import sys

import pytest

from bessemer.data import pydocs
from bessemer.data.pydocs import (
    MODULES,
    pydocs_conversations,
    pydocs_documents,
    pydocs_prompts,
    read_pydocs,
)
from bessemer.errors import UserError

FEW = ("builtins", "json", "os.path", "shutil", "textwrap", "heapq")


def test_answers_are_first_sentences() -> None:
    found = {entry.name: entry for entry in read_pydocs(modules=FEW)}
    assert found["heapq.heapify"].kind == "function"
    assert found["heapq.heapify"].answer == "Transform list into a heap, in-place, in O(len(heap)) time."
    assert found["ZeroDivisionError"].kind == "class"
    assert found["textwrap"].answer == "Text wrapping and filling."
    assert "list.__init__" not in found and not any("._" in name or name.startswith("_") for name in found)
    for entry in found.values():
        assert 4 <= len(entry.answer.split()) <= 40 and entry.answer[0].isupper()
        assert entry.answer.endswith((".", "!")) and ">>>" not in entry.answer and "->" not in entry.answer
    answers = [entry.answer.casefold() for entry in found.values()]
    assert len(set(answers)) == len(answers)


@pytest.mark.parametrize(
    ("doc", "answer"),
    [
        ("Do it now and well. See also x.\n\nMore.", "Do it now and well. See also x."),
        ("f(x) -> y\n\nReturn the thing that was\n    asked for.", "Return the thing that was asked for."),
        ("Use e.g. a list" + " or so" * 12, "Use e.g. a list" + " or so" * 12 + "."),
        ("Return ``x`` of the `list` given.", "Return x of the 'list' given."),
        ("too low in case and long enough.", None),
        ("Too short.", None),
        ("Return this: >>> f(1) is not prose.", None),
        ("Initialize self.  See help(type(self)) for accurate signature.", None),
        ("Word " + "word " * 60 + ".", None),
        ("", None),
    ],
)
def test_first_sentences(doc: str, answer: str | None) -> None:
    assert pydocs._first_sentences(doc) == answer


def test_each_object_is_in_one_part_only() -> None:
    entries = read_pydocs(seed=3, test=0.2, bank=0.3, val=0.1, modules=FEW)
    sizes = {
        part: sum(entry.part == part for entry in entries) / len(entries) for part in ("train", "val", "bank", "test")
    }
    assert sizes == pytest.approx({"train": 0.4, "val": 0.1, "bank": 0.3, "test": 0.2}, abs=0.01)
    assert entries == read_pydocs(seed=3, test=0.2, bank=0.3, val=0.1, modules=FEW)
    assert [e.part for e in entries] != [e.part for e in read_pydocs(seed=4, test=0.2, bank=0.3, val=0.1, modules=FEW)]


def test_conversations_and_prompts_share_neither_object_nor_wording() -> None:
    entries = read_pydocs(modules=FEW)
    learned = pydocs_conversations(entries, "train", system="Be brief.")
    bank, test = pydocs_prompts(entries, "bank", rounds=2), pydocs_prompts(entries, "test")
    objects = [{record.provenance["object"] for record in records} for records in (learned, bank, test)]
    assert not (objects[0] & objects[1] or objects[0] & objects[2] or objects[1] & objects[2])
    texts = [{record.messages[-1].text for record in records} for records in (bank, test)]
    assert not texts[0] & texts[1] and len(texts[0]) == len(bank)
    assert [message.role for message in learned[0].messages] == ["system", "user", "assistant"]
    assert len({prompt.id for prompt in bank}) == len(bank)
    assert pydocs_prompts(entries, "bank", limit=5, rounds=2) == bank[:5]


def test_facts_of_a_prompt() -> None:
    entries = read_pydocs(modules=FEW)
    prompt = pydocs_prompts(entries, "test")[0]
    entry = next(entry for entry in entries if entry.name == prompt.provenance["object"])
    assert prompt.facts["rule"] == "text" and prompt.facts["reference"] == entry.answer
    assert prompt.facts["names"] == entry.name.split(".") and entry.name in prompt.messages[0].text


def test_general_text_is_prose_of_the_length_asked_for() -> None:
    documents = pydocs_documents(60)
    assert len(documents) == 60 == len({document.text for document in documents})
    assert documents == pydocs_documents(60)
    for document in documents:
        assert 70 <= len(document.text.split()) <= 150 and document.text.endswith(".")
        assert "\n" not in document.text and "::=" not in document.text and ">>>" not in document.text
    assert len({document.id.split(":")[1] for document in documents}) >= 25  # topics
    with pytest.raises(UserError, match="ask for fewer"):
        pydocs_documents(100_000)


@pytest.mark.parametrize("shares", [(0.5, 0.5, 0.1), (-0.1, 0.2, 0.1), (1.0, 0.0, 0.0)])
def test_shares_that_leave_nothing(shares: tuple[float, float, float]) -> None:
    with pytest.raises(UserError, match="less than 1 in all"):
        read_pydocs(0, *shares, modules=FEW)


def test_a_python_without_docstrings_is_told_so() -> None:
    with pytest.raises(UserError, match="started with -OO"):
        read_pydocs(modules=("this_module_does_not_exist",))


def test_reading_the_whole_library_has_no_side_effects() -> None:
    """In a process of its own: prints nothing, opens no window, warns of nothing."""
    assert not {"antigravity", "this", "idlelib", "turtledemo", "tkinter", "turtle", "lib2to3", "test"} & set(MODULES)
    code = "import sys; from bessemer.data.pydocs import read_pydocs; sys.exit(len(read_pydocs()) < 1400)"
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
