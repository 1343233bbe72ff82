"""Virtual environments for the peers and for ours beside them: one each, because their pins exclude one another.

    python benchmarks/peers/install.py [--peers DIR] [NAME ...]

Idempotent: an environment whose requirements file has not changed and whose package can be imported is left alone.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import venv
from pathlib import Path

HERE = Path(__file__).resolve().parent
PEERS = Path.home() / ".cache" / "bessemer" / "peers"
RUNNERS = {
    "bessemer": "ours",
    "trl": "peer_trl",
    "trl-ppo": "peer_trl_ppo",
    "llamafactory": "peer_llamafactory",
    "vllm": "peer_vllm",
    "llama-cpp": "peer_llama_cpp",
}
"""Peer, which is the name of its requirements file -> the runner that has to be importable after its installation;
transformers runs in the environment of trl."""
# On a virtual machine with AMX, llama.cpp dies of an illegal instruction; one answer at a time has no use for AMX.
WITHOUT_AMX = "-mno-amx-tile -mno-amx-int8 -mno-amx-bf16"
# Pictures, sound and video: of use to none of the runners, and built for another torch they only break the import.
OPTIONAL = ("torchvision", "torchaudio", "torchcodec")


class Broken(Exception):
    """An environment that could not be made; the message says which and why."""


def python_of(name: str, peers: Path = PEERS) -> Path:
    """The interpreter of a peer's environment, whether or not it is there."""
    return peers / name / "bin" / "python"


def install(name: str, peers: Path) -> str:
    """Make a peer's environment; says what was done.

    Raises:
        Broken: pip failed, or the package cannot be imported afterwards.
    """
    requirements = HERE / "requirements" / f"{name}.txt"
    python, stamp = python_of(name, peers), peers / name / "installed.txt"
    if stamp.is_file() and stamp.read_text() == requirements.read_text() and not probe(python, name):
        return "is there"
    if not python.is_file():
        venv.create(peers / name, with_pip=True)
    pip = [str(python), "-m", "pip", "--disable-pip-version-check", "--quiet"]
    command = [*pip, "install", "--requirement", str(requirements)]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | compiling(name))
    if done.returncode:
        raise Broken(f"{name}: pip could not install {requirements}: {last_line(done.stderr)}")
    reason, removed = probe(python, name), ""
    if reason:
        subprocess.run([*pip, "uninstall", "--yes", *OPTIONAL], capture_output=True, check=True)
        removed = f" without {', '.join(OPTIONAL)}"
        reason = probe(python, name)
    if reason:
        raise Broken(f"{name}: installed in {peers / name}, but `import {RUNNERS[name]}` fails: {reason}")
    stamp.write_text(requirements.read_text())
    return f"installed{removed}"


def compiling(name: str) -> dict[str, str]:
    """What a compiler is to be told for a peer that is compiled here."""
    about = Path("/proc/cpuinfo")
    if name != "llama-cpp" or not about.is_file() or "amx_tile" not in about.read_text():
        return {}
    return {"CFLAGS": WITHOUT_AMX, "CXXFLAGS": WITHOUT_AMX}


def probe(python: Path, name: str) -> str:
    """Why a peer's runner cannot be imported; empty if it can."""
    command = [str(python), "-c", f"import {RUNNERS[name]}"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=HERE)
    return last_line(done.stderr) if done.returncode else ""


def last_line(text: str) -> str:
    return (text.strip().splitlines() or ["no message"])[-1]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(RUNNERS)} (all)")
    parser.add_argument("--peers", type=Path, default=PEERS, help="where the environments are (%(default)s)")
    options = parser.parse_args()
    if unknown := set(options.names) - set(RUNNERS):
        parser.error(f"no peer {', '.join(sorted(unknown))}, expected some of {', '.join(RUNNERS)}")
    failed = 0
    for name in options.names or RUNNERS:
        try:
            print(f"{name}: {install(name, options.peers)}", flush=True)
        except Broken as error:
            failed += 1
            print(error, file=sys.stderr, flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
