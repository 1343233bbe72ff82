"""Look at a folder of photographs, say what is in it, and write a recipe and a wordings file that `bessemer
run` takes."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

import yaml

from bessemer.config import section_directory
from bessemer.data.folders import Survey, survey_folder
from bessemer.data.paths import shown
from bessemer.disk import write_atomic
from bessemer.errors import UserError
from bessemer.tasks.dump import dump_wordings
from bessemer.tasks.generic import default_wordings, good_value
from bessemer.tasks.wordings import check_wordings

__all__ = ["Config", "run"]


@dataclass
class Config:
    POSITIONAL: ClassVar[tuple[str, ...]] = ("directory",)

    directory: str = ""
    """Folder of photographs: class sub-folders, or a CSV or TSV with a column of image names and columns of
    labels."""
    output: str = ""
    """Where to write the recipe; none: FOLDER'S NAME.yaml in the current folder. The wordings go beside
    it."""
    name: str = ""
    """Name of the runs; none: the recipe's."""
    scene: Literal["", "equipment", "environment", "personnel"] = "equipment"
    """What the photographs are about."""
    table: str = ""
    """The CSV or TSV of labels, if it is not the only one at the top of the folder."""
    image_column: str = ""
    """The column of image names; none: found by its contents."""
    label_columns: list[str] = field(default_factory=list)
    """The columns to learn; none: all that look like labels."""
    group_column: str = ""
    """Images with the same entry here (module, batch, day) stay in one part."""
    overwrite: bool = False
    """Replace a recipe and wordings that are there already."""


def run(config: Config) -> Path:
    """Print the survey, write recipe and wordings, and return the recipe's path.

    Raises:
        UserError: nothing usable in the folder, or files that stand in the way.
    """
    if not config.directory:
        raise UserError("which folder? expected: bessemer init FOLDER")
    directory = Path(config.directory)
    recipe, wordings, name = _places(config)
    survey = survey_folder(
        directory,
        table=Path(config.table) if config.table else None,
        image_column=config.image_column or None,
        label_columns=config.label_columns or None,
        group_column=config.group_column or None,
    )
    print(survey.text())
    made = default_wordings(
        {attribute.name: attribute.values for attribute in survey.attributes},
        config.scene or None,
        [attribute.name for attribute in survey.attributes if attribute.ordered],
    )
    text = dump_wordings(made)
    try:
        check_wordings(text, str(wordings))
    except UserError as error:
        raise UserError(
            f"{shown(directory, 200)}: no questions can be made of these labels ({error}), expected values that differ "
            "in their words; rename what is named there, or choose others by --label_columns. Nothing was written"
        ) from error
    write_atomic(wordings, text.encode())
    write_atomic(recipe, _recipe(config, survey, name, wordings).encode())
    print(_next_steps(survey, recipe, wordings))
    return recipe


def _places(config: Config) -> tuple[Path, Path, str]:
    """Where recipe and wordings go, and the name of the runs; refused before thousands of photographs are opened."""
    stem = re.sub(r"[^\w-]+", "-", Path(config.directory).resolve().name).strip("-")[:40] or "photographs"
    recipe = Path(config.output or f"{stem}.yaml")
    if recipe.suffix not in (".yaml", ".yml"):
        raise UserError(f"output {shown(recipe)!r}, expected a name that ends in .yaml")
    wordings = recipe.with_name(f"{recipe.stem}.wordings.yaml")
    for path in (recipe, wordings):
        if path.exists() and not config.overwrite:
            raise UserError(
                f"{path} is there already, expected a free name; choose another --output, or say --overwrite"
            )
    name = config.name or re.sub(r"[^\w-]+", "-", recipe.stem).strip("-")[:64] or "photographs"
    section_directory({"name": name}, "import")  # refuses a name that a run could not have
    return recipe, wordings, name


def _recipe(config: Config, survey: Survey, name: str, wordings: Path) -> str:
    """The text of the recipe: what was found stands in it, everything else keeps its default."""
    source: dict[str, Any] = {
        "source": "folder",
        "data": str(survey.directory.resolve()),
        "wordings": str(wordings.resolve()),
        "table": str(Path(config.table).resolve()) if config.table else "",
        "image_column": config.image_column,
        "label_columns": config.label_columns,
        "group_column": config.group_column,
        "scene": config.scene,
    }
    count = len(survey.photos)
    head = f"# {count} photographs of {shown(survey.directory, 200)}; made by `bessemer init`\n"
    parts = [
        head,
        _yaml({"name": name, "seed": 0}),
        "# Every key of every stage, with its default: bessemer STAGE --help\n",
        _yaml({"import": {key: value for key, value in source.items() if value}}),
        _STAGES,
    ]
    return "".join(parts)


def _yaml(value: dict[str, Any]) -> str:
    return str(yaml.safe_dump(value, allow_unicode=True, sort_keys=False, width=10_000))


_STAGES = """\
stages: [import, tower, align, sft, rank, reward, ppo, distill, evaluate]
sft:
  learning_rate: 1.0e-3
rank:
  temperatures: [1.0, 1.0, 1.0, 1.5] # of four answers to a question; one wilder than the others, so that form differs
  borrowed_answers: 2 # and two that were given to another photograph and another question, so that looking pays
  flawed_answers: 1 # and one with its form spoilt, since the model itself hardly makes such mistakes
reward:
  per_device_train_batch_size: 16
  learning_rate: 1.0e-3
ppo:
  kl_coef: 0.2
distill:
  general_share: 0.1 # of general text, so that the student does not forget how to write
  per_device_train_batch_size: 16
  learning_rate: 4.0e-4
evaluate:
  base: align
  sft: sft
  ppo: ppo
  student: distill
  tower: tower
  probe: efficientnet_lite0
  rank: rank
  reward: reward
  lineage: [import, tower, align, sft, rank, reward, ppo, distill]
  heldout_prompts: 200 # of the questions on test photographs that are answered in sentences; 0: all, which takes long
"""


def _next_steps(survey: Survey, recipe: Path, wordings: Path) -> str:
    lines = [f"wrote {recipe} and {wordings}"]
    for attribute in survey.attributes:
        if good_value(attribute.values) is None:
            positive = " (and the other as `positive`)" if len(attribute.values) == 2 else ""
            lines.append(
                f"note: no value of {shown(attribute.name, 40)} reads like 'nothing is wrong'; if one of them means "
                f"that, name it as `safe`{positive} in {wordings.name}, so that a danger called safe is harmful"
            )
    typed = str(recipe) if re.fullmatch(r"[\w./-]+", str(recipe)) else shlex.quote(str(recipe))
    lines += [f"look at the questions in {wordings.name}, then: bessemer run {typed}"]
    return "\n".join(lines)
