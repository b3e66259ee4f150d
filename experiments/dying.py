"""Commands in child processes that die: at the n-th change of the disk, after a time, or never.

A process that starts anew imports for some seconds. So the parent imports what the commands need, and forks: it has
run nothing, so a child is as good as a fresh interpreter. A change of the disk is a system call that writes a name or
waits for the disk (open for writing, rename, mkdir, unlink, fsync, ...), seen by an audit hook before it happens, and
the begin and the end of a transaction of the ledger. `SIGKILL` shows the death of a process, not that of a machine:
what was written stays in the page cache.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
NAMES = ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.symlink", "os.link", "os.truncate")
"""Audit events whose first arguments are paths."""
MOST_S = 900
"""Seconds after which a child is taken to hang."""


@dataclass(frozen=True)
class End:
    """How a child ended.

    Attributes:
        code: exit code, negative for a signal.
        seconds: from its start.
        n_points: changes of the disk that it made.
        acknowledged: keys of the evaluations whose transaction had returned.
        text: its output.
    """

    code: int
    seconds: float
    n_points: int
    acknowledged: frozenset[str]
    text: str

    @property
    def was_killed(self) -> bool:
        """Whether SIGKILL ended it."""
        return self.code == -signal.SIGKILL


def warm_up(commands: Sequence[Sequence[str]], folder: Path) -> None:
    """Import what these commands import, which a child finds out by running them in `folder`."""
    found = folder / "modules"

    def run() -> int:
        codes = [run_command(command) for command in commands]
        found.write_text("\n".join(sys.modules))
        return max(codes)

    end = child(run, folder)
    if end.code:
        raise SystemExit(f"the commands fail without any death:\n{end.text}")
    for name in found.read_text().splitlines():
        if not name.startswith("__"):
            with contextlib.suppress(Exception):  # parts of libraries that only they can import
                importlib.import_module(name)
    found.unlink()


def run_command(words: Sequence[str]) -> int:
    """Exit code of a command of evorec in this process; ``RUN`` in its words is the only run of ``runs``."""
    from evorec.cli.app import main

    runs = sorted(path for path in Path("runs").glob("*-*") if path.is_dir()) if "RUN" in words else []
    return main([str(runs[0]) if word == "RUN" else word for word in words])


def die() -> None:
    """SIGKILL."""
    os.kill(os.getpid(), signal.SIGKILL)


class Child:
    """A child process that runs an action with `folder` as its working directory.

    Args:
        action: gives the exit code.
        folder: only changes of the disk in it count.
        at_point: number of the change, from 1, before which the child does `then`; 0 = none.
        then: what happens there.
    """

    def __init__(
        self, action: Callable[[], int | None], folder: Path, *, at_point: int = 0, then: Callable[[], None] = die
    ) -> None:
        self.began, self._folder = time.monotonic(), folder
        with contextlib.ExitStack() as files:
            self._notes, self._output = (files.enter_context(tempfile.TemporaryFile()) for _ in range(2))
            self.pid = os.fork()
            if self.pid == 0:
                self._run(action, at_point, then)
            self._files = files.pop_all()

    def _run(self, action: Callable[[], int | None], at_point: int, then: Callable[[], None]) -> None:
        code = 1
        try:
            for descriptor in (1, 2):
                os.dup2(self._output.fileno(), descriptor)
            sys.stdout, sys.stderr = (os.fdopen(n, "w", buffering=1, closefd=False) for n in (1, 2))
            os.chdir(self._folder)
            _watch_disk(self._folder, self._notes.fileno(), at_point, then)
            code = action() or 0
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 1
        except BaseException as error:
            print(f"{type(error).__name__}: {error}")
        finally:
            with contextlib.suppress(OSError):
                sys.stdout.flush()
            os._exit(code)

    def send(self, number: int) -> None:
        """Send a signal."""
        os.kill(self.pid, number)

    def end(self, *, after_s: float | None = None) -> End:
        """Wait for the end, after SIGKILL if the child is still there `after_s` seconds after its start."""
        while not (found := os.waitpid(self.pid, os.WNOHANG))[0]:
            elapsed = time.monotonic() - self.began
            if after_s is not None and elapsed >= after_s:
                self.send(signal.SIGKILL)
                after_s = None
            if elapsed > MOST_S:
                self.send(signal.SIGKILL)
                raise SystemExit(f"a child hangs in {self._folder}")
            time.sleep(0.002)
        seconds = time.monotonic() - self.began
        with self._files:
            self._notes.seek(0)
            lines = self._notes.read().decode().split("\n")[:-1]
            self._output.seek(0)
            text = self._output.read().decode(errors="replace")
        keys = frozenset(line[1:] for line in lines if line[0] == "+")
        return End(os.waitstatus_to_exitcode(found[1]), seconds, lines.count("."), keys, text)


def child(
    action: Callable[[], int | None],
    folder: Path,
    *,
    at_point: int = 0,
    then: Callable[[], None] = die,
    after_s: float | None = None,
) -> End:
    """The end of a `Child`."""
    return Child(action, folder, at_point=at_point, then=then).end(after_s=after_s)


def _watch_disk(folder: Path, notes: int, at_point: int, then: Callable[[], None]) -> None:
    """Count the changes of the disk from now on, note them, and do something before one of them."""
    from evorec.run.ledger import Ledger

    inside, n_points = f"{folder.resolve()}{os.sep}", 0

    def point() -> None:
        nonlocal n_points
        n_points += 1
        if n_points == at_point:
            then()
        os.write(notes, b".\n")

    def is_inside(path: Any) -> bool:
        return isinstance(path, str | bytes | os.PathLike) and os.path.abspath(os.fsdecode(path)).startswith(inside)

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            path, _, flags = arguments
            if isinstance(flags, int) and flags & WRITES and is_inside(path):
                point()
        elif event in NAMES and any(map(is_inside, arguments[:2])):
            point()

    sys.addaudithook(hook)
    sync = os.fsync

    def fsync(descriptor: int) -> None:
        point()
        sync(descriptor)

    os.fsync = fsync
    add, record = Ledger.add, Ledger.record_event

    def noted_add(self: Ledger, evaluations: Any, **options: Any) -> None:
        point()
        evaluations = list(evaluations)
        add(self, evaluations, **options)
        os.write(notes, "".join(f"+{found.key}\n" for found in evaluations).encode())
        point()

    def noted_record(self: Ledger, *arguments: Any) -> None:
        point()
        record(self, *arguments)
        point()

    Ledger.add, Ledger.record_event = noted_add, noted_record  # type: ignore[method-assign]


def copied(source: Path, target: Path) -> Path:
    """A copy of a folder in place of `target`, links kept."""
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(source, target, symlinks=True)
    return target
