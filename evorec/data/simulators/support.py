"""Customer support: which answer helps, how long it takes, and what it costs."""

from __future__ import annotations

from typing import Final

import numpy as np
import polars as pl

from evorec.config import SimulatorConfig
from evorec.data.simulators import world as worlds
from evorec.data.simulators.world import Exposure, Float64, Int64, World
from evorec.data.tables import Columns, Feature, Tables
from evorec.seeds import generator

TASKS: Final = ("helpful", "response_minutes", "service_cost")
HELPFUL_RATE: Final = 0.30
CHANNELS: Final = ("article", "agent", "expert")
CHANNEL_SHARES: Final = (0.5, 0.3, 0.2)
SKILL: Final = (0.0, 0.8, 1.6)
"""Logit by which each channel helps more than an article, before the difficulty of the customer's questions."""
MINUTES: Final = (2.0, 15.0, 40.0)
"""Median minutes until each channel has answered, at an average hour."""
COST: Final = (0.2, 4.0, 12.0)
"""Median cost of an answer of each channel, in euros."""
SPREAD: Final = 0.25
"""Standard deviation of the logarithm of minutes and cost between answers of a channel, and again between calls."""
RUSH: Final = 0.4
"""Logarithm by which people, not articles, are slower at the busiest hour than on average."""


def simulate(config: SimulatorConfig) -> Tables:
    """Answers given to customers' questions, generated as follows.

    1. *Questions.* A customer's questions are about some topics more than others, which drift; an answer is about one
       topic. Both are the tastes and categories of the feed, and so is what has been suggested so far.
    2. *Channels.* Half of the answers are articles, 30 % are given by agents, 20 % by experts, whatever the topic.
    3. *Helpful.* Question x answer + the answer's quality + the channel's skill; customers with difficult questions
       (normal) are helped less by articles and as much by experts. 30 % of the answers shown help.
    4. *Response minutes.* Log-normal around 2 (article), 15 (agent) and 40 (expert); people are slower in the evening,
       articles are not. Lower is better.
    5. *Service cost.* Log-normal around 0.20, 4 and 12 euros; the better answer of a channel costs more. Lower is
       better. So what helps most is slow and dear, and some customers do not need it.

    Candidates see the answer's topic (``category``), channel and content (a noisy view of what it is about), the
    customer's segment (noisy favourite topic), ``product`` (three noisy levels of difficulty) and tenure, and the hour.
    ``conflict_angle_deg`` is not used.

    Args:
        config: sizes, popularity, drift and seed.
    """
    world = World.draw(config)
    log = Exposure.draw(config, world)
    rng = generator(config.seed, "simulate-support-answers")
    channel = rng.choice(len(CHANNELS), config.n_items, p=CHANNEL_SHARES)
    channel[: len(CHANNELS)] = np.arange(len(CHANNELS))[: config.n_items]  # each channel answers something
    difficulty = rng.normal(size=config.n_users)
    level = np.searchsorted([-0.5, 0.5], difficulty)
    product = worlds.noisy(level, 3, worlds.SEGMENT_SHARE, rng)
    users = worlds.user_table(world, rng).with_columns(
        product=pl.Series([("basic", "plus", "pro")[p] for p in product])
    )
    items = worlds.item_table(world, rng).select(Columns.ITEM, "category", "content")
    return Tables(
        name="simulated support",
        interactions=worlds.log_table(log, _labels(config, world, log, channel, difficulty)),
        tasks=TASKS,
        users=users,
        items=items.with_columns(channel=pl.Series([CHANNELS[number] for number in channel])),
        context=worlds.HOUR,
        user_features=(*worlds.USER_FEATURES, Feature("product", "categorical")),
        item_features=(Feature("category", "categorical"), Feature("channel", "categorical")),
        content=("content", "category"),
    )


def _labels(
    config: SimulatorConfig, world: World, log: Exposure, channel: Int64, difficulty: Float64
) -> dict[str, pl.Series]:
    rng = generator(config.seed, "simulate-support-labels")
    quality = rng.normal(size=config.n_items)
    own = channel[log.items]
    ease = np.array([1.0, 0.5, 0.0])[own]  # how much a difficult question takes from the channel
    logit = worlds.TASTE_SCALE * log.match(world) + worlds.QUALITY_SCALE * quality[log.items]
    logit += np.array(SKILL)[own] - ease * difficulty[log.users]
    helpful = worlds.happens(logit, np.ones(len(own), dtype=np.bool_), HELPFUL_RATE, rng)
    rush = RUSH * worlds.evening(log.hours) * (own > 0)
    slow = SPREAD * rng.normal(size=config.n_items)
    minutes = np.array(MINUTES)[own] * np.exp(rush + slow[log.items] + SPREAD * rng.normal(size=len(own)))
    dear = SPREAD * quality[log.items] + SPREAD * rng.normal(size=len(own))
    cost = np.array(COST)[own] * np.exp(dear)
    return {
        "helpful": pl.Series(helpful),
        "response_minutes": pl.Series(minutes.round(1)),
        "service_cost": pl.Series(cost.round(2)),
    }
