"""From photographs and labels, or from files of records, to the folder of records that every later stage
reads.

Questions are kept apart by their wording and, where that matters, by their photograph: sft learns from
training photographs in the wordings `train`; rank and ppo ask about training photographs in the wordings
`bank`; what is measured asks about test photographs in the wordings `test`. That no question of one stands in
another is checked before anything is written.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Literal

from bessemer.assets import resolve
from bessemer.config import Artifact
from bessemer.data.definitions import Definitions
from bessemer.data.elpv import LICENCE as ELPV_LICENCE
from bessemer.data.elpv import Protocol, read_elpv
from bessemer.data.folders import examples_from, survey_folder
from bessemer.data.foldoc import FOLDER as FOLDOC_FOLDER
from bessemer.data.foldoc import LICENCE as FOLDOC_LICENCE
from bessemer.data.foldoc import read_foldoc
from bessemer.data.paths import shown
from bessemer.data.pydocs import pydocs_documents, read_pydocs
from bessemer.data.records import SPLITS, Document, Example, Record, data_hash, write_records
from bessemer.disk import write_atomic
from bessemer.run import Run
from bessemer.stages.begin import begin
from bessemer.stages.imported import Imported, bank_shares, check_apart, from_records, limited, sample_text
from bessemer.stages.pictured import (
    Annotated,
    generated_pictures,
    pictured_import,
    site_wordings,
    snapshot_pictures,
)
from bessemer.tasks.dump import dump_wordings
from bessemer.tasks.generic import default_wordings
from bessemer.tasks.questions import conversations, prompts
from bessemer.tasks.visual_wordings import VisualWordings, default_visual_wordings
from bessemer.tasks.wordings import Wordings, load_wordings

__all__ = ["Config", "run"]

_LICENCES = {"elpv": ELPV_LICENCE, "foldoc": FOLDOC_LICENCE}


@dataclass
class Config:
    source: Literal["elpv", "folder", "records", "pydocs", "foldoc", "site", "annotations"] = "elpv"
    """What to read: elpv (solar cells), folder (class sub-folders, or a CSV or TSV of labels), records (JSON
    lines of conversations, alpaca, sharegpt, prompt and completion, preferences, or our own), pydocs
    (Python's documentation: text only, nothing to download), foldoc (a dictionary of computing: text only,
    Debian's package dict-foldoc), site (generated scenes with known truth), annotations (a snapshot of an
    annotation project)."""
    data: Artifact = Artifact("")
    """The folder or file; none for elpv (the asset of that name is obtained), pydocs, site and foldoc (where
    Debian has it, /usr/share/dictd)."""
    wordings: Artifact = Artifact("")
    """YAML file of questions and answers; none: ours for elpv and site, generic ones for a folder."""
    scene: Literal["", "equipment", "environment", "personnel"] = ""
    """Scene of the records, where the wordings name none."""
    split: Literal["p1", "p2"] = "p1"
    """For elpv: p1 random, stratified (comparable with the literature), p2 whole modules (honest)."""
    test_share: float = 0.25
    """Share of the photographs (objects, conversations) that is only measured on; a folder's own test part
    wins."""
    val_share: float = 0.1
    """Share of the rest that is kept for validation."""
    bank_share: float = 0.25
    """For text: share of the rest whose questions are for rank and ppo, not for sft."""
    table: Artifact = Artifact("")
    """For a folder: the CSV or TSV of labels, if it is not the only one at its top."""
    image_column: str = ""
    """For a folder with a table: the column of image names; none: found by its contents."""
    label_columns: list[str] = field(default_factory=list)
    """For a folder with a table: the columns to learn; none: all that look like labels."""
    group_column: str = ""
    """For a folder with a table: images with the same entry (module, batch, day) stay in one part."""
    image_root: Artifact = Artifact("")
    """For records: the folder where relative image paths start, best one of photographs alone: what changes in it is
    imported again. None: the file's folder, of which only the file itself is watched; --force imports again."""
    images: int = 400
    """For site: how many scenes to generate."""
    difficulty: float = 0.6
    """For site: the hardest scenes, 0 to 1; the others are spread evenly below."""
    language: Literal["en", "zh"] = "en"
    """For site and annotations: the language of questions and answers; others speak Chinese where a label does."""
    max_train: int = 0
    """At most so many training photographs (conversations for text); 0: all."""
    max_test: int = 0
    """At most so many test photographs (conversations for text); 0: all."""
    bank_prompts: int = 400
    """Questions for rank."""
    ppo_prompts: int = 1200
    """Questions for ppo; none of them is in rank's."""
    heldout_prompts: int = 0
    """Questions to measure on; 0: every task of every test photograph."""
    general_documents: int = 60
    """Paragraphs of general text to measure forgetting on (and, a third of them, for distill to guard against
    it)."""
    skip_bad: bool = False
    """Write bad rows of records to bad.jsonl and go on, instead of stopping at the first one."""
    seed: int = 0
    """Seed of the split and of every choice of a wording."""
    output_dir: str = "runs/import"
    """Where to write."""

    def faults(self) -> dict[str, bool]:
        """What could be wrong with it in itself, and whether it is."""
        missing = self.source in ("folder", "records", "annotations") and not self.data
        return {f"source {self.source}: no `data`, expected the folder or file to read": missing}


