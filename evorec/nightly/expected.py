"""Figures that a challenger is expected to have, from a file that CI keeps: metric, value, tolerance."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from evorec.errors import ConfigError
from evorec.nightly.checks import Check, Outcome

EXAMPLE = '{"recall@20": {"value": 0.19, "tolerance": 0.02}}'


@final
@dataclass(frozen=True)
class Expected:
    """A figure on the test, mean over the seeds of the final training.

    Attributes:
        value: in the metric's unit.
        tolerance: largest difference from it, in either direction.
    """

    value: float
    tolerance: float


def read_expected(path: Path) -> dict[str, Expected]:
    """The expected figures by metric.

    Raises:
        ConfigError: the file cannot be read or has another form.
    """
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(f"--expect {path} cannot be read as JSON: {error}; expected e.g. {EXAMPLE}") from None
    if not isinstance(stored, dict) or not stored:
        raise ConfigError(f"--expect {path} must be an object of metrics, e.g. {EXAMPLE}")
    found = {}
    for metric, entry in stored.items():
        value, tolerance = (_number(entry, name) for name in ("value", "tolerance"))
        if value is None or tolerance is None or tolerance < 0:
            raise ConfigError(
                f"--expect {path}: {metric} needs a finite value and a tolerance >= 0, got {entry!r}; e.g. {EXAMPLE}"
            )
        found[metric] = Expected(value, tolerance)
    return found


def _number(entry: Any, name: str) -> float | None:
    value = entry.get(name) if isinstance(entry, dict) else None
    if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
        return None
    return float(value)


def check_expected(expected: Mapping[str, Expected], found: Mapping[str, float]) -> list[Check]:
    """A check of each expected figure.

    Args:
        expected: by metric.
        found: figures of the challenger, by metric.
    """
    checks = []
    for metric, one in expected.items():
        value = found.get(metric)
        if value is None:
            known = ", ".join(sorted(found)) or "none"
            checks.append(Check(f"expect.{metric}", Outcome.FAIL, f"the challenger has no {metric}; it has {known}"))
            continue
        inside = abs(value - one.value) <= one.tolerance
        text = f"{metric} {value:.4g}, expected {one.value:g} ± {one.tolerance:g}"
        checks.append(Check(f"expect.{metric}", Outcome.PASS if inside else Outcome.FAIL, text))
    return checks
