"""``evorec data get``: published data sets by name."""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Annotated, Any, Self, final

import typer
from rich.markup import escape
from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.progress import TransferSpeedColumn as SpeedColumn

from evorec.cli.output import Output
from evorec.cli.problems import known_problems
from evorec.data.cache import cached
from evorec.data.catalogue import CATALOGUE, DataSet, find
from evorec.data.fetch import Fetched, fetch
from evorec.errors import ConfigError, DataError, Interrupted
from evorec.report.tables import Column, Row, Table

LINE_EVERY_S = 30.0
"""How often a log file hears of a long download."""


def size_text(n_bytes: int | None) -> str:
    """Bytes as people read them.

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


@final
class FetchProgress:
    """A bar on a terminal, a line now and then elsewhere, nothing when quiet; a context manager."""

    def __init__(self, output: Output, title: str) -> None:
        self._output = output
        self._title = title
        self._step = ""
        self._line_s = 0.0
        self._task: TaskID | None = None
        columns = (TextColumn("{task.description}"), BarColumn(None), DownloadColumn(), SpeedColumn())
        self._bar = Progress(
            *columns,
            TimeRemainingColumn(),
            console=output.console,
            transient=True,
            disable=output.verbosity < 0 or not output.console.is_terminal,
        )

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def show(self, step: str, done: int, total: int | None) -> None:
        """Show how far a step is."""
        now = time.monotonic()
        is_new = step != self._step
        if is_new:
            self._step, self._line_s = step, now
            if self._task is not None:
                self._bar.remove_task(self._task)
            self._task = self._bar.add_task(f"{step} {escape(self._title)}", total=total)
        if self._task is not None:
            self._bar.update(self._task, completed=done, total=total)
        if self._bar.disable and (is_new or now - self._line_s >= LINE_EVERY_S):
            self._line_s = now
            whole = "" if total is None else f" of {size_text(total)}"
            progress = "" if is_new else f": {size_text(done)}{whole}"
            self._output.note(f"{step} {self._title}{progress}")

    def say(self, text: str) -> None:
        """A line for people."""
        self._output.note(text, style="yellow")


def get(
    output: Output,
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="Data set; --list shows them all.", show_default=False)
    ] = None,
    list_all: Annotated[
        bool, typer.Option("--list", metavar="", help="Show all data sets, and download none; -v: more.")
    ] = False,
) -> None:
    """Download a published data set.

    Its size and checksum are compared with the published ones, and data.path finds it by its name.
    It is kept in $EVOREC_CACHE or ~/.cache/evorec; a download that broke off goes on where it was.
    """
    if list_all == (name is not None):
        raise ConfigError(
            "give the NAME of a data set, or --list to see them all; got " + ("both." if name else "none.")
        )
    if name is None:
        output.result([_as_json(data_set) for data_set in CATALOGUE.values()], _table(whole=output.verbosity > 0))
        output.next_step("evorec data get movielens-latest-small")
        return
    data_set = find(name)
    if data_set.files:
        output.note(f"{data_set.name}: {data_set.about}; licence: {data_set.licence}; {data_set.homepage}")
    try:
        with FetchProgress(output, data_set.name) as progress:
            fetched = fetch(data_set, watch=progress)
    except Interrupted as error:
        raise Interrupted(f"{error} What was downloaded is kept; `evorec data get {data_set.name}` goes on.") from None
    _report(output, data_set, fetched)


def _report(output: Output, data_set: DataSet, fetched: Fetched) -> None:
    receipt = fetched.receipt
    value = {
        **_as_json(data_set),
        "path": str(fetched.path),
        "was_there": fetched.was_there,
        "files": dict(receipt.files),
        "sources": [asdict(source) for source in receipt.sources],
    }
    state = "was there already" if fetched.was_there else "is there"
    checked = ", ".join(dict.fromkeys(source.checked for source in receipt.sources))
    output.note(f"{data_set.name} {state}; compared with: {checked}." if checked else f"{data_set.name} {state}.")
    output.result(value, text=str(fetched.path))
    output.note(f'in a configuration: [data] reader = "{data_set.reader}", path = "{data_set.name}"')
    if data_set.reader in known_problems():
        output.next_step(f"evorec data describe --problem {data_set.reader} --set data.path={data_set.name}")


def _place(data_set: DataSet) -> tuple[str, Path | None]:
    """Whether a data set is here, as a word, and its folder; a damaged one must not hide the others."""
    try:
        place = cached(data_set.name)
    except DataError:
        return "damaged", None
    return ("" if place is None else "yes"), place


def _as_json(data_set: DataSet) -> dict[str, Any]:
    _, place = _place(data_set)
    return {
        "name": data_set.name,
        "about": data_set.about,
        "reader": data_set.reader,
        "licence": data_set.licence,
        "homepage": data_set.homepage,
        "download": [asdict(file) for file in data_set.files],
        "size_bytes": data_set.size_bytes,
        "by_hand": data_set.by_hand or None,
        "path": None if place is None else str(place),
    }


def _table(*, whole: bool) -> Table:
    """All data sets; whole = with their readers, and what the downloads are compared with."""
    columns = [Column("here"), *([Column("reader")] if whole else []), Column("download")]
    columns += [*([Column("checksum")] if whole else []), Column("what")]
    rows = []
    for data_set in CATALOGUE.values():
        size = size_text(data_set.size_bytes) if data_set.files else "by hand"
        here, _ = _place(data_set)
        known = {"here": here, "reader": data_set.reader, "download": size}
        known |= {"checksum": _checksum(data_set), "what": data_set.about}
        rows.append(Row(data_set.name, tuple(known[column.key] for column in columns)))
    return Table("Published data sets", "name", tuple(columns), tuple(rows))


def _checksum(data_set: DataSet) -> str:
    """What the download is compared with."""
    if not data_set.files:
        return ""
    if all(file.sha256 for file in data_set.files):
        return "sha256"
    return "md5" if all(file.md5 for file in data_set.files) else "first download"
