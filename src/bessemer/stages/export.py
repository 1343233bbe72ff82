"""Write a model as one plain Hugging Face model, its adapter merged into the weights."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from bessemer.config import Artifact
from bessemer.disk import publish, unwritable
from bessemer.errors import UserError
from bessemer.models.model import ADAPTER, load_model, save_model
from bessemer.models.precision import Precision

__all__ = ["Config", "run"]


@dataclass
class Config:
    POSITIONAL: ClassVar[tuple[str, ...]] = ("model", "output_dir")

    model: Artifact = Artifact("")
    """Model directory, such as runs/solar/ppo/model."""
    output_dir: str = ""
    """Where to write; must not exist."""
    dtype: Precision = "bf16"
    """Type of the weights: bf16, fp32, or auto: bf16 where this machine multiplies it."""


def run(config: Config) -> Path:
    """Merge and write; language/ then loads in transformers as it is."""
    if not config.model or not config.output_dir:
        raise UserError("expected a model and a directory: bessemer export runs/solar/ppo/model exported")
    target = Path(config.output_dir)
    try:
        if target.exists():
            raise UserError(f"{target} exists already, expected a new directory; nothing was written")
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=target.parent, prefix=".exporting-"))
    except OSError as error:
        raise unwritable(target, error) from error
    try:
        model = load_model(config.model, config.dtype)
        adapter = ADAPTER if model.lora is not None else None
        made = temporary / "model"  # a directory of its own: only its owner may enter a temporary one
        save_model(model, made, adapter=adapter, merge=True)
        publish(made, target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    print(f"exported to {target}; its language/ loads in transformers as it is")
    return target
