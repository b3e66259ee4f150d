"""Financial news: is it good news, does it hold a watched word, is its topic followed?

A terminal chooses the headlines that a desk sees. Tasks: positive (the desk judges it as good news), keyword (saved for
a word on the desk's watch list) and topic (the desk follows the topic afterwards); retrieval looks for what is saved.
What a headline says is in its words alone, which become content (``[data.content]``: TF-IDF and a truncated SVD), and
the genome decides whether a member looks at them. Sentiment, words and topics want different things from one model.

On a log of your own (``data.reader = "table"``): a row per headline shown, with user (the desk or reader), item, time
and the labels ``positive``, ``keyword`` and ``topic`` (0 or 1, empty where nobody judged). The item table needs a text
column ``headline`` (``items.texts``), or name others in ``data.content.words.columns``. The simulated world is
`evorec.data.simulators.sentiment_news`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from evorec.config import RunConfig, parse_config
from problems import MINUTES, QUICK_SPACE

if TYPE_CHECKING:
    from evorec.rec_problem import RecProblem

DEFAULTS: Mapping[str, Any] = {
    "problem": "sentiment_news",
    "data": {
        "reader": "simulator",
        "simulator": {"scenario": "sentiment_news", "n_users": 800, "n_items": 400, "n_interactions": 40_000},
        "content": {"words": {"kind": "text", "columns": ("headline",), "dims": 32}},
    },
    "tasks": {"ranked": ("positive", "keyword", "topic"), "target": "keyword"},
    "training": MINUTES,
    "space": QUICK_SPACE,
    "inputs": "search",
    "objectives": ("accuracy", "recall@k", "diversity", "cost"),
    "constraints": ("recall@k >= 0.9 * popularity",),
    "box": {"accuracy": {"ideal": 0.85, "worst": 0.5}, "recall@k": {"ideal": 0.7, "worst": 0.0}},
}
"""Settings of this problem, below a configuration file and above the field defaults."""


def build(config: RunConfig | None = None) -> RecProblem:
    """The problem, on its simulated world unless `config` says otherwise."""
    from evorec.rec_problem import build_problem

    return build_problem(config or parse_config(DEFAULTS, source="problems.sentiment_news"))
