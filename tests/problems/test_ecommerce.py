import polars as pl
from worlds import flat, spread

CLEARLY = 3  # times as much of the variance; where there is nothing, chance gives 0 +- 0.002


def test_a_shop_sells_a_few_categories_and_every_category_is_sold() -> None:
    log = flat("ecommerce")
    per_shop = log.group_by("shop_id").agg(pl.col("category_id").n_unique())["category_id"]
    assert per_shop.max() <= 4  # its own, two more, and one that no other shop sells
    assert log["category_id"].n_unique() == 12
    assert log.group_by("item_id").agg(pl.col("shop_id").n_unique())["shop_id"].max() == 1


def test_shops_are_followed_for_their_style_and_categories_for_their_subject() -> None:
    log = flat("ecommerce")
    by_style, by_taste = ("style", "shop_id"), ("segment", "category_id")
    assert spread(log, "shop", *by_style) > CLEARLY * abs(spread(log, "shop", *by_taste))
    assert spread(log, "category", *by_taste) > CLEARLY * abs(spread(log, "category", *by_style))


def test_an_item_is_bought_for_both_reasons() -> None:
    log = flat("ecommerce")
    assert spread(log, "item", "segment", "category_id") > 0.005
    assert spread(log, "item", "style", "shop_id") > 0.002
