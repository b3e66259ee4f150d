"""Treatments: efficacy and side effects. Simulated, not medical advice.

A study team ranks the treatments of a condition for a patient; a person decides. Tasks: efficacy (responded),
side_effect, where lower is better, and satisfaction from 1 to 5. The strongest treatments help and harm most, and frail
patients are harmed more than others. Two constraints keep a member out of the archive, however good its objectives: the
rate of side effects among the treatments that it would choose (``harm/side_effect``) may not exceed today's rate, 20 %,
and recall may not differ much between groups of patients (``group_gap@k``). The data say nothing about real treatments.

With a log of your own (``data.reader = "table"``): a row per treatment given, with user (the patient), item (the
treatment), time and the labels ``efficacy`` and ``side_effect`` (0 or 1) and ``satisfaction`` (a number). The user
table needs a column ``group``, or the column that ``evaluation.groups`` names. `simulate` describes the simulated
world.
"""

from __future__ import annotations

from typing import Any, Final, final

import numpy as np
import polars as pl

from evorec.config.simulator import Scenario
from evorec.data import simulator as sim
from evorec.data.simulator import Exposure, Float64, Int64, World
from evorec.data.tables import Columns, Tables, categorical, numeric
from evorec.seeds import generator
from problems import recommender, short_run

DEFAULTS = short_run(
    "treatment",
    {
        "tasks": {
            "ranked": ("efficacy", "side_effect", "satisfaction"),
            "target": "efficacy",
            "kinds": {"satisfaction": "regression"},
            "lower_is_better": ("side_effect",),
        },
        "evaluation": {"groups": "group"},
        "objectives": ("gain/efficacy", "harm/side_effect", "gain/satisfaction", "cost"),
        "constraints": ("harm/side_effect <= 0.2", "group_gap@k <= 0.1"),
    },
)
"""Settings of this problem; a configuration file overrides them."""

build = recommender(DEFAULTS)

RATES: Final = {"efficacy": 0.35, "side_effect": 0.20}
"""Share of prescriptions with each label."""
GROUPS: Final = ("robust", "average", "frail")
GROUP_SHARES: Final = (0.35, 0.45, 0.20)
BENEFIT: Final = (1.2, 1.0, 0.6)
"""Logit of efficacy per unit of strength, by group."""
HARM: Final = (1.0, 1.8, 3.2)
"""Logit of a side effect per unit of strength, by group."""
SATISFACTION_NOISE: Final = 0.6


@final
class TreatmentConfig(sim.ExposureConfig):
    """Settings of the simulated treatments."""

    scenario: Scenario = "treatment"


def simulate(config: TreatmentConfig) -> Tables:
    """Prescriptions, generated as follows. Everything is invented: this is not medical advice.

    1. *Conditions and response.* A patient suffers from some conditions more than others, and these drift; a treatment
       is for a single condition. Both are the tastes and categories of the feed; prescriptions so far follow the
       popularity of the treatments of a condition (Zipf), independent of the patient's group.
    2. *Strength.* A treatment has a strength, uniform in [-1, 1].
    3. *Groups.* 35 % of the patients are robust, 45 % average, 20 % frail.
    4. *Efficacy.* The patient responded: condition x treatment + strength, which helps frail patients less. 35 % of the
       prescriptions.
    5. *Side effect.* Strength, which harms frail patients most (1.0, 1.8 and 3.2 per unit), and a sensitivity of the
       patient (normal), independent of the condition. 20 % of the prescriptions. Lower is better.
    6. *Satisfaction*, 1 to 5: 3, plus 1 for efficacy, minus 1.5 for a side effect, and noise. So the strongest
       treatment is the most effective, but not the best for every patient.

    Candidates see the treatment's condition (``category``), strength and content (a noisy copy of its taste vector),
    the patient's group and segment (noisy main condition), and the hour.
    """
    world = World.draw(config)
    log = Exposure.draw(config, world)
    rng = generator(config.seed, "simulate-treatment-patients")
    strength = rng.uniform(-1.0, 1.0, config.n_items)
    group = rng.choice(len(GROUPS), config.n_users, p=GROUP_SHARES)
    group[: len(GROUPS)] = np.arange(len(GROUPS))[: config.n_users]  # no group is empty
    users = sim.user_table(world, rng).with_columns(group=sim.names(GROUPS, group))
    items = sim.item_table(world, rng).select(Columns.ITEM, "category", "content")
    return sim.tables(
        config,
        log,
        _labels(config, world, log, strength, group),
        users=users.drop("tenure_days"),
        items=items.with_columns(strength=pl.Series(strength.round(3))),
        user_features=categorical("group", "segment"),
        item_features=categorical("category") + numeric("strength"),
    )


def _labels(config: TreatmentConfig, world: World, log: Exposure, strength: Float64, group: Int64) -> dict[str, Any]:
    rng = generator(config.seed, "simulate-treatment-labels")
    sensitivity = rng.normal(size=config.n_users)
    given, own = strength[log.items], group[log.users]
    helps = sim.TASTE_SCALE * log.match(world) + np.array(BENEFIT)[own] * given
    harms = np.array(HARM)[own] * given + sim.QUALITY_SCALE * sensitivity[log.users]
    efficacy = sim.draw_label(helps, RATES["efficacy"], rng)
    side_effect = sim.draw_label(harms, RATES["side_effect"], rng)
    satisfaction = 3.0 + efficacy - 1.5 * side_effect + SATISFACTION_NOISE * rng.normal(size=len(own))
    return {"efficacy": efficacy, "side_effect": side_effect, "satisfaction": np.clip(satisfaction.round(), 1, 5)}


sim.register(TreatmentConfig, simulate)
