"""The command data describe."""

from __future__ import annotations

import os
import textwrap
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from evorec.cli.app import DEFINE, GROUPS, Config, Overrides, ProblemName, check_file, command, config_words
from evorec.cli.output import Format, Output

if TYPE_CHECKING:
    from evorec.data.describe import Description
    from evorec.data.readers import Origin
    from evorec.report.data_findings import Finding

GROUPS["data"] = "Look at a data set, or download one."


@command(
    panel=DEFINE,
    order=30,
    name="data describe",
    examples=(
        "evorec data describe my.toml",
        "evorec data describe --problem feed --format json",
    ),
)
def describe(
    output: Output,
    config: Config = None,
    problem: ProblemName = None,
    overrides: Overrides = None,
    page: Annotated[
        Path | None, typer.Option("--html", metavar="FILE", help="Also write a page with pictures.", show_default=False)
    ] = None,
) -> None:
    """Describe a data set: parts, labels, new users and items, content, and anything that looks wrong.

    Counts only; no model is fitted, and the vectors of data.content are made as a search would make them.
    -v shows every feature and how the labels overlap.
    """
    from evorec.config import load_config, recommender_config
    from evorec.data.describe import describe as description
    from evorec.data.readers import read_with_origin
    from evorec.data.remarks import remarks as limits_of
    from evorec.report.data_findings import findings

    settings = recommender_config(load_config(config, problem=problem, overrides=overrides or []))
    if page is not None:
        check_file("--html", page, "data.html")
    output.note(f"reading {settings.data.reader} {settings.data.path or ''}", level=1)
    tables, source = read_with_origin(settings.data)
    source = replace(source, folder=_text(source.folder), files=tuple((_text(name), n) for name, n in source.files))
    output.note(f"counting {tables.n_rows:,} rows", level=1)
    warm = settings.evaluation.users == "warm"
    found = description(
        tables, split=settings.split, tasks=settings.tasks, warm_users=warm, content=settings.data.content
    )
    notes = limits_of(tables, settings)
    remarks = findings(found, source, settings.tasks, now_s=int(time.time()), notes=notes)
    value = {"source": asdict(source), "findings": [asdict(remark) for remark in remarks], **found.as_json()}
    if page is not None:
        from evorec.outputs import write_output
        from evorec.report.data_page import data_page

        write_output(page, data_page(found, source, remarks, version=metadata.version("evorec")).encode())
        output.note(f"pictures in {page}")
    if output.form is Format.JSON:
        output.result(value)
    else:
        _show(output, found, source, remarks)
    same_data = config_words(config, problem, overrides)
    if page is None:
        output.next_step("evorec", "data", "describe", *same_data, "--html", "data.html")
    output.next_step("evorec", "validate", *same_data)


def _text(path: str) -> str:
    """A path as text that any file can hold; its bytes may not be valid text."""
    return os.fsencode(path).decode(errors="backslashreplace")


def _show(output: Output, found: Description, source: Origin, remarks: Sequence[Finding]) -> None:
    """Warnings first, then the tables."""
    from evorec.report.data_page import feature_summary, merged, origin, printable, sections, size

    width = min(output.result_console.width, 120)

    def show(text: str, mark: str = "", style: str = "") -> None:
        whole = text.replace(" %", "\u00a0%")  # keep a number and its sign on a line
        indent = " " * len(mark)
        lines = textwrap.fill(
            whole, width, initial_indent=mark, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
        )
        output.line(lines.replace("\u00a0", " "), style=style)

    show(f"{printable(found.name)}: {size(found)}")
    show(origin(printable(source)), "source: ")
    if text := merged(found, source):
        show(text)
    for level, mark, style in (("warning", "! ", "yellow"), ("note", "- ", "")):
        texts = [printable(remark.text) for remark in remarks if remark.level == level]
        if texts:
            output.line()
        for text in texts:
            show(text, mark, style)
    for topic in sections(found):
        if topic.table is not None and (output.verbosity > 0 or not topic.detail):
            output.result(None, replace(topic.table, title=f"\n{topic.table.title}"))
    if output.verbosity <= 0:
        output.line()
        show(f"{feature_summary(found)}{'; -v shows each of them' if found.features.height else ''}")
