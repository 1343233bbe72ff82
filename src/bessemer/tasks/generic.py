"""Wordings for labels that nobody has written wordings for yet: plain, correct, and meant to be edited.
English or Chinese."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from importlib.resources import as_file, files

from ..data.records import Scene
from .located import Located, read_located
from .parse import bare_value
from .prose import CJK, normalised
from .wordings import Attribute, Questions, Task, Wordings, check_name, questions_of, unanswerable_task

__all__ = ["default_wordings", "good_value"]

_GOOD = frozenset((
    "accepted", "clean", "compliant", "defect free", "fine", "functional", "good", "healthy", "intact",
    "negative", "no anomaly", "no crack", "no damage", "no defect", "no defects", "non defective", "none",
    "normal", "not defective", "ok", "okay", "pass", "passed", "perfect", "regular", "safe", "sound",
    "undamaged", "佩戴", "佩戴安全帽", "合格", "合规", "安全", "完好", "完整", "已佩戴", "无",
    "无异常", "无缺陷", "正常", "没有缺陷", "良好", "规范", "通过",
))  # fmt: skip
_LISTED = 12  # a question that lists more values than this is longer than its photograph
_NAMELESS = frozenset({"class", "label", "category", "target", "类别", "标签", "分类"})
_STOPS = frozenset("_{}.!?;:,、。")  # what ends a sentence or a clause, or makes a slot
_LEADING = re.compile(r"^[\s\"'“”‘’*/&-]+|[\s-]+$")  # what a reader passes over before an answer's first word
_MINUS = re.compile(r"^[-\u2010-\u2015\u2212](?=[\d.])")
_NO, _YES = frozenset({"no", "false", "0", "n", "否"}), frozenset({"yes", "true", "1", "y", "是"})


def good_value(values: Sequence[str]) -> str | None:
    """The one value that says "nothing is wrong" (good, ok, normal, 无缺陷 ...); None when there
    is none, or more than one."""
    good = [value for value in values if re.sub("[_-]", " ", normalised(value)) in _GOOD]
    return good[0] if len(good) == 1 else None


def default_wordings(
    attributes: Mapping[str, Sequence[str]],
    scene: Scene | None = None,
    ordered: Sequence[str] = (),
    language: str | None = None,
) -> Wordings:
    """Wordings for arbitrary labels: a question for each attribute, a report, and questions that a picture
    cannot answer.

    attributes: name -> at least two values. Two values of which one reads like "good" give a yes/no question
    whose yes is the other one; yes and no themselves give a yes/no question; anything else the choice among
    the values, which the questions list when they are few. `ordered` names attributes whose values are in
    order, from harmless to grave. `language` is en or zh; None: zh where a name or value is Chinese.

    Raises:
        UserError: a name that no attribute can have, see `check_name`.
    """
    everything = [*map(check_name, attributes), *(value for values in attributes.values() for value in values)]
    if language is None:
        language = "zh" if any(re.search(f"[{CJK}]", text) for text in everything) else "en"
    said = {text: _spoken(text, "负" if language == "zh" else "minus ") for text in everything}
    with as_file(files(__package__) / f"generic.{language}.yaml") as path:
        texts = read_located(path).entries()
    made: dict[str, Attribute] = {}
    tasks: dict[str, Task] = {}
    for name, values in attributes.items():
        kind = _kind(values)
        # "Is anything wrong with the class?" is no question: labels from folders alone are about the item.
        plain = kind == "binary" and len(attributes) == 1 and normalised(name) in _NAMELESS
        spoken = texts["item"].text() if plain else said[name]
        made[name] = _attribute(spoken, values, kind, name in ordered, texts, said)
        tasks[_free(name, tasks)] = _task(name, spoken, made[name], kind, texts, said)
    asked = list(tasks)
    tasks[_free("report", tasks)] = _report(list(made), texts["report"])
    if len(asked) > 1:
        tasks[_free("dialogue", tasks)] = Task("dialogue", 0.5, tuple(made), turns=tuple(asked))
    tasks[_free("unanswerable", tasks)] = unanswerable_task(texts["unanswerable"].entries(), 0.25)
    return Wordings(made, tasks, scene)


def _kind(values: Sequence[str]) -> str:
    plain = {normalised(value) for value in values}
    if len(plain) == 2 and plain & _NO and plain & _YES:
        return "flag"
    return "binary" if len(plain) == 2 and good_value(values) else "choice"


def _free(name: str, taken: Mapping[str, object]) -> str:
    return name if name not in taken else _free(name + "_task", taken)


def _spoken(text: str, minus: str) -> str:
    """A name or a value as it stands in a sentence: nothing in it cuts the sentence, and it begins with what is read
    first. `minus` goes before the digits of a negative number."""
    plain = "".join(" " if c != "." and set(unicodedata.normalize("NFKC", c)) & _STOPS else c for c in text)
    plain = _LEADING.sub("", re.sub(r"\.(?!\w)", " ", _MINUS.sub(minus, plain.strip())))
    if plain[:1] in ("(", "（"):
        plain = _LEADING.sub("", re.sub("[()（）]", " ", plain))
    if not any(c.isalnum() for c in plain):  # "+" and "-"
        plain = " ".join(unicodedata.name(c, "sign").lower().replace("-", " ") for c in text if not c.isspace())
    return " ".join(plain.split())


def _filled(texts: Sequence[str], name: str, **words: str) -> tuple[str, ...]:
    """The texts with names in place of their braces; those that come out alike only once."""
    made = []
    for text in texts:
        for key, word in {"name": name, **words}.items():
            text = text.replace(f"{{{key}}}", word)
        made.append(text[:1].upper() + text[1:])
    return tuple(dict.fromkeys(made))


def _attribute(
    spoken: str,
    values: Sequence[str],
    kind: str,
    ordered: bool,
    texts: Mapping[str, Located],
    said: Mapping[str, str],
) -> Attribute:
    """The attribute with the positive value last where there is one."""
    report = texts["report"].entries()
    if kind == "choice":
        good = good_value(values)
        safe = (good,) if good else tuple(values[:1]) if ordered else ()
        says = {value: _says(value, said[value], spoken, texts["choice"]) for value in values}
        part = report["part"].text()
        phrases = {v: (_part(part, spoken, said[v]),) for v in values}
        return Attribute(tuple(values), ordered, None, safe, says, phrases)
    good = good_value(values) if kind == "binary" else next(v for v in values if normalised(v) in _NO)
    positive = next(value for value in values if value != good)
    order = (good or "", positive)
    if kind == "binary":
        says = {value: _says(value, said[value], spoken, texts["choice"]) for value in order}
        phrases = {value: (_part(report["part"].text(), spoken, said[value]),) for value in order}
        return Attribute(order, False, positive, order[:1], says, phrases)
    denied = _part(report["negative"].text(), spoken, "")
    says = {
        positive: (texts["flag"].entries()["says"].text().replace("{name}", spoken),),
        order[0]: (denied,),
    }
    phrases = {positive: (_part(report["positive"].text(), spoken, ""),), order[0]: (denied,)}
    return Attribute(order, False, positive, (), says, phrases)


def _part(part: str, name: str, value: str) -> str:
    return part.replace("{name}", name).replace("{value}", value)


def _says(value: str, spoken: str, name: str, choice: Located) -> tuple[str, ...]:
    """Value and name together, which wins over a value that is part of a name; and the value alone if it
    means something by itself."""
    both = _part(choice.entries()["says"].text(), name, spoken)
    return (both,) if bare_value(value) or bare_value(spoken) else (spoken, both)


def _task(
    name: str,
    spoken: str,
    attribute: Attribute,
    kind: str,
    texts: Mapping[str, Located],
    said: Mapping[str, str],
) -> Task:
    entries = texts[kind].entries()
    options = ", ".join(said[value] for value in attribute.values)
    good = said[attribute.values[0]]
    found = questions_of(entries["questions"])
    few = len(attribute.values) <= _LISTED
    asked = [
        tuple(text if few else re.sub(r"[,，]\s*{options}", "", text) for text in part)
        for part in (found.train, found.bank, found.test)
    ]
    questions = Questions(*(_filled(part, spoken, options=options, good=good) for part in asked))
    # A name that holds a value ("crack seen": crack) would be read as that value: such answers are left out.
    inside = any(said[value] in spoken for value in attribute.values) and kind != "flag"
    if kind == "choice":
        usable = [text for text in entries["answers"].texts() if not (inside and "{name}" in text)]
        answers = {v: _filled(usable, spoken, value=said[v]) for v in attribute.values}
        choices = {v: said[v][:1].upper() + said[v][1:] for v in attribute.values}
    else:
        negative, positive = attribute.values
        denied = _filled(entries["negative"].texts(), spoken, value=said[negative])
        answers = {
            negative: tuple(text for text in denied if "no no " not in text),  # of a label such as "no helmet"
            positive: _filled(entries["positive"].texts(), spoken, value=said[positive]),
        }
        choices = {negative: texts["no"].text(), positive: texts["yes"].text()}
    return Task("attribute", 1.0, (name,), questions, answers, choices=choices)


def _report(names: Sequence[str], report: Located) -> Task:
    entries = report.entries()
    parts = str(entries["joint"].node.value).join(f"{{{name}}}" for name in names)
    templates = tuple(text.replace("{parts}", parts) for text in entries["answers"].texts())
    return Task("report", 0.5, tuple(names), questions_of(entries["questions"]), templates=templates)
