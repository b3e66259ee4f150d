"""Settings with comments as the text of a TOML file."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, final

from evorec.config.listing import as_toml, toml_key

WIDTH: Final = 110
"""Characters of a line; a longer comment stands above its setting."""


@final
@dataclass(frozen=True)
class Setting:
    """A line of a configuration.

    Args:
        key: without the name of its table.
        value: as in the configuration.
        comment: after the value.
        is_active: False = the line is a comment, which a person can uncomment.
    """

    key: str
    value: Any
    comment: str = ""
    is_active: bool = True

    def lines(self) -> list[str]:
        """The line, with its comment after it, or above it if both are too long for a line."""
        text = f"{toml_key(self.key)} = {as_toml(self.value)}"
        text = text if self.is_active else f"# {text}"
        if not self.comment:
            return [text]
        whole = f"{text:<34} # {self.comment}"
        return [whole] if len(whole) <= WIDTH else [*commented(self.comment), text]


@final
@dataclass(frozen=True)
class Block:
    """A table of a configuration.

    Args:
        head: e.g. ``[data.log]``; empty for the settings before the first table.
        settings: its lines.
        comments: lines before the head.
    """

    head: str
    settings: Sequence[Setting] = ()
    comments: Sequence[str] = ()

    def text(self) -> str:
        """The lines; the head is a comment if no setting is active."""
        is_active = any(setting.is_active for setting in self.settings)
        head = [] if not self.head else [self.head if is_active else f"# {self.head}"]
        lines = [line for comment in self.comments for line in commented(comment)] + head
        return "\n".join(lines + [line for setting in self.settings for line in setting.lines()])


def document(title: Sequence[str], blocks: Sequence[Block]) -> str:
    """The text of a file: comments, then the tables."""
    parts = ["\n".join(line for text in title for line in commented(text)), *(block.text() for block in blocks)]
    return "\n\n".join(part for part in parts if part) + "\n"


def commented(text: str) -> list[str]:
    """A text as lines of comments."""
    return textwrap.wrap(
        text, WIDTH, initial_indent="# ", subsequent_indent="# ", break_long_words=False, break_on_hyphens=False
    )


def in_words(names: Sequence[str] | Mapping[str, Any], most: int = 8) -> str:
    """Names joined by commas, the first few of them.

    Example:
        >>> in_words(["a", "b", "c"], most=2)
        'a, b and 1 more'
    """
    shown, n_more = list(names)[:most], len(names) - most
    return ", ".join(shown) + (f" and {n_more} more" if n_more > 0 else "")
