"""Tiny random models and datasets, made from nothing: no network, no assets, seconds on one core."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image, ImageDraw
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    CLIPImageProcessor,
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaProcessor,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen3Config,
)

from bessemer.data.batches import Packed, pack
from bessemer.data.render import Rendered
from bessemer.models.heads import RewardHead
from bessemer.models.model import Model, attach_vision, load_model
from bessemer.models.vision import Tower

TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] + '\n' + message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
PARTS = (
    "{% for m in messages %}<|im_start|>{{ m['role'] + '\n' }}{% for part in m['content'] %}"
    "{% if part['type'] == 'image' %}<image>{% elif part['type'] == 'text' %}{{ part['text'] }}{% endif %}"
    "{% endfor %}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
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
    rope = {"rope_theta": 100.0}  # so low that what scales it shows in a few tokens
    config = {
        "llama": lambda: LlamaConfig(**shape),
        "qwen2": lambda: Qwen2Config(**shape),
        "qwen3": lambda: Qwen3Config(**shape, head_dim=8),
        "linear": lambda: LlamaConfig(**shape, rope_parameters={**rope, "rope_type": "linear", "factor": 3.0}),
        "yarn": lambda: LlamaConfig(
            **shape,
            rope_parameters={**rope, "rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16},
        ),
        "llama3": lambda: LlamaConfig(
            **shape,
            rope_parameters={
                **rope,
                "rope_type": "llama3",
                "factor": 8.0,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                "original_max_position_embeddings": 32,
            },
        ),
    }[kind]()
    AutoModelForCausalLM.from_config(config, dtype=torch.float32).save_pretrained(directory)
    words.save_pretrained(directory)
    return directory


def vision_language_model(directory: Path) -> Path:
    """A random LLaVA with a processor that makes four tokens of an image, and a chat template of parts."""
    torch.manual_seed(0)
    words = tokenizer()
    words.add_tokens(["<image>"], special_tokens=True)
    words.chat_template = PARTS
    seen = CLIPVisionConfig(
        hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2, image_size=8, patch_size=4
    )
    said = LlamaConfig(
        vocab_size=len(words), hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=512, bos_token_id=1, eos_token_id=2, pad_token_id=2,
        initializer_range=0.2, tie_word_embeddings=False,
    )  # fmt: skip
    image = words.convert_tokens_to_ids("<image>")
    config = LlavaConfig(vision_config=seen, text_config=said, image_token_index=image, tie_word_embeddings=False)
    AutoModelForImageTextToText.from_config(config, dtype=torch.float32).save_pretrained(directory)
    eight = {"height": 8, "width": 8}
    LlavaProcessor(
        CLIPImageProcessor(size={"shortest_edge": 8}, crop_size=eight),
        words,
        patch_size=4,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=PARTS,
    ).save_pretrained(directory)
    return directory


def text_model(directory: Path, kind: str = "llama", dtype: str = "fp32", seed: int = 0) -> Model:
    """`language_model`, loaded."""
    return load_model(str(language_model(directory / kind, kind, seed=seed)), dtype)


def composed_model(directory: Path, dtype: str = "fp32") -> Model:
    """A tiny language model with a tiny tower and a fresh projector, four visual tokens an image."""
    torch.manual_seed(0)
    model = text_model(directory, dtype=dtype)
    attach_vision(model, Tower.load(vision_tower(directory / "tower")).eval(), 2)
    return model


def sequences(lengths: Sequence[int], seed: int = 0) -> list[Rendered]:
    """Random bytes as text, every token of it trained on."""
    generator = torch.Generator().manual_seed(seed)
    made = []
    for length in lengths:
        ids = torch.randint(3, 259, (length,), generator=generator).tolist()
        made.append(Rendered(tuple(ids), (True,) * length, (), ()))
    return made


def packed(lengths: Sequence[int], seed: int = 0) -> Packed:
    """Random sequences of these lengths."""
    return pack(sequences(lengths, seed))


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


def surroundings(directory: Path) -> Path:
    """What the recipes in recipes/tiny expect in the current folder: tiny-model, tiny-tower and photographs."""
    directory.mkdir(parents=True, exist_ok=True)
    language_model(directory / "tiny-model", layers=3)
    vision_tower(directory / "tiny-tower")
    photographs(directory / "photographs")
    return directory


def reward_head(width: int, principles: Sequence[str], seed: int = 0) -> RewardHead:
    """A head as a reward stage leaves it, which expects something of answers that have not ended."""
    head = RewardHead(width, principles, seed)
    generator = torch.Generator().manual_seed(seed + 1)
    for part in (head.expected_weight, head.expected_bias):
        part.copy_(torch.randn(part.shape, generator=generator) / width**0.5)
    return head
