from __future__ import annotations

import gzip
import io
import random
import stat
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from evorec.data.unpack import is_archive, unpack
from evorec.errors import DataError

Files = dict[str, bytes]

N_MUTATIONS = 150


def make_zip(path: Path, files: Files) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def make_tar(path: Path, files: Files) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for name, content in files.items():
            add(archive, name, content)
    return path


def add(archive: tarfile.TarFile, name: str, content: bytes = b"", **attributes: object) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    for key, value in attributes.items():
        setattr(member, key, value)
    archive.addfile(member, io.BytesIO(content))


KINDS: dict[str, Callable[[Path, Files], Path]] = {"a.zip": make_zip, "a.tgz": make_tar}
every_kind = pytest.mark.parametrize("kind", list(KINDS))


@pytest.fixture
def out(tmp_path: Path) -> Path:
    folder = tmp_path / "outer" / "out"
    folder.mkdir(parents=True)
    return folder


def found(folder: Path) -> Files:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() or path.is_symlink()
    }


def nothing_outside(out: Path) -> bool:
    return [path.name for path in out.parent.iterdir()] == ["out"]


@every_kind
def test_unpacked_files_equal_the_packed_files(kind: str, tmp_path: Path, out: Path) -> None:
    files = {"set/a.csv": b"1,2\n" * 1000, "set/deep/er/b.csv": b"", "./c d.csv": b"ok", "set/ä.csv": b"\xff"}
    unpack(KINDS[kind](tmp_path / kind, files), out)
    assert found(out) == {
        "c d.csv": b"ok",
        "set/a.csv": b"1,2\n" * 1000,
        "set/deep/er/b.csv": b"",
        "set/ä.csv": b"\xff",
    }


def test_an_archive_is_known_by_its_name() -> None:
    assert [name for name in ("A.ZIP", "a.tar.gz", "a.tgz") if not is_archive(Path(name))] == []
    assert [name for name in ("a.csv", "a.gz", "a.jsonl.gz", "zip", "a.zip.part") if is_archive(Path(name))] == []


@every_kind
@pytest.mark.parametrize(
    "name",
    ["../evil", "a/../../evil", "a/..", "/evil", "//evil", "C:/evil", "..\\evil", "a\\b", "\\\\host\\evil", "a/../b"],
)
def test_a_name_outside_the_folder_is_refused(kind: str, name: str, tmp_path: Path, out: Path) -> None:
    archive = KINDS[kind](tmp_path / kind, {"good": b"1", name: b"evil"})
    with pytest.raises(DataError, match="leads out of the folder"):
        unpack(archive, out)
    assert nothing_outside(out)
    assert not Path("/evil").exists()


@every_kind
@pytest.mark.parametrize("name", ["a\nb", "\x1b[2Jx", "x" * 256, "a/\u202ex"])
def test_a_name_that_cannot_be_printed_or_created_is_refused(kind: str, name: str, tmp_path: Path, out: Path) -> None:
    with pytest.raises(DataError, match=r"the name .* cannot be used") as refused:
        unpack(KINDS[kind](tmp_path / kind, {name: b"1"}), out)
    assert str(refused.value).isprintable()


@every_kind
def test_deeply_nested_folders_are_refused(kind: str, tmp_path: Path, out: Path) -> None:
    with pytest.raises(DataError, match="nested too deeply"):
        unpack(KINDS[kind](tmp_path / kind, {"a/" * 30 + "b": b"1"}), out)


@every_kind
@pytest.mark.parametrize(("first", "second"), [("a", "a/b"), ("a/b", "a")])
def test_a_file_that_is_also_a_folder_is_refused(kind: str, first: str, second: str, tmp_path: Path, out: Path) -> None:
    with pytest.raises(DataError, match=r"both a file and a folder|occurs twice"):
        unpack(KINDS[kind](tmp_path / kind, {first: b"1", second: b"2"}), out)


