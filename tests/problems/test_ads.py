import numpy as np
import polars as pl
from worlds import column, correlation, flat

ROUNDING = 1e-3  # of sums of a day's spends, each rounded to 4 digits and held in float32


def test_only_a_click_converts_or_costs() -> None:
    log = flat("ads")
    assert not (log["conversion"] > log["click"]).any()
    assert (log.filter(pl.col("click") == 0)["spend"] == 0).all()
    assert (column(log, "spend") <= column(log, "bid") + ROUNDING).all()


def test_no_advertiser_pays_more_than_its_budget_on_any_day() -> None:
    log = flat("ads").with_columns(day=pl.col("timestamp") // 86_400)
    bills = log.group_by("advertiser", "day").agg(
        pl.col("spend").sum(), pl.col("daily_budget").first(), (pl.col("click") * pl.col("bid")).sum().alias("clicks")
    )
    assert (bills["spend"] <= bills["daily_budget"] + ROUNDING).all()
    # and the whole bill is paid as far as the budget goes
    wanted = np.minimum(bills["clicks"].to_numpy(), bills["daily_budget"].to_numpy())
    np.testing.assert_allclose(bills["spend"].to_numpy(), wanted, atol=ROUNDING)
    used_up = bills.filter(pl.col("clicks") > pl.col("daily_budget")).height / bills.height
    assert 0.1 < used_up < 0.9


def test_high_bids_are_shown_more_and_convert_less() -> None:
    log = flat("ads")
    shown = log.group_by("item_id").agg(pl.len().alias("shown"), pl.col("bid").first(), pl.col("category").first())
    ranks = shown.with_columns(pl.col("shown", "bid").rank().over("category"))
    assert correlation(ranks, "bid", "shown") > 0.5
    clicked = log.filter(pl.col("click") == 1)
    middle = clicked["bid"].median()
    low, high = clicked.filter(pl.col("bid") <= middle), clicked.filter(pl.col("bid") > middle)
    assert low["conversion"].mean() > 1.3 * high["conversion"].mean()
