"""TRL's PPO in the last release that has it: policy, reference, reward and value model, each with weights of its own.

defaults: every weight of policy and value model is trained. best: the policy has LoRA, and is its own reference.
Each answer has exactly `--new-tokens` tokens.
"""

from __future__ import annotations

import tempfile

import measurement
import torch
import workload
from datasets import Dataset
from measurement import WARM_UP
from peft import LoraConfig
from stepclock import StepClock
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer
from trl.experimental.ppo import PPOConfig, PPOTrainer, ppo_trainer

MICRO_BATCH = 8


def main() -> None:
    options = measurement.parse(["ppo"], __doc__)
    if options.batch % MICRO_BATCH:
        raise SystemExit(f"--batch {options.batch}, expected a multiple of {MICRO_BATCH}")
    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(options.model, padding_side="left", pad_token="<|endoftext|>")
    steps = WARM_UP + options.steps
    texts = workload.passages(
        tokenizer, workload.read_alpaca(options.data), options.batch * steps, options.prompt_tokens
    )
    data = Dataset.from_dict({"input_ids": [tokenizer.encode(text) for text in texts]})
    policy = AutoModelForCausalLM.from_pretrained(options.model)
    scorer, critic = (AutoModelForSequenceClassification.from_pretrained(options.model, num_labels=1) for _ in range(2))
    adapter = LoraConfig(r=workload.LORA_RANK, lora_alpha=workload.LORA_ALPHA, target_modules="all-linear")
    clock = StepClock("objective/scores")
    with tempfile.TemporaryDirectory() as folder:
        config = PPOConfig(
            output_dir=folder, use_cpu=True, report_to="none", disable_tqdm=True, save_strategy="no", logging_steps=1,
            per_device_train_batch_size=MICRO_BATCH, gradient_accumulation_steps=options.batch // MICRO_BATCH,
            total_episodes=options.batch * steps, num_ppo_epochs=options.epochs, num_sample_generations=0,
            response_length=options.new_tokens, temperature=1.0, lr_scheduler_type="constant",
        )  # fmt: skip
        trainer = PPOTrainer(
            config, tokenizer, policy, None, scorer, data, critic, callbacks=[clock], eval_dataset=data,
            peft_config=adapter if options.variant == "best" else None,
        )  # fmt: skip
        timed = clock.spans.timed
        ppo_trainer.batch_generation = timed("rollout", ppo_trainer.batch_generation)
        scorer.model.forward = timed("reward", scorer.model.forward)
        if trainer.ref_model is not None:
            trainer.ref_model.forward = timed("reference", trainer.ref_model.forward)
        trainer.train()
    packages = ["trl", "transformers", "peft", "torch"]
    tokens = options.batch * options.new_tokens
    clock.write(
        options, packages, str(policy.dtype).removeprefix("torch."), torch.get_num_threads(), options.batch, tokens
    )


if __name__ == "__main__":
    main()
