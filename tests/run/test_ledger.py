import math
import sqlite3
from dataclasses import replace

import pytest

from evorec.errors import RunError
from evorec.run.ledger import Evaluation, Ledger

GOOD = Evaluation(
    seq=0,
    key="00000000000000aa",
    generation=1,
    genome=(0.1, -3.0),
    spec={"rate": 0.1, "method": "tree"},
    metrics={"quality": 0.1 + 0.2},  # 0.30000000000000004: every digit must come back
    failure=None,
    seconds=0.5,
    extra={"n_parameters": 64},
)
DROPPED = replace(GOOD, seq=2, key="00000000000000cc", rung=100)
FAILED = replace(GOOD, seq=1, key="00000000000000bb", metrics=None, failure="the loss is not finite")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "ledger.sqlite"


def test_ledger_returns_what_was_added_after_it_is_opened_again(path):
    ledger = Ledger(path)
    ledger.add([FAILED, DROPPED, GOOD])
    ledger.record_event(2, "interrupted", {"why": "signal"})
    ledger.close()

    again = Ledger(path)

    assert again.evaluations() == [GOOD, FAILED, DROPPED]
    assert again.events() == [(2, "interrupted", {"why": "signal"})]
    again.close()


def test_rows_say_what_became_of_the_evaluation(path):
    ledger = Ledger(path)
    ledger.add([GOOD, FAILED, DROPPED, replace(FAILED, seq=3, key="00000000000000dd", rung=100)])
    ledger.close()
    database = sqlite3.connect(path)
    rows = database.execute("SELECT status, rung FROM evaluations ORDER BY seq").fetchall()
    database.close()
    assert rows == [("ok", None), ("failed", None), ("dropped", 100), ("failed", 100)]
    assert [row.dropped for row in (GOOD, FAILED, DROPPED)] == [False, False, True]


@pytest.mark.parametrize(("status", "rung"), [("ok", 100), ("dropped", None), ("unknown", None)])
def test_ledger_refuses_a_status_that_does_not_fit(status, rung, path):
    Ledger(path).close()
    database = sqlite3.connect(path)
    values = (0, "aa", 1, "[]", "{}", status, rung, "{}", None, 0.0, "{}", "")
    with pytest.raises(sqlite3.IntegrityError, match="CHECK constraint failed"):
        database.execute("INSERT INTO evaluations VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", values)
    database.close()


def test_an_event_is_committed_with_its_evaluations_or_not_at_all(path):
    ledger = Ledger(path)
    ledger.add([DROPPED], events=[(1, "halving", {"rung": 100})])
    with pytest.raises(RunError, match=r"UNIQUE constraint failed"):
        ledger.add([DROPPED], events=[(2, "halving", {"rung": 100})])
    with pytest.raises(ValueError, match="not JSON compliant"):
        ledger.add([GOOD], events=[(2, "halving", {"rung": math.nan})])
    assert ledger.evaluations() == [DROPPED]
    assert ledger.events() == [(1, "halving", {"rung": 100})]
    ledger.close()


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_ledger_refuses_a_metric_that_is_not_finite(value, path):
    ledger = Ledger(path)
    with pytest.raises(ValueError, match="not JSON compliant"):
        ledger.add([replace(GOOD, metrics={"quality": value})])
    assert ledger.evaluations() == []
    ledger.close()


def test_ledger_refuses_an_evaluation_that_is_neither_good_nor_failed(path):
    ledger = Ledger(path)
    with pytest.raises(RunError, match="CHECK constraint failed"):
        ledger.add([replace(GOOD, metrics=None)])
    ledger.close()


def test_ledger_adds_a_group_whole_or_not_at_all(path):
    ledger = Ledger(path)
    ledger.add([GOOD])
    with pytest.raises(RunError, match=r"UNIQUE constraint failed: evaluations\.key"):
        ledger.add([FAILED, replace(GOOD, seq=2)])
    assert ledger.evaluations() == [GOOD]
    ledger.close()


def test_reader_sees_a_running_search_and_cannot_write(path):
    writer = Ledger(path)
    writer.add([GOOD])
    reader = Ledger(path, read_only=True)

    assert reader.evaluations() == [GOOD]
    with pytest.raises(RunError, match="readonly database"):
        reader.add([FAILED])

    reader.close()
    writer.close()


def test_damaged_ledger_is_refused(path):
    path.write_bytes(b"no database" * 1000)
    with pytest.raises(RunError, match=r"ledger.sqlite is damaged .file is not a database"):
        Ledger(path)


@pytest.mark.parametrize("version", [1, 99])
def test_ledger_of_another_format_is_refused(version, path):
    database = sqlite3.connect(path)
    database.execute(f"PRAGMA user_version = {version}")
    database.close()
    with pytest.raises(RunError, match=f"has format {version}; this evorec reads format 3"):
        Ledger(path)


def test_ledger_on_read_only_media_is_read(path, monkeypatch):
    ledger = Ledger(path)
    ledger.add([GOOD])
    ledger.close()
    before = sorted(path.parent.iterdir())
    monkeypatch.setattr("os.access", lambda *_: False)
    reader = Ledger(path, read_only=True)
    assert reader.evaluations() == [GOOD]
    assert sorted(path.parent.iterdir()) == before == [path]
    reader.close()


def test_reader_of_a_closed_ledger_reads_all_of_it(path):
    ledger = Ledger(path)
    ledger.add([GOOD])
    ledger.close()
    reader = Ledger(path, read_only=True)
    assert reader.evaluations() == [GOOD]
    reader.close()
    Ledger(path).close()  # a writer takes over whatever files the reader left
    assert sorted(path.parent.iterdir()) == [path]
