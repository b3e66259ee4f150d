from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest

from evorec.config import DataConfig
from evorec.data.readers import read
from evorec.data.tables import PARTS, Columns, Tables
from evorec.errors import DataError

TRAIN, VALIDATION, TEST = range(3)


def read_public(folder: Path, **files: str) -> Tables:
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text)
    return read(DataConfig(reader="public", path=str(folder)))


def rows_of(tables: Tables, part: int) -> list[tuple[object, ...]]:
    log = tables.interactions.filter(pl.col(Columns.PART) == part)
    return log.select(Columns.USER, Columns.ITEM, Columns.TIME).rows()


def test_lists_are_read_with_their_parts_and_without_times(tmp_path: Path) -> None:
    tables = read_public(tmp_path, train__txt="0 5 3 5\n1 3 \n2\n", test__txt="0 7\n1 \n")
    assert rows_of(tables, TRAIN) == [(0, 3, 0), (0, 5, 0), (1, 3, 0)]  # a repeated item counts once, at its last place
    assert rows_of(tables, VALIDATION) == []
    assert rows_of(tables, TEST) == [(0, 7, 0)]
    assert (tables.times, tables.tasks) == ("none", ("interaction",))
    assert tables.items is not None
    assert tables.items[Columns.ITEM].to_list() == [3, 5, 7], "an item of the test alone is in the catalogue"


def test_of_a_sequence_the_last_items_are_held_out(tmp_path: Path) -> None:
    attributes = json.dumps({"4": [9, 2, 9], "6": [], "8": [2]})
    tables = read_public(tmp_path, sequences__txt="1 4 6 4 8\n2 8 6\n", item_attributes__json=attributes)
    assert rows_of(tables, TRAIN) == [(1, 4, 0), (1, 6, 1), (2, 8, 0), (2, 6, 1)]  # user 2 is too short
    assert rows_of(tables, VALIDATION) == [(1, 4, 2)]
    assert rows_of(tables, TEST) == [(1, 8, 3)]
    assert tables.times == "order"
    assert tables.items is not None
    assert tables.items["attributes"].to_list() == [[2, 9], [], [2]]
    (tmp_path / "item_attributes.json").unlink()
    assert read_public(tmp_path).item_features == ()


def test_repeated_rows_of_a_part_count_once_at_their_last_time(tmp_path: Path) -> None:
    train = "0\t5\t30\n0\t5\t10\n0\t6\t20\n"
    tables = read_public(tmp_path, train__tsv=train, validation__tsv="0\t6\t40\n", test__tsv="0\t5\t50\n1\t9\t60\n")
    assert rows_of(tables, TRAIN) == [(0, 6, 20), (0, 5, 30)]
    assert rows_of(tables, VALIDATION) == [(0, 6, 40)]  # met in training, too: kept, as published figures count it
    assert rows_of(tables, TEST) == [(0, 5, 50), (1, 9, 60)]
    assert tables.times == "seconds"
    assert PARTS[VALIDATION] == "validation"


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"train__txt": "0 1\n"}, r"must have the files of a public split: train\.txt and test\.txt, a line per user"),
        ({"train__txt": "0 1\nx 2\n", "test__txt": "0 2\n"}, r"train\.txt, line 2, column user must be Int64, got 'x'"),
        ({"train__tsv": "0\t1\tx\n", "validation__tsv": "0\t1\t1\n", "test__tsv": "0\t1\t1\n"}, r"train\.tsv, line 1"),
        ({"sequences__txt": "1 2 3 4\n", "item_attributes__json": "[1]"}, r"item_attributes\.json must be an object"),
    ],
)
def test_files_of_another_form_are_refused(files: dict[str, str], words: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=words):
        read_public(tmp_path, **files)
