"""Problem definitions: one module each, with a scenario, `DEFAULTS` and `build(config=None)`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

QUICK_SPACE: Final[Mapping[str, Any]] = {
    "balancing": ("fixed", "uncertainty", "dwa", "random"),
    "optimizer": "adamw",
    "experts": {"low": 2, "high": 4},
    "shared_experts": {"low": 1, "high": 2},
}
"""The part of the space that a run of minutes can explore: no extra backward passes, few experts, one optimiser."""
MINUTES: Final[Mapping[str, Any]] = {"steps": 120, "batch_size": 512}
"""A search budget of about a second per candidate on one core."""
