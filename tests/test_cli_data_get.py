from __future__ import annotations

import errno
import hashlib
import io
import json
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from file_server import Page, Site, serving

from evorec.cli import main
from evorec.cli.data_get import fetch_progress
from evorec.cli.output import Format, Output
from evorec.data.catalogue import CATALOGUE, DataSet, RemoteFile
from evorec.data.paths import CACHE_VARIABLE
from evorec.errors import ConfigError, DataError, Interruption

Run = Callable[..., int]


@pytest.fixture
def run() -> Run:
    """``evorec data get``; returns its exit code."""
    return lambda *arguments: main(["data", "get", *arguments])


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """A site with the data set `tiny`, which the catalogue knows."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("ml-tiny/ratings.csv", "userId,movieId,rating,timestamp\n1,1,4.0,964982703\n")
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "200")
    with serving() as site:
        site["tiny.zip"] = Page(content.getvalue())
        sha256 = hashlib.sha256(content.getvalue()).hexdigest()
        file = RemoteFile(f"{site.url}/tiny.zip", len(content.getvalue()), f"sha256:{sha256}")
        data_set = DataSet("tiny", "one rating", "movielens", "free", "https://tiny", "ratings.csv", (file,))
        monkeypatch.setitem(CATALOGUE, "tiny", data_set)  # type: ignore[arg-type]
        yield site


def test_the_folder_is_the_result_and_the_rest_is_said_beside_it(
    run: Run, tiny: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("tiny") == 0
    out, err = capsys.readouterr()
    assert out == f"{tmp_path / 'cache' / 'data' / 'tiny' / 'ml-tiny'}\n"
    assert "tiny: one rating; licence: free; https://tiny" in err
    assert "downloading tiny" in err
    assert "unpacking tiny" in err
    assert "tiny is downloaded; sha256 verified." in err
    assert 'in a configuration: [data] reader = "movielens", path = "tiny"' in err
    assert "next: evorec data describe --problem movielens --set data.path=tiny" in err


def test_quiet_leaves_the_folder_alone(run: Run, tiny: Site, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("tiny", "-q") == 0
    out, err = capsys.readouterr()
    assert Path(out.strip()).is_dir()
    assert err == ""


def test_json_has_the_path_and_the_entry_of_the_catalogue(
    run: Run, tiny: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for was_cached in (False, True):
        assert run("tiny", "--format", "json") == 0
        value: dict[str, Any] = json.loads(capsys.readouterr().out)
        assert value["path"] == str(tmp_path / "cache" / "data" / "tiny" / "ml-tiny")
        assert value["was_cached"] is was_cached
        assert value["licence"] == "free"


def test_the_list_shows_every_data_set_and_which_are_there(
    run: Run, tiny: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("tiny", "-q") == 0
    capsys.readouterr()
    assert run("--list") == 0
    out, err = capsys.readouterr()
    lines = {line.split()[0]: line for line in out.splitlines() if line.split()}
    assert set(CATALOGUE) <= set(lines)
    assert lines["tiny"].split() == ["tiny", "yes", *tiny_size(tiny), "one", "rating"]
    assert "47.4 MB" in lines["kuairand-pure"]
    assert "by hand" in lines["retailrocket"]
    assert "next: evorec data get" in err


def tiny_size(site: Site) -> list[str]:
    return [str(len(site["tiny.zip"].body)), "B"]


def test_a_verbose_list_shows_readers_and_checksums(run: Run, tiny: Site, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--list", "-v") == 0
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines() if line.split()}
    assert lines["tiny"].split() == ["tiny", "movielens", *tiny_size(tiny), "sha256", "one", "rating"]
    assert " md5 " in lines["kuairand-pure"]
    assert " sha256 " in lines["movielens-1m"]
    assert not {"md5", "sha256"} & set(lines["amazon-2023-all-beauty"].split())


def test_the_list_as_json_has_addresses_and_checksums(run: Run, tiny: Site, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--list", "--format", "json") == 0
    entries = {entry["name"]: entry for entry in json.loads(capsys.readouterr().out)}
    assert list(entries) == list(CATALOGUE)
    assert entries["kuairand-pure"]["download"] == [
        {
            "url": "https://zenodo.org/records/10439422/files/KuaiRand-Pure.tar.gz",
            "size_bytes": 47432272,
            "checksum": "md5:0820331067a3784d9691136f772b35a7",
        }
    ]
    assert entries["kuairand-pure"]["path"] is None
    assert entries["retailrocket"]["by_hand"] == "Kaggle asks for an account"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "give the NAME of a data set, or --list to see them all; got none."),
        (["tiny", "--list"], "got both."),
        (["tinny"], "there is no data set 'tinny'; did you mean tiny?"),
    ],
)
def test_a_wrong_command_line_exits_2(
    run: Run, tiny: Site, arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*arguments) == ConfigError.exit_code
    out, err = capsys.readouterr()
    assert out == ""
    assert said in err


def test_a_wrong_file_exits_3_with_one_message(run: Run, tiny: Site, capsys: pytest.CaptureFixture[str]) -> None:
    tiny["tiny.zip"] = Page(b"x" * len(tiny["tiny.zip"].body))
    assert run("tiny") == DataError.exit_code
    out, err = capsys.readouterr()
    assert out == ""
    assert "tiny.zip cannot be downloaded: SHA256 hash" in err
    assert "Traceback" not in err


def test_a_data_set_to_fetch_by_hand_exits_3(run: Run, tiny: Site, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("retailrocket") == DataError.exit_code
    assert "Get it from https://www.kaggle.com/datasets/retailrocket" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (Interruption("interrupted by SIGINT."), "interrupted by SIGINT."),
        (OSError(errno.ENOSPC, "No space left on device"), "tiny.zip: No space left on device; make room and"),
    ],
)
def test_an_interruption_or_a_full_disk_exits_75(
    run: Run,
    tiny: Site,
    error: Exception,
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    @contextmanager
    def failing(*arguments: object) -> Iterator[Callable[..., None]]:
        def fail(*state: object) -> None:
            raise error

        yield fail

    monkeypatch.setattr("evorec.cli.data_get.fetch_progress", failing)
    assert run("tiny") == Interruption.exit_code
    assert message in capsys.readouterr().err


def test_a_cache_that_cannot_be_made_exits_2(
    run: Run, tiny: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "file"))
    assert run("tiny") == ConfigError.exit_code
    assert str(tmp_path / "file") in capsys.readouterr().err


def test_a_log_file_gets_a_line_of_progress_now_and_then(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seconds = iter((0.0, 10.0, 31.0, 40.0, 62.0))
    monkeypatch.setattr("evorec.cli.data_get.time.monotonic", lambda: next(seconds))
    with fetch_progress(Output(Format.TABLE), "tiny") as progress:
        for done in (1, 2, 3_000_000, 4, 5_000_000):
            progress("downloading", done, 47_432_272)
    assert capsys.readouterr().err.splitlines() == [
        "downloading tiny",
        "downloading tiny: 3.00 MB of 47.4 MB",
        "downloading tiny: 5.00 MB of 47.4 MB",
    ]


def test_the_list_of_readers_says_what_each_reads(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "readers", "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["kuairand"].startswith("KuaiRand-Pure, -1K and -27K")
