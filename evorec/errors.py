"""Every error that evorec raises on purpose, each with the exit code of the command line.

A message says what is wrong, what was expected, what was found, where, and what to do next.
"""

from __future__ import annotations


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


class RunLockedError(EvorecError):
    """Another process holds the run directory."""

    exit_code = 99
