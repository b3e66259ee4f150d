"""The bundle that is served: a new one is loaded beside the old, tried, and put in its place in one step.

The pointer is a bundle's folder or a link to one. Move it by renaming a new link or folder onto it: files of a bundle
in use are mapped into memory, so nobody may write into them.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, final

from evorec.errors import EvorecError, RunError
from evorec.serving.queries import User

if TYPE_CHECKING:
    from evorec.serving.recommender import Recommender

State = tuple[Path, tuple[tuple[str, int, int, int], ...]]
"""A bundle as the file system tells it: its folder, and of each file the name, inode, bytes and time of change."""


@final
class Slot:
    """Holds the recommender in use. Readers take `current` once per request and keep what they took.

    Args:
        pointer: the bundle's folder or a link to one.
        load: makes a recommender of a folder.
        note: is told what happens, a line at a time, from any thread.
    Attributes:
        current: the recommender in use, ``None`` before the first.
        loaded_at: when it was put in, seconds since 1970.
        swaps, refused: how many bundles came after the first, and how many could not be used.
        stopping: whether the server is about to end.
    """

    def __init__(
        self, pointer: Path, load: Callable[[Path], Recommender], *, note: Callable[[str], None] = lambda text: None
    ) -> None:
        self.current: Recommender | None = None
        self.loaded_at = 0.0
        self.swaps = 0
        self.refused = 0
        self.stopping = False
        self._pointer = pointer
        self._load = load
        self._note = note
        self._seen: State | None = None
        self._one_at_a_time = threading.Lock()
        self._wake = threading.Event()
        self._again = False

    @property
    def ready(self) -> bool:
        """Whether new requests should come here."""
        return self.current is not None and not self.stopping

    def open(self) -> None:
        """Loads the first bundle.

        Raises:
            RunError: it is missing, damaged or gives no numbers.
        """
        with self._one_at_a_time:
            self._seen = self._state()
            self._put(self._usable(self._pointer.resolve()))

    def look(self, *, again: bool = False) -> bool:
        """Looks where the pointer leads, and swaps if that is another bundle that works.

        One that does not work is refused once, until a file of it or the pointer changes.

        Args:
            again: load it whether or not it changed.
        Returns:
            Whether another bundle was put in.
        """
        with self._one_at_a_time:
            state = self._state()
            if state is None or (state == self._seen and not again):
                return False
            self._seen = state
            try:
                found = self._usable(state[0])
            except EvorecError as error:
                self.refused += 1
                self._note(f"{state[0]} was refused, the bundle before it stays: {error}")
                return False
            is_first = self.current is None
            self._put(found)
            self.swaps += not is_first
            self._note(f"now serving {state[0]}, version {found.version[:12]}")
            return True

    @contextmanager
    def watched(self, poll_s: float) -> Iterator[None]:
        """Looks every `poll_s` seconds, in a thread of its own, as long as the statements below run."""
        thread = threading.Thread(target=self._watch, args=(poll_s,), name="evorec bundle watcher", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self.stop()
            thread.join()

    def look_soon(self) -> None:
        """Has the watcher load whatever the pointer leads to now, changed or not."""
        self._again = True
        self._wake.set()

    def stop(self) -> None:
        """No longer ready, and no swaps any more; requests are still answered."""
        self.stopping = True
        self._wake.set()

    def _watch(self, poll_s: float) -> None:
        while not self.stopping:
            self._wake.wait(poll_s)
            self._wake.clear()
            again, self._again = self._again, False
            if not self.stopping:
                self.look(again=again)

    def _usable(self, folder: Path) -> Recommender:
        """The recommender of a folder; whatever goes wrong inside of the libraries that read it is one error."""
        with ThreadPoolExecutor(1) as pool:
            trial = pool.submit(self._tried, folder)
        error = trial.exception()
        if error is None or isinstance(error, EvorecError):
            return trial.result()
        raise RunError(f"bundle {folder} cannot be used: {error!r}; export it again") from error

    def _tried(self, folder: Path) -> Recommender:
        """The recommender of a folder, after it answered one request: its memory is in place and its numbers are."""
        found = self._load(folder)
        (best,) = found.recommend([User()])
        values = [score for _, score in best]
        for item, _ in best[:1]:
            values += found.score(User(), [item])[0].values()
        if not all(map(math.isfinite, values)):
            raise RunError(f"bundle {folder} scores with numbers that are not finite; export another member")
        return found

    def _put(self, found: Recommender) -> None:
        self.current, self.loaded_at = found, time.time()

    def _state(self) -> State | None:
        """Where the pointer leads; ``None`` while it leads nowhere, as in the middle of a rename."""
        try:
            folder = self._pointer.resolve(strict=True)
            stats = [(path.name, path.lstat()) for path in sorted(folder.iterdir())]
        except OSError:
            return None
        return folder, tuple((name, stat.st_ino, stat.st_size, stat.st_mtime_ns) for name, stat in stats)
