"""The directory of a run: lock, configuration, environment, ledger, archive, final models, formulas and report.

Layout of format 2, every file of which is written whole or not at all::

    config.json  manifest.json     configuration; fingerprint and environment
    problem.json                   objectives with their box, constraints, baselines, facts of the data
    memory.parquet                 rows of earlier searches that the search starts from; may be missing
    ledger.sqlite  log.jsonl       evaluations and events; a log for people
    archive/KEY/                   member.json and weights.safetensors of every member
    parents/                       weights that later genomes may inherit, by their hash; removed when the search ends
    summary.json                   result of the search; marks the run as finished
    final.json  final/KEY/         report and models of `finalize`
    all-data.json  all-data/KEY/   models of `finalize --on all-data`
    fusion/KEY.json                formulas of `fuse`
    ensembles.json                 ensembles of members, by `evorec ensemble`
    trackers/NAME.json             identifier of the run in a tracker, and the last generation that it knows
    report.html  name.json  lock

Everything that is read back has a hash that is checked when it is read: a JSON file ends with its own
(`evorec.run.atomic.sealed_bytes`), a row of the ledger has a column, and the hash of weights is in the JSON file about
them. The hashes detect damage and edits, not forgery. Format 1 had hashes of weights only; such runs are still read.

A run holds no links, and names that come from a file of it are checked before they become part of a path: whoever made
the folder cannot make a command write or delete outside of it.

A resumed search proposes the same genomes again and finds their evaluations in the ledger, so no other state is
saved, and nothing is ever unpickled.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import shutil
import socket
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any, Self, final

import numpy as np

from evorec.config import RunConfig, SearchConfig, stored_config
from evorec.config.search import LIMITS
from evorec.energy import total
from evorec.errors import ConfigError, RunError, command
from evorec.objectives import without_clock
from evorec.outputs import sync_path
from evorec.run.atomic import (
    COPY,
    json_bytes,
    read_bytes,
    read_sealed,
    read_weights,
    refuse_links,
    sealed_bytes,
    sha256_of,
    weight_bytes,
    write_atomic,
    write_sealed,
    write_synced,
)
from evorec.run.ledger import (
    ENERGY,
    EXTENSION,
    FRESH,
    FROM_SCRATCH,
    INTERRUPTED,
    KEY,
    MACHINE,
    OPENED,
    SPENT,
    TIME,
    Evaluation,
    Ledger,
    NotBegunError,
)
from evorec.run.lock import LOCK, FolderLock, is_locked, refuse_locked

FORMAT = 2
_SHA256 = re.compile(r"[0-9a-f]{64}")
WITHOUT_HASHES = 1  # the format of earlier versions, which is still read; any other format is refused
FUSION_FORMAT = 1
ENSEMBLES_FORMAT = 1
ENSEMBLE = re.compile(r"e-[0-9a-f]{12}")
"""The key of an ensemble, which is no key of a genome."""

_CONFIG, _MANIFEST, _PROBLEM, _LEDGER = "config.json", "manifest.json", "problem.json", "ledger.sqlite"
_NAME, _MEMORY = "name.json", "memory.parquet"
_SUMMARY, _FINAL, _LOG, _REPORT = "summary.json", "final.json", "log.jsonl", "report.html"
_ALL_DATA, _FINAL_MODELS, _ALL_DATA_MODELS = "all-data.json", "final", "all-data"
_PARENTS, _ENSEMBLES = "parents", "ensembles.json"
_MEMBER, _WEIGHTS = "member.json", "weights.safetensors"
_IN_PLACE = (_LEDGER, f"{_LEDGER}-wal", f"{_LEDGER}-shm", _LOG, LOCK)
_NO_RUN = f"{COPY}, or delete the run and search again"
_LIBRARIES = ("evorec", "numpy", "scipy", "polars", "torch", "pymoo", "moocore")


@final
class RunDirectory:
    """A run on disk; while it is open for writing, a lock keeps other processes out. Use it as a context manager.

    The archive holds members only: the files of a candidate are staged before its evaluation enters the ledger, and
    `set_members` moves them into the archive once the generation is complete. So every member in the ledger has its
    files, whenever the process dies.

    Attributes:
        path: the folder.
        fingerprint: hash of all settings and data that can change a result (`RunConfig.fingerprint`).
        environment: everything else that results depend on: versions, device, number type.
        format: of the directory, `FORMAT` or `WITHOUT_HASHES`.
        ledger: all evaluations.
    """

    def __init__(self, path: Path, *, lock: FolderLock | None) -> None:
        """Use `create` or `open`; `lock` is the held lock, None for a reader."""
        self.path = path
        self._archive = path / "archive"
        self._staging = self._archive / ".staged"
        self._lock = lock
        self._whole: set[tuple[str, str]] = set()  # key and hash of weights that were written or checked
        self._config: RunConfig | None = None
        self._model_sha256: dict[tuple[str, str], str] = {}
        try:
            refuse_links(path, written_in_place=() if lock is None else _IN_PLACE)
            if lock is not None:
                # leftovers of a killed process
                for name in (_CONFIG, _MANIFEST, _PROBLEM, _SUMMARY, _FINAL, _ALL_DATA, _ENSEMBLES):
                    (path / f"{name}.tmp").unlink(missing_ok=True)
                for leftover in self._staging.glob("*.tmp"):
                    if KEY.fullmatch(leftover.stem):
                        shutil.rmtree(leftover)
                self._staging.mkdir(parents=True, exist_ok=True)
            stored = read_sealed(path / _MANIFEST, sealed=False, advice=_NO_RUN)
            if stored.get("format") not in (WITHOUT_HASHES, FORMAT):
                raise RunError(
                    f"run {path} has format {stored.get('format')}; this evorec reads format {FORMAT}. Read it with "
                    "the version of evorec that wrote it, or search again"
                )
            self.format = int(stored["format"])
            self._sealed = self.format == FORMAT
            stored = read_sealed(path / _MANIFEST, "fingerprint", "environment", sealed=self._sealed, advice=_NO_RUN)
            self.fingerprint = str(stored["fingerprint"])
            self.environment: Mapping[str, Any] = stored["environment"]
            self.ledger = self._open_ledger()
            self._apply_extensions()
        except BaseException:
            self._release()
            raise

    @classmethod
    def create(cls, root: Path | str, *, config: RunConfig, fingerprint: str, environment: Mapping[str, Any]) -> Self:
        """Start a run in `run_path(root, config, fingerprint)` and hold its lock.

        Args:
            root: folder of all runs.
            config: the whole configuration, `RunConfig.sized`.
            fingerprint: `config.fingerprint(data_sha256)`.
            environment: of the problem, e.g. device and number type; versions are added.
        Raises:
            RunError: the run exists, finished or not; the message says what to type.
            RunLockedError: another process holds it.
        """
        path = run_path(Path(root), config, fingerprint)
        path.mkdir(parents=True, exist_ok=True)
        lock = FolderLock(path)
        try:
            refuse_links(path, written_in_place=_IN_PLACE)
            if (path / _SUMMARY).exists():
                raise RunError(f"run {path} is finished; {command('front', path)} shows it, delete it to search again")
            if cls.exists(path):
                raise RunError(f"run {path} was started before; {command('resume', path)} goes on with it")
            write_sealed(path / _CONFIG, config.model_dump(mode="json"))
            # The manifest comes last: a folder without it never was a run and is started afresh.
            whole = _with_versions(environment)
            write_sealed(path / _MANIFEST, {"format": FORMAT, "fingerprint": fingerprint, "environment": whole})
        except BaseException:
            lock.release()
            raise
        return cls(path, lock=lock)

    @classmethod
    def open(cls, path: Path | str, *, read_only: bool = False) -> Self:
        """Open a run that `create` made; leftovers of a killed process are removed.

        Args:
            path: the run directory.
            read_only: take no lock and change nothing, also while a search goes on in another process.
        Raises:
            RunError: the folder is not a run, is damaged, or has another format.
            RunLockedError: another process holds it.
        """
        path = Path(path)
        _check_run(path)
        return cls(path, lock=None if read_only else FolderLock(path))

    @classmethod
    def check_start(
        cls, path: Path, *, config: RunConfig, data_sha256: str, environment: Callable[[], Mapping[str, Any]] | None
    ) -> None:
        """Refuse what a search in this folder would refuse; nothing is written.

        Args:
            path: the run directory, which may not exist.
            config, data_sha256: of the search.
            environment: of its problem; called if the run was begun; ``None`` = any machine may continue it.
        Raises:
            RunError: the run was made with other settings, data or software.
            RunLockedError: another process holds it.
        """
        refuse_locked(path)
        if not (cls.exists(path) and (path / _LEDGER).is_file()):
            return
        with suppress(NotBegunError), cls.open(path, read_only=True) as run:
            complete = environment is None or (run.finished and not run.lost())
            fingerprint = run.fingerprint_of(config, data_sha256)
            now = None if complete or environment is None else environment()
            run.check_same(config=config, fingerprint=fingerprint, environment=now)

    @staticmethod
    def exists(path: Path | str) -> bool:
        """Whether `create` made a run in this folder."""
        return (Path(path) / _MANIFEST).is_file()

    def __repr__(self) -> str:
        return f"RunDirectory({str(self.path)!r}, {'read-only' if self._lock is None else 'open for writing'})"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the ledger and release the lock."""
        self.ledger.close()
        self._release()

    def _release(self) -> None:
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def _check_held(self) -> None:
        """Called before every write, see `FolderLock.check`."""
        if self._lock is not None:
            self._lock.check()

    def _open_ledger(self) -> Ledger:
        """The ledger; never an empty file in its stead."""
        file = self.path / _LEDGER
        if not (file.is_file() and file.stat().st_size):
            if (self.path / _PROBLEM).exists() or (self.path / _SUMMARY).exists():
                raise RunError(f"run {self.path} has lost its {_LEDGER}; {_NO_RUN}")
            if self._lock is None:
                raise self._not_begun()
        try:
            return Ledger(file, read_only=self._lock is None, before_commit=self._check_held)
        except NotBegunError:
            raise self._not_begun() from None

    def _not_begun(self) -> NotBegunError:
        return NotBegunError(
            f"run {self.path} was stopped before its first evaluation; {command('resume', self.path)} goes on with it"
        )

    def _apply_extensions(self) -> None:
        """Read the extensions of the ledger."""
        events = self.ledger.events()
        extensions = [(number, payload) for number, (_, kind, payload) in enumerate(events) if kind == EXTENSION]
        last, limits = extensions[-1] if extensions else (-1, {})
        self._n_extensions = len(extensions)
        self._ended = next((generation for generation, kind, _ in events[last + 1 :] if kind == TIME), None)
        self._extended = {name: limits[name] for name in LIMITS if name in limits}
        self._config = None

    @property
    def config(self) -> RunConfig:
        """The configuration that the run was started with, with the limits of the last extension.

        Its plugins are imported at the first use, so that a run can be listed without running code that it names.
        """
        if self._config is None:
            stored = read_config(self.path)
            search = stored.search.model_copy(update=self._extended)
            self._config = stored.model_copy(update={"search": search})
        return self._config

    @property
    def finished(self) -> bool:
        """Whether the search has ended and was not extended since."""
        return (self.path / _SUMMARY).exists() and (self._read_summary().get("n_extensions", 0) == self._n_extensions)

    @property
    def ended(self) -> int | None:
        """The generation after which a limit of time ended the search; None: it did not, or the run was extended."""
        return self._ended

    @property
    def spent_s(self) -> float:
        """Seconds of all starts of the search since it was last extended, without the time between them."""
        seconds = 0.0
        for _, kind, payload in self.ledger.events():
            if kind in (SPENT, INTERRUPTED):
                seconds = payload.get("seconds", seconds)
            elif kind == EXTENSION:
                seconds = 0.0
        return seconds

    def is_within(self, search: SearchConfig) -> bool:
        """Whether a finished search has reached these limits already, so that nothing is left to evaluate.

        Args:
            search: with other limits than the run; a limit of time counts only where it ended the run.
        """
        summary = self._read_summary()
        generations, evaluations = len(summary["hypervolume_share"]), int(summary["n_evaluated"])
        if summary["exhausted"] or search.generations <= generations or 0 < search.evaluations <= evaluations:
            return True
        return {name: getattr(search, name) for name in LIMITS} == self._limits()

    def extend(self, search: SearchConfig, *, generation: int) -> None:
        """Record other limits of the search, which makes the run unfinished.

        Args:
            search: the limits.
            generation: that is evaluated next.
        Raises:
            RunError: the test was opened.
        """
        self.check_extensible()
        limits = {name: getattr(search, name) for name in LIMITS}
        self.ledger.record_event(generation, EXTENSION, {**limits, "before": self._limits()})
        self._apply_extensions()

    def end(self, *, generation: int, minutes: float) -> None:
        """Record that a limit of time ends the search after a generation."""
        self.ledger.record_event(generation, TIME, {"minutes": minutes})
        self._apply_extensions()

    def check_extensible(self) -> None:
        """Check that the test was not opened: a longer search would choose after it.

        Raises:
            RunError: it was.
        """
        if (self.path / _FINAL).exists() or self.opened is not None:
            raise RunError(
                f"run {self.path} cannot be extended: its test was opened (`evorec finalize`), and members found later "
                "would be chosen after it. Search into another folder (--set run.output=FOLDER)"
            )

    def _limits(self) -> dict[str, float]:
        return {name: getattr(self.config.search, name) for name in LIMITS}

    def fingerprint_of(self, config: RunConfig, data_sha256: str) -> str:
        """The fingerprint that a configuration and data have in the format of this run."""
        return config.fingerprint(data_sha256, with_generations=self.format == WITHOUT_HASHES)

    @property
    def machines(self) -> list[str]:
        """Differences of the further machines that worked on the run, in words; empty = a single machine."""
        return [line for _, kind, payload in self.ledger.events() if kind == MACHINE for line in payload["differences"]]

    def check_same(
        self,
        *,
        config: RunConfig,
        fingerprint: str,
        environment: Mapping[str, Any] | None,
        allow_different_machine: bool = False,
    ) -> None:
        """Refuse to go on with other settings, other data or other software.

        Args:
            config: the present configuration.
            fingerprint: of the present configuration and data.
            environment: of the present problem; None when nothing will be computed.
            allow_different_machine: record another processor, device or software as an event of the ledger instead of
                refusing it; results are then no longer equal bit by bit to those of a single machine.
        Raises:
            RunError: lists every difference.
        """
        differences = _differences(self.config.result_settings(), config.result_settings())
        if not differences and fingerprint != self.fingerprint:
            differences = [
                f"the data set, a plugin or the file of the problem has changed since, or {_CONFIG} was edited"
            ]
        advice = "Search into another folder (--set run.output=FOLDER), or delete the run and search again."
        if environment is not None and not differences:
            now = _with_versions(environment)
            further = [payload["environment"] for _, kind, payload in self.ledger.events() if kind == MACHINE]
            if now not in (self.environment, *further):
                differences = _differences(self.environment, now)
            if differences and self.environment.get("precision") == now.get("precision"):
                if allow_different_machine:
                    self.ledger.record_event(0, MACHINE, {"environment": now, "differences": differences})
                    return
                advice = (
                    "--allow-different-machine goes on all the same: the results are then no longer equal bit by bit "
                    f"to those of a single machine, and every report says so. {advice}"
                )
        if differences:
            listed = "\n".join(f"  {line}" for line in differences)
            raise RunError(f"run {self.path} cannot go on, its results would mix:\n{listed}\n{advice}")

    @property
    def name(self) -> str | None:
        """The name that a person gave to the run."""
        return run_name(self.path)

    def rename(self, name: str) -> None:
        """Name the run, which can then be used in place of its folder.

        Raises:
            ConfigError: see `check_name`.
        """
        check_name(self.path, name)
        self._check_held()
        write_sealed(self.path / _NAME, {"name": name})

    @staticmethod
    def is_held(path: Path) -> bool:
        """Whether a process writes to a run."""
        return is_locked(path)

    @staticmethod
    def has_begun(path: Path) -> bool:
        """Whether a run has evaluated anything, or is damaged; False: it was stopped before."""
        if not RunDirectory.exists(path) or any(os.path.lexists(path / name) for name in (_PROBLEM, _SUMMARY)):
            return True
        if not os.path.lexists(path / _LEDGER):
            return False
        try:
            with RunDirectory.open(path, read_only=True) as run:
                return bool(run.ledger.evaluations())
        except NotBegunError:
            return False

    def pin_problem(self, description: Mapping[str, Any]) -> None:
        """Store the description of the problem at the first start; later, refuse other objectives or constraints.

        Args:
            description: with ``objectives``, ``constraints`` and ``baselines``, which may be empty if `has_problem`,
                and ``memory`` if `write_memory` stored
                rows: ``rows`` and ``worlds``, their numbers; plain JSON.
        Raises:
            RunError: lists every difference.
        """
        if not (self.path / _PROBLEM).exists():
            self._check_held()
            if description.get("memory"):
                memory = {**description["memory"], "sha256": sha256_of(self.path / _MEMORY)}
                description = {**description, "memory": memory}
            write_sealed(self.path / _PROBLEM, description)
            return
        differences = _differences(_goals(self.read_problem()), _goals(json.loads(json_bytes(description))))
        if differences:
            listed = "\n".join(f"  {line}" for line in differences)
            raise RunError(f"run {self.path} cannot go on, the problem has changed:\n{listed}\nStart a new search.")

    @property
    def has_problem(self) -> bool:
        """Whether `pin_problem` stored a description."""
        return (self.path / _PROBLEM).exists()

    def read_problem(self) -> dict[str, Any]:
        """The description that `pin_problem` stored: objectives with their box, constraints, metrics of the baselines.

        Raises:
            RunError: the run has none yet, or has lost it.
        """
        if not (self.path / _PROBLEM).exists():
            if self.finished:
                raise RunError(f"run {self.path} has lost its {_PROBLEM}; {command('resume', self.path)} restores it")
            raise self._not_begun()
        advice = f"{COPY}, or delete it and {command('resume', self.path)} writes it again"
        return self._read(self.path / _PROBLEM, "objectives", "constraints", "baselines", advice=advice)

    def write_memory(self, data: bytes) -> None:
        """Store the rows of earlier searches that the search starts from, before `pin_problem`."""
        self._check_held()
        write_synced(self.path / _MEMORY, data)

    def read_memory(self) -> bytes | None:
        """The rows that `write_memory` stored; None if the search has not begun, or starts without any.

        Raises:
            RunError: the file is missing or damaged.
        """
        if not (self.path / _PROBLEM).exists():  # not begun, or the file is lost and `pin_problem` writes it again
            begun = (self.path / _MEMORY).exists() and self.ledger.evaluations()
            return read_bytes(self.path / _MEMORY, advice=_NO_RUN) if begun else None
        memory = self.read_problem().get("memory")
        if not memory:
            return None
        data = read_bytes(self.path / _MEMORY, advice=_NO_RUN)
        if hashlib.sha256(data).hexdigest() != memory["sha256"]:
            raise RunError(f"{self.path / _MEMORY} is damaged: its hash is not that of problem.json; {_NO_RUN}")
        return data

    @property
    def memory_text(self) -> str:
        """The rows of earlier searches that the search started from, in words; empty without any."""
        memory = self.read_problem().get("memory")
        if not memory:
            return ""
        return f"{memory['rows']:,} rows of {memory['worlds']} earlier searches, SHA-256 {memory['sha256'][:12]}"

    def _read(self, file: Path, *required: str, advice: str) -> dict[str, Any]:
        return read_sealed(file, *required, advice=advice, sealed=self._sealed)

    def stage(self, evaluation: Evaluation, weights: Mapping[str, np.ndarray] | None) -> None:
        """Write the files of a candidate before its evaluation enters the ledger.

        Args:
            evaluation: a successful evaluation.
            weights: arrays by name; None writes no weight file.
        """
        self._check_held()
        target = self._staging / evaluation.key
        partial = target.with_name(f"{evaluation.key}.tmp")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        sha256 = None
        if weights is not None:
            data, sha256 = weight_bytes(weights)
            write_synced(partial / _WEIGHTS, data)
            self._whole.add((evaluation.key, sha256))
        record = {"format": FORMAT, **asdict(evaluation), "weights_sha256": sha256}
        del record["seconds"], record["failure"]  # equal runs write equal bytes, so no times
        record["metrics"] = without_clock(evaluation.metrics or {})
        write_synced(partial / _MEMBER, sealed_bytes(record))
        sync_path(partial)
        shutil.rmtree(target, ignore_errors=True)
        partial.rename(target)
        sync_path(self._staging)

    def set_members(self, keys: Collection[str]) -> None:
        """Make the archive hold exactly these members, whose files are in it or staged."""
        self._check_held()
        if missing := self.without_files(keys):
            raise RunError(
                f"run {self.path}: no files of member {missing[0]}; {command('resume', self.path)} restores them"
            )
        for staged in _folders(self._staging):
            shutil.rmtree(self._archive / staged.name, ignore_errors=True)  # the staged files are newer
            staged.rename(self._archive / staged.name)
        for folder in _folders(self._archive):
            if folder.name not in keys:
                shutil.rmtree(folder)
        sync_path(self._archive)

    def without_files(self, keys: Collection[str]) -> list[str]:
        """Those of `keys` that have no files, neither in the archive nor staged."""
        folders = [*_folders(self._archive), *_folders(self._staging)]
        return sorted(set(keys) - {folder.name for folder in folders if self._is_whole(folder)})

    def lost(self) -> list[str]:
        """Deleted and damaged files and folders of a finished run; resuming the run makes them again."""
        summary = self.read_summary()
        if summary is None:
            return []
        members = [key for key in summary.get("members", ()) if not self._is_whole(self._archive / key)]
        return [_PROBLEM] * (not (self.path / _PROBLEM).exists()) + [f"archive/{key}" for key in members]

    def members(self) -> list[Evaluation]:
        """The members whose files are in the archive, ordered by seq; see `with_scratch` for their metrics."""
        present = {folder.name for folder in _folders(self._archive)}
        return self.with_scratch([found for found in self.ledger.evaluations() if found.key in present])

    def from_scratch(self) -> dict[str, Mapping[str, float] | None]:
        """Metrics from fresh weights of members that had inherited theirs, by key; None = that training failed."""
        found: dict[str, Mapping[str, float] | None] = {}
        for _, kind, payload in self.ledger.events():
            if kind == FROM_SCRATCH:
                found |= payload["metrics"]
        return found

    def with_scratch(self, evaluations: Sequence[Evaluation]) -> list[Evaluation]:
        """Evaluations with their metrics from fresh weights, where they were trained again so."""
        known = self.from_scratch()
        again = [(found, known.get(found.key)) for found in evaluations]
        return [found if metrics is None else found.from_scratch(metrics) for found, metrics in again]

    def write_parent(self, weights: Mapping[str, np.ndarray]) -> str:
        """Store weights that later genomes may inherit, before the ledger knows them; return their hash."""
        self._check_held()
        folder = self.path / _PARENTS
        if not folder.exists():
            folder.mkdir()
            sync_path(self.path)
        data, sha256 = weight_bytes(weights)
        write_atomic(folder / f"{sha256}.safetensors", data)
        return sha256

    def read_parent(self, sha256: str) -> dict[str, np.ndarray]:
        """The weights that `write_parent` stored.

        Raises:
            RunError: the file is missing or damaged, so that the search cannot go on.
        """
        if not _SHA256.fullmatch(sha256):
            raise RunError(f"run {self.path} is damaged: expected a SHA-256 of weights, got {sha256!r}; {COPY}")
        return read_weights(self.path / _PARENTS / f"{sha256}.safetensors", sha256, advice=_NO_RUN)

    def remove_parents(self) -> None:
        """Remove the weights that genomes could inherit: the search has ended."""
        self._check_held()
        shutil.rmtree(self.path / _PARENTS, ignore_errors=True)

    def read_weights(self, key: str) -> dict[str, np.ndarray]:
        """Weights of a member, empty when its problem trains nothing.

        Raises:
            RunError: there is no such member, a file of it is damaged or missing, or its weights are inherited: they
                are replaced by those of a training from scratch when the search ends.
        """
        folder = self._archive / key
        if folder not in _folders(self._archive) and f"archive/{key}" not in self.lost():
            known = ", ".join(present.name for present in _folders(self._archive)) or "none"
            raise RunError(f"run {self.path} has no member {key}; its members are: {known}")
        sha256, extra = self._weights_sha256(folder), self._member_record(folder).get("extra", {})
        if "parent" in extra and "inherited" not in extra:
            raise RunError(
                f"member {key} of run {self.path} has inherited weights, and is trained from scratch when the search "
                f"ends; {command('resume', self.path)} ends it"
            )
        return {} if sha256 is None else read_weights(folder / _WEIGHTS, sha256, advice=self._again)

    def stored_bytes(self, keys: Collection[str]) -> int:
        """Size of the weights of members; 0 for members without."""
        files = (self._archive / key / _WEIGHTS for key in keys)
        return sum(file.stat().st_size for file in files if file.is_file())

    @property
    def _again(self) -> str:
        return f"{command('resume', self.path)} trains the member again"

    def _weights_sha256(self, folder: Path) -> str | None:
        """The hash of a member's weights; None without weights.

        Raises:
            RunError: the member's record is damaged or missing.
        """
        sha256 = self._member_record(folder)["weights_sha256"]
        return None if sha256 is None else str(sha256)

    def _member_record(self, folder: Path) -> dict[str, Any]:
        record = self._read(folder / _MEMBER, "key", "weights_sha256", advice=self._again)
        if record["key"] != folder.name:
            raise RunError(f"{folder / _MEMBER} is that of member {record['key']}; {self._again}")
        return record

    def _is_whole(self, folder: Path) -> bool:
        """Whether a member's folder has all of its files, undamaged; weights are hashed once per process."""
        try:
            sha256 = self._weights_sha256(folder)
        except RunError:
            return False
        if sha256 is None or ((folder.name, sha256) in self._whole and (folder / _WEIGHTS).is_file()):
            return True
        if sha256_of(folder / _WEIGHTS) != sha256:
            return False
        self._whole.add((folder.name, sha256))
        return True

    def check(self) -> None:
        """Check every file that has a hash; files of members that are missing are not looked for.

        A search that goes on replaces the files of its archive at any moment, so they are checked once it is finished.

        Raises:
            RunError: names the first damaged file, and what to do.
        """
        self.ledger.events()
        for key in (self.read_summary() or {}).get("members", ()):
            folder = self._archive / key
            if (folder / _MEMBER).exists() and self._weights_sha256(folder) and (folder / _WEIGHTS).exists():
                self.read_weights(key)
        for key in _final_members(self.read_final() or {"picks": ()}):
            self.read_final_weights(key)
        for key in (self.read_all_data() or {}).get("weights", ()):
            self.read_all_data_weights(key)
        self.read_ensembles()
        for file in sorted((self.path / "fusion").glob("*.json")):
            if KEY.fullmatch(file.stem):
                self.read_fusion(file.stem)

    def write_summary(self, summary: Mapping[str, Any]) -> None:
        """Store the result of the search, which marks the run as finished."""
        self._check_held()
        extensions = {"n_extensions": self._n_extensions} if self._n_extensions else {}
        write_sealed(self.path / _SUMMARY, {"format": FORMAT, **summary, **extensions})

    def read_summary(self) -> dict[str, Any] | None:
        """The result that `write_summary` stored; None while the run is not finished."""
        return self._read_summary() if self.finished else None

    def _read_summary(self) -> dict[str, Any]:
        advice = f"{COPY}, or delete it and {command('resume', self.path)} writes it again"
        summary = self._read(self.path / _SUMMARY, "members", advice=advice)
        for key in summary["members"]:
            self._of_member("archive", key)
        return summary

    def add_fresh(self, number: int, seed: int, rows: Mapping[str, Mapping[str, Any]]) -> None:
        """Record trainings of members with a fresh seed.

        Args:
            number: of the seed, from 0.
            seed: itself.
            rows: by key ``metrics`` or the cause of ``failure``, and ``seconds``.
        """
        self.ledger.record_event(0, FRESH, {"number": number, "seed": seed, "rows": rows})

    def fresh(self) -> dict[str, list[Mapping[str, float] | str]]:
        """Metrics, or the cause of the failure, of each training with a fresh seed: by key, in the order of seeds."""
        found: dict[str, dict[int, Mapping[str, float] | str]] = {}
        for _, kind, payload in self.ledger.events():
            for key, row in payload["rows"].items() if kind == FRESH else ():
                found.setdefault(key, {})[payload["number"]] = (
                    row["failure"] if row["metrics"] is None else row["metrics"]
                )
        return {key: [by_number[number] for number in sorted(by_number)] for key, by_number in found.items()}

    def energy(self) -> dict[str, dict[str, float]]:
        """Joules by source (`evorec.energy`) of the trainings of each evaluation, by key."""
        found: dict[str, dict[str, float]] = {}
        for _, kind, payload in self.ledger.events():
            for key, joules in payload["joules"].items() if kind == ENERGY else ():
                found[key] = total((found.get(key, {}), joules))
        return found

    def write_final_weights(self, key: str, weights: Mapping[str, np.ndarray]) -> None:
        """Store the final model of a member; it counts once `write_final` has stored the report."""
        self._write_model(_FINAL_MODELS, key, weights)

    def write_all_data_weights(self, key: str, weights: Mapping[str, np.ndarray]) -> None:
        """Store the model of a member that was trained on all data; it counts once `write_all_data` has returned."""
        self._write_model(_ALL_DATA_MODELS, key, weights)

    def _write_model(self, folder: str, key: str, weights: Mapping[str, np.ndarray]) -> None:
        self._check_held()
        target = self._of_member(folder, key)
        target.mkdir(parents=True, exist_ok=True)
        data, self._model_sha256[folder, key] = weight_bytes(weights)
        write_atomic(target / _WEIGHTS, data)

    def write_all_data(self, report: Mapping[str, Any]) -> dict[str, Any]:
        """Store facts about the models trained on all data, with ``steps`` by member; return them with the hashes."""
        self._check_held()
        hashes = {key: self._model_sha256[_ALL_DATA_MODELS, key] for key in sorted(report["steps"])}
        stored = {**report, "weights": hashes}
        write_sealed(self.path / _ALL_DATA, stored)
        return stored

    def read_all_data(self) -> dict[str, Any] | None:
        """The facts that `write_all_data` stored; None before."""
        if not (self.path / _ALL_DATA).exists():
            return None
        return self._read(self.path / _ALL_DATA, "seed", "rows", "steps", "weights", advice=self._all_data_advice)

    @property
    def _all_data_advice(self) -> str:
        return f"delete {self.path / _ALL_DATA} and {command('finalize', self.path, '--on', 'all-data')} again"

    def read_all_data_weights(self, key: str) -> dict[str, np.ndarray]:
        """Weights of the model of a member that was trained on all data.

        Raises:
            RunError: there is none, or its file is damaged or missing.
        """
        report = self.read_all_data()
        if report is None or key not in report["weights"]:
            raise RunError(
                f"run {self.path} has no model of member {key} that was trained on all data; "
                f"{command('finalize', self.path, '--on', 'all-data')} trains the members that were picked"
            )
        file = self._of_member(_ALL_DATA_MODELS, key) / _WEIGHTS
        return read_weights(file, report["weights"][key], advice=self._all_data_advice)

    def read_final_weights(self, key: str) -> dict[str, np.ndarray] | None:
        """Weights of the final model of a member; None when the report of `finalize` does not have the member.

        Raises:
            RunError: the file is damaged or missing.
        """
        report = self.read_final()
        if report is None or key not in _final_members(report):
            return None
        folder = self._of_member(_FINAL_MODELS, key)
        sha256 = report.get("weights", {}).get(key, "")
        if not self._sealed and not sha256:
            sha256 = read_bytes(folder / "sha256", advice=self._final_advice).decode(errors="replace").strip()
        return read_weights(folder / _WEIGHTS, sha256, advice=self._final_advice)

    @property
    def _final_advice(self) -> str:
        return f"{COPY}, or delete {self.path / _FINAL} and {command('finalize', self.path)} again with the same picks"

    def write_final(self, report: Mapping[str, Any]) -> dict[str, Any]:
        """Store the report of `finalize`, and return it with the hashes of the models that were stored before."""
        self._check_held()
        models = sorted(_final_members(report))
        stored = {**report, "weights": {key: self._model_sha256[_FINAL_MODELS, key] for key in models}}
        if self.format == FORMAT:  # a ledger of an earlier version is only read
            picks = {entry["pick"]: entry["member"] for entry in report["picks"]}
            facts = {"seeds": len(report["seeds"]), "settings": report.get("settings", {})}
            facts["opened_at"] = report.get("opened_at", "")
            self.ledger.record_event(0, OPENED, {"picks": picks, **facts})
        write_sealed(self.path / _FINAL, stored)
        return stored

    @property
    def opened(self) -> Mapping[str, Any] | None:
        """The first time that the test was measured, as the ledger remembers it without the report; None before."""
        return next((payload for _, kind, payload in self.ledger.events() if kind == OPENED), None)

    def read_final(self) -> dict[str, Any] | None:
        """The report of `finalize`; None before it.

        Raises:
            RunError: the file is damaged.
        """
        if not (self.path / _FINAL).exists():
            return None
        report = self._read(self.path / _FINAL, "opened_at", "seeds", "picks", "baselines", advice=self._final_advice)
        for key in _final_members(report):
            self._of_member(_FINAL_MODELS, key)
        return report

    def write_fusion(self, key: str, report: Mapping[str, Any]) -> dict[str, Any]:
        """Store the report of `fuse` about a member, and return it with its format."""
        self._check_held()
        file = self._of_member("fusion", f"{key}.json")
        file.parent.mkdir(exist_ok=True)
        stored = {"format": FUSION_FORMAT, **report}
        write_sealed(file, stored)
        return stored

    def read_fusion(self, key: str) -> dict[str, Any]:
        """The report of `fuse` about a member.

        Raises:
            RunError: there is none, or it is damaged.
        """
        again, file = f"{command('fuse', self.path, key)} writes it", self.path / "fusion" / f"{key}.json"
        if not (KEY.fullmatch(key) and file.exists()):
            raise RunError(f"run {self.path} has no formulas of member {key}; {again}")
        needed = ("format", "formulas", "objectives", "k", "tasks", "diversity", "baselines", "hypervolume", "halves")
        report = self._read(file, *needed, advice=f"{COPY}, or {again} again")
        if report["format"] != FUSION_FORMAT:
            raise RunError(f"{file} has format {report['format']}, not {FUSION_FORMAT}; {again} anew")
        return report

    def write_ensembles(self, report: Mapping[str, Any]) -> dict[str, Any]:
        """Store the ensembles of the archive, and return the report with its format."""
        self._check_held()
        stored = {"format": ENSEMBLES_FORMAT, **report}
        write_sealed(self.path / _ENSEMBLES, stored)
        return stored

    def read_ensembles(self) -> dict[str, Any] | None:
        """The report about the ensembles of the archive; None without any, or if the archive has changed since.

        Raises:
            RunError: the file is damaged.
        """
        file, again = self.path / _ENSEMBLES, f"{command('ensemble', self.path)} writes it"
        summary = self.read_summary()
        if summary is None or not file.exists():
            return None
        needed = ("format", "settings", "goals", "archive", "held", "ensembles")
        report = self._read(file, *needed, advice=f"delete it and {again} again")
        if report["format"] != ENSEMBLES_FORMAT:
            raise RunError(f"{file} has format {report['format']}, not {ENSEMBLES_FORMAT}; {again} anew")
        for row in report["ensembles"]:
            if not ENSEMBLE.fullmatch(row["key"]) or not {one["key"] for one in row["members"]} <= {*report["archive"]}:
                raise RunError(f"{file} is damaged: ensemble {row['key']} has members of another archive; {again} anew")
        return report if report["archive"] == sorted(summary["members"]) else None

    def _of_member(self, folder: str, name: str) -> Path:
        """The path of a member's folder or file.

        Raises:
            RunError: its name is no key, so that the path could lead out of the run.
        """
        if not isinstance(name, str) or not KEY.fullmatch(name.removesuffix(".json")):
            raise RunError(f"run {self.path} is damaged: expected a key of 16 hexadecimal digits, got {name!r}; {COPY}")
        return self.path / folder / name

    def log(self, kind: str, **facts: object) -> None:
        """Append a line with the time to the log; it is for people, no program reads it back."""
        self._check_held()
        line = json.dumps({"time": datetime.now(UTC).isoformat(timespec="milliseconds"), "kind": kind, **facts})
        with (self.path / _LOG).open("a", encoding="utf-8") as file:
            file.write(line + "\n")

    @contextmanager
    def logged(self) -> Iterator[None]:
        """Log the start of work on the run, and how it ended."""
        self.log("start", process=os.getpid(), host=socket.gethostname(), version=metadata.version("evorec"))
        try:
            yield
        except BaseException as error:
            with suppress(OSError, RunError):  # the disk may be full, or the folder gone
                self.log("stop", cause=f"{type(error).__name__}: {error}")
            raise
        self.log("end")


