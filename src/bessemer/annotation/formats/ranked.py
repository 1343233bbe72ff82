"""Rankings of Label Studio (Ranker, Pairwise) as ranking records, and records as its tasks.

Absent is not worst: an item that nobody moved into the ranker has no rank. Label Studio has no ties; where a record
has them, the task is written and its ranking is not, and the report says so.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ...data.paths import shown
from ...data.records import Message, Prompt, Ranking
from ...data.schema import need
from ...errors import UserError
from .choices import Choices, Reading
from .fields import listing, row_of
from .label_studio import RANKED, author_of, tasks_of
from .photographs import Photographs
from .report import Loss
from .sources import open_source

__all__ = ["read_rankings", "write_rankings"]

PAIRS = (("text1", "text2"), ("answer1", "answer2"), ("response1", "response2"), ("left", "right"), ("a", "b"))
PROMPTS = ("prompt", "question", "instruction", "query")


def read_rankings(path: Path) -> tuple[list[Ranking], list[str]]:
    """The rankings in the tasks of a file or folder, one for each task and annotator; a control's name is the
    principle. Remarks say what was passed over."""
    rankings: list[Ranking] = []
    remarks: list[str] = []
    with open_source(path) as source:
        tasks = tasks_of(Reading(source, Photographs([source]), Choices()))
    for number, (where, task) in enumerate(tasks, 1):
        for group in listing(task.get("annotations") or task.get("completions") or [], f"{where}: annotations"):
            group = row_of(group, where)
            if group.get("was_cancelled"):
                continue
            rows = [row for row in listing(group.get("result") or [], f"{where}: result") if isinstance(row, dict)]
            rows = [row for row in rows if row.get("type") in RANKED]
            try:
                rankings += _ranking(task, rows, author_of(group) or "label-studio", str(task.get("id", number)))
            except UserError as error:
                remarks.append(f"{where}: {error}; it was passed over")
    return rankings, remarks


def _ranking(task: dict[str, Any], rows: list[dict[str, Any]], annotator: str, id: str) -> list[Ranking]:
    data = task["data"]
    prompt = next((data[key] for key in PROMPTS if isinstance(data.get(key), str) and data[key].strip()), None)
    by_answers: dict[tuple[str, ...], dict[str, tuple[int | None, ...]]] = {}
    for row in rows:
        value = row_of(row.get("value"), "value")
        name = str(row.get("from_name"))
        if row["type"] == "ranker":
            ids, answers = _items(data, str(row.get("to_name")))
            orders = row_of(value.get("ranker"), "ranker")
            need(name in orders, f"buckets {shown(sorted(orders))} of {shown(name)}", "one order")
            order = [str(item) for item in listing(orders[name], f"the order of {shown(name)}")]
            places = {item: place for place, item in enumerate(order, 1)}
            need(len(places) == len(order), f"an id twice in the order of {shown(name)}", "every one once")
            unknown = sorted(set(places) - set(ids))
            need(not unknown, f"{shown(unknown[:1])} in the order of {shown(name)}", "ids of the items")
            ranks = tuple(places.get(item) for item in ids)
        else:
            answers = _pair(data, str(row.get("to_name")))
            selected = value.get("selected")
            if selected not in ("left", "right"):
                raise UserError(f"selected {shown(selected, 40)!r}, expected left or right")
            ranks = (1, 2) if selected == "left" else (2, 1)
        by_answers.setdefault(answers, {})[name] = ranks
    text = prompt or "Which answer is better?"
    found = []
    for answers, judged in by_answers.items():
        # Every project of Label Studio has a task 1: the texts are part of the id.
        name = f"label-studio-{id}-{hashlib.sha256(json.dumps([text, answers]).encode()).hexdigest()[:12]}"
        asked = Prompt(name, (Message("user", text),))
        said = {"source": "label_studio", "prompt_stated": prompt is not None}
        shown_order = tuple(range(len(answers)))
        found.append(Ranking(name, asked, answers, (True,) * len(answers), judged, annotator, shown_order, said))
    return found


def _items(data: dict[str, Any], to_name: str) -> tuple[list[str], tuple[str, ...]]:
    lists = [value for key, value in data.items() if isinstance(value, list) and (key == to_name or key == "items")]
    lists = lists or [value for value in data.values() if isinstance(value, list)]
    if len(lists) != 1 and not (lists and data.get(to_name) is lists[0]):
        raise UserError(f"{len(lists)} lists in data, expected the items to rank")
    rows = [row_of(item, "an item") for item in lists[0]]
    texts = tuple(str(row.get("body") or row.get("title") or row.get("html") or "") for row in rows)
    ids = [str(row.get("id")) for row in rows]
    need(len(set(ids)) == len(ids), "an id that two items have", "every one once")
    return ids, texts


def _pair(data: dict[str, Any], to_name: str) -> tuple[str, str]:
    named = tuple(part.strip() for part in to_name.split(","))
    for left, right in (*([(named[0], named[1])] if len(named) == 2 else []), *PAIRS):
        if isinstance(data.get(left), str) and isinstance(data.get(right), str):
            return data[left], data[right]
    raise UserError(f"no two texts of {shown(to_name)} in data, expected such as text1 and text2")


def write_rankings(rankings: Sequence[Ranking]) -> tuple[list[dict[str, Any]], list[Loss]]:
    """Tasks for a config with `<List name="items" value="$items"/>` and a `<Ranker>` for every principle, one
    annotation for every annotator; what Label Studio cannot hold."""
    tasks: dict[str, dict[str, Any]] = {}
    losses: list[Loss] = []
    for ranking in rankings:
        text = "\n\n".join(message.text for message in ranking.prompt.messages)
        items = [{"id": str(n), "title": f"{n + 1}", "body": body} for n, body in enumerate(ranking.responses)]
        task = tasks.setdefault(
            ranking.id,
            {"data": {"prompt": text, "items": [items[n] for n in ranking.shown_order]}, "annotations": []},
        )
        result = []
        for principle, ranks in ranking.ranks.items():
            judged = [(rank, n) for n, rank in enumerate(ranks) if rank is not None]
            if len({rank for rank, _ in judged}) < len(judged):
                losses.append(Loss("ties", ranking.id, ranking.annotator, f"ties by {principle}: it is not written"))
                continue
            order = [str(n) for _, n in sorted(judged)]
            value = {"ranker": {principle: order}}
            result.append({"type": "ranker", "from_name": principle, "to_name": "items", "value": value})
        task["annotations"].append({"result": result})
        losses.append(Loss("author", ranking.id, ranking.annotator, "annotators are numbers of accounts there"))
    return list(tasks.values()), losses
