"""Treatments: what helps a patient, what harms, and how satisfied people are. Simulated, not medical advice."""

from __future__ import annotations

from typing import Final

import numpy as np
import polars as pl

from evorec.config import SimulatorConfig
from evorec.data.simulators import world as worlds
from evorec.data.simulators.world import Exposure, Float64, Int64, World
from evorec.data.tables import Columns, Feature, Tables
from evorec.seeds import generator

TASKS: Final = ("efficacy", "side_effect", "satisfaction")
RATES: Final = {"efficacy": 0.35, "side_effect": 0.20}
"""Share of prescriptions with each label."""
GROUPS: Final = ("robust", "average", "frail")
GROUP_SHARES: Final = (0.35, 0.45, 0.20)
BENEFIT: Final = (1.2, 1.0, 0.6)
"""Logit of efficacy per unit of strength, by group."""
HARM: Final = (1.0, 1.8, 3.2)
"""Logit of a side effect per unit of strength, by group."""
SATISFACTION_NOISE: Final = 0.6


def simulate(config: SimulatorConfig) -> Tables:
    """Prescriptions, generated as follows. Everything is invented: this is not medical advice.

    1. *Conditions and response.* A patient suffers from some conditions more than others, which drift; a treatment is
       for one condition. Both are the tastes and categories of the feed; prescriptions so far follow habit (Zipf
       popularity inside a condition), not the patient's group.
    2. *Strength.* A treatment has a strength, uniform in [-1, 1].
    3. *Groups.* 35 % of the patients are robust, 45 % average, 20 % frail.
    4. *Efficacy.* The patient responded: condition x treatment + strength, which helps the frail less. 35 % of the
       prescriptions.
    5. *Side effect.* Strength, which harms the frail most (1.0, 1.8 and 3.2 per unit), and a sensitivity of the
       patient (normal); the condition says nothing. 20 % of the prescriptions. Lower is better.
    6. *Satisfaction*, 1 to 5: 3, plus 1 for efficacy, minus 1.5 for a side effect, and noise. So the strongest
       treatment is the most effective, and not the one to give to everybody.

    Candidates see the treatment's condition (``category``), strength and content (a noisy view of what it treats), the
    patient's group and segment (noisy main condition), and the hour. ``conflict_angle_deg`` is not used.

    Args:
        config: sizes, popularity, drift and seed.
    """
    world = World.draw(config)
    log = Exposure.draw(config, world)
    rng = generator(config.seed, "simulate-treatment-patients")
    strength = rng.uniform(-1.0, 1.0, config.n_items)
    group = rng.choice(len(GROUPS), config.n_users, p=GROUP_SHARES)
    group[: len(GROUPS)] = np.arange(len(GROUPS))[: config.n_users]  # no group is empty
    users = worlds.user_table(world, rng).with_columns(group=pl.Series([GROUPS[number] for number in group]))
    items = worlds.item_table(world, rng).select(Columns.ITEM, "category", "content")
    return Tables(
        name="simulated treatment",
        interactions=worlds.log_table(log, _labels(config, world, log, strength, group)),
        tasks=TASKS,
        users=users.drop("tenure_days"),
        items=items.with_columns(strength=pl.Series(strength.round(3))),
        context=worlds.HOUR,
        user_features=(Feature("group", "categorical"), Feature("segment", "categorical")),
        item_features=(Feature("category", "categorical"), Feature("strength", "numeric")),
        content=("content", "category"),
    )


def _labels(
    config: SimulatorConfig, world: World, log: Exposure, strength: Float64, group: Int64
) -> dict[str, pl.Series]:
    rng = generator(config.seed, "simulate-treatment-labels")
    sensitivity = rng.normal(size=config.n_users)
    given, own = strength[log.items], group[log.users]
    shown = np.ones(len(own), dtype=np.bool_)
    helps = worlds.TASTE_SCALE * log.match(world) + np.array(BENEFIT)[own] * given
    harms = np.array(HARM)[own] * given + worlds.QUALITY_SCALE * sensitivity[log.users]
    efficacy = worlds.happens(helps, shown, RATES["efficacy"], rng)
    side_effect = worlds.happens(harms, shown, RATES["side_effect"], rng)
    satisfaction = 3.0 + efficacy - 1.5 * side_effect + SATISFACTION_NOISE * rng.normal(size=len(own))
    return {
        "efficacy": pl.Series(efficacy),
        "side_effect": pl.Series(side_effect),
        "satisfaction": pl.Series(np.clip(satisfaction.round(), 1.0, 5.0)),
    }
