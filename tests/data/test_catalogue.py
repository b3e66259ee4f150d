from __future__ import annotations

import re

import pytest

from evorec.data.catalogue import CATALOGUE, DataSet, RemoteFile, find
from evorec.data.readers import READERS
from evorec.errors import ConfigError

every_data_set = pytest.mark.parametrize("data_set", CATALOGUE.values(), ids=list(CATALOGUE))


@every_data_set
def test_every_entry_says_what_a_person_needs(data_set: DataSet) -> None:
    assert re.fullmatch(r"[a-z0-9-]+", data_set.name)
    assert CATALOGUE[data_set.name] is data_set
    assert data_set.about
    assert data_set.reader in READERS
    assert data_set.licence
    assert data_set.homepage.startswith("https://")
    assert bool(data_set.files) != bool(data_set.by_hand)


@every_data_set
def test_downloads_are_encrypted_and_checksums_are_whole(data_set: DataSet) -> None:
    for file in data_set.files:
        assert file.url.startswith("https://")
        assert re.fullmatch(r"[\w.-]+", file.name)
        assert file.checksum is None or re.fullmatch(r"sha256:[0-9a-f]{64}|md5:[0-9a-f]{32}", file.checksum)
        assert file.size_bytes is None or file.size_bytes > 0


def test_no_two_files_share_a_checksum() -> None:
    files = [file for data_set in CATALOGUE.values() for file in data_set.files]
    sums = [file.checksum for file in files if file.checksum is not None]
    assert len(set(sums)) == len(sums)
    assert len({file.url for file in files}) == len(files)


def test_the_name_of_a_file_is_the_last_part_of_its_address() -> None:
    assert RemoteFile("https://host/a/Kuai%20Rec.zip?download=1").name == "Kuai Rec.zip"


def test_the_size_of_a_download_is_known_when_all_its_parts_are() -> None:
    small, large, unknown = (RemoteFile("https://host/a", size) for size in (10, 32, None))

    def size(*files: RemoteFile) -> int | None:
        return DataSet("n", "a", "r", "l", "h", "m", files).size_bytes

    assert size(small, large) == 42
    assert size(small, unknown) is None
    assert size() is None


def test_a_name_is_found_in_any_case() -> None:
    assert find("MovieLens-1M") is CATALOGUE["movielens-1m"]


def test_an_unknown_name_is_refused_with_those_that_look_alike() -> None:
    with pytest.raises(ConfigError, match=r"no data set 'movielens1m'; did you mean movielens-1m.* --list"):
        find("movielens1m")
    with pytest.raises(ConfigError, match=r"no data set 'qqq'; `evorec data get --list`"):
        find("qqq")
