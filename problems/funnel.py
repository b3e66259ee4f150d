"""A shop's funnel: what is viewed, what goes into the cart, what is bought?

A shop shows offers in sessions. Tasks: view, cart and buy, each out of the one before; ``tasks.funnel`` says so, and
the mechanisms that model it (ESMM, AITM) are in the space. People view what they like, put it into the cart when they
have compared, and buy at the right price and on the right device: the front shows how far lists for views
(``recall@k``) give up purchases (``gain/buy``).

On a log of your own (``data.reader = "table"``): a row per offer, with user, item, time and the labels ``view``,
``cart`` and ``buy`` (0 or 1, a later one never without the earlier ones; ``log.pivot`` makes such rows of events).
Device and the like are ``log.context``. The simulated world is `evorec.data.simulators.funnel`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from evorec.config import RunConfig, parse_config
from problems import MINUTES, QUICK_SPACE

if TYPE_CHECKING:
    from evorec.rec_problem import RecProblem

DEFAULTS: Mapping[str, Any] = {
    "problem": "funnel",
    "data": {
        "reader": "simulator",
        "simulator": {"scenario": "funnel", "n_users": 800, "n_items": 400, "n_interactions": 40_000},
    },
    "tasks": {"ranked": ("view", "cart", "buy"), "target": "view", "funnel": ("view", "cart", "buy")},
    "training": MINUTES,
    "space": QUICK_SPACE,
    "inputs": "all",
    "objectives": ("accuracy", "recall@k", "gain/buy", "cost"),
    "constraints": ("recall@k >= 0.9 * popularity",),
    "box": {"accuracy": {"ideal": 0.85, "worst": 0.5}, "recall@k": {"ideal": 0.5, "worst": 0.0}},
}
"""Settings of this problem, below a configuration file and above the field defaults."""


def build(config: RunConfig | None = None) -> RecProblem:
    """The problem, on its simulated world unless `config` says otherwise."""
    from evorec.rec_problem import build_problem

    return build_problem(config or parse_config(DEFAULTS, source="problems.funnel"))
