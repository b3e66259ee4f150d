"""A run directory: lock, configuration, manifest, ledger, archive; every file appears whole or not at all.

The ledger is the memory of a run. A search that is started again asks for the same genomes and finds their evaluations
in it, so nothing else has to be saved, and nothing is ever unpickled.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import platform
import shutil
import socket
from collections.abc import Collection, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any, Self, final

import numpy as np

from evorec.config import RunConfig, parse_config
from evorec.errors import RunError, RunLockedError
from evorec.ledger import Evaluation, Ledger
from evorec.objectives import without_clock

FORMAT = 1  # of the run directory; every other one is refused

_LIBRARIES = ("evorec", "numpy", "scipy", "polars", "torch", "pymoo", "moocore")


@final
class RunDirectory:
    """One run on disk, held by a lock for as long as it is open for writing.

    Use it as a context manager. The archive holds members only: a candidate's files are staged beside it before its
    evaluation enters the ledger, and `set_members` moves them in once its generation is complete. So a member in the
    ledger always has its files, whenever the process dies.

    Attributes:
        path: the folder.
        config: the configuration the run was started with.
        fingerprint: hash of all settings and data that can change a result (`RunConfig.fingerprint`).
        manifest: what the results depend on besides: versions, device, number type.
        ledger: all evaluations.
    """

    def __init__(self, path: Path, *, lock: int | None) -> None:
        """Use `create` or `open`; `lock` is the held lock's descriptor, None for a reader."""
        self.path = path
        self._archive = path / "archive"
        self._staging = self._archive / ".staged"
        self._lock = lock
        try:
            if lock is not None:
                _sweep(path)
                self._staging.mkdir(parents=True, exist_ok=True)
            stored = _read_json(path / "manifest.json")
            if stored.get("format") != FORMAT:
                raise RunError(f"run {path} has format {stored.get('format')}; this evorec reads format {FORMAT}")
            _require(path / "manifest.json", stored, "fingerprint", "environment")
            self.fingerprint = str(stored["fingerprint"])
            self.manifest: Mapping[str, Any] = stored["environment"]
            self.config = read_config(path)
            _check_ledger(path, read_only=lock is None)
            self.ledger = Ledger(path / "ledger.sqlite", read_only=lock is None)
        except BaseException:
            self._release()
            raise

    @classmethod
    def create(cls, root: Path, *, config: RunConfig, fingerprint: str, manifest: Mapping[str, Any]) -> Self:
        """Start a run in `run_path(root, config, fingerprint)` and hold its lock.

        Args:
            root: folder of all runs.
            config: the whole configuration.
            fingerprint: `config.fingerprint(data_sha256)`.
            manifest: what the results depend on besides, e.g. device and number type; versions are added.
        Raises:
            RunError: the run is there already, finished or not; the message says what to type.
            RunLockedError: another process holds it.
        """
        path = run_path(root, config, fingerprint)
        path.mkdir(parents=True, exist_ok=True)
        lock = _lock(path / "lock")
        try:
            if (path / "summary.json").exists():
                raise RunError(f"run {path} is finished; `evorec front {path}` shows it, delete it to search again")
            if (path / "manifest.json").exists():
                raise RunError(f"run {path} was started before; `evorec resume {path}` goes on with it")
            write_json(path / "config.json", config.model_dump(mode="json"))
            # The manifest comes last: a folder without one was never a run and is started afresh.
            write_json(path / "manifest.json", _manifest(fingerprint, manifest))
        except BaseException:
            os.close(lock)
            raise
        return cls(path, lock=lock)

    @classmethod
    def open(cls, path: Path, *, read_only: bool = False) -> Self:
        """Open a run that `create` made; leftovers of a killed process are swept.

        Args:
            path: the run directory.
            read_only: take no lock and change nothing, for readers of a run that may be going on.
        Raises:
            RunError: the folder is not a run, is damaged, or has another format.
            RunLockedError: another process holds it.
        """
        _check_run(path)
        return cls(path, lock=None if read_only else _lock(path / "lock"))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the ledger and give the lock back."""
        self.ledger.close()
        self._release()

    def _release(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    @property
    def finished(self) -> bool:
        """Whether the search came to its end."""
        return (self.path / "summary.json").exists()

    def check_same(self, *, config: RunConfig, fingerprint: str, manifest: Mapping[str, Any] | None) -> None:
        """Refuse to go on with other settings, other data or another machine's software.

        Args:
            config: of now.
            fingerprint: of now.
            manifest: what results depend on besides; None when nothing will be computed.
        Raises:
            RunError: names every difference.
        """
        differences = _differences(self.config.result_settings(), config.result_settings())
        if not differences and fingerprint != self.fingerprint:
            differences = ["the data set has changed since, or config.json was edited"]
        if manifest is not None:
            differences += _differences(dict(self.manifest), dict(_manifest(fingerprint, manifest)["environment"]))
        if differences:
            listed = "\n".join(f"  {line}" for line in differences)
            raise RunError(
                f"run {self.path} cannot go on, its results would mix:\n{listed}\nSearch into another folder "
                "(--set run.output=FOLDER), or delete the run and search again."
            )

    def pin_problem(self, description: Mapping[str, Any]) -> None:
        """Write ``problem.json`` at the first start; later, refuse other objectives or constraints.

        Args:
            description: of the problem, with ``objectives``, ``constraints`` and ``baselines``; plain JSON.
        Raises:
            RunError: names every difference.
        """
        path = self.path / "problem.json"
        if not path.exists():
            write_json(path, description)
            return
        old, new = self.read_problem(), json.loads(_pretty(description))
        differences = _differences(_goals(old), _goals(new))
        if differences:
            raise RunError(f"run {self.path} cannot go on, the problem has changed:\n{_listed(differences)}")

    def read_problem(self) -> dict[str, Any]:
        """What `pin_problem` wrote: objectives with their box, constraints, metrics of the baselines."""
        path = self.path / "problem.json"
        description = _read_json(path)
        _require(path, description, "objectives", "constraints", "baselines")
        return description

    def stage(self, evaluation: Evaluation, weights: Mapping[str, np.ndarray] | None) -> None:
        """Put a candidate's files on disk before its evaluation enters the ledger.

        Args:
            evaluation: a successful one.
            weights: arrays by name; None writes no weight file.
        """
        from safetensors.numpy import save

        target = self._staging / evaluation.key
        partial = target.with_name(f"{evaluation.key}.tmp")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        sha256 = None
        if weights is not None:
            data = save({name: np.asarray(array, order="C") for name, array in weights.items()})
            sha256 = hashlib.sha256(data).hexdigest()
            _write_synced(partial / "weights.safetensors", data)
        _write_synced(partial / "member.json", _pretty(_member_record(evaluation, sha256)))
        _sync_folder(partial)
        shutil.rmtree(target, ignore_errors=True)
        partial.rename(target)
        _sync_folder(self._staging)

    def set_members(self, keys: Collection[str]) -> None:
        """Make the archive on disk hold exactly these members, each one's files being there or staged."""
        missing = self.without_files(keys)
        if missing:
            raise RunError(
                f"run {self.path}: no files of member {missing[0]}; `evorec resume {self.path}` restores them"
            )
        for staged in _folders(self._staging):
            shutil.rmtree(self._archive / staged.name, ignore_errors=True)  # the staged one is newer
            staged.rename(self._archive / staged.name)
        for folder in _folders(self._archive):
            if folder.name not in keys:
                shutil.rmtree(folder)
        _sync_folder(self._archive)

    def without_files(self, keys: Collection[str]) -> list[str]:
        """Those of `keys` that have no files, neither in the archive nor staged."""
        places = (self._archive, self._staging)
        present = {folder.name for place in places for folder in _folders(place) if _is_whole(folder)}
        return sorted(set(keys) - present)

    def lost(self) -> list[str]:
        """Files and folders of a finished run that somebody removed; going on with the run makes them again."""
        summary = self.read_summary()
        if summary is None:
            return []
        members = [key for key in summary.get("members", ()) if not _is_whole(self._archive / key)]
        known = ["problem.json"] * (not (self.path / "problem.json").exists())
        return known + [f"archive/{key}" for key in members]

    def members(self) -> list[Evaluation]:
        """The members whose files are in the archive, in the order of asking."""
        present = {folder.name for folder in _folders(self._archive)}
        return [evaluation for evaluation in self.ledger.evaluations() if evaluation.key in present]

    def read_weights(self, key: str) -> dict[str, np.ndarray]:
        """Weights of one member, empty when its problem trains nothing.

        Raises:
            RunError: there is no such member, or a file is not what was written.
        """
        from safetensors.numpy import load

        folder = self._archive / key
        if not folder.is_dir() and f"archive/{key}" not in self.lost():
            known = ", ".join(present.name for present in _folders(self._archive)) or "none"
            raise RunError(f"run {self.path} has no member {key}; its members are: {known}")
        if not _is_whole(folder):
            raise RunError(f"{folder} has lost files; `evorec resume {self.path}` trains the member again")
        sha256 = _read_json(folder / "member.json").get("weights_sha256")
        if sha256 is None:
            return {}
        data = _read(folder / "weights.safetensors")
        if hashlib.sha256(data).hexdigest() != sha256:
            raise RunError(
                f"{folder / 'weights.safetensors'} is damaged: its SHA-256 is not the one in member.json; "
                f"delete {folder} and `evorec resume {self.path}` trains it again"
            )
        return dict(load(data))

    def write_summary(self, summary: Mapping[str, Any]) -> None:
        """Write ``summary.json``, which marks the run as finished."""
        write_json(self.path / "summary.json", {"format": FORMAT, **summary})

    def read_summary(self) -> dict[str, Any] | None:
        """What `write_summary` wrote; None while the run is not finished."""
        return _read_json(self.path / "summary.json") if self.finished else None

    def log(self, kind: str, **facts: object) -> None:
        """Append one line with the time to ``log.jsonl``; for people, nothing reads it back."""
        line = json.dumps({"time": datetime.now(UTC).isoformat(timespec="milliseconds"), "kind": kind, **facts})
        with (self.path / "log.jsonl").open("a", encoding="utf-8") as file:
            file.write(line + "\n")


