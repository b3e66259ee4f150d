"""Differences between devices that the code has to know."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def runs_ahead(device: torch.device) -> bool:
    """Whether work is only queued on the device: prefer few large kernels, and do not read values."""
    return device.type != "cpu"


def to_device(array: np.ndarray, device: torch.device, dtype: torch.dtype | None = None) -> Tensor:
    """A copy on the device.

    The host goes on at once: only from pinned memory does a copy not wait for all work that was queued before it.
    """
    host = torch.tensor(array, dtype=dtype)
    return host.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else host.to(device)
