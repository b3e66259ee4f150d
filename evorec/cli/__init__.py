"""The command line: argv to one call."""

from evorec.cli import data, define, search, ship
from evorec.cli.app import main

__all__ = ["data", "define", "main", "search", "ship"]
