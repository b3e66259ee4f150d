"""Lists that programs write into a text: JSON, Python, NumPy and PostgreSQL."""

from __future__ import annotations

import ast
import json
import re
import warnings
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Final

CLOSING: Final = {"[": "]", "{": "}", "(": ")"}
CALL: Final = re.compile(r"(?:\w+\.)?\w+\(\s*([\[{(].*[\]})])\s*(?:,\s*dtype=[^()]*)?\)", re.DOTALL)
"""A list inside a call, as in ``array([1, 2], dtype=int32)``."""
SCALAR: Final = re.compile(r"\bnp\.\w+\(([^()]*)\)")
"""A value of NumPy, as in ``np.int64(3)``."""
QUOTED: Final = r"""[uU]?'(?:[^'\\]|\\.)*'|[uU]?"(?:[^"\\]|\\.)*\""""
BLANKS: Final = re.compile(rf"""({QUOTED})|([^\s'"\[\]{{}}]+)""", re.DOTALL)
"""An element of a list with blanks between the elements, quoted or not."""
NUMBER: Final = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?|[-+]?inf|nan|none|true|false", re.IGNORECASE)
CONSTANTS: Final[dict[str, str | None]] = {
    "None": None, "null": None, "NULL": None, "True": "true", "False": "false",
}  # fmt: skip


def parse_list(text: str, separator: str = ",") -> list[str | None] | None:
    """The elements of a list as texts; ``None`` if the text is not a list of single values.

    Args:
        text: e.g. ``["a", 1]``, ``['a', None]``, ``{a,"b c"}``, ``[0.5 1. 2.]``, ``[]``.
        separator: of the elements, where it occurs; commas or, in a list of numbers or of quoted texts, blanks are
            understood as well.
    Example:
        >>> parse_list("['Action', 'Indie']"), parse_list("{Action,\\"Role play\\"}"), parse_list("[1. 2.5]")
        (['Action', 'Indie'], ['Action', 'Role play'], ['1', '2.5'])
    """
    text = text.strip()
    if call := CALL.fullmatch(text):
        text = call[1]
    if text[:1] not in CLOSING or text[-1:] != CLOSING[text[0]]:
        return None
    with suppress(ValueError, RecursionError):
        value = json.loads(text) or []  # {} is an empty list of PostgreSQL
        nested = not isinstance(value, list) or any(isinstance(part, list | dict) for part in value)
        return None if nested else [_json_text(part) for part in value]
    inner = SCALAR.sub(r"\1", text[1:-1]).strip()
    between = re.escape(separator.strip() or ",") if separator.strip() in inner else ","
    elements = _separated(inner, between if separator.strip() or "," in inner else r"\s+")
    if elements is None or (len(elements) == 1 and re.search(r"\s", inner)):
        elements = _blank_separated(inner) or elements
    odd = {"{": r":|^\.\.\.$", "(": r"[()]|^\.\.\.$"}.get(text[0], r"(^|\s)\.\.\.(\s|$)")  # NumPy shortens a long list
    if elements is None or any(not quoted and re.search(odd, part) for quoted, part in elements):
        return None
    if text[0] == "(" and len(elements) == 1 and not inner.endswith(","):  # not a tuple
        return None
    return [_unquoted(part, text[0]) if quoted else _plain(part) for quoted, part in elements]


def is_enclosed(text: str) -> bool:
    """Whether the first character is a bracket or a brace that the last one closes."""
    text = text.strip()
    if text[:1] not in ("[", "{") or text[-1:] != CLOSING[text[0]]:
        return False
    depth = 0
    for letter in text[:-1]:
        depth += (letter == text[0]) - (letter == text[-1])
        if depth == 0:
            return False
    return depth == 1


Elements = Sequence[tuple[bool, str]]
"""Whether an element is quoted, and its text."""


def _separated(inner: str, mark: str) -> Elements | None:
    """Elements with a separator, a pattern, between them; it may follow the last, as in ``(1,)``."""
    element = re.compile(rf"\s*(?:({QUOTED})|((?![bruBRU]*['\"])(?:(?!{mark})[^\[\]{{}}])+?))\s*({mark}|$)", re.DOTALL)
    found: list[tuple[bool, str]] = []
    position = 0
    while position < len(inner):
        match = element.match(inner, position)
        if match is None:
            return None
        found.append((match[1] is not None, match[1] or match[2]))
        position = match.end()
    return found


def _blank_separated(inner: str) -> Elements | None:
    """Elements with blanks between them, all quoted or all numbers: words may belong together."""
    found = [(match[1] is not None, match[0]) for match in BLANKS.finditer(inner)]
    if BLANKS.sub("", inner).strip() or len(found) < 2:
        return None
    usable = all(quoted for quoted, _ in found) or all(NUMBER.fullmatch(part) for _, part in found)
    return found if usable else None


def _unquoted(part: str, opening: str) -> str:
    inner = part.lstrip("uU")[1:-1]
    if "\\" not in inner:
        return inner
    if opening == "{" and part[0] == '"':  # PostgreSQL escapes a character by a backslash before it
        return re.sub(r"\\(.)", r"\1", inner, flags=re.DOTALL)
    with suppress(ValueError, SyntaxError), warnings.catch_warnings(action="ignore"):
        return str(ast.literal_eval(part))
    return inner


def _plain(part: str) -> str | None:
    part = part.strip()
    if part in CONSTANTS:
        return CONSTANTS[part]
    with suppress(ValueError):
        return _json_text(json.loads(f"{part}0" if part.endswith(".") else part))
    return part


def _json_text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    # 1.0 is the same category as 1
    return json.dumps(int(value) if isinstance(value, float) and value.is_integer() else value)
