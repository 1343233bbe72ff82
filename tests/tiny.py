"""Tiny random models and datasets, made from nothing: no network, no assets, seconds on one core."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from PIL import Image, ImageDraw
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    AutoModelForCausalLM,
    LlamaConfig,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen3Config,
)

from bessemer.models.vision import Tower

TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] + '\n' + message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]


def tokenizer() -> PreTrainedTokenizerFast:
    """Bytes as tokens, ChatML, and pad = eos, as SmolLM2 has it."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: index for index, token in enumerate([*SPECIAL, *alphabet])}
    base = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    base.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    base.decoder = decoders.ByteLevel()
    made = PreTrainedTokenizerFast(
        tokenizer_object=base, eos_token="<|im_end|>", pad_token="<|im_end|>", bos_token="<|im_start|>"
    )
    made.add_special_tokens({"additional_special_tokens": SPECIAL})
    made.chat_template = TEMPLATE
    return made


def language_model(directory: Path, kind: str = "llama", layers: int = 2, seed: int = 0) -> Path:
    """A random causal language model with its tokenizer as a Hugging Face directory, float32."""
    torch.manual_seed(seed)
    words = tokenizer()
    shape = {
        "vocab_size": len(words),
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": layers,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 512,
        "tie_word_embeddings": True,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 2,
        "initializer_range": 0.2,
    }
    config = {
        "llama": lambda: LlamaConfig(**shape),
        "qwen2": lambda: Qwen2Config(**shape),
        "qwen3": lambda: Qwen3Config(**shape, head_dim=8),
    }[kind]()
    AutoModelForCausalLM.from_config(config, dtype=torch.float32).save_pretrained(directory)
    words.save_pretrained(directory)
    return directory


def vision_tower(directory: Path, seed: int = 0) -> Path:
    """A random timm tower of a few thousand weights, 32 pixels wide."""
    torch.manual_seed(seed)
    Tower.from_timm("test_efficientnet", image_size=32).save(directory)
    return directory


def photographs(directory: Path, count: int = 24, size: int = 40) -> Path:
    """Class sub-folders of grey squares: those of "scratched" have a bright line."""
    generator = torch.Generator().manual_seed(0)
    for index in range(count):
        label = "scratched" if index % 2 else "good"
        folder = directory / label
        folder.mkdir(parents=True, exist_ok=True)
        shade = int(torch.randint(40, 120, (1,), generator=generator))
        image = Image.new("RGB", (size, size), (shade, shade, shade))
        if label == "scratched":
            row = int(torch.randint(5, size - 5, (1,), generator=generator))
            ImageDraw.Draw(image).line((0, row, size, row), fill=(255, 255, 255), width=3)
        image.save(folder / f"photo{index:03d}.png")
    return directory


def facts(path: Path) -> dict[str, object]:
    """A JSON file."""
    found: dict[str, object] = json.loads(path.read_text(encoding="utf-8"))
    return found
