import math
import sqlite3
from dataclasses import replace

import pytest

from evorec.errors import RunError
from evorec.ledger import Evaluation, Ledger

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
FAILED = replace(GOOD, seq=1, key="00000000000000bb", metrics=None, failure="the loss is not finite")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "ledger.sqlite"


def test_ledger_returns_what_was_added_after_it_is_opened_again(path):
    ledger = Ledger(path)
    ledger.add([FAILED, GOOD])
    ledger.record_event(2, "interrupted", {"why": "signal"})
    ledger.close()

    again = Ledger(path)

    assert again.evaluations() == [GOOD, FAILED]
    assert again.events() == [(2, "interrupted", {"why": "signal"})]
    again.close()


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


def test_ledger_of_another_format_is_refused(path):
    database = sqlite3.connect(path)
    database.execute("PRAGMA user_version = 99")
    database.close()
    with pytest.raises(RunError, match="has format 99; this evorec reads format 1"):
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