def test_a_name_that_occurs_twice_is_refused(tmp_path: Path, out: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("a", b"1")
        with pytest.warns(UserWarning, match="Duplicate name"):
            archive.writestr("a", b"2")
    with pytest.raises(DataError, match="'a' occurs twice"):
        unpack(tmp_path / "a.zip", out)


@pytest.mark.parametrize("mode", [stat.S_IFLNK, stat.S_IFCHR, stat.S_IFIFO, stat.S_IFSOCK, stat.S_IFBLK])
def test_a_link_or_device_in_a_zip_is_refused(mode: int, tmp_path: Path, out: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        member = zipfile.ZipInfo("link")
        member.create_system = 3
        member.external_attr = (mode | 0o777) << 16
        archive.writestr(member, "/etc/passwd")
    with pytest.raises(DataError, match="'link' is a link or a device"):
        unpack(tmp_path / "a.zip", out)
    assert found(out) == {}


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE, b"S"]
)
def test_a_link_or_device_in_a_tar_is_refused(kind: bytes, tmp_path: Path, out: Path) -> None:
    with tarfile.open(tmp_path / "a.tar.gz", "w:gz") as archive:
        add(archive, "link", type=kind, linkname="/etc")
        add(archive, "link/passwd", b"evil")
    with pytest.raises(DataError, match="'link' is a link or a device"):
        unpack(tmp_path / "a.tar.gz", out)
    assert found(out) == {}


def test_permissions_of_an_archive_are_ignored(tmp_path: Path, out: Path) -> None:
    with tarfile.open(tmp_path / "a.tar.gz", "w:gz") as archive:
        add(archive, "tool", b"#!/bin/sh\n", mode=0o6777)
    unpack(tmp_path / "a.tar.gz", out)
    assert stat.S_IMODE((out / "tool").stat().st_mode) & 0o7111 == 0


@every_kind
def test_a_bomb_is_refused_before_it_is_unpacked(kind: str, tmp_path: Path, out: Path) -> None:
    bomb = KINDS[kind](tmp_path / kind, {"zeros": bytes(24 << 20)})
    assert bomb.stat().st_size < 100_000
    with pytest.raises(DataError, match="its contents are larger than"):
        unpack(bomb, out)
    assert sum(map(len, found(out).values())) < 8 << 20


def test_a_zip_file_that_states_a_wrong_size_is_refused(tmp_path: Path, out: Path) -> None:
    size = (24 << 20) + 12_345
    path = make_zip(tmp_path / "a.zip", {"zeros": bytes(size)})
    content = path.read_bytes()
    stated = size.to_bytes(4, "little")
    assert content.count(stated) == 2  # before the contents, and in the directory at the end
    path.write_bytes(content.replace(stated, (100).to_bytes(4, "little")))
    with pytest.raises(DataError, match=r"is damaged|larger than"):
        unpack(path, out)
    assert sum(map(len, found(out).values())) <= 8 << 20


def test_a_bomb_in_the_headers_of_a_tar_is_stopped(tmp_path: Path, out: Path) -> None:
    with tarfile.open(tmp_path / "a.tar.gz", "w:gz", format=tarfile.PAX_FORMAT) as archive:
        add(archive, "a", b"1", pax_headers={"comment": "x" * (24 << 20)})
    with pytest.raises(DataError, match="its contents are larger than"):
        unpack(tmp_path / "a.tar.gz", out)


@every_kind
def test_many_small_files_are_refused(kind: str, tmp_path: Path, out: Path) -> None:
    with pytest.raises(DataError, match="too many files"):
        unpack(KINDS[kind](tmp_path / kind, {f"{number}": b"" for number in range(11)}), out, max_files=10)


@every_kind
def test_the_limit_is_on_all_files_together(kind: str, tmp_path: Path, out: Path) -> None:
    archive = KINDS[kind](tmp_path / kind, {"a": bytes(600), "b": bytes(401)})
    with pytest.raises(DataError, match="larger than 1000 bytes"):
        unpack(archive, out, max_bytes=1000)
    for path in out.iterdir():
        path.unlink()
    unpack(archive, out, max_bytes=1001)


def test_an_encrypted_zip_is_refused(tmp_path: Path, out: Path) -> None:
    path = make_zip(tmp_path / "a.zip", {"a": b"1"})
    content = bytearray(path.read_bytes())
    content[content.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match="'a' is encrypted"):
        unpack(path, out)


@every_kind
@pytest.mark.parametrize("content", [b"", b"<html>busy, come back later</html>", b"PK\x03\x04", b"\x1f\x8b\x08\x00"])
def test_other_bytes_than_an_archive_are_refused(kind: str, content: bytes, tmp_path: Path, out: Path) -> None:
    (tmp_path / kind).write_bytes(content)
    with pytest.raises(DataError, match=f"{kind} is damaged and cannot be unpacked"):
        unpack(tmp_path / kind, out)


