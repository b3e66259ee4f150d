"""Commands about data, before anything is trained: data describe, data get."""

from __future__ import annotations

import os
import shlex
import textwrap
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from evorec.cli.app import DEFINE, GROUPS, Config, Overrides, ProblemName, command
from evorec.cli.output import Format, Output
from evorec.config import DataConfig, load_config, recommender_config
from evorec.errors import ConfigError

if TYPE_CHECKING:
    from evorec.data.description import Description, Source
    from evorec.data.tables import Tables
    from evorec.report.findings import Finding
    from evorec.report.tables import Table

GROUPS["data"] = "Look at a data set, or download one."


@command(panel=DEFINE, order=30, name="data describe")
def describe(
    output: Output,
    config: Config = None,
    problem: ProblemName = None,
    overrides: Overrides = None,
    page: Annotated[
        Path | None,
        typer.Option("--html", metavar="FILE", help="Also write a page with pictures.", show_default=False),
    ] = None,
) -> None:
    """Show what the data are like: parts, labels, what is new where, which items have content, what looks wrong.

    Counts only; no model is fitted, and the vectors of data.content are made as a search would make them.
    -v shows every feature and how the labels go together.
    """
    from evorec.data.describe import describe as count
    from evorec.report.findings import findings

    settings = recommender_config(load_config(config, problem=problem, overrides=overrides or []))
    if page is not None:
        _check_page(page)
    output.note(f"reading {settings.data.reader} {settings.data.path or ''}", level=1)
    tables, source = _read(settings.data)
    output.note(f"counting {tables.n_rows:,} rows", level=1)
    warm = settings.evaluation.users == "warm"
    found = count(tables, split=settings.split, tasks=settings.tasks, warm_users=warm, content=settings.data.content)
    remarks = findings(found, source, settings.tasks, now_s=int(time.time()))
    _show(output, found, source, remarks)
    named = _same_data(config, problem, overrides or [])
    if page is not None:
        _write(page, found, source, remarks)
        output.note(f"pictures in {page}")
    else:
        output.next_step(f"evorec data describe {named} --html data.html")
    output.next_step(f"evorec validate {named}")


def _check_page(page: Path) -> None:
    """Refuse what a file cannot take the place of: a folder, or a device such as /dev/stdout, which would be gone."""
    if page.is_dir():
        raise ConfigError(f"--html must be a file, and {page} is a folder; e.g. --html {page / 'data.html'}")
    if page.exists() and not page.is_file():
        raise ConfigError(f"--html must be a file, and {page} is a device or a pipe; e.g. --html data.html")


def _same_data(config: Path | None, problem: str | None, overrides: Sequence[str]) -> str:
    """The words of a command line that lead to the same settings."""
    words = [str(config)] if config else []
    words += ["--problem", problem] if problem else []
    words += [word for text in overrides for word in ("--set", text)]
    return shlex.join(words)


def _read(config: DataConfig) -> tuple[Tables, Source]:
    """The tables, and what is known about how they were read."""
    from evorec.data.description import Source, SourceFile
    from evorec.data.paths import resolve_path
    from evorec.data.readers import SIMULATOR, TABLE, read, table, with_content

    if config.reader == SIMULATOR or config.path is None:
        return read(config), Source(config.reader)
    folder = resolve_path(config.path)
    if config.reader != TABLE:
        return read(config), Source(config.reader, _text(folder))
    found = table.read_counted(config)
    return with_content(found.tables, config), Source(
        config.reader,
        _text(folder),
        files=tuple(SourceFile(_text(file.name.removeprefix(f"{folder}/")), file.n_rows) for file in found.files),
        n_read=found.n_rows,
        n_missing_ids=found.n_missing_ids,
        n_duplicates=found.n_duplicates,
        n_events=found.n_events,
    )


def _text(path: Path | str) -> str:
    """A path as text that any file can hold; its bytes may be no text at all."""
    return os.fsencode(path).decode(errors="backslashreplace")


def _show(output: Output, found: Description, source: Source, remarks: Sequence[Finding]) -> None:
    """Warnings first, then the tables."""
    value = {"source": asdict(source), "findings": [asdict(remark) for remark in remarks], **asdict(found)}
    if output.form is Format.JSON:
        output.result(value)
        return
    from evorec.report.data_tables import feature_summary, merged, origin, printable, size

    found, source, remarks = printable(found), printable(source), printable(tuple(remarks))
    output.result(value, text=output.wrapped(f"{found.name}: {size(found)}"))
    output.result(value, text=_indented(output, "source: ", origin(source)))
    if text := merged(found, source):
        output.result(value, text=text)
    for level, mark, style in (("warning", "!", "yellow"), ("note", "-", "")):
        texts = [remark.text for remark in remarks if remark.level == level]
        if texts:
            output.result(value, text="")
        for text in texts:
            output.result_console.print(_indented(output, f"{mark} ", text), style=style, markup=False)
    output.result(value, *_tables(found, whole=output.verbosity > 0))
    if output.verbosity <= 0:
        output.result(value, text=f"\n{feature_summary(found)}{'; -v shows each of them' if found.features else ''}")


def _indented(output: Output, mark: str, text: str) -> str:
    width = min(output.result_console.width, 120)
    whole = text.replace(" %", "\u00a0%")  # a number keeps its sign
    lines = textwrap.wrap(
        whole,
        width,
        initial_indent=mark,
        subsequent_indent=" " * len(mark),
        break_long_words=False,
        break_on_hyphens=False,
    )
    return "\n".join(lines).replace("\u00a0", " ")


def _tables(found: Description, *, whole: bool) -> Iterator[Table]:
    from dataclasses import replace

    from evorec.report import data_tables as of

    tables = [of.parts_table(found), of.new_table(found), of.label_table(found)]
    tables += [of.overlap_table(found)] if whole else []
    tables += [of.spread_table(found), of.content_table(found)]
    tables += [of.coverage_table(found), of.feature_table(found)] if whole else []
    return (replace(table, title=f"\n{table.title}") for table in tables if table.rows)


def _write(page: Path, found: Description, source: Source, remarks: Sequence[Finding]) -> None:
    from evorec.report.data_page import data_page
    from evorec.run.atomic import write_atomic

    text = data_page(found, source, remarks, version=metadata.version("evorec"))
    page.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(page, text.encode())
