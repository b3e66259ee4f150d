from __future__ import annotations

import errno
import fcntl
import gzip
import hashlib
import io
import zipfile
from collections import namedtuple
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from socket import socket
from typing import Any

import pytest
import requests
from file_server import Page, Site, serving

from evorec.data.catalogue import CATALOGUE, DataSet, RemoteFile
from evorec.data.fetch import CHUNK_BYTES, PAUSES_S, fetch
from evorec.data.paths import CACHE_VARIABLE, cache_folder, cached, home
from evorec.errors import DataError, Interruption, RunLockedError

RATINGS = b"userId,movieId,rating,timestamp\n1,1,4.0,964982703\n"


def zipped(files: dict[str, bytes]) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name, body in files.items():
            archive.writestr(name, body)
    return content.getvalue()


ARCHIVE = zipped({"ml-tiny/ratings.csv": RATINGS, "ml-tiny/README.txt": bytes(1_000_000)})
"""Several chunks of a download."""
SHA256 = hashlib.sha256(ARCHIVE).hexdigest()


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache."""
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds that a download waited between tries, which it does not in tests."""
    waited: list[float] = []
    monkeypatch.setattr("evorec.data.fetch.time.sleep", waited.append)
    return waited


@pytest.fixture
def site(root: Path, pauses: list[float]) -> Iterator[Site]:
    with serving() as site:
        site["tiny.zip"] = Page(ARCHIVE)
        yield site


@pytest.fixture
def tiny(site: Site, monkeypatch: pytest.MonkeyPatch) -> DataSet:
    """A published data set of one archive, in the catalogue."""
    file = RemoteFile(f"{site.url}/tiny.zip", len(ARCHIVE), f"sha256:{SHA256}")
    data_set = DataSet("tiny", "one rating", "movielens", "free", "https://tiny", "ratings.csv", (file,))
    monkeypatch.setitem(CATALOGUE, "tiny", data_set)  # type: ignore[arg-type]
    return data_set


def with_file(data_set: DataSet, **changes: Any) -> DataSet:
    """The data set with another archive, by default of unknown size and checksum."""
    file = replace(data_set.files[0], **{"size_bytes": None, "checksum": None, **changes})
    return replace(data_set, files=(file,))


