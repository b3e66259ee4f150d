"""The champion of a folder is always a whole, checked bundle, whatever dies and when."""

import hashlib
import os
import shutil
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import pytest

from evorec.errors import Interruption, RunError, RunLockedError
from evorec.outputs import lock_file
from evorec.serving import model_folder as module
from evorec.serving.model_folder import ModelFolder


class Death(BaseException):
    """The end of the process."""


def read_small_bundle(path):
    """A bundle of a single file, whose hash is its version, in place of `evorec.serving.bundle.read_bundle`."""
    folder = Path(path).resolve()
    try:
        version = hashlib.sha256((folder / "model").read_bytes()).hexdigest()
        if (folder / "sha256").read_text() != version:
            raise RunError(f"bundle {folder} is damaged")
    except FileNotFoundError:
        raise RunError(f"bundle {folder} is missing a file") from None
    return SimpleNamespace(path=folder, version=version)


@pytest.fixture(autouse=True)
def small_bundles(monkeypatch):
    monkeypatch.setattr(module, "read_bundle", read_small_bundle)


def bundle(folder, content):
    folder.mkdir(parents=True)
    (folder / "model").write_text(content)
    (folder / "sha256").write_text(hashlib.sha256(content.encode()).hexdigest())
    return folder


@pytest.fixture
def bundles(tmp_path):
    return [bundle(tmp_path / "made" / name, name) for name in ("first", "second", "third")]


def served(folder):
    """Content of the champion, which must be whole."""
    return read_small_bundle(folder.path / "champion").path.joinpath("model").read_text()


def test_promotions_and_rollbacks_move_a_link(tmp_path, bundles):
    folder = ModelFolder(tmp_path / "models")
    assert folder.champion is None
    assert folder.champions() == []
    names = [folder.promote(one, reason=f"night {number}") for number, one in enumerate(bundles)]
    assert folder.champions() == names
    assert served(folder) == "third"
    assert folder.rollback(reason="complaints") == names[1]
    assert served(folder) == "second"
    assert folder.rollback() == names[0]
    with pytest.raises(RunError, match="has no champion before the current one"):
        folder.rollback()
    assert served(folder) == "first"
    shutil.rmtree(tmp_path / "made")
    kinds = [(entry["kind"], entry["bundle"], entry["previous"], entry["reason"]) for entry in folder.log()]
    assert kinds == [
        ("promote", names[0], None, "night 0"),
        ("promote", names[1], names[0], "night 1"),
        ("promote", names[2], names[1], "night 2"),
        ("rollback", names[1], names[2], "complaints"),
        ("rollback", names[0], names[1], ""),
    ]


def test_a_damaged_bundle_is_refused_and_the_champion_stays(tmp_path, bundles):
    folder = ModelFolder(tmp_path / "models")
    folder.promote(bundles[0])
    (bundles[1] / "model").write_text("other")
    with pytest.raises(RunError, match="is damaged"):
        folder.promote(bundles[1])
    assert served(folder) == "first"
    assert len(folder.log()) == 1


def test_a_copy_that_does_not_fit_on_the_disk_is_not_begun(tmp_path, bundles, monkeypatch):
    folder = ModelFolder(tmp_path / "models")
    folder.promote(bundles[0])
    monkeypatch.setattr("evorec.outputs.free_gib", lambda path: 0.0)
    with pytest.raises(Interruption, match="the copy of the bundle writes about"):
        folder.promote(bundles[1])
    assert served(folder) == "first"
    assert len(list((folder.path / "bundles").iterdir())) == 1


def test_a_damaged_earlier_champion_is_not_returned_to(tmp_path, bundles):
    folder = ModelFolder(tmp_path / "models")
    names = [folder.promote(one) for one in bundles[:2]]
    (folder.path / "bundles" / names[0] / "model").write_text("other")
    with pytest.raises(RunError, match="is damaged"):
        folder.rollback()
    assert served(folder) == "second"


