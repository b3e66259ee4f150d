"""A content feed with three tasks whose agreement is known, for demonstrations and tests."""

from __future__ import annotations

from typing import Final

import numpy as np

from evorec.config import SimulatorConfig
from evorec.data.simulators import world as worlds
from evorec.data.simulators.world import Exposure, Mask, World
from evorec.data.tables import Tables
from evorec.seeds import generator

TASKS: Final = ("click", "like", "purchase")
RATES: Final = {"click": 0.30, "like": 0.10, "purchase": 0.04}
"""Share of impressions with each label; every bias is set to meet it."""
LIKED_BONUS: Final = 0.5


def simulate(config: SimulatorConfig) -> Tables:
    """Impressions of a feed, generated as follows.

    1. *Taste.* Categories have random unit directions in ``n_factors`` dimensions. An item is its category's direction
       plus noise; a user is two categories' directions plus noise; both are unit vectors. A user moves in a straight
       line towards a second taste and has covered ``drift`` of the way on the last day.
    2. *Exposure.* Users differ in activity (log-normal), hours follow a daily rhythm. The feed draws a category by the
       user's taste, then an item of it by Zipf popularity; with probability growing to ``drift`` the popularity of the
       last day is used, a second order of the same items. A pair seldom repeats. ``new_item_share`` of the items come
       during the log, each at a random moment before which nobody is shown it; every category has items from the start.
    3. *Tasks.* The logit of a task is taste x item + item quality + hour of day. Click uses the taste as it is; for
       like and purchase taste and quality are turned by ``conflict_angle_deg``, in two different sets of planes. At 0
       one taste drives all tasks and sharing is free; at 90 a click says nothing about a like; at 180 people click
       what they do not like. Purchase also falls with the price and rises after a like.
    4. *Funnel.* Like and purchase happen only after a click and are 0 without one. Biases are set so that
       30 % of impressions are clicked, 10 % liked, 4 % purchased.

    Candidates see the item's category, price and a noisy view of its taste (``content``), the user's segment (a noisy
    favourite category) and tenure (related to nothing), and the hour.

    Args:
        config: sizes, popularity, drift, conflict and seed.
    Returns:
        Tables in order of time with tasks click, like and purchase, from 2024-01-01 UTC on.
    """
    world = World.draw(config)
    log = Exposure.draw(config, world)
    rng = generator(config.seed, "simulate-features")
    return Tables(
        name="simulator",
        interactions=worlds.log_table(log, _labels(config, world, log)),
        tasks=TASKS,
        users=worlds.user_table(world, rng),
        items=worlds.item_table(world, rng),
        context=worlds.HOUR,
        user_features=worlds.USER_FEATURES,
        item_features=worlds.ITEM_FEATURES,
        content=("content", "category"),
    )


def _labels(config: SimulatorConfig, world: World, log: Exposure) -> dict[str, Mask]:
    rng = generator(config.seed, "simulate-labels")
    taste = world.taste(log.users, log.progress)
    angle = np.deg2rad(config.conflict_angle_deg)
    quality = rng.normal(size=(config.n_items, config.n_factors)) / np.sqrt(config.n_factors)
    ones = np.ones(config.n_factors)
    labels: dict[str, Mask] = {}
    shown = np.ones(len(log.users), dtype=np.bool_)
    for task in TASKS:
        turn = np.eye(config.n_factors) if task == "click" else worlds.turned(config.n_factors, angle, rng)
        logit = worlds.TASTE_SCALE * worlds.agreement(taste @ turn, world.items[log.items])
        logit += worlds.QUALITY_SCALE * (quality @ (ones @ turn))[log.items]
        logit += worlds.HOUR_SCALE * worlds.evening(log.hours)
        if task == "purchase":
            log_price = np.log(world.price)
            logit += LIKED_BONUS * labels["like"] - worlds.PRICE_SCALE * (log_price - log_price.mean())[log.items]
        labels[task] = worlds.happens(logit, shown if task == "click" else labels["click"], RATES[task], rng)
    return labels