def read_config(path: Path) -> RunConfig:
    """The configuration of a run, also of a run that was stopped before it had a ledger.

    Raises:
        RunError: the folder is not a run, or the file is damaged.
    """
    _check_run(path)
    file = path / _CONFIG
    is_old = read_sealed(path / _MANIFEST, sealed=False, advice=_NO_RUN).get("format") == WITHOUT_HASHES
    settings = read_sealed(file, sealed=not is_old, advice=_NO_RUN)
    try:
        return stored_config(settings, source=str(file))
    except ConfigError as error:
        raise RunError(
            f"run {path} cannot be read:\n{error}\nIt was made by another version of evorec, or {_CONFIG} was edited. "
            "Search again, or read it with the version in manifest.json."
        ) from None


def run_name(path: Path) -> str | None:
    """The name of a run, None without a name.

    Raises:
        RunError: the file is damaged.
    """
    file = path / _NAME
    if not file.exists():
        return None
    advice = f"delete it and name the run again: {command('resume', path, '--name', 'NAME')}"
    return str(read_sealed(file, "name", advice=advice)["name"])


def check_name(path: Path, name: str) -> None:
    """Check that a run can get a name.

    Args:
        path: the run, which need not exist.
        name: letters, digits, ``_``, ``-`` and ``.``.
    Raises:
        ConfigError: the name has other characters, or another run or folder beside the run has it.
    """
    if not re.fullmatch(r"[A-Za-z0-9][\w.-]{0,63}", name):
        raise ConfigError(f"--name must be up to 64 letters, digits, _, - and ., got {name!r}.")
    other = find_run(path.with_name(name))
    if other.exists() and other != path:
        raise ConfigError(f"--name {name} is that of {other}; choose another name.")


