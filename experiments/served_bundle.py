"""Start ``evorec serve`` on a bundle for the length of a block."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def served(bundle: Path, **environment: str) -> Iterator[tuple[str, int]]:
    """URL and process id of a server that is terminated after the block; `environment` is set for the server only."""
    command = [sys.executable, "-m", "evorec", "serve", str(bundle), "--port", "0", "--drain-s", "0", "-q"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, **environment}) as server:
        assert server.stdout is not None
        try:
            yield server.stdout.readline().strip(), server.pid
        finally:
            server.send_signal(signal.SIGTERM)
