"""Problem definitions: a module each, with a scenario, `DEFAULTS` and `build(config=None)`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from evorec.config import Overlay, RecommenderConfig, merge, parse_config

if TYPE_CHECKING:
    from evorec.recommender.problem import RecProblem

QUICK_SPACE: Final[Mapping[str, Any]] = {
    "balancing": ("fixed", "uncertainty", "dwa", "random"),
    "optimizer": "adamw",
    "experts": {"low": 2, "high": 4},
    "shared_experts": {"low": 1, "high": 2},
}
"""Search space for runs of minutes: no extra backward passes, few experts, a single optimiser."""
SMALL_WORLD: Final[Mapping[str, Any]] = {"n_users": 800, "n_items": 400, "n_interactions": 40_000}
"""Size of a simulated world for runs of minutes."""


def short_run(name: str, settings: Overlay, *, world: Overlay = SMALL_WORLD) -> Overlay:
    """Defaults of a problem with a simulated world, for runs of minutes: about a second per candidate on one core.

    Args:
        name: of the problem and of its world.
        settings: of this problem; they override the common settings.
        world: settings of the world.
    """
    common = {
        "problem": name,
        "data": {"reader": "simulator", "simulator": {"scenario": name, **world}},
        "training": {"steps": 120, "batch_size": 512},
        "space": QUICK_SPACE,
        "inputs": "all",
        "constraints": ("recall@k >= 0.9 * popularity",),
    }
    return merge(common, settings)


def recommender(defaults: Overlay, kind: type[RecommenderConfig] = RecommenderConfig) -> Callable[..., RecProblem]:
    """The function `build` of a recommendation problem.

    Args:
        defaults: settings of the problem; ``defaults["problem"]`` is its name.
        kind: class of its configuration.
    """

    def build(config: RecommenderConfig | None = None) -> RecProblem:
        """The problem with the settings of `config`, by default its own."""
        from evorec.recommender.problem import build_problem

        source = f"problems.{defaults['problem']}"
        return build_problem(config or parse_config(defaults, source=source, kind=kind))

    build.reads_config = True  # type: ignore[attr-defined]  # so it can be checked without being built
    return build
