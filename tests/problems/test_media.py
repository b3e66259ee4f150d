import polars as pl
from worlds import flat, rate, world

LABELS = {"text": "read", "image": "viewed", "video": "watched"}
RATES = {"read": 0.20, "viewed": 0.25, "watched": 0.15}
ERROR = 0.02  # four standard errors of a share of 0.25 over 10,000 rows: 4 * sqrt(.25 * .75 / 10_000) = .017


def test_a_label_is_observed_only_on_items_of_its_kind() -> None:
    log = flat("media")
    for kind, label in LABELS.items():
        known = log.filter(pl.col("kind") == kind)[label]
        assert known.null_count() == 0
        assert abs(known.mean() - RATES[label]) < ERROR  # type: ignore[operator]
        assert log.filter(pl.col("kind") != kind)[label].null_count() == log.height - len(known)


def test_nothing_is_read_viewed_or_watched_that_was_not_opened() -> None:
    log = flat("media")
    for label in LABELS.values():
        assert not (log[label] > log["opened"]).any()


def test_an_item_has_the_vector_of_its_own_kind() -> None:
    items = world("media").items
    assert items is not None
    for kind, width in (("text", 24), ("image", 16), ("video", 12)):
        own = items["kind"] == kind
        assert items.filter(own)[kind].list.len().unique().to_list() == [width]
        assert items.filter(~own)[kind].null_count() == (~own).sum()


def test_people_open_their_favourite_kind_more() -> None:
    log = flat("media").with_columns(is_favourite=pl.col("kind") == pl.col("favourite_kind"))
    opened = rate(log, "opened", "is_favourite")
    assert opened[True] > 1.2 * opened[False]


def test_videos_are_for_the_evening_and_texts_for_the_morning() -> None:
    log = flat("media").with_columns(is_evening=pl.col("hour").is_between(17, 23))
    opened = rate(log, "opened", "kind", "is_evening")
    assert opened["video", True] > opened["video", False]
    assert opened["text", True] < opened["text", False]
