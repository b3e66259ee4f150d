"""A folder of bundles with a champion: what is served, what was served before, and a log of every change.

    bundles/VERSION/   the bundles, named by the first digits of their version; never changed
    champion           a link to the bundle that is served
    challenger         a link to a bundle that is judged, or that was not better; it may be missing
    log.jsonl          every change with time, reason and SHA-256, oldest first
    lock               held while the folder is changed

The link is replaced by renaming a new link onto it, after the bundle behind it was checked byte by byte. A process that
dies at any moment leaves the old champion or the new one. `evorec serve FOLDER/champion` follows the link.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, final

from evorec.errors import RunError, RunLockedError
from evorec.outputs import check_free_space, lock_file, move_folder, sync_path, workspace
from evorec.serving.bundle import Bundle, read_bundle

BUNDLES: Final = "bundles"
CHAMPION: Final = "champion"
CHALLENGER: Final = "challenger"
LOG: Final = "log.jsonl"
LOCK: Final = "lock"
DIGITS: Final = 16
"""Of a version in the name of a bundle's folder."""
PROMOTE, ROLLBACK, REMOVE, REFUSE = "promote", "rollback", "remove", "refuse"
"""Kinds of entries of the log."""


@final
class ModelFolder:
    """A folder of bundles, one of which is the champion.

    Args:
        path: of the folder, which is made by the first promotion.
        clock: current time, for the log.
    """

    def __init__(self, path: str | Path, *, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self.path, self._clock = Path(path), clock

    @property
    def champion(self) -> str | None:
        """Name of the champion's folder; ``None`` before the first promotion.

        Raises:
            RunError: the link leads elsewhere.
        """
        return self._target(CHAMPION)

    @property
    def challenger(self) -> str | None:
        """Name of the challenger's folder; ``None`` without one.

        Raises:
            RunError: the link leads elsewhere.
        """
        return self._target(CHALLENGER)

    def _target(self, link_name: str) -> str | None:
        link = self.path / link_name
        if not os.path.lexists(link):
            return None
        target = Path(os.readlink(link)) if link.is_symlink() else link
        if target.parts[:-1] != (BUNDLES,) or not (self.path / target).is_dir():
            raise RunError(
                f"{link} must be a link to a folder of {self.path / BUNDLES}, and leads to {target}; make it one, or "
                "promote a bundle into another folder"
            )
        return target.name

    def log(self) -> list[dict[str, Any]]:
        """All changes, oldest first.

        Raises:
            RunError: a line was changed after it was written. A last line that is not whole was never acknowledged.
        """
        file = self.path / LOG
        lines = file.read_text(encoding="utf-8").split("\n")[:-1] if file.exists() else []
        out = []
        for number, line in enumerate(lines, start=1):
            try:
                entry = json.loads(line)
                sha256 = entry.pop("sha256")
            except (ValueError, AttributeError, KeyError):
                sha256, entry = "", {}
            if sha256 != _sha256(entry):
                raise RunError(f"line {number} of {file} has changed since it was written; restore it from a copy")
            out.append(entry)
        return out

    def champions(self) -> list[str]:
        """The champions that a rollback returns to, latest last; the last is `champion`."""
        stack, now = self._noted(), self.champion
        if now is None or stack[-1:] == [now]:
            return stack
        # A process died between the link and the log.
        return stack[:-1] if stack[-2:-1] == [now] else [*stack, now]

    def promote(self, bundle: str | Path, *, reason: str = "", facts: Mapping[str, Any] | None = None) -> str:
        """Make a copy of a bundle the champion.

        Args:
            bundle: its folder; every byte is checked, of the copy again.
            reason: why, for the log.
            facts: further facts for the log, plain JSON.
        Returns:
            Name of the copy's folder, the first digits of the version.
        Raises:
            RunError: the bundle is damaged.
            RunLockedError: another process changes the folder.
        """
        source = read_bundle(bundle)
        with self._changing():
            known = self.champions()
            name = self._copy(source)
            self._point(name)
            previous = known[-1] if known else None
            self._note(PROMOTE, bundle=name, version=source.version, previous=previous, reason=reason, **(facts or {}))
            if self.challenger == name:
                self._drop_challenger()
        return name

    def challenge(self, bundle: str | Path) -> str:
        """Make a copy of a bundle the challenger, in place of the last challenger.

        Args:
            bundle: its folder; every byte is checked, of the copy again.
        Returns:
            Name of the copy's folder, the first digits of the version.
        Raises:
            RunError: the bundle is damaged.
            RunLockedError: another process changes the folder.
        """
        source = read_bundle(bundle)
        with self._changing():
            name = self._copy(source)
            if self.challenger != name:
                self._drop_challenger()
                self._point(name, CHALLENGER)
        return name

    def refuse(self, bundle: str | Path, facts: Mapping[str, Any], *, keep: bool = True) -> None:
        """Note in the log that a bundle was not promoted, and why.

        Args:
            bundle: its folder.
            facts: for the log, plain JSON.
            keep: whether it may stay the challenger; else its copy is removed, unless it is or was a champion.
        """
        version = read_bundle(bundle).version
        with self._changing():
            self._note(REFUSE, bundle=version[:DIGITS], version=version, **facts)
            if not keep and self.challenger == version[:DIGITS]:
                self._drop_challenger()

    def _copy(self, source: Bundle) -> str:
        """A whole copy of a bundle in the folder, which may have it already; its name."""
        target = self.path / BUNDLES / source.version[:DIGITS]
        if not target.exists():
            size = sum(file.stat().st_size for file in source.path.iterdir())
            check_free_space(target, size, purpose="the copy of the bundle")
            with workspace(target) as partial:
                shutil.copytree(source.path, partial, dirs_exist_ok=True)
                for file in partial.iterdir():
                    sync_path(file)
                sync_path(partial)
                move_folder(partial, target)
        if read_bundle(target).version != source.version:
            raise RunError(f"{target} holds another bundle than {source.path}; delete it if nothing links to it")
        return target.name

    def _drop_challenger(self) -> None:
        """Remove the challenger's link, and its bundle if nothing else names it."""
        name = self.challenger
        if name is None:
            return
        (self.path / CHALLENGER).unlink()
        sync_path(self.path)
        if name not in self._linked() | self._promoted():
            shutil.rmtree(self.path / BUNDLES / name)

    def _linked(self) -> set[str]:
        """Names of the bundles that the links of the folder lead to."""
        return {Path(os.readlink(link)).name for link in self.path.iterdir() if link.is_symlink()}

    def _promoted(self) -> set[str]:
        """Names of all bundles that ever were the champion."""
        return {entry["bundle"] for entry in self.log() if entry["kind"] == PROMOTE}

    def rollback(self, *, reason: str = "") -> str:
        """Make the champion before the current one the champion again.

        Returns:
            Name of its folder.
        Raises:
            RunError: there is none, or its bundle is damaged or was removed.
            RunLockedError: another process changes the folder.
        """
        with self._changing():
            known = self.champions()
            if len(known) < 2:
                raise RunError(f"{self.path} has no champion before the current one")
            before, name = known[-1], known[-2]
            bundle = read_bundle(self.path / BUNDLES / name)
            self._point(name)
            self._note(ROLLBACK, bundle=name, version=bundle.version, previous=before, reason=reason)
        return name

    def retain(self, last: int | None, *, dry_run: bool = False) -> list[str]:
        """Remove bundles, but not the last champions, and nothing that a link of the folder names.

        Args:
            last: champions to keep, the current one included, at least 2 so that a rollback is possible; ``None`` =
                all bundles that ever were the champion.
            dry_run: only say which.
        Returns:
            Names of the removed folders.
        """
        if last is not None and last < 2:
            raise RunError(f"at least 2 champions are kept, so that a rollback is possible, got {last}")
        with self._changing():
            kept = self._linked() | (self._promoted() if last is None else {*self.champions()[-last:]})
            found = sorted(folder.name for folder in (self.path / BUNDLES).glob("[!.]*") if folder.name not in kept)
            for name in () if dry_run else found:
                shutil.rmtree(self.path / BUNDLES / name)
            if found and not dry_run:
                self._note(REMOVE, bundles=found)
        return found

    @contextmanager
    def _changing(self) -> Iterator[None]:
        """The lock of the folder, and a log without the half of a line."""
        self.path.mkdir(parents=True, exist_ok=True)
        try:
            lock = lock_file(self.path / LOCK)
        except BlockingIOError:
            raise RunLockedError(f"another process changes {self.path}; wait until it has finished") from None
        try:
            for link in (CHAMPION, CHALLENGER):  # of a process that died before it gave the link its name
                self._partial(link).unlink(missing_ok=True)
            self._drop_half_line()
            self._complete_log()
            yield
        finally:
            os.close(lock)

    def _drop_half_line(self) -> None:
        file = self.path / LOG
        if file.exists() and not (text := file.read_bytes()).endswith(b"\n") and text:
            os.truncate(file, text.rfind(b"\n") + 1)

    def _complete_log(self) -> None:
        """Note a change of the champion whose process died before it wrote the log."""
        now, known, noted = self.champion, self.champions(), self._noted()
        if now is None or noted == known:
            return
        kind = PROMOTE if len(known) > len(noted) else ROLLBACK
        version = read_bundle(self.path / BUNDLES / now).version
        previous = noted[-1] if noted else None
        self._note(kind, bundle=now, version=version, previous=previous, reason="found after an interruption")

    def _noted(self) -> list[str]:
        """`champions` by the log alone."""
        stack: list[str] = []
        for entry in self.log():
            if entry["kind"] == PROMOTE:
                stack.append(entry["bundle"])
            elif entry["kind"] == ROLLBACK:
                stack.pop()
        return stack

    def _point(self, name: str, link: str = CHAMPION) -> None:
        """Replace a link in one step."""
        partial = self._partial(link)
        partial.symlink_to(Path(BUNDLES) / name)
        partial.replace(self.path / link)
        sync_path(self.path)

    def _partial(self, link: str) -> Path:
        return self.path / f".{link}.new"

    def _note(self, kind: str, **facts: Any) -> None:
        entry = {"time": self._clock().isoformat(timespec="seconds"), "kind": kind, **facts}
        line = sealed_line(entry)
        with (self.path / LOG).open("a", encoding="utf-8") as file:
            file.write(line)
            file.flush()
            os.fsync(file.fileno())


def sealed_line(entry: Mapping[str, Any]) -> str:
    """A record as a line of canonical JSON with the SHA-256 of its other keys; the same bytes for the same record."""
    return canonical_json({**entry, "sha256": _sha256(entry)}) + "\n"


def canonical_json(value: Mapping[str, Any] | Sequence[Any]) -> str:
    """JSON with sorted keys and without spaces, the same text for the same value."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def _sha256(entry: Mapping[str, Any]) -> str:
    return hashlib.sha256(canonical_json(entry).encode()).hexdigest()
