from __future__ import annotations

import errno
import hashlib
import json
import ssl
from collections.abc import Iterator
from http.client import HTTPMessage
from io import BytesIO
from pathlib import Path
from socket import socket
from typing import Any
from urllib.error import URLError
from urllib.request import Request

import pytest
from file_server import Page, Site, serving

from evorec.data.catalogue import RemoteFile
from evorec.data.download import TRIES, Checked, Remembered, _SafeRedirects, download
from evorec.data.transfer import write_all
from evorec.errors import DataError, Interrupted

BODY = bytes(range(256)) * 4000
"""About a megabyte: several chunks."""
SHA256 = hashlib.sha256(BODY).hexdigest()
MD5 = hashlib.md5(BODY).hexdigest()


@pytest.fixture
def site() -> Iterator[Site]:
    with serving() as site:
        yield site


class Waits(list[float]):
    """Remembers how long it should have waited."""

    def __call__(self, seconds: float) -> None:
        self.append(seconds)


class Watcher:
    """Remembers what it is told; can interrupt."""

    def __init__(self, stop_after: int | None = None, stop_at: str = "") -> None:
        self.shown: list[tuple[str, int, int | None]] = []
        self.said: list[str] = []
        self.stop_after = stop_after
        self.stop_at = stop_at

    def show(self, step: str, done: int, total: int | None) -> None:
        self.shown.append((step, done, total))
        if step == self.stop_at or (self.stop_after is not None and len(self.shown) >= self.stop_after):
            raise Interrupted("interrupted by SIGINT.")

    def say(self, text: str) -> None:
        self.said.append(text)


def get(site: Site, folder: Path, size: int | None = None, sha256: str | None = None, **more: Any) -> Checked:
    file = RemoteFile(f"{site.url}/a.zip", size, sha256, more.pop("md5", None))
    return download(file, folder, pause=more.pop("pause", Waits()), **more)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_downloaded_checked_and_alone_in_its_folder(site: Site, tmp_path: Path) -> None:
    site["a.zip"] = Page(BODY)
    watch = Watcher()
    got = get(site, tmp_path / "new" / "folder", len(BODY), SHA256, md5=MD5, watch=watch)
    assert got == Checked(tmp_path / "new" / "folder" / "a.zip", len(BODY), SHA256, "published sha256")
    assert got.path.read_bytes() == BODY
    assert names(got.path.parent) == ["a.zip"]
    assert ("downloading", len(BODY), len(BODY)) in watch.shown
    assert watch.shown[-1] == ("checking", len(BODY), len(BODY))


@pytest.mark.parametrize(
    ("known", "checked"),
    [
        ({"md5": MD5}, "published md5"),
        ({"remembered": Remembered(SHA256, Path("first.json"))}, "first download"),
        ({}, "nothing"),
    ],
)
def test_it_says_what_the_file_was_compared_with(
    site: Site, tmp_path: Path, known: dict[str, Any], checked: str
) -> None:
    site["a.zip"] = Page(BODY)
    assert get(site, tmp_path, **known).checked == checked


