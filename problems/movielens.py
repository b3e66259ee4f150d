"""Films (MovieLens): the next film that a user rates, and whether the rating is high.

Tasks: liked (rating >= 4) and loved (rating >= 5) on rated films; retrieval ranks the film rated next. Users rate many
films in a single session, so a global time cut leaves few users: the last rating of each user is the test, the second
to last validation. The data are not included: put the published files (latest, 100k or 1m format) into a folder and set
``data.path`` to it.

Source: Harper and Konstan, "The MovieLens datasets: history and context", TiiS 2015.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from problems import recommender

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
"""Settings of this problem; a configuration file overrides them."""

build = recommender(DEFAULTS)
