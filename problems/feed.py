"""A content feed: will the user click, like and buy what is shown next?

Tasks: click, like and purchase on impressions, each later one rarer; nobody buys without a click, so click and purchase
are a funnel; retrieval looks for clicks over the whole catalogue. Runs out of the box on the built-in simulator, whose
``conflict_angle_deg`` sets how far the tasks' tastes point apart, and so how deep sharing pays. On a log of your own,
set ``data.reader`` and ``tasks``.

The space is narrowed to what a run of minutes can explore: balancing without extra backward passes, few experts, one
optimiser, all features. ``inputs = "search"``, ``space.balancing = ["fixed", "pcgrad", "nash"]`` and the like widen it
again.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from evorec.config import RunConfig, parse_config
from problems import QUICK_SPACE

if TYPE_CHECKING:
    from evorec.rec_problem import RecProblem

DEFAULTS: Mapping[str, Any] = {
    "problem": "feed",
    "data": {"reader": "simulator", "statistics": ("user", "item", "category")},
    "tasks": {"ranked": ("click", "like", "purchase"), "target": "click", "funnel": ("click", "purchase")},
    "space": QUICK_SPACE,
    "inputs": "all",
    "box": {
        "recall@k": {"ideal": 0.5, "worst": 0.0},
        "accuracy": {"ideal": 0.9, "worst": 0.5},
    },
}
"""Settings of this problem, below a configuration file and above the field defaults."""


def build(config: RunConfig | None = None) -> RecProblem:
    """The problem, on the simulator unless `config` says otherwise."""
    from evorec.rec_problem import build_problem

    return build_problem(config or parse_config(DEFAULTS, source="problems.feed"))
