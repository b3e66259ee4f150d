"""What holds for every registered reader, and how readers and their paths are found."""

from __future__ import annotations

from pathlib import Path

import pytest

from evorec.config import DataConfig
from evorec.data.paths import DATA_VARIABLE, resolve_path
from evorec.data.readers import READERS, SIMULATOR, TABLE, read
from evorec.errors import ConfigError, DataError
from evorec.plugins import load_plugins
from problems.feed import FeedConfig

every_published_reader = pytest.mark.parametrize("name", [name for name in READERS if name not in (SIMULATOR, TABLE)])


def test_every_reader_says_in_a_line_what_it_reads() -> None:
    assert {SIMULATOR, TABLE, "kuairand", "movielens"} <= set(READERS)
    for name, reader in READERS.items():
        assert reader.text, name
        assert "\n" not in reader.text, name


def test_the_simulator_needs_no_path() -> None:
    config = FeedConfig(n_users=20, n_items=10, n_interactions=50, n_categories=2)
    assert read(DataConfig(simulator=config)).n_rows == 50


def test_an_unknown_reader_is_refused_with_the_reader_that_was_meant() -> None:
    with pytest.raises(ConfigError, match=r"unknown reader 'movielense'; did you mean 'movielens'\?"):
        read(DataConfig(reader="movielense"))


def test_a_plugin_file_adds_a_reader(tmp_path: Path) -> None:
    plugin = tmp_path / "shop_reader.py"
    plugin.write_text(
        "import polars as pl\n"
        "from evorec.data.readers import reads_folder\n"
        "from evorec.data.tables import Columns, Tables\n"
        "@reads_folder('shop', 'orders of a shop')\n"
        "def read(folder):\n"
        "    orders = pl.read_csv(folder / 'orders.csv', new_columns=[Columns.USER, Columns.ITEM, Columns.TIME])\n"
        "    return Tables('shop', orders.with_columns(bought=pl.lit(1.0)), ('bought',))\n"
    )
    (tmp_path / "orders.csv").write_text("who,what,when\n1,2,3\n")
    load_plugins([str(plugin)])
    try:
        assert read(DataConfig(reader="shop", path=str(tmp_path))).interactions.rows() == [(1, 2, 3, 1.0)]
        with pytest.raises(ConfigError, match=r"data\.path is missing: reader 'shop' needs the folder"):
            read(DataConfig(reader="shop"))
    finally:
        READERS._entries.pop("shop")


@every_published_reader
def test_a_reader_refuses_a_path_without_its_files(name: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=rf"data\.path is missing: reader '{name}' needs the folder"):
        read(DataConfig(reader=name))
    with pytest.raises(DataError, match=r"data\.path 'no/such/folder' does not exist; tried .*Set data\.path or \$EV"):
        read(DataConfig(reader=name, path="no/such/folder"))
    with pytest.raises(DataError, match=r"[\w*]\.(csv|dat|data|txt)") as refused:
        read(DataConfig(reader=name, path=str(tmp_path)))
    assert str(tmp_path) in str(refused.value)
    (tmp_path / "log.csv").write_text("1,2\n")
    with pytest.raises(DataError, match=rf"log\.csv is a file; name {tmp_path}"):
        read(DataConfig(reader=name, path=str(tmp_path / "log.csv")))


def test_the_working_directory_comes_before_the_data_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("data", "here"):
        (tmp_path / name).mkdir()
    monkeypatch.setenv(DATA_VARIABLE, str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path / "here")
    (tmp_path / "data" / "set").mkdir()
    assert resolve_path("set") == tmp_path / "data" / "set"
    (tmp_path / "here" / "set").mkdir()
    assert resolve_path("set") == tmp_path / "here" / "set"
    assert resolve_path(str(tmp_path / "data")) == tmp_path / "data"


def test_a_missing_path_is_refused_with_every_path_tried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(DATA_VARIABLE, str(tmp_path / "data"))
    with pytest.raises(
        DataError, match=rf"tried {tmp_path}/set, {tmp_path}/data/set\. Set data\.path or \$EVOREC_DATA\.$"
    ):
        resolve_path("set")
    monkeypatch.delenv(DATA_VARIABLE)
    with pytest.raises(
        DataError, match=rf"tried {tmp_path}/MovieLens-1M\. .* Download it with: evorec data get movielens-1m"
    ):
        resolve_path("MovieLens-1M")
