"""The command line: argv to one call."""

from evorec.cli import define, search, ship
from evorec.cli.app import main

__all__ = ["define", "main", "search", "ship"]
