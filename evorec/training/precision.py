"""Floating point types of a training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import torch

from evorec.errors import ConfigError


@final
@dataclass(frozen=True)
class Precision:
    """Types of a training.

    Attributes:
        name: ``float32``, ``float64`` or ``bfloat16``.
        parameters: of parameters, moments, embeddings, losses and everything that is measured.
        activations: of the ranker's layers and the operands of their products.
    """

    name: str
    parameters: torch.dtype
    activations: torch.dtype


PRECISIONS = {
    "float32": Precision("float32", torch.float32, torch.float32),
    "float64": Precision("float64", torch.float64, torch.float64),
    "bfloat16": Precision("bfloat16", torch.float32, torch.bfloat16),
}


def resolve_precision(name: str, device: torch.device) -> Precision:
    """Types by the name in the configuration; ``auto`` is bfloat16 where the processor computes in it.

    Raises:
        ConfigError: bfloat16 is asked for where it is emulated: it would be slower and less exact.
    """
    native = has_bfloat16(device)
    if name == "auto":
        return PRECISIONS["bfloat16" if native else "float32"]
    if name == "bfloat16" and not native:
        raise ConfigError(
            f"training.precision is bfloat16, which this {device.type} does not compute in; use auto or float32."
        )
    return PRECISIONS[name]


def has_bfloat16(device: torch.device) -> bool:
    """Whether matrix products of bfloat16 run in hardware."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
