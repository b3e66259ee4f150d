"""Films (MovieLens): which film will a person rate next, and will they like or love it?

Tasks: liked (rating >= 4) and loved (rating >= 5) on rated films; retrieval looks for the film rated next. People rate
in one sitting, so a global time cut leaves few users: each user's last rating is the test, the last but one validation.
The data are not included: put the published files (latest, 100k or 1m format) into a folder and name it in
``data.path``.

Source: Harper and Konstan, "The MovieLens datasets: history and context", TiiS 2015.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from evorec.config import RunConfig, parse_config

if TYPE_CHECKING:
    from evorec.rec_problem import RecProblem

DEFAULTS: Mapping[str, Any] = {
    "problem": "movielens",
    "data": {"reader": "movielens", "path": "movielens-latest-small", "history_recency": 0.75},
    "split": {"kind": "leave_last_out"},
    "tasks": {"ranked": ("liked", "loved"), "target": "rated"},
    "training": {"next_item": True},
    "evaluation": {"k": 10},
    "inputs": "all",
    "box": {
        "recall@k": {"ideal": 0.2, "worst": 0.0},
        "accuracy": {"ideal": 0.9, "worst": 0.5},
    },
}
"""Settings of this problem, below a configuration file and above the field defaults."""


def build(config: RunConfig | None = None) -> RecProblem:
    """The problem on the files under ``data.path``."""
    from evorec.rec_problem import build_problem

    return build_problem(config or parse_config(DEFAULTS, source="problems.movielens"))