@every_kind
def test_a_truncated_archive_is_refused(kind: str, tmp_path: Path, out: Path) -> None:
    path = KINDS[kind](tmp_path / kind, {"a": random.Random(0).randbytes(5000), "b": b"2"})
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(DataError, match="is damaged"):
        unpack(path, out)


def test_a_tar_that_ends_inside_a_file_is_refused(tmp_path: Path, out: Path) -> None:
    whole = gzip.decompress(make_tar(tmp_path / "a.tgz", {"a": bytes(5000)}).read_bytes())
    (tmp_path / "a.tgz").write_bytes(gzip.compress(whole[:2000]))
    with pytest.raises(DataError, match="is damaged"):
        unpack(tmp_path / "a.tgz", out)


@pytest.mark.parametrize("kind", ["a.zip", "a.tgz"])
def test_any_bytes_give_files_or_a_data_error(kind: str, tmp_path: Path, out: Path) -> None:
    rng = random.Random(1)
    files = {"set/a": rng.randbytes(300), "set/b": b"x" * 500, "set/c/d": b""}
    whole = KINDS[kind](tmp_path / kind, files).read_bytes()
    inner = whole if kind == "a.zip" else gzip.decompress(whole)
    outcomes = set()
    for number in range(N_MUTATIONS):
        content = bytearray(inner)
        for _ in range(rng.choice((1, 1, 3, 30))):
            content[rng.randrange(len(content))] = rng.randrange(256)
        if rng.random() < 0.2:
            del content[rng.randrange(len(content)) :]
        folder = out / str(number)
        folder.mkdir()
        (tmp_path / kind).write_bytes(bytes(content) if kind == "a.zip" else gzip.compress(bytes(content)))
        try:
            unpack(tmp_path / kind, folder)
            outcomes.add("files")
        except DataError:
            outcomes.add("refused")
        assert nothing_outside(out)
    assert outcomes == {"files", "refused"}


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_zip_file_packed_in_a_rare_way_is_refused(method: int, tmp_path: Path, out: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w", method) as archive:
        archive.writestr("a", b"1" * 100)
    with pytest.raises(DataError, match="'a' is neither stored nor deflated"):
        unpack(tmp_path / "a.zip", out)


@every_kind
def test_a_name_too_long_for_a_file_system_is_refused(kind: str, tmp_path: Path, out: Path) -> None:
    with pytest.raises(DataError, match=r"the name .* cannot be used"):
        unpack(KINDS[kind](tmp_path / kind, {"/".join(["n" * 250] * 19): b"1"}), out)


def test_a_member_of_a_zip_file_without_a_name_is_refused(tmp_path: Path, out: Path) -> None:
    content = bytearray(make_zip(tmp_path / "a.zip", {"a": b""}).read_bytes())
    central = content.index(b"PK\x01\x02")
    del content[central + 46], content[30]  # the name, behind the member's entry in the directory and its own header
    content[central - 1 + 28] = content[26] = 0  # its length in both
    end = content.index(b"PK\x05\x06")
    content[end + 12] -= 1  # size of the directory
    content[end + 16] -= 1  # where it begins
    (tmp_path / "a.zip").write_bytes(content)
    with pytest.raises(DataError, match="the name '' occurs twice"):
        unpack(tmp_path / "a.zip", out)


@pytest.mark.parametrize("kind", [tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE])
def test_headers_upon_headers_are_damage(kind: bytes, tmp_path: Path, out: Path) -> None:
    header = tarfile.TarInfo("a")
    header.type = kind
    body = {tarfile.GNUTYPE_LONGNAME: b"abc\0", tarfile.XHDTYPE: b"11 path=ab\n"}[kind]
    header.size = len(body)
    with gzip.open(tmp_path / "a.tar.gz", "wb") as archive:
        archive.write((header.tobuf(tarfile.GNU_FORMAT) + body.ljust(512, b"\0")) * 3000)
    with pytest.raises(DataError, match="is damaged and cannot be unpacked: maximum recursion depth"):
        unpack(tmp_path / "a.tar.gz", out)
