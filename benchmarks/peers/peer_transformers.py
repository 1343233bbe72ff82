"""transformers `generate`.

defaults: as it comes; a mix runs in batches in the order of arrival, each as long as its longest answer.
best: the model compiled, with a static cache; a mix is sorted by length first.
"""

from __future__ import annotations

import measurement
import rollouts
import torch
from transformers import AutoModelForCausalLM


def main() -> None:
    options = measurement.parse(["rollout"], __doc__)
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_pretrained(options.model, dtype=torch.bfloat16).eval()
    settings = {}
    if options.variant == "best":
        model.forward = torch.compile(model.forward, dynamic=False)
        settings = {"cache_implementation": "static"}

    def generate(prompts: list[list[int]], lengths: list[int]) -> None:
        order = list(range(len(prompts)))
        if options.variant == "best":
            order.sort(key=lengths.__getitem__)
        for first in range(0, len(order), options.batch):
            rows = order[first : first + options.batch]
            ids = torch.tensor([prompts[row] for row in rows])
            count = max(lengths[row] for row in rows)
            made = model.generate(
                ids, attention_mask=torch.ones_like(ids), max_new_tokens=count, min_new_tokens=count,
                do_sample=True, temperature=1.0, top_k=0, top_p=1.0, **settings,
            )  # fmt: skip
            assert made.shape[1] == ids.shape[1] + count

    packages = ["torch", "transformers"]
    rollouts.measure(options, generate, model.config.vocab_size, "bfloat16", torch.get_num_threads(), packages)


if __name__ == "__main__":
    main()
