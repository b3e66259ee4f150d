"""The directory of a run: lock, configuration, environment, ledger, archive, final models, formulas and report.

Layout of format 1, every file of which is written whole or not at all::

    config.json  manifest.json     configuration; fingerprint and environment
    problem.json                   objectives with their box, constraints, baselines
    ledger.sqlite  log.jsonl       evaluations and events; a log for people
    archive/KEY/                   member.json and weights.safetensors of every member
    summary.json                   result of the search; marks the run as finished
    final.json  final/KEY/         report and models of `finalize`
    fusion/KEY.json                formulas of `fuse`
    report.html  lock

A resumed search proposes the same genomes again and finds their evaluations in the ledger, so no other state is
saved, and nothing is ever unpickled.
"""

from __future__ import annotations

import fcntl
import json
import os
import platform
import shutil
import socket
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any, Self, final

import numpy as np

from evorec.config import RunConfig, stored_config
from evorec.errors import ConfigError, RunError, RunLockedError
from evorec.objectives import without_clock
from evorec.run.atomic import (
    json_bytes,
    read_bytes,
    read_json,
    read_weights,
    sync_folder,
    weight_bytes,
    write_atomic,
    write_json,
    write_synced,
)
from evorec.run.ledger import Evaluation, Ledger

FORMAT = 1  # of the directory; any other format is refused
FUSION_FORMAT = 1

_CONFIG, _MANIFEST, _PROBLEM, _LEDGER = "config.json", "manifest.json", "problem.json", "ledger.sqlite"
_SUMMARY, _FINAL, _LOG, _LOCK, _REPORT = "summary.json", "final.json", "log.jsonl", "lock", "report.html"
_MEMBER, _WEIGHTS = "member.json", "weights.safetensors"
_LIBRARIES = ("evorec", "numpy", "scipy", "polars", "torch", "pymoo", "moocore")


