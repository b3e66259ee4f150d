"""A marketplace: which item will a visitor buy, which shop enter, which category browse on?

The marketplace shows a visitor a list of offers and learns three recommendations at once, of the item, its shop and its
category: what is bought is liked for both reasons, so the tasks help each other, and they compete for the model. The
front shows how much accuracy and variety a cheaper model gives up. Nothing implies anything else: a shop can be entered
from an offer that is not bought.

On a log of your own (``data.reader = "table"``): a row per offer shown, with user, item, time and the labels ``item``
(bought), ``shop`` (entered or followed afterwards) and ``category`` (browsed on), 0 or 1, left empty where nobody
knows. The item table should name shop and category (e.g. ``shop_id``, ``category_id``). The simulated world is
`evorec.data.simulators.ecommerce`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from evorec.config import RunConfig, parse_config
from problems import MINUTES, QUICK_SPACE

if TYPE_CHECKING:
    from evorec.rec_problem import RecProblem

DEFAULTS: Mapping[str, Any] = {
    "problem": "ecommerce",
    "data": {
        "reader": "simulator",
        "simulator": {"scenario": "ecommerce", "n_users": 800, "n_items": 400, "n_interactions": 40_000},
    },
    "tasks": {"ranked": ("item", "shop", "category"), "target": "item"},
    "training": MINUTES,
    "space": QUICK_SPACE,
    "inputs": "all",
    "objectives": ("accuracy", "recall@k", "diversity", "cost"),
    "constraints": ("recall@k >= 0.9 * popularity",),
    "box": {"accuracy": {"ideal": 0.8, "worst": 0.5}, "recall@k": {"ideal": 0.5, "worst": 0.0}},
}
"""Settings of this problem, below a configuration file and above the field defaults."""


def build(config: RunConfig | None = None) -> RecProblem:
    """The problem, on its simulated world unless `config` says otherwise."""
    from evorec.rec_problem import build_problem

    return build_problem(config or parse_config(DEFAULTS, source="problems.ecommerce"))
