"""Trackers at work: each in a daemon thread of its own, behind a bounded queue.

What a command observes is put into the queues and forgotten. A tracker that raises an error, does not keep up, or hangs
is dropped with a line that says why; the command goes on. The identifier of a tracked run and its last generation are
kept in ``trackers/NAME.json`` of the run directory, so a run that is resumed goes on in the same tracked run, and no
generation is reported twice.
"""

from __future__ import annotations

import json
import queue
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self, final

from evorec.config import ExecutionConfig
from evorec.errors import Interruption, RunError
from evorec.run.atomic import read_sealed, write_sealed
from evorec.run.directory import RunDirectory
from evorec.serving.bundle import read_bundle
from evorec.tracking.tracker import TRACKERS, TrackedModel, TrackedRun, Tracker, TrackerOptions, tracker_options

QUEUE: Final = 1000
"""Reports that may wait for a tracker; more, and it does not keep up."""
INTERRUPTED_S: Final = 2.0
"""Longest wait for trackers of a command that a signal has ended: schedulers kill soon after it."""
THREAD: Final = "evorec tracker"
"""Beginning of the names of the threads."""
STATE: Final = "trackers"
"""Folder of the run directory."""

MakeFiles = Callable[[Path], None]
"""Writes files about a run into an empty folder."""


@final
@dataclass(frozen=True)
class _Generation:
    step: int
    metrics: Mapping[str, float]


@final
@dataclass(frozen=True)
class _Files:
    make: MakeFiles


@final
@dataclass(frozen=True)
class _End:
    status: str


@final
class _Worker(threading.Thread):
    """The thread of a tracker.

    Attributes:
        tracker: its name.
    """

    def __init__(self, tracker: str, options: TrackerOptions, run: TrackedRun, say: Callable[[str], None]) -> None:
        super().__init__(name=f"{THREAD} {tracker}", daemon=True)
        self.tracker, self._options, self._run, self._say = tracker, options, run, say
        self._reports: queue.Queue[_Generation | _Files | TrackedModel | _End] = queue.Queue(QUEUE)
        self._dropped = threading.Event()

    def put(self, report: _Generation | _Files | TrackedModel | _End) -> None:
        """Report without waiting."""
        if self._dropped.is_set():
            return
        try:
            self._reports.put_nowait(report)
        except queue.Full:
            self.drop(f"it does not keep up: {QUEUE} reports wait for it")

    def drop(self, why: str) -> None:
        """Report nothing more to it."""
        if not self._dropped.is_set():
            self._dropped.set()
            self._say(f"tracker {self.tracker}: {why}; the run goes on without it")

    def run(self) -> None:
        try:
            self._track()
        except (Exception, SystemExit) as error:  # of a library, which may raise anything
            kind = TRACKERS[self.tracker]
            why = " ".join(f"{type(error).__name__}: {error}".split())
            if isinstance(error, ImportError) and kind.needs:
                why += f" (pip install {kind.needs}, or evorec[track])"
            self.drop(why)

    def _track(self) -> None:
        file = self._run.path / STATE / f"{self.tracker}.json"
        state: dict[str, Any] = {}
        with suppress(RunError):  # none yet, or damaged: the run is tracked anew
            state = read_sealed(file, "identifier", "step")
        tracker: Tracker = TRACKERS[self.tracker].make(self._options)
        state = {"step": state.get("step", 0), "identifier": tracker.begin(self._run, state.get("identifier"))}
        self._store(file, state)
        while not self._dropped.is_set():
            report = self._reports.get()
            if isinstance(report, _Generation):
                if report.step > state["step"]:
                    tracker.generation(report.step, report.metrics)
                    state["step"] = report.step
                    self._store(file, state)
            elif isinstance(report, _Files):
                folder = Path(tempfile.mkdtemp(prefix="evorec-"))
                try:
                    report.make(folder)
                    for made in sorted(folder.iterdir()):
                        tracker.artifact(made)
                finally:
                    shutil.rmtree(folder, ignore_errors=True)
            elif isinstance(report, TrackedModel):
                tracker.model(report)
            else:
                tracker.end(report.status)
                return

    def _store(self, file: Path, state: Mapping[str, Any]) -> None:
        with suppress(FileExistsError):
            file.parent.mkdir()
        write_sealed(file, state)


