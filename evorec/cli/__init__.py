"""The command line: argv to one call."""

from evorec.cli import bundles, data, define, explain, fuse, search, serve, ship
from evorec.cli.app import main

__all__ = ["bundles", "data", "define", "explain", "fuse", "main", "search", "serve", "ship"]