def run(config: Config) -> Path:
    """Read the source, print what was found, and write examples, conversations, prompts, wordings and general
    text."""
    run = begin(config, "import")
    found = _read(config, run)
    check_apart(found)
    for name, records in found.files().items():
        write_records(run.directory / name, records)
    if found.wordings is not None:
        write_atomic(run.directory / "wordings.yaml", found.wordings)
    facts = {
        "dataset": found.format.partition(",")[0],
        "split": config.split if config.source == "elpv" else "own",
    }
    licences = [_LICENCES[config.source]] if config.source in _LICENCES else []
    records = [record for records in found.files().values() for record in records]
    run.record(**facts, licences=licences, data_hash=data_hash(records))
    print(_summary(found))
    return run.finish(**{name.removesuffix(".jsonl"): len(records) for name, records in found.files().items()})


def _read(config: Config, run: Run) -> Imported:
    documents = pydocs_documents(config.general_documents) if config.general_documents else []
    if len(documents) < config.general_documents:
        note = f"{len(documents)} paragraphs of general text, all that this Python has of"
        print(f"import: {note} the {config.general_documents} asked for", file=sys.stderr)
    shares = (config.test_share, config.bank_share, config.val_share)
    if config.source == "pydocs":
        return _defined(config, read_pydocs(config.seed, *shares), documents)
    if config.source == "foldoc":
        folder = Path(config.data) if config.data else FOLDOC_FOLDER
        return _defined(config, read_foldoc(folder, config.seed, *shares), documents)
    if config.source == "elpv":
        protocol: Protocol = "P1" if config.split == "p1" else "P2"
        root = resolve(config.data or "elpv")
        examples = read_elpv(root, protocol, config.seed, config.test_share, config.val_share)
        text = _own_wordings(config) or files("bessemer.tasks").joinpath("solar.yaml").read_bytes()
        return _labelled(config, run, f"elpv, split {config.split}", examples, text, documents)
    if config.source == "site":
        return _site(config, run, documents)
    if config.source == "folder":
        return _folder(config, run, documents)
    if config.source == "annotations":
        return _annotations(config, run, documents)
    return _records(config, run, documents)


def _site(config: Config, run: Run, documents: list[Document]) -> Imported:
    shares = (config.test_share, config.val_share)
    scenes = generated_pictures(run, config.images, config.difficulty, config.seed, shares)
    text = _own_wordings(config) or site_wordings(config.language)
    visual = default_visual_wordings(config.language)
    return _pictured(config, run, "site, generated scenes", scenes, text, visual, documents)


def _annotations(config: Config, run: Run, documents: list[Document]) -> Imported:
    shares = (config.test_share, config.val_share)
    pictures, classes = snapshot_pictures(Path(config.data), config.seed, shares)
    rules = {name: ["no", "yes"] for example, _ in pictures for name in example.labels}
    text = (
        _own_wordings(config)
        or dump_wordings(default_wordings(rules, config.scene or None, language=config.language)).encode()
    )
    visual = default_visual_wordings(config.language).about(classes)
    format = f"annotations, snapshot {shown(Path(config.data).name, 20)}"
    return _pictured(config, run, format, pictures, text, visual, documents)


def _pictured(
    config: Config,
    run: Run,
    format: str,
    pictures: Annotated,
    text: bytes,
    visual: VisualWordings,
    documents: list[Document],
) -> Imported:
    """Conversations and prompts about photographs whose annotations are known."""
    wanted = {
        "train": config.max_train,
        "test": config.max_test,
        "rank": config.bank_prompts,
        "ppo": config.ppo_prompts,
        "heldout": config.heldout_prompts,
    }
    found = pictured_import(run, format, pictures, text, visual, config.language, wanted, config.seed)
    found.documents += documents
    return found


def _folder(config: Config, run: Run, documents: list[Document]) -> Imported:
    survey = survey_folder(
        Path(config.data),
        table=Path(config.table) if config.table else None,
        image_column=config.image_column or None,
        label_columns=config.label_columns or None,
        group_column=config.group_column or None,
    )
    print(survey.text())
    examples = examples_from(
        survey, seed=config.seed, test=config.test_share, val=config.val_share, scene=config.scene or None
    )
    kind = "class folders" if survey.table is None else f"table {shown(survey.table.name)}"
    wordings = (
        _own_wordings(config)
        or dump_wordings(
            default_wordings(
                {attribute.name: attribute.values for attribute in survey.attributes},
                config.scene or None,
                [attribute.name for attribute in survey.attributes if attribute.ordered],
            )
        ).encode()
    )
    return _labelled(config, run, f"{shown(survey.directory.name, 60)}, {kind}", examples, wordings, documents)


