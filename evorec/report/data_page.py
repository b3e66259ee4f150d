"""Sections about a data set: the terminal prints their tables, and an HTML page adds figures and explanations."""

from __future__ import annotations

import html
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar, cast, final

import polars as pl

from evorec.config import COOCCURRENCE
from evorec.data.describe import WHOLE, Description
from evorec.data.readers import Origin
from evorec.report.data_findings import Finding, repeated_columns
from evorec.report.figures import BASELINE, EVALUATED, LAYOUT, MEMBER
from evorec.report.markup import bullets, document, drawing, facts, heading, section, table_html, tiles
from evorec.report.table import MISSING, Column, Table, counted, show_share

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

T = TypeVar("T")
MAX_FILES = 6
"""Files that are named in a sentence."""
SHORT_LOG_DAYS = 3
"""Up to this length, moments are shown instead of days."""
COLOURS: Final = {"train": EVALUATED, WHOLE: EVALUATED, "validation": MEMBER, "test": BASELINE}
"""Colour of each part in all figures."""
_LOG_FROM: Final = 20
"""Rates that differ by more than this factor need a logarithmic axis."""


@final
@dataclass(frozen=True)
class Section:
    """A topic of the description; `detail` is shown in the terminal with -v only."""

    title: str
    about: str
    table: Table | None = None
    figure: Callable[[Description], Figure] | None = None
    detail: bool = False


def data_page(found: Description, source: Origin, remarks: Sequence[Finding], *, version: str) -> str:
    """A self-contained HTML page.

    Args:
        found: the facts.
        source: origin of the log.
        remarks: remarkable facts, shown first.
        version: of evorec.
    Returns:
        HTML with styles, scripts and figures inside; equal arguments give equal pages.
    """
    name, source, remarks = printable(found.name), printable(source), printable(tuple(remarks))
    timed, density = found.facts["times"] == "seconds", found.facts["density"]
    has_items = density is not None
    known = {
        **({f"{found.facts['n_days']:,}": "days from first to last row"} if timed else {}),
        **({show_share(density): "of all pairs of a user and an item"} if has_items else {}),
        f"{found.facts['n_repeated']:,}": f"rows that repeat {repeated_columns(found)}",
    }
    parts = [heading(name, "data", "; ".join(filter(None, [size(found), merged(found, source)])))]
    for level, title, kind in (("warning", "Look at this first", "warnings"), ("note", "Worth knowing", "")):
        if texts := [remark.text for remark in remarks if remark.level == level]:
            parts.append(bullets(title, texts, kind=kind))
    parts.append(tiles(known.items()))
    for topic in sections(found, wide=True):
        figure = topic.figure
        body = drawing(figure(found), figure.__name__.removesuffix("_figure"), topic.about) if figure else ""
        parts.append(section(topic.title, topic.about, body + (table_html(topic.table) if topic.table else "")))
    dropped = {
        "Dropped, no user or item": source.n_missing_ids,
        "Dropped, no time": source.n_missing_times,
        "Dropped, repeated": source.n_duplicates,
    }
    read = {"Reader": source.reader, "Folder": source.folder}
    read |= {reason: counted(n, "row") if n else "" for reason, n in dropped.items()}
    files = Table.of("Files", ("file", Column("rows", numbers="count"), "written as"), _files(source))
    parts.append(section("Source", "Files and rows read.", facts(read) + (table_html(files) if source.files else "")))
    return document(f"{name} data", parts, footer=f"evorec {version}")


