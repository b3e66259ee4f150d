"""The page about a data set."""

from __future__ import annotations

from dataclasses import replace
from datetime import date

import numpy as np
import polars as pl
import pytest
from example_data import NOW_S, TASKS, description, example_tables
from test_run_page import HOSTILE, Elements

from evorec.config import CooccurrenceContent, SplitConfig, TasksConfig
from evorec.data.describe import Description, describe
from evorec.data.readers import Origin
from evorec.data.tables import Columns, Feature, Tables
from evorec.report.data_findings import Finding, findings
from evorec.report.data_page import (
    data_page,
    feature_summary,
    merged,
    new_figure,
    origin,
    printable,
    ranks_figure,
    rates_figure,
    rows_figure,
    sections,
    size,
)

SOURCE = Origin(
    "table",
    "/data/shop",
    files=tuple((f"events-{number}.csv", 800) for number in range(7)),
    n_read=5600,
    n_missing_ids=20,
    n_duplicates=0,
    n_events=5580,
)


def page(found: Description, tasks: TasksConfig = TASKS) -> str:
    return data_page(found, SOURCE, findings(found, SOURCE, tasks, now_s=NOW_S), version="0")


def cells(found: Description, title: str, *, wide: bool = False) -> list[list[str]]:
    """The texts of the table of a section, row by row."""
    (table,) = (section.table for section in sections(found, wide=wide) if section.title == title)
    assert table is not None
    return [
        [row.name, *(column.text(value) for column, value in zip(table.columns, row.values, strict=True))]
        for row in table.rows
    ]


def test_nothing_is_loaded_from_outside() -> None:
    elements = Elements(page(description())).found
    assert not [pair for pair in elements if pair[0] in ("link", "img", "iframe")]
    assert not [attributes for _, attributes in elements if {"src", "href"} & set(attributes)]


def test_plotly_is_there_once_and_draws_every_figure() -> None:
    text = page(description())
    assert text.count("plotly.js v") == 1
    assert all(f'id="{name}"' in text for name in ("rows", "rates", "ranks", "new"))


def test_equal_data_give_equal_pages() -> None:
    assert page(description()) == page(description())


def test_text_from_the_data_cannot_become_markup() -> None:
    plain = example_tables()
    assert plain.items is not None
    tables = Tables(
        HOSTILE,
        plain.interactions.rename({"click": HOSTILE}).with_columns(pl.lit(HOSTILE).alias(Columns.USER)),
        tasks=(HOSTILE, "like"),
        items=plain.items.rename({"shelf": HOSTILE}),
        item_features=(Feature(HOSTILE, "categorical"),),
    )
    tasks = TasksConfig(ranked=(HOSTILE, "like"), target=HOSTILE)
    source = Origin(HOSTILE, HOSTILE, files=((HOSTILE, 1),))
    text = data_page(description(tables, tasks=tasks), source, [Finding("warning", HOSTILE)], version=HOSTILE)
    assert HOSTILE not in text
    assert "img" not in [tag for tag, _ in Elements(text).found]


def test_warnings_come_first() -> None:
    text = page(description(example_tables(like=1.0)))
    assert text.index("Look at this first") < text.index("Rows over time")
    assert "label like is constant" in text
    assert "Look at this first" not in page(description())


def test_a_log_that_cannot_be_split_has_a_page() -> None:
    text = page(description(example_tables(**{Columns.TIME: 1_700_006_400})))
    assert "the log cannot be split" in text
    assert "<h2>Parts</h2>" in text
    assert "<h2>New in the held-out parts</h2>" not in text


