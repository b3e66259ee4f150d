"""A content feed: clicks, likes and purchases.

Tasks: click, like and purchase on impressions, each later task rarer. A purchase needs a click, so click and purchase
form a funnel; retrieval ranks clicked items over the whole catalogue. Runs without any data on a simulated world, whose
setting ``conflict_angle_deg`` is the angle between the tasks' tastes and so decides how many layers the tasks should
share. With a log of your own, set ``data.reader`` and ``tasks``.

The search space fits a run of minutes: balancing without extra backward passes, few experts, a single optimiser, all
features. ``inputs = "search"``, ``space.balancing = ["fixed", "pcgrad", "nash"]`` and similar settings widen it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, final

import numpy as np

from evorec.config.simulator import Scenario
from evorec.data import simulator as sim
from evorec.data.simulator import Exposure, Mask, World
from evorec.data.tables import Tables
from evorec.seeds import generator
from problems import QUICK_SPACE, recommender

DEFAULTS: Mapping[str, Any] = {
    "problem": "feed",
    "data": {"reader": "simulator", "statistics": ("user", "item", "category")},
    "tasks": {"ranked": ("click", "like", "purchase"), "target": "click", "funnel": ("click", "purchase")},
    "space": QUICK_SPACE,
    "inputs": "all",
    "box": {
        "recall@k": {"ideal": 0.5, "worst": 0.0},
        "accuracy": {"ideal": 0.9, "worst": 0.5},
    },
}
"""Settings of this problem; a configuration file overrides them."""

build = recommender(DEFAULTS)

RATES: Final = {"click": 0.30, "like": 0.10, "purchase": 0.04}
"""Share of impressions with each label."""
LIKED_BONUS: Final = 0.5


@final
class FeedConfig(sim.ExposureConfig):
    """Settings of the simulated feed."""

    scenario: Scenario = "feed"
    conflict_angle_deg: sim.ConflictAngle = 45.0


def simulate(config: FeedConfig) -> Tables:
    """Impressions of a feed, generated as follows.

    1. *Taste.* Categories have random unit directions in ``n_factors`` dimensions. An item is the direction of its
       category plus noise; a user is the directions of two categories plus noise; both are unit vectors. A user moves
       in a straight line towards a second taste and has covered ``drift`` of the way on the last day.
    2. *Exposure.* Users differ in activity (log-normal), hours follow a daily rhythm. The feed draws a category by the
       user's taste, then an item of it by Zipf popularity; with a probability that grows to ``drift`` it uses the
       popularity of the last day, a second order of the same items. User-item pairs seldom repeat. ``new_item_share``
       of the items arrive during the log, each at a random moment; every category has items from the start.
    3. *Tasks.* The logit of a task is taste x item + item quality + hour of day. Click uses the taste unchanged; for
       like and purchase, taste and quality are turned by ``conflict_angle_deg``, in different sets of planes. At 0 a
       single taste drives all tasks and sharing is free; at 90 a click is independent of a like; at 180 people click
       items that they do not like. Purchase also falls with the price and rises after a like.
    4. *Funnel.* Like and purchase need a click and are 0 without it. Biases are set so that 30 % of impressions are
       clicked, 10 % liked and 4 % purchased.

    Candidates see the item's category, price and a noisy copy of its taste vector (``content``), the user's segment (a
    noisy favourite category) and tenure (no effect), and the hour.

    Returns:
        Tables in order of time with tasks click, like and purchase, from 2024-01-01 UTC on.
    """
    world = World.draw(config)
    log = Exposure.draw(config, world)
    rng = generator(config.seed, "simulate-features")
    users, items = sim.user_table(world, rng), sim.item_table(world, rng)
    return sim.tables(config, log, _labels(config, world, log), users=users, items=items, name="simulator")


def _labels(config: FeedConfig, world: World, log: Exposure) -> dict[str, Mask]:
    rng = generator(config.seed, "simulate-labels")
    quality = rng.normal(size=(config.n_items, config.n_factors)) / np.sqrt(config.n_factors)
    ones = np.ones(config.n_factors)
    labels: dict[str, Mask] = {}
    for task, rate in RATES.items():
        turn = np.eye(config.n_factors)
        if task != "click":
            turn = sim.rotation(config.n_factors, config.conflict_angle_deg, rng)
        logit = sim.TASTE_SCALE * log.match(world, turn)
        logit += sim.QUALITY_SCALE * (quality @ (ones @ turn))[log.items]
        logit += sim.HOUR_SCALE * log.evening()
        if task == "purchase":
            logit += LIKED_BONUS * labels["like"] - sim.PRICE_SCALE * world.log_price()[log.items]
        labels[task] = sim.draw_label(logit, rate, rng, among=labels.get("click"))
    return labels


sim.register(FeedConfig, simulate)
