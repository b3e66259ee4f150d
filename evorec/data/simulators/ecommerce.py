"""A marketplace: which item, which shop and which category, three things that a visitor may take to."""

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

TASKS: Final = ("item", "shop", "category")
RATES: Final = {"item": 0.10, "shop": 0.12, "category": 0.25}
"""Share of impressions with each label."""
ITEMS_PER_SHOP: Final = 20
FURTHER_CATEGORIES: Final = 2
"""Categories that a shop may sell beside its own."""
SHOP_SCALE: Final = 1.5
"""Logit by which an item in a shop of the right style is bought more."""
STYLES: Final = ("bargain", "classic", "craft", "luxury", "green")
STYLE_SHARE: Final = 0.8
"""Cosine between a shop, or what a user looks for in shops, and its style."""


def simulate(config: SimulatorConfig) -> Tables:
    """Offers of a marketplace, generated as follows.

    1. *Tastes and exposure* as in the feed: categories, items, users who drift, Zipf popularity inside a category.
    2. *Shops.* There is one for every 20 items. A shop sells a category of its own and up to two more, an item belongs
       to one of the shops that sell its category. A shop has one of five styles (bargain, luxury, ...), in directions
       that have nothing to do with the categories; a user looks for one of them.
    3. *Category.* Browsed on after the offer: taste x the item's category, whoever sells it.
    4. *Shop.* Followed after the offer: the user's style x the shop, whatever it sells.
    5. *Item.* Bought: taste x item, style x shop as well, the item's quality, less at a high price.
    6. The three labels do not imply one another; 25 %, 12 % and 10 % of the offers have them.

    Candidates see the item's category, shop, price and content (a noisy view of its taste), the user's segment (noisy
    favourite category), style (noisy too) and tenure, and the hour. ``conflict_angle_deg`` is not used: the tasks have
    directions of their own.

    Args:
        config: sizes, popularity, drift and seed.
    """
    world = World.draw(config)
    log = Exposure.draw(config, world)
    shops = _Shops.draw(config, world)
    rng = generator(config.seed, "simulate-ecommerce-features")
    looks_for = worlds.noisy(shops.style_of_user, len(STYLES), worlds.SEGMENT_SHARE, rng)
    users = worlds.user_table(world, rng).with_columns(style=pl.Series([STYLES[style] for style in looks_for]))
    items = worlds.item_table(world, rng).rename({"category": "category_id"})
    return Tables(
        name="simulated ecommerce",
        interactions=worlds.log_table(log, _labels(config, world, log, shops)),
        tasks=TASKS,
        users=users,
        items=items.with_columns(shop_id=pl.Series(shops.of_item)),
        context=worlds.HOUR,
        user_features=(*worlds.USER_FEATURES, Feature("style", "categorical")),
        item_features=(
            Feature("category_id", "categorical"),
            Feature("shop_id", "categorical"),
            Feature("price", "numeric"),
        ),
        content=("content", "category_id", "shop_id"),
    )


@final
@dataclass(frozen=True, eq=False)
class _Shops:
    """The shop of each item ``(I,)``, unit rows of shops ``(S, D)`` and users ``(U, D)``, the style of each user."""

    of_item: Int64
    shops: Float64
    wishes: Float64
    style_of_user: Int64

    @classmethod
    def draw(cls, config: SimulatorConfig, world: World) -> _Shops:
        rng = generator(config.seed, "simulate-ecommerce-shops")
        n_categories = len(world.categories)
        n_shops = max(2, config.n_items // ITEMS_PER_SHOP)
        sells = np.zeros((n_shops, n_categories), dtype=np.bool_)
        sells[np.arange(n_categories) % n_shops, np.arange(n_categories)] = True  # no category without a shop
        sells[np.arange(n_shops), np.arange(n_shops) % n_categories] = True
        for _ in range(FURTHER_CATEGORIES):
            sells[np.arange(n_shops), rng.integers(0, n_categories, n_shops)] = True
        wanted = rng.random((config.n_items, n_shops)) * sells[:, world.category_of].T
        of_item = np.asarray(np.argmax(wanted, axis=1))
        styles = worlds.unit(rng.normal(size=(len(STYLES), config.n_factors)))
        style_of_shop = rng.permutation(np.arange(n_shops) % len(STYLES))
        style_of_user = rng.integers(0, len(STYLES), config.n_users)
        return cls(
            of_item=of_item,
            shops=worlds.mixed(styles[style_of_shop], STYLE_SHARE, rng),
            wishes=worlds.mixed(styles[style_of_user], STYLE_SHARE, rng),
            style_of_user=style_of_user,
        )


def _labels(config: SimulatorConfig, world: World, log: Exposure, shops: _Shops) -> dict[str, Mask]:
    rng = generator(config.seed, "simulate-ecommerce-labels")
    taste = world.taste(log.users, log.progress)
    quality = rng.normal(size=config.n_items)
    log_price = np.log(world.price)
    hour = worlds.HOUR_SCALE * worlds.evening(log.hours)
    in_shop = worlds.agreement(shops.wishes[log.users], shops.shops[shops.of_item[log.items]])
    in_category = worlds.agreement(taste, world.categories[world.category_of[log.items]])
    logits = {
        "item": worlds.TASTE_SCALE * worlds.agreement(taste, world.items[log.items])
        + SHOP_SCALE * in_shop
        + worlds.QUALITY_SCALE * quality[log.items]
        - worlds.PRICE_SCALE * (log_price - log_price.mean())[log.items],
        "shop": worlds.TASTE_SCALE * in_shop,
        "category": worlds.TASTE_SCALE * in_category,
    }
    shown = np.ones(len(taste), dtype=np.bool_)
    return {task: worlds.happens(logits[task] + hour, shown, RATES[task], rng) for task in TASKS}
