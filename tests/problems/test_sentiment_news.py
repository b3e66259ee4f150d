import polars as pl
from worlds import flat, rate, world

from evorec.config import DataConfig
from evorec.data.readers import read
from problems.sentiment_news import BAD, GOOD, TOPICS


def counted() -> pl.DataFrame:
    words = pl.col("headline").str.split(" ")
    return flat("sentiment_news").with_columns(
        n_good=words.list.set_intersection(list(GOOD)).list.len(),
        n_bad=words.list.set_intersection(list(BAD)).list.len(),
        watched=words.list.set_intersection(pl.col("watch_list")).list.len() > 0,
    )


def test_a_headline_has_words_of_its_topic_and_of_its_sentiment() -> None:
    items = world("sentiment_news").items
    assert items is not None
    for subject, headline in items.select("subject", "headline").iter_rows():
        words = headline.split()
        assert len(words) == 8
        assert len(set(words) & set(TOPICS[subject])) == 3
        assert len([word for word in words if word in (*GOOD, *BAD)]) == 3


def test_good_words_make_good_news_for_every_topic() -> None:
    log = counted()
    judged = rate(
        log.with_columns(tone=pl.col("n_good").cast(pl.Int64) - pl.col("n_bad").cast(pl.Int64)), "positive", "tone"
    )
    tones = [judged[tone] for tone in sorted(judged)]  # type: ignore[type-var]
    assert tones[0] < 0.5 * tones[-1]
    by_subject = rate(log, "positive", "subject")
    assert max(by_subject.values()) < 2 * min(by_subject.values())


def test_headlines_are_saved_for_a_watched_word() -> None:
    saved = rate(counted(), "keyword", "watched")
    assert saved[True] > 4 * saved[False]


def test_topics_are_followed_by_those_who_like_them() -> None:
    log = flat("sentiment_news").with_columns(
        own=pl.col("segment")
        == pl.col("subject").replace_strict({subject: number for number, subject in enumerate(TOPICS)})
    )
    followed = rate(log, "topic", "own")
    assert followed[True] > 1.5 * followed[False]


def test_headlines_become_content() -> None:
    text = {"words": {"kind": "text", "columns": ["headline"], "dims": 16}}
    simulator = {"scenario": "sentiment_news", "n_users": 30, "n_items": 60, "n_interactions": 300}
    tables = read(DataConfig.model_validate({"simulator": simulator, "content": text}))
    (part,) = tables.vectors
    assert part.values.shape == (60, 16)


def test_more_topics_than_names_are_numbered() -> None:
    config = DataConfig.model_validate(
        {"simulator": {"scenario": "sentiment_news", "n_items": 60, "n_categories": 15, "n_interactions": 300}}
    )
    items = read(config).items
    assert items is not None
    assert items["subject"].n_unique() == 15
    (headline,) = items.filter(pl.col("subject") == "banks2")["headline"][:1]
    assert any(word in headline.split() for word in ("loans2", "deposits2", "lender2", "mortgages2", "branches2"))
