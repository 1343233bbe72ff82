"""The stages: a module each, with a `Config` and `run(config) -> Path`; listed here and nowhere else."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from types import ModuleType

__all__ = ["STAGES", "Stage"]


@dataclass(frozen=True)
class Stage:
    """A verb of the command. Its module is imported when it is used: `bessemer --help` needs no PyTorch."""

    module: str
    summary: str
    in_recipe: bool = True
    """Whether `bessemer run` may order it, in a directory of its own; else it is a tool beside the loop."""

    def load(self) -> ModuleType:
        """The module, imported."""
        return importlib.import_module(self.module)


STAGES = {
    "import": Stage("bessemer.stages.importing", "photographs, labels and wordings -> records"),
    "tower": Stage("bessemer.stages.tower", "fine-tune the tower alone as a classifier: the honest rival"),
    "align": Stage("bessemer.stages.align", "teach the projector to speak to the language model"),
    "sft": Stage("bessemer.stages.sft", "supervised fine-tuning on several tasks"),
    "rank": Stage("bessemer.stages.rank", "sample answers to the question bank, order them by each principle"),
    "reward": Stage("bessemer.stages.reward", "train the reward model, one score a principle, on the rankings"),
    "ppo": Stage("bessemer.stages.ppo", "improve the policy by reinforcement learning from that reward"),
    "grpo": Stage("bessemer.stages.grpo", "without a critic: each answer to a prompt against the others"),
    "distill": Stage("bessemer.stages.distill", "pour what the policy knows into a smaller student"),
    "evaluate": Stage("bessemer.stages.evaluate", "every model beside its baselines, in report.json and report.html"),
    "annotate": Stage("bessemer.stages.annotate", "draw, describe, rank and review in your browser", in_recipe=False),
    "preannotate": Stage(
        "bessemer.stages.preannotate", "let a model propose annotations, and queue what teaches most", in_recipe=False
    ),
    "loop": Stage("bessemer.turns", "evaluate, queue, annotate, retrain, compare: turn by turn", in_recipe=False),
    "predict": Stage("bessemer.stages.predict", "ask a model a question about an image", in_recipe=False),
    "init": Stage("bessemer.stages.init", "look at your folder of images and write a recipe for it", in_recipe=False),
    "bench": Stage("bessemer.stages.bench", "measure the speed of this machine, work by work", in_recipe=False),
    "compare": Stage("bessemer.stages.compare", "what the reports of several seeds and splits say", in_recipe=False),
    "data": Stage(
        "bessemer.stages.data", "annotations of other tools: import, export, convert, check", in_recipe=False
    ),
    "export": Stage("bessemer.stages.export", "merge a model into plain files for deployment", in_recipe=False),
}
