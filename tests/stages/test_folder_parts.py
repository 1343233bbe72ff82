"""What decides which part a photograph or a record is in, and which columns of a table are read."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from bessemer.config import Artifact
from bessemer.data.dataset import Dataset
from bessemer.data.records import Example
from bessemer.stages.importing import Config, run
from stages.test_importing import photographs
from stages.test_init import table


def examples(folder: Path, out: Path, **values: Any) -> list[Example]:
    """The photographs that an import of the folder makes."""
    made = run(Config(source="folder", data=Artifact(str(folder)), general_documents=0, output_dir=str(out), **values))
    return Dataset(made).examples()


def test_photographs_of_one_batch_stay_in_one_part(tmp_path: Path) -> None:
    """Twelve batches of four photographs, every state in each."""
    root = table(tmp_path / "site", "state,batch", (f"{'ok' if i % 2 else 'bad'},b{i // 4}" for i in range(48)))
    parts: dict[int, set[str]] = {}
    for one in examples(root, tmp_path / "out", label_columns=["state"], group_column="batch"):
        parts.setdefault(int(Path(one.image.path).stem) // 4, set()).add(one.split)
    assert len(parts) == 12 and all(len(split) == 1 for split in parts.values())
    assert set.union(*parts.values()) == {"train", "val", "test"}


def test_the_columns_that_are_named_are_those_that_are_read(tmp_path: Path) -> None:
    """Of one of two tables the photographs of the column `after`, in the opposite order, and one of two labels."""
    rows = (f"{23 - i}.png,{'ok' if i < 12 else 'bad'},{'yes' if i % 2 else 'no'}" for i in range(24))
    root = table(tmp_path / "site", "after,state,helmet", rows)
    (root / "other.csv").write_text("after,state\n0.png,good\n1.png,poor\n")
    columns = {"table": str(root / "labels.csv"), "image_column": "after", "label_columns": ["state"]}
    found = examples(root, tmp_path / "out", **columns)
    expected = {f"{i}.png": {"state": "bad" if i < 12 else "ok"} for i in range(24)}
    assert {Path(one.image.path).name: one.labels for one in found} == expected


@pytest.mark.parametrize(("shares", "sizes"), [((0.5, 0.0), {"test": 20, "train": 20}),
                                               ((0.25, 0.5), {"test": 10, "val": 15, "train": 15})])  # fmt: skip
def test_a_folder_is_split_by_the_shares_and_the_seed(
    shares: tuple[float, float], sizes: dict[str, int], tmp_path: Path
) -> None:
    folder = photographs(tmp_path / "parts", {"crack": 20, "ok": 20})
    found = [
        examples(folder, tmp_path / str(seed), test_share=shares[0], val_share=shares[1], seed=seed) for seed in (0, 1)
    ]
    assert [Counter(one.split for one in some) for some in found] == [sizes] * 2
    assert [one.id for one in found[0]] == [one.id for one in found[1]]
    assert [one.split for one in found[0]] != [one.split for one in found[1]]


def test_another_seed_splits_records_in_another_way(tmp_path: Path) -> None:
    path = tmp_path / "qa.json"
    path.write_text(json.dumps([{"instruction": f"Q{i}?", "output": f"This is answer {i}."} for i in range(40)]))
    asked = []
    for seed, folder in ((0, "a"), (1, "b"), (1, "c")):
        data = Artifact(str(path))
        made = Config(source="records", data=data, seed=seed, general_documents=0, output_dir=str(tmp_path / folder))
        dataset = Dataset(run(made))
        asked.append({prompt.messages[0].text for prompt in dataset.prompts("heldout")})
    assert asked[0] != asked[1] == asked[2] and len(asked[0]) == len(asked[1]) == 10
