"""What a model sees: frozen dataclasses with the shape of every field.

Batches are packed: the tokens of all sequences lie one behind the other in one row of N, so nothing is ever padded and
no mask is ever derived from token ids. `model_inputs` is opaque (whatever the vision side needs): images cost no edit
outside `models`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from bessemer.data.render import Rendered

__all__ = ["Packed", "TextBatch", "pack", "pack_answers", "pad_rows", "response_rows", "text_batch"]


@dataclass(frozen=True)
class Packed:
    """B sequences, N tokens in all.

    ids (N,) int64; lengths: B of them, summing to N; image_rows (R,): rows of ids that visual tokens replace, in the
    order of the images; model_inputs: what the vision side needs for those images.
    """

    ids: Tensor
    lengths: tuple[int, ...]
    image_rows: Tensor
    model_inputs: Mapping[str, Tensor] = field(default_factory=dict)

    def starts(self) -> Tensor:
        """Row of the first token of each sequence, (B,)."""
        return torch.tensor((0, *self.lengths[:-1])).cumsum(0)

    def identities(self) -> list[int]:
        """N numbers, equal where two rows hold equal inputs: token ids, and below 0 the places of equal images."""
        numbers: list[int] = self.ids.tolist()
        if len(self.image_rows):
            images = list(zip(*self.model_inputs.values(), strict=True))
            width = len(self.image_rows) // len(images)
            known: dict[tuple[bytes, ...], int] = {}
            for image, parts in enumerate(images):
                content = tuple(part.contiguous().view(torch.uint8).numpy().tobytes() for part in parts)
                first = width * known.setdefault(content, len(known))
                for place, row in enumerate(self.image_rows[width * image : width * (image + 1)].tolist()):
                    numbers[row] = -1 - first - place
        return numbers


@dataclass(frozen=True)
class TextBatch:
    """Sequences with targets: M of the N rows predict a token that is trained on.

    packed: the inputs; rows (M,): rows whose hidden state predicts the targets (M,); weights (M,) float32: weight of
    each target; tasks (M,): index of its task, for the loss of each task.
    """

    packed: Packed
    rows: Tensor
    targets: Tensor
    weights: Tensor
    tasks: Tensor


def pack(sequences: Sequence[Rendered], model_inputs: Mapping[str, Tensor] | None = None) -> Packed:
    """Lay rendered sequences one behind the other."""
    ids = torch.tensor([token for sequence in sequences for token in sequence.ids], dtype=torch.int64)
    lengths = tuple(len(sequence.ids) for sequence in sequences)
    image_rows: list[int] = []
    start = 0
    for sequence in sequences:
        image_rows.extend(start + place for place in sequence.image_places)
        start += len(sequence.ids)
    return Packed(ids, lengths, torch.tensor(image_rows, dtype=torch.int64), dict(model_inputs or {}))


def text_batch(
    sequences: Sequence[Rendered],
    model_inputs: Mapping[str, Tensor] | None = None,
    weights: Sequence[float] | None = None,
    tasks: Sequence[int] | None = None,
) -> TextBatch:
    """Pack conversations so that every answer token is predicted from the row before it.

    weights: one a sequence (default 1), given to each of its answer tokens; tasks: one index a sequence (default 0).
    """
    rows: list[int] = []
    owner: list[int] = []
    start = 0
    for number, sequence in enumerate(sequences):
        # place 0 has no row before it: a sequence's first token is never a target
        answered = [place for place, answer in enumerate(sequence.answers) if answer and place]
        rows.extend(start + place - 1 for place in answered)
        owner.extend([number] * len(answered))
        start += len(sequence.ids)
    packed = pack(sequences, model_inputs)
    at = torch.tensor(rows, dtype=torch.int64)
    of = torch.tensor(owner, dtype=torch.int64)
    weight = torch.tensor(list(weights) if weights is not None else [1.0] * len(sequences), dtype=torch.float32)
    task = torch.tensor(list(tasks) if tasks is not None else [0] * len(sequences), dtype=torch.int64)
    return TextBatch(packed, at, packed.ids[at + 1], weight[of], task[of])


def pack_answers(
    prompts: Sequence[Rendered],
    answers: Sequence[Sequence[int]],
    model_inputs: Mapping[str, Tensor] | None = None,
) -> tuple[Packed, Tensor, Tensor]:
    """Pack prompts with their sampled answers; returns the batch, prompt_length (B,) and response_length (B,)."""
    sequences = [
        Rendered(
            (*prompt.ids, *answer),
            (*([False] * len(prompt.ids)), *([True] * len(answer))),
            prompt.image_places,
            prompt.images,
        )
        for prompt, answer in zip(prompts, answers, strict=True)
    ]
    prompt_length = torch.tensor([len(prompt.ids) for prompt in prompts])
    response_length = torch.tensor([len(answer) for answer in answers])
    return pack(sequences, model_inputs), prompt_length, response_length


def response_rows(packed: Packed, prompt_length: Tensor, response_length: Tensor) -> Tensor:
    """Rows whose hidden state predicts each response token, all sequences one behind the other, (M,)."""
    starts = packed.starts() + prompt_length - 1
    return torch.cat([torch.arange(int(s), int(s + n)) for s, n in zip(starts, response_length, strict=True)])


def pad_rows(values: Tensor, lengths: Tensor, fill: float = 0.0) -> tuple[Tensor, Tensor]:
    """Spread M values over a (B, T) grid; returns the grid and its mask (True = a real value)."""
    longest = int(lengths.max())
    mask = torch.arange(longest) < lengths[:, None]
    grid = torch.full(mask.shape, fill, dtype=values.dtype)
    grid[mask] = values
    return grid, mask