def sections(found: Description, *, wide: bool = False) -> Iterator[Section]:
    """The topics in order; topics without any content are left out.

    Args:
        found: the facts.
        wide: more columns than fit a terminal.
    """
    days = found.facts
    split, held_out = days["split_kind"].replace("_", "-"), pl.col("n_new_rows").is_not_null()
    about = f"Rows of each part per {days['step']}."
    if days["split_starts"]:
        about += " The dashed lines are the starts of validation and test."
    elif not days["split_error"]:
        about += f" The parts of a {split} split overlap in time."
    if found.timeline.height:
        yield Section("Rows over time", about, figure=rows_figure)

    about = "Size and time of each part; days as the split cuts them, moments of a short log in UTC."
    yield Section(
        "Parts",
        about if days["times"] == "seconds" else "Size of each part.",
        _table(
            f"Parts ({'not split' if days['split_error'] else f'{split} split'})",
            found.parts.select(
                "part",
                rows="n_rows",
                share=pl.col("n_rows") / days["n_rows"],
                **({"users": "n_users", "items": "n_items"} if days["n_items"] else {}),
                **_ends(found),
            ),
        ),
    )
    new = found.parts.filter(held_out).select(
        "part",
        pl.col("n_new_users").truediv("n_users").alias("new users"),
        pl.col("n_new_user_rows").truediv("n_rows").alias("rows of new users"),
        pl.col("n_new_items").truediv("n_items").alias("new items"),
        pl.col("n_new_item_rows").truediv("n_rows").alias("rows of new items"),
        pl.col("n_new_rows").truediv("n_rows").alias("rows of either"),
        pl.col("n_ranking_users").alias("users measured"),
    )
    if new.height:
        about = (
            "Users and items without any earlier row: before validation there is training, before the test both. "
            "Users measured are known users with a positive of the target."
        )
        titles = {"rows of new users": "their rows", "rows of new items": "their rows", "rows of either": "either"}
        yield Section("New in the held-out parts", about, _table("New in the held-out parts", new, titles), new_figure)

    about = "Share and number of positives; use is the role of the label in the configuration."
    yield Section("Labels", about, _label_table(found), rates_figure if found.timeline.height else None)
    if found.overlaps.height:
        names = list(dict.fromkeys(found.overlaps["label"]))
        shares = {(label, other): n_both / n if n else None for label, other, n, n_both in found.overlaps.rows()}
        columns = (Column(other, title=f"also {other}", numbers="share") for other in names)
        rows = ((label, *(shares.get((label, other)) for other in names)) for label in names)
        about = "Of the rows with a positive label (line), the share that is positive in another label (column)."
        table = printable(Table.of("Labels together", ("positives of", *columns), rows))
        yield Section("Labels together", about, table, detail=True)

    if found.spread.height:
        quantiles = {"min": "min", "10 %": "0.1", "median": "0.5", "90 %": "0.9", "99 %": "0.99", "max": "max"}
        spread = found.spread.select(
            "side",
            pl.col("n").alias("number"),
            *(pl.col(name).alias(title) for title, name in quantiles.items()),
            pl.col("n_single").truediv("n").alias("one row"),
            pl.col("top_percent_share").alias("top 1 % has"),
        )
        about = "Users and items by number of rows, both axes logarithmic."
        yield Section("Rows per user and item", about, _table("Rows per user and item", spread), ranks_figure)
    if found.content.height:
        yield _content(found, wide=wide)
    if found.items["n"].n_unique() > 1:
        about = (
            "The items of a data set are those of its log and of its item table. A model lists the items that its "
            "training rows or the item table have."
        )
        yield Section("Items", about, _table("Items", found.items, {"n": "number"}))
    if found.coverage.height:
        names = ["rows in the table", "ids in the log", "log only", "table only"]
        coverage = found.coverage.rename(dict(zip(found.coverage.columns[1:], names, strict=True)))
        about = "Users and items of the log need not have a row in their table."
        yield Section("Tables of users and items", about, _table("Tables of users and items", coverage), detail=True)
    if found.features.height:
        content = [_summary(feature) for feature in found.features.iter_rows(named=True)]
        shown = found.features.select(
            pl.col("name").alias("feature"),
            pl.col("side").alias("of"),
            "kind",
            pl.col("n_missing").truediv("n").alias("missing"),
            pl.col("n_values").alias("values"),
            pl.Series("content", content),
        )
        about = "Missing counts rows of the table that has the feature; an empty list of tags is missing too."
        yield Section("Features", about, _table("Features", shown), detail=True)


def _ends(found: Description) -> dict[str, pl.Expr]:
    """First and last day of each part, or the moments of a short log; nothing without times."""
    if found.facts["times"] != "seconds":
        return {}
    if found.facts["n_days"] > SHORT_LOG_DAYS:
        return {end: pl.col(f"{end}_day") for end in ("first", "last")}
    return {end: pl.col(end).str.replace("T", " ").str.head(-3) for end in ("first", "last")}


def _content(found: Description, *, wide: bool) -> Section:
    parts = [part["part"] for part in found.held_out]
    n_new = {part: found.content[f"n_new/{part}"][0] for part in parts}
    learned = pl.col("kind") == COOCCURRENCE
    shown = found.content.select(
        pl.col("name").alias("part"),
        pl.when(learned).then(pl.lit("learned")).otherwise("kind").alias("kind"),
        *(["made_of"] if wide else []),
        "width",
        pl.col("n_with").alias("items"),
        pl.col("n_with").truediv("n").alias("share"),
        "distance",
        *(
            pl.col(f"n_new_with/{part}").truediv(f"n_new/{part}").fill_nan(None).alias(f"new in {part}")
            for part in parts
        ),
    )
    about = (
        "Items of the log and of the item table with a fixed vector. No candidate trains these vectors, and an item "
        "without a vector gets the mean. Distance is the mean cosine distance of two items with a vector: 0 where all "
        "are equal."
    )
    if parts:
        where = " and ".join(f"{n:,} in {part}" for part, n in n_new.items())
        about += f" New are the items without an earlier row that the item table has: {where}."
    if (found.content["kind"] == COOCCURRENCE).any():
        about += " Co-occurrence is learned from training only: the items that have a row there are counted."
    titles = {f"new in {part}": f"new in\n{part}" for part in parts}
    return Section("Content", about, _table("Content: items with a vector", shown, titles, plain=("distance",)))


