"""Sampling: the in-process decoder beside transformers' generate, same model, prompts and number of tokens.

Run in turn A B A B; prints medians and their ratio. 32 prompts of 64 tokens, 48 new tokens, bfloat16.
"""

from __future__ import annotations

import statistics
import time

import torch

from bessemer.data.batches import pack
from bessemer.data.render import Rendered
from bessemer.models.convert import obtain_model
from bessemer.models.model import load_model
from bessemer.rollout.sampler import Sampling, sampler_for

NEW, ROUNDS = 48, 3


def main() -> None:
    directory = str(obtain_model("smollm2"))
    ours, theirs = load_model(directory), load_model(directory)
    theirs.backbone.language.set_attn_implementation("sdpa")
    sampler = sampler_for(ours)
    for batch in (1, 8, 32):
        generator = torch.Generator().manual_seed(0)
        ids = torch.randint(3, 49152, (batch, 64), generator=generator)
        prompts = pack([Rendered(tuple(row.tolist()), (False,) * 64, (), ()) for row in ids])
        times: dict[str, list[float]] = {"bessemer": [], "transformers": []}
        for _ in range(ROUNDS):
            began = time.perf_counter()
            sampler.sample(prompts, Sampling(NEW, 1.0), end_id=-1)
            times["bessemer"].append(time.perf_counter() - began)
            began = time.perf_counter()
            theirs.backbone.language.generate(
                ids, attention_mask=torch.ones_like(ids), max_new_tokens=NEW, min_new_tokens=NEW,
                do_sample=True, top_k=0, top_p=1.0, pad_token_id=2,
            )  # fmt: skip
            times["transformers"].append(time.perf_counter() - began)
        speeds = {name: batch * NEW / statistics.median(values) for name, values in times.items()}
        ratio = speeds["bessemer"] / speeds["transformers"]
        shown = "  ".join(f"{name} {speed:.0f} tok/s" for name, speed in speeds.items())
        print(f"batch {batch}: {shown}  ratio {ratio:.2f}", flush=True)


if __name__ == "__main__":
    main()
