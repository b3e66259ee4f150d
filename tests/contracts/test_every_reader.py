"""What holds for every registered reader of a file format."""

from __future__ import annotations

from pathlib import Path

import pytest

from evorec.config import DataConfig
from evorec.data.readers import FILE_READERS, read
from evorec.errors import ConfigError, DataError

every_reader = pytest.mark.parametrize("name", FILE_READERS)


@every_reader
def test_a_missing_folder_is_refused_with_what_to_set(name: str) -> None:
    with pytest.raises(DataError, match=r"data\.path 'no/such/folder' does not exist; tried .*Set data\.path or \$EV"):
        read(DataConfig(reader=name, path="no/such/folder"))


@every_reader
def test_no_path_at_all_is_refused_with_the_key(name: str) -> None:
    with pytest.raises(ConfigError, match=rf"data\.path is missing: reader '{name}' needs the folder"):
        read(DataConfig(reader=name))


@every_reader
def test_an_empty_folder_is_refused_with_the_files_that_are_looked_for(name: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"[\w*]\.(csv|dat|data)") as caught:
        FILE_READERS[name](tmp_path)
    assert str(tmp_path) in str(caught.value)


@every_reader
def test_a_file_instead_of_a_folder_is_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text("1,2\n")
    with pytest.raises(DataError, match=r"log\.csv"):
        FILE_READERS[name](tmp_path / "log.csv")
