from __future__ import annotations

import errno
import fcntl
import gzip
import hashlib
import io
import json
import zipfile
from collections import namedtuple
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from file_server import Page, Site, serving

from evorec.data.cache import CACHE_VARIABLE, RECEIPT, cache_folder, cached, hint, home, read_receipt
from evorec.data.catalogue import CATALOGUE, DataSet, RemoteFile
from evorec.data.fetch import Fetched, fetch
from evorec.errors import DataError, Interrupted, RunLockedError

RATINGS = b"userId,movieId,rating,timestamp\n1,1,4.0,964982703\n"


def zipped(files: dict[str, bytes]) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, body in files.items():
            archive.writestr(name, body)
    return content.getvalue()


ARCHIVE = zipped({"ml-tiny/ratings.csv": RATINGS, "ml-tiny/README.txt": b"read me\n"})
SHA256 = hashlib.sha256(ARCHIVE).hexdigest()


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache."""
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def site() -> Iterator[Site]:
    with serving() as site:
        site["tiny.zip"] = Page(ARCHIVE)
        yield site


@pytest.fixture
def tiny(site: Site, monkeypatch: pytest.MonkeyPatch) -> DataSet:
    """A published data set of one archive, in the catalogue."""
    file = RemoteFile(f"{site.url}/tiny.zip", len(ARCHIVE), SHA256)
    data_set = DataSet("tiny", "one rating", "movielens", "free", "https://tiny", (file,), "ratings.csv")
    monkeypatch.setitem(CATALOGUE, "tiny", data_set)  # type: ignore[arg-type]
    return data_set


class Watcher:
    def __init__(self, stop_at: str = "") -> None:
        self.steps: list[str] = []
        self.said: list[str] = []
        self.stop_at = stop_at

    def show(self, step: str, done: int, total: int | None) -> None:
        if step not in self.steps:
            self.steps.append(step)
        if step == self.stop_at:
            raise Interrupted("interrupted by SIGINT.")

    def say(self, text: str) -> None:
        self.said.append(text)


def get(data_set: DataSet, watch: Watcher | None = None) -> Fetched:
    return fetch(data_set, watch=watch, pause=lambda seconds: None)


def unchecked(data_set: DataSet) -> DataSet:
    return replace(data_set, files=tuple(RemoteFile(file.url) for file in data_set.files))


def test_a_data_set_comes_into_the_cache_with_a_receipt(root: Path, tiny: DataSet) -> None:
    watch = Watcher()
    got = get(tiny, watch)
    assert got.path == root / "data" / "tiny" / "ml-tiny"
    assert not got.was_there
    assert (got.path / "ratings.csv").read_bytes() == RATINGS
    assert got.receipt == read_receipt(root / "data" / "tiny")
    assert got.receipt.files == {"ml-tiny/README.txt": 8, "ml-tiny/ratings.csv": len(RATINGS)}
    (source,) = got.receipt.sources
    assert (source.url, source.size_bytes, source.sha256) == (tiny.files[0].url, len(ARCHIVE), SHA256)
    assert source.checked == "published sha256"
    assert watch.steps == ["downloading", "checking", "unpacking"]
    assert watch.said == []
    assert [path.name for path in (root / "downloads").iterdir()] == ["tiny.lock"]
    assert [path.name for path in (root / "data").iterdir()] == ["tiny"]


def test_a_data_set_that_is_there_is_not_downloaded_again(root: Path, tiny: DataSet, site: Site) -> None:
    first = get(tiny)
    site.clear()
    again = get(tiny)
    assert again.was_there
    assert (again.path, again.receipt) == (first.path, first.receipt)


@pytest.mark.parametrize("change", ["remove", "append"])
def test_a_data_set_that_was_changed_is_refused_and_left_alone(root: Path, tiny: DataSet, change: str) -> None:
    path = get(tiny).path / "ratings.csv"
    if change == "remove":
        path.unlink()
    else:
        path.write_bytes(RATINGS + b"2,1,3.0,964982703\n")
    with pytest.raises(
        DataError, match=rf"ratings.csv (is missing|has 68 bytes), expected {len(RATINGS)} bytes; delete"
    ):
        get(tiny)
    assert path.parent.is_dir()


def test_a_damaged_receipt_is_refused_with_the_way_out(root: Path, tiny: DataSet) -> None:
    get(tiny)
    for text in ("", "[]", "{}", '{"format": 2}'):
        (root / "data" / "tiny" / RECEIPT).write_text(text)
        with pytest.raises(DataError, match=rf"{RECEIPT} is damaged .* delete {root / 'data' / 'tiny'}"):
            get(tiny)


def test_a_folder_of_that_name_that_is_somebodys_own_is_left_alone(root: Path, tiny: DataSet) -> None:
    (root / "data" / "tiny").mkdir(parents=True)
    (root / "data" / "tiny" / "mine.txt").write_text("mine")
    with pytest.raises(DataError, match="was not made by evorec"):
        get(tiny)
    assert (root / "data" / "tiny" / "mine.txt").read_text() == "mine"


def test_a_wrong_checksum_leaves_nothing_behind(root: Path, tiny: DataSet, site: Site) -> None:
    site["tiny.zip"] = Page(ARCHIVE[:-1] + b"x")
    with pytest.raises(DataError, match=f"must have the sha256 {SHA256}"):
        get(tiny)
    assert not (root / "data").exists()
    assert list((root / "downloads" / "tiny").iterdir()) == []


def test_an_interrupted_download_is_gone_on_from(root: Path, tiny: DataSet, site: Site) -> None:
    with pytest.raises(Interrupted):
        get(tiny, Watcher(stop_at="downloading"))
    assert (root / "downloads" / "tiny" / "tiny.zip.part").exists()
    assert get(tiny).path.is_dir()
    assert len(site["tiny.zip"].asked) == 1  # the whole of so small a file was there


def test_an_interrupted_unpacking_leaves_no_half_data_set(root: Path, tiny: DataSet, site: Site) -> None:
    with pytest.raises(Interrupted):
        get(tiny, Watcher(stop_at="unpacking"))
    assert list((root / "data").iterdir()) == []
    (root / "data" / ".tiny.new").mkdir()  # of a process that was killed
    (root / "data" / ".tiny.new" / "ratings.csv").write_text("half")
    got = get(tiny)
    assert len(site["tiny.zip"].asked) == 1
    assert [path.name for path in (root / "data").iterdir()] == ["tiny"]
    assert (got.path / "ratings.csv").read_bytes() == RATINGS


def test_an_archive_that_somebody_fetched_is_checked_and_used(root: Path, tiny: DataSet, site: Site) -> None:
    site.clear()
    (root / "downloads" / "tiny").mkdir(parents=True)
    (root / "downloads" / "tiny" / "tiny.zip").write_bytes(ARCHIVE)
    assert get(tiny).receipt.sources[0].checked == "published sha256"


def test_a_hostile_archive_is_refused_and_removed(root: Path, tiny: DataSet, site: Site) -> None:
    site["tiny.zip"] = Page(zipped({"ratings.csv": RATINGS, "../../../evil": b"evil"}))
    with pytest.raises(DataError, match="leads out of the folder"):
        get(unchecked(tiny))
    assert list((root / "data").iterdir()) == []
    assert [path.name for path in (root / "downloads").iterdir()] == ["tiny.lock"]
    assert not (root / "checksums").exists()


def test_a_page_of_excuses_is_not_taken_for_the_data_set(root: Path, tiny: DataSet, site: Site) -> None:
    site["tiny.zip"] = Page(b"<html>we are moving</html>")
    with pytest.raises(DataError, match=r"tiny.zip is damaged and cannot be unpacked"):
        get(unchecked(tiny))
    site["tiny.zip"] = Page(ARCHIVE)
    assert get(unchecked(tiny)).path.is_dir()


def test_an_archive_of_something_else_is_refused(root: Path, tiny: DataSet, site: Site) -> None:
    site["tiny.zip"] = Page(zipped({"cats.csv": b"1\n"}))
    with pytest.raises(DataError, match=r"tiny must hold ratings.csv, and has no such file"):
        get(unchecked(tiny))


def test_the_first_download_is_trusted_aloud_and_later_ones_are_compared(root: Path, tiny: DataSet, site: Site) -> None:
    free = unchecked(tiny)
    watch = Watcher()
    assert get(free, watch).receipt.sources[0].checked == "nothing"
    (said,) = watch.said
    assert "nobody published a checksum of tiny.zip: this first download is trusted" in said
    assert SHA256 in said
    kept = root / "checksums" / "tiny" / "tiny.zip.json"
    assert json.loads(kept.read_text())["sha256"] == SHA256

    _remove(root / "data" / "tiny")
    watch = Watcher()
    assert get(free, watch).receipt.sources[0].checked == "first download"
    assert watch.said == []

    _remove(root / "data" / "tiny")
    site["tiny.zip"] = Page(zipped({"ratings.csv": RATINGS + b"2,1,3.0,964982703\n"}))
    with pytest.raises(DataError, match=rf"must have the sha256 {SHA256} \(of the first download; delete {kept}"):
        get(free)
    kept.unlink()
    assert get(free).receipt.sources[0].checked == "nothing"


def test_a_published_md5_is_compared_and_the_sha256_kept_for_the_next_time(root: Path, tiny: DataSet) -> None:
    md5 = hashlib.md5(ARCHIVE).hexdigest()
    data_set = replace(tiny, files=(replace(tiny.files[0], sha256=None, md5=md5),))
    watch = Watcher()
    assert get(data_set, watch).receipt.sources[0].checked == "published md5"
    assert watch.said == []
    assert json.loads((root / "checksums" / "tiny" / "tiny.zip.json").read_text())["sha256"] == SHA256


def test_a_damaged_memory_of_the_first_download_is_refused(root: Path, tiny: DataSet) -> None:
    kept = root / "checksums" / "tiny" / "tiny.zip.json"
    kept.parent.mkdir(parents=True)
    for text in ("", "[]", "{}"):
        kept.write_text(text)
        with pytest.raises(DataError, match=rf"{kept} is damaged .*delete it to trust the next download"):
            get(unchecked(tiny))


def test_files_that_are_no_archives_stay_as_they_are(root: Path, tiny: DataSet, site: Site) -> None:
    site["reviews.jsonl.gz"] = Page(gzip.compress(b'{"rating": 5.0}\n'))
    site["meta.jsonl.gz"] = Page(gzip.compress(b'{"title": "x"}\n'))
    files = tuple(RemoteFile(f"{site.url}/{name}.jsonl.gz") for name in ("reviews", "meta"))
    got = get(replace(tiny, files=files, holds="reviews.jsonl.gz"))
    assert got.path == root / "data" / "tiny"
    assert gzip.decompress((got.path / "reviews.jsonl.gz").read_bytes()) == b'{"rating": 5.0}\n'
    assert set(got.receipt.files) == {"reviews.jsonl.gz", "meta.jsonl.gz"}


def test_a_page_of_excuses_is_not_taken_for_a_compressed_table(root: Path, tiny: DataSet, site: Site) -> None:
    site["reviews.jsonl.gz"] = Page(b"<html>we are moving</html>")
    files = (RemoteFile(f"{site.url}/reviews.jsonl.gz"),)
    with pytest.raises(DataError, match="must be gzip-compressed, and begins with b'<h'"):
        get(replace(tiny, files=files, holds="reviews.jsonl.gz"))


def test_half_a_compressed_table_is_refused_where_no_checksum_would_tell(root: Path, tiny: DataSet, site: Site) -> None:
    whole = gzip.compress(b"".join(b'{"rating": %d}\n' % number for number in range(999)))
    site["reviews.jsonl.gz"] = Page(whole[: len(whole) // 2], headers={"Content-Length": None})
    data_set = replace(tiny, files=(RemoteFile(f"{site.url}/reviews.jsonl.gz"),), holds="reviews.jsonl.gz")
    with pytest.raises(DataError, match=r"reviews\.jsonl\.gz is damaged: .*Type the same command again"):
        get(data_set)
    site["reviews.jsonl.gz"] = Page(whole)
    assert (get(data_set).path / "reviews.jsonl.gz").read_bytes() == whole


def test_a_compressed_table_that_grows_without_end_is_refused_where_no_checksum_would_tell(
    root: Path, tiny: DataSet, site: Site
) -> None:
    site["reviews.jsonl.gz"] = Page(gzip.compress(b"\n" * 2_000_000))
    with pytest.raises(DataError, match=r"is not safe to read: its contents are larger than 1\d{6} bytes"):
        get(replace(tiny, files=(RemoteFile(f"{site.url}/reviews.jsonl.gz"),), holds="reviews.jsonl.gz"))


def test_a_checksum_is_remembered_anew_when_the_address_changes(root: Path, tiny: DataSet, site: Site) -> None:
    get(unchecked(tiny))
    site["moved/tiny.zip"] = Page(ARCHIVE)
    moved = replace(tiny, files=(RemoteFile(f"{site.url}/moved/tiny.zip"),))
    checked = []
    for _ in range(2):
        _remove(root / "data" / "tiny")
        checked.append(get(moved).receipt.sources[0].checked)
    assert checked == ["nothing", "first download"]


def test_an_archive_with_a_receipt_of_its_own_is_refused(root: Path, tiny: DataSet, site: Site) -> None:
    for name in (RECEIPT, f"{RECEIPT}/a"):
        site["tiny.zip"] = Page(zipped({"ratings.csv": RATINGS, name: b"{}"}))
        with pytest.raises(DataError, match=rf"tiny must not hold a file {RECEIPT}"):
            get(unchecked(tiny))


def test_a_file_system_that_cannot_lock_is_not_taken_for_another_process(
    root: Path, tiny: DataSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(file: object, operation: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(OSError, match="No locks available"):
        get(tiny)


def test_a_second_process_is_told_to_wait(root: Path, tiny: DataSet) -> None:
    (root / "downloads").mkdir(parents=True)
    with (root / "downloads" / "tiny.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(RunLockedError, match="another process is fetching tiny"):
            get(tiny)
    assert get(tiny).path.is_dir()


def test_a_disk_without_room_is_known_before_the_download(
    root: Path, tiny: DataSet, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage(100, 90, 10))
    with pytest.raises(OSError, match=f"the download needs {len(ARCHIVE)} more bytes, the disk has 10") as refused:
        get(tiny)
    assert refused.value.errno == errno.ENOSPC
    assert site["tiny.zip"].asked == []


def test_a_disk_that_fills_up_while_unpacking_keeps_the_download(
    root: Path, tiny: DataSet, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write(out: object, path: Path, chunk: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    with monkeypatch.context() as patched:
        patched.setattr("evorec.data.unpack.write_all", write)
        with pytest.raises(OSError, match="No space left"):
            get(tiny)
    assert list((root / "data").iterdir()) == []
    assert get(tiny).path.is_dir()
    assert len(site["tiny.zip"].asked) == 1


def test_a_data_set_to_fetch_by_hand_says_where_and_is_found_afterwards(root: Path) -> None:
    data_set = CATALOGUE["retailrocket"]
    with pytest.raises(DataError, match=r"Kaggle asks for an account. Get it from https://www.kaggle.com/.* unpack it"):
        get(data_set)
    folder = root / "data" / "retailrocket" / "archive"
    folder.mkdir(parents=True)
    (folder / "events.csv").write_text("timestamp\n")
    got = get(data_set)
    assert (got.path, got.was_there) == (folder, True)
    assert cached("retailrocket") == folder


def test_the_cache_is_where_the_environment_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv(CACHE_VARIABLE, raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert cache_folder() == tmp_path / ".cache" / "evorec"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg" / "evorec"
    monkeypatch.setenv(CACHE_VARIABLE, "~/mine")
    assert cache_folder() == tmp_path / "mine"
    assert home("movielens-1m") == tmp_path / "mine" / "data" / "movielens-1m"


def test_a_name_of_the_cache_leads_to_the_folder_to_read(root: Path, tiny: DataSet) -> None:
    assert cached("tiny") is None
    path = get(tiny).path
    assert cached("tiny") == cached("Tiny") == path
    assert cached("tiny/ratings.csv") == path / "ratings.csv"
    assert cached("tiny/movies.csv") is None
    assert cached("my-shop") is None
    assert cached("") is None
    assert cached(str(path)) is None


def test_a_path_that_names_a_data_set_gives_a_hint() -> None:
    assert hint("movielens-1m") == " Download it with: evorec data get movielens-1m"
    assert hint("MovieLens-1M/ratings.dat") == " Download it with: evorec data get movielens-1m"
    assert hint("my-shop") == ""


def _remove(folder: Path) -> None:
    for path in sorted(folder.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    folder.rmdir()
