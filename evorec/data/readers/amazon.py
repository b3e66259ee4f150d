"""Amazon reviews as published by the McAuley Lab in 2018 and 2023: JSON lines of reviews and of item descriptions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, final

import polars as pl

from evorec.data.readers import reads_folder
from evorec.data.tables import LATEST_SECOND, Columns, Feature, Tables
from evorec.data.tabular.json_lines import JsonSchema, first_object
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
"""One price, as text or number; a range or a piece of a web page is none."""


@final
@dataclass(frozen=True)
class _Format:
    """Names of the fields of one version.

    Args:
        user, item, rating, time, verified: of a review.
        units_per_s: of its time.
        item_id, brand, department: of an item's description, where ``title`` and ``price`` are the same in both.
        categories: path from the widest category to the narrowest.
    """

    year: int
    user: str
    item: str
    rating: str
    time: str
    units_per_s: int
    verified: str
    item_id: str
    brand: str
    department: str
    categories: str


FORMATS: Final = (
    _Format(
        year=2018,
        user="reviewerID",
        item="asin",
        rating="overall",
        time="unixReviewTime",
        units_per_s=1,
        verified="verified",
        item_id="asin",
        brand="brand",
        department="main_cat",
        categories="category",
    ),
    _Format(
        year=2023,
        user="user_id",
        item="parent_asin",
        rating="rating",
        time="timestamp",
        units_per_s=1000,
        verified="verified_purchase",
        item_id="parent_asin",
        brand="store",
        department="main_category",
        categories="categories",
    ),
)


@reads_folder("amazon", "Amazon reviews of 2018 or 2023 with descriptions of the items")
def read(folder: Path) -> Tables:
    """Reviews and item descriptions of one or more categories, as the McAuley Lab published them in 2018 or 2023.

    Tasks: reviewed (always 1), liked (4 stars or more), loved (5 stars), verified (a purchase that the shop confirmed).
    There is no context. Users have no features; items have brand (2023: store), main_category, categories, price and
    departments, the two widest categories, which are also their content. An item of 2023 is a ``parent_asin``, which
    all sizes and colours of a product share. Times are in UTC; those of 2018 are whole days. Of several reviews of one
    item by one user the earliest counts, as in the publishers' own benchmark files; of several descriptions of one item
    the first.

    Not read: what was counted when the pages were collected, after the last review, and so knows the reviews that are
    to be predicted: ``average_rating``, ``rating_number``, ``rank``, ``also_buy``, ``also_view``, ``bought_together``,
    votes. The price is of that day too, but no count. Files of ratings only (.csv) are for the generic reader.

    Args:
        folder: with ``NAME.jsonl.gz`` or ``NAME_5.json.gz``, unpacked or not, and ``meta_NAME`` for item features.
    Raises:
        DataError: names the file, the line and the field.
    Source: https://amazon-reviews-2023.github.io and https://nijianmo.github.io/amazon (Ni et al., EMNLP 2019); the
        publishers ask for citation and state no licence: research use, at one's own check.
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
    items = _read_items(metas, version) if metas else None
    return Tables(
        name=f"amazon-{version.year}",
        interactions=_read_reviews(reviews, version),
        tasks=("reviewed", "liked", "loved", "verified"),
        items=items,
        item_features=(
            Feature("brand", "categorical"),
            Feature("main_category", "categorical"),
            Feature("categories", "multi_hot"),
            Feature("departments", "multi_hot"),
            Feature("price", "numeric"),
        )
        if items is not None
        else (),
        content=("departments",) if items is not None else (),
    )


def _version(reviews: Sequence[Path]) -> _Format:
    """The version whose fields all files have; ids of the two versions do not fit together."""
    found: dict[int, _Format] = {}
    for path in reviews:
        fields = first_object(Source(path))
        fitting = [version for version in FORMATS if {version.user, version.item} <= fields.keys()]
        if not fitting:
            wanted = " or ".join(f"{version.user} and {version.item} ({version.year})" for version in FORMATS)
            raise DataError(f"{path}, line 1 must have the fields {wanted}; it has {sorted(fields)[:12]}.")
        found[fitting[0].year] = fitting[0]
    if len(found) > 1:
        names = [path.name for path in reviews]
        raise DataError(f"{reviews[0].parent} mixes the versions {sorted(found)} in {names}; keep one in a folder.")
    return next(iter(found.values()))


def _read_reviews(paths: Sequence[Path], version: _Format) -> pl.DataFrame:
    schema: JsonSchema = {
        version.user: pl.String(),
        version.item: pl.String(),
        version.rating: pl.Float64(),
        version.time: pl.Int64(),
        version.verified: pl.Boolean(),
    }
    rating, seconds = pl.col(version.rating), pl.col(version.time) // version.units_per_s
    unit = "seconds" if version.units_per_s == 1 else "milliseconds"
    frames = []
    for path in paths:
        sheet = read_json(path, schema)
        for name in (version.user, version.item, version.rating, version.time):
            _require_present(sheet, name)
        sheet.require(version.rating, rating.is_between(*STARS), f"be in {STARS[0]} .. {STARS[1]}")
        sheet.require(version.time, seconds.is_between(0, LATEST_SECOND), f"be in {unit} since 1970")
        frames.append(
            sheet.frame.select(
                pl.col(version.user).alias(Columns.USER),
                pl.col(version.item).alias(Columns.ITEM),
                seconds.alias(Columns.TIME),
                reviewed=pl.lit(1.0, dtype=pl.Float32),
                liked=rating >= LIKED_FROM,
                loved=rating >= LOVED_FROM,
                verified=pl.col(version.verified),
            )
        )
    earliest = pl.concat(frames).with_row_index("row").sort(Columns.TIME, maintain_order=True)
    earliest = earliest.unique(subset=[Columns.USER, Columns.ITEM], keep="first", maintain_order=True)
    return earliest.sort("row").drop("row")


def _read_items(paths: Sequence[Path], version: _Format) -> pl.DataFrame:
    schema: JsonSchema = {
        version.item_id: pl.String(),
        **dict.fromkeys(("title", version.brand, version.department, "price"), pl.String()),
        version.categories: pl.List(pl.String()),
    }
    frames = []
    for path in paths:
        sheet = read_json(path, schema)
        _require_present(sheet, version.item_id)
        categories = pl.col(version.categories)
        price = pl.col("price").str.extract(PRICE).str.replace_all(",", "").cast(pl.Float64, strict=False)
        frames.append(
            sheet.frame.select(
                pl.col(version.item_id).alias(Columns.ITEM),
                "title",
                _text(version.brand).alias("brand"),
                _text(version.department).alias("main_category"),
                categories.alias("categories"),
                categories.list.head(N_DEPARTMENTS).alias("departments"),
                price,
            )
        )
    return pl.concat(frames).unique(subset=[Columns.ITEM], keep="first", maintain_order=True)


def _text(name: str) -> pl.Expr:
    text = pl.col(name).str.strip_chars()
    return pl.when(text != "").then(text)


def _require_present(sheet: Sheet, name: str) -> None:
    """Refuse a missing value, and a list or an object instead of an id."""
    present = pl.col(name).is_not_null()
    if sheet.frame.schema[name] == pl.String:
        present &= ~pl.col(name).str.contains(r"^[\[{]|^\s*$")
    sheet.require(name, present, "be there and hold one value")