def test_the_tables_say_what_was_counted() -> None:
    found = description()
    # 300 rows a day: 10 days of training, 2 of validation, 2 of test; 150 users in turn, 60 items in turn every 420
    assert size(found) == (
        "4,200 rows, 150 users, 60 items, 2023-11-15 to 2023-11-28 (14 days), "
        f"{100 * found.facts['density']:.1f} % of all user-item pairs, sha256 {found.facts['sha256'][:12]}"
    )
    assert cells(found, "Parts") == [
        ["train", "3,000", "71.4 %", "150", "60", "2023-11-15", "2023-11-24"],
        ["validation", "600", "14.3 %", "150", "60", "2023-11-25", "2023-11-26"],
        ["test", "600", "14.3 %", "150", "60", "2023-11-27", "2023-11-28"],
    ]
    assert cells(found, "New in the held-out parts")[0][:6] == ["validation", "0 %", "0 %", "0 %", "0 %", "0 %"]
    assert cells(found, "Rows per user and item") == [
        ["user", "150", "28", "28", "28", "28", "28", "28", "0 %", "0.67 %"],
        ["item", "60", "70", "70", "70", "70", "70", "70", "0 %", "1.67 %"],
    ]
    assert cells(found, "Labels")[1] == ["like", "30.0 %   900", "30.0 %   180", "30.0 %   180", "ranked"]
    assert cells(found, "Labels together")[0][:2] == ["click", "–"]
    assert cells(found, "Tables of users and items") == [["items", "60", "60", "0", "0"]]
    assert cells(found, "Features") == [["shelf", "item", "categorical", "0 %", "5", "most frequent 20.0 %"]]
    assert feature_summary(found) == "Features: 1 of items"


def test_the_source_names_files_and_what_was_dropped() -> None:
    files = ", ".join(f"events-{number}.csv (800 rows)" for number in range(6))
    assert origin(SOURCE) == (f"reader table, /data/shop: {files}, 1 more file; 20 dropped without a user or an item")
    assert merged(description(), SOURCE) == "5,580 events make 4,200 rows"
    assert origin(Origin("kuairand", "/data/k")) == "reader kuairand, /data/k"
    assert origin(Origin("simulator")) == "the built-in simulator, no real log"


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ([0.25, 3.0, 1234.5], "0.25 to 1234, median 3"),
        ([1902.0, 1999.0, 10_000.0], "1902 to 10,000, median 1999"),
        ([-float("inf"), None, float("inf")], "– to –, median –"),
        ([1.5e308, None, 1.7e308], "1.5e+308 to 1.7e+308, median –"),
        ([-2e15, 81_170.5, 1e15], "-2e+15 to 1e+15, median 81,170"),
        ([float("nan"), None, None], "– to –, median –"),
    ],
)
def test_numbers_are_short_but_whole(values: list[float | None], text: str) -> None:
    tables = example_tables()
    assert tables.items is not None
    items = tables.items[:3].with_columns(weight=pl.Series(values, dtype=pl.Float64))
    weighed = replace(tables, items=items, item_features=(Feature("weight", "numeric"),), content=())
    assert cells(description(weighed), "Features")[0][-1] == text


def test_a_label_that_is_a_number_is_shown_by_its_mean() -> None:
    watch = [1.0, 2.0, 4.5] * 1400
    found = description(example_tables(like=watch))
    assert cells(found, "Labels")[1][1:3] == ["mean 2.5", "mean 2.5"]


def test_a_column_for_missing_labels_is_there_when_some_are_missing() -> None:
    like = [None, 1.0, 0.0, 1.0] * 1050
    assert cells(description(example_tables(like=like)), "Labels")[1][4] == "25.0 %"
    assert len(cells(description(), "Labels")[1]) == 5  # name, three parts, use


def test_the_split_is_drawn_where_it_cuts() -> None:
    layout = rows_figure(description()).layout
    assert [line.x0 for line in layout.shapes] == ["2023-11-25", "2023-11-27"]
    assert [note.text for note in layout.annotations] == ["validation", "test"]
    assert not rows_figure(description(split=SplitConfig(kind="leave_last_out"))).layout.shapes


def test_the_bars_are_the_rows_of_each_part() -> None:
    bars = {bar.name: list(bar.y) for bar in rows_figure(description()).data}
    assert bars == {
        "train": [300] * 10 + [0] * 4,
        "validation": [0] * 10 + [300] * 2 + [0] * 2,
        "test": [0] * 12 + [300] * 2,
    }


@pytest.mark.parametrize(("rare", "kind"), [(False, None), (True, "log")])
def test_rates_far_apart_get_a_logarithmic_axis(*, rare: bool, kind: str | None) -> None:
    like = [float(number % 300 == 7) for number in range(4200)] if rare else None
    found = description(example_tables(**({"like": like} if like else {})))
    figure = rates_figure(found)
    assert figure.layout.yaxis.type == kind
    assert list(figure.data[1].y) == found.timeline["rate/like"].to_list()


