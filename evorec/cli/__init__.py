"""The command line: argv to one call."""

from evorec.cli.app import main

__all__ = ["main"]
