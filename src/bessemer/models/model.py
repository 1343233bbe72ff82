"""A model on disk and in memory: tokenizer, backbone, adapters, heads.

On disk every part is a plain directory that other tools can load on its own:

    model/bessemer.json   what the parts are
    model/language/       Hugging Face causal LM (or image-text-to-text model) with its tokenizer
    model/adapter/        LoRA in PEFT's layout, if one was trained
    model/projector/ model/tower/   the vision side, if there is one
    model/reward/         reward head, if there is one
"""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText, AutoProcessor, AutoTokenizer
from transformers.utils import logging as transformers_logging

from bessemer.data.render import Renderer
from bessemer.errors import UserError
from bessemer.models.backbone import PackedBackbone, PaddedBackbone, packs
from bessemer.models.convert import obtain_model
from bessemer.models.heads import RewardHead
from bessemer.models.lora import Lora
from bessemer.models.precision import dtype_of
from bessemer.models.projector import Projector
from bessemer.models.safety import check_directory
from bessemer.models.vision import Tower, pooled

__all__ = ["ADAPTER", "Facts", "Model", "attach_vision", "load_model", "save_model"]

transformers_logging.disable_progress_bar()  # reading 270 MB needs no bar; ours show what takes time

FORMAT = 2
ADAPTER = "sft"  # the name under which a saved adapter speaks after loading


@dataclass
class Facts:
    """What is true of a model whatever its weights: kind is "text", "composed" (our vision side) or "vlm"."""

    kind: str = "text"
    image_grid: int = 2
    system_prompt: str | None = None


@dataclass
class Model:
    """A loaded model and where its parts came from."""

    backbone: Any  # a Backbone that is an nn.Module
    tokenizer: Any
    processor: Any
    facts: Facts
    source: Path
    lora: Lora | None = None
    reward: RewardHead | None = None
    language_changed: bool = False
    """Whether the language model is no longer the one at `source`, though nothing in it may be learning now."""

    @property
    def tower(self) -> Tower | None:
        return self.backbone.tower if isinstance(self.backbone, PackedBackbone) else None

    @property
    def width(self) -> int:
        return int(self.backbone.head.shape[1])

    @property
    def declared_ends(self) -> list[int]:
        """The tokens at which its generation_config.json (without one, its configuration) ends what it says."""
        return _listed(self.backbone.language.generation_config.eos_token_id)

    def adapters(self, targets: Any = "all") -> Lora:
        """The adapters of this model; made on first use."""
        if self.lora is None:
            self.lora = Lora(self.backbone.language, targets)
        return self.lora

    def freeze(self) -> None:
        """Require no gradient of anything; stages then name what they train."""
        for module in (self.backbone, self.lora, self.reward):
            if isinstance(module, nn.Module):
                module.requires_grad_(False)


def load_model(name: str, dtype: str = "auto", device: torch.device | str = "cpu") -> Model:
    """Load a stage's model directory, or any Hugging Face causal or image-text-to-text model.

    dtype: "bf16", "fp32" or "auto" (what suits the device), the type of the frozen weights and of the activations.
    Dropout is off.
    A saved adapter is loaded, active, under the name "sft".
    """
    directory = obtain_model(name)
    for candidate in (directory / "model", directory):
        if (candidate / "bessemer.json").is_file():
            return _load_ours(candidate, dtype, device)
    return _load_plain(directory, Facts(), dtype, device)


def _load_plain(directory: Path, facts: Facts, dtype: str, device: torch.device | str) -> Model:
    check_directory(directory)
    weights = dtype_of(dtype, device)
    try:
        config = AutoConfig.from_pretrained(directory)
        vlm = "vision_config" in config.to_dict()
        loader: Any = AutoModelForImageTextToText if vlm else AutoModelForCausalLM
        language, loading = loader.from_pretrained(
            directory, dtype=weights, use_safetensors=True, output_loading_info=True
        )
        processor = AutoProcessor.from_pretrained(directory) if vlm else None
        tokenizer = processor.tokenizer if processor is not None else AutoTokenizer.from_pretrained(directory)
    except (OSError, ValueError, SafetensorError) as error:
        raise UserError(f"{directory}: transformers cannot load this model: {error}") from error
    for name in sorted(loading["missing_keys"]):
        raise UserError(f"{directory}: no tensor {name}, expected all weights of the model; get the whole of it")
    for name, parameter in language.named_parameters():
        # whatever such a model says or learns is not a number either, and shows only at the end of a stage
        if not bool(parameter.detach().sum().isfinite()):
            raise UserError(f"{directory}: tensor {name} has numbers that are not finite; get the model again")
    language.eval().to(device)
    backbone: nn.Module
    if vlm or not packs(config.model_type):
        backbone = PaddedBackbone(language)
    else:
        backbone = PackedBackbone(language, compute_dtype=weights)
    facts.kind = "vlm" if vlm else facts.kind
    model = Model(backbone, tokenizer, processor, facts, directory)
    model.freeze()
    return model