def read_config(path: Path) -> RunConfig:
    """What a run was made with, also of one that was stopped before it had a ledger.

    Raises:
        RunError: the folder is not a run, or the file is damaged.
    """
    _check_run(path)
    return parse_config(_read_json(path / "config.json"), source=str(path / "config.json"))


def run_path(root: Path, config: RunConfig, fingerprint: str) -> Path:
    """Where the run of a configuration lives: ``root/<problem>-<fingerprint>``."""
    return root / f"{config.problem}-{fingerprint}"


def write_atomic(path: Path, data: bytes) -> None:
    """Write a file that is either the old one or the new one, whenever the process dies."""
    partial = path.with_name(f"{path.name}.tmp")
    _write_synced(partial, data)
    partial.replace(path)
    _sync_folder(path.parent)


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write a JSON file atomically.

    Raises:
        ValueError: a number is NaN or infinite.
    """
    write_atomic(path, _pretty(value))


def _check_run(path: Path) -> None:
    if not (path / "manifest.json").is_file():
        raise RunError(f"{path} is not a run directory: it has no manifest.json; `evorec search` makes one")


def _check_ledger(path: Path, *, read_only: bool) -> None:
    """Refuse to start an empty ledger where there was a full one."""
    ledger = path / "ledger.sqlite"
    if ledger.is_file() and ledger.stat().st_size:
        return
    if (path / "problem.json").exists() or (path / "summary.json").exists():
        raise RunError(f"run {path} has lost its ledger.sqlite; restore it from a copy, or delete the run")
    if read_only:
        raise RunError(f"run {path} was stopped before its first evaluation; `evorec resume {path}` goes on")


def _manifest(fingerprint: str, environment: Mapping[str, Any]) -> dict[str, Any]:
    versions = {name: _version(name) for name in _LIBRARIES}
    own = {"python": platform.python_version(), "machine": platform.machine(), "versions": versions}
    return {"format": FORMAT, "fingerprint": fingerprint, "environment": {**own, **environment}}


def _version(distribution: str) -> str:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return "not installed"


def _differences(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> list[str]:
    """``key: it was A, now it is B`` for every dotted key in which two nested mappings differ."""
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


def _listed(differences: list[str]) -> str:
    return "\n".join(f"  {line}" for line in differences) + "\nStart a new search."


def _lock(path: Path) -> int:
    """Take the lock file, to be held until its descriptor is closed or the process ends, however it ends."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        holder = os.read(descriptor, 200).decode(errors="replace").strip() or "another process"
        os.close(descriptor)
        raise RunLockedError(f"run {path.parent} is held by {holder}; wait until it ends") from None
    os.truncate(descriptor, 0)
    os.write(descriptor, f"process {os.getpid()} on {socket.gethostname()}\n".encode())
    return descriptor


