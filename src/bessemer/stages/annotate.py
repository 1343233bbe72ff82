"""The page on which people draw, describe, rank and review: a server on this machine, for a browser on it."""

from __future__ import annotations

import getpass
import html
import os
import time
import webbrowser
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Literal

from bessemer import interrupts
from bessemer.annotation.documents import check_annotator, label_set, save_labels
from bessemer.annotation.intake import add_folder
from bessemer.annotation.listing import progress
from bessemer.annotation.rankings import RankingTask, add_ranking_tasks, ranking_tasks
from bessemer.annotation.shapes import Label
from bessemer.annotation.store import Project, create_project, open_project
from bessemer.apps.annotate.desk import Desk
from bessemer.apps.annotate.messages import Person
from bessemer.apps.annotate.pixels import Pictures
from bessemer.apps.annotate.server import Server, is_loopback, is_wildcard
from bessemer.apps.annotate.sessions import Sessions, state_file
from bessemer.data.paths import shown
from bessemer.data.records import Ranking, read_records
from bessemer.errors import UserError
from bessemer.tasks.judge import PRINCIPLES

__all__ = ["Config", "run"]


@dataclass
class Config:
    POSITIONAL: ClassVar[tuple[str, ...]] = ("project", "images")

    project: str = ""
    """Folder of the annotation project, made if it is not there; or a folder of photographs, and then the project is
    FOLDER-annotations beside it."""
    images: str = ""
    """Folder of photographs to add to the project; known ones stay as they are."""
    labels: list[str] = field(default_factory=list)
    """Names of labels to add to the label set; the page can add more."""
    answers: str = ""
    """A file of ranking records (JSONL): questions and answers to rank; tasks that are there already stay."""
    principles: list[str] = field(default_factory=lambda: list(PRINCIPLES))
    """The principles to rank the answers by."""
    annotators: list[str] = field(default_factory=list)
    """Who draws and ranks, blind to one another; each gets a link. None named: you, who reviews too."""
    reviewers: list[str] = field(default_factory=list)
    """Who sees everybody's work, accepts and rejects, and looks at the agreement; each gets a link."""
    host: str = "127.0.0.1"
    """Address to listen on; another than this machine's own needs `expose`."""
    port: int = 0
    """Port to listen on; 0: the one of the last time if it is free, else any."""
    expose: bool = False
    """Let other machines in. The connection is not encrypted: put it behind something that does that."""
    host_names: list[str] = field(default_factory=list)
    """Names or addresses under which browsers reach an exposed server, beside `host`, without the port; the links
    have the first."""
    open_browser: bool = True
    """Open the first link in the browser."""
    language: Literal["auto", "en", "zh"] = "auto"
    """Language of the page; auto: the browser's."""


def run(config: Config) -> Path:
    """Serve the page until Ctrl-C or SIGTERM; returns the project's directory.

    Raises:
        UserError: nothing to annotate; a project that is open elsewhere; an address that would be exposed unasked.
    """
    if not config.project:
        raise UserError("which project? expected: bessemer annotate FOLDER")
    if not is_loopback(config.host) and not config.expose:
        raise UserError(
            f"host {config.host}, expected one of this machine (127.0.0.1); say expose=true to let others in"
        )
    if is_wildcard(config.host) and not config.host_names:
        raise UserError(
            f"host {config.host or 'of no name'} is every address of this machine, expected to hear under which "
            "browsers come: host_names=[labels.example, 192.168.1.5]; or set host to the one"
        )
    directory, folder = _places(Path(config.project), config.images)
    people = _people(config.annotators, config.reviewers)
    with ExitStack() as stack:
        project = stack.enter_context(_opened(directory, folder, named=bool(config.images)))
        _prepare(project, config, people[0].name)
        state = state_file(project.directory)
        sessions = Sessions(people, state, project.directory)
        desk = Desk(project, directory.resolve().name, sessions, Pictures(project), config.language)
        server = Server(desk, config.host, config.port, config.host_names)
        stack.callback(server.close)
        stack.callback(interrupts.release)
        interrupts.catch()
        server.start()
        _announce(server, people, exposed=not is_loopback(config.host))
        if config.open_browser:
            stack.callback(_open_browser(server.link(people[0].name), state.with_suffix(".html")).unlink, True)
        while not interrupts.requested():
            time.sleep(0.2)
    print(f"closed; everything that was saved is in {directory}")
    return directory


