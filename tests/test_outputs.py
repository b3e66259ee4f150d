"""Files and folders that a user names are whole or absent, whatever their names are and whoever else writes them."""

import errno
import fcntl
import os
from collections import namedtuple
from pathlib import Path

import pytest

from evorec.errors import Interruption, RunError
from evorec.outputs import check_free_space, move_folder, workspace, write_output

NAMES = ("plain", "lists [x].parquet", "a*b?", "ü ", "-x", "é" * 120, ".hidden")


@pytest.mark.parametrize("name", NAMES)
def test_any_name_is_a_name(name: str, tmp_path: Path) -> None:
    write_output(tmp_path / "new" / name, b"old")
    write_output(tmp_path / "new" / name, b"new")
    with workspace(tmp_path / "folder" / name) as made:
        (made / "inside").touch()
        move_folder(made, tmp_path / "folder" / name)
    assert [path.name for path in (tmp_path / "new").iterdir()] == [name]
    assert (tmp_path / "new" / name).read_bytes() == b"new"
    assert [path.relative_to(tmp_path) for path in (tmp_path / "folder").rglob("*")] == [
        Path("folder") / name,
        Path("folder") / name / "inside",
    ]


def test_two_makers_of_a_folder_do_not_meet_and_the_second_is_refused(tmp_path: Path) -> None:
    target = tmp_path / "bundle"
    with workspace(target) as one:
        (one / "of one").touch()
        with workspace(target) as other:
            (other / "of other").touch()
            move_folder(one, target)
            with pytest.raises(RunError, match=r"bundle was made by another process meanwhile.*choose another folder"):
                move_folder(other, target)
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]
    assert [path.name for path in target.iterdir()] == ["of one"]


def test_what_a_killed_process_left_is_removed_and_what_a_living_process_uses_is_not(tmp_path: Path) -> None:
    target = tmp_path / "out [1]"
    with workspace(target) as made:
        of_a_process = made.parent
        os.rename(of_a_process, tmp_path / "kept")
    (tmp_path / "kept").rename(of_a_process)  # as after SIGKILL: the folder is there, its lock is not
    (of_a_process / "content" / "part").write_text("half")
    of_others = [tmp_path / ".other.12345678.part", tmp_path / ".out 1.12345678.part"]
    for folder in of_others:
        folder.mkdir()
    with workspace(target) as living:
        assert not of_a_process.exists()
        write_output(target, b"x")
        assert living.exists()
    assert sorted(tmp_path.iterdir()) == sorted([target, *of_others])


def test_a_new_folder_that_is_taken_for_a_leftover_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process sweeps between the making of the folder and its lock."""
    flock, calls = fcntl.flock, []

    def lock(descriptor: int, how: int) -> None:
        calls.append(how)
        if len(calls) == 1:
            raise BlockingIOError
        flock(descriptor, how)

    monkeypatch.setattr(fcntl, "flock", lock)
    with workspace(tmp_path / "out") as made:
        assert made.is_dir()
    assert len(calls) == 2


def test_an_error_names_the_target(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(self: Path, *_: object, **__: object) -> None:
        if self != tmp_path:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(self))

    monkeypatch.setattr(Path, "mkdir", refused)
    with pytest.raises(OSError, match=r"Read-only file system: '.*/r\.html'"):
        write_output(tmp_path / "r.html", b"x")


def test_too_little_space_is_refused_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """2 GiB are free."""
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage(10 * 2**30, 8 * 2**30, 2 * 2**30))
    folder = tmp_path / "new" / "folder"
    check_free_space(folder, 1.5 * 2**30, purpose="export")
    check_free_space(folder, 2**30, purpose="the search", reserve_gib=1.0)
    with pytest.raises(
        Interruption, match=r"the search writes about 1.5 GiB, and 1 GiB must stay free.*has 2 GiB free"
    ):
        check_free_space(folder, 1.5 * 2**30, purpose="the search", reserve_gib=1.0)
    assert list(tmp_path.iterdir()) == []
