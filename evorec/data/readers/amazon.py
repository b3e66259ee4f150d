"""Amazon reviews as published by the McAuley Lab in 2018 and 2023: JSON lines of reviews and of item descriptions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple, final

import polars as pl

from evorec.data.readers import reads_folder
from evorec.data.tables import LATEST_SECOND, Columns, Feature, Tables
from evorec.data.tabular.json_lines import first_object
from evorec.data.tabular.sheet import Sheet, read_json
from evorec.data.tabular.sources import Source
from evorec.errors import DataError

ENDINGS: Final = (".jsonl.gz", ".jsonl", ".json.gz", ".json")
ITEM_FILE: Final = "meta_"
"""Start of the name of a file of item descriptions."""
STARS: Final = (1.0, 5.0)
LIKED_FROM: Final = 4.0
"""Stars; the usual threshold of a positive rating."""
LOVED_FROM: Final = 5.0
N_DEPARTMENTS: Final = 2
"""Categories from the top that are an item's content: more would make fixed vectors of thousands of columns."""
PRICE: Final = r"^\s*\$?\s*(\d[\d,]*\.?\d*)\s*$"
"""A price, as text or number; a range or a piece of a web page does not match."""


@final
class _Format(NamedTuple):
    """Names of the fields of a version.

    Args:
        year: of the version.
        units_per_s: of the time of a review.
        review: user, item, rating, time and verified purchase.
        item: id, brand, department and path of categories, from the widest to the narrowest; ``title`` and ``price``
            are the same in both versions.
    """

    year: int
    units_per_s: int
    review: tuple[str, str, str, str, str]
    item: tuple[str, str, str, str]


FORMATS: Final = (
    _Format(
        2018,
        1,
        ("reviewerID", "asin", "overall", "unixReviewTime", "verified"),
        ("asin", "brand", "main_cat", "category"),
    ),
    _Format(
        2023,
        1000,
        ("user_id", "parent_asin", "rating", "timestamp", "verified_purchase"),
        ("parent_asin", "store", "main_category", "categories"),
    ),
)
ITEM_FEATURES: Final = (
    Feature("brand", "categorical"),
    Feature("main_category", "categorical"),
    Feature("categories", "multi_hot"),
    Feature("departments", "multi_hot"),
    Feature("price", "numeric"),
)


@reads_folder("amazon", "Amazon reviews of 2018 or 2023 with descriptions of the items")
def read(folder: Path) -> Tables:
    """Reviews and item descriptions, as the McAuley Lab published them in 2018 or 2023.

    Tasks: reviewed (always 1), liked (4 stars or more), loved (5 stars), verified (a purchase that the shop confirmed).
    There is no context. Users have no features; items have brand (2023: store), main_category, categories, price and
    departments, the two widest categories, which are also their content. An item of 2023 is a ``parent_asin``, which
    all sizes and colours of a product share. Times are in UTC; those of 2018 are whole days. Of several reviews of
    an item by the same user the earliest counts, as in the publishers' own benchmark files; of several descriptions of
    an item the first.

    Not read: counts from the day when the pages were collected, after the last review, because they include the reviews
    that are to be predicted: ``average_rating``, ``rating_number``, ``rank``, ``also_buy``, ``also_view``,
        ``bought_together``,
    votes. The price is of that day too, but no count. Files of ratings only (.csv) are for the generic reader.

    Args:
        folder: with ``NAME.jsonl.gz`` or ``NAME_5.json.gz``, unpacked or not, and ``meta_NAME`` for item features.
    Raises:
        DataError: names the file, the line and the field.
    Source: https://amazon-reviews-2023.github.io and https://nijianmo.github.io/amazon (Ni et al., EMNLP 2019); the
        publishers ask for citation and state no licence: check it before other uses than research.
    """
    files = [path for path in sorted(folder.glob("*")) if path.name.endswith(ENDINGS)]
    reviews = [path for path in files if not path.name.startswith(ITEM_FILE)]
    if not reviews:
        raise DataError(
            f"{folder} has no file of reviews, e.g. Books.jsonl.gz (2023) or Books_5.json.gz (2018); files of ratings "
            'only, *.csv, are for reader = "table".'
        )
    version = _version(reviews)
    metas = [path for path in files if path.name.startswith(ITEM_FILE)]
    return Tables(
        name=f"amazon-{version.year}",
        interactions=_read_reviews(reviews, version),
        tasks=("reviewed", "liked", "loved", "verified"),
        items=_read_items(metas, version) if metas else None,
        item_features=ITEM_FEATURES if metas else (),
        content=("departments",) if metas else (),
    )


