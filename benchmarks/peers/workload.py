"""What is measured: the same prompts, target lengths, pairs and reward for bessemer and for every peer.

Standard library alone, because each peer imports it inside its own environment.
"""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

CUTOFF = 512
"""Tokens of a training sample."""
LEARNING_RATE = 2e-4
LORA_RANK, LORA_ALPHA = 16, 32
FIRST_TOKEN = 3
"""Below are the tokens that begin and end texts."""


def random_prompts(count: int, length: int, vocabulary: int, seed: int = 0) -> list[list[int]]:
    """`count` prompts of exactly `length` random token ids."""
    draw = random.Random(seed)
    return [[draw.randrange(FIRST_TOKEN, vocabulary) for _ in range(length)] for _ in range(count)]


def mixed_lengths(count: int) -> list[int]:
    """Tokens of each answer: 8 to 128 evenly, each 64 in an order that mixes short and long; 64 sum to 4322."""
    return [8 + 120 * (37 * i % 64) // 63 for i in range(count)]


def read_alpaca(path: Path) -> list[dict[str, str]]:
    """Records with `question` (instruction and input) and `answer`."""
    records = json.loads(path.read_text(encoding="utf-8"))
    return [
        {"question": "\n".join(filter(None, (r["instruction"], r.get("input", "")))), "answer": r["output"]}
        for r in records
    ]


def conversation(question: str, answer: str | None = None) -> list[dict[str, str]]:
    """The messages of one exchange, or of a question that waits for its answer."""
    asked = {"role": "user", "content": question}
    return [asked] if answer is None else [asked, {"role": "assistant", "content": answer}]


def ranked_answers(records: Sequence[dict[str, str]], index: int, answers: int) -> list[str]:
    """Best first: the record's own answer, then those of the records behind it, which answer something else."""
    return [records[(index + place) % len(records)]["answer"] for place in range(answers)]


def preference_pairs(records: Sequence[dict[str, str]], prompts: int, answers: int) -> list[dict[str, Any]]:
    """Every pair of the ranked answers to each of `prompts` questions; the records are used over again if need be."""
    pairs = []
    for index in range(prompts):
        question = records[index % len(records)]["question"]
        ranked = ranked_answers(records, index, answers)
        pairs += [
            {
                "prompt": conversation(question),
                "chosen": [{"role": "assistant", "content": ranked[better]}],
                "rejected": [{"role": "assistant", "content": ranked[worse]}],
            }
            for better in range(answers)
            for worse in range(better + 1, answers)
        ]
    return pairs


def passages(tokenizer: Any, records: Sequence[dict[str, str]], count: int, length: int) -> list[str]:
    """`count` prompts of `length` tokens of running text (answers strung together, from record i on), no template.

    Decoded and encoded again, a passage may be a token longer or shorter.
    """
    found = []
    for start in range(count):
        ids: list[int] = []
        index = start
        while len(ids) < length:
            ids += tokenizer.encode(records[index % len(records)]["answer"] + "\n", add_special_tokens=False)
            index += 1
        found.append(tokenizer.decode(ids[:length]))
    return found


def lower_case_share(text: str) -> float:
    """The reward: share of the characters that are lower-case letters, 0 for nothing."""
    return sum(character.islower() for character in text) / max(1, len(text))
