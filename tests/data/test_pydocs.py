from __future__ import annotations

import subprocess
import sys

import pytest

from bessemer.data import pydocs
from bessemer.data.pydocs import MODULES, pydocs_documents, read_pydocs
from bessemer.errors import UserError

FEW = ("builtins", "json", "os.path", "shutil", "textwrap", "heapq")


def test_answers_are_first_sentences() -> None:
    found = {entry.name: entry for entry in read_pydocs(modules=FEW).entries}
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


def test_facts_of_a_prompt() -> None:
    made = read_pydocs(modules=FEW)
    prompt = made.prompts("test")[0]
    entry = next(entry for entry in made.entries if entry.name == prompt.provenance["object"])
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
    everything = pydocs_documents(100_000)
    assert len(everything) >= 60 and {one.id for one in documents} <= {one.id for one in everything}


def test_a_python_without_docstrings_is_told_so() -> None:
    with pytest.raises(UserError, match="started with -OO"):
        read_pydocs(modules=("this_module_does_not_exist",))


def test_reading_the_whole_library_has_no_side_effects() -> None:
    """In a process of its own: prints nothing, opens no window, warns of nothing."""
    assert not {"antigravity", "this", "idlelib", "turtledemo", "tkinter", "turtle", "lib2to3", "test"} & set(MODULES)
    code = "import sys; from bessemer.data.pydocs import read_pydocs; sys.exit(len(read_pydocs().entries) < 1400)"
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