def _version(reviews: Sequence[Path]) -> _Format:
    """The version whose fields all files have; ids of the two versions do not fit together."""
    found: set[_Format] = set()
    for path in reviews:
        fields = first_object(Source(path))
        fitting = [version for version in FORMATS if {*version.review[:2]} <= fields.keys()]
        if not fitting:
            wanted = " or ".join(f"{' and '.join(version.review[:2])} ({version.year})" for version in FORMATS)
            raise DataError(f"{path}, line 1 must have the fields {wanted}; it has {sorted(fields)[:12]}.")
        found.add(fitting[0])
    if len(found) > 1:
        years, names = sorted(version.year for version in found), [path.name for path in reviews]
        raise DataError(f"{reviews[0].parent} mixes the versions {years} in {names}; keep one in a folder.")
    return found.pop()


def _read_reviews(paths: Sequence[Path], version: _Format) -> pl.DataFrame:
    user, item, rating, time, verified = version.review
    schema = dict(zip(version.review, (pl.String(), pl.String(), pl.Float64(), pl.Int64(), pl.Boolean()), strict=True))
    seconds = pl.col(time) // version.units_per_s
    unit = "seconds" if version.units_per_s == 1 else "milliseconds"
    frames = []
    for path in paths:
        sheet = read_json(path, schema)
        for name in (user, item, rating, time):
            _require_present(sheet, name)
        sheet.require(rating, pl.col(rating).is_between(*STARS), f"be in {STARS[0]} .. {STARS[1]}")
        sheet.require(time, seconds.is_between(0, LATEST_SECOND), f"be in {unit} since 1970")
        frames.append(
            sheet.frame.select(
                pl.col(user).alias(Columns.USER),
                pl.col(item).alias(Columns.ITEM),
                seconds.alias(Columns.TIME),
                reviewed=pl.lit(1.0, dtype=pl.Float32),
                liked=pl.col(rating) >= LIKED_FROM,
                loved=pl.col(rating) >= LOVED_FROM,
                verified=pl.col(verified),
            )
        )
    earliest = pl.concat(frames).with_row_index("row").sort(Columns.TIME, maintain_order=True)
    earliest = earliest.unique(subset=[Columns.USER, Columns.ITEM], keep="first", maintain_order=True)
    return earliest.sort("row").drop("row")


def _read_items(paths: Sequence[Path], version: _Format) -> pl.DataFrame:
    item, *texts, categories = version.item
    schema = {**dict.fromkeys((item, "title", *texts, "price"), pl.String()), categories: pl.List(pl.String())}
    price = pl.col("price").str.extract(PRICE).str.replace_all(",", "").cast(pl.Float64, strict=False)
    frames = []
    for path in paths:
        sheet = read_json(path, schema)
        _require_present(sheet, item)
        frames.append(
            sheet.frame.select(
                pl.col(item).alias(Columns.ITEM),
                "title",
                *(
                    pl.col(name).str.strip_chars().replace("", None).alias(feature)
                    for name, feature in zip(texts, ("brand", "main_category"), strict=True)
                ),
                pl.col(categories).alias("categories"),
                pl.col(categories).list.head(N_DEPARTMENTS).alias("departments"),
                price,
            )
        )
    return pl.concat(frames).unique(subset=[Columns.ITEM], keep="first", maintain_order=True)


def _require_present(sheet: Sheet, name: str) -> None:
    """Refuse a missing value, and a list or an object instead of an id."""
    present = pl.col(name).is_not_null()
    if sheet.frame.schema[name] == pl.String:
        present &= ~pl.col(name).str.contains(r"^[\[{]|^\s*$")
    sheet.require(name, present, "be there and hold one value")
