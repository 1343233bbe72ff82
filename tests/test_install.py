"""The base installation: every module imports without the optional extras, without a GPU and without a
network."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

PROGRAM = """
import importlib, pkgutil, socket, sys

EXTRAS = {"tensorboard", "pytest", "peft", "accelerate", "ruff", "mypy", "vllm", "ray"}

def forbidden(*arguments):
    raise AssertionError(f"an import opened a connection: {arguments}")

sys.modules.update(dict.fromkeys(EXTRAS))  # None: not there, neither to import nor to find_spec
socket.socket.connect = forbidden
import bessemer
names = [module.name for module in pkgutil.walk_packages(bessemer.__path__, "bessemer.")]
for name in names:
    importlib.import_module(name)
assert not [name for name in EXTRAS if sys.modules[name] is not None]
assert "timm" not in sys.modules  # nor the torchvision that it asks for: who works on text alone has no use for it
print(len(names), "bessemer.cli" in names)
"""


def test_every_module_imports_without_extras_gpu_and_network() -> None:
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": "", "PYTHONWARNINGS": "ignore"}
    done = subprocess.run([sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    count, has_cli = done.stdout.split()
    assert int(count) > 30 and has_cli == "True"


def test_a_run_without_tensorboard_only_lacks_its_files(tmp_path: Path) -> None:
    program = (
        "import sys; sys.modules['torch.utils.tensorboard'] = None\n"
        "from dataclasses import dataclass\n"
        "from bessemer.run import Run\n"
        "@dataclass\n"
        "class Config:\n"
        "    output_dir: str = ''\n"
        "run = Run.start(sys.argv[1], Config(), stage='x', parents={}, seed=0)\n"
        "run.log(1, {'loss': 1.0}); run.finish()\n"
    )
    subprocess.run([sys.executable, "-c", program, str(tmp_path / "x")], check=True)
    names = sorted(path.name for path in (tmp_path / "x").iterdir() if path.name[0] != ".")
    assert names == ["config.yaml", "manifest.json", "metrics.jsonl", "timings.jsonl"]
