"""Labelled cells and their prompts, for tests of the tasks."""

from __future__ import annotations

from importlib.resources import files
from itertools import product
from pathlib import Path

from bessemer.data.records import Example, ImageRef, Prompt
from bessemer.tasks.questions import prompts
from bessemer.tasks.wordings import Wordings, load_wordings

SOLAR = Path(str(files("bessemer.tasks") / "solar.yaml"))
IMAGE = ImageRef("cell.png", "0" * 64)

HELMETS = """\
scene: personnel
attributes:
  安全帽:
    values: [佩戴, 未佩戴]
    positive: 未佩戴
    says: {佩戴: [佩戴安全帽, 戴了安全帽, 已佩戴], 未佩戴: [未佩戴, 没戴]}
    phrases: {佩戴: [已佩戴安全帽], 未佩戴: [未佩戴安全帽]}
tasks:
  安全帽:
    kind: attribute
    attribute: 安全帽
    questions:
      train: [图中人员是否佩戴安全帽？, 他戴安全帽了吗？]
      bank: [请检查安全帽佩戴情况。]
      test: [照片里的工人有没有戴好安全帽？]
    answers:
      佩戴: ["是，图中人员已佩戴安全帽。"]
      未佩戴: ["否，图中人员未佩戴安全帽。", "否，他没戴安全帽。"]
    choices: {佩戴: 是, 未佩戴: 否}
  提问:
    kind: unanswerable
    declines: [看不出]
    topics:
      姓名:
        questions: {train: [他叫什么名字？], bank: [这位工人是谁？], test: [请说出他的姓名。]}
        answers: ["从图中看不出姓名，请询问现场。"]
        instead: [询问]
"""


def solar() -> Wordings:
    """The shipped wordings."""
    return load_wordings(SOLAR)


def cells() -> list[Example]:
    """One cell of each severity and type, as the ELPV importer labels them."""
    return [
        Example(
            f"{severity}-{kind}",
            IMAGE,
            {
                "defect": "yes" if severity in ("moderate", "severe") else "no",
                "severity": severity,
                "cell_type": kind,
            },
        )
        for severity, kind in product(("none", "slight", "moderate", "severe"), ("mono", "poly"))
    ]


def solar_prompt(example: str, task: str) -> Prompt:
    """The test prompt of one cell and task."""
    return next(p for p in prompts(solar(), cells(), "test", 0) if p.id == f"{example}:{task}:test0")


def topic_prompt(topic: str) -> Prompt:
    """An unanswerable question of that topic, about a severely damaged mono cell or another one."""
    found = prompts(solar(), cells(), "test", 0, rounds=2)
    return next(p for p in found if p.facts.get("topic") == topic)
