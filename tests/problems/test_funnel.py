import numpy as np
import polars as pl
from worlds import flat, rate

RATES = {"view": 0.35, "cart": 0.12, "buy": 0.05}


def test_each_step_implies_the_step_before_at_the_stated_rates() -> None:
    log = flat("funnel")
    assert not (log["cart"] > log["view"]).any()
    assert not (log["buy"] > log["cart"]).any()
    for step, share in RATES.items():
        assert abs(log[step].mean() - share) < 4 * np.sqrt(share * (1 - share) / log.height)  # type: ignore[operator]


def test_mobile_carts_are_left_behind() -> None:
    log = flat("funnel")
    bought = rate(log.filter(pl.col("cart") == 1), "buy", "device")
    assert bought["mobile"] < 0.75 * bought["desktop"]
    viewed = rate(log, "view", "device")
    assert abs(viewed["mobile"] / viewed["desktop"] - 1) < 0.1


def test_people_put_more_into_the_cart_later_in_a_session() -> None:
    carted = rate(flat("funnel").filter(pl.col("view") == 1), "cart", "step")
    assert carted[0] < carted[3] < carted[6]


def test_the_price_counts_at_the_end() -> None:
    log = flat("funnel")
    middle = float(log["price"].median())  # type: ignore[arg-type]
    for step, before, least in (("view", None, 0.9), ("buy", "cart", 1.15)):
        rows = log if before is None else log.filter(pl.col(before) == 1)
        cheap, dear = rows.filter(pl.col("price") <= middle), rows.filter(pl.col("price") > middle)
        assert cheap[step].mean() > least * dear[step].mean()  # type: ignore[operator]


def test_a_session_has_a_single_category() -> None:
    """Neighbours in a user's sessions: 0.85 ** 2 of them are both of the session's category, and few more by chance."""
    log = flat("funnel").sort("user_id", "timestamp")
    before = log.select(pl.col("user_id", "category", "step", "timestamp").shift(1).name.suffix("_before"))
    pairs = pl.concat([log, before], how="horizontal").filter(
        (pl.col("user_id") == pl.col("user_id_before"))
        & (pl.col("step") == pl.col("step_before") + 1)
        & (pl.col("timestamp") - pl.col("timestamp_before") <= 90)
    )
    same = float((pairs["category"] == pairs["category_before"]).mean())  # type: ignore[arg-type]
    # both own 0.7225, and by chance a stray of the same category: (1 - 0.7225) / 12 = 0.023
    assert abs(same - 0.745) < 0.03
    assert pairs.height > log.height / 2
