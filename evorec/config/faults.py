"""Errors of independent checks, collected and raised together."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from types import TracebackType
from typing import final

from evorec.config.origins import Origins
from evorec.errors import ConfigError, DataError


@final
class Faults:
    """Collects the errors of a configuration and its data.

    Args:
        origins: of the settings, which the messages then name; none = a caller does it.
    """

    def __init__(self, origins: Origins | None = None) -> None:
        self._origins = origins
        self._errors: list[ConfigError | DataError] = []

    def collect(self, prefix: str = "") -> AbstractContextManager[None, bool]:
        """Keep an error that is raised in the block, and go on after the block.

        Args:
            prefix: of its message, e.g. the key that it is about.
        """
        return _Block(self, prefix)

    def add(self, error: ConfigError | DataError, prefix: str = "") -> None:
        """Keep an error; see `collect`."""
        lines = "\n".join(prefix + line for line in str(error).split("\n"))
        self._errors.append(type(error)(self._origins.located(lines) if self._origins else lines))

    def __bool__(self) -> bool:
        return bool(self._errors)

    @property
    def lines(self) -> list[str]:
        """The messages, each once."""
        return list(dict.fromkeys(line for error in self._errors for line in str(error).split("\n")))

    @property
    def are_of_data(self) -> bool:
        """Whether the data alone are wrong."""
        return all(isinstance(error, DataError) for error in self._errors)

    def refuse(self) -> None:
        """Raise what was collected, each message once.

        Raises:
            DataError: if the data alone are wrong.
            ConfigError: otherwise.
        """
        if self:
            raise (DataError if self.are_of_data else ConfigError)("\n".join(self.lines))


def refuse_all(tables: Sequence[Faults], *, at_most: int) -> None:
    """Raise the errors of several tables together.

    Args:
        tables: the errors of each.
        at_most: number of messages; if there are more, the first of every table come first.
    Raises:
        DataError: if the data alone are wrong.
        ConfigError: otherwise.
    """
    found = sorted((rank, table, line) for table, own in enumerate(tables) for rank, line in enumerate(own.lines))
    if not found:
        return
    lines = [line for _, _, line in sorted(found[:at_most], key=lambda one: (one[1], one[0]))]
    if len(found) > at_most:
        lines.append(f"{len(found) - at_most} more errors of the tables are not shown.")
    raise (DataError if all(own.are_of_data for own in tables) else ConfigError)("\n".join(lines))


@final
class _Block(AbstractContextManager[None, bool]):
    def __init__(self, faults: Faults, prefix: str) -> None:
        self._faults, self._prefix = faults, prefix

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        if not isinstance(error, ConfigError | DataError):
            return False
        self._faults.add(error, self._prefix)
        return True
