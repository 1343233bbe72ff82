"""Tiny random vision-language models of three families, each with its real processor, and images to show them."""

from __future__ import annotations

from pathlib import Path

import torch
from PIL import Image
from transformers import (
    AutoModelForImageTextToText,
    Idefics3Config,
    Idefics3ImageProcessor,
    Idefics3Processor,
    LlamaConfig,
    Qwen2VLConfig,
    Qwen2VLImageProcessor,
    Qwen2VLProcessor,
    Qwen2VLVideoProcessor,
)

import tiny
from bessemer.data.images import image_ref
from bessemer.data.records import ImageRef

SHAPE = {
    "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 2, "initializer_range": 0.2,
}  # fmt: skip


def idefics3(directory: Path) -> Path:
    """SmolVLM's architecture: an image is cut into tiles, so that some have more of them than others."""
    torch.manual_seed(0)
    words = tiny.tokenizer()
    more = ["<image>", "<fake_token_around_image>", "<end_of_utterance>", "<global-img>"]
    words.add_tokens([*more, *(f"<row_{r}_col_{c}>" for r in range(1, 7) for c in range(1, 7))], special_tokens=True)
    words.chat_template = tiny.PARTS
    vision = {
        "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2,
        "image_size": 8, "patch_size": 4,
    }  # fmt: skip
    text = LlamaConfig(vocab_size=len(words), **SHAPE)
    image = words.convert_tokens_to_ids("<image>")
    config = Idefics3Config(
        vision_config=vision, text_config=text, scale_factor=2, image_token_id=image, pad_token_id=2
    )
    AutoModelForImageTextToText.from_config(config, dtype=torch.float32).save_pretrained(directory)
    tiles = Idefics3ImageProcessor(size={"longest_edge": 16}, max_image_size={"longest_edge": 8})
    Idefics3Processor(tiles, words, image_seq_len=1, chat_template=tiny.PARTS).save_pretrained(directory)
    return directory


def qwen2_vl(directory: Path) -> Path:
    """Images of any size as rows of patches, and positions in three directions that count an image as fewer places."""
    torch.manual_seed(0)
    words = tiny.tokenizer()
    names = ["<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"]
    words.add_tokens(names, special_tokens=True)
    start, end, image, video = (words.convert_tokens_to_ids(name) for name in names)
    template = tiny.PARTS.replace("<image>", "<|vision_start|><|image_pad|><|vision_end|>")
    words.chat_template = template
    vision = {
        "depth": 1, "embed_dim": 16, "num_heads": 2, "hidden_size": 32, "mlp_ratio": 2, "patch_size": 4,
        "spatial_merge_size": 2, "temporal_patch_size": 2, "in_channels": 3,
    }  # fmt: skip
    rotation = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [1, 1, 2]}
    config = Qwen2VLConfig(
        text_config={"vocab_size": len(words), "rope_parameters": rotation, **SHAPE},
        vision_config=vision,
        image_token_id=image,
        video_token_id=video,
        vision_start_token_id=start,
        vision_end_token_id=end,
    )
    AutoModelForImageTextToText.from_config(config, dtype=torch.float32).save_pretrained(directory)
    patches = Qwen2VLImageProcessor(patch_size=4, merge_size=2, temporal_patch_size=2, min_pixels=64, max_pixels=1024)
    films = Qwen2VLVideoProcessor(patch_size=4, merge_size=2)
    Qwen2VLProcessor(patches, words, films, chat_template=template).save_pretrained(directory)
    return directory


MODELS = {"llava": tiny.vision_language_model, "idefics3": idefics3, "qwen2_vl": qwen2_vl}


def noise(root: Path, sizes: list[tuple[int, int]]) -> list[ImageRef]:
    """Noisy images, (width, height) each: no two look alike to a random tower, nor does one to its mirror image."""
    made = []
    for number, (width, height) in enumerate(sizes):
        pixels = torch.randint(0, 256, (height, width, 3), generator=torch.Generator().manual_seed(number))
        Image.fromarray(pixels.to(torch.uint8).numpy()).save(root / f"{number}.png")
        made.append(image_ref(root / f"{number}.png", root))
    return made