def find_run(path: Path) -> Path:
    """The folder of a run that is given by its folder or by its name.

    Args:
        path: a folder, or a name in the place of a folder's name; a name alone is also looked for in ``runs``.
    Returns:
        The folder; `path` itself if there is no such run.
    """
    try:
        if path.exists():
            return path
    except (OSError, ValueError):  # no name of a folder, e.g. too long; whoever opens it says so
        return path
    for root in dict.fromkeys((path.parent, Path("runs") if path.name == str(path) else path.parent)):
        for folder in sorted(root.iterdir()) if root.is_dir() else ():
            try:
                if run_name(folder) == path.name:
                    return folder
            except (RunError, OSError):  # `evorec runs` shows it as damaged
                continue
    return path


def machines_text(differences: Sequence[str]) -> str:
    """That several machines worked on a run, in words; empty for a single machine."""
    if not differences:
        return ""
    listed = "; ".join(differences)
    return f"Results of several machines, not reproducible bit by bit: {listed}."


def run_path(root: Path, config: RunConfig, fingerprint: str) -> Path:
    """The directory of the run of a configuration: ``root/<problem>-<fingerprint>``."""
    return root / f"{config.problem_name}-{fingerprint}"


def report_path(path: Path) -> Path:
    """The default file of the HTML report of a run."""
    return path / _REPORT


