from __future__ import annotations

from bessemer.data.references import text_facts


def test_facts() -> None:
    facts = text_facts("Return a list of all open files.", "pydocs", ["files"])
    assert facts["length"] == [3, 12]
    assert (facts["rule"], facts["task"], facts["names"], facts["asked"]) == ("text", "pydocs", ["files"], [])


def test_length_of_long_and_of_chinese_references() -> None:
    assert text_facts("word " * 40, "qa")["length"] == [20, 60]
    assert text_facts("先关闭阀门，再更换2个密封圈。" * 2, "qa")["length"] == [13, 39]
