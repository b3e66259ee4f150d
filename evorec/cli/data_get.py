"""``evorec data get``: published data sets by name."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from evorec.cli.app import DEFINE, command
from evorec.cli.output import Output
from evorec.errors import ConfigError
from evorec.report.table import Column, Row, Table

if TYPE_CHECKING:
    from evorec.data.catalogue import DataSet
    from evorec.data.unpack import Progress as Report

LINE_EVERY_S: Final = 30.0
"""Interval of progress lines in a log file."""


def size_text(n_bytes: int | None) -> str:
    """Bytes with three digits and a unit.

    Example:
        >>> [size_text(n_bytes) for n_bytes in (978_202, 999_600, 9_892_191_178, 12, None)]
        ['978 kB', '1.00 MB', '9.89 GB', '12 B', 'not published']
    """
    if n_bytes is None:
        return "not published"
    for size, unit in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if n_bytes >= 0.9995 * size:  # from there on three digits round up to the unit
            return f"{n_bytes / size:#.3g}".rstrip(".") + f" {unit}"
    return f"{n_bytes} B"


@contextmanager
def fetch_progress(output: Output, title: str) -> Iterator[Report]:
    """Progress as a bar on a terminal, as a line now and then elsewhere, not at all when quiet."""
    from rich.markup import escape
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (TextColumn("{task.description}"), BarColumn(None), DownloadColumn(), TransferSpeedColumn())
    bar = Progress(
        *columns,
        TimeRemainingColumn(),
        console=output.console,
        transient=True,
        disable=output.verbosity < 0 or not output.console.is_terminal,
    )
    tasks = {}
    line_s = 0.0

    def show(step: str, done: int, total: int | None) -> None:
        nonlocal line_s
        now, is_new = time.monotonic(), step not in tasks
        if is_new:
            tasks[step] = bar.add_task(f"{step} {escape(title)}", total=total)
        bar.update(tasks[step], completed=done, total=total)
        if bar.disable and (is_new or now - line_s >= LINE_EVERY_S):
            line_s = now
            whole = "" if total is None else f" of {size_text(total)}"
            output.note(f"{step} {title}" if is_new else f"{step} {title}: {size_text(done)}{whole}")

    with bar:
        yield show


@command(
    panel=DEFINE,
    order=40,
    name="data get",
    examples=(
        "evorec data get --list",
        "evorec data get movielens-1m",
    ),
)
def get(
    output: Output,
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="Data set; --list shows them all.", show_default=False)
    ] = None,
    list_all: Annotated[
        bool, typer.Option("--list", metavar="", help="Show all data sets and download nothing; -v: more columns.")
    ] = False,
) -> None:
    """Download a published data set.

    Its checksum is compared with the published checksum, and data.path finds it by its name.
    It is kept in $EVOREC_CACHE or ~/.cache/evorec.
    """
    from evorec.config import installed_problems
    from evorec.data.catalogue import CATALOGUE, find
    from evorec.data.fetch import fetch

    if list_all == (name is not None):
        raise ConfigError(
            "give the NAME of a data set, or --list to see them all; got " + ("both." if name else "none.")
        )
    if name is None:
        output.result([_as_json(data_set) for data_set in CATALOGUE.values()], _table(whole=output.verbosity > 0))
        output.next_step("evorec", "data", "get", "movielens-latest-small")
        return
    data_set = find(name)
    if data_set.files:
        output.note(f"{data_set.name}: {data_set.about}; licence: {data_set.licence}; {data_set.homepage}")
    with fetch_progress(output, data_set.name) as progress:
        path, was_cached = fetch(data_set, progress=progress)
    if was_cached:
        output.note(f"{data_set.name} was in the cache already.")
    else:
        kind = _checksum(data_set)
        checked = f"{kind} verified" if kind else "its publisher states no checksum"
        output.note(f"{data_set.name} is downloaded; {checked}.")
    output.result({**_as_json(data_set), "was_cached": was_cached}, text=str(path))
    output.note(f'in a configuration: [data] reader = "{data_set.reader}", path = "{data_set.name}"')
    if data_set.reader in installed_problems():
        setting = f"data.path={data_set.name}"
        output.next_step("evorec", "data", "describe", "--problem", data_set.reader, "--set", setting)


def _as_json(data_set: DataSet) -> dict[str, Any]:
    from evorec.data.paths import cached

    path = cached(data_set.name)
    value = {key: value for key, value in asdict(data_set).items() if key != "files"}
    return {
        **value,
        "download": [asdict(file) for file in data_set.files],
        "size_bytes": data_set.size_bytes,
        "path": None if path is None else str(path),
    }


def _table(*, whole: bool) -> Table:
    """All data sets; whole = with their readers and checksums."""
    from evorec.data.catalogue import CATALOGUE
    from evorec.data.paths import cached

    columns = ("cached", *(["reader"] if whole else []), "download", *(["checksum"] if whole else []), "contents")
    rows = []
    for data_set in CATALOGUE.values():
        known = {
            "cached": "" if cached(data_set.name) is None else "yes",
            "reader": data_set.reader,
            "download": size_text(data_set.size_bytes) if data_set.files else "by hand",
            "checksum": _checksum(data_set),
            "contents": data_set.about,
        }
        rows.append(Row(data_set.name, tuple(known[column] for column in columns)))
    return Table("Published data sets", "name", tuple(map(Column, columns)), tuple(rows))


def _checksum(data_set: DataSet) -> str:
    """Kind of the published checksum; empty without a checksum."""
    return next((file.checksum.partition(":")[0] for file in data_set.files if file.checksum), "")
