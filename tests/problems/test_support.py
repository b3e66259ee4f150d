import numpy as np
import polars as pl
from worlds import flat, rate

CHANNELS = ("article", "agent", "expert")


def test_better_channels_are_slower_and_dearer() -> None:
    log = flat("support")
    for label in ("helpful", "response_minutes", "service_cost"):
        found = rate(log, label, "channel")
        assert found["article"] < found["agent"] < found["expert"], label


def test_minutes_and_costs_are_around_the_stated_medians() -> None:
    log = flat("support")
    medians = log.group_by("channel").agg(pl.col("response_minutes", "service_cost").median())
    found = {name: (minutes, cost) for name, minutes, cost in medians.iter_rows()}
    # Evening is busiest, so most people answer in a rush of up to e ** 0.4 = 1.5
    np.testing.assert_allclose([found[name][0] for name in CHANNELS], [2.0, 15.0, 40.0], rtol=0.35)
    np.testing.assert_allclose([found[name][1] for name in CHANNELS], [0.2, 4.0, 12.0], rtol=0.25)


def test_people_are_slower_in_the_evening_and_articles_are_not() -> None:
    log = flat("support").with_columns(is_evening=pl.col("hour").is_between(18, 22))
    minutes = rate(log, "response_minutes", "channel", "is_evening")
    assert minutes["agent", True] > 1.3 * minutes["agent", False]
    assert abs(minutes["article", True] / minutes["article", False] - 1) < 0.1


def test_difficult_questions_need_an_expert() -> None:
    helped = rate(flat("support"), "helpful", "channel", "product")
    assert helped["article", "pro"] < 0.75 * helped["article", "basic"]
    assert helped["expert", "pro"] > 0.85 * helped["expert", "basic"]
