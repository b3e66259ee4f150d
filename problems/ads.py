"""Advertising: clicks, conversions and their cost.

An agency shows the ads of many advertisers and is paid per customer. It chooses which ads a person sees; a click costs
the bid of the ad until the advertiser's daily budget is used up. Tasks: click, conversion (only after a click, so the
two form a funnel) and spend, a number where lower is better. The ads with the most clicks do not sell most per euro:
the front runs from lists with many clicks to lists with cheap customers (``cost_per/conversion``: spend per conversion
among the rows that a member would choose).

With a log of your own (``data.reader = "table"``): a row per impression, with user, item (the ad), time and the labels
``click`` and ``conversion`` (0 or 1) and ``spend``, the cost of the impression, 0 without a click. The item table
should contain the advertiser. `simulate` describes the simulated world.
"""

from __future__ import annotations

from typing import Final, final

import numpy as np
import polars as pl

from evorec.config.simulator import Scenario
from evorec.data import simulator as sim
from evorec.data.simulator import Exposure, Float64, Int64, Mask, World
from evorec.data.tables import Tables, categorical, numeric
from evorec.seeds import generator
from problems import recommender, short_run

DEFAULTS = short_run(
    "ads",
    {
        "tasks": {
            "ranked": ("click", "conversion", "spend"),
            "target": "click",
            "funnel": ("click", "conversion"),
            "kinds": {"spend": "regression"},
            "lower_is_better": ("spend",),
        },
        "evaluation": {"spend": "spend"},
        "objectives": ("accuracy", "recall@k", "cost_per/conversion", "cost"),
        "box": {"accuracy": {"ideal": 0.8, "worst": 0.5}, "recall@k": {"ideal": 0.5, "worst": 0.0}},
    },
)
"""Settings of this problem; a configuration file overrides them."""

build = recommender(DEFAULTS)

RATES: Final = {"click": 0.25, "conversion": 0.06}
"""Share of impressions with each label."""
ADS_PER_ADVERTISER: Final = 10
BID_SPREAD: Final = 0.7
"""Standard deviation of the logarithm of the advertisers' bids."""
BID_PENALTY: Final = 0.7
"""Decrease of the logit of a conversion per standard deviation of the bid."""
BUDGETS: Final = (0.5, 2.0)
"""Daily budget of an advertiser, between these multiples of the cost of its clicks on an average day."""


@final
class AdsConfig(sim.ExposureConfig):
    """Settings of the simulated ads."""

    scenario: Scenario = "ads"
    conflict_angle_deg: sim.ConflictAngle = 45.0


def simulate(config: AdsConfig) -> Tables:
    """Impressions of ads, generated as follows.

    1. *Tastes* as in the feed. There is an advertiser for every 10 ads; its ads are of the same category as far as
       possible.
    2. *Bids.* An advertiser has a bid level (log-normal, median 1); each of its ads has a bid around this level, the
       price of a click.
    3. *Auction.* Inside a category ads are shown by Zipf popularity in the order of their bids.
    4. *Click.* Taste x ad, quality of the ad and the hour, 25 % of impressions.
    5. *Conversion*, only after a click: taste turned by ``conflict_angle_deg`` x ad, minus a penalty for high bids,
       because high bidders buy reach. 6 % of impressions.
    6. *Spend.* A click costs the bid of the ad until the daily budget of its advertiser is used up; the rest is not
       billed. Without a click there is no cost. So the ads shown most convert least and cost most.

    Candidates see the ad's advertiser, category, bid and content (a noisy copy of its taste vector), the user's segment
    (noisy favourite category) and tenure, and the hour. The table of ads also has the advertiser's ``daily_budget``.
    ``drift`` moves tastes only.
    """
    world = World.draw(config)
    advertiser_of, bid = _market(config, world)
    log = Exposure.draw(config, world, order=np.argsort(-bid, kind="stable"))
    labels = _labels(config, world, log, bid)
    cost = np.where(labels["click"], bid[log.items], 0.0)
    budget = _budgets(config, advertiser_of[log.items], cost)
    spend = _spend(log, advertiser_of[log.items], cost, budget)
    rng = generator(config.seed, "simulate-ads-features")
    items = sim.item_table(world, rng).drop("price")
    return sim.tables(
        config,
        log,
        {**labels, "spend": spend},
        users=sim.user_table(world, rng),
        items=items.with_columns(
            advertiser=pl.Series(advertiser_of),
            bid=pl.Series(bid),
            daily_budget=pl.Series(budget[advertiser_of]),
        ),
        item_features=categorical("category", "advertiser") + numeric("bid"),
    )


def _market(config: AdsConfig, world: World) -> tuple[Int64, Float64]:
    """The advertiser of each ad and its bid, ``(I,)``."""
    rng = generator(config.seed, "simulate-ads-market")
    advertiser_of = np.empty(config.n_items, dtype=np.int64)
    by_category = np.argsort(world.category_of, kind="stable")
    advertiser_of[by_category] = np.arange(config.n_items) // ADS_PER_ADVERTISER
    level = rng.lognormal(0.0, BID_SPREAD, config.n_items // ADS_PER_ADVERTISER + 1)
    bid = level[advertiser_of] * rng.lognormal(0.0, BID_SPREAD / 3, config.n_items)
    return advertiser_of, np.maximum(bid.round(2), 0.01)


def _labels(config: AdsConfig, world: World, log: Exposure, bid: Float64) -> dict[str, Mask]:
    rng = generator(config.seed, "simulate-ads-labels")
    quality = rng.normal(size=config.n_items)
    turn = sim.rotation(config.n_factors, config.conflict_angle_deg, rng)
    clicks = sim.TASTE_SCALE * log.match(world) + sim.QUALITY_SCALE * quality[log.items]
    clicks += sim.HOUR_SCALE * log.evening()
    converts = sim.TASTE_SCALE * log.match(world, turn)
    converts -= BID_PENALTY * np.log(bid)[log.items] / BID_SPREAD
    click = sim.draw_label(clicks, RATES["click"], rng)
    return {"click": click, "conversion": sim.draw_label(converts, RATES["conversion"], rng, among=click)}


def _budgets(config: AdsConfig, advertiser: Int64, cost: Float64) -> Float64:
    """Daily budget of each advertiser, in the unit of the bids; ``cost (N,)`` of the impressions without a budget."""
    rng = generator(config.seed, "simulate-ads-budgets")
    n_advertisers = (config.n_items - 1) // ADS_PER_ADVERTISER + 1
    per_day = np.bincount(advertiser, cost, minlength=n_advertisers) / config.n_days
    return np.asarray(np.maximum((per_day * rng.uniform(*BUDGETS, n_advertisers)).round(2), 0.01))


def _spend(log: Exposure, advertiser: Int64, cost: Float64, budget: Float64) -> Float64:
    """Billed cost of each impression ``(N,)``: `cost` until the advertiser's budget of the day is used up."""
    account = advertiser * (int(log.days.max()) + 1) + log.days
    order = np.argsort(account, kind="stable")  # in order of time inside each advertiser's day
    price = cost[order]
    total = np.cumsum(price)
    begins = np.flatnonzero(np.diff(account[order], prepend=-1))
    before = np.repeat(total[begins] - price[begins], np.diff(begins, append=len(price)))
    limit = budget[advertiser[order]]
    paid = np.clip(total - before, 0.0, limit) - np.clip(total - before - price, 0.0, limit)
    spend: Float64 = np.empty_like(paid)
    spend[order] = np.maximum(paid.round(4), 0.0)
    return spend


sim.register(AdsConfig, simulate)
