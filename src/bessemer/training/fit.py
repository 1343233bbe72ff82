"""The supervised loop: pretraining, alignment, supervised fine-tuning, reward models and distillation share it.

What a step trains on is a pure function of the step, so a resumed run needs to know the step and nothing else about
the data. Everything that changes during a run is in its checkpoint: weights, optimiser, random state.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from bessemer import checkpoint
from bessemer.algos.masked import Loss
from bessemer.distributed import Mesh
from bessemer.errors import UserError
from bessemer.run import Run
from bessemer.training.optim import Group, adamw, learning_rate_at, set_learning_rate
from bessemer.training.step import optimiser_step

__all__ = ["TrainState", "fit"]

Batch = TypeVar("Batch")
MOMENTS = ("exp_avg", "exp_avg_sq")


@dataclass
class TrainState:
    """Everything that a step changes, and that a checkpoint therefore holds.

    parameters: trained ones by unique name; buffers: other tensors that change in place (running statistics);
    numbers: plain values such as an adaptive coefficient.
    """

    parameters: Mapping[str, nn.Parameter]
    optimiser: torch.optim.Optimizer
    buffers: Mapping[str, Tensor] = field(default_factory=dict)
    numbers: dict[str, Any] = field(default_factory=dict)
    skipped_in_a_row: int = 0

    def save(self, run: Run, step: int) -> None:
        """Write an atomic checkpoint of the state after `step` steps."""
        tensors = {f"weight.{name}": parameter.detach() for name, parameter in self.parameters.items()}
        tensors |= {f"buffer.{name}": tensor for name, tensor in self.buffers.items()}
        for name, parameter in self.parameters.items():
            state = self.optimiser.state.get(parameter)
            if state:
                tensors |= {f"{moment}.{name}": state[moment] for moment in MOMENTS}
                tensors[f"count.{name}"] = state["step"]
        tensors |= {f"rng.{name}": tensor for name, tensor in checkpoint.rng_state().items()}
        facts = {"numbers": self.numbers, "skipped_in_a_row": self.skipped_in_a_row}
        run.save(step, tensors, facts)

    def resume(self, run: Run) -> int:
        """Restore the newest good checkpoint; returns the number of steps it holds (0: there is none)."""
        found = run.resume()
        if found is None:
            return 0
        tensors = found.tensors
        missing = [name for name in self.parameters if f"weight.{name}" not in tensors]
        if missing:
            raise UserError(f"{found.directory}: no weights of {missing[0]}; remove {run.checkpoints} to start afresh")
        with torch.no_grad():
            for name, parameter in self.parameters.items():
                parameter.copy_(tensors[f"weight.{name}"])
                if f"count.{name}" in tensors:
                    # laid out in memory as the parameter is, or the optimiser's kernels may round otherwise
                    moments = {
                        moment: torch.empty_like(parameter).copy_(tensors[f"{moment}.{name}"]) for moment in MOMENTS
                    }
                    count = tensors[f"count.{name}"].clone().to(parameter.device)
                    self.optimiser.state[parameter] = {"step": count, **moments}
            for name, buffer in self.buffers.items():
                buffer.copy_(tensors[f"buffer.{name}"])
        self.numbers.update(found.state["numbers"])
        self.skipped_in_a_row = found.state["skipped_in_a_row"]
        checkpoint.restore_rng({name[4:]: tensor for name, tensor in tensors.items() if name.startswith("rng.")})
        return found.step

    def note(self, applied: bool, limit: int = 5) -> None:
        """Count steps whose loss or gradient was not finite; too many in a row end the run, weights unharmed."""
        self.skipped_in_a_row = 0 if applied else self.skipped_in_a_row + 1
        if self.skipped_in_a_row >= limit:
            raise UserError(
                f"{limit} steps in a row had a loss or gradient that is not finite; no weight was changed by them. "
                "Lower learning_rate, or look for damaged records in the data"
            )


def fit(
    run: Run,
    groups: Sequence[Group],
    batches_at: Callable[[int], Sequence[Batch]],
    loss_of: Callable[[Batch], Loss],
    *,
    steps: int,
    description: str,
    warmup_ratio: float = 0.03,
    schedule: str = "cosine",
    max_grad_norm: float = 1.0,
    save_steps: int = 100,
    buffers: Mapping[str, Tensor] | None = None,
    after_step: Callable[[int], Mapping[str, float]] | None = None,
    mesh: Mesh | None = None,
) -> None:
    """Train for `steps` steps, from wherever the run's newest checkpoint stands.

    batches_at: microbatches of a step, a pure function of the step; loss_of: loss of one microbatch;
    after_step: extra metrics to log after a step (an evaluation every so often).
    """
    parameters = {name: parameter for group in groups for name, parameter in group.parameters.items()}
    state = TrainState(parameters, adamw(groups), dict(buffers or {}))
    start = state.resume(run)
    warmup = round(steps * warmup_ratio)
    with run.track(steps, description, start=start) as bar:
        for step in range(start, steps):
            set_learning_rate(state.optimiser, learning_rate_at(step, steps, warmup, schedule))
            result = optimiser_step(
                state.optimiser, parameters.values(), batches_at(step), loss_of, max_grad_norm, mesh
            )
            state.note(result.applied)
            metrics = {"loss": result.loss, "gradient_norm": result.gradient_norm, **result.metrics}
            if not result.applied:
                metrics["skipped"] = 1.0
            if after_step is not None:
                metrics |= after_step(step + 1)
            run.log(step + 1, metrics)
            bar.advance(1, loss=result.loss)
            if (step + 1) % save_steps == 0 and step + 1 < steps or run.stop_requested:
                state.save(run, step + 1)
            run.raise_if_stopped()
    state.save(run, steps)
