"""`bessemer bench` of the sources here, in an environment with the PyTorch that most peers have.

What a build of PyTorch takes by itself (a CUDA build 0.3 GB more than one for CPUs) is none of a comparison's business.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "src"))

import bessemer.stages.bench  # noqa: E402, F401  install.py asks whether it can be imported
from bessemer.cli import main  # noqa: E402

if __name__ == "__main__":
    sys.exit(main(["bench", *sys.argv[1:]]))
