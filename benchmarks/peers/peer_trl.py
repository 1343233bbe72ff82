"""TRL: SFT, reward model, GRPO and distillation, each with LoRA on every linear layer.

defaults: TRL's own (weights in float32 under bfloat16 autocast, gradient checkpointing).
best: the base's weights in bfloat16, no gradient checkpointing.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from typing import Any

import measurement
import torch
import workload
from datasets import Dataset
from measurement import WARM_UP, Options
from peft import LoraConfig
from stepclock import StepClock
from transformers import AutoTokenizer
from trl import GRPOConfig, GRPOTrainer, RewardConfig, RewardTrainer, SFTConfig, SFTTrainer
from trl.experimental.gkd import GKDConfig, GKDTrainer

IN_ORDER = {"train_sampling_strategy": "sequential"}
PACKAGES = ["trl", "transformers", "peft", "torch"]


def settings(options: Options, folder: str) -> dict[str, Any]:
    """What every trainer is told: data in the order of the file, one optimiser step a batch, a constant rate."""
    told: dict[str, Any] = {
        "output_dir": folder,
        "use_cpu": True,
        "max_steps": WARM_UP + options.steps,
        "per_device_train_batch_size": options.batch,
        "learning_rate": workload.LEARNING_RATE,
        "lr_scheduler_type": "constant",
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "include_num_input_tokens_seen": "non_padding",
    }
    if options.variant == "best":
        told |= {"gradient_checkpointing": False, "model_init_kwargs": {"dtype": "bfloat16"}}
    return told


def lora(task: str = "CAUSAL_LM") -> LoraConfig:
    heads = ["score"] if task == "SEQ_CLS" else None
    return LoraConfig(
        r=workload.LORA_RANK, lora_alpha=workload.LORA_ALPHA, lora_dropout=0.0, target_modules="all-linear",
        task_type=task, modules_to_save=heads,
    )  # fmt: skip


def endless(rows: Sequence[dict[str, Any]], count: int) -> Dataset:
    """The first `count` rows, used over again if there are fewer."""
    return Dataset.from_list([rows[index % len(rows)] for index in range(count)])


def sft(options: Options, folder: str) -> None:
    rows = [
        {"prompt": workload.conversation(r["question"]), "completion": [{"role": "assistant", "content": r["answer"]}]}
        for r in workload.read_alpaca(options.data)
    ]
    clock = StepClock("loss")
    config = SFTConfig(**settings(options, folder), max_length=workload.CUTOFF, **IN_ORDER)
    data = endless(rows, options.batch * config.max_steps)
    SFTTrainer(str(options.model), config, train_dataset=data, peft_config=lora(), callbacks=[clock]).train()
    finish(options, clock, options.batch)


def reward(options: Options, folder: str) -> None:
    """`--batch` prompts a step, every pair of their `--group` ranked answers; a sample is an answer, counted once."""
    records = workload.read_alpaca(options.data)
    prompts = options.batch * (WARM_UP + options.steps)
    pairs = workload.preference_pairs(records, prompts, options.group)
    clock = StepClock("loss")
    told = settings(options, folder) | {"per_device_train_batch_size": len(pairs) // prompts * options.batch}
    config = RewardConfig(**told, max_length=workload.CUTOFF, **IN_ORDER)
    data = Dataset.from_list(pairs)
    trainer = RewardTrainer(
        str(options.model), config, train_dataset=data, peft_config=lora("SEQ_CLS"), callbacks=[clock]
    )
    trainer.train()
    finish(options, clock, options.batch * options.group)


def grpo(options: Options, folder: str) -> None:
    """`--batch` answers a step, `--group` to a prompt; one pass over them, answers may end early."""
    tokenizer = AutoTokenizer.from_pretrained(options.model)
    records = workload.read_alpaca(options.data)
    prompts = options.batch // options.group * (WARM_UP + options.steps)
    rows = [{"prompt": text} for text in workload.passages(tokenizer, records, prompts, options.prompt_tokens)]
    clock, lengths = StepClock("reward"), []

    def score(completions: list[str], completion_ids: list[list[int]], **kwargs: Any) -> list[float]:
        lengths.append(sum(map(len, completion_ids)))
        return [workload.lower_case_share(text) for text in completions]

    timed = clock.spans.timed("reward", score)
    timed.__name__ = "lower_case_share"
    config = GRPOConfig(
        **settings(options, folder), num_generations=options.group, max_completion_length=options.new_tokens,
        steps_per_generation=1, shuffle_dataset=False, beta=options.kl,
    )  # fmt: skip
    trainer = GRPOTrainer(
        str(options.model), timed, config, train_dataset=Dataset.from_list(rows), peft_config=lora(), callbacks=[clock]
    )
    trainer._generate_single_turn = clock.spans.timed("rollout", trainer._generate_single_turn)
    trainer.train()
    finish(options, clock, options.batch, sum(lengths[WARM_UP:]) // options.steps)


def distill(options: Options, folder: str) -> None:
    """Forward KL from the teacher's whole distribution, on the answers of the data: `sft` with another loss."""
    rows = [{"messages": workload.conversation(r["question"], r["answer"])} for r in workload.read_alpaca(options.data)]
    clock = StepClock("loss")
    config = GKDConfig(**settings(options, folder), max_length=workload.CUTOFF, **IN_ORDER, lmbda=0.0, beta=0.0)
    tokenizer = AutoTokenizer.from_pretrained(options.model)
    trainer = GKDTrainer(
        str(options.model), str(options.teacher or options.model), config, processing_class=tokenizer,
        train_dataset=endless(rows, options.batch * config.max_steps), peft_config=lora(), callbacks=[clock],
    )  # fmt: skip
    trainer.teacher_model.forward = clock.spans.timed("reference", trainer.teacher_model.forward)
    trainer.train()
    finish(options, clock, options.batch)


def finish(options: Options, clock: StepClock, samples: int, tokens: int | None = None) -> None:
    dtype = "bfloat16" if options.variant == "best" else "float32, bfloat16 autocast"
    clock.write(options, PACKAGES, dtype, torch.get_num_threads(), samples, tokens)


WORKS = {"sft": sft, "reward": reward, "grpo": grpo, "distill": distill}


def main() -> None:
    options = measurement.parse(list(WORKS), __doc__)
    with tempfile.TemporaryDirectory() as folder:
        WORKS[options.work](options, folder)


if __name__ == "__main__":
    main()
