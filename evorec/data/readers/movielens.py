"""MovieLens (Harper and Konstan 2015, https://grouplens.org/datasets/movielens): ratings of films, in three formats."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import polars as pl

from evorec.data.readers.delimited import Schema, read_csv, read_rows, require_values
from evorec.data.tables import Columns, Feature, Tables
from evorec.errors import DataError

STARS: Final = (0.5, 5.0)
"""The lowest and the highest rating of all formats."""
LIKED_FROM: Final = 4.0
"""Stars; the usual threshold of a positive rating."""
LOVED_FROM: Final = 5.0
NO_GENRE: Final = ("(no genres listed)", "unknown")

GENRES_100K: Final = (
    *("unknown", "Action", "Adventure", "Animation", "Children", "Comedy", "Crime", "Documentary", "Drama", "Fantasy"),
    *("Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi", "Thriller", "War", "Western"),
)
"""The 19 flags at the end of a line of ``u.item``, in order (its ``u.genre``)."""

RATING: Final[Schema] = {"userId": pl.Int64, "movieId": pl.Int64, "rating": pl.Float64, "timestamp": pl.Int64}
USER_FEATURES: Final = (
    Feature("gender", "categorical"),
    Feature("age", "numeric"),
    Feature("occupation", "categorical"),
)


def read(folder: Path) -> Tables:
    """MovieLens in the format that the files of the folder have.

    ``latest`` (also 20m, 25m, 32m): ``ratings.csv``, ``movies.csv``; ``100k``: ``u.data``, ``u.item``, ``u.user``;
    ``1m`` (also 10m, which has no users): ``ratings.dat``, ``movies.dat``, ``users.dat``. Tasks: rated (always 1),
    liked (4 stars or more), loved (5 stars). Items have genres, which are also their content, and the year of the
    title; users of 100k and 1m have gender, age and occupation. File order is kept.

    Args:
        folder: of one data set.
    Raises:
        DataError: no format fits, or names the file, the line and the column.
    """
    for ratings, reader in (("ratings.csv", _latest), ("u.data", _100k), ("ratings.dat", _1m)):
        if (folder / ratings).is_file():
            return reader(folder)
    raise DataError(f"{folder} must have ratings.csv (latest), u.data (100k) or ratings.dat (1m); none is there.")


def _latest(folder: Path) -> Tables:
    ratings = read_csv(folder / "ratings.csv", RATING)
    require_values(folder / "ratings.csv", ratings, list(RATING), first_line=2)
    _check_stars(folder / "ratings.csv", ratings, first_line=2)
    path = folder / "movies.csv"
    movies = read_csv(path, {"movieId": pl.Int64, "title": pl.String, "genres": pl.String})
    require_values(path, movies, ["movieId"], first_line=2)
    return _tables("movielens-latest", ratings, _with_genres(movies), None)


def _100k(folder: Path) -> Tables:
    ratings = _check_stars(folder / "u.data", _rows(folder / "u.data", RATING, "\t"), first_line=1)
    head: Schema = dict.fromkeys(("title", "release", "video_release", "url"), pl.String)
    movies = _rows(folder / "u.item", {"movieId": pl.Int64, **head, **dict.fromkeys(GENRES_100K, pl.Int64)}, "|")
    genres = pl.concat_list(pl.when(pl.col(genre) == 1).then(pl.lit(genre)) for genre in GENRES_100K)
    movies = movies.select("movieId", "title", genres=genres.list.drop_nulls())
    user: Schema = {"userId": pl.Int64, "age": pl.Int64, "gender": pl.String, "occupation": pl.String}
    return _tables("movielens-100k", ratings, movies, _rows(folder / "u.user", user, "|"))


def _1m(folder: Path) -> Tables:
    ratings = _check_stars(folder / "ratings.dat", _rows(folder / "ratings.dat", RATING, "::"), first_line=1)
    movies = _rows(folder / "movies.dat", {"movieId": pl.Int64, "title": pl.String, "genres": pl.String}, "::")
    user: Schema = {"userId": pl.Int64, "gender": pl.String, "age": pl.Int64, "occupation": pl.String}
    users = _rows(folder / "users.dat", user, "::") if (folder / "users.dat").is_file() else None
    return _tables("movielens-1m" if users is not None else "movielens-10m", ratings, _with_genres(movies), users)


def _rows(path: Path, schema: Schema, separator: str) -> pl.DataFrame:
    frame = read_rows(path, schema, separator=separator, encoding="latin-1")
    keys = [column for column, dtype in schema.items() if column in RATING]
    require_values(path, frame, keys, first_line=1)
    return frame


def _check_stars(path: Path, ratings: pl.DataFrame, *, first_line: int) -> pl.DataFrame:
    """Refuse what is no number of stars: NaN, above all, would count as loved."""
    wrong = (~ratings["rating"].is_between(*STARS)).arg_true()
    if len(wrong):
        row = int(wrong[0])
        raise DataError(
            f"{path}, line {first_line + row}, column rating must be in {STARS[0]}..{STARS[1]} stars, "
            f"got {ratings['rating'][row]}."
        )
    return ratings


def _with_genres(movies: pl.DataFrame) -> pl.DataFrame:
    return movies.with_columns(pl.col("genres").str.split("|"))


def _tables(name: str, ratings: pl.DataFrame, movies: pl.DataFrame, users: pl.DataFrame | None) -> Tables:
    interactions = ratings.select(
        pl.col("userId").alias(Columns.USER),
        pl.col("movieId").alias(Columns.ITEM),
        pl.col("timestamp").alias(Columns.TIME),
        pl.lit(1.0, dtype=pl.Float32).alias("rated"),
        (pl.col("rating") >= LIKED_FROM).alias("liked"),
        (pl.col("rating") >= LOVED_FROM).alias("loved"),
    )
    items = movies.select(
        pl.col("movieId").alias(Columns.ITEM),
        "title",
        # "(1995)" at the end; a series has "(2006-2007)" and counts from its first year
        pl.col("title").str.extract(r"\((\d{4})[^()]*\)\s*$").cast(pl.Int64).alias("year"),
        pl.col("genres").list.filter(~pl.element().is_in(NO_GENRE)),
    )
    return Tables(
        name=name,
        interactions=interactions,
        tasks=("rated", "liked", "loved"),
        users=users.rename({"userId": Columns.USER}) if users is not None else None,
        items=items,
        user_features=USER_FEATURES if users is not None else (),
        item_features=(Feature("genres", "multi_hot"), Feature("year", "numeric")),
        content=("genres",),
    )
