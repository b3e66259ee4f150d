"""Signs of life of long work: whoever watches a worker process tells a slow task from one that hangs.

Work that may take minutes calls `beat` at every step; it costs less than a microsecond.
"""

from __future__ import annotations

_count = 0


def beat() -> None:
    """Say that the work of this process goes on."""
    global _count
    _count += 1


def beats() -> int:
    """Calls of `beat` in this process so far."""
    return _count