def files_in(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def is_clean(root: Path) -> bool:
    """Whether a failed call left no part of a data set."""
    return files_in(root) <= {"downloads/tiny.lock"}


def test_a_data_set_is_installed_in_the_cache_once(root: Path, tiny: DataSet, site: Site) -> None:
    steps: dict[str, tuple[int, int | None]] = {}

    def progress(step: str, done: int, total: int | None) -> None:
        steps[step] = done, total

    path, was_cached = fetch(tiny, progress=progress)
    assert (path, was_cached) == (root / "data" / "tiny" / "ml-tiny", False)
    assert (path / "ratings.csv").read_bytes() == RATINGS
    assert files_in(root) == {
        "downloads/tiny.lock",
        "data/tiny/ml-tiny/ratings.csv",
        "data/tiny/ml-tiny/README.txt",
    }
    assert steps == {
        "downloading": (len(ARCHIVE), len(ARCHIVE)),
        "unpacking": (len(RATINGS) + 1_000_000, None),
    }
    assert site["tiny.zip"].requests[0]["accept-encoding"] == "identity"
    site.clear()
    assert fetch(tiny) == (path, True)


def test_a_folder_of_that_name_without_the_data_set_is_refused_and_kept(root: Path, tiny: DataSet) -> None:
    (root / "data" / "tiny").mkdir(parents=True)
    (root / "data" / "tiny" / "mine.txt").write_text("mine")
    with pytest.raises(DataError, match=r"data/tiny must hold ratings\.csv and does not; move it away"):
        fetch(tiny)
    assert (root / "data" / "tiny" / "mine.txt").read_text() == "mine"


@pytest.mark.parametrize("checksum", [f"sha256:{'0' * 64}", f"md5:{'0' * 32}"])
def test_a_wrong_checksum_is_refused_and_nothing_is_kept(root: Path, tiny: DataSet, site: Site, checksum: str) -> None:
    kind = checksum.partition(":")[0]
    with pytest.raises(DataError, match=f"cannot be downloaded: {kind.upper()} hash .* expected {checksum} but got"):
        fetch(with_file(tiny, checksum=checksum))
    assert is_clean(root)
    assert len(site["tiny.zip"].requests) == 1
    good = f"{kind}:{hashlib.new(kind, ARCHIVE).hexdigest()}"
    assert fetch(with_file(tiny, checksum=good))[0].is_dir()


def test_a_broken_connection_is_tried_again(root: Path, tiny: DataSet, site: Site, pauses: list[float]) -> None:
    site["tiny.zip"].cut = [300_000, 0]
    assert fetch(tiny)[0].is_dir()
    assert pauses == list(PAUSES_S)


def test_a_truncated_body_is_never_taken_for_the_file(root: Path, tiny: DataSet, site: Site) -> None:
    site["tiny.zip"].cut = [300_000] * 9
    with pytest.raises(
        DataError, match=r"tiny\.zip cannot be downloaded: .*IncompleteRead.* some other way to .*tiny\.zip"
    ):
        fetch(with_file(tiny))
    assert is_clean(root)
    assert len(site["tiny.zip"].requests) == 1 + len(PAUSES_S)


def test_a_body_larger_than_the_published_size_is_refused(root: Path, tiny: DataSet, site: Site) -> None:
    site["tiny.zip"] = Page(bytes(len(ARCHIVE) + 2 * CHUNK_BYTES), headers={"Content-Length": None})
    with pytest.raises(DataError, match=f"must have {len(ARCHIVE)} bytes, and the server sends more; nothing is kept"):
        fetch(tiny)
    assert is_clean(root)


@pytest.mark.parametrize("code", [403, 404, 503])
def test_an_answer_other_than_the_file_is_refused_at_once(
    root: Path, tiny: DataSet, site: Site, code: int, pauses: list[float]
) -> None:
    site["tiny.zip"] = Page(ARCHIVE, status=[code], reason="\x1b]0;mine\x07\x9b2J" + "x" * 1000)
    with pytest.raises(DataError, match=rf"cannot be downloaded: {code} .*\?\]0;mine\?\?2Jx") as refused:
        fetch(tiny)
    assert str(refused.value).isprintable()
    assert len(str(refused.value)) < 800
    assert pauses == []
    assert is_clean(root)


def test_without_a_server_the_message_names_the_network(root: Path, tiny: DataSet, pauses: list[float]) -> None:
    with socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(
        DataError, match=r"refused.*Check the network connection and try again, or download it some other"
    ):
        fetch(with_file(tiny, url=f"http://127.0.0.1:{port}/a.zip"))
    assert pauses == list(PAUSES_S)


@pytest.mark.parametrize("to", ["file:///etc/hostname", "ftp://127.0.0.1/a.zip", "http://[::1", "http://a..invalid/"])
def test_a_redirect_to_an_unusable_address_is_refused(root: Path, tiny: DataSet, site: Site, to: str) -> None:
    site["tiny.zip"] = Page(ARCHIVE, location=to)
    with pytest.raises(DataError, match=r"tiny\.zip cannot be downloaded: "):
        fetch(tiny)


def test_a_redirect_from_https_to_http_is_refused(
    root: Path, tiny: DataSet, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    def send(adapter: object, request: requests.PreparedRequest, **options: object) -> requests.Response:
        response = requests.Response()
        response.status_code, response.url, response.request = 302, str(request.url), request
        response.headers["Location"] = "http://host/tiny.zip"
        response.raw = io.BytesIO()
        return response

    monkeypatch.setattr(requests.adapters.HTTPAdapter, "send", send)
    with pytest.raises(DataError, match=r"redirects to http://host/tiny\.zip, which is not encrypted"):
        fetch(with_file(tiny, url="https://host/tiny.zip"))


def test_a_redirect_is_followed(root: Path, tiny: DataSet, site: Site) -> None:
    site["moved.bin"] = site["tiny.zip"]
    site["tiny.zip"] = Page(b"", location=f"{site.url}/moved.bin")
    assert fetch(tiny)[0].is_dir()


@pytest.mark.parametrize("url", ["file:///etc/hostname", "ftp://127.0.0.1/a.zip", "a.zip"])
def test_only_http_addresses_are_downloaded_from(root: Path, tiny: DataSet, url: str) -> None:
    with pytest.raises(DataError, match="must start with https:// to be downloaded"):
        fetch(with_file(tiny, url=url))


def test_an_archive_downloaded_by_hand_is_verified_and_used(root: Path, tiny: DataSet, site: Site) -> None:
    (root / "downloads" / "tiny").mkdir(parents=True)
    (root / "downloads" / "tiny" / "tiny.zip").write_bytes(ARCHIVE)
    page = site.pop("tiny.zip")
    assert fetch(tiny)[0].is_dir()
    assert page.requests == []


@pytest.mark.parametrize("step", ["downloading", "unpacking"])
def test_an_interrupted_call_leaves_no_part_of_a_data_set(root: Path, tiny: DataSet, step: str) -> None:
    def interrupt(now: str, done: int, total: int | None) -> None:
        if now == step:
            raise Interruption("interrupted by SIGINT.")

    with pytest.raises(Interruption):
        fetch(tiny, progress=interrupt)
    assert files_in(root) - {"downloads/tiny/tiny.zip"} == {"downloads/tiny.lock"}
    assert fetch(tiny)[0].is_dir()


@pytest.mark.parametrize(
    ("name", "body", "message"),
    [
        ("a.zip", zipped({"ratings.csv": RATINGS, "../../evil": b"evil"}), "leads out of the folder"),
        ("a.zip", b"<html>we are moving</html>", r"a\.zip is damaged and cannot be unpacked"),
        ("a.zip", zipped({"cats.csv": b"1\n"}), r"tiny must hold ratings\.csv and does not; it is not the data set"),
        ("a.csv.gz", b"<html>we are moving</html>", "must be gzip-compressed, and begins with b'<h'"),
    ],
)
def test_another_file_than_the_data_set_is_refused_and_removed(
    root: Path, tiny: DataSet, site: Site, name: str, body: bytes, message: str
) -> None:
    site[name] = Page(body)
    with pytest.raises(DataError, match=message):
        fetch(with_file(tiny, url=f"{site.url}/{name}"))
    assert is_clean(root)


def test_files_that_are_not_archives_stay_as_they_are(root: Path, tiny: DataSet, site: Site) -> None:
    for name in ("reviews", "meta"):
        site[f"{name}.jsonl.gz"] = Page(gzip.compress(name.encode()))
    files = tuple(RemoteFile(f"{site.url}/{name}.jsonl.gz") for name in ("reviews", "meta"))
    path, _ = fetch(replace(tiny, files=files, marker="reviews.jsonl.gz"))
    assert path == root / "data" / "tiny"
    assert files_in(path) == {"reviews.jsonl.gz", "meta.jsonl.gz"}
    assert gzip.decompress((path / "reviews.jsonl.gz").read_bytes()) == b"reviews"


def test_a_second_process_is_refused_while_the_first_downloads(root: Path, tiny: DataSet) -> None:
    (root / "downloads").mkdir(parents=True)
    with (root / "downloads" / "tiny.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(RunLockedError, match="another process is downloading tiny; wait"):
            fetch(tiny)
    assert fetch(tiny)[0].is_dir()


def test_a_disk_without_room_is_detected_before_the_download(
    root: Path, tiny: DataSet, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage(100, 90, 10))
    with pytest.raises(OSError, match=f"the download needs {len(ARCHIVE)} more bytes, the disk has 10") as refused:
        fetch(tiny)
    assert refused.value.errno == errno.ENOSPC
    assert site["tiny.zip"].requests == []


@pytest.mark.parametrize("step", ["downloading", "unpacking"])
def test_a_full_disk_names_the_path_and_the_next_call_continues(
    root: Path, tiny: DataSet, site: Site, step: str
) -> None:
    def fill(now: str, done: int, total: int | None) -> None:
        if now == step:
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="No space left") as refused:
        fetch(tiny, progress=fill)
    assert refused.value.errno == errno.ENOSPC
    assert str(refused.value.filename).startswith(str(root))
    assert not (root / "data" / "tiny").exists()
    assert fetch(tiny)[0].is_dir()
    assert len(site["tiny.zip"].requests) == (2 if step == "downloading" else 1)


def test_a_data_set_to_download_by_hand_is_found_afterwards(root: Path) -> None:
    data_set = CATALOGUE["retailrocket"]
    with pytest.raises(DataError, match=r"Kaggle asks for an account. Get it from https://www.kaggle.com/.* unpack it"):
        fetch(data_set)
    folder = root / "data" / "retailrocket" / "archive"
    folder.mkdir(parents=True)
    (folder / "events.csv").write_text("timestamp\n")
    assert fetch(data_set) == (folder, True)
    assert cached("retailrocket") == folder


def test_the_environment_decides_where_the_cache_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv(CACHE_VARIABLE, raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert cache_folder() == tmp_path / ".cache" / "evorec"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg" / "evorec"
    monkeypatch.setenv(CACHE_VARIABLE, "~/mine")
    assert cache_folder() == tmp_path / "mine"
    assert home("movielens-1m") == tmp_path / "mine" / "data" / "movielens-1m"


def test_the_name_of_a_cached_data_set_leads_to_the_folder_to_read(root: Path, tiny: DataSet) -> None:
    assert cached("tiny") is None
    path, _ = fetch(tiny)
    assert cached("tiny") == cached("Tiny") == path
    assert cached("tiny/ratings.csv") == path / "ratings.csv"
    assert cached("tiny/movies.csv") is None
    assert cached("my-shop") is None
    assert cached("") is None
    assert cached(str(path)) is None
