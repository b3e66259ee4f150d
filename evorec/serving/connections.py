"""Connections of the HTTP server: a client that is silent or slow is closed, and never keeps others out.

uvicorn closes a connection that is idle after a response. A connection without a request, or with half of one, it
keeps forever, and its limit on connections refuses every client once idle connections reach it.
"""

from __future__ import annotations

from asyncio import TimerHandle, Transport
from typing import Final, final

from uvicorn.protocols.http.h11_impl import H11Protocol

MOST_IDLE: Final = 400
"""Open connections without a request; a further one closes the connection that has waited longest. Together with
`evorec.serving.http.MOST_BODIES` it stays below 1,024 open files, a usual limit of a process."""


def connection_type(head_s: float, send_s: float, most_idle: int = MOST_IDLE) -> type[H11Protocol]:
    """The class of a server's connections, for ``uvicorn.Config(http=...)``.

    Args:
        head_s: seconds in which the head of a request must arrive: from the start of a new connection, and from the
            first byte of a later request.
        send_s: seconds in which a client must read enough of a response for the next part to be sent.
        most_idle: open connections without a request.
    """
    idle: dict[H11Protocol, None] = {}  # the longest idle connection first

    @final
    class Connection(H11Protocol):
        """A connection; the methods are those that asyncio and uvicorn call."""

        _head: TimerHandle | None = None
        _send: TimerHandle | None = None

        def connection_made(self, transport: Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            self._head = self.loop.call_later(head_s, transport.close)
            self._follow()

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            if self._head is None:
                self._head = self.loop.call_later(head_s, self.transport.close)
            self._follow()

        def on_response_complete(self) -> None:
            super().on_response_complete()
            self._follow()

        def pause_writing(self) -> None:
            super().pause_writing()
            self._send = self._send or self.loop.call_later(send_s, self.transport.abort)

        def resume_writing(self) -> None:
            super().resume_writing()
            self._send = _cancelled(self._send)

        def connection_lost(self, exc: Exception | None) -> None:
            super().connection_lost(exc)
            idle.pop(self, None)
            self._head, self._send = _cancelled(self._head), _cancelled(self._send)

        def _follow(self) -> None:
            """Whether the connection waits for a request or has one."""
            if self.cycle is not None and not self.cycle.response_complete:
                idle.pop(self, None)
                self._head = _cancelled(self._head)
            elif not self.transport.is_closing():
                idle.setdefault(self)
                if len(idle) > most_idle:
                    oldest = next(iter(idle))
                    del idle[oldest]
                    oldest.transport.close()

    return Connection


def _cancelled(timer: TimerHandle | None) -> TimerHandle | None:
    if timer is not None:
        timer.cancel()
    return None
