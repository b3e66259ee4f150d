"""The ledger of a run: every evaluation and event, in SQLite.

A resumed search proposes the same genomes again, and the ledger answers for those that were evaluated before.
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

from evorec.errors import Interruption, RunError

LEDGER_FORMAT = 2  # any other format is refused

_SCHEMA = f"""
BEGIN;
CREATE TABLE evaluations (
    seq INTEGER PRIMARY KEY,            -- order in which the algorithm proposed the genomes
    key TEXT NOT NULL UNIQUE,           -- of the spec: no spec is evaluated twice
    generation INTEGER NOT NULL,
    genome TEXT NOT NULL,
    spec TEXT NOT NULL,
    status TEXT NOT NULL CHECK (status IN ('ok', 'dropped', 'failed')),
    rung INTEGER                        -- steps after which it was dropped or failed; NULL: the whole training
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
_COLUMNS = (
    "seq", "key", "generation", "genome", "spec", "status", "rung", "metrics", "failure", "seconds", "extra",
)  # fmt: skip
_JSON = ("genome", "spec", "metrics", "extra")


Event = tuple[int, str, Mapping[str, Any]]
"""Generation, kind and payload, plain JSON."""


@dataclass(frozen=True)
class Evaluation:
    """A row of the ledger.

    Attributes:
        seq: order in which the algorithm proposed it, from 0.
        key: name of the spec, 16 hexadecimal digits (`SearchSpace.key`); also names the member.
        generation: from 1.
        genome: the snapped row of ``X``.
        spec: the decoded genome.
        metrics: finite values by name, measured at the rung if it was dropped there; None when the evaluation failed.
        failure: the cause when it failed, else None.
        seconds: wall time; the only field in which equal runs differ.
        extra: further facts from the problem, plain JSON.
        rung: steps after which it was dropped or failed; None for the whole training.
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
        """Whether it was dropped at a rung; its metrics cannot be compared with those of a whole training."""
        return self.rung is not None and self.metrics is not None

    @property
    def status(self) -> str:
        """``ok``, ``dropped`` at a rung, or ``failed``."""
        return "failed" if self.metrics is None else "dropped" if self.dropped else "ok"


@final
class Ledger:
    """Evaluations and events of a run in SQLite. Once `add` returns, its rows survive the end of the process.

    A single thread of a single process writes; other processes may read at the same time with ``read_only=True``.
    """

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        """Open a ledger, or create it.

        Args:
            path: the file.
            read_only: change nothing; the file must exist.
        Raises:
            RunError: the file is damaged or has another format.
        """
        self._name = str(path)
        address = f"file:{quote(str(path.absolute()))}"
        if read_only:
            # WAL needs a writable folder: on read-only media the file is opened as immutable.
            live = Path(f"{path}-wal").exists() or os.access(path.parent, os.W_OK)
            address += "?mode=ro" if live else "?immutable=1"
        with self._sqlite_errors():
            self._db = sqlite3.connect(address, uri=True)
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
            raise RunError(
                f"ledger {self._name} has format {version}; this evorec reads format {LEDGER_FORMAT}. Read it with the "
                "version of evorec that wrote it, or search into another folder"
            )
        fault = self._db.execute("PRAGMA quick_check(1)").fetchone()[0]
        if fault != "ok":
            raise self._damaged(fault)

    def add(self, evaluations: Iterable[Evaluation], *, event: Event | None = None) -> None:
        """Commit evaluations, and an event that belongs to them, in a single transaction.

        Raises:
            ValueError: a metric is NaN or infinite.
            RunError: a seq or key exists already, or the file cannot be written.
        """
        rows = [_to_row(evaluation) for evaluation in evaluations]
        with self._sqlite_errors(), self._db:
            self._db.executemany(f"INSERT INTO evaluations VALUES ({', '.join('?' * len(_COLUMNS))})", rows)
            if event is not None:
                self._insert(event)

    def evaluations(self) -> list[Evaluation]:
        """All evaluations, ordered by seq."""
        with self._sqlite_errors():
            rows = self._db.execute(f"SELECT {', '.join(_COLUMNS)} FROM evaluations ORDER BY seq").fetchall()
        try:
            return [_from_row(row) for row in rows]
        except (TypeError, ValueError) as error:
            raise self._damaged(f"a row is not JSON: {error}") from None

    def record_event(self, generation: int, kind: str, payload: Mapping[str, Any]) -> None:
        """Commit an event that a clock, a signal or a machine caused, so that a replay can repeat it."""
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

    def _damaged(self, fault: object) -> RunError:
        return RunError(
            f"ledger {self._name} is damaged ({fault}); restore it from a copy, or search into another folder"
        )

    @contextmanager
    def _sqlite_errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            if getattr(error, "sqlite_errorname", "") == "SQLITE_FULL":  # the run can go on once there is room
                raise Interruption(
                    f"ledger {self._name}: {error}; make room and resume the run, committed evaluations are kept"
                ) from error
            if isinstance(error, sqlite3.OperationalError | sqlite3.IntegrityError):
                hint = " (is the disk full, or the folder not writable?)" if "I/O" in str(error) else ""
                raise RunError(f"ledger {self._name}: {error}{hint}; committed evaluations are kept") from error
            raise self._damaged(error) from error


def _to_row(evaluation: Evaluation) -> tuple[Any, ...]:
    values = {**vars(evaluation), "status": evaluation.status}
    return tuple(
        _dumps(values[name]) if name in _JSON and values[name] is not None else values[name] for name in _COLUMNS
    )


def _from_row(row: tuple[Any, ...]) -> Evaluation:
    values = dict(zip(_COLUMNS, row, strict=True))
    del values["status"]  # follows from metrics and rung
    values |= {name: json.loads(values[name]) for name in _JSON if values[name] is not None}
    return Evaluation(**{**values, "genome": tuple(values["genome"])})


def _dumps(value: object) -> str:
    return json.dumps(value, allow_nan=False, ensure_ascii=False)
