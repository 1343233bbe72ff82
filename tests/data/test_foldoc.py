from __future__ import annotations

import gzip
from collections.abc import Mapping
from pathlib import Path

import pytest

from bessemer.data import foldoc
from bessemer.data.foldoc import read_foldoc
from bessemer.errors import UserError

ARTICLES = {
    ("00-database-short",): "00-database-short\n     The Free On-line Dictionary\n",
    ("ccsp", "contextually communicating sequential processes"): (
        "Contextually Communicating Sequential Processes\nCCSP\n\n"
        "   <language> (CCSP) A notation based on {CSP}.\n\n   [Sept 1986].\n\n   (1994-11-01)\n\n"
    ),
    ("fum",): "fum\n\n   <jargon> /fuhm/ [IBM] At {Xerox\n   PARC}, e.g. the third\n   variable.  Used by Dr. X.\n\n",
    ("ada lovelace",): "Ada Lovelace\n\n   <person> The first to write a program for a machine.\n\n",
    ("sol",): "SOL\n\n   1. <language> The first of two meanings here.\n\n   2. Another.\n",
    ("cal",): "Cal\n\n   See {the calendar of the year}.\n\n",
    ("ftp site",): "FTP site\n\n   A place such as {(ftp://example.org/)} for files.\n\n",
    ("book",): "Book\n\n   A language of the past [Sammet 1969, p. 620].\n\n",
    ("short",): "Short\n\n   A word.\n\n",
    ("same",): "Same\n\n   A notation based on {CSP}.\n\n",
    ("FUM",): "FUM\n\n   A name that differs in case alone.\n\n",
    ("$home",): "$HOME\n\n   A variable with the home of a user.\n\n",
    ("empty",): "",
}
DIGITS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"


def number(value: int) -> str:
    """Base 64 as dictd writes it, by repeated division."""
    digits = DIGITS[value % 64]
    while value := value // 64:
        digits = DIGITS[value % 64] + digits
    return digits


def dictionary(folder: Path, articles: Mapping[tuple[str, ...], str] = ARTICLES) -> Path:
    """foldoc.index and foldoc.dict.dz with these articles."""
    folder.mkdir(exist_ok=True)
    data, lines = b"", []
    for names, text in articles.items():
        raw = text.encode()
        lines += [f"{name}\t{number(len(data))}\t{number(len(raw))}\n" for name in names]
        data += raw
    (folder / "foldoc.dict.dz").write_bytes(gzip.compress(data))
    (folder / "foldoc.index").write_text("".join(sorted(lines)), encoding="utf-8")
    return folder


