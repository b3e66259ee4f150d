"""Advertising: who clicks, who becomes a customer, and what the advertisers pay for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, final

import numpy as np
import polars as pl

from evorec.config import SimulatorConfig
from evorec.data.simulators import world as worlds
from evorec.data.simulators.world import Exposure, Float64, Int64, Mask, World
from evorec.data.tables import Feature, Tables
from evorec.seeds import generator

TASKS: Final = ("click", "conversion", "spend")
RATES: Final = {"click": 0.25, "conversion": 0.06}
"""Share of impressions with each label."""
ADS_PER_ADVERTISER: Final = 10
BID_SPREAD: Final = 0.7
"""Standard deviation of the logarithm of the advertisers' bids."""
BID_PENALTY: Final = 0.7
"""Logit of a conversion that a bid one standard deviation higher costs."""
BUDGETS: Final = (0.5, 2.0)
"""Daily budget of an advertiser, between these multiples of what its clicks would cost on an average day."""


def simulate(config: SimulatorConfig) -> Tables:
    """Impressions of ads, generated as follows.

    1. *Tastes* as in the feed. There is an advertiser for every 10 ads; each advertises in one category as far as the
       ads go round.
    2. *Bids.* An advertiser has a level (log-normal, median 1), each of its ads a bid around it, the price of a click.
    3. *Auction.* Inside a category ads are shown by Zipf popularity in the order of their bids: who pays is seen.
    4. *Click.* Taste x ad, its quality and the hour, 25 % of impressions.
    5. *Conversion*, after a click alone: taste turned by ``conflict_angle_deg`` x ad, less where the bid is high, as
       the high bidders buy reach. 6 % of impressions.
    6. *Spend.* A click costs the ad's bid, until the day's budget of its advertiser is used up; what goes over
       it is not billed. Without a click nothing is paid. So the ads that are shown most convert least and cost most.

    Candidates see the ad's advertiser, category, bid and content (a noisy view of its taste), the user's segment (noisy
    favourite category) and tenure, and the hour. The table of ads has the advertiser's ``daily_budget`` too.
    ``drift`` moves tastes only.

    Args:
        config: sizes, popularity, drift, conflict and seed.
    """
    world = World.draw(config)
    market = _Market.draw(config, world)
    log = Exposure.draw(config, world, order=np.argsort(-market.bid, kind="stable"))
    rng = generator(config.seed, "simulate-ads-features")
    labels = _labels(config, world, log, market)
    budget = _budgets(config, log, labels["click"], market)
    spend = _spend(log, labels["click"], market, budget)
    items = worlds.item_table(world, rng).drop("price")
    return Tables(
        name="simulated ads",
        interactions=worlds.log_table(log, {**labels, "spend": spend}),
        tasks=TASKS,
        users=worlds.user_table(world, rng),
        items=items.with_columns(
            advertiser=pl.Series(market.advertiser_of),
            bid=pl.Series(market.bid),
            daily_budget=pl.Series(budget[market.advertiser_of]),
        ),
        context=worlds.HOUR,
        user_features=worlds.USER_FEATURES,
        item_features=(
            Feature("category", "categorical"),
            Feature("advertiser", "categorical"),
            Feature("bid", "numeric"),
        ),
        content=("content", "category"),
    )


@final
@dataclass(frozen=True, eq=False)
class _Market:
    """The advertiser of each ad and its bid, ``(I,)``."""

    advertiser_of: Int64
    bid: Float64

    @classmethod
    def draw(cls, config: SimulatorConfig, world: World) -> _Market:
        rng = generator(config.seed, "simulate-ads-market")
        advertiser_of = np.empty(config.n_items, dtype=np.int64)
        by_category = np.argsort(world.category_of, kind="stable")
        advertiser_of[by_category] = np.arange(config.n_items) // ADS_PER_ADVERTISER
        level = rng.lognormal(0.0, BID_SPREAD, config.n_items // ADS_PER_ADVERTISER + 1)
        bid = level[advertiser_of] * rng.lognormal(0.0, BID_SPREAD / 3, config.n_items)
        return cls(advertiser_of, np.maximum(bid.round(2), 0.01))


def _labels(config: SimulatorConfig, world: World, log: Exposure, market: _Market) -> dict[str, Mask]:
    rng = generator(config.seed, "simulate-ads-labels")
    quality = rng.normal(size=config.n_items)
    turn = worlds.turned(config.n_factors, np.deg2rad(config.conflict_angle_deg), rng)
    clicks = worlds.TASTE_SCALE * log.match(world) + worlds.QUALITY_SCALE * quality[log.items]
    clicks += worlds.HOUR_SCALE * worlds.evening(log.hours)
    converts = worlds.TASTE_SCALE * log.match(world, turn)
    converts -= BID_PENALTY * np.log(market.bid)[log.items] / BID_SPREAD
    click = worlds.happens(clicks, np.ones(len(clicks), dtype=np.bool_), RATES["click"], rng)
    return {"click": click, "conversion": worlds.happens(converts, click, RATES["conversion"], rng)}


def _budgets(config: SimulatorConfig, log: Exposure, click: Mask, market: _Market) -> Float64:
    """Daily budget of each advertiser, in the unit of the bids."""
    rng = generator(config.seed, "simulate-ads-budgets")
    price = np.where(click, market.bid[log.items], 0.0)
    n_advertisers = int(market.advertiser_of.max()) + 1
    per_day = np.bincount(market.advertiser_of[log.items], price, minlength=n_advertisers) / config.n_days
    return np.asarray(np.maximum((per_day * rng.uniform(*BUDGETS, n_advertisers)).round(2), 0.01))


def _spend(log: Exposure, click: Mask, market: _Market, budget: Float64) -> Float64:
    """What each impression costs ``(N,)``: its bid, as far as the advertiser's budget of that day goes."""
    advertiser = market.advertiser_of[log.items]
    account = advertiser * (int(log.days.max()) + 1) + log.days
    order = np.argsort(account, kind="stable")  # in order of time inside each advertiser's day
    price = np.where(click, market.bid[log.items], 0.0)[order]
    total = np.cumsum(price)
    begins = np.flatnonzero(np.diff(account[order], prepend=-1))
    before = np.repeat(total[begins] - price[begins], np.diff(begins, append=len(price)))
    limit = budget[advertiser[order]]
    paid = np.clip(total - before, 0.0, limit) - np.clip(total - before - price, 0.0, limit)
    spend: Float64 = np.empty_like(paid)
    spend[order] = np.maximum(paid.round(4), 0.0)
    return spend
