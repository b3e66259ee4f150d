"""Extension of griffe for the documentation site: sections of docstrings need no empty line between them."""

from __future__ import annotations

import re
from typing import Any

import griffe

SECTION = re.compile(r"\n(?=(?:Args|Attributes|Example|Raises|Returns|Yields):\n)")
EXAMPLE = re.compile(r"^Example:$", re.MULTILINE)
SOURCE = re.compile(r"\n(?=(?:Source|Cost): )")


class Sections(griffe.Extension):
    """Separates the sections as griffe expects it; examples become examples of doctest."""

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        """Rewrite the docstring of an object before it is parsed."""
        if obj.docstring is not None:
            text = SOURCE.sub("\n\n", SECTION.sub("\n\n", obj.docstring.value))
            obj.docstring.value = EXAMPLE.sub("Examples:", text)