def test_a_change_of_the_log_is_noticed(tmp_path, bundles):
    folder = ModelFolder(tmp_path / "models")
    folder.promote(bundles[0], reason="good")
    file = folder.path / "log.jsonl"
    file.write_text(file.read_text().replace("good", "best"))
    with pytest.raises(RunError, match=r"line 1 of .*log.jsonl has changed"):
        folder.promote(bundles[1])
    assert served(folder) == "first"


@pytest.mark.parametrize("target", ["/etc", "../made/first", "bundles/none"])
def test_a_link_that_leads_elsewhere_is_refused(target, tmp_path, bundles):
    folder = ModelFolder(tmp_path / "models")
    folder.promote(bundles[0])
    link = folder.path / "champion"
    link.unlink()
    link.symlink_to(target)
    with pytest.raises(RunError, match="must be a link to a folder of"):
        folder.promote(bundles[1])
    assert os.readlink(link) == target


def test_two_processes_do_not_change_a_folder_at_the_same_time(tmp_path, bundles):
    folder = ModelFolder(tmp_path / "models")
    folder.promote(bundles[0])
    lock = lock_file(folder.path / "lock")
    with pytest.raises(RunLockedError, match="another process changes"):
        folder.promote(bundles[1])
    os.close(lock)
    folder.promote(bundles[1])


def test_old_bundles_are_removed_unless_a_link_names_them(tmp_path, bundles):
    folder = ModelFolder(tmp_path / "models")
    more = [bundle(tmp_path / "more" / str(number), f"more {number}") for number in range(3)]
    names = [folder.promote(one) for one in [*bundles, *more]]
    (folder.path / "pinned").symlink_to(Path("bundles") / names[1])
    assert folder.retain(2, dry_run=True) == sorted([names[0], names[2], names[3]])
    assert len(list((folder.path / "bundles").iterdir())) == 6
    assert folder.retain(2) == sorted([names[0], names[2], names[3]])
    assert {path.name for path in (folder.path / "bundles").iterdir()} == {names[1], names[4], names[5]}
    assert folder.retain(2) == []
    folder.rollback()
    assert served(folder) == "more 1"
    with pytest.raises(RunError, match="at least 2 champions are kept"):
        folder.retain(1)


STEPS = (
    (module, "move_folder"), (module, "sync_path"), (module.shutil, "copytree"), (Path, "replace"),
    (Path, "symlink_to"), (Path, "unlink"), (os, "fsync"), (os, "truncate"),
)  # fmt: skip
"""Functions that touch the disk."""


class Killer:
    """Ends the process at one of the calls of `STEPS`, before the call has an effect or after.

    Attributes:
        died: whether it did.
    """

    def __init__(self, patch, step, when):
        self.died, self._n, self._step, self._when = False, 0, step, when
        for owner, name in STEPS:
            patch.setattr(owner, name, self._wrapped(getattr(owner, name)))

    def _wrapped(self, original):
        def call(*given, **facts):
            self._n += 1
            number = self._n
            if (number, self._when) == (self._step, "before"):
                self.died = True
                raise Death
            result = original(*given, **facts)
            if number == self._step:
                self.died = True
                raise Death
            return result

        return call


@pytest.mark.parametrize("act", ["promote", "rollback"])
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_death_at_any_step_leaves_a_whole_champion(act, when, tmp_path, bundles, monkeypatch):
    step, died = 0, True
    while died:
        step += 1
        folder = ModelFolder(tmp_path / f"models{step}")
        for one in bundles[:2]:
            folder.promote(one)
        with monkeypatch.context() as patch, suppress(Death):
            killer = Killer(patch, step, when)
            folder.promote(bundles[2]) if act == "promote" else folder.rollback()
        died = killer.died
        again = ModelFolder(folder.path)
        assert served(again) in (("second", "third") if act == "promote" else ("second", "first"))
        expected = again.champions()
        assert expected[-1] == again.champion
        # The next change finds the log whole, or completes it.
        last = again.promote(bundle(tmp_path / f"next{step}", f"next {step}"))
        assert again.champions() == [*expected, last]
    assert step > (6 if act == "promote" else 3)