def _places(given: Path, images: str) -> tuple[Path, Path | None]:
    """The project's directory, and the folder of photographs to add, or to begin with where none were named."""
    if images:
        return given, Path(images)
    if (given / "edits.log").is_file():
        return given, None
    if not given.is_dir() or not any(given.iterdir()):
        raise UserError(
            f"{given} is no project yet, expected a folder of photographs: bessemer annotate {given} PHOTOS"
        )
    beside = given.resolve().with_name(f"{given.resolve().name}-annotations")
    return beside, given


def _people(annotators: Sequence[str], reviewers: Sequence[str]) -> list[Person]:
    names = list(dict.fromkeys([*annotators, *reviewers]))
    for name in names:
        check_annotator(name)
    if not names:
        return [Person(_own_name(), annotates=True, reviews=True)]
    return [Person(name, name in annotators, name in reviewers) for name in names]


def _own_name() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container's user without a name
        return f"user {os.getuid()}"


def _opened(directory: Path, folder: Path | None, named: bool) -> Project:
    """The project, with the photographs of the folder in it: new ones too where the folder was named for that, else
    those to begin with. A project that was made for them is gone again when they cannot be added.
    """
    if folder is not None and not folder.is_dir():
        raise UserError(f"{shown(folder)} is not a folder, expected a folder of photographs")
    known, there = (directory / "edits.log").is_file(), directory.is_dir()
    if folder is None and not known:
        raise UserError(f"{directory} is no annotation project, expected one, or a folder of photographs to begin with")
    with ExitStack() as undo:
        project = open_project(directory) if known else create_project(directory, directory.resolve().name)
        undo.callback(project.close if known else lambda: project.discard(there))
        # One that was killed while it was made, which nothing undoes, has no photographs either.
        if folder is not None and (named or not progress(project).images):
            _add(project, folder)
        undo.pop_all()
        return project


def _add(project: Project, folder: Path) -> None:
    added = add_folder(project, folder)
    print(f"{len(added.ids)} photographs of {shown(folder)}")
    for name, reason in list(added.refused.items())[:10]:
        print(f"left out: {name} ({reason})")
    if len(added.refused) > 10:
        print(f"left out: {len(added.refused) - 10} more")


def _prepare(project: Project, config: Config, author: str) -> None:
    """Labels and answers that were named and are not there yet."""
    stands = label_set(project)
    known = {label.name for label in stands.labels}
    new = [Label(name) for name in dict.fromkeys(config.labels) if name not in known]
    if new:
        save_labels(project, stands.version, (*stands.labels, *new), author)
    if config.answers:
        there = {id for id, _ in ranking_tasks(project, author)}
        first: dict[str, Ranking] = {}
        for ranking in read_records(Path(config.answers), Ranking):
            first.setdefault(ranking.id, ranking)  # the same answers, ranked by several
        tasks = [
            RankingTask(id, ranking.prompt, ranking.responses, ranking.ended, tuple(config.principles))
            for id, ranking in first.items()
            if id not in there
        ]
        add_ranking_tasks(project, tasks)
        print(f"{len(tasks)} questions to rank, {len(first) - len(tasks)} were there")


def _announce(server: Server, people: Sequence[Person], exposed: bool) -> None:
    found = progress(server.desk.project)
    print(f"{server.desk.name}: {found.images} images, {found.untouched} not begun, {found.shapes} shapes")
    if exposed:
        print("WARNING: other machines can reach this server, and the connection is not encrypted.")
    for person in people:
        role = " and ".join(word for word, has in (("annotates", person.annotates), ("reviews", person.reviews)) if has)
        print(f"  {shown(person.name)} ({role}): {server.link(person.name)}")
    print("Each link lets its person in; give it to nobody else. Ctrl-C closes.", flush=True)


def _open_browser(link: str, file: Path) -> Path:
    """Open the link by way of a file that only the user reads: what stands on a command line everybody sees."""
    file.unlink(missing_ok=True)
    page = f'<!doctype html><meta charset="utf-8"><meta http-equiv="refresh" content="0; url={html.escape(link)}">'
    with open(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "w", encoding="utf-8") as out:
        out.write(page)
    webbrowser.open(file.as_uri())
    return file
