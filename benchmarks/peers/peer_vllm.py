"""vLLM's CPU engine, in this process so that its memory is counted.

defaults: as it comes. best: with the libraries preloaded that its documentation asks for (Intel's OpenMP, which its
package brings, and tcmalloc if the system has it: libtcmalloc-minimal4), no text made of the answers, no prefix cache.
"""

from __future__ import annotations

import ctypes.util
import os
import sys
from pathlib import Path

os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "2")  # GB; left alone it takes a share of the machine's memory
os.environ.setdefault("VLLM_LOGGING_LEVEL", "WARNING")

import measurement  # noqa: E402
import rollouts  # noqa: E402
import torch  # noqa: E402  (reads its environment when it is imported)
from vllm import LLM, SamplingParams  # noqa: E402


def preload() -> None:
    """Start this process again with the libraries loaded before all others; nothing if that was done."""
    allocator = ctypes.util.find_library("tcmalloc_minimal") or ctypes.util.find_library("tcmalloc")
    openmp = Path(sys.prefix, "lib", "libiomp5.so")
    libraries = [name for name in (allocator, str(openmp) if openmp.is_file() else None) if name]
    if libraries and "LD_PRELOAD" not in os.environ:
        os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | {"LD_PRELOAD": ":".join(libraries)})


def main() -> None:
    options = measurement.parse(["rollout"], __doc__)
    best = options.variant == "best"
    if best:
        preload()
    engine = LLM(
        str(options.model),
        dtype="bfloat16",
        max_model_len=options.prompt_tokens + max(options.new_tokens, 128),
        max_num_seqs=options.batch,
        enable_prefix_caching=False if best else None,
        seed=0,
    )

    def generate(prompts: list[list[int]], lengths: list[int]) -> None:
        settings = [
            SamplingParams(temperature=1.0, top_k=0, top_p=1.0, max_tokens=count, ignore_eos=True, detokenize=not best)
            for count in lengths
        ]
        made = engine.generate([{"prompt_token_ids": ids} for ids in prompts], settings, use_tqdm=False)
        assert [len(one.outputs[0].token_ids) for one in made] == lengths

    vocabulary = engine.llm_engine.model_config.get_vocab_size()
    rollouts.measure(options, generate, vocabulary, "bfloat16", torch.get_num_threads(), ["vllm-cpu", "torch"])


if __name__ == "__main__":
    main()
