from __future__ import annotations

from pathlib import Path

import pytest

from bessemer.errors import UserError
from bessemer.scenes.truth import LABELS
from bessemer.tasks.visual_wordings import VISUAL_TASKS, default_visual_wordings, load_visual_wordings

GOOD = """\
tasks:
  detect:
    questions: {train: ["A {labels}"], bank: ["B {labels}"], test: ["C {labels}"]}
    none: ["No {labels}"]
"""


@pytest.mark.parametrize("language", ["en", "zh"])
def test_ours_know_every_label_of_the_scenes(language: str) -> None:
    wordings = default_visual_wordings(language)
    assert set(wordings.names) == set(LABELS) and tuple(wordings.tasks) == VISUAL_TASKS
    assert wordings.spoken("unheard_of")[:2] == ("unheard of", "unheard of")
    assert wordings.spoken("crack [a] {n}")[0] == "crack a n" and wordings.spoken("crack (small)")[0] == "crack (small)"
    assert wordings.joint == (" and every " if language == "en" else "和")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("C {labels}", "A {labels}!"), "stands in .* too, expected train, bank and test apart"),
        (("B {labels}", "B"), "without {labels}, expected it in every question"),
        (("none:", "nun:"), "unknown key"),
        (("detect:", "detekt:"), "unknown key, expected one of detect, segment, count, describe"),
        (("tasks:", "reasons: [here]\ntasks:"), "without {where}"),
    ],
)
def test_errors_name_file_line_and_key(tmp_path: Path, change: tuple[str, str], message: str) -> None:
    path = tmp_path / "w.yaml"
    path.write_text(GOOD, encoding="utf-8")
    assert load_visual_wordings(path).tasks["detect"].weight == 1.0
    path.write_text(GOOD.replace(*change), encoding="utf-8")
    with pytest.raises(UserError, match=rf"w\.yaml:\d+: .*{message}"):
        load_visual_wordings(path)