def test_a_file_that_is_there_is_checked_and_not_downloaded(site: Site, tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(BODY)
    assert get(site, tmp_path, len(BODY), SHA256).path.read_bytes() == BODY  # the site has no such page


def test_a_broken_connection_goes_on_where_it_ended(site: Site, tmp_path: Path) -> None:
    site["a.zip"] = page = Page(BODY, cut=[300_000, 200_000])
    watch = Watcher()
    assert get(site, tmp_path, len(BODY), SHA256, watch=watch).path.read_bytes() == BODY
    assert [asked.get("range") for asked in page.asked] == [None, "bytes=300000-", "bytes=500000-"]
    assert [asked.get("if-range") for asked in page.asked] == [None, '"first"', '"first"']
    assert watch.said[0].startswith(f"the connection ended after 300000 of {len(BODY)} bytes; trying again")


def test_an_interrupted_download_goes_on_in_the_next_call(site: Site, tmp_path: Path) -> None:
    site["a.zip"] = page = Page(BODY)
    with pytest.raises(Interrupted):
        get(site, tmp_path, len(BODY), SHA256, watch=Watcher(stop_after=2))
    have = (tmp_path / "a.zip.part").stat().st_size
    assert 0 < have < len(BODY)
    assert get(site, tmp_path, len(BODY), SHA256).path.read_bytes() == BODY
    assert page.asked[1]["range"] == f"bytes={have}-"


def test_a_whole_part_is_not_asked_for_again(site: Site, tmp_path: Path) -> None:
    site["a.zip"] = page = Page(BODY)
    with pytest.raises(Interrupted):
        get(site, tmp_path, len(BODY), SHA256, watch=Watcher(stop_at="checking"))
    assert get(site, tmp_path, len(BODY), SHA256).path.read_bytes() == BODY
    assert len(page.asked) == 1


def test_a_file_that_changed_meanwhile_is_downloaded_anew(site: Site, tmp_path: Path) -> None:
    site["a.zip"] = Page(b"old" * 100_000)
    with pytest.raises(Interrupted):
        get(site, tmp_path, watch=Watcher(stop_after=1))
    site["a.zip"] = page = Page(BODY, etag='"second"')
    assert get(site, tmp_path).path.read_bytes() == BODY
    assert page.asked[0]["if-range"] == '"first"'


@pytest.mark.parametrize("etag", [None, 'W/"weak"'])
def test_nothing_is_glued_together_where_nothing_would_tell(site: Site, tmp_path: Path, etag: str | None) -> None:
    site["a.zip"] = page = Page(BODY, etag=etag, cut=[300_000])
    assert get(site, tmp_path).path.read_bytes() == BODY
    assert [asked.get("range") for asked in page.asked] == [None, None]


def test_without_a_tag_a_published_checksum_is_enough_to_go_on(site: Site, tmp_path: Path) -> None:
    site["a.zip"] = page = Page(BODY, etag=None, cut=[300_000])
    assert get(site, tmp_path, sha256=SHA256).path.read_bytes() == BODY
    assert page.asked[1]["range"] == "bytes=300000-"
    assert "if-range" not in page.asked[1]


def test_the_date_of_the_last_change_serves_as_a_tag(site: Site, tmp_path: Path) -> None:
    date = "Wed, 26 Sep 2018 15:00:00 GMT"
    site["a.zip"] = page = Page(BODY, etag=None, headers={"Last-Modified": date}, cut=[300_000])
    assert get(site, tmp_path).path.read_bytes() == BODY
    assert page.asked[1]["if-range"] == date


def test_a_server_that_knows_no_parts_sends_it_all_again(site: Site, tmp_path: Path) -> None:
    site["a.zip"] = page = Page(BODY, ranges=False, cut=[300_000])
    assert get(site, tmp_path, len(BODY), SHA256).path.read_bytes() == BODY
    assert len(page.asked) == 2


def test_a_part_of_another_address_is_not_used(site: Site, tmp_path: Path) -> None:
    site["a.zip"] = page = Page(BODY)
    (tmp_path / "a.zip.part").write_bytes(b"x" * 100)
    (tmp_path / "a.zip.part.json").write_text(json.dumps({"url": "http://other/a.zip", "tag": '"first"'}))
    assert get(site, tmp_path, len(BODY), SHA256).path.read_bytes() == BODY
    assert "range" not in page.asked[0]


@pytest.mark.parametrize("note", ["", "[]", "{}", "not json"])
def test_a_part_with_a_damaged_note_is_not_used(site: Site, tmp_path: Path, note: str) -> None:
    site["a.zip"] = page = Page(BODY)
    (tmp_path / "a.zip.part").write_bytes(b"x" * 100)
    (tmp_path / "a.zip.part.json").write_text(note)
    assert get(site, tmp_path, len(BODY), SHA256).path.read_bytes() == BODY
    assert "range" not in page.asked[0]


def test_a_part_that_is_longer_than_the_file_is_given_up(site: Site, tmp_path: Path) -> None:
    site["a.zip"] = Page(BODY)
    (tmp_path / "a.zip.part").write_bytes(b"x" * (len(BODY) + 5))
    (tmp_path / "a.zip.part.json").write_text(json.dumps({"url": f"{site.url}/a.zip", "tag": '"first"'}))
    assert get(site, tmp_path, sha256=SHA256).path.read_bytes() == BODY  # the server answers 416


def test_another_part_than_the_one_asked_for_is_not_used(site: Site, tmp_path: Path) -> None:
    wrong = {"Content-Range": f"bytes 0-{len(BODY) - 1}/{len(BODY)}"}
    site["a.zip"] = page = Page(BODY, cut=[300_000])
    with pytest.raises(Interrupted):
        get(site, tmp_path, sha256=SHA256, watch=Watcher(stop_after=1))
    page.headers |= wrong
    page.cut.clear()
    assert get(site, tmp_path, sha256=SHA256).path.read_bytes() == BODY


def test_a_truncated_body_is_never_taken_for_the_file(site: Site, tmp_path: Path) -> None:
    site["a.zip"] = page = Page(BODY, ranges=False, cut=[300_000] * 20)
    waits = Waits()
    with pytest.raises(DataError, match=r"ended after 300000 of 1024000 bytes \(300000 bytes are kept\)") as refused:
        get(site, tmp_path, len(BODY), SHA256, pause=waits)
    assert len(page.asked) == TRIES + 1  # the first brought it further
    assert waits == [0.5, 1.0, 2.0, 4.0]
    assert f"put it at {tmp_path / 'a.zip'}" in str(refused.value)
    assert not (tmp_path / "a.zip").exists()


def test_a_truncated_body_of_unknown_size_is_known_by_the_length_the_server_states(site: Site, tmp_path: Path) -> None:
    site["a.zip"] = Page(BODY, ranges=False, cut=[300_000] * 20)
    with pytest.raises(DataError, match="ended after 300000 of 1024000 bytes"):
        get(site, tmp_path)


def test_a_body_without_a_stated_length_ends_where_it_ends(site: Site, tmp_path: Path) -> None:
    site["a.zip"] = Page(BODY, headers={"Content-Length": None})
    assert get(site, tmp_path).size_bytes == len(BODY)


def test_a_wrong_checksum_is_refused_and_nothing_is_kept(site: Site, tmp_path: Path) -> None:
    site["a.zip"] = Page(BODY)
    wrong = "0" * 64
    with pytest.raises(DataError, match=f"must have the sha256 {wrong} .*, got {SHA256}.*was removed"):
        get(site, tmp_path, len(BODY), wrong)
    assert names(tmp_path) == []


def test_a_wrong_md5_is_refused_though_the_sha256_fits(site: Site, tmp_path: Path) -> None:
    site["a.zip"] = Page(BODY)
    with pytest.raises(DataError, match=f"must have the md5 {'0' * 32} .*, got {MD5}"):
        get(site, tmp_path, len(BODY), SHA256, md5="0" * 32)


def test_another_file_than_the_first_time_is_refused_with_the_way_to_accept_it(site: Site, tmp_path: Path) -> None:
    site["a.zip"] = Page(BODY)
    with pytest.raises(DataError, match=r"of the first download; delete .*first\.json to take another"):
        get(site, tmp_path, remembered=Remembered("0" * 64, tmp_path / "first.json"))


def test_a_wrong_size_is_refused_before_a_byte_is_written(site: Site, tmp_path: Path) -> None:
    site["a.zip"] = Page(BODY)
    with pytest.raises(DataError, match="must have 5 bytes, and the server offers 1024000"):
        get(site, tmp_path, 5, SHA256)
    assert names(tmp_path) == []


def test_a_body_that_goes_on_beyond_the_published_size_is_refused(site: Site, tmp_path: Path) -> None:
    site["a.zip"] = Page(BODY, headers={"Content-Length": None})
    with pytest.raises(DataError, match="must have 5 bytes, and sends more"):
        get(site, tmp_path, 5, SHA256)
    assert names(tmp_path) == []


def test_an_encoded_body_is_refused(site: Site, tmp_path: Path) -> None:
    site["a.zip"] = Page(BODY, headers={"Content-Encoding": "gzip"})
    with pytest.raises(DataError, match="must be sent as it is, and the server sends it gzip-encoded"):
        get(site, tmp_path)


@pytest.mark.parametrize("code", [401, 403, 404, 410])
def test_a_file_that_is_not_to_be_had_is_refused_at_once(site: Site, tmp_path: Path, code: int) -> None:
    site["a.zip"] = page = Page(BODY, status=[code])
    with pytest.raises(DataError, match=f"a.zip cannot be downloaded: the server answers {code}"):
        get(site, tmp_path)
    assert len(page.asked) == 1


def test_a_busy_server_is_asked_again(site: Site, tmp_path: Path) -> None:
    site["a.zip"] = Page(BODY, status=[503, 429])
    waits = Waits()
    assert get(site, tmp_path, pause=waits).sha256 == SHA256
    assert waits == [1.0, 2.0]


def test_no_server_is_a_data_error_after_some_tries(tmp_path: Path) -> None:
    with socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    waits = Waits()
    with pytest.raises(DataError, match=r"no connection: .*refused"):
        download(RemoteFile(f"http://127.0.0.1:{port}/a.zip"), tmp_path, pause=waits)
    assert len(waits) == TRIES - 1


def test_a_redirection_is_followed(site: Site, tmp_path: Path) -> None:
    site["a.zip"] = Page(b"", location=f"{site.url}/b.bin")
    site["b.bin"] = Page(BODY)
    assert get(site, tmp_path, sha256=SHA256).path == tmp_path / "a.zip"


@pytest.mark.parametrize("to", ["file:///etc/hostname", "ftp://127.0.0.1/a.zip"])
def test_a_redirection_to_anything_but_the_web_is_refused(site: Site, tmp_path: Path, to: str) -> None:
    site["a.zip"] = Page(b"", location=to)
    with pytest.raises(DataError, match=r"redirects to .*not safe|is not allowed"):
        get(site, tmp_path)


def test_a_redirection_from_an_encrypted_to_an_open_address_is_refused() -> None:
    request, page, headers = Request("https://host/a.zip"), BytesIO(), HTTPMessage()
    with pytest.raises(DataError, match=r"redirects to http://host/a.zip, which is not safe"):
        _SafeRedirects().redirect_request(request, page, 302, "Found", headers, "http://host/a.zip")
    followed = _SafeRedirects().redirect_request(request, BytesIO(), 302, "Found", headers, "https://other/a.zip")
    assert followed is not None
    assert followed.full_url == "https://other/a.zip"


def test_an_address_that_cannot_prove_what_it_is_is_refused_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Opener:
        def open(self, request: Request, timeout: float) -> None:
            error = ssl.SSLCertVerificationError(1, "certificate verify failed")
            error.verify_message = "certificate has expired"
            raise URLError(error)

    monkeypatch.setattr("evorec.data.download.build_opener", lambda handler: Opener())
    waits = Waits()
    with pytest.raises(DataError, match=rf"certificate has expired\. Fetch it .* put it at {tmp_path / 'a.zip'}"):
        download(RemoteFile("https://host/a.zip"), tmp_path, pause=waits)
    assert waits == []


@pytest.mark.parametrize("url", ["file:///etc/hostname", "ftp://127.0.0.1/a.zip", "a.zip"])
def test_only_the_web_is_downloaded_from(tmp_path: Path, url: str) -> None:
    with pytest.raises(DataError, match="must start with https:// to be downloaded"):
        download(RemoteFile(url), tmp_path)


def test_a_full_disk_names_the_file_and_keeps_what_was_written(site: Site, tmp_path: Path) -> None:
    site["a.zip"] = Page(BODY)
    (tmp_path / "a.zip.part").symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left") as refused:
        get(site, tmp_path, len(BODY), SHA256)
    assert refused.value.errno == errno.ENOSPC
    assert refused.value.filename == str(tmp_path / "a.zip.part")


def test_a_disk_that_fills_up_on_the_way_is_gone_on_from(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site["a.zip"] = page = Page(BODY)
    room = [300_000]

    def write(out: Any, path: Path, chunk: bytes) -> None:
        room[0] -= len(chunk)
        if room[0] < 0:
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        write_all(out, path, chunk)

    with monkeypatch.context() as patched:
        patched.setattr("evorec.data.download.write_all", write)
        with pytest.raises(OSError, match="No space left"):
            get(site, tmp_path, len(BODY), SHA256)
    have = (tmp_path / "a.zip.part").stat().st_size
    assert 0 < have <= 300_000
    assert get(site, tmp_path, len(BODY), SHA256).sha256 == SHA256
    assert page.asked[1]["range"] == f"bytes={have}-"


@pytest.mark.parametrize("to", ["http://[::1", f"http://{'a' * 70}.invalid/"])
def test_a_redirection_to_what_is_no_address_is_refused(site: Site, tmp_path: Path, to: str) -> None:
    site["a.zip"] = Page(BODY, location=to)
    with pytest.raises(DataError, match=r"a\.zip cannot be downloaded: "):
        get(site, tmp_path)


@pytest.mark.parametrize("code", [404, 503])
def test_what_a_server_says_cannot_command_the_terminal(site: Site, tmp_path: Path, code: int) -> None:
    watch = Watcher()
    site["a.zip"] = Page(BODY, status=[code] * 9, reason="\x1b]0;mine\x07\x9b2J" + "x" * 1000)
    with pytest.raises(DataError, match=rf"the server answers {code} \?\]0;mine\?\?2Jx") as refused:
        get(site, tmp_path, watch=watch)
    assert all(text.isprintable() and len(text) < 500 for text in (str(refused.value), *watch.said))
    site["a.zip"] = Page(BODY, headers={"Content-Encoding": "\x1b[2J"})
    with pytest.raises(DataError, match=r"the server sends it \?\[2J-encoded"):
        get(site, tmp_path)


def test_a_number_too_long_for_any_file_is_no_number(site: Site, tmp_path: Path) -> None:
    site["a.zip"] = Page(BODY, headers={"Content-Length": "9" * 5000})
    assert get(site, tmp_path).size_bytes == len(BODY)
    waits = Waits()
    site["b.zip"] = Page(BODY, status=[503], headers={"Retry-After": "9" * 5000})
    file = RemoteFile(f"{site.url}/b.zip")
    assert download(file, tmp_path, pause=waits).size_bytes == len(BODY)
    assert waits == [1.0]
