"""MovieLens (Harper and Konstan 2015, https://grouplens.org/datasets/movielens): ratings of films, in each format."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

import polars as pl

from evorec.data.readers import reads_folder
from evorec.data.tables import Columns, Feature, Tables
from evorec.data.tabular.published import FLAG, INTEGER, KEY, SECONDS, TEXT
from evorec.data.tabular.sheet import Field, read_csv, read_rows
from evorec.errors import DataError

STARS: Final = (0.5, 5.0)
"""The lowest and the highest rating of all formats."""
LIKED_FROM: Final = 4.0
"""Stars; the usual threshold of a positive rating."""
LOVED_FROM: Final = 5.0
GENOME: Final = "genome-scores.csv"
NO_GENRE: Final = ("(no genres listed)", "unknown")

GENRES_100K: Final = (
    *("unknown", "Action", "Adventure", "Animation", "Children", "Comedy", "Crime", "Documentary", "Drama", "Fantasy"),
    *("Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi", "Thriller", "War", "Western"),
)
"""The 19 flags at the end of a line of ``u.item``, in order (its ``u.genre``)."""

RATING: Final = {
    "userId": INTEGER,
    "movieId": INTEGER,
    "rating": Field(pl.Float64, lambda stars: stars.is_between(*STARS), f"be in {STARS[0]}..{STARS[1]} stars"),
    "timestamp": SECONDS,
}
MOVIE: Final = {"movieId": KEY, "title": TEXT, "genres": TEXT}
AGE: Final = Field(pl.Int64, needed=False)
USER_FEATURES: Final = (
    Feature("gender", "categorical"),
    Feature("age", "numeric"),
    Feature("occupation", "categorical"),
)


@reads_folder("movielens", "MovieLens 100k, 1m, 10m, 20m, 25m, 32m and latest: ratings of films")
def read(folder: Path) -> Tables:
    """MovieLens in the format that the files of the folder have.

    ``latest`` (also latest-small, 20m, 25m, 32m): ``ratings.csv``, ``movies.csv``; ``100k``: ``u.data``, ``u.item``,
    ``u.user``; ``1m``: ``ratings.dat``, ``movies.dat``, ``users.dat`` in Latin-1; ``10m``: the same without users, in
    UTF-8. Tasks: rated (always 1), liked (4 stars or more), loved (5 stars); there is no context. Items have genres,
    which are also their content, and the year of the title; users of 100k and 1m have gender, age and occupation. Times
    are in UTC. File order is kept. Tags, links and the tag genome are not read: see `read_with_genome`.

    Args:
        folder: of a data set.
    Raises:
        DataError: no format fits, or names the file, the line and the column.
    Source: the README of each data set; research use, not commercial, under its conditions.
    """
    for ratings, reader in (("ratings.csv", _latest), ("u.data", _100k), ("ratings.dat", _1m)):
        if (folder / ratings).is_file():
            return reader(folder)
    raise DataError(f"{folder} must have ratings.csv (latest), u.data (100k) or ratings.dat (1m); none is there.")


@reads_folder("movielens_genome", "MovieLens 20m, 25m and latest with the tag genome as content")
def read_with_genome(folder: Path) -> Tables:
    """MovieLens 20m, 25m or latest, as `read` gives it, with the tag genome as content, besides the genres.

    The genome says how strongly each of about 1,100 tags fits a film (Vig et al. 2012), for the films that had enough
    tags; the others have none. It was learned from all tags, reviews and ratings up to its release, so that its vectors
    know the days that are to be predicted: they measure diversity well, but a model that learns from them is flattered.

    Args:
        folder: with ``genome-scores.csv`` beside ``ratings.csv`` and ``movies.csv``.
    Raises:
        DataError: names the file, the line and the column.
    """
    tables = read(folder)
    relevance = Field(pl.Float64, lambda value: value.is_between(0, 1), "be in 0 .. 1")
    scores = read_csv(folder / GENOME, {"movieId": INTEGER, "tagId": INTEGER, "relevance": relevance})
    scores.require("tagId", pl.struct("movieId", "tagId").is_first_distinct(), "be there once per film")
    n_tags = scores.frame["tagId"].n_unique()
    scores.require("movieId", pl.len().over("movieId") == n_tags, f"have all {n_tags} tags")
    films = scores.frame.sort("movieId", "tagId").group_by(pl.col("movieId").alias(Columns.ITEM), maintain_order=True)
    genome = films.agg(pl.col("relevance").alias("genome"))  # in order of the tags
    assert tables.items is not None
    items = tables.items.join(genome, on=Columns.ITEM, how="left", maintain_order="left")
    return replace(tables, name=f"{tables.name}-genome", items=items, content=(*tables.content, "genome"))


def _latest(folder: Path) -> Tables:
    ratings, movies = read_csv(folder / "ratings.csv", RATING).frame, read_csv(folder / "movies.csv", MOVIE).frame
    return _tables("movielens-latest", ratings, movies.with_columns(pl.col("genres").str.split("|")), None)


def _100k(folder: Path) -> Tables:
    movie = {
        "movieId": KEY,
        **dict.fromkeys(("title", "release", "video_release", "url"), TEXT),
        **dict.fromkeys(GENRES_100K, replace(FLAG, needed=False)),
    }
    ratings = _rows(folder / "u.data", RATING, "\t")
    movies = _rows(folder / "u.item", movie, "|")
    genres = pl.concat_list(pl.when(pl.col(genre) == 1).then(pl.lit(genre)) for genre in GENRES_100K)
    movies = movies.select("movieId", "title", genres=genres.list.drop_nulls())
    users = _rows(folder / "u.user", {"userId": KEY, "age": AGE, "gender": TEXT, "occupation": TEXT}, "|")
    return _tables("movielens-100k", ratings, movies, users)


def _1m(folder: Path) -> Tables:
    ratings = _rows(folder / "ratings.dat", RATING, "::")
    user = {"userId": KEY, "gender": TEXT, "age": AGE, "occupation": TEXT}
    users = _rows(folder / "users.dat", user, "::") if (folder / "users.dat").is_file() else None
    movies = _rows(folder / "movies.dat", MOVIE, "::", encoding="utf-8" if users is None else "latin-1")
    name = "movielens-1m" if users is not None else "movielens-10m"
    return _tables(name, ratings, movies.with_columns(pl.col("genres").str.split("|")), users)


def _rows(path: Path, fields: Mapping[str, Field], separator: str, encoding: str = "latin-1") -> pl.DataFrame:
    return read_rows(path, fields, separator=separator, encoding=encoding).frame


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
