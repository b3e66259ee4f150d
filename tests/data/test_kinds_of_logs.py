"""Logs without times, in parts, of lists, and of several tables."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest
from data.logs import HEAD, LOG, counted, data_config, rows, table

from evorec.config import RecommenderConfig, SplitConfig, TasksConfig, parse_config
from evorec.data.encode import encode
from evorec.data.readers.table import read
from evorec.data.remarks import remarks
from evorec.data.splits import split
from evorec.data.tables import Columns, Tables
from evorec.errors import ConfigError, DataError

LISTS = "1 5 6 7\n\n2\t5\n3\n4  7 6 5 4\n"
"""Users 1, 2 and 4 with 3, 1 and 4 items; user 3 has none."""
NO_COLUMNS: dict[str, Any] = {"user": "", "item": "", "time": "", "tasks": {}}
CLICKS = {
    "files": ["clicks.dat"], "format": "csv", "columns": ["s", "t", "i", "c"], "user": "s", "item": "i", "time": "t",
    "event": "click",
}  # fmt: skip
BUYS = CLICKS | {"files": ["buys.dat"], "separator": ";", "columns": ["s", "t", "i", "p", "q"], "event": "buy"}
EVENTS = {
    "clicks.dat": "1,2024-01-01T00:00:00Z,10,S\n2,2024-01-01T00:01:00Z,11,0\n",
    "buys.dat": "1;2024-01-01T00:05:00Z;10;9.99;1\n",
}


def of_parts(folder: Path, files: dict[str, str], log: dict[str, Any]) -> Tables:
    """A log that says the parts of its rows."""
    for name, text in files.items():
        (folder / name).write_text(text)
    overlay = {"split": {"kind": "given"}, "data": {"reader": "table", "path": str(folder), "log": log}}
    return read(parse_config(overlay, source="my.toml").data)[0]


def parts(tables: Tables, **settings: Any) -> list[list[int]]:
    found = split(tables, SplitConfig(**{"kind": "given", **settings}))
    return [part.tolist() for part in (found.train, found.validation, found.test)]


def test_lists_are_rows_in_order_or_without_an_order(tmp_path: Path) -> None:
    users, items = [1, 1, 1, 2, 4, 4, 4, 4], [5, 6, 7, 5, 7, 6, 5, 4]
    for form, times, time in (("sequence", "order", [0, 1, 2, 0, 0, 1, 2, 3]), ("adjacency", "none", [0] * 8)):
        tables, origin = counted(tmp_path, LISTS, NO_COLUMNS | {"format": form})
        assert rows(tables) == [(*row, 1.0) for row in zip(users, items, time, strict=True)]
        assert (tables.times, tables.tasks, origin.n_read) == (times, ("interaction",), 8)
    comma = table(tmp_path, "a, x, y\nb, x\n", NO_COLUMNS | {"format": "adjacency", "separator": ","})
    assert rows(comma) == [("a", "x", 0, 1.0), ("a", "y", 0, 1.0), ("b", "x", 0, 1.0)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "1,5,6\n2,5\n",
            "line 1 must be a user and its items, separated by white space, got '1,5,6'; set data.log.sep",
        ),
        ("1: 5 6\n", "line 1 must be a user and its items"),
        ("1\n2\n", "must be a user and its items"),
        ("1 5 NA\n", "line 1, column item must not be empty"),
    ],
)
def test_lines_that_are_no_lists_are_refused_with_their_number(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        table(tmp_path, text, NO_COLUMNS | {"format": "adjacency"})


def test_a_split_that_needs_times_is_refused_with_those_that_do_not(tmp_path: Path) -> None:
    none = table(tmp_path, HEAD + "1,2,,1\n" * 9, {"time": ""})
    order = table(tmp_path, "1 2 3 4\n", NO_COLUMNS | {"format": "sequence"})
    assert set(none.interactions[Columns.TIME]) == {0}
    for tables, kind, message in (
        (none, "time", 'set split.kind to "random", or "given"'),
        (none, "leave_last_out", "needs the order of each user's rows"),
        (none, "given", "data.log.parts, or the column that holds the part of each row in data.log.part"),
        (order, "time", 'no times: set split.kind to "leave_last_out", "random", or "given"'),
    ):
        with pytest.raises(DataError, match=message):
            split(tables, SplitConfig(kind=kind))
    assert parts(order, kind="leave_last_out") == [[0], [1], [2]]
    with pytest.raises(ConfigError, match=r"time is missing: day is read beside it"):
        data_config(tmp_path, {"time": "", "day": "d"})
    with pytest.raises(ConfigError, match=r"pivot\.session_gap_s needs times"):
        data_config(tmp_path, {"time": "", "pivot": {"session_gap_s": 60}})


def test_what_needs_times_switches_itself_off_and_is_named(tmp_path: Path) -> None:
    text = HEAD + "".join(f"{row % 7},{row % 5},{row},{row % 2}\n" for row in range(80))
    timed, untimed = table(tmp_path, text), table(tmp_path, text, {"time": ""})
    assert untimed.sha256() != timed.sha256()
    config, found = RecommenderConfig(split=SplitConfig(kind="random"), tasks=TasksConfig(ranked=("click",))), []
    for tables in (timed, untimed):
        own = split(tables, config.split)
        found.append(
            encode(tables, own, tasks=["click"], target="click", fit="train", statistics=["user"], history_recency=1.0)
        )
    assert [dataset.statistics for dataset in found] == [("user:rows", "user:click"), ()]
    assert [dataset.history_recency for dataset in found] == [1.0, 0.0]
    assert remarks(timed, config) == ()
    (remark,) = remarks(untimed, config)
    for name in ("data.statistics", "half-life of popularity", "data.history_recency", "training.next_item"):
        assert name in remark


def test_the_parts_of_a_given_split_come_from_files_or_a_column(tmp_path: Path) -> None:
    files = {"a.txt": "1 5 6 7\n2 5\n", "v.txt": "2 6\n", "t.txt": "1 8\n2\n", "old.txt": "3 5\n"}
    log = {"format": "adjacency", "files": {"test": "t.txt", "train": ["a.txt", "old.txt"], "validation": "v.txt"}}
    tables = of_parts(tmp_path, files, log)
    assert tables.interactions[Columns.ITEM].to_list() == [5, 6, 7, 5, 5, 6, 8]  # training first
    assert parts(tables) == [[0, 1, 2, 3, 4], [5], [6]]
    column = LOG | {"part": "p", "part_names": {"0": "train"}}
    text = "u,i,t,c,p\n1,2,9,1,test\n1,3,1,0,VALID\n1,4,2,1,Train\n1,5,3,1,0\n1,6,3,1,dev\n"
    tables = of_parts(tmp_path, {"log.csv": text}, column)
    assert parts(tables) == [[2, 3], [1, 4], [0]]
    with pytest.raises(DataError, match=r"line 2, column p must be a part, train, validation .*, got 'future'"):
        of_parts(tmp_path, {"log.csv": text.replace("test", "future")}, column)
    with pytest.raises(ConfigError, match=r'set split\.kind = "given", or leave'):
        data_config(tmp_path, {"part": "p"})


def test_validation_is_taken_out_of_training_and_never_out_of_the_test(tmp_path: Path) -> None:
    text = "u,i,t,c,p\n" + "".join(
        f"{row % 4},{row},{row},1,{'test' if row % 3 == 0 else 'train'}\n" for row in range(60)
    )
    tables = of_parts(tmp_path, {"log.csv": text}, LOG | {"part": "p"})
    test = [row for row in range(60) if row % 3 == 0]
    for how, n in (("random", 10), ("leave_last_out", 4), ("time", 10)):
        train, validation, held_out = parts(tables, validation=how, validation_share=0.25)
        assert (held_out, len(validation)) == (test, n)
        assert sorted(train + validation + test) == list(range(60))
        if how == "time":
            assert max(train) < min(validation)
        if how == "leave_last_out":
            assert validation == [53, 56, 58, 59]  # of users 1, 0, 2 and 3
        time = pl.when(pl.col(Columns.PART) == 2).then(0).otherwise(Columns.TIME).alias(Columns.TIME)
        other = tables.with_interactions(tables.interactions.with_columns(time))
        assert parts(other, validation=how, validation_share=0.25)[1] == validation  # whatever the test rows are
    none = of_parts(tmp_path, {"log.csv": text.replace("test", "train")}, LOG | {"part": "p"})
    with pytest.raises(DataError, match=r"name rows or files of train and test in data\.log\.part"):
        parts(none)


def test_a_file_per_kind_of_event_has_its_own_columns_and_separator(tmp_path: Path) -> None:
    labels = {"click": "event == click", "buy": "event == buy"}
    first, _, last = 1_704_067_200, 1_704_067_260, 1_704_067_500
    for log in ([CLICKS, BUYS], {"sources": [CLICKS, BUYS]}, {"sources": [CLICKS, BUYS], "tasks": labels}):
        for name, text in EVENTS.items():
            (tmp_path / name).write_text(text)
        overlay = {"data": {"reader": "table", "path": str(tmp_path), "log": log}}
        tables, origin = read(parse_config(overlay, source="my.toml").data)
        assert tables.tasks == ("click", "buy")
        assert rows(tables) == [(1, 10, first, 1.0, 0.0), (2, 11, first + 60, 1.0, 0.0), (1, 10, last, 0.0, 1.0)]
        assert origin.files == (("clicks.dat", 2), ("buys.dat", 1))
    own = {"sources": [CLICKS | {"context": {"c": "categorical"}}, BUYS | {"tasks": {"price": "p"}}]}
    merged = {**own, "pivot": {"session_gap_s": 1800}}
    overlay = {"data": {"reader": "table", "path": str(tmp_path), "log": merged}}
    tables = read(parse_config(overlay, source="my.toml").data)[0]
    assert (tables.tasks, [feature.name for feature in tables.context]) == (("click", "buy", "price"), ["c"])
    assert tables.interactions.select("click", "buy", "price", "c").rows()[0] == (1.0, 1.0, pytest.approx(9.99), "S")


@pytest.mark.parametrize(
    ("log", "message"),
    [
        ([CLICKS, BUYS | {"time": ""}], "all log.sources must have times, or none of them"),
        ([CLICKS, BUYS | {"part": "q"}], "all log.sources must name their parts, or none"),
        ([CLICKS, {"event": "buy"}], r"needs log.sources\[1\].files, log.sources\[1\].user, log.sources\[1\].item"),
        ({"sources": [CLICKS], "files": ["a.csv"]}, "files belong to each of sources"),
        ({"sources": [CLICKS, {"user": "s", "files": ["a.csv"]}]}, r"needs log.sources\[1\].item; without items"),
        ({"files": ["a.txt"], "format": "sequence", "user": "u"}, "has no named columns, .*; leave out user"),
    ],
)
def test_sources_that_do_not_fit_together_are_refused(log: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_config({"data": {"reader": "table", "path": "x", "log": log}}, source="my.toml")


def test_settings_of_this_file_leave_the_name_of_other_runs_as_it_was() -> None:
    settings = RecommenderConfig().result_settings()
    assert "validation" not in settings["split"]
    assert "validation" in RecommenderConfig(split=SplitConfig(validation="time")).result_settings()["split"]
