from __future__ import annotations

from pathlib import Path

import pytest

from evorec.config import DataConfig
from evorec.data.paths import DATA_VARIABLE, resolve_path
from evorec.data.readers import FILE_READERS, read
from evorec.errors import ConfigError, DataError
from problems.feed import FeedConfig


def test_the_simulator_needs_no_path() -> None:
    config = FeedConfig(n_users=20, n_items=10, n_interactions=50, n_categories=2)
    assert read(DataConfig(simulator=config)).n_rows == 50


def test_an_unknown_reader_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"must be one of .*'simulator', 'kuairand', 'movielens'.*, got 'netflix'"):
        read(DataConfig(reader="netflix"))


@pytest.mark.parametrize("reader", list(FILE_READERS))
def test_every_file_reader_asks_for_a_path(reader: str) -> None:
    with pytest.raises(ConfigError, match=f"data.path is missing: reader '{reader}'"):
        read(DataConfig(reader=reader))


@pytest.mark.parametrize("reader", list(FILE_READERS))
def test_every_file_reader_refuses_an_empty_folder(reader: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=str(tmp_path)):
        read(DataConfig(reader=reader, path=str(tmp_path)))


def test_the_working_folder_comes_before_the_data_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("data", "here"):
        (tmp_path / name).mkdir()
    monkeypatch.setenv(DATA_VARIABLE, str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path / "here")
    (tmp_path / "data" / "set").mkdir()
    assert resolve_path("set") == tmp_path / "data" / "set"
    (tmp_path / "here" / "set").mkdir()
    assert resolve_path("set") == tmp_path / "here" / "set"
    assert resolve_path(str(tmp_path / "data")) == tmp_path / "data"


def test_a_missing_path_is_refused_with_every_place_tried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(DATA_VARIABLE, str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError) as refused:
        resolve_path("set")
    for place in (tmp_path / "set", tmp_path / "data" / "set"):
        assert str(place) in str(refused.value)
