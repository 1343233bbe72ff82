"""How cost grows: with the batch, the length, the size of the model, and the roles on one trunk.

    python benchmarks/scaling.py [--quick] [--dtype auto] [--results FILE.json]

Random Llama-shaped models, in bf16 where the device multiplies it, else in fp32. Three works: `rollout` is one step of
decoding, `forward` scores sequences, `train` is a LoRA step; forward and train have the head on the second half of each
sequence. Of four roles the first is the policy, which learns; reference (no adapter), reward and value (an adapter
each) read the same batch beside it.

Every point runs in a process of its own, which measures its peak first (peak.py), and stands beside the least time that
the arithmetic allows at that peak. The file is written after each point; started again, those in it are not repeated.
"""

from __future__ import annotations

import argparse
import datetime
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, astuple, dataclass, replace
from pathlib import Path
from typing import Any

from arithmetic import Peak, Rows, Work, decoding, passing, training, triangle
from paired import commit, machine
from shapes import SHAPES, Shape, make_model

from bessemer.distributed import Mesh
from bessemer.models.precision import dtype_of, short_name

__all__ = ["QUICK", "SWEEPS", "WORKS", "Point", "least", "measure_all", "values"]

WORKS = ("rollout", "forward", "train")
ROLES = ("policy", "reference", "reward", "value")
RESULTS = Path(__file__).resolve().parent / "results" / "scaling.json"
SIZES = {"bf16": 2, "fp32": 4}
"""Bytes of a number."""
DECODED = 16
"""Steps of decoding in one measurement."""
SECONDS_A_POINT = 30


@dataclass(frozen=True)
class Point:
    """One measurement. length: tokens of a sequence; of a rollout, of the prompt."""

    work: str
    shape: str = "llama-135m"
    batch: int = 8
    length: int = 128
    roles: int = 1

    @property
    def key(self) -> str:
        return f"{self.work} {self.shape} batch {self.batch} length {self.length} roles {self.roles}"


Sweep = tuple[str, Point, tuple[Any, ...]]
"""The field that changes, what all points have in common (but for the work), and the values of the field."""
SWEEPS: dict[str, Sweep] = {
    "batch": ("batch", Point("", length=64), (1, 2, 4, 8, 16, 32, 64, 128)),
    "length": ("length", Point("", batch=2), (64, 128, 256, 512, 1024, 2048)),
    "size": ("shape", Point(""), ("llama-30m", "llama-60m", "llama-135m", "llama-250m", "llama-500m")),
    "roles": ("roles", Point(""), (1, 2, 3, 4)),
}
TINY = Point("", shape="llama-tiny", batch=2, length=16)
QUICK: dict[str, Sweep] = {
    "batch": ("batch", TINY, (1, 2)),
    "length": ("length", TINY, (16, 32)),
    "size": ("shape", TINY, ("llama-tiny", "llama-tiny-2")),
    "roles": ("roles", TINY, (1, 4)),
}


def values(sweep: Sweep, work: str) -> list[Point]:
    """The points of a sweep for one work, in order."""
    field, common, steps = sweep
    return [replace(common, work=work, **{field: step}) for step in steps]


