"""One self-contained HTML page about a data set, before anything is trained on it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from evorec.config import COOCCURRENCE
from evorec.data.description import Description, Source
from evorec.report.data_figures import new_figure, ranks_figure, rates_figure, rows_figure
from evorec.report.data_tables import (
    counted,
    coverage_table,
    feature_table,
    file_table,
    merged,
    new_table,
    overlap_table,
    parts_table,
    printable,
    size,
    spread_table,
    wide_content_table,
    wide_label_table,
)
from evorec.report.findings import Finding
from evorec.report.markup import bullets, document, drawing, facts, heading, section, table_html, tiles
from evorec.report.tables import show_share


def data_page(found: Description, source: Source, remarks: Sequence[Finding], *, version: str) -> str:
    """The whole page as text.

    Args:
        found: the counts.
        source: what was read.
        remarks: what is remarkable about them.
        version: of evorec.
    Returns:
        HTML with styles, scripts and figures inside; equal arguments give equal pages.
    """
    found, source, remarks = printable(found), printable(source), printable(tuple(remarks))
    parts = [
        heading(found.name, "data", "; ".join(filter(None, [size(found), merged(found, source)]))),
        *_remarks(remarks),
        _tiles(found),
        *_time(found),
        *_new(found),
        *_labels(found),
        *_spread(found),
        *_features(found),
        *_content(found),
        *_source(source),
    ]
    return document(f"{found.name} data", parts, footer=f"evorec {version}")


def _source(source: Source) -> Iterable[str]:
    dropped = {"Dropped, no user or item": source.n_missing_ids, "Dropped, repeated": source.n_duplicates}
    read = {
        "Reader": source.reader,
        "Folder": source.folder,
        **{name: counted(n, "row") if n else "" for name, n in dropped.items()},
    }
    yield section("Source", "What was read.", facts(read) + (table_html(file_table(source)) if source.files else ""))


def _remarks(remarks: Sequence[Finding]) -> Iterable[str]:
    titles = (("warning", "Look at this first", "warnings"), ("note", "Worth knowing", ""))
    for level, title, kind in titles:
        texts = [remark.text for remark in remarks if remark.level == level]
        if texts:
            yield bullets(title, texts, kind=kind)


def _tiles(found: Description) -> str:
    return tiles(
        (
            (f"{found.n_rows:,}", "rows"),
            (f"{found.n_users:,}", "users"),
            (f"{found.n_items:,}", "items in the log"),
            (f"{found.timeline.n_days:,}", "days from first to last row"),
            (show_share(found.density), "of all pairs of a user and an item"),
            (f"{found.per_user.quantiles['0.5']:,}", "rows at most for half of the users"),
            (f"{found.per_item.quantiles['0.5']:,}", "rows at most for half of the items"),
            (f"{found.repeats.n_rows:,}", "rows that repeat user, item and time"),
        )
    )


def _time(found: Description) -> Iterable[str]:
    about = f"Rows of each part per {found.timeline.step}."
    if found.split_starts:
        about += " The dashed lines are where validation and test begin."
    elif not found.split_error:
        about += f" A {found.split_kind.replace('_', '-')} split: the parts overlap in time."
    yield section("Rows over time", about, drawing(rows_figure(found), "rows"))
    about = "Size and time of each part; days as the split cuts them, moments of a short log in UTC."
    yield section(parts_table(found).title, about, table_html(parts_table(found)))


def _new(found: Description) -> Iterable[str]:
    if found.split_error:
        return
    about = (
        "Users and items without any earlier row: before validation there is training, before the test both. "
        "Users measured are those that are known and have a positive of the target there."
    )
    body = drawing(new_figure(found), "new") + table_html(new_table(found))
    yield section("New in the held-out parts", about, body)


def _labels(found: Description) -> Iterable[str]:
    about = "Share of positives among the rows whose label is known; all parts together."
    yield section("Labels over time", about, drawing(rates_figure(found), "rates"))
    about = "Share and number of positives. Use says what the configuration does with the label."
    yield section("Labels by part", about, table_html(wide_label_table(found)))
    if found.overlaps:
        about = (
            "Of the rows that are positive in the label of the line, the share that is positive in that of the column."
        )
        yield section("Labels together", about, table_html(overlap_table(found)))


def _spread(found: Description) -> Iterable[str]:
    about = "Users and items by number of rows, both axes logarithmic."
    body = drawing(ranks_figure(found), "ranks") + table_html(spread_table(found))
    yield section("Rows per user and item", about, body)


def _features(found: Description) -> Iterable[str]:
    coverage = coverage_table(found)
    if coverage.rows:
        yield section(
            coverage.title, "Users and items of the log need not have a row in their table.", table_html(coverage)
        )
    if found.features:
        about = "Missing counts rows of the table that has the feature; an empty list of tags is missing too."
        yield section("Features", about, table_html(feature_table(found)))


def _content(found: Description) -> Iterable[str]:
    if not found.content:
        return
    about = (
        "Fixed vectors of the items of the log and of the item table. No candidate trains them, and an item without "
        "one gets the mean (without any value, of the columns of the item table). Distance is the mean cosine distance "
        "of two items that have one: 0 where all are equal."
    )
    if new := [f"{part.n:,} in {part.part}" for part in found.content[0].new]:
        about += f" New are the items without an earlier row that the item table has: {' and '.join(new)}."
    if any(part.kind == COOCCURRENCE for part in found.content):
        about += " Co-occurrence is learned from training alone: counted are the items that have a row there."
    yield section("Content", about, table_html(wide_content_table(found)))
