"""The folder of the nights: what each has done, so that any start goes on where the last one stopped.

    lock                         held while a night runs
    summary.json  junit.xml  evorec.prom    of the last start that was not skipped
    models/                      champion, challenger and their log (`evorec.serving.model_folder`)
    runs/DATE-KEY/               a night
        plan.json                its key, number, and the genomes that its search begins with; a folder without it is no
                                 night
        data.json                profile of the data and outcome of the checks
        search/PROBLEM-HASH/     the run directory; search/memory/ has its rows for later nights
        bundle/                  the challenger
        decision.json            verdict: canonical JSON with its SHA-256
        summary.json  junit.xml  the end of the night; only a summary with state "done" ends it
        spent.json               seconds of each step, over all starts
        events.jsonl             starts, steps and ends with their time, for people

Nights are ordered by their number, never by the clock, which may be set back.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, Final, Self, final

from evorec.config import RecommenderConfig
from evorec.errors import RunError
from evorec.run.atomic import read_sealed, write_atomic, write_json, write_sealed
from evorec.run.directory import RunDirectory
from evorec.serving.model_folder import canonical_json

FORMAT: Final = 1
RUNS: Final = "runs"
SUMMARY, JUNIT, PROMETHEUS = "summary.json", "junit.xml", "evorec.prom"
PLAN, DATA, SEARCH, BUNDLE, DECISION, SPENT, EVENTS = (
    "plan.json", "data.json", "search", "bundle", "decision.json", "spent.json", "events.jsonl",
)  # fmt: skip
DONE: Final = "done"
DIGITS: Final = 12
SPENT_EVERY_S: Final = 5.0
"""Seconds between two records of the time that a step has taken: what a kill -9 makes the budget forget."""
Json = dict[str, Any]


def settings_sha256(config: RecommenderConfig) -> str:
    """Hash of the settings that decide what a night finds and promotes, without places, reports and limits of data.

    Example:
        >>> other = RecommenderConfig().nightly.model_copy(update={"folder": "elsewhere"})
        >>> settings_sha256(RecommenderConfig()) == settings_sha256(RecommenderConfig(nightly=other))
        True
    """
    gate = {"pick", "target", "guards", "latency_ms", "carried"}
    settings = {
        **config.result_settings(),
        "search": config.search.model_dump(mode="json"),
        "finalize": config.finalize.model_dump(mode="json"),
        "nightly": config.nightly.model_dump(mode="json", include=gate),
    }
    return hashlib.sha256(canonical_json(settings).encode()).hexdigest()


@final
@dataclass(frozen=True)
class Key:
    """What a night is about; two starts with equal keys are the same night.

    Attributes:
        day: in UTC, which no change of clocks repeats or skips.
        settings: `settings_sha256`.
        data: hash of the data.
    """

    day: date
    settings: str
    data: str

    @property
    def name(self) -> str:
        """Name of the folder."""
        text = json.dumps([self.day.isoformat(), self.settings, self.data])
        return f"{self.day.isoformat()}-{hashlib.sha256(text.encode()).hexdigest()[:DIGITS]}"


@final
class Night:
    """A night on disk.

    Attributes:
        path: its folder.
        plan: `PLAN`: ``key``, ``number``, ``day``, ``settings_sha256``, ``data_sha256``, ``start``.
    """

    def __init__(self, path: Path, plan: Mapping[str, Any]) -> None:
        self.path, self.plan = path, plan
        self.number, self.key = int(plan["number"]), str(plan["key"])

    @classmethod
    def open(cls, path: Path) -> Self:
        """A night that `begin` made.

        Raises:
            RunError: the plan is damaged.
        """
        advice = f"delete {path}, and the night begins anew"
        return cls(path, read_sealed(path / PLAN, "key", "number", "settings_sha256", "data_sha256", advice=advice))

    @classmethod
    def begin(cls, path: Path, plan: Mapping[str, Any]) -> Self:
        """Make the folder of a night; whatever lies there without a plan is removed."""
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir(parents=True)
        write_sealed(path / PLAN, {"format": FORMAT, **plan})
        return cls.open(path)

    @property
    def summary(self) -> Json | None:
        """How the night ended; ``None`` before, or if the file is damaged, so that the night is done again."""
        try:
            return read_sealed(self.path / SUMMARY, "state") if (self.path / SUMMARY).exists() else None
        except RunError:
            return None

    @property
    def is_done(self) -> bool:
        """Whether nothing is left to do."""
        return (self.summary or {}).get("state") == DONE

    def read(self, name: str, *required: str) -> Json | None:
        """A file of a step; ``None`` if the step has not ended, or if the file is damaged, so that it is done again."""
        try:
            return read_sealed(self.path / name, *required) if (self.path / name).exists() else None
        except RunError:
            return None

    def write(self, name: str, value: Mapping[str, Any]) -> None:
        """Write the file of a step, whole or not at all."""
        write_sealed(self.path / name, value)

    @property
    def decision(self) -> Json | None:
        """The verdict; ``None`` before the gate, or if the record was changed."""
        file = self.path / DECISION
        try:
            entry = json.loads(file.read_bytes())
            sha256 = entry.pop("sha256")
        except (OSError, ValueError, AttributeError, KeyError):
            return None
        return entry if hashlib.sha256(canonical_json(entry).encode()).hexdigest() == sha256 else None

    def write_decision(self, decision: str) -> None:
        """Store the verdict.

        Args:
            decision: `evorec.serving.model_folder.sealed_line`.
        """
        write_atomic(self.path / DECISION, decision.encode())

    @property
    def search(self) -> Path | None:
        """The run directory; ``None`` before the search."""
        found = [folder for folder in sorted((self.path / SEARCH).glob("*-*")) if RunDirectory.exists(folder)]
        return found[0] if found else None

    @property
    def seconds(self) -> dict[str, float]:
        """Seconds of each step until now, over all starts."""
        try:
            found = json.loads((self.path / SPENT).read_bytes())
            return {str(name): float(value) for name, value in found.items()}
        except (OSError, ValueError, AttributeError, TypeError):
            return {}

    def log(self, kind: str, **facts: object) -> None:
        """Append a line to the events."""
        line = json.dumps({"time": now().isoformat(timespec="milliseconds"), "kind": kind, **facts}, ensure_ascii=False)
        with (self.path / EVENTS).open("a", encoding="utf-8") as file:
            file.write(line + "\n")


def now() -> datetime:
    """The time of day, which may jump; durations and order never come from it."""
    return datetime.now(UTC)


def nights(root: Path) -> list[Night]:
    """All nights of a folder, in the order of their beginning; folders with a damaged plan are left out."""
    found = []
    for path in sorted((root / RUNS).iterdir()) if (root / RUNS).is_dir() else ():
        if (path / PLAN).exists():
            try:
                found.append(Night.open(path))
            except RunError:
                continue
    return sorted(found, key=lambda night: night.number)


@final
class Stopwatch:
    """Seconds of the steps of a night, over all of its starts, as `Night.seconds` has them.

    Args:
        night: of the steps.
        lead_s: seconds of this start before the night was known.
    """

    def __init__(self, night: Night, *, lead_s: float) -> None:
        self._night, self._seconds = night, night.seconds
        self._seconds["read"] = self._seconds.get("read", 0.0) + lead_s
        self._running: tuple[str, float] | None = None
        self._written_s = time.monotonic()
        self._write()

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Count the time of a block."""
        self._night.log("step", step=name)
        self._running = (name, time.monotonic())
        try:
            yield
        finally:
            self._seconds, self._running = self.now, None
            self._write()

    @property
    def now(self) -> dict[str, float]:
        """Seconds of each step, with those of the running step."""
        if self._running is None:
            return dict(self._seconds)
        name, since = self._running
        return {**self._seconds, name: self._seconds.get(name, 0.0) + time.monotonic() - since}

    @property
    def total_s(self) -> float:
        """Seconds of all steps until now."""
        return sum(self.now.values())

    def tick(self) -> None:
        """Record the time of the running step now and then."""
        if time.monotonic() - self._written_s >= SPENT_EVERY_S:
            self._write()

    def _write(self) -> None:
        self._written_s = time.monotonic()
        write_json(self._night.path / SPENT, self.now)
