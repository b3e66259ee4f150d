"""Treatments: which one helps a patient, and which one can be given? Simulated, not medical advice.

A study team ranks the treatments of a condition for a patient; a person decides. Tasks: efficacy (responded),
side_effect, which is better low, and satisfaction from 1 to 5. The strongest treatments help and harm most, and the
frail more than others. Two constraints keep a member out of the archive whatever it gains: the rate of side effects
among the treatments it would choose (``harm/side_effect``) may not be above what habit has now, 20 %, and recall may
not differ much between groups of patients (``group_gap@k``). Nothing here says anything about real treatments.

On a log of your own (``data.reader = "table"``): a row per treatment given, with user (the patient), item (the
treatment), time and the labels ``efficacy`` and ``side_effect`` (0 or 1) and ``satisfaction`` (a number). The table of
users needs a column ``group``, or name another in ``evaluation.groups``. The simulated world is
`evorec.data.simulators.treatment`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from evorec.config import RunConfig, parse_config
from problems import MINUTES, QUICK_SPACE

if TYPE_CHECKING:
    from evorec.rec_problem import RecProblem

DEFAULTS: Mapping[str, Any] = {
    "problem": "treatment",
    "data": {
        "reader": "simulator",
        "simulator": {"scenario": "treatment", "n_users": 800, "n_items": 400, "n_interactions": 40_000},
    },
    "tasks": {
        "ranked": ("efficacy", "side_effect", "satisfaction"),
        "target": "efficacy",
        "kinds": {"satisfaction": "regression"},
        "lower_is_better": ("side_effect",),
    },
    "training": MINUTES,
    "evaluation": {"groups": "group"},
    "space": QUICK_SPACE,
    "inputs": "all",
    "objectives": ("gain/efficacy", "harm/side_effect", "gain/satisfaction", "cost"),
    "constraints": ("harm/side_effect <= 0.2", "group_gap@k <= 0.1"),
}
"""Settings of this problem, below a configuration file and above the field defaults."""


def build(config: RunConfig | None = None) -> RecProblem:
    """The problem, on its simulated world unless `config` says otherwise."""
    from evorec.rec_problem import build_problem

    return build_problem(config or parse_config(DEFAULTS, source="problems.treatment"))
