"""Parts of published data sets, for tests of what does not depend on their size."""

from __future__ import annotations

from pathlib import Path

KEPT_USERS = 8
"""One user in so many is kept."""


def copy_part(source: Path, out: Path) -> Path:
    """Copy the rows of some users, and of the items that they met, of KuaiRand, MovieLens (latest) or sequences."""
    out.mkdir(parents=True)
    if (sequences := source / "sequences.txt").exists():
        rows = sequences.read_text().splitlines(keepends=True)
        (out / sequences.name).write_text("".join(rows[:: KEPT_USERS**2]))  # short histories
        return out
    (log,) = [*source.glob("log_*.csv"), *source.glob("ratings.csv")]
    head, *rows = log.read_text(encoding="utf-8").splitlines(keepends=True)
    kept = [row for row in rows if _key(row, 0) % KEPT_USERS == 0]
    users, items = ({_key(row, column) for row in kept} for column in (0, 1))
    (out / log.name).write_text("".join([head, *kept]), encoding="utf-8")
    for pattern, wanted in {"user_features*.csv": users, "video_features*.csv": items, "movies.csv": items}.items():
        for file in source.glob(pattern):
            head, *rows = file.read_text(encoding="utf-8").splitlines(keepends=True)
            (out / file.name).write_text("".join([head, *(row for row in rows if _key(row, 0) in wanted)]))
    return out


def _key(row: str, column: int) -> int:
    return int(row.split(",", 2)[column])