def _table(title: str, frame: pl.DataFrame, titles: Mapping[str, str] = {}, plain: Sequence[str] = ()) -> Table:
    """A table of a data frame: the first column names the rows, integers are counts, other numbers shares."""
    corner, *columns = (
        Column(printable(name), title=titles.get(name, ""), numbers="" if name in plain else _numbers(dtype))
        for name, dtype in frame.schema.items()
    )
    return Table.of(title, ("" if corner.key == "side" else corner, *columns), map(printable, frame.rows()))


def _numbers(dtype: pl.DataType) -> Literal["", "count", "share"]:
    return "count" if dtype.is_integer() else "share" if dtype.is_float() else ""


def _label_table(found: Description) -> Table:
    """Share and number of positives of each label in each part; the mean where a label is a number."""
    width = max(len(f"{n:,}") for n in found.labels["n_positive"])

    def positives(row: Mapping[str, Any]) -> str:
        if not row["n_known"]:
            return MISSING
        if not row["binary"]:
            return f"mean {row['mean']:.4g}"
        return f"{show_share(row['n_positive'] / row['n_known'])} {row['n_positive']:>{width},}"

    labels = [label.to_dicts() for label in found.labels.partition_by("label")]
    missing = [1 - sum(row["n_known"] for row in rows) / sum(row["n_rows"] for row in rows) for rows in labels]
    headings: list[str | Column] = ["label", *(Column(row["part"], numbers="share") for row in labels[0])]
    headings += [Column("missing", numbers="share")] if any(missing) else []
    cells = [
        (rows[0]["label"], *map(positives, rows), *([share] if any(missing) else []), rows[0]["use"])
        for rows, share in zip(labels, missing, strict=True)
    ]
    return printable(Table.of("Labels: positives by part", [*headings, "use"], cells))


def _summary(feature: Mapping[str, Any]) -> str:
    """The values of a feature in words."""

    def number(value: float | None) -> str:
        """Four digits; numbers of 1000 and more as integers, with commas only where a year has none."""
        if value is None:
            return MISSING
        is_whole = value == round(value) or abs(value) >= 1000
        if not is_whole or abs(value) >= 1e12:
            return f"{value:.4g}"
        return f"{value:.0f}" if round(abs(value)) < 10_000 else f"{value:,.0f}"

    if feature["kind"] == "numeric":
        return f"{number(feature['low'])} to {number(feature['high'])}, median {number(feature['median'])}"
    if feature["top_share"] is None:
        return MISSING
    if feature["mean_length"] is None:
        return f"most frequent {show_share(feature['top_share'])}"
    mean = number(round(feature["mean_length"], 1))
    return f"{mean} each, most frequent in {show_share(feature['top_share'])}"


def printable(value: T) -> T:
    r"""The same text or data with invisible characters, and characters that move others, replaced by their codes.

    Names and ids come from files of other people, and a terminal obeys some characters.

    Args:
        value: text, or tuples and data classes with text somewhere inside.
    Example:
        >>> printable(("café", "\x1b[2J", 3))
        ('café', '\\x1b[2J', 3)
    """
    shown: Any = value
    if isinstance(value, str):
        shown = "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in value)
    elif isinstance(value, tuple):
        shown = tuple(map(printable, value))
    elif is_dataclass(value) and not isinstance(value, type):
        shown = replace(value, **{field.name: printable(getattr(value, field.name)) for field in fields(value)})
    return cast(T, shown)


def origin(source: Origin) -> str:
    """Origin of the log and the rows that were dropped."""
    if not source.folder:
        return f"the built-in {source.reader}, no real log"
    text = f"reader {source.reader}, {source.folder}"
    if not source.files:
        return text
    named = [
        f"{name} ({'; '.join(filter(None, [counted(n, 'row'), dialect]))})"
        for name, n, dialect in _files(source)[:MAX_FILES]
    ]
    named += [counted(len(source.files) - MAX_FILES, "more file")] if len(source.files) > MAX_FILES else []
    dropped = {
        "without a user or an item": source.n_missing_ids,
        "without a time": source.n_missing_times,
        "that repeat another": source.n_duplicates,
    }
    return f"{text}: {', '.join(named)}" + "".join(f"; {n:,} dropped {why}" for why, n in dropped.items() if n)


def _files(source: Origin) -> list[tuple[str, int, str]]:
    """Name, rows and dialect of each file."""
    dialects = source.dialects or [""] * len(source.files)
    return [(name, n, dialect) for (name, n), dialect in zip(source.files, dialects, strict=True)]


