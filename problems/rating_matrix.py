"""The classical rating matrix: m items x n users, ratings N(0, 1), a cell empty with probability p.

Who rates what is chance; which ratings are high is not: a stated share of their variance comes from factors of users
and items (``data.simulator.signal_share``, 0 = the pure noise of the textbook, of which nothing can be learned). Tasks:
the rating, a number, and liked (rating > 0); retrieval looks for what is liked. Objectives: accuracy (concordance of
the ratings and AUC of liked, in the mean), recall, sparsity of the predicted preferences and the cost of training. The
penalty λ is in the genome (``embedding_decay``, ``dense_decay``); p is ``data.simulator.missing_share``. Sweep them:
``--set data.simulator.missing_share=0.9 --set space.embedding_decay=0.1``.

On a matrix of your own (``data.reader = "table"``): a row per rating, with user, item, a time (any order) and the
labels ``rating`` (a number) and ``liked`` (e.g. ``"rating > 0"``). The simulated world is
`evorec.data.simulators.rating_matrix`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from evorec.config import RunConfig, parse_config
from problems import MINUTES, QUICK_SPACE

if TYPE_CHECKING:
    from evorec.rec_problem import RecProblem

DEFAULTS: Mapping[str, Any] = {
    "problem": "rating_matrix",
    "data": {
        "reader": "simulator",
        "simulator": {"scenario": "rating_matrix", "n_users": 500, "n_items": 300, "n_factors": 4},
    },
    "tasks": {"ranked": ("rating", "liked"), "target": "liked", "kinds": {"rating": "regression"}},
    "training": MINUTES,
    "space": QUICK_SPACE,
    "inputs": "all",
    "objectives": ("accuracy", "recall@k", "sparsity", "cost"),
    "constraints": ("recall@k >= 0.9 * popularity",),
    "box": {"accuracy": {"ideal": 0.9, "worst": 0.5}, "recall@k": {"ideal": 0.5, "worst": 0.0}},
}
"""Settings of this problem, below a configuration file and above the field defaults."""


def build(config: RunConfig | None = None) -> RecProblem:
    """The problem, on its simulated world unless `config` says otherwise."""
    from evorec.rec_problem import build_problem

    return build_problem(config or parse_config(DEFAULTS, source="problems.rating_matrix"))