def _check_run(path: Path) -> None:
    if not RunDirectory.exists(path):
        raise RunError(f"{path} is not a run directory: it has no {_MANIFEST}; `evorec search` makes one")


def _with_versions(environment: Mapping[str, Any]) -> dict[str, Any]:
    versions = {}
    for name in _LIBRARIES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = "not installed"
    own = {"python": platform.python_version(), "machine": platform.machine(), "versions": versions}
    return {**own, **environment}


def _differences(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> list[str]:
    """``key: the run has A, now it is B`` for every dotted key in which two nested mappings differ."""
    lines: list[str] = []
    for name in sorted(old.keys() | new.keys()):
        a, b = old.get(name), new.get(name)
        if isinstance(a, Mapping) and isinstance(b, Mapping):
            lines += _differences(a, b, f"{prefix}{name}.")
        elif a != b:
            same_version = isinstance(a, str) and isinstance(b, str) and a.partition("+")[0] == b.partition("+")[0]
            build = ", another build of the same version" if same_version and "+" in f"{a}{b}" else ""
            lines.append(f"{prefix}{name}: the run has {a!r}, now it is {b!r}{build}")
    return lines


def _goals(description: Mapping[str, Any]) -> dict[str, Any]:
    objectives = {f"objective {item['name']}": item for item in description["objectives"]}
    return objectives | {f"constraint {item['text']}": item for item in description["constraints"]}


def _final_members(report: Mapping[str, Any]) -> set[str]:
    """The members that `finalize` trained: its picks, and the members of ensembles."""
    mixed = {one["key"] for ensemble in report.get("ensembles", ()) for one in ensemble["members"]}
    return {entry["member"] for entry in report["picks"]} | mixed


def _folders(path: Path) -> list[Path]:
    """Complete member folders, by name; any other folder is not touched."""
    try:
        return sorted(
            Path(entry.path)
            for entry in os.scandir(path)
            if entry.is_dir(follow_symlinks=False) and KEY.fullmatch(entry.name)
        )
    except FileNotFoundError:
        return []
