"""The bundle that is served can be exchanged while it serves, and only for one that works."""

import math
import shutil
import threading
import time

import pytest
from serving.stand_in import StandIn, load_stand_in, write_stand_in

from evorec.errors import RunError
from evorec.serving.slot import Slot

SOON_S = 600.0
"""Far more than the watcher needs, on a machine that others use too."""
POLL_S = 0.01


@pytest.fixture
def notes():
    return []


@pytest.fixture
def slot(tmp_path, notes):
    """Serves ``one`` through the link ``current``."""
    write_stand_in(tmp_path / "one", version="v1")
    (tmp_path / "current").symlink_to("one")
    slot = Slot(tmp_path / "current", load_stand_in, note=notes.append)
    slot.open()
    return slot


def point(link, target):
    """Moves a link in one step."""
    new = link.with_name("new link")
    new.symlink_to(target)
    new.rename(link)


def until(condition):
    end = time.monotonic() + SOON_S
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.005)


def test_an_empty_slot_is_not_ready(tmp_path):
    assert not Slot(tmp_path, load_stand_in).ready


def test_opened_it_is_ready(slot):
    assert slot.ready
    assert (slot.current.version, slot.swaps, slot.refused) == ("v1", 0, 0)
    assert abs(slot.loaded_at - time.time()) < SOON_S


def test_a_first_bundle_that_is_damaged_is_an_error(tmp_path):
    slot = Slot(write_stand_in(tmp_path / "one", damaged=True), load_stand_in)
    with pytest.raises(RunError, match="is damaged"):
        slot.open()
    assert not slot.ready


def test_an_unchanged_pointer_loads_nothing(slot):
    first = slot.current
    assert not slot.look()
    assert slot.current is first


def test_a_moved_link_is_followed(slot, tmp_path, notes):
    write_stand_in(tmp_path / "two", version="v2")
    point(tmp_path / "current", "two")
    assert slot.look()
    assert (slot.current.version, slot.swaps, slot.refused) == ("v2", 1, 0)
    assert notes == [f"now serving {tmp_path / 'two'}, version v2"]


def test_a_replaced_folder_is_followed(tmp_path):
    slot = Slot(write_stand_in(tmp_path / "one", version="v1"), load_stand_in)
    slot.open()
    write_stand_in(tmp_path / "two", version="v2")
    (tmp_path / "one").rename(tmp_path / "old")
    assert not slot.look()  # there is nothing in the middle of it, and the old one stays
    assert (slot.current.version, slot.refused) == ("v1", 0)
    (tmp_path / "two").rename(tmp_path / "one")
    assert slot.look()
    assert slot.current.version == "v2"


def test_the_new_bundle_has_answered_before_it_is_put_in(slot, tmp_path):
    write_stand_in(tmp_path / "two", version="v2")
    point(tmp_path / "current", "two")
    slot.look()
    assert len(slot.current.asked) == 1


def test_a_damaged_bundle_is_refused_once_and_the_old_bundle_stays(slot, tmp_path, notes):
    loads = []
    slot._load = lambda path: loads.append(path) or load_stand_in(path)
    first = slot.current
    write_stand_in(tmp_path / "two", damaged=True)
    point(tmp_path / "current", "two")
    assert [slot.look() for _ in range(3)] == [False] * 3
    assert loads == [tmp_path / "two"]
    assert (slot.current, slot.swaps, slot.refused) == (first, 0, 1)
    assert slot.ready
    assert len(notes) == 1
    assert "was refused, the previous bundle stays" in notes[0]


def test_a_refused_bundle_is_tried_again_when_a_file_of_it_changes(slot, tmp_path):
    write_stand_in(tmp_path / "two", damaged=True)
    point(tmp_path / "current", "two")
    slot.look()
    (tmp_path / "two" / "manifest.json").write_text('{"version": "v2"}')
    assert slot.look()
    assert slot.current.version == "v2"


def test_a_bundle_whose_scores_are_not_finite_is_refused(slot, tmp_path, notes):
    write_stand_in(tmp_path / "two", version="v2", scores=math.nan)
    point(tmp_path / "current", "two")
    assert not slot.look()
    assert "not finite" in notes[0]


def test_an_error_of_a_library_refuses_the_bundle_and_not_the_server(slot, tmp_path, notes):
    class Foreign(Exception):
        pass

    def load(path):
        raise Foreign("graph has no input")

    slot._load = load
    point(tmp_path / "current", write_stand_in(tmp_path / "two"))
    assert not slot.look()
    assert slot.refused == 1
    assert "cannot be used: Foreign('graph has no input')" in notes[0]


def test_a_forced_look_loads_an_unchanged_bundle(slot):
    first = slot.current
    assert slot.look(again=True)
    assert slot.current is not first


def test_the_watcher_follows_by_itself_and_ends(slot, tmp_path):
    write_stand_in(tmp_path / "two", version="v2")
    with slot.watched(POLL_S):
        point(tmp_path / "current", "two")
        until(lambda: slot.current.version == "v2")
        assert slot.ready
    assert not slot.ready
    assert "evorec bundle watcher" not in {thread.name for thread in threading.enumerate()}


def test_look_soon_wakes_the_watcher(slot, tmp_path):
    write_stand_in(tmp_path / "two", version="v2")
    with slot.watched(1000 * SOON_S):
        point(tmp_path / "current", "two")
        slot.look_soon()
        until(lambda: slot.current.version == "v2")


def test_a_deleted_pointer_keeps_the_recommender(slot, tmp_path):
    shutil.rmtree(tmp_path / "one")
    assert not slot.look()
    assert isinstance(slot.current, StandIn)
    assert slot.ready
