"""Problem definitions: one module each, with a scenario, `DEFAULTS` and `build(config=None)`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from evorec.config import Overlay, RecommenderConfig, parse_config

if TYPE_CHECKING:
    from evorec.recommender.problem import RecProblem

QUICK_SPACE: Final[Mapping[str, Any]] = {
    "balancing": ("fixed", "uncertainty", "dwa", "random"),
    "optimizer": "adamw",
    "experts": {"low": 2, "high": 4},
    "shared_experts": {"low": 1, "high": 2},
}
"""Search space for runs of minutes: no extra backward passes, few experts, a single optimiser."""
MINUTES: Final[Mapping[str, Any]] = {"steps": 120, "batch_size": 512}
"""A search budget of about a second per candidate on one core."""
SMALL_WORLD: Final[Mapping[str, Any]] = {"n_users": 800, "n_items": 400, "n_interactions": 40_000}
"""Size of a simulated world for runs of minutes."""


def recommender(defaults: Overlay) -> Callable[..., RecProblem]:
    """The function `build` of a recommendation problem.

    Args:
        defaults: settings of the problem; ``defaults["problem"]`` is its name.
    """

    def build(config: RecommenderConfig | None = None) -> RecProblem:
        """The problem with the settings of `config`, by default its own."""
        from evorec.recommender.problem import build_problem

        return build_problem(config or parse_config(defaults, source=f"problems.{defaults['problem']}"))

    return build
