"""Lists for very many users: a table of users in, a table of lists out, part by part."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from evorec.errors import ConfigError, DataError
from evorec.serving.queries import Id, User
from evorec.serving.recommender import NO_ITEM, Recommender

if TYPE_CHECKING:
    import polars as pl

USERS_AT_ONCE: Final = 20_000
"""Users whose lists are in memory at a time."""
USER, LIKED, EXCLUDE = "user", "liked", "exclude"
"""Columns of a table of users; a column of another name is a feature of users or of the moment."""


def recommend_table(
    recommender: Recommender,
    users: Path,
    out: Path,
    *,
    k: int | None = None,
    seen: bool = False,
    where: Mapping[str, Sequence[Any]] | None = None,
    only: Sequence[Id] | None = None,
    mmr: float | None = None,
    progress: Callable[[int], None] = lambda _: None,
) -> int:
    """Writes the lists of all users of a table.

    Args:
        recommender: that makes them.
        users: Parquet with a column ``user``, or ``liked`` (lists of items) for new users, or both; further columns
            are features by name, and ``exclude`` lists items that are not to be listed.
        out: Parquet to write, one row per user and place: ``user``, ``rank`` from 1, ``item``, ``score``; ``line`` is
            the user's line in `users`.
        k, seen, where, only, mmr: see `Recommender.recommend`.
        progress: told how many users are done.
    Returns:
        Number of lists.
    Raises:
        ConfigError: `out` exists.
        DataError: `users` cannot be read, or has no usable column.
    """
    import polars as pl

    if out.exists():
        raise ConfigError(f"{out} exists already; nothing is written over.")
    scan, items = _scanned(users), _external_ids(recommender)
    settings = {"k": k, "seen": seen, "where": where, "only": only, "mmr": mmr}
    partial = out.with_name(f".{out.name}.parts")
    partial.mkdir(parents=True, exist_ok=True)
    done, parts = 0, []
    try:
        while True:
            frame = _part(scan, users, done)
            if frame.height == 0:
                break
            parts.append(partial / f"{done:012}.parquet")
            _lists(recommender, items, frame, first=done, **settings).write_parquet(parts[-1])
            done += frame.height
            progress(done)
        if not parts:
            raise DataError(f"{users} has no user.")
        whole = partial / "whole.parquet"
        pl.scan_parquet(parts).sink_parquet(whole)
        os.replace(whole, out)
    finally:
        for file in partial.iterdir():
            file.unlink()
        partial.rmdir()
    return done


def _scanned(users: Path) -> pl.LazyFrame:
    """The table of users, its columns checked."""
    import polars as pl

    try:
        scan = pl.scan_parquet(users)
        schema = scan.collect_schema()
    except (OSError, pl.exceptions.PolarsError) as error:
        raise DataError(f"{users} cannot be read as Parquet: {error}") from None
    if not {USER, LIKED} & set(schema):
        raise DataError(f"{users} needs a column {USER} or {LIKED}, got {', '.join(schema) or 'none'}.")
    for name in (LIKED, EXCLUDE):
        if name in schema and not isinstance(schema[name], pl.List | pl.Null):
            raise DataError(f"column {name} of {users} must have lists of items, got {schema[name]}.")
    return scan


def _part(scan: pl.LazyFrame, users: Path, first: int) -> pl.DataFrame:
    """Users from line `first` on."""
    import polars as pl

    try:
        return scan.slice(first, USERS_AT_ONCE).collect()
    except (OSError, pl.exceptions.PolarsError) as error:
        raise DataError(f"{users} cannot be read as Parquet: {error}") from None


def _external_ids(recommender: Recommender) -> pl.Series:
    """Ids of the catalogue as one column: new items may have ids of another kind, then all are texts."""
    import polars as pl

    ids = recommender.catalogue.ids.ids
    return pl.Series(ids if len({type(one) for one in ids}) == 1 else [str(one) for one in ids])


def _lists(
    recommender: Recommender, items: pl.Series, frame: pl.DataFrame, *, first: int, **settings: Any
) -> pl.DataFrame:
    """Lists of the users of one part of the table; `items` are the ids of the catalogue."""
    import polars as pl

    found = recommender.places(_asking(recommender, frame), **settings)
    line, place = np.nonzero(found.items != NO_ITEM)
    user = frame[USER] if USER in frame.columns else pl.Series(USER, [None] * frame.height, dtype=pl.Int64)
    return pl.DataFrame(
        {
            "line": first + line,
            USER: user.gather(line),
            "rank": (place + 1).astype(np.int32),
            "item": items.gather(found.items[line, place]),
            "score": found.scores[line, place],
        }
    )


def _asking(recommender: Recommender, frame: pl.DataFrame) -> list[User | Id]:
    if frame.columns == [USER]:
        return [User() if one is None else one for one in frame[USER].to_list()]
    out: list[User | Id] = []
    of_user, of_moment = recommender.user_features, recommender.context_features
    if unknown := sorted(set(frame.columns) - {USER, LIKED, EXCLUDE} - of_user - of_moment):
        known = ", ".join(sorted({USER, LIKED, EXCLUDE} | of_user | of_moment))
        raise DataError(
            f"the table of users has a column {unknown[0]!r} that the model does not know; it knows: {known}."
        )
    for row in frame.iter_rows(named=True):
        told = {name: value for name, value in row.items() if value is not None}
        out.append(
            User(
                told.get(USER),
                liked=told.get(LIKED, ()),
                features={name: value for name, value in told.items() if name in of_user},
                context={name: value for name, value in told.items() if name in of_moment},
                exclude=told.get(EXCLUDE, ()),
            )
        )
    return out