@final
class RunDirectory:
    """A run on disk; while it is open for writing, a lock keeps other processes out. Use it as a context manager.

    The archive holds members only: the files of a candidate are staged before its evaluation enters the ledger, and
    `set_members` moves them into the archive once the generation is complete. So every member in the ledger has its
    files, whenever the process dies.

    Attributes:
        path: the folder.
        config: the configuration that the run was started with.
        fingerprint: hash of all settings and data that can change a result (`RunConfig.fingerprint`).
        environment: everything else that results depend on: versions, device, number type.
        ledger: all evaluations.
    """

    def __init__(self, path: Path, *, lock: int | None) -> None:
        """Use `create` or `open`; `lock` is the descriptor of the held lock, None for a reader."""
        self.path = path
        self._archive = path / "archive"
        self._staging = self._archive / ".staged"
        self._lock = lock
        try:
            if lock is not None:
                for leftover in [*path.glob("*.tmp"), *self._staging.glob("*.tmp")]:  # of a killed process
                    shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()
                self._staging.mkdir(parents=True, exist_ok=True)
            stored = read_json(path / _MANIFEST)
            if stored.get("format") != FORMAT:
                raise RunError(
                    f"run {path} has format {stored.get('format')}; this evorec reads format {FORMAT}. Read it with "
                    "the version of evorec that wrote it, or search again"
                )
            read_json(path / _MANIFEST, "fingerprint", "environment")
            self.fingerprint = str(stored["fingerprint"])
            self.environment: Mapping[str, Any] = stored["environment"]
            self.config = read_config(path)
            self.ledger = self._open_ledger()
        except BaseException:
            self._release()
            raise

    @classmethod
    def create(cls, root: Path, *, config: RunConfig, fingerprint: str, environment: Mapping[str, Any]) -> Self:
        """Start a run in `run_path(root, config, fingerprint)` and hold its lock.

        Args:
            root: folder of all runs.
            config: the whole configuration.
            fingerprint: `config.fingerprint(data_sha256)`.
            environment: of the problem, e.g. device and number type; versions are added.
        Raises:
            RunError: the run exists, finished or not; the message says what to type.
            RunLockedError: another process holds it.
        """
        path = run_path(root, config, fingerprint)
        path.mkdir(parents=True, exist_ok=True)
        lock = _lock(path / _LOCK)
        try:
            if (path / _SUMMARY).exists():
                raise RunError(f"run {path} is finished; `evorec front {path}` shows it, delete it to search again")
            if cls.exists(path):
                raise RunError(f"run {path} was started before; `evorec resume {path}` goes on with it")
            write_json(path / _CONFIG, config.model_dump(mode="json"))
            # The manifest comes last: a folder without it never was a run and is started afresh.
            whole = _with_versions(environment)
            write_json(path / _MANIFEST, {"format": FORMAT, "fingerprint": fingerprint, "environment": whole})
        except BaseException:
            os.close(lock)
            raise
        return cls(path, lock=lock)

    @classmethod
    def open(cls, path: Path, *, read_only: bool = False) -> Self:
        """Open a run that `create` made; leftovers of a killed process are removed.

        Args:
            path: the run directory.
            read_only: take no lock and change nothing, also while a search goes on in another process.
        Raises:
            RunError: the folder is not a run, is damaged, or has another format.
            RunLockedError: another process holds it.
        """
        _check_run(path)
        return cls(path, lock=None if read_only else _lock(path / _LOCK))

    @classmethod
    def check_start(
        cls, path: Path, *, config: RunConfig, fingerprint: str, environment: Callable[[], Mapping[str, Any]]
    ) -> None:
        """Refuse what a search in this folder would refuse; nothing is written.

        Args:
            path: the run directory, which may not exist.
            config, fingerprint: of the search.
            environment: of its problem; called if the run was begun.
        Raises:
            RunError: the run was made with other settings, data or software.
            RunLockedError: another process holds it.
        """
        if (path / _LOCK).is_file():
            os.close(_lock(path / _LOCK, mark=False))
        if cls.exists(path) and (path / _LEDGER).is_file():
            with cls.open(path, read_only=True) as run:
                complete = run.finished and not run.lost()
                run.check_same(config=config, fingerprint=fingerprint, environment=None if complete else environment())

    @staticmethod
    def exists(path: Path) -> bool:
        """Whether `create` made a run in this folder."""
        return (path / _MANIFEST).is_file()

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
            os.close(self._lock)
            self._lock = None

    def _open_ledger(self) -> Ledger:
        """The ledger; never an empty file in its stead."""
        file = self.path / _LEDGER
        if not (file.is_file() and file.stat().st_size):
            if (self.path / _PROBLEM).exists() or self.finished:
                raise RunError(f"run {self.path} has lost its {_LEDGER}; restore it from a copy, or delete the run")
            if self._lock is None:
                raise self._not_begun()
        return Ledger(file, read_only=self._lock is None)

    def _not_begun(self) -> RunError:
        return RunError(
            f"run {self.path} was stopped before its first evaluation; `evorec resume {self.path}` goes on with it"
        )

    @property
    def finished(self) -> bool:
        """Whether the search has ended."""
        return (self.path / _SUMMARY).exists()

    def check_same(self, *, config: RunConfig, fingerprint: str, environment: Mapping[str, Any] | None) -> None:
        """Refuse to go on with other settings, other data or other software.

        Args:
            config: the present configuration.
            fingerprint: of the present configuration and data.
            environment: of the present problem; None when nothing will be computed.
        Raises:
            RunError: lists every difference.
        """
        differences = _differences(self.config.result_settings(), config.result_settings())
        if not differences and fingerprint != self.fingerprint:
            differences = [
                f"the data set, a plugin or the file of the problem has changed since, or {_CONFIG} was edited"
            ]
        if environment is not None:
            differences += _differences(self.environment, _with_versions(environment))
        if differences:
            listed = "\n".join(f"  {line}" for line in differences)
            raise RunError(
                f"run {self.path} cannot go on, its results would mix:\n{listed}\nSearch into another folder "
                "(--set run.output=FOLDER), or delete the run and search again."
            )

    def pin_problem(self, description: Mapping[str, Any]) -> None:
        """Store the description of the problem at the first start; later, refuse other objectives or constraints.

        Args:
            description: with ``objectives``, ``constraints`` and ``baselines``; plain JSON.
        Raises:
            RunError: lists every difference.
        """
        if not (self.path / _PROBLEM).exists():
            write_json(self.path / _PROBLEM, description)
            return
        differences = _differences(_goals(self.read_problem()), _goals(json.loads(json_bytes(description))))
        if differences:
            listed = "\n".join(f"  {line}" for line in differences)
            raise RunError(f"run {self.path} cannot go on, the problem has changed:\n{listed}\nStart a new search.")

    def read_problem(self) -> dict[str, Any]:
        """The description that `pin_problem` stored: objectives with their box, constraints, metrics of the baselines.

        Raises:
            RunError: the run has none yet, or has lost it.
        """
        if not (self.path / _PROBLEM).exists():
            if self.finished:
                raise RunError(f"run {self.path} has lost its {_PROBLEM}; `evorec resume {self.path}` restores it")
            raise self._not_begun()
        return read_json(self.path / _PROBLEM, "objectives", "constraints", "baselines")

    def stage(self, evaluation: Evaluation, weights: Mapping[str, np.ndarray] | None) -> None:
        """Write the files of a candidate before its evaluation enters the ledger.

        Args:
            evaluation: a successful evaluation.
            weights: arrays by name; None writes no weight file.
        """
        target = self._staging / evaluation.key
        partial = target.with_name(f"{evaluation.key}.tmp")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        sha256 = None
        if weights is not None:
            data, sha256 = weight_bytes(weights)
            write_synced(partial / _WEIGHTS, data)
        record = {"format": FORMAT, **asdict(evaluation), "weights_sha256": sha256}
        del record["seconds"], record["failure"]  # equal runs write equal bytes, so no times
        record["metrics"] = without_clock(evaluation.metrics or {})
        write_synced(partial / _MEMBER, json_bytes(record))
        sync_folder(partial)
        shutil.rmtree(target, ignore_errors=True)
        partial.rename(target)
        sync_folder(self._staging)

    def set_members(self, keys: Collection[str]) -> None:
        """Make the archive hold exactly these members, whose files are in it or staged."""
        if missing := self.without_files(keys):
            raise RunError(
                f"run {self.path}: no files of member {missing[0]}; `evorec resume {self.path}` restores them"
            )
        for staged in _folders(self._staging):
            shutil.rmtree(self._archive / staged.name, ignore_errors=True)  # the staged files are newer
            staged.rename(self._archive / staged.name)
        for folder in _folders(self._archive):
            if folder.name not in keys:
                shutil.rmtree(folder)
        sync_folder(self._archive)

    def without_files(self, keys: Collection[str]) -> list[str]:
        """Those of `keys` that have no files, neither in the archive nor staged."""
        folders = [*_folders(self._archive), *_folders(self._staging)]
        return sorted(set(keys) - {folder.name for folder in folders if _is_whole(folder)})

    def lost(self) -> list[str]:
        """Deleted files and folders of a finished run; resuming the run makes them again."""
        summary = self.read_summary()
        if summary is None:
            return []
        members = [key for key in summary.get("members", ()) if not _is_whole(self._archive / key)]
        return [_PROBLEM] * (not (self.path / _PROBLEM).exists()) + [f"archive/{key}" for key in members]

    def members(self) -> list[Evaluation]:
        """The members whose files are in the archive, ordered by seq."""
        present = {folder.name for folder in _folders(self._archive)}
        return [evaluation for evaluation in self.ledger.evaluations() if evaluation.key in present]

    def read_weights(self, key: str) -> dict[str, np.ndarray]:
        """Weights of a member, empty when its problem trains nothing.

        Raises:
            RunError: there is no such member, or a file of it is damaged or missing.
        """
        folder = self._archive / key
        if not folder.is_dir() and f"archive/{key}" not in self.lost():
            known = ", ".join(present.name for present in _folders(self._archive)) or "none"
            raise RunError(f"run {self.path} has no member {key}; its members are: {known}")
        if not _is_whole(folder):
            raise RunError(f"{folder} has lost files; `evorec resume {self.path}` trains the member again")
        sha256 = read_json(folder / _MEMBER)["weights_sha256"]
        if sha256 is None:
            return {}
        advice = f"delete {folder} and `evorec resume {self.path}` trains it again"
        return read_weights(folder / _WEIGHTS, sha256, advice=advice)

    def write_summary(self, summary: Mapping[str, Any]) -> None:
        """Store the result of the search, which marks the run as finished."""
        write_json(self.path / _SUMMARY, {"format": FORMAT, **summary})

    def read_summary(self) -> dict[str, Any] | None:
        """The result that `write_summary` stored; None while the run is not finished."""
        return read_json(self.path / _SUMMARY) if self.finished else None

    def write_final_weights(self, key: str, weights: Mapping[str, np.ndarray]) -> None:
        """Store the final model of a member; it counts once `write_final` has stored the report."""
        folder = self.path / "final" / key
        folder.mkdir(parents=True, exist_ok=True)
        data, sha256 = weight_bytes(weights)
        write_atomic(folder / _WEIGHTS, data)
        write_atomic(folder / "sha256", sha256.encode())

    def read_final_weights(self, key: str) -> dict[str, np.ndarray] | None:
        """Weights of the final model of a member; None when the report of `finalize` does not have the member.

        Raises:
            RunError: the file is damaged or missing.
        """
        report = self.read_final()
        if report is None or key not in {entry["member"] for entry in report["picks"]}:
            return None
        folder = self.path / "final" / key
        sha256 = read_bytes(folder / "sha256").decode(errors="replace") if (folder / "sha256").is_file() else ""
        advice = f"delete {self.path / _FINAL} and `evorec finalize {self.path}` again with the same picks"
        return read_weights(folder / _WEIGHTS, sha256.strip(), advice=advice)

    def write_final(self, report: Mapping[str, Any]) -> None:
        """Store the report of `finalize`."""
        write_json(self.path / _FINAL, report)

    def read_final(self) -> dict[str, Any] | None:
        """The report of `finalize`; None before it.

        Raises:
            RunError: the file is damaged.
        """
        file = self.path / _FINAL
        return read_json(file, "opened_at", "seeds", "picks", "baselines") if file.exists() else None

    def write_fusion(self, key: str, report: Mapping[str, Any]) -> dict[str, Any]:
        """Store the report of `fuse` about a member, and return it with its format."""
        (self.path / "fusion").mkdir(exist_ok=True)
        stored = {"format": FUSION_FORMAT, **report}
        write_json(self._fusion(key), stored)
        return stored

    def read_fusion(self, key: str) -> dict[str, Any]:
        """The report of `fuse` about a member.

        Raises:
            RunError: there is none, or it is damaged.
        """
        again = f"`evorec fuse {self.path} {key}` writes it"
        if not self._fusion(key).exists():
            raise RunError(f"run {self.path} has no formulas of member {key}; {again}")
        needed = ("format", "formulas", "objectives", "k", "tasks", "diversity", "baselines", "hypervolume", "halves")
        try:
            report = read_json(self._fusion(key), *needed)
        except RunError as error:
            raise RunError(f"{error}, or {again}") from None
        if report["format"] != FUSION_FORMAT:
            raise RunError(f"{self._fusion(key)} has format {report['format']}, not {FUSION_FORMAT}; {again} anew")
        return report

    def _fusion(self, key: str) -> Path:
        return self.path / "fusion" / f"{key}.json"

    def log(self, kind: str, **facts: object) -> None:
        """Append a line with the time to the log; it is for people, no program reads it back."""
        line = json.dumps({"time": datetime.now(UTC).isoformat(timespec="milliseconds"), "kind": kind, **facts})
        with (self.path / _LOG).open("a", encoding="utf-8") as file:
            file.write(line + "\n")


