"""A media app: which text will be read, which image looked at, which video watched to the end?

One list of texts, images and videos for the same people. Each kind has a task of its own, known on items of that kind
alone: the label of a video in ``read`` is missing, not 0. Retrieval looks for whatever is opened. Each kind has content
vectors of its own too, and the genome decides which of them a member looks at (``use_*`` and ``rank_*`` genes).

On a log of your own (``data.reader = "table"``): a row per impression, with user, item, time, ``opened`` (0 or 1) and
``read``, ``viewed``, ``watched`` (0 or 1, empty on items of another kind). The item table should name the kind, and may
have a column with one list of numbers per item for each kind, or [data.content] parts. The simulated world is
`evorec.data.simulators.media`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from evorec.config import RunConfig, parse_config
from problems import MINUTES, QUICK_SPACE

if TYPE_CHECKING:
    from evorec.rec_problem import RecProblem

DEFAULTS: Mapping[str, Any] = {
    "problem": "media",
    "data": {
        "reader": "simulator",
        "simulator": {"scenario": "media", "n_users": 800, "n_items": 400, "n_interactions": 40_000},
    },
    "tasks": {"ranked": ("read", "viewed", "watched"), "target": "opened"},
    "training": MINUTES,
    "space": QUICK_SPACE,
    "inputs": "search",
    "objectives": ("accuracy", "recall@k", "diversity", "cost"),
    "constraints": ("recall@k >= 0.9 * popularity",),
    "box": {"accuracy": {"ideal": 0.8, "worst": 0.5}, "recall@k": {"ideal": 0.5, "worst": 0.0}},
}
"""Settings of this problem, below a configuration file and above the field defaults."""


def build(config: RunConfig | None = None) -> RecProblem:
    """The problem, on its simulated world unless `config` says otherwise."""
    from evorec.rec_problem import build_problem

    return build_problem(config or parse_config(DEFAULTS, source="problems.media"))