def least(point: Point, shape: Shape) -> Work:
    """The arithmetic of a point: of one step of decoding, one scoring of the batch by all roles, one training step."""
    if point.work == "rollout":
        return decoding(shape, [point.length + (DECODED + 1) / 2] * point.batch)
    pairs, rows = point.batch * triangle(point.length), point.batch * (point.length // 2)
    with_head = Rows(point.batch * point.length, pairs, rows)
    bare = replace(with_head, heads=0)
    train = point.work == "train"
    total = training(shape, with_head) if train else passing(shape, with_head, adapter=True)
    for role in ROLES[1 : point.roles]:
        total += passing(shape, with_head) if role == "reference" else passing(shape, bare, adapter=True)
    return total


def found(times: Sequence[float], point: Point, shape: Shape, peak: Peak, dtype: str) -> dict[str, Any]:
    """What is kept of a point. dtype: bf16 or fp32."""
    import resource
    import statistics

    import torch

    work, median = least(point, shape).stored_in(SIZES[dtype]), statistics.median(times)
    predicted = work.seconds(peak)
    return asdict(point) | {
        "parameters": shape.parameters,
        "seconds": {"median": median, "minimum": min(times), "maximum": max(times)},
        "flop": work.flop,
        "bytes": work.bytes,
        "peak": asdict(peak),
        "predicted": predicted,
        "ratio": median / predicted,
        "peak_rss_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }


def execute(point: Point, model: Path, steps: int, dtype: str) -> dict[str, Any]:
    """Measure a point in a process of its own; {"error": ...} if that fails, of too little memory for example."""
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder, "point.json")
        words = ["--point", *map(str, astuple(point)), "--model", str(model), "--steps", str(steps), "--dtype", dtype]
        command = [sys.executable, __file__, *words, "--results", str(target)]
        done = subprocess.run(command, capture_output=True, text=True, errors="replace")
        if done.returncode == 0 and target.is_file():
            result: dict[str, Any] = json.loads(target.read_text(encoding="utf-8"))
            return result
        said = (done.stderr.strip() or "nothing").splitlines()[-1]
        return {**asdict(point), "error": f"exit status {done.returncode}: {said}"}


def read(file: Path, dtype: str) -> dict[str, Any]:
    """The report as far as it goes; refuses one from another machine or in another type, whose seconds are not to be
    mixed with ours."""
    report: dict[str, Any] = {"machine": machine(), "dtype": dtype, "points": {}}
    if file.is_file():
        stored = json.loads(file.read_text(encoding="utf-8"))
        kept = {name: stored["machine"][name] for name in ("processor", "cores")}
        ours = {name: report["machine"][name] for name in kept} | {"dtype": dtype}
        kept["dtype"] = stored.get("dtype", "bf16")
        if kept != ours:
            raise SystemExit(f"{file} was measured on {kept}, expected this machine, {ours}; move it away")
        report["points"] = {key: point for key, point in stored["points"].items() if "error" not in point}
    return report


def wanted(sweeps: dict[str, Sweep]) -> list[Point]:
    """Every point of every sweep, once, models in the order of their size."""
    points = [point for sweep in sweeps.values() for work in WORKS for point in values(sweep, work)]
    return sorted(dict.fromkeys(points), key=lambda point: SHAPES[point.shape].parameters)


def measure_all(points: Sequence[Point], file: Path, tokenizer: Path, steps: int, dtype: str) -> int:
    """Measure what the file does not hold yet; returns how many points failed."""
    file.parent.mkdir(parents=True, exist_ok=True)
    report = read(file, dtype)
    open_ = [point for point in points if point.key not in report["points"]]
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        for number, point in enumerate(open_, 1):
            model = make_model(SHAPES[point.shape], tokenizer, Path(folder, point.shape))
            result = execute(point, model, steps, dtype)
            result |= {"date": datetime.date.today().isoformat(), "commit": commit()}
            failed += "error" in result
            report["points"][point.key] = result
            whole = file.with_suffix(".tmp")
            whole.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
            whole.replace(file)
            said = result.get("error") or f"{result['seconds']['median']:.3g} s, {result['ratio']:.2f} x predicted"
            print(f"{number}/{len(open_)} {point.key}: {said}", file=sys.stderr, flush=True)
    return failed


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=RESULTS, help="file (%(default)s)")
    parser.add_argument("--quick", action="store_true", help="tiny sizes: shows that everything runs")
    parser.add_argument("--sweeps", nargs="+", choices=SWEEPS, default=list(SWEEPS), help="only these")
    parser.add_argument("--tokenizer", default="smollm2", help="model whose tokenizer is taken (%(default)s)")
    parser.add_argument("--steps", type=int, help="counted measurements of a point (5; 2 with --quick)")
    parser.add_argument("--dtype", default="auto", choices=("auto", *SIZES), help="of weights (%(default)s)")
    parser.add_argument("--plan", action="store_true", help="only say what would be measured")
    parser.add_argument("--point", nargs=5, metavar=("WORK", "SHAPE", "BATCH", "LENGTH", "ROLES"), help="only this one")
    parser.add_argument("--model", type=Path, help="directory of the model of --point")
    return parser.parse_args()


def main() -> int:
    options = parse()
    steps = options.steps or (2 if options.quick else 5)
    dtype = short_name(dtype_of(options.dtype, Mesh.start().device))
    if options.point:
        import steps as measurement

        work, shape, *numbers = options.point
        point = Point(work, shape, *map(int, numbers))
        times, peak = measurement.measured(point, options.model, steps, DECODED, dtype)
        options.results.write_text(json.dumps(found(times, point, SHAPES[shape], peak, dtype)), encoding="utf-8")
        return 0
    chosen = {name: (QUICK if options.quick else SWEEPS)[name] for name in options.sweeps}
    points = wanted(chosen)
    if options.plan:
        missing = sum(point.key not in read(options.results, dtype)["points"] for point in points)
        minutes = missing * (10 if options.quick else SECONDS_A_POINT) / 60
        print(f"scaling: {missing} of {len(points)} points to measure, about {minutes:.0f} minutes")
        return 0
    from bessemer.models.convert import obtain_model

    return 1 if measure_all(points, options.results, obtain_model(options.tokenizer), steps, dtype) else 0


if __name__ == "__main__":
    sys.exit(main())
