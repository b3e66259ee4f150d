"""The bundle in use: a new bundle is loaded while the old is in use, tried, and replaces it in a single assignment.

The pointer is a bundle's folder or a link to it. Replace it by renaming a new link or folder onto it: files of a bundle
in use are mapped into memory and must not be overwritten.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, final

from evorec.errors import EvorecError, RunError

if TYPE_CHECKING:
    from evorec.serving.recommender import Recommender
    from evorec.serving.rows import RowScorer

    Model = Recommender | RowScorer
    """A loaded bundle."""

State = tuple[Path, tuple[tuple[str, int, int, int], ...]]
"""A bundle in the file system: its folder, and of each file the name, inode, bytes and time of change."""


@final
class Slot:
    """The recommender, or the scorer of rows, in use. A request reads `current` once and keeps that recommender.

    Args:
        pointer: the bundle's folder or a link to it.
        load: makes a recommender of a folder.
        note: called with a line of text per event, from any thread.
    Attributes:
        current: the recommender in use, ``None`` before the first.
        loaded_at: time of its load, seconds since 1970.
        swaps, refused: bundles loaded after the first, and bundles that could not be used.
        stopping: whether the server is stopping.
    """

    def __init__(
        self, pointer: Path, load: Callable[[Path], Model], *, note: Callable[[str], None] = lambda text: None
    ) -> None:
        self.current: Model | None = None
        self.loaded_at = 0.0
        self.swaps = self.refused = 0
        self.stopping = False
        self._pointer, self._load, self._note = pointer, load, note
        self._seen: State | None = None
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._forced = False

    @property
    def ready(self) -> bool:
        """Whether the server accepts requests."""
        return self.current is not None and not self.stopping

    def open(self) -> None:
        """Load the first bundle.

        Raises:
            RunError: it is missing, damaged or gives no finite numbers.
        """
        with self._lock:
            self._seen = self._state()
            self.current, self.loaded_at = self._tried(self._pointer.resolve()), time.time()

    def look(self, *, again: bool = False) -> bool:
        """Follow the pointer, and swap if it leads to another bundle that works.

        A bundle that does not work is refused once, until a file of it or the pointer changes.

        Args:
            again: load the bundle even if it did not change.
        Returns:
            Whether a bundle was loaded.
        """
        with self._lock:
            state = self._state()
            if state is None or (state == self._seen and not again):
                return False
            self._seen = state
            try:
                found = self._tried(state[0])
            except EvorecError as error:
                self.refused += 1
                self._note(f"{state[0]} was refused, the previous bundle stays in use: {error}")
                return False
            self.swaps += self.current is not None
            self.current, self.loaded_at = found, time.time()
            self._note(f"now serving {state[0]}, version {found.version[:12]}")
            return True

    @contextmanager
    def watched(self, poll_s: float) -> Iterator[None]:
        """Follow the pointer every `poll_s` seconds, in a thread, while the block runs."""
        thread = threading.Thread(target=self._watch, args=(poll_s,), name="evorec bundle watcher", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self.stop()
            thread.join()

    def look_soon(self) -> None:
        """Let the watcher load the bundle now, changed or not."""
        self._forced = True
        self._wake.set()

    def stop(self) -> None:
        """No longer ready, and no more swaps; requests are still answered."""
        self.stopping = True
        self._wake.set()

    def _watch(self, poll_s: float) -> None:
        while not self.stopping:
            self._wake.wait(poll_s)
            self._wake.clear()
            forced, self._forced = self._forced, False
            if not self.stopping:
                self.look(again=forced)

    def _tried(self, folder: Path) -> Model:
        """The recommender of a folder after a trial request, which loads its memory and checks its numbers."""
        try:
            found = self._load(folder)
            values = found.trial()
        except EvorecError:
            raise
        except Exception as error:  # any error of the libraries that read it
            raise RunError(f"bundle {folder} cannot be used: {error!r}; export it again") from error
        if not all(map(math.isfinite, values)):
            raise RunError(f"bundle {folder} gives scores that are not finite; export another member")
        return found

    def _state(self) -> State | None:
        """The target of the pointer; ``None`` while it does not exist, as in the middle of a rename."""
        try:
            folder = self._pointer.resolve(strict=True)
            stats = [(path.name, path.lstat()) for path in sorted(folder.iterdir())]
        except OSError:
            return None
        return folder, tuple((name, stat.st_ino, stat.st_size, stat.st_mtime_ns) for name, stat in stats)
