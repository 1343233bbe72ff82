"""What weights of 8 bits cost in quality: the text that follows, a token at a time, beside the whole weights.

    python benchmarks/eight_bits.py [--model DIR] [--documents 40] [--json FILE]

Reads paragraphs of Python's documentation through the decoder, one row, each next token given: perplexity both ways,
the divergence of the two distributions, and how often the likeliest token is the same one.
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bessemer.config import Artifact
from bessemer.data.batches import pack
from bessemer.data.pydocs import pydocs_documents
from bessemer.data.render import Rendered
from bessemer.models.convert import obtain_model
from bessemer.models.feed import Feed
from bessemer.models.model import load_model
from bessemer.rollout.decoder import Decoder

WHOLE, EIGHT = "whole", "int8"


def read(decoder: Decoder, ids: list[int]) -> Tensor:
    """Log-probabilities of what follows each token but the first and the last, (len(ids) - 2, V)."""
    decoder.prefill(pack([Rendered(tuple(ids[:1]), (False,), (), ())]), 1, len(ids))
    steps = [decoder.step(torch.tensor([token])) for token in ids[1:-1]]  # the first is read with whole weights
    return torch.cat(steps).float().log_softmax(-1)


def compare(decoders: dict[str, Decoder], texts: list[list[int]]) -> dict[str, Any]:
    """Perplexities, mean KL(whole, int8) in nats a token, and the share of equal likeliest tokens."""
    surprise, divergence, alike, count = dict.fromkeys(decoders, 0.0), 0.0, 0, 0
    for ids in texts:
        said = {name: read(decoder, ids) for name, decoder in decoders.items()}
        targets = torch.tensor(ids[2:])[:, None]
        for name, logprobs in said.items():
            surprise[name] -= float(logprobs.gather(1, targets).double().sum())
        whole, eight = said[WHOLE], said[EIGHT]
        divergence += float((whole.exp() * (whole - eight)).sum())
        alike += int((whole.argmax(1) == eight.argmax(1)).sum())
        count += len(targets)
    return {
        "tokens": count,
        "perplexity": {name: math.exp(value / count) for name, value in surprise.items()},
        "kl": divergence / count,
        "same_likeliest": alike / count,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2", help="language model: asset, Hugging Face directory or hub id")
    parser.add_argument("--documents", type=int, default=40)
    parser.add_argument("--json", type=Path, help="file to write the figures to")
    options = parser.parse_args()
    model = load_model(str(obtain_model(Artifact(options.model))), "bf16", "cpu")
    renderer = Feed(model, Path.cwd(), Path.cwd()).renderer
    texts = [renderer.answer_ids(document.text, False) for document in pydocs_documents(options.documents)]
    decoders = {WHOLE: Decoder(model, None), EIGHT: Decoder(model, None, int8=True)}
    found = compare(decoders, texts)
    print(json.dumps(found, indent=1))
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
