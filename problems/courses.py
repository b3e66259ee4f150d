"""Courses: who enrols, who finishes, and who would recommend it?

A learning platform shows a learner courses of subjects and levels. Tasks: enrol, finish and rated_well, each out of the
one before (a funnel); retrieval looks for what is enrolled in next. Learners climb from level to level, so the latest
courses say most, and a course without its prerequisite is enrolled in by some and finished by few: what attracts is not
what is finished and rated well, and the front shows how far lists for the one (``recall@k``) give up the other
(``gain/rated_well``).

On a log of your own (``data.reader = "table"``): a row per course shown, with user, item, time and the labels
``enrol``, ``finish`` and ``rated_well`` (0 or 1). The item table should name subject and level, the log the learner's
level at that moment (``log.context``). The simulated world is `evorec.data.simulators.courses`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from evorec.config import RunConfig, parse_config
from problems import MINUTES, QUICK_SPACE

if TYPE_CHECKING:
    from evorec.rec_problem import RecProblem

DEFAULTS: Mapping[str, Any] = {
    "problem": "courses",
    "data": {
        "reader": "simulator",
        "simulator": {"scenario": "courses", "n_users": 800, "n_items": 400, "n_interactions": 40_000},
        "history_recency": 0.75,
    },
    "tasks": {
        "ranked": ("enrol", "finish", "rated_well"),
        "target": "enrol",
        "funnel": ("enrol", "finish", "rated_well"),
    },
    "training": {**MINUTES, "next_item": True},
    "space": QUICK_SPACE,
    "inputs": "all",
    "objectives": ("accuracy", "recall@k", "gain/rated_well", "cost"),
    "constraints": ("recall@k >= 0.9 * popularity",),
    "box": {"accuracy": {"ideal": 0.85, "worst": 0.5}, "recall@k": {"ideal": 0.5, "worst": 0.0}},
}
"""Settings of this problem, below a configuration file and above the field defaults."""


def build(config: RunConfig | None = None) -> RecProblem:
    """The problem, on its simulated world unless `config` says otherwise."""
    from evorec.rec_problem import build_problem

    return build_problem(config or parse_config(DEFAULTS, source="problems.courses"))
