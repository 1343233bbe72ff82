"""LLaMA-Factory: SFT with LoRA on every linear layer.

defaults: its own (gradient checkpointing). best: without gradient checkpointing.
"""

from __future__ import annotations

import importlib.machinery
import importlib.util
import json
import sys
import tempfile
import types
from pathlib import Path

if importlib.util.find_spec("torchaudio") is None:
    # It imports torchaudio for sound alone, and the published wheel needs CUDA: an empty one does for text.
    sys.modules["torchaudio"] = types.ModuleType("torchaudio")
    sys.modules["torchaudio"].__spec__ = importlib.machinery.ModuleSpec("torchaudio", None)

import measurement  # noqa: E402
import torch  # noqa: E402
import workload  # noqa: E402
from llamafactory.train.tuner import run_exp  # noqa: E402
from measurement import WARM_UP  # noqa: E402
from stepclock import StepClock  # noqa: E402

SYSTEM = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"
"""What the model's own chat template says; that of LLaMA-Factory ends with a full stop, one token more."""


def main() -> None:
    options = measurement.parse(["sft"], __doc__)
    clock = StepClock("loss")
    with tempfile.TemporaryDirectory() as folder:
        description = {"alpaca": {"file_name": str(options.data.resolve())}}
        Path(folder, "dataset_info.json").write_text(json.dumps(description), encoding="utf-8")
        told = {
            "stage": "sft", "do_train": True, "model_name_or_path": str(options.model), "template": "smollm2",
            "default_system": SYSTEM,
            "dataset": "alpaca", "dataset_dir": folder, "cutoff_len": workload.CUTOFF, "disable_shuffling": True,
            "finetuning_type": "lora", "lora_target": "all", "lora_dropout": 0.0,
            "lora_rank": workload.LORA_RANK, "lora_alpha": workload.LORA_ALPHA,
            "learning_rate": workload.LEARNING_RATE, "lr_scheduler_type": "constant",
            "per_device_train_batch_size": options.batch, "gradient_accumulation_steps": 1,
            "max_steps": WARM_UP + options.steps, "bf16": True, "use_cpu": True, "output_dir": folder + "/output",
            "logging_steps": 1, "save_strategy": "no", "report_to": "none", "disable_tqdm": True,
            "include_num_input_tokens_seen": "non_padding",
            "disable_gradient_checkpointing": options.variant == "best",
        }  # fmt: skip
        run_exp(told, callbacks=[clock])
    packages = ["llamafactory", "trl", "transformers", "peft", "torch"]
    clock.write(options, packages, "bfloat16", torch.get_num_threads(), options.batch, None)


if __name__ == "__main__":
    main()
