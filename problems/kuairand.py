"""Short videos (KuaiRand): clicks, long views, likes and profile visits from real impression logs.

Tasks: click, long_view, like and profile_enter on impressions with user, video and context features; retrieval ranks
clicked videos over the whole catalogue. No label implies another, not even a long view a click, so there is no funnel.
The split is a global time cut: training days, then validation days, then test days. The data are not included: put the
published files of KuaiRand-Pure into a folder and set ``data.path`` to it.

Source: Gao et al., "KuaiRand: an unbiased sequential recommendation dataset with randomly exposed videos", CIKM 2022.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from problems import recommender

DEFAULTS: Mapping[str, Any] = {
    "problem": "kuairand",
    "data": {
        "reader": "kuairand",
        "path": "kuairand-pure-late",
        "statistics": ("user", "user+tab", "item", "author_id", "tag"),
    },
    "split": {"kind": "time", "utc_offset_h": 8},
    "tasks": {"ranked": ("click", "long_view", "like", "profile_enter"), "target": "click"},
    "evaluation": {"users": "warm", "mask": "positives"},
    "inputs": "all",
    "box": {
        "recall@k": {"ideal": 0.2, "worst": 0.0},
        "accuracy": {"ideal": 0.8, "worst": 0.5},
    },
}
"""Settings of this problem; a configuration file overrides them."""

build = recommender(DEFAULTS)
