"""Financial news: good news, watched keywords and followed topics.

A terminal chooses the headlines that a trading desk sees. Tasks: positive (the desk judges the headline as good news),
keyword (saved because of a word on the desk's watch list) and topic (the desk follows the topic afterwards); retrieval
ranks saved headlines. The meaning of a headline is in its words only, which become content (``[data.content]``: TF-IDF
and a truncated SVD), and the genome decides whether a member uses them. The three tasks need different representations
from a single model.

With a log of your own (``data.reader = "table"``): a row per headline shown, with user (the desk or reader), item, time
and the labels ``positive``, ``keyword`` and ``topic`` (0 or 1, empty where unknown). The item table needs a text column
``headline`` (``items.texts``), or the columns that ``data.content.words.columns`` names. `simulate` describes the
simulated world.
"""

from __future__ import annotations

from typing import Final, final

import numpy as np
import polars as pl

from evorec.config.simulator import Scenario
from evorec.data import simulator as sim
from evorec.data.simulator import Exposure, Float64, Mask, World
from evorec.data.tables import Columns, Feature, Tables, categorical
from evorec.seeds import generator
from problems import recommender, short_run

DEFAULTS = short_run(
    "sentiment_news",
    {
        "data": {
            "content": {"words": {"kind": "text", "columns": ("headline",), "dims": 32}},
        },
        "tasks": {"ranked": ("positive", "keyword", "topic"), "target": "keyword"},
        "inputs": "search",
        "objectives": ("accuracy", "recall@k", "diversity", "cost"),
        "box": {"accuracy": {"ideal": 0.85, "worst": 0.5}, "recall@k": {"ideal": 0.7, "worst": 0.0}},
    },
)
"""Settings of this problem; a configuration file overrides them."""

build = recommender(DEFAULTS)

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


@final
class SentimentNewsConfig(sim.ExposureConfig):
    """Settings of the simulated news."""

    scenario: Scenario = "sentiment_news"


def simulate(config: SentimentNewsConfig) -> Tables:
    """Headlines shown to desks, generated as follows.

    1. *Topics and desks.* Categories are topics, users desks; tastes, drift and exposure as in the feed.
    2. *Headlines.* An item has a sentiment, uniform in [-1, 1], and a ``headline`` of eight words: three of its topic,
       three good or bad words (each good with probability (1 + sentiment) / 2), two neutral words. The order is random,
       so the meaning is in the words only.
    3. *Watch lists.* A desk watches five words, three of its favourite topic and two of any topic.
    4. *Positive.* The desk judges the headline as good news: sentiment + the desk's own optimism (normal), independent
       of the topic. 40 %.
    5. *Keyword.* Saved for a watched word: much more often if the headline contains a watched word, a little more where
       taste and item agree. 15 %.
    6. *Topic.* Followed after reading: taste x topic, independent of the sentiment. 15 %.

    Candidates see the item's topic, ``source`` (no effect) and the vectors that ``data.content`` makes of the
    headlines, the desk's watch list and segment (noisy favourite topic), and the hour.
    """
    world = World.draw(config)
    log = Exposure.draw(config, world)
    rng = generator(config.seed, "simulate-news-texts")
    sentiment, words, headlines = _news(config, world, rng)
    n_topics = len(world.categories)
    every = [word for topic in range(n_topics) for word in _words(topic)]
    watched = [
        {*rng.choice(_words(topic), 3, replace=False).tolist(), *rng.choice(every, WATCHED - 3, replace=False).tolist()}
        for topic in world.favourites().tolist()
    ]
    users = sim.user_table(world, rng).select(Columns.USER, "segment")
    subjects = [_numbered(list(TOPICS)[topic % len(TOPICS)], topic) for topic in range(n_topics)]
    items = pl.DataFrame(
        {
            Columns.ITEM: np.arange(config.n_items),
            "subject": pl.Series(subjects)[world.category_of],
            "source": rng.integers(0, 8, config.n_items),
            "headline": headlines,
        }
    )
    held = [bool(watched[u] & words[i]) for u, i in zip(log.users.tolist(), log.items.tolist(), strict=True)]
    return sim.tables(
        config,
        log,
        _labels(config, world, log, sentiment, np.array(held)),
        users=users.with_columns(watch_list=pl.Series([sorted(words) for words in watched])),
        items=items,
        user_features=(*categorical("segment"), Feature("watch_list", "multi_hot")),
        item_features=categorical("subject", "source"),
        content=("subject",),
    )


def _news(
    config: SentimentNewsConfig, world: World, rng: np.random.Generator
) -> tuple[Float64, list[set[str]], list[str]]:
    """Sentiment ``(I,)``, and of each item its three words of the topic and the whole headline."""
    sentiment = rng.uniform(-1.0, 1.0, config.n_items)
    words, headlines = [], []
    for item, category in enumerate(world.category_of.tolist()):
        own = rng.choice(_words(category), 3, replace=False).tolist()
        good = rng.random(3) < (1 + sentiment[item]) / 2
        tone = [str(rng.choice(GOOD if is_good else BAD)) for is_good in good]
        headline = [*own, *tone, *rng.choice(PLAIN, 2, replace=False).tolist()]
        words.append(set(own))
        headlines.append(" ".join(rng.permutation(headline).tolist()))
    return sentiment, words, headlines


def _words(topic: int) -> list[str]:
    return [_numbered(word, topic) for word in list(TOPICS.values())[topic % len(TOPICS)]]


def _numbered(word: str, topic: int) -> str:
    again = topic // len(TOPICS)
    return f"{word}{again + 1}" if again else word


def _labels(
    config: SentimentNewsConfig, world: World, log: Exposure, sentiment: Float64, held: Mask
) -> dict[str, Mask]:
    """The labels; `held` ``(N,)`` are the impressions whose headline has a word that the desk watches."""
    rng = generator(config.seed, "simulate-news-labels")
    optimism = rng.normal(size=config.n_users)
    topic = world.categories[world.category_of[log.items]]
    logits = {
        "positive": SENTIMENT_SCALE * sentiment[log.items] + optimism[log.users],
        "keyword": KEYWORD_SCALE * held + log.match(world),
        "topic": sim.TASTE_SCALE * sim.agreement(log.taste(world), topic),
    }
    hour = sim.HOUR_SCALE * log.evening()
    return {task: sim.draw_label(logits[task] + hour, rate, rng) for task, rate in RATES.items()}


sim.register(SentimentNewsConfig, simulate)
