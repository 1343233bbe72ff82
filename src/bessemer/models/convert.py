"""Turn the default assets into plain Hugging Face directories, once.

The language model arrives as GGUF, the vision tower as a state dictionary whose 296 tensors map in order onto timm's
`tf_efficientnet_lite0`. Both become safetensors and JSON in the asset cache and are never converted again.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging as transformers_logging

from bessemer import assets
from bessemer.checkpoint import publish
from bessemer.errors import UserError
from bessemer.models.vision import Tower

__all__ = ["obtain_model"]


def obtain_model(name: str) -> Path:
    """Directory of a model given by asset name, path or hub id, ready for transformers (or `Tower.load`)."""
    writer = CONVERTERS.get(name)
    if writer is None:
        return assets.resolve(name)
    source = assets.obtain(name)
    target = source.parent / f"{source.name}-converted"
    if not (target / "config.json").is_file():
        temporary = Path(tempfile.mkdtemp(dir=source.parent, prefix=".converting-"))
        try:
            # a stage draws the same numbers whether or not the conversion was needed
            with torch.random.fork_rng(devices=[]):
                writer(source, temporary / "model")
            publish(temporary / "model", target)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    return target


def _only(directory: Path, pattern: str) -> Path:
    found = sorted(directory.rglob(pattern))
    if len(found) != 1:
        raise UserError(
            f"{directory}: {len(found)} files match {pattern}, expected exactly one; delete it and try again"
        )
    return found[0]


def _language_from_gguf(source: Path, target: Path) -> None:
    file = _only(source, "*.gguf")
    verbosity = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()
    try:
        tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
        model: Any = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, dtype=torch.float32)
        model.to(torch.bfloat16)
        # the weights are dense now: without this, transformers would save the marks of a quantised model
        del model.config.quantization_config
        del model.hf_quantizer
        model.config._name_or_path = ""
        model.save_pretrained(target)
        tokenizer.save_pretrained(target)
    finally:
        transformers_logging.set_verbosity(verbosity)


def _efficientnet_lite0(source: Path, target: Path) -> None:
    # weights_only: this file is a pickle; its sha256 is pinned and only tensors may come out of it
    theirs = torch.load(_only(source, "*.pth"), map_location="cpu", weights_only=True)
    tower = Tower.from_timm("tf_efficientnet_lite0")
    ours = tower.network.state_dict()
    pairs = list(zip(ours.items(), theirs.values(), strict=False))
    # the classifier comes last and is left out: our tower has none
    mismatched = [name for (name, mine), other in pairs if mine.shape != other.shape]
    if mismatched or len(ours) > len(theirs):
        raise UserError(f"{source}: tensor {mismatched[:1]} has another shape than timm's tf_efficientnet_lite0")
    tower.network.load_state_dict({name: other for (name, _), other in pairs})
    tower.save(target)


CONVERTERS: dict[str, Callable[[Path, Path], None]] = {
    "smollm2": _language_from_gguf,
    "efficientnet_lite0": _efficientnet_lite0,
}
