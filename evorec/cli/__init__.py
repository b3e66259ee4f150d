"""The command line."""

from evorec.cli.app import main

__all__ = ["main"]
