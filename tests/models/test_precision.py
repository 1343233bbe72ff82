"""Which type of number a device computes in."""

from __future__ import annotations

import pytest
import torch

from bessemer.errors import UserError
from bessemer.models import precision
from bessemer.models.precision import beside_eight_bits, dtype_of, has_tiles, mixed, multiplies_bfloat16, short_name


def pretend(monkeypatch: pytest.MonkeyPatch, **has: object) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: has)
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: True)
    asked = precision._processor_has  # what it remembers is of the real processor
    monkeypatch.setattr(precision, "_processor_has", getattr(asked, "__wrapped__", asked))


@pytest.mark.parametrize(
    ("has", "expected"),
    [
        ({"avx2": True, "avx512_f": True, "avx512_bf16": False, "amx_bf16": False}, torch.float32),
        ({"avx512_bf16": True}, torch.bfloat16),
        ({"avx512_bf16": False, "amx_bf16": True}, torch.bfloat16),
        ({"architecture": "aarch64", "neon": True, "bf16": True}, torch.bfloat16),
        ({"architecture": "aarch64", "neon": True, "bf16": False}, torch.float32),
        ({}, torch.float32),
    ],
)
def test_auto_is_bfloat16_where_the_processor_has_it(
    monkeypatch: pytest.MonkeyPatch, has: dict[str, object], expected: torch.dtype
) -> None:
    pretend(monkeypatch, **has)
    assert dtype_of("auto", "cpu") == expected
    with mixed("cpu"):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == expected


def test_tiles_are_those_of_amx(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, avx512_bf16=True, amx_bf16=False)
    assert not has_tiles()
    pretend(monkeypatch, amx_bf16=True)
    assert has_tiles()


def test_a_device_that_is_neither_cpu_nor_cuda_computes_in_float32() -> None:
    assert not multiplies_bfloat16("mps")
    assert dtype_of("auto", "meta") == torch.float32


def test_what_is_asked_for_is_what_one_gets(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, avx2=True)
    assert short_name(dtype_of("fp32", "cpu")) == "fp32"
    assert short_name(dtype_of("bf16", "cpu")) == "bf16"


def test_another_word_is_refused() -> None:
    with pytest.raises(UserError, match="dtype=half, expected auto, bf16 or fp32"):
        dtype_of("half", "cpu")


def test_weights_of_eight_bits_go_with_bfloat16_on_a_cpu(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    pretend(monkeypatch, avx512_bf16=True)
    assert beside_eight_bits("auto", torch.device("cpu")) == "bf16"
    with pytest.raises(UserError, match="weights=int8 on cuda, expected a CPU"):
        beside_eight_bits("auto", torch.device("cuda"))
    with pytest.raises(UserError, match="weights=int8 with dtype=fp32, expected dtype=bf16"):
        beside_eight_bits("fp32", torch.device("cpu"))
    assert not caplog.records
    pretend(monkeypatch, avx2=True)
    assert beside_eight_bits("auto", torch.device("cpu")) == "bf16"
    assert "weights=int8 are slow here" in caplog.text