def _own_wordings(config: Config) -> bytes | None:
    """The user's wordings as they stand, comments and all."""
    if not config.wordings:
        return None
    load_wordings(config.wordings)  # its errors name the user's file, not our copy of it
    return Path(config.wordings).read_bytes()


def _labelled(
    config: Config, run: Run, format: str, examples: Sequence[Example], text: bytes, documents: list[Document]
) -> Imported:
    """Conversations and prompts from labelled photographs."""
    write_atomic(run.directory / "wordings.yaml", text)
    wordings = load_wordings(run.directory / "wordings.yaml")
    kept = limited(examples, {"train": config.max_train, "test": config.max_test}, config.seed)
    parts = {split: [example for example in kept if example.split == split] for split in SPLITS}
    bank = config.bank_prompts + config.ppo_prompts
    asked = prompts(wordings, parts["train"], "bank", config.seed, limit=bank, rounds=_fewest(wordings, "bank"))
    return Imported(
        format,
        kept,
        {str(split): conversations(wordings, parts[split], config.seed) for split in SPLITS},
        {
            **bank_shares(asked, {"rank": config.bank_prompts, "ppo": config.ppo_prompts}),
            "heldout": prompts(wordings, parts["test"], "test", config.seed, limit=config.heldout_prompts or None),
        },
        documents,
        wordings=text,
    )


def _fewest(wordings: Wordings, part: str) -> int:
    """How often every task can be asked in other words."""
    asked = [task.questions for task in wordings.tasks.values()]
    asked += [topic.questions for task in wordings.tasks.values() for topic in task.topics.values()]
    return min(len(questions.of(part)) for questions in asked if questions is not None)


def _records(config: Config, run: Run, documents: list[Document]) -> Imported:
    found = from_records(
        Path(config.data),
        image_root=Path(config.image_root) if config.image_root else None,
        skip_bad=run.directory / "bad.jsonl" if config.skip_bad else None,
        seed=config.seed,
        shares={"test": config.test_share, "bank": config.bank_share, "val": config.val_share},
        limits={"rank": config.bank_prompts, "ppo": config.ppo_prompts, "heldout": config.heldout_prompts},
    )
    if isinstance(found, Imported):
        found.conversations["train"] = found.conversations["train"][: config.max_train or None]
        found.conversations["test"] = found.conversations["test"][: config.max_test or None]
        found.documents += documents
        return found
    values: dict[str, dict[str, None]] = {}
    for example in found:
        for name, value in example.labels.items():
            values.setdefault(name, {})[value] = None
    several = {name: sorted(seen) for name, seen in values.items() if len(seen) > 1}
    wordings = _own_wordings(config) or dump_wordings(default_wordings(several, config.scene or None)).encode()
    return _labelled(config, run, f"{shown(Path(config.data).name, 60)}, bessemer example", found, wordings, documents)


def _defined(config: Config, entries: Definitions, documents: list[Document]) -> Imported:
    """Conversations and prompts from definitions."""
    learned = {str(part): entries.conversations(part, config.seed) for part in SPLITS}
    learned["train"] = learned["train"][: config.max_train or None]
    learned["test"] = learned["test"][: config.max_test or None]
    bank = entries.prompts("bank", config.seed, limit=config.bank_prompts + config.ppo_prompts, rounds=2)
    heldout = entries.prompts("test", config.seed, limit=config.heldout_prompts or None)
    shares = bank_shares(bank, {"rank": config.bank_prompts, "ppo": config.ppo_prompts})
    return Imported(entries.dataset, [], learned, {**shares, "heldout": heldout}, documents)


def _summary(found: Imported) -> str:
    """Format, counts and a first sample of each task, in plain text."""
    lines = [f"format: {found.format}"]
    labels: dict[str, Counter[str]] = {}
    for example in found.examples:
        for name, value in example.labels.items():
            labels.setdefault(name, Counter())[value] += 1
    for name, counts in labels.items():
        lines.append(f"  {shown(name, 40)}: " + ", ".join(f"{shown(v, 40)} {n}" for v, n in counts.items()))
    for file, records in found.files().items():
        tasks = Counter(getattr(record, "task", "") or type(record).__name__.lower() for record in records)
        shares = ", ".join(f"{shown(task, 40)} {count}" for task, count in tasks.items())
        lines.append(f"{file}: {len(records)} ({shares})")
    samples: dict[str, Record] = {}
    for conversation in found.conversations.get("train", ()):
        samples.setdefault(conversation.task or "conversation", conversation)
    if found.rankings:
        samples["ranking"] = found.rankings[0]
    for task, record in samples.items():
        lines += [f"first {shown(task, 40)}:", sample_text(record)]
    return "\n".join(lines)
