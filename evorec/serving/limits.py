"""The limits of a server."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final


@final
@dataclass(frozen=True)
class Limits:
    """Limits of a server.

    Attributes:
        body_bytes: of a request.
        batch: users of a request.
        k: length of a list.
        items: items that a request scores.
        workers: requests that are processed at the same time, each in a thread.
        queue: requests that wait for a worker; further requests get status 503.
        read_s: seconds in which a body must have arrived.
    """

    body_bytes: int = 1 << 20
    batch: int = 256
    k: int = 1_000
    items: int = 10_000
    workers: int = 1
    queue: int = 128
    read_s: float = 10.0
