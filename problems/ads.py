"""Advertising: which ads are clicked, which clicks become customers, and what does a customer cost?

An agency places the ads of many advertisers and is paid for customers. It chooses which ads a person gets; a click
costs the ad's bid until the day's budget is used up. Tasks: click, conversion (a click is its first step, so the two
are a funnel) and spend, a number that is better low. The ads that are clicked most are not those that sell most per
euro: the front goes from lists of ads that are clicked to customers that are cheap (``cost_per/conversion``: spend per
conversion among the rows that a member would choose).

On a log of your own (``data.reader = "table"``): a row per impression, with user, item (the ad), time and the labels
``click`` and ``conversion``, 0 or 1, and ``spend``, what the impression cost, 0 without a click. The item table should
name the advertiser. The simulated world is `evorec.data.simulators.ads`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from evorec.config import RunConfig, parse_config
from problems import MINUTES, QUICK_SPACE

if TYPE_CHECKING:
    from evorec.rec_problem import RecProblem

DEFAULTS: Mapping[str, Any] = {
    "problem": "ads",
    "data": {
        "reader": "simulator",
        "simulator": {"scenario": "ads", "n_users": 800, "n_items": 400, "n_interactions": 40_000},
    },
    "tasks": {
        "ranked": ("click", "conversion", "spend"),
        "target": "click",
        "funnel": ("click", "conversion"),
        "kinds": {"spend": "regression"},
        "lower_is_better": ("spend",),
    },
    "training": MINUTES,
    "evaluation": {"spend": "spend"},
    "space": QUICK_SPACE,
    "inputs": "all",
    "objectives": ("accuracy", "recall@k", "cost_per/conversion", "cost"),
    "constraints": ("recall@k >= 0.9 * popularity",),
    "box": {"accuracy": {"ideal": 0.8, "worst": 0.5}, "recall@k": {"ideal": 0.5, "worst": 0.0}},
}
"""Settings of this problem, below a configuration file and above the field defaults."""


def build(config: RunConfig | None = None) -> RecProblem:
    """The problem, on its simulated world unless `config` says otherwise."""
    from evorec.rec_problem import build_problem

    return build_problem(config or parse_config(DEFAULTS, source="problems.ads"))