def _sweep(path: Path) -> None:
    """Remove what a killed process left half written."""
    for leftover in [*path.glob("*.tmp"), *path.glob("archive/.staged/*.tmp")]:
        if leftover.is_dir():
            shutil.rmtree(leftover)
        else:
            leftover.unlink()


def _folders(path: Path) -> list[Path]:
    """Complete member folders, by name."""
    if not path.is_dir():
        return []
    return sorted(entry for entry in path.iterdir() if entry.is_dir() and "." not in entry.name)


def _is_whole(folder: Path) -> bool:
    """Whether a member's folder has all of its files; what is in them is checked when they are read."""
    try:
        sha256 = json.loads((folder / "member.json").read_bytes())["weights_sha256"]
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return sha256 is None or (folder / "weights.safetensors").is_file()


def _write_synced(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise RunError(f"{path} cannot be read: {error.strerror}") from None


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(_read(path))
    except ValueError as error:
        raise RunError(f"{path} is damaged: {error}") from None
    if not isinstance(value, dict):
        raise RunError(f"{path} is damaged: expected a JSON object")
    return value


def _require(path: Path, value: Mapping[str, Any], *names: str) -> None:
    missing = [name for name in names if name not in value]
    if missing:
        raise RunError(f"{path} is damaged: it has no {' and no '.join(missing)}")


def _pretty(value: Mapping[str, Any]) -> bytes:
    return (json.dumps(value, allow_nan=False, ensure_ascii=False, indent=2) + "\n").encode()


def _member_record(evaluation: Evaluation, weights_sha256: str | None) -> dict[str, Any]:
    """Content of ``member.json``: equal runs write equal bytes, so no times."""
    record = asdict(evaluation)
    del record["seconds"], record["failure"]
    record["metrics"] = without_clock(evaluation.metrics or {})
    return {"format": FORMAT, **record, "weights_sha256": weights_sha256}
