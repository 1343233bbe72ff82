from __future__ import annotations

import copy
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from bessemer.report.build import build
from bessemer.report.html import render
from bessemer.report.outputs import Context, Evaluation, ModelOutputs, PromptAnswer
from bessemer.report.schema import SCHEMA, validate

PAYLOADS = (
    "<script>window.__xss=1</script>",
    '"><img src=x onerror=window.__xss=1>',
    "'><svg onload=window.__xss=1>",
    "</style></title></textarea><script>window.__xss=1</script>",
    "<iframe srcdoc='<script>1</script>'>",
    '<a href="javascript:window.__xss=1">x</a>',
    "<meta http-equiv=refresh content='0;url=https://example.org'>",
    "<link rel=stylesheet href=https://example.org/x.css>",
    "--><script>window.__xss=1</script><!--",
    "<math><mtext></form><form><mglyph><style></math><img src onerror=window.__xss=1>",
    "[x](javascript:window.__xss=1)",
    "${7*7}{{7*7}}",
    "&lt;script&gt;",
)
TAGS = {
    "html", "head", "meta", "title", "style", "body", "header", "main", "footer", "nav", "section",
    "div", "p", "h1", "h2", "a", "span", "strong", "code", "small", "ul", "li", "dl", "dt", "dd",
    "table", "thead", "tbody", "tr", "th", "td", "figure", "figcaption", "img", "svg", "g", "path",
    "defs", "use", "text", "clippath", "rect",
}  # fmt: skip
VOID = frozenset({"meta", "img"})


class Page(HTMLParser):
    """Every tag with its attributes, text apart from styles; complains of bad nesting."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.styles: list[str] = []
        self.comments: list[str] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        (self.styles if self.open[-1:] == ["style"] else self.text).append(data)

    def handle_comment(self, data: str) -> None:
        self.comments.append(data)


def assert_inert(page: Page) -> None:
    """No element, attribute or reference that could run or fetch anything."""
    assert {tag for tag, _ in page.tags} <= TAGS
    assert page.comments == []
    for tag, attributes in page.tags:
        for name, value in attributes.items():
            assert not name.startswith("on"), (tag, name)
            assert name not in ("srcdoc", "action", "formaction", "srcset", "background", "ping")
            if name in ("href", "xlink:href"):
                assert value is not None and value.startswith("#")
            elif name == "src":
                assert value is not None and value.startswith("data:image/jpeg;base64,")
            elif name == "style":
                assert "url(" not in str(value) and "expression" not in str(value)
            elif name == "clip-path":
                assert str(value).startswith("url(#")
    assert len(page.styles) == 1
    assert "url(" not in page.styles[0] and "@import" not in page.styles[0] and "xss" not in page.styles[0]


def test_the_page_refers_to_nothing_and_runs_nothing(page: str) -> None:
    parsed = Page(page)
    assert_inert(parsed)
    policies = [a["content"] for tag, a in parsed.tags if a.get("http-equiv") == "Content-Security-Policy"]
    assert policies == [
        "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
    ]
    # The policy must come before anything that it shall hold for.
    assert [tag for tag, _ in parsed.tags][:4] == ["html", "head", "meta", "meta"]


def test_links_within_the_page_lead_somewhere(page: str) -> None:
    parsed = Page(page)
    ids = [a["id"] for _, a in parsed.tags if "id" in a]
    assert len(ids) == len(set(ids))
    wanted = {str(a[name]).removeprefix("#") for _, a in parsed.tags for name in ("href", "xlink:href") if name in a}
    assert wanted <= set(ids) and len(wanted) > 11


def spoilt(value: Any, schema: Any, prefix: str) -> Any:
    """The report with `prefix` before every text, and before every key that is data (a model, a label
    ...)."""
    if isinstance(value, str):
        return prefix + value
    if isinstance(value, list):
        return [spoilt(item, schema[0] if isinstance(schema, list) else "", prefix) for item in value]
    if isinstance(value, dict):
        names = schema if isinstance(schema, dict) else {}
        return {
            (prefix + key if "*" in names else key): spoilt(item, names.get(key, names.get("*", "")), prefix)
            for key, item in value.items()
        }
    return value


def hostile(report: dict[str, Any], prefix: str) -> dict[str, Any]:
    made: dict[str, Any] = spoilt(copy.deepcopy(report), SCHEMA, prefix)
    return made | {"schema_version": report["schema_version"]}


@pytest.mark.parametrize("first", [0, 1, 2])
def test_hostile_text_in_every_place_is_shown_and_does_nothing(
    small_report: dict[str, Any], image_root: Path, first: int
) -> None:
    payload = "".join(PAYLOADS[first:] + PAYLOADS[:first])
    report = hostile(small_report, payload)
    validate(report)
    parsed = Page(render(report, image_root))
    assert_inert(parsed)
    text = "".join(parsed.text)
    for place in ("dataset", "split", "title"):
        assert report[place] in text
    sample = report["samples"][0]
    assert sample["question"] in text and sample["answers"][payload + "ppo"]["text"][:800] in text
    assert report["worst_errors"]["cases"][0]["id"] in text
    assert report["provenance"]["command"] in text and report["provenance"]["licences"][0] in text
    assert payload + "clarity" in text


def test_every_section_of_a_full_report_is_there(page: str, small_report: dict[str, Any]) -> None:
    text = "".join(Page(page).text)
    for title in (
        "Result", "Models", "Detection", "Cost and forgetting", "Reinforcement learning", "Reward model",
        "Answers before and after", "Worst errors", "Lineage and time", "Method", "Limits and licences",
    ):  # fmt: skip
        assert title in text
    assert "CC BY-NC-SA 4.0" in text and "rule-based annotator" in text
    errors = len(small_report["worst_errors"]["cases"])
    assert page.count('class="thumb"') == errors + len(small_report["samples"])
    assert "no image" not in page
    assert "score on questions of" in text


def test_an_empty_report_is_a_page_without_empty_sections(tmp_path: Path) -> None:
    parsed = Page(render(build(Evaluation(Context("nothing", "none", 0))), tmp_path))
    assert_inert(parsed)
    text = "".join(parsed.text)
    assert "An evaluation on nothing." in text
    for title in ("Detection", "Reward model", "Worst errors", "Reinforcement learning"):
        assert title not in text
    assert "None" not in text and "nan" not in text


def test_a_text_only_page_has_scores_and_no_photographs(tmp_path: Path) -> None:
    def model(name: str, text: str) -> ModelOutputs:
        rows = [PromptAnswer(f"{i}", "什么是生成器？", text, {"truth": 0.5}, reference="一种迭代器") for i in range(3)]
        return ModelOutputs(name, prompts=tuple(rows))

    models = (model("base", "不知道"), model("sft", "一种迭代器"))
    page = render(build(Evaluation(Context("pydocs", "by page", 0), models)), tmp_path)
    parsed = Page(page)
    assert_inert(parsed)
    text = "".join(parsed.text)
    assert "什么是生成器？" in text and "一种迭代器" in text and "token F1" in text
    assert "<img" not in page and "no image" not in page and "photograph" not in text