@final
class Observers:
    """The trackers of a run, for the time of a command. Use it as a context manager, which ends them.

    No method waits for a tracker, except the end of the context: `ExecutionConfig.tracker_wait_s` at most.
    """

    def __init__(self, run: TrackedRun, config: ExecutionConfig, *, say: Callable[[str], None]) -> None:
        """Start a thread per tracker.

        Args:
            run: the run.
            config: names and settings of the trackers.
            say: takes a line about a tracker that is dropped; called from its thread.
        Raises:
            ConfigError: a tracker is unknown, or a setting of it is wrong.
        """
        self._wait_s = config.tracker_wait_s
        self._workers = [_Worker(name, options, run, say) for name, options in tracker_options(config).items()]
        for worker in self._workers:
            worker.start()

    @classmethod
    def of(cls, run: RunDirectory, config: ExecutionConfig, *, say: Callable[[str], None]) -> Self:
        """The trackers of a run directory."""
        settings = run.config.model_dump(mode="json")
        tags = {"fingerprint": run.fingerprint, **{f"environment.{k}": v for k, v in _flat(run.environment).items()}}
        name = run.name or run.path.name
        return cls(TrackedRun(run.path, name, run.config.problem_name, _flat(settings), tags), config, say=say)

    def generation(self, step: int, metrics: Mapping[str, float]) -> None:
        """Figures after a generation; see `Tracker.generation`."""
        self._put(_Generation(step, metrics))

    def files(self, make: MakeFiles) -> None:
        """Files about the run, which each tracker makes for itself when it comes to it."""
        self._put(_Files(make))

    def model(self, model: TrackedModel) -> None:
        """A bundle was exported or promoted."""
        self._put(model)

    def close(self, status: str) -> None:
        """End all trackers and wait for them."""
        self._put(_End(status))
        until = time.monotonic() + (self._wait_s if status == "finished" else min(self._wait_s, INTERRUPTED_S))
        for worker in self._workers:
            worker.join(max(until - time.monotonic(), 0.0))
            if worker.is_alive():
                worker.drop("it has not finished in time")

    def _put(self, report: _Generation | _Files | TrackedModel | _End) -> None:
        for worker in self._workers:
            worker.put(report)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        status = "failed" if kind else "finished"
        self.close("interrupted" if kind and issubclass(kind, Interruption) else status)


def track_model(run: RunDirectory, bundle: Path, alias: str, *, say: Callable[[str], None]) -> None:
    """Tell the trackers of a run that a bundle was exported or promoted.

    Args:
        run: the run, may be open read-only.
        bundle: its folder.
        alias: `CHALLENGER` or `CHAMPION`.
        say: takes a line about a tracker that fails.
    """
    config = run.config.run
    if not config.trackers:
        return
    found = read_bundle(bundle)
    measured = found.manifest.get("metrics") or {}
    metrics = {
        f"{part}/{name}": float(value)
        for part in ("validation", "test")
        for name, value in (measured.get(part) or {}).items()
        if isinstance(value, int | float)
    }
    model = TrackedModel(found.path, found.version, alias, str(found.manifest.get("member", "")), metrics)
    with Observers.of(run, config, say=say) as observers:
        observers.model(model)


def stuck() -> bool:
    """Whether the thread of a tracker is still running, which libraries would wait for at the end of the process."""
    return any(thread.name.startswith(THREAD) for thread in threading.enumerate())


def _flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Dotted names and JSON texts."""
    flat: dict[str, str] = {}
    for name, value in settings.items():
        if isinstance(value, Mapping) and value:
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = value if isinstance(value, str) else json.dumps(value)
    return flat