def _load_ours(directory: Path, dtype: str, device: torch.device | str) -> Model:
    path = directory / "bessemer.json"
    try:
        stored = json.loads(path.read_bytes())
        if stored.pop("format") != FORMAT:
            raise UserError(f"{directory}: written by another version, expected format {FORMAT}; train it again")
        facts = Facts(**stored)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(f"{path} is damaged ({error!r}), expected what a stage wrote; copy the model again") from error
    model = _load_plain(directory / "language", facts, dtype, device)
    model.source = directory
    if model.facts.kind == "composed":
        assert isinstance(model.backbone, PackedBackbone)
        model.backbone.projector = Projector.load(directory / "projector").to(device)
        model.backbone.tower = Tower.load(directory / "tower").eval().to(device)
        model.backbone.image_grid = model.facts.image_grid
    if (directory / "adapter").is_dir():
        config = json.loads((directory / "adapter" / "adapter_config.json").read_text(encoding="utf-8"))
        lora = model.adapters(config["target_modules"])
        lora.load(ADAPTER, directory / "adapter")
        lora.active = ADAPTER
    if (directory / "reward").is_dir():
        model.reward = RewardHead.load(directory / "reward").to(device)
    model.freeze()
    return model


def attach_vision(model: Model, tower: Tower, image_grid: int, hidden: int = 0) -> None:
    """Give a text model a vision side: the tower, and a fresh projector into its embedding space."""
    if not isinstance(model.backbone, PackedBackbone):
        raise UserError("this language model already has a vision side, or runs padded; expected a packed text model")
    projector = Projector(tower.channels, hidden or 2 * model.width, model.width, pooled(image_grid))
    projector.match_scale(model.backbone.language.get_input_embeddings().weight)
    model.backbone.projector = projector.to(model.backbone.device)
    model.backbone.tower = tower.to(model.backbone.device)
    model.backbone.image_grid = image_grid
    model.facts.kind, model.facts.image_grid = "composed", image_grid
    model.freeze()


def save_model(model: Model, directory: Path, *, adapter: str | None = None, merge: bool = False) -> None:
    """Write a model's parts as plain directories.

    adapter: name of the adapter to save beside the untouched base; with `merge` it is added into the base instead,
    which is then written anew in the type of the activations.
    """
    directory.mkdir(parents=True, exist_ok=True)
    language = directory / "language"
    source = model.source / "language" if (model.source / "language").is_dir() else model.source
    unchanged = not merge and not _language_trained(model)
    if unchanged and source.is_dir():
        _link_tree(source, language)
    else:
        _save_language(model, language, adapter if merge else None)
    if adapter is not None and not merge:
        model.adapters().save(adapter, directory / "adapter", "../language")
    if isinstance(model.backbone, PackedBackbone) and model.backbone.projector is not None:
        assert model.backbone.tower is not None
        model.backbone.projector.save(directory / "projector")
        model.backbone.tower.save(directory / "tower")
    if model.reward is not None:
        model.reward.save(directory / "reward")
    text = json.dumps({"format": FORMAT, **asdict(model.facts)}, indent=2, ensure_ascii=False) + "\n"
    (directory / "bessemer.json").write_text(text, encoding="utf-8")


def _language_trained(model: Model) -> bool:
    learning = any(parameter.requires_grad for parameter in model.backbone.language.parameters())
    return learning or model.language_changed


def _save_language(model: Model, directory: Path, merged: str | None) -> None:
    network = model.backbone.language
    state = dict(network.state_dict())
    if merged is not None:
        lora = model.adapters()
        for layer in lora.shapes:
            key = f"{layer}.weight"
            state[key] = lora.merged(merged, layer, state[key]).to(state[key].dtype)
    stored = torch.bfloat16 if model.backbone.compute_dtype == torch.bfloat16 else torch.float32
    state = {name: tensor.to(stored) if tensor.is_floating_point() else tensor for name, tensor in state.items()}
    network.save_pretrained(directory, state_dict=state)
    network.config.dtype = stored  # transformers notes the type of the weights in memory
    network.config.save_pretrained(directory)
    (model.processor or model.tokenizer).save_pretrained(directory)
    _name_end(model, directory / "generation_config.json")


def _name_end(model: Model, path: Path) -> None:
    """Name the token that closes a turn among those at which other tools stop: of a base model that was taught to
    converse they know the end of a text alone, which it never says."""
    settings = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    named, end = _listed(settings.get("eos_token_id")), Renderer(model.tokenizer).end_id
    if end not in named:
        settings["eos_token_id"] = [end, *named]
        path.write_text(json.dumps(settings, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _listed(ids: int | list[int] | None) -> list[int]:
    return ids if isinstance(ids, list) else [] if ids is None else [ids]


def _link_tree(source: Path, target: Path) -> None:
    """Copy the files of a directory as hard links where the disk allows: an unchanged base costs no space."""
    target.mkdir(parents=True, exist_ok=True)
    for path in sorted(source.iterdir()):
        if path.is_file():
            copy = target / path.name
            if copy.exists() and copy.samefile(path):
                continue
            copy.unlink(missing_ok=True)
            try:
                os.link(path.resolve(), copy)
            except OSError:
                shutil.copyfile(path, copy)
