"""What a token is drawn from: the logits' distribution, filtered, and one uniform number against its running sum.

The filters and their order are those of transformers' `generate`: repetition penalty, temperature, top-k, top-p, min-p.
"""

from __future__ import annotations

import torch
from torch import Tensor

from bessemer.algos.language import scaled_logits
from bessemer.kernels import kernels_for

__all__ = ["draw", "filter_logits", "penalise_repetition"]

BLOCK = 256  # tokens whose probabilities are added up at once: the running sum is over blocks, then within one
LEADERS = 1024  # top-p sorts this many of a row first, which nearly always suffice


def penalise_repetition(logits: Tensor, said: Tensor, penalty: float) -> Tensor:
    """Lower the logits of what was said already: positive ones divided, negative ones multiplied by the penalty.

    logits, said (B, V); said: True = a token of the prompt or of the answer so far. Keskar et al. 2019 (CTRL,
    arXiv 1909.05858, section 4.1), negative logits as in transformers.
    """
    return torch.where(said, torch.where(logits < 0, logits * penalty, logits / penalty), logits)


def filter_logits(
    logits: Tensor, temperature: float = 1.0, top_k: int = 0, top_p: float = 1.0, min_p: float = 0.0
) -> Tensor:
    """Logits (B, V) divided by the temperature (above 0), with -inf for every token that may not be drawn.

    top_k: the k most likely stay, all those equal to the k-th too, 0: all; top_p: then the fewest that together have at
    least this share (Holtzman et al. 2020, arXiv 1904.09751), 1: all; min_p: then those with at least this fraction of
    the most likely one's probability (Nguyen et al. 2024, arXiv 2407.01082), 0: all. The most likely one always stays.
    """
    logits = scaled_logits(logits, temperature)
    if top_k:
        kth = logits.topk(min(top_k, logits.shape[-1])).values[:, -1:]
        logits = logits.masked_fill(logits < kth, float("-inf"))
    if top_p < 1.0:
        logits = _nucleus(logits, top_p)
    if min_p > 0.0:
        shares = torch.softmax(logits, -1)
        logits = logits.masked_fill(shares < min_p * shares.amax(-1, keepdim=True), float("-inf"))
    return logits


def _nucleus(logits: Tensor, top_p: float) -> Tensor:
    """Of each row the fewest leading tokens whose probabilities add up to top_p; the others become -inf."""
    total = torch.logsumexp(logits, -1, keepdim=True)
    for count in (min(LEADERS, logits.shape[-1]), logits.shape[-1]):
        ordered, places = logits.topk(count)
        shares = (ordered - total).exp()
        before = shares.cumsum(-1) - shares
        if bool((before[:, -1] >= top_p).all()):
            break
    kept = (before < top_p) | (torch.arange(count, device=logits.device) == 0)
    return torch.full_like(logits, float("-inf")).scatter(-1, places, ordered.masked_fill(~kept, float("-inf")))


def draw(logits: Tensor, uniform: Tensor, temperature: float = 1.0) -> Tensor:
    """Draw one token a row from softmax(logits / temperature): logits (B, V), uniform (B,) in [0, 1) -> ids (B,)."""
    kernels = kernels_for(logits.dtype, logits.device)
    if kernels is not None and temperature > 0:
        return kernels.draw(logits.contiguous(), uniform.float().contiguous(), 1 / temperature)
    shares = torch.softmax(scaled_logits(logits, temperature), -1)
    rows, count = shares.shape
    whole = count // BLOCK * BLOCK
    blocks = torch.cat([shares[:, :whole].view(rows, -1, BLOCK).sum(-1), shares[:, whole:].sum(-1, keepdim=True)], 1)
    block, rest = _passed(blocks, uniform[:, None])
    places = block * BLOCK + torch.arange(BLOCK, device=logits.device)
    within = shares.gather(-1, places.clamp(max=count - 1)).masked_fill_(places >= count, 0.0)
    return (block * BLOCK + _passed(within, rest)[0])[:, 0].clamp_(max=count - 1)


def _passed(shares: Tensor, uniform: Tensor) -> tuple[Tensor, Tensor]:
    """Where the running sum of each row (B, n), scaled to 1, passes a number of it (B, 1), and how far into that share
    the number is, 0 to 1."""
    sums = shares.cumsum(-1)
    target = uniform * sums[:, -1:]  # scaled: rounding may leave the last sum just under 1
    place = torch.searchsorted(sums, target, right=True).clamp_(max=shares.shape[-1] - 1)
    share = shares.gather(-1, place)
    return place, ((target - (sums.gather(-1, place) - share)) / share).clamp_(0.0, 1.0)
