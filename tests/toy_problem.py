"""A toy: the analytic test problem behind the entry-point group, as a third party would offer it."""

from typing import Any

from analytic import Analytic

from evorec.config import RecommenderConfig

DEFAULTS: dict[str, Any] = {
    "search": {"population": 8, "generations": 3},
    "constraints": [],
    "run": {"workers": 1},
}


def build(config: RecommenderConfig | None = None) -> Analytic:
    """The analytic problem; a data path makes every evaluation fail, and one that starts with `slow` makes it slow."""
    path = (config.data.path if config else None) or ""
    return Analytic(
        fault=lambda spec: "diverge" if path == "broken" else None,
        delay_s=float(path.removeprefix("slow")) if path.startswith("slow") else 0.0,
    )
