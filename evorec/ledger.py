"""The ledger of a run: every evaluation and event, in SQLite.

It is the memory of a run: what a search asks again, the ledger answers.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, final
from urllib.parse import quote

from evorec.errors import Interrupted, RunError

LEDGER_FORMAT = 2  # every other one is refused

_SCHEMA = f"""
BEGIN;
CREATE TABLE evaluations (
    seq INTEGER PRIMARY KEY,            -- position in the order of asking
    key TEXT NOT NULL UNIQUE,           -- of the spec: no spec is evaluated twice
    generation INTEGER NOT NULL,
    genome TEXT NOT NULL,
    spec TEXT NOT NULL,
    status TEXT NOT NULL CHECK (status IN ('ok', 'dropped', 'failed')),
    rung INTEGER                        -- steps after which it was dropped or failed; NULL: in the whole training
        CHECK (CASE status WHEN 'ok' THEN rung IS NULL WHEN 'dropped' THEN rung IS NOT NULL ELSE 1 END),
    metrics TEXT CHECK ((metrics IS NOT NULL) = (status <> 'failed')),
    failure TEXT CHECK ((failure IS NOT NULL) = (status = 'failed')),
    seconds REAL NOT NULL,
    extra TEXT NOT NULL
) STRICT;
CREATE TABLE events (
    id INTEGER PRIMARY KEY,
    generation INTEGER NOT NULL,
    kind TEXT NOT NULL,
    payload TEXT NOT NULL
) STRICT;
PRAGMA user_version = {LEDGER_FORMAT};
COMMIT;
"""


Event = tuple[int, str, Mapping[str, Any]]
"""Generation, kind and payload, plain JSON."""


@dataclass(frozen=True)
class Evaluation:
    """One row of the ledger.

    Attributes:
        seq: position in the order of asking, from 0.
        key: name of the spec, 16 hexadecimal digits (`SearchSpace.key`); also names the member.
        generation: from 1.
        genome: the snapped row of ``X``.
        spec: the decoded genome.
        metrics: finite values by name, of the rung when it was dropped there; None when the evaluation failed.
        failure: the cause when it failed, else None.
        seconds: wall time; the only field in which equal runs differ.
        extra: further facts from the problem, plain JSON.
        rung: steps after which it was dropped, or failed to be compared; None for the whole training.
    """

    seq: int
    key: str
    generation: int
    genome: tuple[float, ...]
    spec: Mapping[str, Any]
    metrics: Mapping[str, float] | None
    failure: str | None
    seconds: float = 0.0
    extra: Mapping[str, Any] = field(default_factory=dict)
    rung: int | None = None

    @property
    def dropped(self) -> bool:
        """Whether it was dropped at a rung: its metrics cannot be compared with those of a whole training."""
        return self.rung is not None and self.metrics is not None


@final
class Ledger:
    """Evaluations and events of one run in SQLite; what `add` returned from survives the process.

    One thread of one process writes; anybody may read meanwhile with ``read_only=True``.
    """

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        """Open a ledger, or start it when there is none.

        Args:
            path: the file.
            read_only: change nothing; the file must exist.
        Raises:
            RunError: the file is damaged or of another format.
        """
        self._name = str(path)
        with self._sqlite_errors():
            self._db = sqlite3.connect(_address(path, read_only), uri=True)
        try:
            with self._sqlite_errors():
                self._prepare(read_only)
        except RunError:
            self._db.close()
            raise

    def _prepare(self, read_only: bool) -> None:
        version = self._db.execute("PRAGMA user_version").fetchone()[0]
        if not read_only:
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = FULL")
            if version == 0:
                self._db.executescript(_SCHEMA)
                version = LEDGER_FORMAT
        if version != LEDGER_FORMAT:
            raise RunError(f"ledger {self._name} has format {version}; this evorec reads format {LEDGER_FORMAT}")
        fault = self._db.execute("PRAGMA quick_check(1)").fetchone()[0]
        if fault != "ok":
            raise RunError(f"ledger {self._name} is damaged ({fault}); restore it, or search into another folder")

    def add(self, evaluations: Iterable[Evaluation], *, event: Event | None = None) -> None:
        """Commit evaluations, and the event behind them if there is one, in one transaction: all of it or nothing.

        Raises:
            ValueError: a metric is NaN or infinite.
            RunError: a seq or key is already there, or the file cannot be written.
        """
        rows = [_to_row(evaluation) for evaluation in evaluations]
        with self._sqlite_errors(), self._db:
            self._db.executemany("INSERT INTO evaluations VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", rows)
            if event is not None:
                self._insert(event)

    def evaluations(self) -> list[Evaluation]:
        """All evaluations, in the order of asking."""
        with self._sqlite_errors():
            rows = self._db.execute("SELECT * FROM evaluations ORDER BY seq").fetchall()
        try:
            return [_from_row(row) for row in rows]
        except (TypeError, ValueError) as error:
            raise RunError(
                f"ledger {self._name} is damaged (a row is not JSON: {error}); restore it from a copy, or search into "
                "another folder"
            ) from None

    def record_event(self, generation: int, kind: str, payload: Mapping[str, Any]) -> None:
        """Commit something that a clock, a signal or a machine caused, so that a replay can know it."""
        with self._sqlite_errors(), self._db:
            self._insert((generation, kind, payload))

    def _insert(self, event: Event) -> None:
        generation, kind, payload = event
        row = (generation, kind, _dumps(payload))
        self._db.execute("INSERT INTO events (generation, kind, payload) VALUES (?, ?, ?)", row)

    def events(self) -> list[tuple[int, str, dict[str, Any]]]:
        """All events as (generation, kind, payload), in the order of recording."""
        with self._sqlite_errors():
            rows = self._db.execute("SELECT generation, kind, payload FROM events ORDER BY id").fetchall()
        return [(generation, kind, json.loads(payload)) for generation, kind, payload in rows]

    def close(self) -> None:
        """Close the file; the ledger cannot be used afterwards."""
        self._db.close()

    @contextmanager
    def _sqlite_errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise _explained(self._name, error) from error


def _explained(name: str, error: sqlite3.Error) -> RunError | Interrupted:
    """The message of an error of SQLite; a full disk can be cured, and then the run goes on."""
    if getattr(error, "sqlite_errorname", "") == "SQLITE_FULL":
        return Interrupted(f"ledger {name}: {error}; make room and resume the run, what was committed is kept")
    if isinstance(error, sqlite3.OperationalError | sqlite3.IntegrityError):
        hint = " (is the disk full, or the folder not writable?)" if "I/O" in str(error) else ""
        return RunError(f"ledger {name}: {error}{hint}; what was committed before is untouched")
    return RunError(f"ledger {name} is damaged ({error}); restore it from a copy, or search into another folder")


def _address(path: Path, read_only: bool) -> str:
    """SQLite URI of a ledger; on read-only media it is opened as immutable, as WAL needs a writable folder."""
    if not read_only:
        return f"file:{quote(str(path.absolute()))}"
    live = Path(f"{path}-wal").exists() or os.access(path.parent, os.W_OK)
    return f"file:{quote(str(path.absolute()))}?" + ("mode=ro" if live else "immutable=1")


def _to_row(evaluation: Evaluation) -> tuple[Any, ...]:
    measured = evaluation.metrics is not None
    return (
        evaluation.seq,
        evaluation.key,
        evaluation.generation,
        _dumps(list(evaluation.genome)),
        _dumps(evaluation.spec),
        "dropped" if evaluation.dropped else "ok" if measured else "failed",
        evaluation.rung,
        _dumps(evaluation.metrics) if measured else None,
        evaluation.failure,
        evaluation.seconds,
        _dumps(evaluation.extra),
    )


def _from_row(row: tuple[Any, ...]) -> Evaluation:
    seq, key, generation, genome, spec, _, rung, metrics, failure, seconds, extra = row
    return Evaluation(
        seq=seq,
        key=key,
        generation=generation,
        genome=tuple(json.loads(genome)),
        spec=json.loads(spec),
        metrics=None if metrics is None else json.loads(metrics),
        failure=failure,
        seconds=seconds,
        extra=json.loads(extra),
        rung=rung,
    )


def _dumps(value: object) -> str:
    return json.dumps(value, allow_nan=False, ensure_ascii=False)
