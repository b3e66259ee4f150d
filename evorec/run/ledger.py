"""The ledger of a run: every evaluation and event, in SQLite.

A resumed search proposes the same genomes again, and the ledger answers for those that were evaluated before.

An event is a row with a number, the generation in which it happened, its kind and a JSON object. A reader ignores kinds
that it does not know, so new kinds need no new format. The kinds of this version, with their objects:

* ``halving``: ``rung`` steps, ``kept`` metrics by key of the members that passed it;
* ``interrupted``: empty, a signal stopped the search;
* ``in_flight``: ``keys`` of the genomes that a start trains now to a ``rung``, null = to the end, ``start``, its name,
  and ``workers``, how many stacks at once; ``isolated``, true: in worker processes. In its own process, where a genome
  can end the start: again with ``dropped``, true, if a signal ended their training, or without keys after an error;
* ``retried``: ``failures``: causes by key of evaluations that were deleted, to be evaluated again;
* ``time``: ``minutes``, the limit of a start that ended the search after this generation;
* ``extension``: the limits from now on (``generations``, ``evaluations``, ``flops``, ``gain``), and ``before`` with the
  former limits;
* ``opened``: the test was measured: ``picks`` with their members, number of ``seeds``, ``settings`` and ``opened_at``;
* ``fresh``: trainings of members with a fresh seed: ``number`` of the seed, from 0, ``seed``, and ``rows``: by key
  ``metrics`` or the cause of ``failure``, and ``seconds``;
* ``surrogate``: of a generation with a surrogate: ``chosen``, genomes by source; ``skill``, rank correlation by model;
  ``hypervolume``, the 10th, 50th and 90th percentile of the hypervolume that was expected after it; ``predicted``, in
  the first generation of a search that starts from earlier ones, by key the objectives that were expected;
* ``from_scratch``: ``metrics`` by key of members whose weights were inherited and that were trained again from fresh
  weights when the search ended; null = that training failed;
* ``energy``: ``joules`` by source by key of evaluations that were committed; several events of a key add up;
* ``acknowledged``: of a steady-state search: ``keys`` of the genomes that the algorithm learned together, with this
  event; ``asked``, how many genomes it was asked for since the last such event, each time;
* ``machine``: ``environment`` of a machine that continues the run, and its ``differences`` in words.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar, final
from urllib.parse import quote

from evorec.errors import Interruption, RunError, disk_is_full

LEDGER_FORMAT = 3
WITHOUT_HASHES = 2  # the format of earlier versions, which is only read; any other format is refused
KEY = re.compile(r"[0-9a-f]{16}")
"""The key of a genome; it also names files, so nothing else is one."""

_TABLES = """
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
    extra TEXT NOT NULL,
    sha256 TEXT NOT NULL                -- of the other columns, see `_row_sha256`
) STRICT;
CREATE TABLE events (
    seq INTEGER PRIMARY KEY,            -- order of recording
    generation INTEGER NOT NULL,        -- in which it happened; 0: before the search went on
    kind TEXT NOT NULL,
    payload TEXT NOT NULL,              -- a JSON object
    sha256 TEXT NOT NULL
) STRICT;
"""
_COLUMNS = (
    "seq", "key", "generation", "genome", "spec", "status", "rung", "metrics", "failure", "seconds", "extra",
)  # fmt: skip
_JSON = ("genome", "spec", "metrics", "extra")


PROBE_BYTES = 1 << 16
"""More than a page of SQLite and than a block of a disk."""
HALVING, INTERRUPTED, TIME, EXTENSION, MACHINE = "halving", "interrupted", "time", "extension", "machine"
IN_FLIGHT, RETRIED, ENERGY = "in_flight", "retried", "energy"
OPENED = "opened"
SURROGATE, SPENT, FRESH = "surrogate", "spent", "fresh"
FROM_SCRATCH, ACKNOWLEDGED = "from_scratch", "acknowledged"
"""Kinds of events."""
T = TypeVar("T")
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
        extra: further facts from the problem, plain JSON. Where weights are inherited: ``weights_sha256`` of its own
            weights; ``parent``, key and ``weights_sha256`` of the evaluation whose weights it inherited; ``inherited``,
            the metrics with inherited weights, once `metrics` are those from scratch.
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
    def inherits(self) -> bool:
        """Whether its training began with the weights of another evaluation, and its metrics are of that training."""
        return "parent" in self.extra and "inherited" not in self.extra

    def from_scratch(self, metrics: Mapping[str, float]) -> Evaluation:
        """The evaluation with the metrics of a training from scratch; `extra` keeps those with inherited weights."""
        return replace(self, metrics=metrics, extra={**self.extra, "inherited": self.metrics})

    @property
    def dropped(self) -> bool:
        """Whether it was dropped at a rung; its metrics cannot be compared with those of a whole training."""
        return self.rung is not None and self.metrics is not None

    @property
    def status(self) -> str:
        """``ok``, ``dropped`` at a rung, or ``failed``."""
        return "failed" if self.metrics is None else "dropped" if self.dropped else "ok"


@final
class NotBegunError(RunError):
    """The process that made a ledger died, or had no room, before its first transaction."""


@final
class Ledger:
    """Evaluations and events of a run in SQLite. Once `add` returns, its rows survive the end of the process.

    A single thread of a single process writes; other processes may read at the same time with ``read_only=True``.
    """

    def __init__(
        self, path: Path, *, read_only: bool = False, before_commit: Callable[[], None] = lambda: None
    ) -> None:
        """Open a ledger, or create it.

        Args:
            path: the file.
            read_only: change nothing; the file must exist.
            before_commit: called before rows are committed; its exception keeps them out.
        Raises:
            RunError: the file is damaged or has another format.
            NotBegunError: `read_only`, and nothing was ever committed.
        """
        self._name, self._before_commit = str(path), before_commit
        address = f"file:{quote(os.fsencode(path.absolute()))}"
        if read_only:
            # WAL needs a writable folder: on read-only media the file is opened as immutable.
            live = Path(f"{path}-wal").exists() or os.access(path.parent, os.W_OK)
            address += "?mode=ro" if live else "?immutable=1"
        with self._sqlite_errors():
            self._db = sqlite3.connect(address, uri=True)
        self._db.text_factory = lambda data: data.decode(errors="replace")  # a damaged text has another hash
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
                self._db.executescript(f"BEGIN; {_TABLES} PRAGMA user_version = {LEDGER_FORMAT}; COMMIT;")
                version = LEDGER_FORMAT
        if version == 0 and not self._db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
            raise NotBegunError(f"ledger {self._name} is empty")
        if version not in (WITHOUT_HASHES, LEDGER_FORMAT):
            raise RunError(
                f"ledger {self._name} has format {version}; this evorec reads format {LEDGER_FORMAT}. Read it with the "
                "version of evorec that wrote it, or search into another folder"
            )
        self._has_hashes = version == LEDGER_FORMAT
        self._db.execute("PRAGMA trusted_schema = OFF")
        made = self._db.execute("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL").fetchall()
        found = sorted(_without_comments(sql) for (sql,) in made)
        whole = found == sorted(map(_without_comments, _TABLES.split(";\n")[:-1]))
        if not whole if self._has_hashes else len(found) != 2 or any(" sha256 " in sql for sql in found):
            raise self._damaged("its tables are not those of a ledger")
        fault = self._db.execute("PRAGMA quick_check(1)").fetchone()[0]
        if fault != "ok":
            raise self._damaged(fault)

    def add(self, evaluations: Iterable[Evaluation], *, events: Iterable[Event] = ()) -> None:
        """Commit evaluations, and events that belong to them, in a single transaction.

        Raises:
            ValueError: a metric is NaN or infinite.
            RunError: a seq or key exists already, or the file cannot be written.
        """
        rows = [_to_row(evaluation) for evaluation in evaluations]
        with self._transaction():
            self._db.executemany(f"INSERT INTO evaluations VALUES ({', '.join('?' * (len(_COLUMNS) + 1))})", rows)
            for event in events:
                self._insert(event)

    def forget(self, evaluations: Sequence[Evaluation], *, whole: bool) -> None:
        """Delete failed evaluations of a generation, so that they are evaluated again; an event keeps their causes.

        Args:
            evaluations: all of the same generation, at least 1.
            whole: whether they are the whole generation, which is then compared at its rungs, or acknowledged, again.
        """
        generation = evaluations[0].generation
        with self._transaction():
            self._db.executemany("DELETE FROM evaluations WHERE seq = ?", [(found.seq,) for found in evaluations])
            if whole:
                where = "generation = ? AND kind IN (?, ?)"
                self._db.execute(f"DELETE FROM events WHERE {where}", (generation, HALVING, ACKNOWLEDGED))
            self._insert((generation, RETRIED, {"failures": {found.key: found.failure for found in evaluations}}))

    def evaluations(self) -> list[Evaluation]:
        """All evaluations, ordered by seq; the hash of every row is checked."""
        return [self._parsed(row, _from_row) for row in self._rows("evaluations", _COLUMNS)]

    def record_event(self, generation: int, kind: str, payload: Mapping[str, Any]) -> None:
        """Commit an event that a clock, a signal, a person or a machine caused, so that a replay can repeat it."""
        with self._transaction():
            self._insert((generation, kind, payload))

    def _insert(self, event: Event) -> None:
        generation, kind, payload = event
        seq = self._db.execute("SELECT coalesce(max(seq), 0) + 1 FROM events").fetchone()[0]
        row = (seq, generation, kind, _dumps(payload))
        self._db.execute("INSERT INTO events VALUES (?, ?, ?, ?, ?)", (*row, _row_sha256(row)))

    def events(self) -> list[tuple[int, str, dict[str, Any]]]:
        """All events as (generation, kind, payload), in the order of recording; the hash of every row is checked."""
        seq = "seq" if self._has_hashes else "id"
        rows = self._rows("events", (seq, "generation", "kind", "payload"))
        return [self._parsed(row, lambda row: (row[1], row[2], dict(json.loads(row[3])))) for row in rows]

    def _rows(self, table: str, columns: Sequence[str]) -> Iterator[tuple[Any, ...]]:
        """Rows in the order of the first column, without their hash."""
        names = ", ".join((*columns, *(["sha256"] if self._has_hashes else [])))
        with self._sqlite_errors():
            rows = self._db.execute(f"SELECT {names} FROM {table} ORDER BY 1").fetchall()
        for *values, sha256 in rows if self._has_hashes else ((*row, None) for row in rows):
            if sha256 is not None and sha256 != _row_sha256(values):
                raise self._damaged(f"row {values[0]} of {table} has changed since it was written")
            yield tuple(values)

    def _parsed(self, row: tuple[Any, ...], parse: Callable[[tuple[Any, ...]], T]) -> T:
        try:
            return parse(row)
        except (TypeError, ValueError, RecursionError) as error:
            raise self._damaged(f"row {row[0]} cannot be read: {error}") from None

    @property
    def changed(self) -> float:
        """When a search last wrote to the ledger, in seconds since the epoch, while it goes on."""
        times = [0.0]
        for file in (self._name, f"{self._name}-wal"):
            with suppress(FileNotFoundError):
                times.append(os.stat(file).st_mtime)
        return max(times)

    def close(self) -> None:
        """Close the file; the ledger cannot be used afterwards."""
        self._db.close()

    def _damaged(self, fault: object) -> RunError:
        return RunError(
            f"ledger {self._name} is damaged ({fault}); restore it from a copy, or search into another folder"
        )

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        """A block whose rows are committed together at its end."""
        if not self._has_hashes:
            raise RunError(
                f"ledger {self._name} has format {WITHOUT_HASHES}, of an earlier version of evorec, and is only read; "
                "end the search with that version, or search into another folder"
            )
        with self._sqlite_errors(), self._db:
            yield
            self._before_commit()

    @contextmanager
    def _sqlite_errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            name = getattr(error, "sqlite_errorname", "")
            # The run can go on once there is room. SQLite reports a full quota as an I/O error without its number.
            if name == "SQLITE_FULL" or (name.startswith("SQLITE_IOERR") and not _has_room(Path(self._name))):
                raise Interruption(
                    f"ledger {self._name}: {error}; make room and resume the run, committed evaluations are kept"
                ) from error
            if isinstance(error, sqlite3.OperationalError | sqlite3.IntegrityError):
                hint = " (is the disk full, or the folder not writable?)" if "I/O" in str(error) else ""
                raise RunError(f"ledger {self._name}: {error}{hint}; committed evaluations are kept") from error
            raise self._damaged(error) from error


def _has_room(path: Path) -> bool:
    """Whether the folder of a file takes some more bytes, also in a file as large as this, or as its log."""
    probe = path.with_name(f"{path.name}.probe")
    logs = (path, Path(f"{path}-wal"))
    try:
        with probe.open("xb") as file:
            file.seek(max(log.stat().st_size for log in logs if log.exists()))
            file.write(bytes(PROBE_BYTES))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        return not disk_is_full(error)
    finally:
        with suppress(OSError):
            probe.unlink()
    return True


def _to_row(evaluation: Evaluation) -> tuple[Any, ...]:
    values = {**vars(evaluation), "status": evaluation.status, "seconds": float(evaluation.seconds)}
    row = tuple(
        _dumps(values[name]) if name in _JSON and values[name] is not None else values[name] for name in _COLUMNS
    )
    return (*row, _row_sha256(row))


def _from_row(row: tuple[Any, ...]) -> Evaluation:
    values = dict(zip(_COLUMNS, row, strict=True))
    if not KEY.fullmatch(values["key"]):
        raise ValueError(f"a key must be 16 hexadecimal digits, got {values['key']!r}")
    del values["status"]  # follows from metrics and rung
    values |= {name: json.loads(values[name]) for name in _JSON if values[name] is not None}
    if not all(isinstance(values[name], dict) for name in ("spec", "extra")):
        raise ValueError("spec and extra must be JSON objects")
    return Evaluation(**{**values, "genome": tuple(values["genome"])})


def _without_comments(sql: str) -> str:
    return " ".join(re.sub("--.*", "", sql).split())


def _row_sha256(row: Sequence[Any]) -> str:
    """SHA-256 of the stored values of a row, as a JSON list; no two rows of a table have an equal first value."""
    return hashlib.sha256(_dumps(list(row)).encode()).hexdigest()


def _dumps(value: object) -> str:
    return json.dumps(value, allow_nan=False, ensure_ascii=False)
