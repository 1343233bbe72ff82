"""llama.cpp, one sequence at a time, through llama-cpp-python.

defaults: the model's weights in bfloat16, as the other peers have them. q8: in 8 bits, by blocks of 32 weights. best:
the 4-bit file they came from.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import llama_cpp
import measurement
import rollouts


def gguf_beside(model: Path) -> Path:
    """The GGUF file from which bessemer's asset cache made the directory `model`."""
    source = model.with_name(model.name.removesuffix("-converted"))
    found = sorted(source.rglob("*.gguf"))
    if len(found) != 1:
        raise SystemExit(f"{source} holds {len(found)} GGUF files, expected one: give the smollm2 asset as --model")
    return found[0]


WRITTEN_AS = {
    "defaults": ("bfloat16", llama_cpp.LLAMA_FTYPE_MOSTLY_BF16),
    "q8": ("q8_0", llama_cpp.LLAMA_FTYPE_MOSTLY_Q8_0),
}
"""Variant -> what it is called, and llama.cpp's number for it."""


def written_as(kind: int, source: Path, target: Path) -> None:
    """Write a quantised GGUF file's weights in another type."""
    settings = llama_cpp.llama_model_quantize_default_params()
    settings.ftype = kind
    settings.allow_requantize = True
    if llama_cpp.llama_model_quantize(str(source).encode(), str(target).encode(), settings):
        raise SystemExit(f"llama.cpp could not convert {source}")


def main() -> None:
    options = measurement.parse(["rollout"], __doc__, ("defaults", "q8", "best"))
    if options.batch != 1:
        raise SystemExit(f"--batch {options.batch}, expected 1: this runner decodes one sequence at a time")
    threads = measurement.usable_cores()
    with tempfile.TemporaryDirectory() as folder:
        file, dtype = gguf_beside(options.model), "q4_1"
        if options.variant in WRITTEN_AS:
            dtype, kind = WRITTEN_AS[options.variant]
            written_as(kind, file, Path(folder, "model.gguf"))
            file = Path(folder, "model.gguf")
        longest = options.prompt_tokens + max(options.new_tokens, 128)
        model = llama_cpp.Llama(
            str(file), n_ctx=longest, n_threads=threads, n_threads_batch=threads, seed=0, verbose=False
        )

        def generate(prompts: list[list[int]], lengths: list[int]) -> None:
            for prompt, count in zip(prompts, lengths, strict=True):
                tokens = model.generate(prompt, top_k=0, top_p=1.0, min_p=0.0, temp=1.0, repeat_penalty=1.0)
                for _ in range(count):
                    next(tokens)

        rollouts.measure(options, generate, model.n_vocab(), dtype, threads, ["llama-cpp-python"])


if __name__ == "__main__":
    main()