def test_articles_become_definitions(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    foldoc._print_licence.cache_clear()
    made = read_foldoc(dictionary(tmp_path))
    assert [(entry.name, entry.kind, entry.answer, entry.names) for entry in made.entries] == [
        ("Ada Lovelace", "person", "The first to write a program for a machine.", ("Ada Lovelace",)),
        (
            "Contextually Communicating Sequential Processes",
            "term",
            "A notation based on CSP.",
            ("Contextually Communicating Sequential Processes", "CCSP"),
        ),
        ("FUM", "term", "A name that differs in case alone.", ("FUM",)),
    ]
    read_foldoc(tmp_path)
    assert capsys.readouterr().err == f"note: {foldoc.LICENCE}\n"


def test_asides_links_and_abbreviations(tmp_path: Path) -> None:
    (entry,) = read_foldoc(dictionary(tmp_path, {("fum",): ARTICLES["fum",]}), test=0, bank=0, val=0).entries
    assert entry.answer == "At Xerox PARC, e.g. the third variable. Used by Dr. X."


@pytest.mark.parametrize("names", ["sol", "cal", "ftp site", "book", "short", "$home", "empty"])
def test_what_is_no_plain_definition_is_passed_over(tmp_path: Path, names: str) -> None:
    made = read_foldoc(dictionary(tmp_path, {(names,): ARTICLES[names,], ("fum",): ARTICLES["fum",]}))
    assert [entry.name for entry in made.entries] == ["fum"]


def test_parts_and_questions(tmp_path: Path) -> None:
    articles = {(f"term{i}",): f"Term{i}\n\n   The definition of term {i} in words.\n\n" for i in range(40)}
    made = read_foldoc(dictionary(tmp_path, articles), seed=1, test=0.25, bank=0.25, val=0.1)
    sizes = {part: sum(entry.part == part for entry in made.entries) for part in ("train", "val", "bank", "test")}
    assert sizes == {"train": 16, "val": 4, "bank": 10, "test": 10}
    prompt = made.prompts("test")[0]
    assert prompt.id.startswith("foldoc:Term") and prompt.facts["rule"] == "text"
    assert prompt.provenance == {"dataset": "foldoc", "object": prompt.facts["names"][0]}
    wordings = [set(words) for kinds in foldoc._QUESTIONS.values() for words in kinds.values()]
    assert sum(map(len, wordings)) == 14
    for kinds in foldoc._QUESTIONS.values():
        assert not set(kinds["train"]) & {*kinds["bank"], *kinds["test"]} and not set(kinds["bank"]) & set(
            kinds["test"]
        )


def test_without_the_dictionary_it_is_said_how_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match="expected the dictionary; apt install dict-foldoc, or name its folder by data="
    ):
        read_foldoc(tmp_path)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"fum", "1 fields (fum), expected headword, offset and length"),
        (b"fum\tA", "2 fields (fum), expected headword, offset and length"),
        (b"fum\tA\tB\tC\tD", "5 fields"),
        (b"fum\tA\t!", "'!', expected a number of up to six digits in base 64"),
        (b"fum\t\tB", "'', expected a number"),
        (b"fum\tAAAAAAB\tB", "'AAAAAAB', expected a number"),
        (b"fum\tA\t//////", "bytes 0 to 68719476735, expected an end within"),
        (b"f\xff\tA\tB", "not UTF-8"),
        (b"fum\tB\tC", "not UTF-8"),
        (b"fum\tC\tF\nfam\tC\tG", "articles that overlap, expected each byte in one of them"),
    ],
)
def test_a_bad_line_of_the_index_is_named(tmp_path: Path, line: bytes, message: str) -> None:
    (tmp_path / "foldoc.dict.dz").write_bytes(gzip.compress("é plain".encode()))
    (tmp_path / "foldoc.index").write_bytes(b"00-database-info\tA\tC\n\n" + line + b"\n")
    with pytest.raises(UserError) as caught:
        read_foldoc(tmp_path)
    place = 3 + line.count(b"\n")
    assert str(caught.value).startswith(f"{tmp_path}/foldoc.index:{place}: ") and message in str(caught.value)


@pytest.mark.parametrize(
    "raw",
    # no time in the header: a test's name has to be the same in each process that collects it
    [b"plain", b"", gzip.compress(b"text" * 100, mtime=0)[:30], gzip.compress(b"text", mtime=0)[:-9] + b"x" * 9],
    ids=["not gzip", "empty", "cut off", "bad data"],
)
def test_a_damaged_dictionary_is_named(tmp_path: Path, raw: bytes) -> None:
    dictionary(tmp_path)
    (tmp_path / "foldoc.dict.dz").write_bytes(raw)
    with pytest.raises(UserError, match=r"foldoc\.(dict\.dz: cannot be unpacked|index:1: bytes)"):
        read_foldoc(tmp_path)


def test_a_bomb_is_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(foldoc, "MAX_TEXT", 10_000)
    dictionary(tmp_path)
    (tmp_path / "foldoc.dict.dz").write_bytes(gzip.compress(bytes(10_001)))
    with pytest.raises(UserError, match="more than 10000 bytes unpacked, expected a dictionary"):
        read_foldoc(tmp_path)
    monkeypatch.setattr(foldoc, "MAX_INDEX", 5)
    dictionary(tmp_path)
    with pytest.raises(UserError, match=r"foldoc\.index: more than 5 bytes"):
        read_foldoc(tmp_path)


def test_an_index_of_nothing_is_no_dictionary(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no article, expected dictd's index"):
        read_foldoc(dictionary(tmp_path, {}))


def test_a_long_article_is_cut_before_it_is_read(tmp_path: Path) -> None:
    long = "Long\n\n   " + "(a) " * 1_000_000 + "A definition after a million asides.\n"
    assert read_foldoc(dictionary(tmp_path, {("long",): long})).entries == ()