def test_a_day_without_positives_is_a_gap_on_a_logarithmic_axis() -> None:
    like = [float(number % 300 == 7 and number > 300) for number in range(4200)]
    assert rates_figure(description(example_tables(like=like))).data[1].y[0] in (
        None,
        pytest.approx(np.nan, nan_ok=True),
    )


def test_the_long_tail_is_drawn_by_rank() -> None:
    users, items = ranks_figure(description()).data
    assert (users.x[0], users.x[-1], items.x[-1], users.y[0], items.y[0]) == (1, 150, 60, 28, 70)


def test_a_split_by_shares_is_drawn_by_the_clock_of_the_days() -> None:
    east = description(split=SplitConfig(validation_share=0.1, test_share=0.1, utc_offset_h=3))
    # rows 3360 and 3780 of 288 s each are 11 days and 4.8 hours, and 12 days and 14.4 hours, after 2023-11-15 00:00 UTC
    assert east.facts["split_starts"] == ["2023-11-26T07:48:00", "2023-11-27T17:24:00"]
    assert [line.x0 for line in rows_figure(east).layout.shapes] == east.facts["split_starts"]


def test_names_of_labels_are_no_markup_in_a_figure() -> None:
    link = '<a href="https://example.org">like</a>'
    tables = example_tables()
    named = replace(tables, interactions=tables.interactions.rename({"like": link}), tasks=("click", link))
    names = [line.name for line in rates_figure(description(named)).data]
    assert names == ["click", '&lt;a href="https://example.org"&gt;like&lt;/a&gt;']


def test_long_lists_of_tags_are_counted_in_whole_numbers() -> None:
    tables = example_tables()
    assert tables.items is not None
    items = tables.items.with_columns(tags=pl.lit([f"t{number}" for number in range(123)]))
    tagged = replace(tables, items=items, item_features=(Feature("tags", "multi_hot"),), content=())
    assert cells(description(tagged), "Features")[0][-1] == "123 each, most frequent in 100 %"


def test_content_is_shown_with_what_it_reaches() -> None:
    found = description()
    # 60 items on 5 shelves of 12: of the 59 others 11 are on the same shelf, 48 at a right angle, 48 / 59 = 0.8136
    start = ["shelf", "categorical"]
    assert cells(found, "Content") == [[*start, "5", "60", "100 %", "0.8136", "–", "–"]]
    assert cells(found, "Content", wide=True) == [[*start, "item table", "5", "60", "100 %", "0.8136", "–", "–"]]
    assert "<h2>Content</h2>" in page(found)
    assert "that the item table has: 0 in validation and 0 in test." in page(found)
    assert "Co-occurrence" not in page(found)
    bare = replace(example_tables(), items=None, item_features=(), content=())
    assert "<h2>Content</h2>" not in page(description(bare))


def test_cooccurrence_says_on_the_page_that_it_is_learned_from_training() -> None:
    learned = {"cooccurrence": CooccurrenceContent(kind="cooccurrence")}
    days = SplitConfig(validation_from=date(2023, 11, 25), test_from=date(2023, 11, 27))
    found = describe(example_tables(), split=days, tasks=TASKS, content=learned)
    assert cells(found, "Content")[1][:5] == ["cooccurrence", "learned", "64", "60", "100 %"]
    assert "Co-occurrence is learned from training only: the items that have a row there are counted." in page(found)


def test_files_of_one_name_are_all_on_the_page() -> None:
    files = (("Reader", 11), ("a.csv", 22), ("a.csv", 33))
    text = data_page(description(), Origin("table", "/data", files=files), (), version="0")
    assert all(f">{n}</td>" in text for n in (11, 22, 33))
    assert "<dt>Reader</dt><dd>table</dd>" in text


def test_characters_that_cannot_be_seen_are_shown_by_their_code() -> None:
    assert printable("a\x1b[2J\u202eb\n\udcff") == r"a\x1b[2J\u202eb\n\udcff"
    text = page(description(example_tables("shop\x07")))
    assert r"shop\x07" in text
    assert "\x07" not in text


def test_new_shares_are_drawn_by_part() -> None:
    days = SplitConfig(validation_from=date(2023, 11, 25), test_from=date(2023, 11, 27))
    assert [bar.name for bar in new_figure(description(split=days)).data] == ["validation", "test"]
