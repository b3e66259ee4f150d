from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from evorec.config import SplitConfig
from evorec.data.readers import aliccp
from evorec.data.splits import split
from evorec.data.tables import Columns
from evorec.errors import DataError

HEAD = "click,purchase,101,121,122,124,125,126,127,128,129,205,206,207,216,508,509,702,853,301\n"
CLICKED = "1,0,42,11,1,2,3,1,2,1,3,900,17,1800,5,0,70,0,9,2\n"
BOUGHT = "1,1,43,12,1,2,3,1,2,1,3,901,18,1801,0,6,0,8,0,1\n"
RARE = "0,0,0,13,1,2,3,1,2,1,3,0,19,1802,7,0,0,0,0,3\n"


def write(folder: Path, train: str = CLICKED + BOUGHT, dev: str = RARE, test: str = RARE) -> Path:
    for part, text in (("train", train), ("dev", dev), ("test", test)):
        (folder / f"ctr_cvr.{part}").write_text(HEAD + text)
    return folder


def test_the_prepared_files_are_read(tmp_path: Path) -> None:
    tables = aliccp.read(write(tmp_path))
    first, second, *_ = tables.interactions.rows(named=True)
    assert (first[Columns.USER], first[Columns.ITEM], first["click"], first["purchase"]) == (42, 900, 1, 0)
    assert (first["profile"], first["gender"], first["position"], first["shop_history"]) == (11, 2, 2, 70)
    assert first["category_history"] is None  # 0 stands for a rare value or none
    assert (second[Columns.USER], second["purchase"], second["category_history"]) == (43, 1, 6)
    assert tables.items is not None
    # item 0 is many items, so that nothing is known of it; 901 has a rare brand
    assert tables.items.rows() == [(900, 17, 1800, 5), (901, 18, 1801, None), (0, None, None, None)]


def test_the_parts_are_those_of_the_files(tmp_path: Path) -> None:
    tables = aliccp.read(write(tmp_path, train=CLICKED * 18, dev=BOUGHT * 3, test=RARE * 2))
    parts = split(tables, SplitConfig(validation_from=date(1970, 1, 10), test_from=date(1970, 1, 11)))
    assert [len(part) for part in (parts.train, parts.validation, parts.test)] == [18, 3, 2]


@pytest.mark.parametrize(
    ("train", "message"),
    [
        (CLICKED + BOUGHT.replace("1,1,", "1,yes,"), "train, line 3, column purchase must be Int64, got 'yes'"),
        (CLICKED.replace("1,0,", "5,0,", 1), "line 2, column click must be 0 or 1, got 5"),
        (CLICKED.replace(",900,", ",,"), "line 2, column 205 must not be empty"),
        (CLICKED.replace(",900,", ",-9,"), "line 2, column 205 must be a number in 0 .. 2147483647, got -9"),
        ("", "ctr_cvr.train has no rows"),
    ],
)
def test_a_broken_file_is_refused_with_line_and_column(tmp_path: Path, train: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        aliccp.read(write(tmp_path, train=train))


def test_a_missing_column_is_named(tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / "ctr_cvr.dev").write_text(HEAD.replace("301", "302") + RARE)
    with pytest.raises(DataError, match=r"ctr_cvr.dev, line 1 must name the columns \['301'\]"):
        aliccp.read(tmp_path)


def test_raw_files_are_refused_with_the_script_that_prepares_them(tmp_path: Path) -> None:
    (tmp_path / "sample_skeleton_train.csv").write_text("1,0,0,bacff91692951881,5,205\x02428\x031.0\n")
    with pytest.raises(
        DataError, match=r"has no \['ctr_cvr.train', .*'\]; expected the output of AITM's process_public_"
    ):
        aliccp.read(tmp_path)
