from __future__ import annotations

import json
import shutil
import stat
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from bessemer.cli import main
from bessemer.disk import tree_hash
from bessemer.errors import UserError
from bessemer.stages.export import Config, run
from bessemer.stages.predict import Config as Question
from bessemer.stages.predict import run as ask
from stages.test_predict import greedy


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")  # PEFT asks transformers for it
def test_the_adapter_is_merged_as_peft_merges_it(
    shop: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", str(shop / "sft" / "model"), str(tmp_path / "new" / "out"), "dtype=fp32"]) == 0
    out = tmp_path / "new" / "out"
    assert f"exported to {out}" in capsys.readouterr().out
    base = AutoModelForCausalLM.from_pretrained(shop / "sft" / "model" / "language")
    merged = PeftModel.from_pretrained(base, str(shop / "sft" / "model" / "adapter")).merge_and_unload().state_dict()
    exported = AutoModelForCausalLM.from_pretrained(out / "language").state_dict()
    for name, tensor in merged.items():
        torch.testing.assert_close(exported[name], tensor, atol=1e-6, rtol=1e-5)
    assert not (out / "adapter").exists() and not list(tmp_path.rglob(".exporting-*"))
    for part in ("projector", "tower"):
        assert tree_hash(out / part) == tree_hash(shop / "sft" / "model" / part)
    assert stat.S_IMODE(out.stat().st_mode) == stat.S_IMODE((tmp_path / "new").stat().st_mode)


def test_it_says_the_same_there_and_in_transformers(
    shop: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = run(Config(str(shop / "sft"), str(tmp_path / "out"), "fp32"))  # type: ignore[arg-type]
    capsys.readouterr()
    said = []
    for model in (shop / "sft", out):
        ask(Question("Is it scratched?", str(model), dtype="fp32", response_length=12))  # type: ignore[arg-type]
        said.append(capsys.readouterr().out)
        photograph = [str(shop / "photographs" / "good" / "photo000.png")]
        ask(Question("Is it scratched?", str(model), photograph, dtype="fp32", response_length=12))  # type: ignore[arg-type]
        said.append(capsys.readouterr().out)
    assert said[:2] == said[2:]
    assert said[0] == greedy(out / "language", "Is it scratched?", "You inspect parts.", 12) + "\n"


def test_in_bf16_it_takes_half_the_room(texts: Path, tmp_path: Path) -> None:
    """Tied weights once, as they were."""
    sizes = {}
    for dtype in ("fp32", "bf16"):
        out = run(Config(str(texts / "sft"), str(tmp_path / dtype), dtype))  # type: ignore[arg-type]
        tensors = load_file(out / "language" / "model.safetensors")
        sizes[dtype] = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
        assert tensors.keys() == load_file(texts / "tiny-model" / "model.safetensors").keys()
    assert sizes["fp32"] == 2 * sizes["bf16"]


def test_refusals(shop: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="expected a model and a directory"):
        run(Config(str(shop / "sft")))  # type: ignore[arg-type]
    with pytest.raises(UserError, match="exists already, expected a new directory"):
        run(Config(str(shop / "sft"), str(tmp_path)))  # type: ignore[arg-type]
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file" / "out", tmp_path / "file" / "a" / "out", tmp_path / ("x" * 300)):
        with pytest.raises(UserError, match="could not be written .*expected a writable place"):
            run(Config(str(shop / "sft"), str(place)))  # type: ignore[arg-type]


def test_other_tools_stop_where_it_was_taught_to_stop(texts: Path, tmp_path: Path) -> None:
    """A base model names the end of a text alone, which one that learnt to converse does not say."""
    base = tmp_path / "base"
    shutil.copytree(texts / "sft" / "model" / "language", base)
    path = base / "generation_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"eos_token_id": 0}))
    out = run(Config(str(base), str(tmp_path / "out")))  # type: ignore[arg-type]
    assert AutoModelForCausalLM.from_pretrained(out / "language").generation_config.eos_token_id == [2, 0]
    again = run(Config(str(out), str(tmp_path / "again")))  # type: ignore[arg-type]
    name = "language/generation_config.json"
    assert (again / name).read_bytes() == (out / name).read_bytes()
