"""Customer support: helpfulness, waiting time and cost of answers.

A help desk suggests answers to a customer: articles of its help pages, or a person (an agent or an expert) who writes
an answer. Experts are the most helpful, the slowest and the most expensive. Tasks: helpful, and two numbers where lower
is better, response_minutes and service_cost. The front runs from the most helpful answers to the quickest and cheapest,
each measured on the answers that a member would choose.

With a log of your own (``data.reader = "table"``): a row per answer given, with user (the customer, or the question),
item (the article, the agent or the kind of answer), time and the labels ``helpful`` (0 or 1), ``response_minutes`` and
``service_cost`` (numbers, empty where unknown). The item table should contain the channel. `simulate` describes the
simulated world.
"""

from __future__ import annotations

from typing import Any, Final, final

import numpy as np

from evorec.config.simulator import Scenario
from evorec.data import simulator as sim
from evorec.data.simulator import Exposure, Float64, Int64, World
from evorec.data.tables import Columns, Tables, categorical
from evorec.seeds import generator
from problems import recommender, short_run

DEFAULTS = short_run(
    "support",
    {
        "tasks": {
            "ranked": ("helpful", "response_minutes", "service_cost"),
            "target": "helpful",
            "kinds": {"response_minutes": "regression", "service_cost": "regression"},
            "lower_is_better": ("response_minutes", "service_cost"),
        },
        "objectives": ("gain/helpful", "harm/response_minutes", "harm/service_cost", "cost"),
    },
)
"""Settings of this problem; a configuration file overrides them."""

build = recommender(DEFAULTS)

HELPFUL_RATE: Final = 0.30
CHANNELS: Final = ("article", "agent", "expert")
CHANNEL_SHARES: Final = (0.5, 0.3, 0.2)
SKILL: Final = (0.0, 0.8, 1.6)
"""Logit by which each channel helps more than an article, for questions of average difficulty."""
MINUTES_TO_ANSWER: Final = (2.0, 15.0, 40.0)
"""Median minutes until each channel has answered, at an average hour."""
COST: Final = (0.2, 4.0, 12.0)
"""Median cost of an answer of each channel, in euros."""
SPREAD: Final = 0.25
"""Standard deviation of the logarithm of minutes and cost between the answers of a channel, and again between calls."""
RUSH: Final = 0.4
"""Increase of the logarithm of the minutes at the busiest hour, for people only."""


@final
class SupportConfig(sim.ExposureConfig):
    """Settings of the simulated customer support."""

    scenario: Scenario = "support"


def simulate(config: SupportConfig) -> Tables:
    """Answers given to customers' questions, generated as follows.

    1. *Questions.* A customer asks about some topics more than others, and these preferences drift; an answer is about
       a single topic. Both are the tastes and categories of the feed; answers so far were suggested like items there.
    2. *Channels.* Half of the answers are articles, 30 % come from agents, 20 % from experts, independent of the topic.
    3. *Helpful.* Question x answer + the answer's quality + the channel's skill. Customers with difficult questions
       (normal) are helped less by articles, but no less by experts. 30 % of the answers shown help.
    4. *Response minutes.* Log-normal around 2 (article), 15 (agent) and 40 (expert); people are slower in the evening,
       articles are not. Lower is better.
    5. *Service cost.* Log-normal around 0.20, 4 and 12 euros; the better answers of a channel cost more. Lower is
       better. So the most helpful answers are slow and expensive, and some customers do not need them.

    Candidates see the answer's topic (``category``), channel and content (a noisy copy of its taste vector), the
    customer's segment (noisy favourite topic), ``product`` (three noisy levels of difficulty) and tenure, and the hour.
    """
    world = World.draw(config)
    log = Exposure.draw(config, world)
    rng = generator(config.seed, "simulate-support-answers")
    channel = rng.choice(len(CHANNELS), config.n_items, p=CHANNEL_SHARES)
    channel[: len(CHANNELS)] = np.arange(len(CHANNELS))[: config.n_items]  # every channel has an answer
    difficulty = rng.normal(size=config.n_users)
    product = sim.noisy(np.searchsorted([-0.5, 0.5], difficulty), 3, sim.SEGMENT_SHARE, rng)
    users = sim.user_table(world, rng).with_columns(product=sim.names(("basic", "plus", "pro"), product))
    items = sim.item_table(world, rng).select(Columns.ITEM, "category", "content")
    return sim.tables(
        config,
        log,
        _labels(config, world, log, channel, difficulty),
        users=users,
        items=items.with_columns(channel=sim.names(CHANNELS, channel)),
        user_features=sim.USER_FEATURES + categorical("product"),
        item_features=categorical("category", "channel"),
    )


def _labels(config: SupportConfig, world: World, log: Exposure, channel: Int64, difficulty: Float64) -> dict[str, Any]:
    rng = generator(config.seed, "simulate-support-labels")
    quality = rng.normal(size=config.n_items)
    own = channel[log.items]
    loss = np.array([1.0, 0.5, 0.0])[own]  # effect of a difficult question on the channel
    logit = sim.TASTE_SCALE * log.match(world) + sim.QUALITY_SCALE * quality[log.items]
    logit += np.array(SKILL)[own] - loss * difficulty[log.users]
    helpful = sim.draw_label(logit, HELPFUL_RATE, rng)
    rush = RUSH * log.evening() * (own > 0)
    slow = SPREAD * rng.normal(size=config.n_items)
    minutes = np.array(MINUTES_TO_ANSWER)[own] * np.exp(rush + slow[log.items] + SPREAD * rng.normal(size=len(own)))
    cost = np.array(COST)[own] * np.exp(SPREAD * quality[log.items] + SPREAD * rng.normal(size=len(own)))
    return {"helpful": helpful, "response_minutes": minutes.round(1), "service_cost": cost.round(2)}


sim.register(SupportConfig, simulate)
