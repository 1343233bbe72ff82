"""How every stage begins: its directory, its parents' hashes, its seed."""

from __future__ import annotations

import dataclasses
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bessemer.config import artifacts
from bessemer.distributed import Mesh
from bessemer.errors import UserError
from bessemer.models.precision import dtype_of, multiplies_bfloat16, short_name
from bessemer.run import Run

__all__ = ["begin", "cache_directory", "faults_of"]

log = logging.getLogger(__name__)

# Fields of which at least one is needed, in every stage that has them with a default above 0.
_COUNTS = (
    "augment_views", "base_answers", "batch_size", "batch_size_prompts", "cutoff_len", "gradient_accumulation_steps",
    "heldout_answers", "image_grid", "lora_rank", "mini_batch_size", "num_iterations", "num_ppo_epochs",
    "per_device_train_batch_size", "response_length", "save_steps", "total_steps",
)  # fmt: skip


def faults_of(config: Any) -> list[str]:
    """What is wrong with a configuration in itself, told before any stage works: its counts, and if they
    are right what its own `faults()` finds, if it has one."""
    if wrong := _bad_counts(config):
        return wrong
    own: Mapping[str, bool] = getattr(config, "faults", dict)()
    return [fault for fault, is_so in own.items() if is_so]


def _bad_counts(config: Any) -> list[str]:
    faults = []
    for field in dataclasses.fields(config):
        if type(field.default) is not int or field.name == "seed":
            continue
        value = getattr(config, field.name)
        if field.name in _COUNTS and field.default > 0 and value < 1:
            faults.append(f"{field.name}={value}, expected at least 1")
        # elsewhere -1 means "as many as there are": here it would train for no step, or leave one record out
        elif value < 0:
            faults.append(f"{field.name}={value}, expected 0 or more")
    return faults


def begin(config: Any, stage: str) -> Run:
    """Start (or resume) the run of a stage whose config has `output_dir`, `seed` and Artifact fields.

    Raises:
        UserError: `faults_of` the configuration; several processes of torchrun; see `Run.start`.
    """
    mesh = Mesh.start()
    if mesh.world_size > 1:
        raise UserError(f"{mesh.world_size} processes (torchrun), expected one: a stage trains on one device")
    if faults := faults_of(config):
        raise UserError("\n".join(faults))
    dtype = ""
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if field.name == "dtype":
            dtype = short_name(dtype_of(value, mesh.device))
            if dtype == "bf16" and not multiplies_bfloat16(mesh.device):
                log.warning("dtype=bf16 is slow here: this device imitates its products; dtype=auto takes fp32")
    parents = {field: Path(value) for field, value in artifacts(config).items() if Path(value).is_dir()}
    return Run.start(Path(config.output_dir), config, stage=stage, parents=parents, seed=config.seed, dtype=dtype)


def cache_directory() -> Path:
    """Where assets and visual features are kept: $BESSEMER_CACHE, or bessemer in the user's cache folder."""
    given = os.environ.get("BESSEMER_CACHE")
    return Path(given) if given else Path.home() / ".cache" / "bessemer"
