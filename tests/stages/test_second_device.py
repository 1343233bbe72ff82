"""Every stage on a device that is not the CPU: no tensor is left behind, and what is learnt is the same."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import pytest
import torch
from torch.testing import assert_close

import tiny
from bessemer.loop import run_recipe
from bessemer.models.model import load_model
from second_device import Elsewhere, second_device

RECIPES = Path(__file__).parents[2] / "recipes" / "tiny"


def first(stage: Path) -> dict[str, float]:
    row: dict[str, float] = json.loads((stage / "metrics.jsonl").read_text().splitlines()[0])
    return row


def test_tensors_of_two_devices_do_not_meet() -> None:
    """As on a GPU: single numbers and indices of the CPU may, all else may not; nor does NumPy see what is there."""
    lost = torch.ones(2, device="meta")
    with second_device() as device:
        there, here = torch.ones(3, 2, device=device), torch.ones(3, 2)
        assert isinstance(there, Elsewhere) and type(there.cpu()) is torch.Tensor and type(here) is torch.Tensor
        assert_close((there * torch.tensor(2.0) + 1)[torch.tensor([0, 2])].cpu(), torch.full((2, 2), 3.0))
        for meet in (lambda: there + here, lambda: here.mul_(there.sum()), lambda: here[there[:, 0].long()]):
            with pytest.raises(RuntimeError, match="two devices"):
                meet()
        rows = torch.arange(3.0, device=device)
        assert rows[[2, 0]].cpu().tolist() == [2.0, 0.0] == rows[[True, False, True]].cpu().flip(0).tolist()
        assert there[:, [1]].cpu().tolist() == [[1.0]] * 3
        assert bool(torch.empty(2, device=device).cpu().isnan().all())
        with pytest.raises(RuntimeError, match="without numbers"):
            there * lost
        weight = torch.ones(2, device=device, requires_grad=True)
        (there @ weight).sum().backward()
        assert weight.grad is not None and weight.grad.cpu().tolist() == [3.0, 3.0]


@pytest.mark.filterwarnings("ignore:for .* copying from a non-meta parameter:UserWarning")  # here it is done
def test_the_whole_loop_leaves_no_tensor_behind(shop: Path, tmp_path: Path) -> None:
    tiny.surroundings(tmp_path)
    with contextlib.chdir(tmp_path), second_device():
        run_recipe(RECIPES / "loop.yaml", ["output_dir=.", "name=stages"])
    assert (tmp_path / "stages" / "report.html").is_file()
    for stage in ("align", "sft"):  # what comes behind them depends on answers, and these on last bits
        here, there = first(shop / stage), first(tmp_path / "stages" / stage)
        assert here.keys() == there.keys()
        assert there["loss"] == pytest.approx(here["loss"], rel=2e-3)


@torch.no_grad()
def test_a_pretrained_model_runs_there(tmp_path: Path) -> None:
    directory = str(tiny.language_model(tmp_path / "model", "qwen3"))
    packed = tiny.packed([7, 12, 5])
    expected = load_model(directory, "fp32").backbone.hidden(packed)
    with second_device() as device:
        found = load_model(directory, "fp32", device).backbone.hidden(packed)
        assert isinstance(found, Elsewhere)
        assert_close(found.cpu(), expected, atol=2e-5, rtol=0)
