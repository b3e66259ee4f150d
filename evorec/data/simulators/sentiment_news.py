"""Financial news for desks: is a headline good news, does it hold a watched word, is its topic followed?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, final

import numpy as np
import polars as pl

from evorec.config import SimulatorConfig
from evorec.data.simulators import world as worlds
from evorec.data.simulators.world import Exposure, Float64, Mask, World
from evorec.data.tables import Columns, Feature, Tables
from evorec.seeds import generator

TASKS: Final = ("positive", "keyword", "topic")
RATES: Final = {"positive": 0.40, "keyword": 0.15, "topic": 0.15}
"""Share of impressions with each label."""
TOPICS: Final = {
    "banks": ("loans", "deposits", "lender", "mortgages", "branches", "credit"),
    "energy": ("crude", "pipeline", "refinery", "turbines", "gas", "grid"),
    "technology": ("chips", "software", "cloud", "devices", "patents", "servers"),
    "health": ("vaccine", "trial", "clinic", "biotech", "drugmaker", "hospital"),
    "retail": ("stores", "shoppers", "discounts", "fashion", "grocer", "checkout"),
    "property": ("rents", "offices", "builders", "land", "housing", "towers"),
    "currencies": ("dollar", "euro", "yen", "peg", "reserves", "exchange"),
    "metals": ("copper", "gold", "mine", "smelter", "lithium", "ore"),
    "transport": ("airline", "freight", "ports", "rail", "trucks", "routes"),
    "farming": ("wheat", "harvest", "cattle", "fertiliser", "soy", "drought"),
    "telecoms": ("spectrum", "fibre", "operator", "roaming", "masts", "handsets"),
    "bonds": ("yields", "treasuries", "auction", "rating", "coupon", "default"),
}
"""Words of each topic; topics beyond the twelfth use them again with a number."""
GOOD: Final = ("gains", "beats", "record", "upgrade", "growth", "rallies", "strong", "expands")
BAD: Final = ("falls", "misses", "losses", "downgrade", "cuts", "slumps", "weak", "probe")
PLAIN: Final = ("quarter", "report", "market", "shares", "outlook", "analysts", "board", "week", "plan", "forecast")
SENTIMENT_SCALE: Final = 2.5
KEYWORD_SCALE: Final = 3.0
WATCHED: Final = 5
"""Words on a desk's watch list."""


def simulate(config: SimulatorConfig) -> Tables:
    """Headlines shown to desks, generated as follows.

    1. *Topics and desks.* Categories are topics, users desks; tastes, drift and exposure as in the feed.
    2. *Headlines.* An item has a sentiment, uniform in [-1, 1], and a ``headline`` of eight words: three of its topic,
       three good or bad ones (good with probability (1 + sentiment) / 2 each), two that say nothing. The order is
       random, so everything is in the words.
    3. *Watch lists.* A desk watches five words, three of its favourite topic and two of any.
    4. *Positive.* The desk judges the headline as good news: sentiment + the desk's own optimism (normal). The topic
       says nothing. 40 %.
    5. *Keyword.* Saved for a watched word: much more often if the headline holds one, a little more where taste and
       item agree. 15 %.
    6. *Topic.* Followed after reading: taste x topic, whatever the sentiment. 15 %.

    Candidates see the item's topic, ``source`` (related to nothing) and what ``data.content`` makes of the headlines,
    the desk's watch list and segment (noisy favourite topic), and the hour. ``conflict_angle_deg`` is not used.

    Args:
        config: sizes, popularity, drift and seed.
    """
    world = World.draw(config)
    log = Exposure.draw(config, world)
    rng = generator(config.seed, "simulate-news-texts")
    news = _News.draw(config, world, rng)
    watched = _watch_lists(world, rng)
    users = worlds.user_table(world, rng).select(Columns.USER, "segment")
    items = pl.DataFrame(
        {
            Columns.ITEM: np.arange(config.n_items),
            "subject": pl.Series(_topic_names(len(world.categories)))[world.category_of],
            "source": rng.integers(0, 8, config.n_items),
            "headline": news.headlines,
        }
    )
    return Tables(
        name="simulated sentiment_news",
        interactions=worlds.log_table(log, _labels(config, world, log, news, watched)),
        tasks=TASKS,
        users=users.with_columns(watch_list=pl.Series([sorted(words) for words in watched])),
        items=items,
        context=worlds.HOUR,
        user_features=(Feature("segment", "categorical"), Feature("watch_list", "multi_hot")),
        item_features=(Feature("subject", "categorical"), Feature("source", "categorical")),
        content=("subject",),
    )


@final
@dataclass(frozen=True, eq=False)
class _News:
    """Sentiment ``(I,)``, and of each item its three words of the topic and the whole headline."""

    sentiment: Float64
    words: list[set[str]]
    headlines: list[str]

    @classmethod
    def draw(cls, config: SimulatorConfig, world: World, rng: np.random.Generator) -> _News:
        sentiment = rng.uniform(-1.0, 1.0, config.n_items)
        words, headlines = [], []
        for item, category in enumerate(world.category_of.tolist()):
            own = rng.choice(_words(category), 3, replace=False).tolist()
            good = rng.random(3) < (1 + sentiment[item]) / 2
            tone = [str(rng.choice(GOOD if is_good else BAD)) for is_good in good]
            headline = [*own, *tone, *rng.choice(PLAIN, 2, replace=False).tolist()]
            words.append(set(own))
            headlines.append(" ".join(rng.permutation(headline).tolist()))
        return cls(sentiment, words, headlines)


def _topic_names(n_topics: int) -> list[str]:
    return [_numbered(name, n) for n in range(n_topics) for name in [list(TOPICS)[n % len(TOPICS)]]]


def _words(topic: int) -> list[str]:
    return [_numbered(word, topic) for word in list(TOPICS.values())[topic % len(TOPICS)]]


def _numbered(word: str, topic: int) -> str:
    again = topic // len(TOPICS)
    return f"{word}{again + 1}" if again else word


def _watch_lists(world: World, rng: np.random.Generator) -> list[set[str]]:
    n_topics = len(world.categories)
    every = [word for topic in range(n_topics) for word in _words(topic)]
    return [
        {*rng.choice(_words(topic), 3, replace=False).tolist(), *rng.choice(every, WATCHED - 3, replace=False).tolist()}
        for topic in world.favourites().tolist()
    ]


def _labels(
    config: SimulatorConfig, world: World, log: Exposure, news: _News, watched: list[set[str]]
) -> dict[str, Mask]:
    rng = generator(config.seed, "simulate-news-labels")
    optimism = rng.normal(size=config.n_users)
    users, items = log.users, log.items
    held = np.array([bool(watched[u] & news.words[i]) for u, i in zip(users.tolist(), items.tolist(), strict=True)])
    taste = world.taste(users, log.progress)
    logits = {
        "positive": SENTIMENT_SCALE * news.sentiment[items] + optimism[users],
        "keyword": KEYWORD_SCALE * held + log.match(world),
        "topic": worlds.TASTE_SCALE * worlds.agreement(taste, world.categories[world.category_of[items]]),
    }
    shown = np.ones(len(users), dtype=np.bool_)
    hour = worlds.HOUR_SCALE * worlds.evening(log.hours)
    return {task: worlds.happens(logits[task] + hour, shown, RATES[task], rng) for task in TASKS}
