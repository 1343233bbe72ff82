"""Language models of known shape with random weights, and what counts of a shape for arithmetic.

    python benchmarks/shapes.py qwen2-135m DIRECTORY

A Hugging Face directory with SmolLM2's tokenizer; what a network says is noise, what it costs is real. One that is
there already is left alone.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from dataclasses import dataclass
from pathlib import Path

__all__ = ["SHAPES", "Shape", "make_model", "read_shape"]


@dataclass(frozen=True)
class Shape:
    """A decoder of `layers` blocks of `width`: `heads` of `head_dim` asking, `kv_heads` answering, a gated perceptron
    of width `inner`, and one table of `vocabulary` words that embeds and predicts."""

    architecture: str
    layers: int
    width: int
    inner: int
    heads: int
    kv_heads: int
    head_dim: int
    vocabulary: int = 49152

    @property
    def linears(self) -> list[tuple[int, int]]:
        """Inputs and outputs of the linear layers of one block: query, key, value, out, gate, up, down."""
        asking, answering = self.heads * self.head_dim, self.kv_heads * self.head_dim
        return [
            (self.width, asking),
            (self.width, answering),
            (self.width, answering),
            (asking, self.width),
            (self.width, self.inner),
            (self.width, self.inner),
            (self.inner, self.width),
        ]

    @property
    def block_weights(self) -> int:
        """Weights of the linear layers of all blocks."""
        return self.layers * sum(inputs * outputs for inputs, outputs in self.linears)

    @property
    def head_weights(self) -> int:
        return self.vocabulary * self.width

    @property
    def parameters(self) -> int:
        """Weights of all matrices; norms and biases, a thousandth of them, are left out."""
        return self.block_weights + self.head_weights

    def lora_weights(self, rank: int) -> int:
        """Weights of one adapter on every linear layer of the blocks."""
        return self.layers * rank * sum(inputs + outputs for inputs, outputs in self.linears)


SHAPES = {
    "llama-30m": Shape("llama", 22, 256, 768, 4, 2, 64),
    "llama-60m": Shape("llama", 24, 384, 1152, 6, 2, 64),
    "llama-135m": Shape("llama", 30, 576, 1536, 9, 3, 64),  # SmolLM2-135M
    "llama-250m": Shape("llama", 34, 768, 2048, 12, 4, 64),
    "llama-500m": Shape("llama", 40, 1024, 2816, 16, 4, 64),
    "qwen2-135m": Shape("qwen2", 22, 512, 2816, 8, 2, 64),  # biases, a wide perceptron
    "qwen3-135m": Shape("qwen3", 28, 512, 1536, 8, 4, 128),  # normed queries and keys, heads wider than the states
    "llama-tiny": Shape("llama", 2, 64, 128, 4, 2, 16),
    "llama-tiny-2": Shape("llama", 4, 64, 128, 4, 2, 16),
}


def read_shape(model: Path) -> Shape:
    """The shape of a Llama-, Qwen2- or Qwen3-like model from its config.json."""
    stored = json.loads((model / "config.json").read_text(encoding="utf-8"))
    heads, width = stored["num_attention_heads"], stored["hidden_size"]
    return Shape(
        stored["model_type"],
        stored["num_hidden_layers"],
        width,
        stored["intermediate_size"],
        heads,
        stored.get("num_key_value_heads") or heads,
        stored.get("head_dim") or width // heads,
        stored["vocab_size"],
    )


def make_model(shape: Shape, tokenizer: Path, directory: Path) -> Path:
    """Write a random model of this shape with the tokenizer of another; whole, or not at all."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, Qwen2Config, Qwen3Config
    from transformers.utils import logging

    logging.disable_progress_bar()
    if (directory / "config.json").is_file():
        return directory
    words = AutoTokenizer.from_pretrained(tokenizer)
    families = {"llama": LlamaConfig, "qwen2": Qwen2Config, "qwen3": Qwen3Config}
    config = families[shape.architecture](
        vocab_size=shape.vocabulary,
        hidden_size=shape.width,
        intermediate_size=shape.inner,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        head_dim=shape.head_dim,
        max_position_embeddings=8192,
        tie_word_embeddings=True,
        bos_token_id=words.bos_token_id,
        eos_token_id=words.eos_token_id,
        pad_token_id=words.pad_token_id,
    )
    directory.parent.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    network = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    with tempfile.TemporaryDirectory(dir=directory.parent) as folder:
        network.save_pretrained(Path(folder, "model"))
        words.save_pretrained(Path(folder, "model"))
        Path(folder, "model").rename(directory)
    return directory


def main() -> None:
    from bessemer.models.convert import obtain_model

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shape", choices=SHAPES)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--tokenizer", default="smollm2", help="model whose tokenizer is taken (%(default)s)")
    options = parser.parse_args()
    make_model(SHAPES[options.shape], obtain_model(options.tokenizer), options.directory)


if __name__ == "__main__":
    main()
