"""Write a training file in alpaca format from CPython's own reference: nothing to download, the same on each run.

    python benchmarks/peers/alpaca.py alpaca.json

With the tokenizer and chat template of SmolLM2 a sample has about 126 tokens.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Iterator
from pathlib import Path
from pydoc_data.topics import topics

MIN_WORDS, MAX_WORDS = 31, 150


def paragraphs(text: str) -> Iterator[str]:
    """The prose of a topic; headings, grammar and code are left out."""
    for block in re.split(r"\n\s*\n", text):
        joined = " ".join(block.split())
        if joined.endswith(".") and MIN_WORDS <= len(joined.split()) <= MAX_WORDS:
            yield joined


def records(count: int) -> list[dict[str, str]]:
    """The first paragraphs of every topic, then the second ones, and so on: `count` in all."""
    prose = {topic: list(dict.fromkeys(paragraphs(topics[topic]))) for topic in sorted(topics)}
    found = []
    for place in range(max(map(len, prose.values()))):
        for topic, texts in prose.items():
            if place < len(texts):
                question = f"What does the Python reference say about {topic}? Part {place + 1}."
                found.append({"instruction": question, "input": "", "output": texts[place]})
    if len(found) < count:
        raise SystemExit(f"this Python's reference has {len(found)} paragraphs, expected {count}: ask for fewer")
    return found[:count]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--count", type=int, default=512, help="samples (%(default)s)")
    options = parser.parse_args()
    options.file.write_text(json.dumps(records(options.count), indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
