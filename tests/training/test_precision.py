"""Floating point types: what a name means, and where bfloat16 is refused."""

import pytest
import torch

from evorec.config import TrainConfig
from evorec.errors import ConfigError
from evorec.training.precision import PRECISIONS, has_bfloat16, resolve_precision

CPU, GPU = torch.device("cpu"), torch.device("cuda")


def processor(monkeypatch, *, avx512=False, amx=False, cuda=False):
    """A processor with these instructions; the GPU emulates bfloat16 unless it has it."""
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx512)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: cuda or including_emulation)


def test_every_name_of_the_configuration_has_its_types():
    names = set(TrainConfig.model_json_schema()["properties"]["precision"]["enum"])
    assert names == set(PRECISIONS) | {"auto"}
    for name, precision in PRECISIONS.items():
        assert precision.name == name
    low = PRECISIONS["bfloat16"]
    assert (low.parameters, low.activations) == (torch.float32, torch.bfloat16)
    for name, dtype in (("float32", torch.float32), ("float64", torch.float64)):
        assert (PRECISIONS[name].parameters, PRECISIONS[name].activations) == (dtype, dtype)


@pytest.mark.parametrize("device", [CPU, GPU], ids=str)
@pytest.mark.parametrize("name", ["float32", "float64"])
def test_other_types_work_everywhere(name, device, monkeypatch):
    processor(monkeypatch)
    assert resolve_precision(name, device) is PRECISIONS[name]


@pytest.mark.parametrize("has", ["avx512", "amx"])
def test_a_processor_with_either_instruction_computes_bfloat16(has, monkeypatch):
    processor(monkeypatch, **{has: True})
    assert has_bfloat16(CPU)
    assert resolve_precision("auto", CPU) is resolve_precision("bfloat16", CPU) is PRECISIONS["bfloat16"]


def test_a_gpu_counts_only_what_it_does_not_emulate(monkeypatch):
    processor(monkeypatch)
    assert not has_bfloat16(GPU)
    processor(monkeypatch, cuda=True)
    assert resolve_precision("auto", GPU) is PRECISIONS["bfloat16"]


@pytest.mark.parametrize("device", [CPU, GPU], ids=str)
def test_auto_is_float32_where_bfloat16_is_emulated(device, monkeypatch):
    processor(monkeypatch)
    assert resolve_precision("auto", device) is PRECISIONS["float32"]


@pytest.mark.parametrize("device", [CPU, GPU], ids=str)
def test_bfloat16_is_refused_where_it_is_emulated(device, monkeypatch):
    processor(monkeypatch)
    words = f"training.precision is bfloat16, which this {device.type} does not compute in; use auto or float32"
    with pytest.raises(ConfigError, match=words):
        resolve_precision("bfloat16", device)
