"""The measure of what 8 bits cost, beside one forward pass over each whole text."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from eight_bits import EIGHT, WHOLE, compare

import tiny
from bessemer.data.batches import pack
from bessemer.models.model import Model
from bessemer.rollout.decoder import Decoder


def test_perplexity_and_divergence_are_those_of_whole_passes(tmp_path: Path) -> None:
    """Two unlike models in place of two precisions; float32, so that nothing but the arithmetic is compared."""
    rendered = tiny.sequences([9, 4], seed=2)
    model, other = tiny.text_model(tmp_path / "a"), tiny.text_model(tmp_path / "b", seed=1)
    found = compare({WHOLE: Decoder(model, None), EIGHT: Decoder(other, None)}, [list(row.ids) for row in rendered])

    def logprobs(asked: Model) -> torch.Tensor:
        """Of what follows all but the first and the last token of each text, (9 - 2 + 4 - 2, V)."""
        with torch.no_grad():
            logits = asked.backbone.hidden(pack(rendered)) @ asked.backbone.head.T
        return torch.cat([logits[1:8], logits[10:12]]).double().log_softmax(-1)

    whole, eight = logprobs(model), logprobs(other)
    targets = torch.tensor([*rendered[0].ids[2:], *rendered[1].ids[2:]])[:, None]
    assert found["tokens"] == 9
    for name, table in ((WHOLE, whole), (EIGHT, eight)):
        assert found["perplexity"][name] == pytest.approx(math.exp(-float(table.gather(1, targets).mean())), rel=1e-4)
    assert found["kl"] == pytest.approx(float((whole.exp() * (whole - eight)).sum(1).mean()), rel=1e-3)
    assert found["same_likeliest"] == float((whole.argmax(1) == eight.argmax(1)).double().mean())
