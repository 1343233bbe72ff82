"""The command with the fake stages, for tests that need a process of its own to signal."""

from __future__ import annotations

import sys

from bessemer.cli import main
from bessemer.stages import STAGES, Stage

FAKES = {
    "source": Stage("fake_source", "writes a file"),
    "train": Stage("fake_train", "walks at random"),
    "ask": Stage("fake_ask", "asks", in_recipe=False),
    "sum": Stage("fake_sum", "counts", in_recipe=False),
}

if __name__ == "__main__":
    STAGES.update(FAKES)
    sys.modules["torch.utils.tensorboard"] = None  # type: ignore[assignment]  # slow to import
    sys.exit(main())
