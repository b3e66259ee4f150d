"""Every error that evorec raises on purpose, each with the exit code of the command line.

A message says what is wrong, what was expected, what was found, where, and what to do next.
"""

from __future__ import annotations

import difflib
import errno
import shlex
from collections.abc import Iterable

_NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_NO_SPACE_TEXTS = ("No space left on device", "Disk quota exceeded", "File too large", "database or disk is full")
"""As Rust (Polars, safetensors), protobuf and SQLite say it in errors that carry no number."""


def guess(name: str, known: Iterable[str]) -> str:
    """The end of a message about an unknown name: the name that was probably meant, else all names.

    Example:
        >>> guess("recal", ["recall", "auc"]), guess("beauty", ["recall", "auc"]), guess("x", [])
        ("; did you mean 'recall'?", '; known: recall, auc.', '; there is none.')
    """
    names = list(known)
    close = difflib.get_close_matches(name, names, n=1)
    if close:
        return f"; did you mean {close[0]!r}?"
    return f"; known: {', '.join(names)}." if names else "; there is none."


def command(*words: object) -> str:
    """A command for people to type, quoted for a shell, in backticks as part of a message.

    Example:
        >>> print(command("resume", "my runs/feed"))
        `evorec resume 'my runs/feed'`
    """
    return f"`{shlex.join(('evorec', *map(str, words)))}`"


class EvorecError(Exception):
    """Base of all errors that evorec raises on purpose."""

    exit_code = 1


class ConfigError(EvorecError):
    """A configuration, command line or genome value that cannot be used."""

    exit_code = 2


class RunError(EvorecError):
    """A run directory that is damaged, or belongs to another configuration or data set."""

    exit_code = 2


class DataError(EvorecError):
    """Input data that cannot be used: a missing file or column, a wrong type, an empty table."""

    exit_code = 3


class TrainingError(EvorecError):
    """One candidate's training failed: it diverged, ran out of memory or met a number that is not finite."""


class SearchError(EvorecError):
    """The search cannot go on: every candidate failed."""

    exit_code = 4


class Interruption(EvorecError):
    """The run was asked to stop; everything acknowledged is on disk and `resume` goes on from there."""

    exit_code = 75


class ExpectationError(EvorecError):
    """Figures are outside of the range that a file expects; everything else was done."""


class RunLockedError(EvorecError):
    """Another process holds the run directory."""

    exit_code = 99


class NothingNewError(EvorecError):
    """The work was done before: the same configuration and data on the same day."""

    exit_code = 99


def disk_is_full(error: BaseException) -> bool:
    """Whether an error, or an error behind it, says that the disk is full, or a quota or a limit of the size of files
    (``ulimit -f``) is reached; libraries wrap such errors."""
    seen: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        if isinstance(cause, OSError) and cause.errno is not None:
            if cause.errno in _NO_SPACE:
                return True
        elif not isinstance(cause, EvorecError):
            texts = [argument for argument in cause.args if isinstance(argument, str)]
            if any(known in text for text in texts for known in _NO_SPACE_TEXTS):
                return True
        cause = cause.__cause__ or cause.__context__
    return False
