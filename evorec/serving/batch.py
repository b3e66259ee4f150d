"""Lists for very many users: a table of users in, a table of lists out, in chunks."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from evorec.errors import ConfigError, DataError
from evorec.outputs import workspace
from evorec.serving.queries import Id, ListOptions, User
from evorec.serving.recommender import NO_ITEM, Recommender

if TYPE_CHECKING:
    import polars as pl

USERS_PER_CHUNK: Final = 20_000
"""Users whose lists are in memory at the same time."""
USER, LIKED, EXCLUDE = "user", "liked", "exclude"
"""Columns of a table of users; any other column is a feature of users or of the context."""


def recommend_table(
    recommender: Recommender,
    users: str | Path,
    out: str | Path,
    options: ListOptions,
    *,
    progress: Callable[[int], None] = lambda _: None,
) -> int:
    """Write the lists of all users of a table.

    Args:
        recommender: that makes them.
        users: Parquet with a column ``user``, or ``liked`` (lists of items) for new users, or both; further columns
            are features by name, and ``exclude`` has lists of items that are not listed.
        out: Parquet to write, a row per user and rank: ``user``, ``rank`` from 1, ``item``, ``score``; ``line`` is
            the row number of the user in `users`.
        options: of the lists.
        progress: called with the number of users that are done.
    Returns:
        Number of lists.
    Raises:
        ConfigError: `out` exists.
        DataError: `users` cannot be read, or has no usable column.
    """
    import polars as pl

    users, out = Path(users), Path(out)
    if os.path.lexists(out):
        raise ConfigError(f"{out} exists already and is not overwritten.")
    ids = recommender.catalogue.ids.ids  # new items may have ids of another type; then all are texts
    items = pl.Series(ids if len({type(id_) for id_ in ids}) == 1 else [str(id_) for id_ in ids])
    frames = _frames(recommender, users)
    first, chunks, n_done = next(frames), list[Path](), 0
    with workspace(out) as parts:
        for frame in itertools.chain([first], frames):
            chunks.append(parts / f"{n_done:012}.parquet")
            _lists(recommender, items, frame, options, first=n_done).write_parquet(chunks[-1])
            n_done += frame.height
            progress(n_done)
        pl.scan_parquet(chunks, glob=False).sink_parquet(parts / "whole.parquet")
        (parts / "whole.parquet").replace(out)
    return n_done


def _frames(recommender: Recommender, users: Path) -> Iterator[pl.DataFrame]:
    """The table of users in chunks, at least one; a table that cannot be used is refused before the first."""
    import polars as pl

    n_read = 0
    try:
        scan = pl.scan_parquet(users, glob=False)
        _check_columns(recommender, users, scan.collect_schema())
        while (frame := scan.slice(n_read, USERS_PER_CHUNK).collect()).height:
            n_read += frame.height
            yield frame
    except (OSError, pl.exceptions.PolarsError) as error:
        raise DataError(f"{users} cannot be read as Parquet: {error}") from None
    if not n_read:
        raise DataError(f"{users} has no user.")


def _check_columns(recommender: Recommender, users: Path, schema: pl.Schema) -> None:
    import polars as pl

    if not {USER, LIKED} & set(schema):
        raise DataError(f"{users} needs a column {USER} or {LIKED}, got {', '.join(schema) or 'none'}.")
    for name in (LIKED, EXCLUDE):
        if name in schema and not isinstance(schema[name], pl.List | pl.Null):
            raise DataError(f"column {name} of {users} must have lists of items, got {schema[name]}.")
    known = {USER, LIKED, EXCLUDE} | recommender.user_features | recommender.context_features
    if unknown := sorted(set(schema) - known):
        raise DataError(
            f"the table of users has a column {unknown[0]!r} that the model does not know; it knows: "
            f"{', '.join(sorted(known))}."
        )


def _lists(
    recommender: Recommender, items: pl.Series, frame: pl.DataFrame, options: ListOptions, *, first: int
) -> pl.DataFrame:
    """Lists of the users of a chunk; `items` are the ids of the catalogue."""
    import polars as pl

    users: list[User | Id]
    if frame.columns == [USER]:
        users = [User() if id_ is None else id_ for id_ in frame[USER].to_list()]
    else:
        users = []
        for row in frame.iter_rows(named=True):
            given = {name: value for name, value in row.items() if value is not None}
            features, context = (
                {name: value for name, value in given.items() if name in names}
                for names in (recommender.user_features, recommender.context_features)
            )
            users.append(User(given.get(USER), given.get(LIKED, ()), features, context, given.get(EXCLUDE, ())))
    found = recommender.index_lists(users, options)
    line, rank = np.nonzero(found.items != NO_ITEM)
    ids = frame[USER] if USER in frame.columns else pl.Series(USER, [None] * frame.height, dtype=pl.Int64)
    return pl.DataFrame(
        {
            "line": first + line,
            USER: ids.gather(line),
            "rank": (rank + 1).astype(np.int32),
            "item": items.gather(found.items[line, rank]),
            "score": found.scores[line, rank],
        }
    )
