"""Public splits with published figures: which items does a user take next, measured as papers measured it?

Retrieval only, over the whole catalogue, on splits whose parts and protocol are fixed: the past of a user is masked,
the figures are means over the users of the test, and the test is opened once, by `evorec finalize`. ``dataset`` names
the split and sets the protocol; everything else can be overridden. The data are not included: put the folder of a split
at ``public-splits/NAME`` below ``$EVOREC_DATA``, or set ``data.path``; its layout (lists, sequences or rows with times)
is recognised.

``gowalla`` is the split of LightGCN, lists without times, k = 20. Published models train on all of ``train.txt``; here
a random tenth of each user's rows is validation, and the final training has all rows again. ``beauty``, ``toys`` and
``lastfm`` are the sequences of S3-Rec, k = 10: the last item is the test, the last but one validation, which the final
training has, too. ``amazon-music`` has rows with given parts, k = 10. Its validation only chooses, as published: the
final training has the rows of ``train.tsv`` alone (``finalize.rows``), and only they are masked.

Objectives are recall and NDCG, a measure of diversity (coverage of the catalogue; for ``amazon-music`` the share of the
long tail, APLT, as published) and cost. Recall of a single held-out item is the hit rate.

Source: He et al. 2020 (LightGCN); Zhou et al. 2020 (S3-Rec); ``experiments/public.py`` prints the published figures.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, model_validator

from evorec.config import RecommenderConfig, merge
from evorec.config.tables import ALWAYS
from problems import recommender

DEFAULTS: Mapping[str, Any] = {
    "problem": "public",
    "data": {"reader": "public"},
    "split": {"kind": "given"},
    "tasks": {"ranked": (), "target": ALWAYS},
    "box": {"recall@k": {"ideal": 0.2, "worst": 0.0}, "ndcg@k": {"ideal": 0.15, "worst": 0.0}},
}
"""Settings of all splits; a configuration file overrides them."""

_COVERED: Mapping[str, Any] = {"objectives": ("recall@k", "ndcg@k", "catalogue_coverage@k", "cost")}
_NEIGHBOURS: Mapping[str, Any] = {"item_item": "knn", "neighbours": 2048}
"""Scores of items by the past, alone or blended with the vectors; few items have more neighbours."""
_SEQUENCES: Mapping[str, Any] = {
    **_COVERED,
    "data": {"history_recency": 0.75},
    "training": {"steps": 300, "retrieval_batch": 512, "next_item": True},
    "evaluation": {"k": 10},
    "space": {
        **_NEIGHBOURS,
        "past_decay": {"low": 0.4, "high": 0.95},
        "next_item": {"low": 0.0, "high": 4.0},
        "content_weight": {"low": 0.0, "high": 0.2},
        "shrinkage": {"low": 1.0, "high": 100.0},
        "embedding_dim": {"low": 16, "high": 64},
        "embedding_learning_rate": {"low": 3e-3, "high": 2e-2},
        "temperature": {"low": 0.05, "high": 0.2},
        "history_weight": {"low": 3.0, "high": 100.0},
    },
}
SPLITS: Mapping[str, Mapping[str, Any]] = {
    "gowalla": {
        **_COVERED,
        "split": {"validation": "random_per_user"},
        "evaluation": {"k": 20},
        # Lists have no order, so the past does not fade and there is no next item.
        "space": {
            **_NEIGHBOURS,
            "past_decay": 1.0,
            "next_item": 0.0,
            "shrinkage": {"low": 0.3, "high": 30.0},
            "asymmetry": {"low": 0.4, "high": 0.8},
            "user_norm": {"low": 0.3, "high": 1.0},
        },
    },
    "beauty": _SEQUENCES,
    "toys": _SEQUENCES,
    "lastfm": _SEQUENCES,
    "amazon-music": {
        "objectives": ("recall@k", "ndcg@k", "long_tail_share@k", "cost"),
        "evaluation": {"k": 10},
        "finalize": {"rows": "train"},
        "space": {
            **_NEIGHBOURS,
            "past_decay": {"low": 0.8, "high": 1.0},
            "next_item": {"low": 0.0, "high": 1.0},
            "asymmetry": {"low": 0.3, "high": 0.8},
            "user_norm": {"low": 0.0, "high": 0.8},
        },
    },
}
"""Settings of each split, besides `DEFAULTS`; they are overridden as well."""


class PublicConfig(RecommenderConfig):
    """Settings of a recommender, with those of a split as defaults."""

    dataset: Literal["gowalla", "beauty", "toys", "lastfm", "amazon-music"] = Field("beauty")
    """split whose protocol is used; its folder is public-splits/NAME, unless data.path names another"""

    @model_validator(mode="before")
    @classmethod
    def _with_settings_of_the_split(cls, value: Any) -> Any:
        """They are the weakest: everything else that is written somewhere wins."""
        name = value.get("dataset", "beauty") if isinstance(value, Mapping) else None
        if not isinstance(name, str) or name not in SPLITS:
            return value
        return merge(merge({"data": {"path": f"public-splits/{name}"}}, SPLITS[name]), value)


CONFIG = PublicConfig
"""Class of the configuration of this problem."""

build = recommender(DEFAULTS, PublicConfig)
