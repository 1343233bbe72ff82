"""The ways a run ends early, each with the exit code of the command."""

from __future__ import annotations

from pathlib import Path

__all__ = ["Defect", "Stopped", "UserError"]


class UserError(Exception):
    """Input that cannot be used: says what, what was expected and what to do; the command exits with 2."""

    exit_code = 2


class Stopped(Exception):
    """A signal asked to stop and the state was saved; the command exits with 75 and continues when run
    again."""

    exit_code = 75


class Defect(Exception):
    """A stage failed for a reason that nobody foresaw; `traceback_file` has the whole story and the command
    exits with 1."""

    exit_code = 1

    def __init__(self, message: str, traceback_file: Path) -> None:
        super().__init__(message)
        self.traceback_file = traceback_file
