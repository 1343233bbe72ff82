from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from bessemer.annotation.store import Project
from bessemer.apps.annotate.desk import Desk
from bessemer.apps.annotate.pixels import Pictures
from bessemer.apps.annotate.server import Server
from bessemer.apps.annotate.sessions import Sessions
from browser import CHROMIUM, DRIVER, MISSING, Browser, browser
from drawn_project import make_project
from page_client import ME, PEOPLE, Client, enter


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    with make_project(tmp_path / "project", tmp_path / "photographs", 4) as opened:
        yield opened


@pytest.fixture
def log() -> list[str]:
    return []


@pytest.fixture
def server(project: Project, tmp_path: Path, log: list[str]) -> Iterator[Server]:
    sessions = Sessions(PEOPLE, tmp_path / "state" / "state.json", project.directory)
    desk = Desk(project, "roof-east", sessions, Pictures(project))
    opened = Server(desk, log=log.append)
    opened.start()
    yield opened
    opened.close()


@pytest.fixture
def ann(server: Server) -> Client:
    return enter(server, "ann")


@pytest.fixture
def bo(server: Server) -> Client:
    return enter(server, "bo")


@pytest.fixture
def dora(server: Server) -> Client:
    return enter(server, "dora")


@pytest.fixture
def stranger(server: Server) -> Client:
    return Client(server)


@pytest.fixture(scope="session")
def window(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """A real browser, one for all tests."""
    if not (CHROMIUM and DRIVER):
        pytest.skip(MISSING)
    with browser(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Server]:
    with make_project(tmp_path / "project", tmp_path / "photographs", 4) as project:
        sessions = Sessions(ME, tmp_path / "state.json", project.directory)
        server = Server(Desk(project, "roof-east", sessions, Pictures(project)), log=lambda line: None)
        server.start()
        yield server
        server.close()
