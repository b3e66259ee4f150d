"""Customer support: which answer helps, how soon is it there, and what does it cost?

A help desk suggests answers to a customer: articles of its help pages, or a person (an agent, an expert) to write one.
Experts help most, late and at a price. Tasks: helpful, and two numbers that are better low, response_minutes and
service_cost. The front goes from the most helpful answers to the quickest and cheapest, each measured on the answers
that a member would choose.

On a log of your own (``data.reader = "table"``): a row per answer given, with user (the customer, or the question),
item (the article, the agent or the kind of answer), time and the labels ``helpful`` (0 or 1), ``response_minutes`` and
``service_cost`` (numbers, empty where not known). The item table should name the channel. The simulated world is
`evorec.data.simulators.support`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from evorec.config import RunConfig, parse_config
from problems import MINUTES, QUICK_SPACE

if TYPE_CHECKING:
    from evorec.rec_problem import RecProblem

DEFAULTS: Mapping[str, Any] = {
    "problem": "support",
    "data": {
        "reader": "simulator",
        "simulator": {"scenario": "support", "n_users": 800, "n_items": 400, "n_interactions": 40_000},
    },
    "tasks": {
        "ranked": ("helpful", "response_minutes", "service_cost"),
        "target": "helpful",
        "kinds": {"response_minutes": "regression", "service_cost": "regression"},
        "lower_is_better": ("response_minutes", "service_cost"),
    },
    "training": MINUTES,
    "space": QUICK_SPACE,
    "inputs": "all",
    "objectives": ("gain/helpful", "harm/response_minutes", "harm/service_cost", "cost"),
    "constraints": ("recall@k >= 0.9 * popularity",),
}
"""Settings of this problem, below a configuration file and above the field defaults."""


def build(config: RunConfig | None = None) -> RecProblem:
    """The problem, on its simulated world unless `config` says otherwise."""
    from evorec.rec_problem import build_problem

    return build_problem(config or parse_config(DEFAULTS, source="problems.support"))