def read_config(path: Path) -> RunConfig:
    """The configuration of a run, also of a run that was stopped before it had a ledger.

    Raises:
        RunError: the folder is not a run, or the file is damaged.
    """
    _check_run(path)
    file = path / _CONFIG
    try:
        return stored_config(read_json(file), source=str(file))
    except ConfigError as error:
        raise RunError(
            f"run {path} cannot be read:\n{error}\nIt was made by another version of evorec, or {_CONFIG} was edited. "
            "Search again, or read it with the version in manifest.json."
        ) from None


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
            lines.append(f"{prefix}{name}: the run has {a!r}, now it is {b!r}")
    return lines


def _goals(description: Mapping[str, Any]) -> dict[str, Any]:
    objectives = {f"objective {item['name']}": item for item in description["objectives"]}
    return objectives | {f"constraint {item['text']}": item for item in description["constraints"]}


def _lock(path: Path, *, mark: bool = True) -> int:
    """Take the lock; the kernel releases it when the descriptor is closed or the process ends, however it ends.

    Args:
        path: of the lock file.
        mark: whether the file says which process holds it.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        holder = os.read(descriptor, 200).decode(errors="replace").strip() or "another process"
        os.close(descriptor)
        raise RunLockedError(f"run {path.parent} is held by {holder}; wait until it ends") from None
    if not mark:
        return descriptor
    os.truncate(descriptor, 0)
    os.write(descriptor, f"process {os.getpid()} on {socket.gethostname()}\n".encode())
    return descriptor


def _folders(path: Path) -> list[Path]:
    """Complete member folders, by name."""
    if not path.is_dir():
        return []
    return sorted(entry for entry in path.iterdir() if entry.is_dir() and "." not in entry.name)


def _is_whole(folder: Path) -> bool:
    """Whether a member's folder has all of its files; their content is checked when they are read."""
    try:
        sha256 = json.loads((folder / _MEMBER).read_bytes())["weights_sha256"]
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return sha256 is None or (folder / _WEIGHTS).is_file()