def merged(found: Description, source: Origin) -> str:
    """How many events became a single row each; empty where each event is a row."""
    n_rows = found.facts["n_rows"]
    return f"{source.n_events:,} events make {counted(n_rows, 'row')}" if source.n_events > n_rows else ""


def size(found: Description) -> str:
    """Size and time of the log in a sentence."""
    n, ends = found.facts, found.parts.select(**_ends(found))
    time = {"none": "without times", "order": "in order, without times"}.get(n["times"], "")
    if not time:
        time = f"{min(ends['first'])} to {max(ends['last'])} ({counted(n['n_days'], 'day')})"
    if not n["n_items"]:
        return f"{counted(n['n_rows'], 'row')} without users and items, {time}, sha256 {n['sha256'][:12]}"
    return (
        f"{counted(n['n_rows'], 'row')}, {counted(n['n_users'], 'user')}, {counted(n['n_items'], 'item')}, "
        f"{time}, {show_share(n['density'])} of all user-item pairs, sha256 {n['sha256'][:12]}"
    )


def feature_summary(found: Description) -> str:
    """Number of features, in a line."""
    names = {
        "user": "of users",
        "item": "of items",
        "context": "of the moment" if found.facts["n_items"] else "of rows",
    }
    sides = found.features["side"].to_list()
    counts = [f"{sides.count(side)} {name}" for side, name in names.items() if side in sides]
    return f"Features: {', '.join(counts) or 'none'}"


def rows_figure(found: Description) -> Figure:
    """Rows of each part over time, with the start of validation and test."""
    import plotly.express as px

    rows = _long(found.timeline, "rows/")
    figure = px.bar(rows, x="start", y="value", color="name", color_discrete_map=COLOURS)
    return _over_time(figure, found, "rows")


def rates_figure(found: Description) -> Figure:
    """Share of positives of each label over time."""
    import plotly.express as px

    rates = _long(found.timeline, "rate/")
    known = rates["value"].drop_nulls()
    known = known.filter(known > 0)
    is_log = bool(len(known)) and known.max() > _LOG_FROM * known.min()  # type: ignore[operator]
    if is_log:
        rates = rates.with_columns(pl.when(pl.col("value") > 0).then("value"))
    figure = px.line(rates, x="start", y="value", color="name", markers=True, log_y=is_log)
    return _over_time(figure, found, "share of positives").update_yaxes(tickformat=".3~p")


def _long(timeline: pl.DataFrame, prefix: str) -> pl.DataFrame:
    """Columns ``start``, ``name`` and ``value`` of the columns of the timeline with a prefix."""
    columns = [name for name in timeline.columns if name.startswith(prefix)]
    names = {name: html.escape(printable(name.removeprefix(prefix)), quote=False) for name in columns}  # plotly: markup
    long = timeline.unpivot(columns, index="start", variable_name="name")
    return long.with_columns(pl.col("name").replace(names))


def _over_time(figure: Figure, found: Description, unit: str) -> Figure:
    """Axes of time, with dashed lines at the starts of validation and test."""
    for name, start in zip(("validation", "test"), found.facts["split_starts"], strict=False):
        line = {"color": COLOURS[name], "width": 1.5, "dash": "dash"}
        figure.add_shape(type="line", x0=start, x1=start, y0=0, y1=1, yref="paper", line=line)
        figure.add_annotation(x=start, y=1, yref="paper", text=name, showarrow=False, xanchor="left", yanchor="top")
    figure.update_xaxes(type="date", title_text="").update_yaxes(title_text=f"{unit} per {found.facts['step']}")
    return figure.update_layout(**LAYOUT, height=360, legend_title_text="")


def ranks_figure(found: Description) -> Figure:
    """Rows of users and of items by rank, both axes logarithmic: the long tail is a line that falls."""
    import plotly.express as px

    figure = px.line(found.ranks, x="rank", y="n_rows", facet_col="side", log_x=True, log_y=True)
    return figure.update_layout(**LAYOUT, height=360).update_yaxes(matches=None).update_xaxes(matches=None)


def new_figure(found: Description) -> Figure:
    """Shares of validation and test that are new."""
    import plotly.express as px

    shares = {"users": "n_users", "user_rows": "n_rows", "items": "n_items", "item_rows": "n_rows"}
    new = found.parts.drop_nulls("n_new_rows").select(
        "part", *(pl.col(f"n_new_{name}").truediv(n).alias(name.replace("_", " ")) for name, n in shares.items())
    )
    figure = px.bar(
        new.unpivot(index="part"), x="variable", y="value", color="part", barmode="group", color_discrete_map=COLOURS,
        text_auto=".3~p",
    )  # fmt: skip
    figure.update_yaxes(title_text="new", tickformat=".3~p").update_xaxes(title_text="")
    return figure.update_layout(**LAYOUT, height=320, legend_title_text="")
